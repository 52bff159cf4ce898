//! Training speed of BiPedalNet in windows per second, including sampling and augmentation:
//!
//!     cargo bench --bench training -- [BATCH [SECONDS]]
//!
//! `benches/peers/compare.py` runs this and Larq alternating on the same machine.

use std::ops::ControlFlow;
use std::time::Instant;

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_training::{Design, Division, Schedule, Split, SubjectRecording, train};

const PEOPLE: u64 = 38;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let number = |at: usize, usual: usize| {
        arguments.get(at).map_or(usual, |text| text.parse().expect("a whole number"))
    };
    let (batch, seconds) = (number(0, 64), number(1, 10));
    let conditions = Conditions { seconds: 120.0, ..Conditions::default() };
    let walks: Vec<SubjectRecording> = (0..PEOPLE)
        .map(|person| SubjectRecording {
            subject: format!("p{person:02}"),
            session: "1".to_owned(),
            recording: Walker::new(person).walk(1, &conditions),
        })
        .collect();
    let network = Design::Bipedalnet;
    let split = Split::Tail { fraction: 0.0 };
    let mut division = Division::new(&walks, network.recipe(), &split).expect("38 people walk");
    // Do not measure validation.
    division.validation.clear();
    let architecture = network.architecture(division.subjects.len());
    let schedule = Schedule { epochs: 1, batch, ..network.schedule(1) };
    let epoch = || {
        let mut windows = 0;
        let trained = train(&architecture, &division, &schedule, |progress| {
            windows = progress.step * batch;
            ControlFlow::Continue(())
        });
        trained.expect("the layers fit").expect("one epoch was finished");
        windows
    };
    epoch();
    let (mut windows, begin) = (0, Instant::now());
    while windows == 0 || begin.elapsed().as_secs() < seconds as u64 {
        windows += epoch();
    }
    let per_second = windows as f64 / begin.elapsed().as_secs_f64();
    println!("bipedalnet batch={batch} per_second={per_second:.0}");
}

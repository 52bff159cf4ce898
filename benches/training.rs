//! Training speed of BiPedalNet in windows per second, including sampling and augmentation.
//! `benches/peers/larq_training.py` measures Larq on the same machine.

use std::ops::ControlFlow;

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_training::{Design, Division, Schedule, Split, SubjectRecording, train};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PEOPLE: u64 = 38;

fn training(criterion: &mut Criterion) {
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
    let mut group = criterion.benchmark_group("training");
    group.sample_size(10);
    for batch in [64, 256] {
        let schedule = Schedule { epochs: 1, batch, ..network.schedule(1) };
        let mut windows = 0;
        let epoch = |windows: &mut usize| {
            let trained = train(&architecture, &division, &schedule, |progress| {
                *windows = progress.step * batch;
                ControlFlow::Continue(())
            });
            trained.expect("the layers fit").expect("one epoch was finished")
        };
        epoch(&mut windows);
        group.throughput(Throughput::Elements(windows as u64));
        group.bench_function(format!("batch {batch}"), |bencher| {
            bencher.iter(|| epoch(&mut windows));
        });
    }
    group.finish();
}

criterion_group!(benches, training);
criterion_main!(benches);

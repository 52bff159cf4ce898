//! Time on one core from a decoded walk to the decision, by stage. Also the time of a search among a
//! million users, compared with the memory bandwidth.
//!
//!     cargo bench --bench path

mod server;

use std::hint::black_box;
use std::time::Instant;

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{
    Fingerprint, Recipe, Recording, RecordingDocument, Window, cut_windows,
};
use bipedalnet_core::identity::{Calibration, Decision, Gallery, Template};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
use server::{pin, quantile};

const STRIDE_SAMPLES: usize = 50;
const ROUNDS: usize = 300;
const WALKS_A_ROUND: usize = 20;
const USERS: usize = 1_000_000;
const SEARCHES: usize = 60;

/// Standard deviation of the cosines of strangers, measured on the 132 people of six data sets.
const COSINE_DEVIATION: f32 = 0.117;

/// Independent values of a template whose cosines with others deviate by as much.
const LIKE_PEOPLE: usize = 73;

/// Larger than the caches.
const BANDWIDTH_BYTES: usize = 256 << 20;

fn main() {
    let model = include_bytes!("../models/bipedalnet-openset.safetensors");
    let model = Model::from_bytes(model).expect("the model that ships");
    println!("on one core: {}\n", if pin(1) { "yes" } else { "no" });
    stages(&model);
    let feature_len = model.network.feature_len();
    for (name, independent) in [("like people", LIKE_PEOPLE), ("at random", feature_len)] {
        println!("Templates {name}:");
        search(&model, USERS / 10, independent);
        search(&model, USERS, independent);
    }
}

/// Microseconds of each call, by stage.
struct Times<'a> {
    stages: Vec<(&'a str, Vec<f64>)>,
}

impl<'a> Times<'a> {
    fn add<T>(&mut self, name: &'a str, mut call: impl FnMut() -> T) {
        let begin = Instant::now();
        for _ in 0..WALKS_A_ROUND {
            black_box(call());
        }
        let microseconds = begin.elapsed().as_secs_f64() * 1e6 / WALKS_A_ROUND as f64;
        match self.stages.iter_mut().find(|(stage, _)| *stage == name) {
            Some((_, times)) => times.push(microseconds),
            None => self.stages.push((name, vec![microseconds])),
        }
    }

    /// The median and the minimum.
    fn of(&self, name: &str) -> [f64; 2] {
        let times = self.stages.iter().find(|(stage, _)| *stage == name);
        let mut times = times.map_or(Vec::new(), |(_, times)| times.clone());
        times.sort_by(f64::total_cmp);
        [quantile(&times, 0.5), quantile(&times, 0.0)]
    }
}

fn stages(model: &Model) {
    let recording = Walker::new(1).walk(2, &Conditions::default());
    let recording = recording.part(0.0, 10.0).expect("walks are longer");
    let document = RecordingDocument::from(&recording);
    let one_window = recording.part(0.0, 2.0).expect("walks are longer");
    let cut = |recording: &Recording| cut_windows(recording, &Recipe::OPENSET, STRIDE_SAMPLES);
    let windows = cut(&recording).expect("it is a walk").windows;
    // Noise may look periodic by chance.
    let refused = |noise: &Recording| cut(noise).is_err_and(|error| error.code() == "no-steps");
    let no_walk = (0..).map(|seed| noise(&recording, seed)).find(refused).expect("one of them is");
    let mut scratch = Scratch::default();
    let mut probe = |windows: &[Window]| {
        let mut template = Template::empty(model.network.feature_len());
        for window in windows {
            let output = model.network.run(&window.values, &mut scratch);
            template.add_window(output.expect("a window of its length").feature);
        }
        template
    };
    let template = probe(&windows);
    let walk = template.values();
    let length = walk.iter().map(|value| value * value).sum::<f32>().sqrt();
    // Random values hardly resemble a walk, so each user gets a share of it.
    let gallery = gallery(model, 1000, |random| {
        let share: f32 = StandardNormal.sample(random);
        let factor = COSINE_DEVIATION * share * (walk.len() as f32).sqrt() / length;
        let values = random_feature(random, walk.len(), LIKE_PEOPLE);
        values.iter().zip(walk).map(|(value, walk)| value + factor * walk).collect()
    });
    let mark = |recording: &Recording| Fingerprint::of(recording).expect("it is long enough");
    let minute = Conditions { seconds: 60.0, ..Conditions::default() };
    let earlier: Vec<_> = (10..26).map(|walk| mark(&Walker::new(1).walk(walk, &minute))).collect();
    let own = mark(&recording);
    let mut times = Times { stages: Vec::new() };
    for _ in 0..ROUNDS {
        let mut documents = vec![document.clone(); WALKS_A_ROUND];
        times.add("units and checks", || Recording::try_from(documents.pop().expect("one each")));
        times.add("all windows", || cut(&recording));
        times.add("resampled and one window", || cut(&one_window));
        times.add("all windows refused", || cut(&no_walk));
        times.add("network", || probe(&windows));
        times.add("gallery of 1,000", || gallery.rank(&template, None, 5));
        times.add("fingerprint", || Fingerprint::of(&recording));
        times.add("16 comparisons", || own.is_replay_of_any(&earlier));
        let mut documents = vec![document.clone(); WALKS_A_ROUND];
        times.add("total", || {
            let recording = Recording::try_from(documents.pop().expect("one each"));
            let cut = cut(&recording.expect("it is whole")).expect("it is a walk");
            let template = probe(&cut.windows);
            let candidates = gallery.rank(&template, None, 5);
            let users = gallery.count(None);
            let (calibration, tails) = (gallery.calibration(), gallery.tails());
            Decision::new(&candidates, users, &template, calibration, &tails.single)
        });
    }
    let count = windows.len();
    println!("Microseconds for a walk of 10 s at 50 Hz with six axes, {count} windows:\n");
    println!("| | median | minimum |\n|---|--:|--:|");
    let row =
        |name: &str, [median, best]: [f64; 2]| println!("| {name} | {median:.1} | {best:.1} |");
    let both = |value: &dyn Fn(usize) -> f64| [value(0), value(1)];
    let [all, one, refused] =
        ["all windows", "resampled and one window", "all windows refused"].map(|n| times.of(n));
    row("units and checks", times.of("units and checks"));
    // The cost of resampling grows with the length of the recording, the cost of a window does not.
    let seconds = recording.duration_seconds() / one_window.duration_seconds();
    let window = |at: usize| (seconds * one[at] - all[at]) / (seconds - count as f64);
    row("resampling", both(&|at| all[at] - count as f64 * window(at)));
    let axes = both(&|at| all[at] - refused[at]);
    row("walking check", both(&|at| count as f64 * window(at) - axes[at]));
    row("axes and fixed point", axes);
    row("network", times.of("network"));
    row("gallery of 1,000", times.of("gallery of 1,000"));
    row("total", times.of("total"));
    row("not included: fingerprint", times.of("fingerprint"));
    row("not included: 16 comparisons of fingerprints with 60 s", times.of("16 comparisons"));
    println!();
}

/// A recording with the same times and gravity, but without steps.
fn noise(recording: &Recording, seed: u64) -> Recording {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut around = |value: f32| value + random.random_range(-3.0..3.0);
    let mut axes = |[x, y, z]: [f32; 3]| {
        (0..recording.time_seconds().len()).map(|_| [around(x), around(y), around(z)]).collect()
    };
    let (acceleration, angular_rate) = (axes([0.0, 0.0, 9.8]), axes([0.0; 3]));
    let times = recording.time_seconds().to_vec();
    Recording::new(times, acceleration, Some(angular_rate)).expect("it is whole")
}

fn random_feature(random: &mut Pcg64Mcg, feature_len: usize, independent: usize) -> Vec<f32> {
    let values: Vec<f32> = (0..independent).map(|_| StandardNormal.sample(random)).collect();
    values.into_iter().cycle().take(feature_len).collect()
}

fn template(feature: &[f32]) -> Template {
    let mut template = Template::empty(feature.len());
    template.add_window(feature);
    template
}

/// Users with one window each.
fn gallery(
    model: &Model,
    users: usize,
    mut feature: impl FnMut(&mut Pcg64Mcg) -> Vec<f32>,
) -> Gallery {
    let mut random = Pcg64Mcg::seed_from_u64(2);
    let calibration = Calibration::from_metrics(&model.metadata.metrics);
    let calibration = calibration.expect("the shipped model can serve");
    let mut gallery = Gallery::new(model.network.feature_len(), calibration);
    for number in 0..users {
        let user = format!("user-{number:07}").parse().expect("it is an id");
        gallery.add(&user, &template(&feature(&mut random)));
    }
    gallery
}

fn search(model: &Model, users: usize, independent: usize) {
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let feature_len = model.network.feature_len();
    let gallery = gallery(model, users, |random| random_feature(random, feature_len, independent));
    let numbers: Vec<u64> = (0..BANDWIDTH_BYTES as u64 / 8).collect();
    let (mut milliseconds, mut gigabytes) = (Vec::new(), Vec::new());
    for _ in 0..SEARCHES {
        let probe = template(&random_feature(&mut random, feature_len, independent));
        let begin = Instant::now();
        black_box(gallery.rank(black_box(&probe), None, 5));
        milliseconds.push(begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        black_box(black_box(&numbers).iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
        gigabytes.push(BANDWIDTH_BYTES as f64 / begin.elapsed().as_secs_f64() / 1e9);
    }
    milliseconds.sort_by(f64::total_cmp);
    gigabytes.sort_by(f64::total_cmp);
    let [median, best] = [0.5, 0.0].map(|share| quantile(&milliseconds, share));
    let [bandwidth, most] = [0.5, 1.0].map(|share| quantile(&gigabytes, share));
    println!(
        "Search among {users} users, {} bytes each: median {median:.2} ms, minimum {best:.2} ms",
        gallery.bytes() / users
    );
    println!("Read bandwidth of one core: median {bandwidth:.1} GB/s, maximum {most:.1} GB/s");
    let seconds = (users * feature_len / 2) as f64 / bandwidth / 1e9;
    println!("At the median, reading half a byte a value takes {:.2} ms\n", seconds * 1e3);
}

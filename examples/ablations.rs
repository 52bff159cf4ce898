//! Measures what each part of the training recipe and each layer contributes, and compares other
//! networks of similar size, on the published task:
//!
//!     cargo run --release --example ablations -- --data DIR --train-sessions S,... --test-sessions S,...
//!
//! Trains a network for each variant and seed, one per processor, and prints their accuracy on the test
//! sessions.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use bipedalnet_core::bnn::{Architecture, Weights};
use bipedalnet_core::gait::Recipe;
use bipedalnet_training::{
    Augmentation, Compression, Design, Division, Schedule, Split, TableOptions, accuracy,
    read_data, train,
};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use scatter::scatter;

mod scatter;

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv.
    #[arg(long)]
    data: PathBuf,
    #[arg(long, value_delimiter = ',', required = true)]
    train_sessions: Vec<String>,
    #[arg(long, value_delimiter = ',', required = true)]
    test_sessions: Vec<String>,
    #[arg(long, value_delimiter = ',', default_values = ["1", "2"])]
    seeds: Vec<u64>,
    /// Only variants whose group or name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Share of the usual epochs to train, for a quicker comparison.
    #[arg(long, default_value_t = 1.0)]
    length: f32,
    /// Write an SVG plot of bytes against the error rate.
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// A network and how it is trained.
struct Variant {
    group: &'static str,
    name: &'static str,
    /// `K` stands for the number of classes.
    layers: &'static str,
    /// Size of one weight as a device would store it.
    weight_bits: f32,
    change: fn(&mut Schedule),
}

const LAYERS: &str = "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK";

const WITH_TANH: &str = "float 8x100 conv32/3x3 pool2x2 bn tanh conv64/1x3 bn tanh conv64/1x3 bn tanh dense32 bn norm denseK";

const IDNET: &str = "float 8x200 conv20/1x10+ conv40/4x10/same+ tanh pool2x4 dense40+ tanh denseK+";

/// Share of the weights that pruning keeps.
const KEPT: f32 = 0.062;
/// Each kept weight takes 8 bits, and the distance to the next one 8 bits.
const KEPT_BITS: f32 = 16.0 * KEPT;

/// Five ternary weights fit in a byte.
const TERNARY_BITS: f32 = 1.6;

const fn of_recipe(name: &'static str, change: fn(&mut Schedule)) -> Variant {
    Variant { group: "recipe", name, layers: LAYERS, weight_bits: 1.0, change }
}

const fn of_layers(name: &'static str, layers: &'static str) -> Variant {
    Variant { group: "layers", name, layers, weight_bits: 1.0, change: |_| {} }
}

const fn of_bytes(
    name: &'static str,
    layers: &'static str,
    weight_bits: f32,
    change: fn(&mut Schedule),
) -> Variant {
    Variant { group: "bytes", name, layers, weight_bits, change }
}

const VARIANTS: [Variant; 25] = [
    of_recipe("the recipe", |_| {}),
    of_recipe("without initial training of real weights", |s| s.real_share = 0.0),
    of_recipe("without averaging of weights", |s| s.averaging = 0.0),
    of_recipe("without either of these", |s| (s.averaging, s.real_share) = (0.0, 0.0)),
    of_recipe("without speed augmentation", |s| s.augmentation.warp = 0.0),
    of_recipe("without amplitude augmentation", |s| s.augmentation.scale = 0.0),
    of_recipe("without rotation of axes", |s| s.augmentation.turn = 0.0),
    of_recipe("random window positions as the only augmentation", |s| s.augmentation = UNVARIED),
    of_layers(
        "mean over time, two more convolutions",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign conv64/1x3 bn sign conv64/1x3 bn sign mean bn dense32 bn norm denseK",
    ),
    of_layers(
        "mean over time before the dense layer",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign mean bn dense32 bn norm denseK",
    ),
    of_layers(
        "two more convolutions",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
    ),
    of_layers(
        "signs before the last layer",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn sign denseK",
    ),
    of_layers(
        "one convolution over time",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
    ),
    of_layers(
        "no convolution over time",
        "binary 8x100 conv32/3x3 pool2x2 bn sign dense32 bn norm denseK",
    ),
    of_layers(
        "first convolution only over time",
        "binary 8x100 conv32/1x9 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
    ),
    of_bytes("IDNet", IDNET, 32.0, real),
    of_bytes("IDNet in int8", IDNET, 8.0, int8),
    of_bytes("IDNet, 6 % of its weights in int8", IDNET, KEPT_BITS, pruned),
    of_bytes(
        "IDNet binarized",
        "binary 8x200 conv20/1x10+ sign conv40/4x10/same+ sign pool2x4 dense40+ sign denseK+",
        1.0,
        real,
    ),
    of_bytes("BiPedalNet, real weights, tanh", WITH_TANH, 32.0, real),
    of_bytes("BiPedalNet, real weights, signs between", REAL_WITH_SIGNS, 32.0, real),
    of_bytes("BiPedalNet, binary weights, tanh", BINARY_WITH_TANH, 1.0, |_| {}),
    of_bytes("BiPedalNet, ternary", LAYERS, TERNARY_BITS, ternary),
    of_bytes(
        "ternary, 40 channels",
        "binary 8x100 conv32/3x3 pool2x2 bn sign conv40/1x3 bn sign conv40/1x3 bn sign dense32 bn norm denseK",
        TERNARY_BITS,
        ternary,
    ),
    of_bytes(
        "a small network in int8",
        "float 8x100 conv16/3x3 pool2x2 bn tanh conv24/1x3 pool1x2 bn tanh conv32/1x3 pool1x2 bn tanh dense32 bn norm denseK",
        8.0,
        int8,
    ),
];

const UNVARIED: Augmentation = Augmentation {
    scale: 0.0,
    noise: 0.0,
    turn: 0.0,
    warp: 0.0,
    without_gyroscope: 0.0,
    low_rate: 0.0,
};

const REAL_WITH_SIGNS: &str = "float 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK";

const BINARY_WITH_TANH: &str = "binary 8x100 conv32/3x3 pool2x2 bn tanh conv64/1x3 bn tanh conv64/1x3 bn tanh dense32 bn norm denseK";

fn real(schedule: &mut Schedule) {
    schedule.epochs = 40;
    schedule.rate = 1e-3;
}

fn int8(schedule: &mut Schedule) {
    real(schedule);
    (schedule.compression, schedule.real_share) = (Some(Compression::Int8), 0.7);
}

fn pruned(schedule: &mut Schedule) {
    real(schedule);
    (schedule.compression, schedule.real_share) = (Some(Compression::Pruned(KEPT)), 0.5);
}

fn ternary(schedule: &mut Schedule) {
    schedule.compression = Some(Compression::Ternary);
}

impl Variant {
    fn architecture(&self, classes: usize) -> Result<Architecture, Box<dyn Error + Send + Sync>> {
        Ok(self.layers.replace('K', &classes.to_string()).parse()?)
    }

    /// The design that gives its windows and schedule.
    fn design(&self) -> Design {
        if self.layers.contains("8x200") { Design::Idnet } else { Design::Bipedalnet }
    }

    fn schedule(&self, seed: u64, length: f32) -> Schedule {
        let mut schedule = self.design().schedule(seed);
        (self.change)(&mut schedule);
        schedule.epochs = (schedule.epochs as f32 * length).ceil() as usize;
        schedule
    }

    fn bytes(&self, architecture: &Architecture) -> Result<f32, Box<dyn Error + Send + Sync>> {
        let weights: usize = architecture.weight_counts()?.iter().sum();
        let others = architecture.parameter_count()? - weights;
        Ok(weights as f32 * self.weight_bits / 8.0 + 4.0 * others as f32)
    }
}

/// The result of one variant with one seed.
struct Outcome {
    variant: usize,
    bytes: f32,
    top1: f32,
    top1_of_5: f32,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let walks =
        read_data(std::slice::from_ref(&arguments.data), &TableOptions::default())?.recordings;
    let split = Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions };
    let ours = Division::new(&walks, Recipe::BIPEDALNET, &split)?;
    let idnets = Division::new(&walks, Recipe::IDNET, &split)?;
    let wanted = |variant: &Variant| {
        let found = |part: &String| variant.group == part || variant.name.contains(&part[..]);
        arguments.only.is_empty() || arguments.only.iter().any(found)
    };
    let wanted = (0..VARIANTS.len()).filter(|&variant| wanted(&VARIANTS[variant]));
    let jobs: VecDeque<(usize, u64)> = wanted
        .flat_map(|variant| arguments.seeds.iter().map(move |&seed| (variant, seed)))
        .collect();
    let bar = ProgressBar::new(jobs.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}, {eta} left")?);
    bar.enable_steady_tick(Duration::from_secs(1));
    let length = arguments.length;
    let (jobs, outcomes) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let work = || -> Result<(), Box<dyn Error + Send + Sync>> {
        // Two trainings at a time are faster than one training with two threads.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let next = || jobs.lock().ok()?.pop_front();
        while let Some((number, seed)) = next() {
            let variant = &VARIANTS[number];
            let division = if variant.design() == Design::Idnet { &idnets } else { &ours };
            let outcome = pool.install(|| measure(number, division, seed, length))?;
            let top1 = outcome.top1 * 100.0;
            bar.suspend(|| eprintln!("{}, seed {seed}: {top1:.2} %", variant.name));
            bar.inc(1);
            outcomes.lock().expect("no thread panics while it holds the lock").push(outcome);
        }
        Ok(())
    };
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a training panicked"))
    })?;
    bar.finish_and_clear();
    let outcomes = outcomes.into_inner()?;
    print(&outcomes);
    if let Some(path) = arguments.plot {
        fs::write(path, plot(&outcomes)?)?;
    }
    Ok(())
}

fn measure(
    number: usize,
    division: &Division,
    seed: u64,
    length: f32,
) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
    let variant = &VARIANTS[number];
    let mut architecture = variant.architecture(division.subjects.len())?;
    let schedule = variant.schedule(seed, length);
    let bytes = variant.bytes(&architecture)?;
    let trained = train(&architecture, division, &schedule, |_| ControlFlow::Continue(()))?
        .ok_or("no epoch")?;
    if schedule.compression.is_some() {
        // Packed networks have only binary weights.
        architecture.weights = Weights::Float;
    }
    let evaluation = accuracy(&architecture, &trained.parameters, division, &division.test)?;
    Ok(Outcome { variant: number, bytes, top1: evaluation.top1, top1_of_5: evaluation.top1_of_5 })
}

/// The outcomes of each variant that was trained.
fn by_variant(outcomes: &[Outcome]) -> impl Iterator<Item = (&'static Variant, Vec<&Outcome>)> {
    VARIANTS.iter().enumerate().filter_map(|(number, variant)| {
        let of_it: Vec<_> = outcomes.iter().filter(|outcome| outcome.variant == number).collect();
        (!of_it.is_empty()).then_some((variant, of_it))
    })
}

/// Mean, minimum and maximum in %.
fn spread(outcomes: &[&Outcome], value: fn(&Outcome) -> f32) -> [f32; 3] {
    let values = outcomes.iter().map(|outcome| value(outcome) * 100.0);
    let mean = values.clone().sum::<f32>() / outcomes.len() as f32;
    [mean, values.clone().fold(f32::INFINITY, f32::min), values.fold(0.0, f32::max)]
}

fn print(outcomes: &[Outcome]) {
    println!("| variant | bytes | seeds | top-1 of 2 s | top-1 of five windows |");
    println!("|---|--:|--:|--:|--:|");
    for (variant, outcomes) in by_variant(outcomes) {
        let [top1, least, most] = spread(&outcomes, |outcome| outcome.top1);
        let [of_5, least_of_5, most_of_5] = spread(&outcomes, |outcome| outcome.top1_of_5);
        println!(
            "| {} | {:.0} | {} | {top1:.2} % ({least:.2} to {most:.2}) | {of_5:.2} % ({least_of_5:.2} to {most_of_5:.2}) |",
            variant.name,
            outcomes[0].bytes,
            outcomes.len(),
        );
    }
}

/// Plots bytes against the error rate, with a point for each variant.
fn plot(outcomes: &[Outcome]) -> Result<String, Box<dyn Error + Send + Sync>> {
    let points: Vec<(f32, f32, String)> = by_variant(outcomes)
        .map(|(variant, outcomes)| {
            let [top1, ..] = spread(&outcomes, |outcome| outcome.top1);
            (outcomes[0].bytes, 100.0 - top1, variant.name.to_owned())
        })
        .collect();
    let error = "wrongly classified windows of 2 s, %";
    scatter("Size and error rate of networks", "bytes", error, &points)
}

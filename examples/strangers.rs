//! Compares networks of the same bytes as they tell strangers apart, each trained alike:
//!
//!     cargo run --release --example strangers -- --data DIR DIR... --leave-out NAME,...
//!
//! For each data set that is left out, each network is trained on the people of the others. The people
//! who were left out are then enrolled and probed as by `bipedalnet evaluate`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bipedalnet_core::bnn::{
    Architecture, INPUT_FRACTION_BITS, Layer, Network, Parameters, Scratch, Weights, reference,
};
use bipedalnet_core::gait::{Recipe, Recording, Window, cut_windows};
use bipedalnet_training::evaluation::{Figure, Separation, separation};
use bipedalnet_training::{
    Augmentation, Compression, Design, Division, Schedule, Split, SubjectRecording, TableOptions,
    read_data, train, with_deflation,
};
use clap::Parser;
use scatter::scatter;

mod scatter;

#[derive(Parser)]
struct Arguments {
    /// Folders with a manifest.csv.
    #[arg(long, required = true, num_args = 2..)]
    data: Vec<PathBuf>,
    /// Folders to leave out, one at a time, by name.
    #[arg(long, value_delimiter = ',', required = true)]
    leave_out: Vec<String>,
    /// Only networks whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the usual epochs to train, for a quicker comparison.
    #[arg(long, default_value_t = 1.0)]
    length: f32,
    /// Microseconds of a window of each network, in their order, for the plot.
    #[arg(long, value_delimiter = ',', requires = "plot")]
    microseconds: Vec<f32>,
    /// Write an SVG plot of microseconds against the mean EER.
    #[arg(long, requires = "microseconds")]
    plot: Option<PathBuf>,
}

struct Candidate {
    name: &'static str,
    /// The layers that are trained to name people. `K` stands for their number.
    learned: &'static str,
    /// The layers that give the feature, if a deflation is fitted to the first of those learned.
    deflated: Option<&'static str>,
    weight_bits: f32,
    change: fn(&mut Schedule),
}

const CANDIDATES: [Candidate; 4] = [
    Candidate {
        name: "the network that ships",
        learned: "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign acf3,6,12 bn norm denseK",
        deflated: Some(
            "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign acf3,6,12 deflate40",
        ),
        weight_bits: 1.0,
        change: |_| {},
    },
    Candidate {
        name: "BiPedalNet",
        learned: "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
        deflated: None,
        weight_bits: 1.0,
        change: |_| {},
    },
    Candidate {
        name: "int8, dense",
        learned: "float 8x100 conv16/3x3 pool2x2 bn tanh conv24/1x3 pool1x2 bn tanh conv32/1x3 pool1x2 bn tanh dense32 bn norm denseK",
        deflated: None,
        weight_bits: 8.0,
        change: int8,
    },
    Candidate {
        name: "int8, means and deflation",
        learned: "float 8x100 conv16/3x3 pool2x2 bn tanh conv32/1x3 pool1x2 bn tanh conv96/3x3 bn tanh mean bn norm denseK",
        deflated: Some(
            "float 8x100 conv16/3x3 pool2x2 bn tanh conv32/1x3 pool1x2 bn tanh conv96/3x3 bn tanh mean deflate16",
        ),
        weight_bits: 8.0,
        change: int8,
    },
];

fn int8(schedule: &mut Schedule) {
    schedule.rate = 1e-3;
    (schedule.compression, schedule.real_share) = (Some(Compression::Int8), 0.7);
}

impl Candidate {
    /// Trains it with the windows of the network that ships.
    fn train(
        &self,
        division: &Division,
        seed: u64,
        length: f32,
    ) -> Result<(Architecture, Parameters), Box<dyn Error + Send + Sync>> {
        let mut schedule =
            Schedule { augmentation: Augmentation::SERVED, ..Design::Openset.schedule(seed) };
        schedule.epochs = (Design::Openset.epochs(division) as f32 * length).ceil() as usize;
        (self.change)(&mut schedule);
        let learned: Architecture =
            self.learned.replace('K', &division.subjects.len().to_string()).parse()?;
        let trained = train(&learned, division, &schedule, |_| ControlFlow::Continue(()))?;
        let parameters = trained.ok_or("no epoch")?.parameters;
        let Some(deflated) = self.deflated else { return Ok((learned, parameters)) };
        let architecture: Architecture = deflated.parse()?;
        let parameters = with_deflation(&architecture, &parameters, division)?;
        Ok((architecture, parameters))
    }

    /// Bytes that a device would store: those up to the feature.
    fn bytes(&self, architecture: &Architecture) -> Result<f32, Box<dyn Error + Send + Sync>> {
        let counts = architecture.weight_counts()?;
        let weights: usize = counts.iter().sum();
        let others = architecture.parameter_count()? - weights;
        let layers = architecture.layers.iter().zip(counts);
        let bits = |(at, (layer, count)): (usize, (&Layer, usize))| match layer {
            Layer::Deflation { .. } => 8.0 * count as f32,
            Layer::Dense { .. } if at + 1 == architecture.layers.len() => 0.0,
            _ => self.weight_bits * count as f32,
        };
        Ok(layers.enumerate().map(bits).sum::<f32>() / 8.0 + 4.0 * others as f32)
    }
}

/// The features of a recording's windows.
fn features(
    architecture: &Architecture,
    parameters: &Parameters,
    packed: Option<&Network>,
    recording: &Recording,
) -> Option<Vec<Vec<f32>>> {
    let recipe = Recipe::OPENSET;
    let windows = cut_windows(recording, &recipe, recipe.samples / 2).ok()?.windows;
    let mut scratch = Scratch::default();
    let feature = |Window { values, .. }: &Window| {
        if let Some(network) = packed {
            return Some(network.run(values, &mut scratch).ok()?.feature.to_vec());
        }
        let scale = f32::from(1i16 << INPUT_FRACTION_BITS);
        let values: Vec<f32> = values.iter().map(|&value| f32::from(value) / scale).collect();
        let outputs = reference::forward(architecture, parameters, &values).ok()?;
        // A layer that names the people of the training is not part of the feature.
        outputs.into_iter().nth_back(usize::from(architecture.classes() > 0))
    };
    windows.iter().map(feature).collect()
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let recordings = read_data(&arguments.data, &TableOptions::default())?.recordings;
    let wanted = |candidate: &&Candidate| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| candidate.name.contains(&part[..]))
    };
    let candidates: Vec<&Candidate> = CANDIDATES.iter().filter(wanted).collect();
    // By number of the candidate: bytes, and the equal error rates of each data set.
    let mut found: BTreeMap<usize, (f32, Vec<Vec<f32>>)> = BTreeMap::new();
    println!(
        "| left out | enrolled to probed session | people | network | EER | FNMR at FMR 1 % |"
    );
    println!("|---|---|--:|---|--:|--:|");
    for name in &arguments.leave_out {
        let (strangers, others): (Vec<SubjectRecording>, Vec<_>) = recordings
            .iter()
            .cloned()
            .partition(|it| it.subject.split('/').next() == Some(&name[..]));
        let division = Division::new(&others, Recipe::OPENSET, &Split::Tail { fraction: 0.0 })?;
        for (number, candidate) in candidates.iter().enumerate() {
            let (architecture, parameters) =
                candidate.train(&division, arguments.seed, arguments.length)?;
            let bytes = candidate.bytes(&architecture)?;
            let packed = (architecture.weights == Weights::Binary)
                .then(|| Network::new(&architecture, &parameters))
                .transpose()?;
            let read = |recording: &Recording| {
                features(&architecture, &parameters, packed.as_ref(), recording)
            };
            let separated = separation(&strangers, read, arguments.seed);
            if separated.is_empty() {
                return Err(format!("{name:?} has too few people with enough walking").into());
            }
            for Separation { protocol, people, eer, fnmr_at_fmr_1_percent } in &separated {
                println!(
                    "| {name} | {} to {} | {people} | {} | {} | {} |",
                    protocol.enroll,
                    protocol.probe,
                    candidate.name,
                    percent(eer),
                    percent(fnmr_at_fmr_1_percent),
                );
            }
            let rates = separated.iter().map(|it| it.eer.value * 100.0).collect();
            found.entry(number).or_insert_with(|| (bytes, Vec::new())).1.push(rates);
        }
    }
    let mut points = Vec::new();
    println!("\n| network | bytes | mean EER of the data sets |");
    println!("|---|--:|--:|");
    for (number, (bytes, of_sets)) in found {
        let name = candidates[number].name;
        let of_sets: Vec<f32> = of_sets.iter().map(|rates| mean(rates)).collect();
        let eer = mean(&of_sets);
        println!("| {name} | {bytes:.0} | {eer:.1} |");
        if let Some(&microseconds) = arguments.microseconds.get(number) {
            points.push((microseconds, eer, format!("{name}, {bytes:.0} bytes")));
        }
    }
    if let Some(path) = arguments.plot {
        let title = "Networks of the same bytes, on strangers";
        fs::write(path, scatter(title, "µs a window", "mean EER, %", &points)?)?;
    }
    Ok(())
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

fn percent(Figure { value, low, high }: &Figure) -> String {
    format!("{:.1} ({:.1} to {:.1})", value * 100.0, low * 100.0, high * 100.0)
}

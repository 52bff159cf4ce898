//! What each part of the recipe is worth, on the published task:
//! `cargo run --release --example ablations -- --data DIR --train-sessions S,... --test-sessions S,...`
//! trains a network for each variant and seed and prints how many windows of the test sessions it
//! names.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bipedalnet::bnn::Architecture;
use bipedalnet::gait::Recipe;
use bipedalnet::training::{
    Augmentation, Division, Published, Schedule, Split, evaluate, read_data, train,
};
use clap::Parser;

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
    /// Only variants whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A change of the recipe.
struct Variant {
    name: &'static str,
    /// What `Published::Bipedalnet` has, with `K` for the classes.
    layers: &'static str,
    change: fn(&mut Schedule),
}

const LAYERS: &str = "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK";

/// Of the layers, one or another changed; of the schedule likewise.
const VARIANTS: [Variant; 16] = [
    Variant { name: "the recipe", layers: LAYERS, change: |_| {} },
    Variant { name: "without real weights first", layers: LAYERS, change: |s| s.real_share = 0.0 },
    Variant { name: "without averages", layers: LAYERS, change: |s| s.averaging = 0.0 },
    Variant {
        name: "without either",
        layers: LAYERS,
        change: |s| (s.averaging, s.real_share) = (0.0, 0.0),
    },
    Variant {
        name: "without change of speed",
        layers: LAYERS,
        change: |s| s.augmentation.warp = 0.0,
    },
    Variant { name: "turned up to 0.2 rad", layers: LAYERS, change: |s| s.augmentation.turn = 0.2 },
    Variant {
        name: "not varied",
        layers: LAYERS,
        change: |s| {
            s.augmentation = Augmentation {
                scale: 0.0,
                noise: 0.0,
                turn: 0.0,
                warp: 0.0,
                without_gyroscope: 0.0,
                low_rate: 0.0,
            }
        },
    },
    Variant {
        name: "as served",
        layers: LAYERS,
        change: |s| s.augmentation = Augmentation::SERVED,
    },
    Variant {
        name: "signs before the last layer",
        layers: "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn sign denseK",
        change: |_| {},
    },
    Variant {
        name: "real weights, signs between",
        layers: "float 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
        change: real,
    },
    Variant {
        name: "binary weights, tanh between",
        layers: "binary 8x100 conv32/3x3 pool2x2 bn tanh conv64/1x3 bn tanh conv64/1x3 bn tanh dense32 bn norm denseK",
        change: |s| s.epochs = 40,
    },
    Variant {
        name: "real weights, tanh between",
        layers: "float 8x100 conv32/3x3 pool2x2 bn tanh conv64/1x3 bn tanh conv64/1x3 bn tanh dense32 bn norm denseK",
        change: real,
    },
    Variant {
        name: "one convolution over time",
        layers: "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
        change: |_| {},
    },
    Variant {
        name: "no convolution over time",
        layers: "binary 8x100 conv32/3x3 pool2x2 bn sign dense32 bn norm denseK",
        change: |_| {},
    },
    Variant {
        name: "first convolution over time alone",
        layers: "binary 8x100 conv32/1x9 pool2x2 bn sign conv64/1x3 bn sign conv64/1x3 bn sign dense32 bn norm denseK",
        change: |_| {},
    },
    Variant {
        name: "float network of 40 KB",
        layers: "float 8x100 conv8/3x3 pool2x2 bn tanh conv16/1x3 pool1x2 bn tanh conv16/1x3 pool1x2 bn tanh dense16 bn norm denseK",
        change: real,
    },
];

fn real(schedule: &mut Schedule) {
    schedule.epochs = 30;
    schedule.rate = 1e-3;
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let walks = read_data(&[arguments.data])?.walks;
    let split = Split::Sessions { train: arguments.train_sessions, test: arguments.test_sessions };
    let division = Division::new(&walks, Recipe::BIPEDALNET, &split)?;
    let classes = division.subjects.len();
    println!("| variant | seed | parameters | top-1 | top-1 of 5 | seconds |");
    println!("|---|--:|--:|--:|--:|--:|");
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(&part[..]))
    };
    for Variant { name, layers, change } in VARIANTS.iter().filter(|v| wanted(v.name)) {
        let architecture: Architecture = layers.replace('K', &classes.to_string()).parse()?;
        for &seed in &arguments.seeds {
            let mut schedule = Published::Bipedalnet.schedule(seed);
            change(&mut schedule);
            let trained =
                train(&architecture, &division, &schedule, |_| ControlFlow::Continue(()))?
                    .ok_or("no epoch")?;
            let evaluation = evaluate(&architecture, &trained.parameters, &division.test)?;
            println!(
                "| {name} | {seed} | {} | {:.2} % | {:.2} % | {:.0} |",
                architecture.parameter_count()?,
                evaluation.top1 * 100.0,
                evaluation.top1_of_5 * 100.0,
                trained.elapsed.as_secs_f32(),
            );
        }
    }
    Ok(())
}

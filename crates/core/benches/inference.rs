//! Time of one window with each kind of kernels, and with the float reference.
//!
//! `benches/instructions.sh` runs this program as `inference count NETWORK KERNELS WINDOWS`. It then
//! runs that many windows without measuring, and valgrind counts the instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{
    Architecture, Kernels, Layer, LayerParameters, Network, Parameters, Scratch, reference,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const TIME_A_NETWORK: Duration = Duration::from_secs(6);
/// Windows that are timed together. The time that the clock takes is small beside theirs.
const BATCH: u32 = 20;

fn random_parameters(architecture: &Architecture, random: &mut Pcg64Mcg) -> Parameters {
    let shapes = architecture.shapes().expect("a published architecture");
    let counts = architecture.weight_counts().expect("a published architecture");
    let layers = architecture.layers.iter().enumerate().map(|(index, layer)| {
        let channels = shapes[index + 1].channels;
        match *layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                let weight = |_| if random.random() { 1.0 } else { -1.0 };
                Some(LayerParameters::Weights {
                    weights: (0..counts[index]).map(weight).collect(),
                    bias: bias.then(|| vec![0.5; channels]),
                })
            }
            Layer::Projection { .. } => {
                let weight = |_| f32::from(random.random_range(-127..=127i8)) / 128.0;
                Some(LayerParameters::Weights {
                    weights: (0..counts[index]).map(weight).collect(),
                    bias: Some(vec![0.5; channels]),
                })
            }
            Layer::Deflation { .. } => {
                let weight = |_| f32::from(random.random_range(-127..=127i8)) / 1024.0;
                Some(LayerParameters::Deflation {
                    centre: vec![0.5; channels],
                    directions: (0..counts[index]).map(weight).collect(),
                })
            }
            Layer::BatchNorm => Some(LayerParameters::BatchNorm {
                beta: vec![0.1; channels],
                mean: vec![0.2; channels],
                variance: vec![3.0; channels],
            }),
            Layer::MaxPool { .. }
            | Layer::Sign
            | Layer::Tanh
            | Layer::Mean
            | Layer::Autocorrelation { .. }
            | Layer::Normalise => None,
        }
    });
    Parameters { layers: layers.collect() }
}

fn networks() -> [(&'static str, Architecture); 4] {
    [
        ("bipedalnet", Architecture::bipedalnet(100, 38)),
        ("openset", Architecture::openset(100)),
        ("pooled", Architecture::pooled(100, 38)),
        ("binarized-idnet", Architecture::binarized_idnet(38)),
    ]
}

fn random_window(network: &Network, random: &mut Pcg64Mcg) -> Vec<i16> {
    (0..network.input_len()).map(|_| random.random_range(-2048..2048)).collect()
}

/// Times each kind of kernels in turn, so that other load on the machine affects all of them. Windows are
/// timed in small batches, and the best batch and the median one are printed.
fn compare() {
    println!("| network | kernels | best, µs a window | median, µs |\n|---|---|--:|--:|");
    let mut scratch = Scratch::default();
    for (name, architecture) in networks() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let parameters = random_parameters(&architecture, &mut random);
        let available = Kernels::available();
        let compiled: Vec<Network> = available
            .iter()
            .map(|&kernels| {
                Network::with_kernels(&architecture, &parameters, kernels)
                    .expect("a binary network")
            })
            .collect();
        let window = random_window(&compiled[0], &mut random);
        let mut times = vec![Vec::new(); compiled.len()];
        let begin = Instant::now();
        while begin.elapsed() < TIME_A_NETWORK {
            for (network, times) in compiled.iter().zip(&mut times) {
                let start = Instant::now();
                for _ in 0..BATCH {
                    let output = network.run(black_box(&window), &mut scratch);
                    black_box(output.expect("a window of its length"));
                }
                times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
            }
        }
        for (kernels, times) in available.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let (best, median) = (times[0], times[times.len() / 2]);
            println!("| {name} | {} | {best:.1} | {median:.1} |", kernels.name());
        }
        let floats: Vec<f32> = window.iter().map(|&value| f32::from(value) / 1024.0).collect();
        let start = Instant::now();
        let output = reference::forward(&architecture, &parameters, black_box(&floats));
        black_box(output.expect("a window of its length"));
        let once = start.elapsed().as_secs_f64() * 1e6;
        println!("| {name} | the float reference, once | {once:.0} | |");
    }
}

fn run_windows(network: &str, kernels: &str, windows: usize) {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let (_, architecture) =
        networks().into_iter().find(|(name, _)| *name == network).expect("a network of the bench");
    let parameters = random_parameters(&architecture, &mut random);
    let kernels = Kernels::available()
        .into_iter()
        .find(|available| available.name() == kernels)
        .expect("kernels that this processor can run");
    let network =
        Network::with_kernels(&architecture, &parameters, kernels).expect("a binary network");
    let window = random_window(&network, &mut random);
    let mut scratch = Scratch::default();
    for _ in 0..windows {
        black_box(network.run(black_box(&window), &mut scratch)).expect("a window of its length");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [mode, network, kernels, windows, ..] if mode == "count" => {
            run_windows(network, kernels, windows.parse().expect("a number of windows"));
        }
        _ => compare(),
    }
}

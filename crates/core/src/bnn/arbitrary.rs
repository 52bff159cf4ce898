//! Random networks and windows for tests.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Architecture, Layer, LayerParameters, Padding, Parameters, Weights};

/// Binary architectures of all layers that can run packed.
pub fn architectures() -> impl Strategy<Value = Architecture> {
    let size = || (1..=3usize, 1..=3usize).prop_map(|(rows, samples)| [rows, samples]);
    let pool = || size().prop_map(|size| Layer::MaxPool { size });
    let before_sign = prop_oneof![3 => Just(Layer::BatchNorm), 2 => pool()];
    let channels = || prop_oneof![16 => 1..=70usize, 1 => 127..=130usize];
    let convolution = (channels(), 1..=4usize, 1..=5usize, any::<bool>(), any::<bool>()).prop_map(
        |(filters, rows, samples, same, bias)| Layer::Convolution {
            filters,
            kernel: [rows, samples],
            padding: if same { Padding::Same } else { Padding::Valid },
            bias,
        },
    );
    let dense = (channels(), any::<bool>()).prop_map(|(units, bias)| Layer::Dense { units, bias });
    let block = (
        prop_oneof![4 => convolution, 1 => dense],
        prop::collection::vec(before_sign, 0..4),
        prop::option::weighted(0.3, pool()),
    );
    let feature = prop::option::of((channels(), any::<[bool; 4]>()));
    let lags = prop::option::of((prop::array::uniform3(1..=8usize), any::<[bool; 2]>()));
    let end = (feature, lags, 1..=40usize, any::<bool>());
    ((1..=9usize, 1..=30usize), prop::collection::vec(block, 0..4), end).prop_map(
        |((rows, samples), blocks, (feature, lags, units, bias))| {
            let mut architecture = Architecture {
                input: [rows, samples],
                weights: Weights::Binary,
                layers: vec![Layer::Dense { units, bias }],
            };
            // Inserts a layer before the last one, if it fits.
            let mut push = |layer| {
                let end = architecture.layers.len() - 1;
                architecture.layers.insert(end, layer);
                let fits = architecture.shapes().is_ok();
                if !fits {
                    architecture.layers.remove(end);
                }
                fits
            };
            let mut has_signs = false;
            for (sum, before_sign, after_sign) in blocks {
                if push(sum) {
                    has_signs = true;
                    let layers = before_sign.into_iter().chain([Layer::Sign]).chain(after_sign);
                    for layer in layers {
                        push(layer);
                    }
                }
            }
            if let Some((lags, [norm, deflates])) = lags.filter(|_| has_signs)
                && push(Layer::Autocorrelation { lags })
            {
                if norm {
                    push(Layer::BatchNorm);
                }
                if deflates {
                    let last = architecture.layers.len() - 1;
                    architecture.layers[last] = Layer::Deflation { directions: units };
                } else {
                    push(Layer::Normalise);
                }
            } else if let Some((units, [bias, norm, mean, norm_of_means])) = feature {
                // Only signs can be averaged over time.
                if has_signs && mean {
                    push(Layer::Mean);
                    if norm_of_means {
                        push(Layer::BatchNorm);
                    }
                }
                if push(Layer::Dense { units, bias }) {
                    if norm {
                        push(Layer::BatchNorm);
                    }
                    push(Layer::Normalise);
                }
            }
            architecture
        },
    )
}

/// Binary architectures with shapes that kernels support, and some that they just do not.
pub fn kernel_architectures() -> impl Strategy<Value = Architecture> {
    let filters = || prop_oneof![1..=3usize, 4..=70usize, Just(64), 126..=131usize];
    let norm = || prop_oneof![Just(""), Just(" bn")];
    let convolution = (filters(), 1..=2usize, 1..=5usize, any::<bool>(), norm(), any::<bool>())
        .prop_map(|(filters, rows, samples, same, norm, pool)| {
            let same = if same && rows == 2 { "/same" } else { "" };
            let pool = if pool && samples == 5 { " pool1x2" } else { "" };
            format!(" conv{filters}/{rows}x{samples}{same}{norm} sign{pool}")
        });
    let rarely = || prop::bool::weighted(0.2);
    let first = (filters(), norm(), rarely(), rarely()).prop_map(|(filters, norm, same, other)| {
        let same = if same { "/same" } else { "" };
        let pool = if other { "" } else { " pool2x2" };
        format!(" conv{filters}/3x3{same}{pool}{norm} sign")
    });
    let after = prop_oneof![Just("sign"), Just("norm")];
    let dense = (filters(), norm(), after)
        .prop_map(|(units, norm, after)| format!(" dense{units}{norm} {after}"));
    let layer = prop_oneof![Just("dense"), Just("project")];
    let of_means =
        (norm(), layer, filters(), norm()).prop_map(|(norm_of_means, layer, units, norm)| {
            format!(" mean{norm_of_means} {layer}{units}{norm} norm")
        });
    let lags = prop::array::uniform3(1..=4usize);
    let of_lags =
        (lags, norm()).prop_map(|([a, b, c], norm)| format!(" acf{a},{b},{c}{norm} norm"));
    let dense = prop_oneof![dense, of_means, of_lags];
    (
        (4..=11usize, 4..=60usize),
        first,
        prop::collection::vec(convolution, 0..3),
        prop::option::of(dense),
        1..=70usize,
        rarely(),
    )
        .prop_filter_map(
            "layers that fit",
            |((rows, samples), first, convolutions, dense, classes, deflates)| {
                let convolutions = convolutions.concat();
                let dense = dense.unwrap_or_default();
                let end = match deflates {
                    true => format!(" acf1,2,3 deflate{classes}"),
                    false => format!("{dense} dense{classes}"),
                };
                format!("binary {rows}x{samples}{first}{convolutions}{end}").parse().ok()
            },
        )
}

/// Random parameters: many on which a sign hangs by a tie, some extreme.
pub fn parameters(architecture: &Architecture, seed: u64) -> Parameters {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let shapes = architecture.shapes().unwrap();
    let counts = architecture.weight_counts().unwrap();
    let mut list = |length: usize, value: fn(&mut Pcg64Mcg) -> f32| -> Vec<f32> {
        (0..length).map(|_| value(&mut random)).collect()
    };
    let weight: fn(&mut Pcg64Mcg) -> f32 = match architecture.weights {
        Weights::Binary => |random| if random.random() { 1.0 } else { -1.0 },
        Weights::Float => |random| random.random_range(-0.1..0.1),
    };
    let layers = architecture.layers.iter().enumerate().map(|(index, layer)| {
        let channels = shapes[index + 1].channels;
        match *layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                Some(LayerParameters::Weights {
                    weights: list(counts[index], weight),
                    bias: bias.then(|| list(channels, offset)),
                })
            }
            Layer::Projection { units: rows } | Layer::Deflation { directions: rows } => {
                let exponents = list(rows, |random| random.random_range(-9..9) as f32);
                let steps = list(counts[index], |random| random.random_range(-127..=127) as f32);
                let rows = steps.chunks(counts[index] / rows).zip(exponents);
                let weights = rows
                    .flat_map(|(row, exponent)| row.iter().map(move |q| q * exponent.exp2()))
                    .collect();
                let offsets = list(channels, offset);
                Some(match layer {
                    Layer::Deflation { .. } => {
                        LayerParameters::Deflation { centre: offsets, directions: weights }
                    }
                    _ => LayerParameters::Weights { weights, bias: Some(offsets) },
                })
            }
            Layer::BatchNorm => Some(LayerParameters::BatchNorm {
                beta: list(channels, |random| if random.random() { 0.0 } else { offset(random) }),
                mean: list(channels, offset),
                variance: list(channels, |random| match random.random_range(0..4) {
                    0 => 0.0,
                    1 => 1.0,
                    2 => random.random_range(0.0..1e9),
                    _ => random.random_range(0.0..10.0),
                }),
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

fn offset(random: &mut Pcg64Mcg) -> f32 {
    match random.random_range(0..12) {
        0 => 0.0,
        1 => -0.0,
        2 => random.random_range(-1e6..1e6),
        3 => f32::MAX,
        4 => f32::MIN,
        5 => f32::MIN_POSITIVE,
        6 => random.random_range(-32..32) as f32 / 1024.0,
        7 | 8 => random.random_range(-6..=6) as f32,
        _ => random.random_range(-6.0..6.0),
    }
}

/// A random window. Some have only extreme values.
pub fn window(length: usize, seed: u64) -> Vec<i16> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let kind = random.random_range(0..6);
    (0..length)
        .map(|_| match kind {
            0 => i16::MIN,
            1 => i16::MAX,
            2 => [i16::MIN, i16::MAX, 0, -1, 1][random.random_range(0..5)],
            3 => random.random(),
            // Around the largest sums of 16 bits.
            4 => random.random_range(-7300..7300),
            _ => random.random_range(-1024..1024),
        })
        .collect()
}

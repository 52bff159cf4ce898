//! A binary network, packed and ready to run.

use super::kernels;
use super::parameters::batch_norm;
use super::{
    Architecture, Layer, LayerParameters, NetworkError, Padding, Parameters, Shape, Weights,
};

/// Inputs are fixed point: a value of 1.0 is `1 << INPUT_FRACTION_BITS`.
pub const INPUT_FRACTION_BITS: u32 = 10;

/// Inputs of one filter of the first layer at most, so that its sums are exact in a float too.
const MAX_FIRST_LAYER_TAPS: usize = 512;

/// Products of a whole network at most; more would keep a caller waiting for seconds.
const MAX_PRODUCTS: usize = 1 << 31;

/// A binary network in packed form. Immutable; share it between threads.
#[derive(Debug)]
pub struct Network {
    input_len: usize,
    stages: Vec<Stage>,
    /// Turns the last layer's integers into outputs.
    output: Affine,
    feature_len: usize,
}

/// Working memory of [`Network::run`]; one a thread, for any network. It grows at a network's
/// first run; later runs allocate nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    integers: Vec<i32>,
    bits: Vec<u64>,
    feature: Vec<f32>,
    logits: Vec<f32>,
}

/// What a network says of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output<'a> {
    /// Real values before the last sign: what templates are made of. Empty for a network
    /// without a sign.
    pub feature: &'a [f32],
    /// One value a class, the larger the likelier.
    pub logits: &'a [f32],
}

#[derive(Debug)]
enum Stage {
    /// From the fixed-point input to integers.
    FirstConvolution { geometry: Geometry, negative: Vec<i32> },
    /// From the fixed-point input to integers.
    FirstDense { negative: Vec<i32>, units: usize },
    /// From bits to integers.
    Convolution { geometry: Geometry, words: usize, weights: Vec<u64> },
    /// From bits to integers.
    Dense { inputs: usize, words: usize, weights: Vec<u64> },
    /// From integers to integers.
    MaxPool { from: Shape, to: Shape, size: [usize; 2] },
    /// From bits to bits.
    MaxPoolBits { from: Shape, to: Shape, size: [usize; 2], words: usize },
    /// From integers to bits. `affine` is kept where the values before the sign are the feature.
    Sign { thresholds: Vec<i32>, words: usize, feature: Option<Affine> },
}

#[derive(Clone, Copy, Debug)]
struct Geometry {
    from: Shape,
    to: Shape,
    kernel: [usize; 2],
    /// Taps before the first row and the first sample.
    before: [usize; 2],
}

/// Float steps between an integer sum and the next sign, each monotone, one function a channel.
#[derive(Clone, Debug)]
struct Affine {
    scale: f32,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Bias(Vec<f32>),
    BatchNorm { beta: Vec<f32>, mean: Vec<f32>, variance: Vec<f32> },
}

impl Affine {
    fn new(scale: f32) -> Self {
        Self { scale, steps: Vec::new() }
    }

    fn apply(&self, integer: i32, channel: usize) -> f32 {
        let value = integer as f32 * self.scale;
        self.steps.iter().fold(value, |value, step| match step {
            Step::Bias(bias) => value + bias[channel],
            Step::BatchNorm { beta, mean, variance } => {
                batch_norm(value, beta[channel], mean[channel], variance[channel])
            }
        })
    }

    fn apply_all(&self, integers: &[i32], channels: usize, into: &mut Vec<f32>) {
        into.clear();
        into.extend(
            integers.iter().enumerate().map(|(at, &value)| self.apply(value, at % channels)),
        );
    }

    /// The least integer whose sign is +1, found among `-bound..=bound` by evaluating the float
    /// function itself, so that ties fall as in the float network; `bound + 1` where there is none.
    fn threshold(&self, channel: usize, bound: i32) -> i32 {
        let (mut low, mut high) = (-bound, bound + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.apply(middle, channel) >= 0.0 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

/// What flows between two stages while a network is put together.
enum Flow {
    Input,
    /// Integers of magnitude `bound` at most, and what is still to be done to them.
    Integers {
        bound: i32,
        affine: Affine,
    },
    Bits,
}

impl Network {
    /// Packs a binary network.
    ///
    /// # Errors
    /// When parameters do not fit the architecture, or the stack cannot run packed: every
    /// convolution and dense layer but the first needs a sign before it.
    pub fn new(architecture: &Architecture, parameters: &Parameters) -> Result<Self, NetworkError> {
        parameters.check(architecture)?;
        if architecture.weights != Weights::Binary {
            return Err(NetworkError::Unsupported {
                layer: 0,
                reason: "float weights cannot be packed",
            });
        }
        let shapes = architecture.shapes()?;
        let weight_counts = architecture.weight_counts()?;
        let mut products = 0usize;
        let last_sign = architecture.layers.iter().rposition(|layer| *layer == Layer::Sign);
        let mut stages = Vec::new();
        let mut flow = Flow::Input;
        let mut feature_len = 0;
        for (index, layer) in architecture.layers.iter().enumerate() {
            let (from, to) = (shapes[index], shapes[index + 1]);
            let unsupported = |reason| NetworkError::Unsupported { layer: index, reason };
            products =
                weight_counts[index].saturating_mul(to.rows * to.samples).saturating_add(products);
            if products > MAX_PRODUCTS {
                return Err(unsupported(TOO_MANY_PRODUCTS));
            }
            flow = match (layer, &parameters.layers[index], flow) {
                (Layer::Convolution { kernel, padding, .. }, Some(parameters), flow) => {
                    let before = match padding {
                        Padding::Valid => [0, 0],
                        Padding::Same => [(kernel[0] - 1) / 2, (kernel[1] - 1) / 2],
                    };
                    let geometry = Geometry { from, to, kernel: *kernel, before };
                    let taps = kernel[0] * kernel[1] * from.channels;
                    let (stage, next) = match (flow, weights_of(parameters)) {
                        (Flow::Input, weights) => (
                            Stage::FirstConvolution {
                                geometry,
                                negative: negatives(weights, taps),
                            },
                            first_sums(taps).ok_or_else(|| unsupported(TOO_MANY_TAPS))?,
                        ),
                        (Flow::Bits, weights) => (
                            Stage::Convolution {
                                geometry,
                                words: from.channels.div_ceil(64),
                                weights: pack_filters(weights, taps, from.channels),
                            },
                            (taps as i32, Affine::new(1.0)),
                        ),
                        (Flow::Integers { .. }, _) => return Err(unsupported(NEEDS_SIGN)),
                    };
                    stages.push(stage);
                    with_bias(next, parameters)
                }
                (Layer::Dense { units, .. }, Some(parameters), flow) => {
                    let inputs = from.len();
                    let (stage, next) = match (flow, weights_of(parameters)) {
                        (Flow::Input, weights) => (
                            Stage::FirstDense {
                                negative: negatives(weights, inputs),
                                units: *units,
                            },
                            first_sums(inputs).ok_or_else(|| unsupported(TOO_MANY_TAPS))?,
                        ),
                        (Flow::Bits, weights) => (
                            Stage::Dense {
                                inputs,
                                words: from.rows * from.samples * from.channels.div_ceil(64),
                                weights: pack_units(weights, from.channels),
                            },
                            (inputs as i32, Affine::new(1.0)),
                        ),
                        (Flow::Integers { .. }, _) => return Err(unsupported(NEEDS_SIGN)),
                    };
                    stages.push(stage);
                    with_bias(next, parameters)
                }
                // The largest integer has the largest value after any monotone step, so pooling
                // comes first whatever the order of the layers.
                (Layer::MaxPool { size }, _, flow @ Flow::Integers { .. }) => {
                    stages.push(Stage::MaxPool { from, to, size: *size });
                    flow
                }
                (Layer::MaxPool { size }, _, Flow::Bits) => {
                    let words = from.channels.div_ceil(64);
                    stages.push(Stage::MaxPoolBits { from, to, size: *size, words });
                    Flow::Bits
                }
                (
                    Layer::BatchNorm,
                    Some(LayerParameters::BatchNorm { beta, mean, variance }),
                    Flow::Integers { bound, mut affine },
                ) => {
                    affine.steps.push(Step::BatchNorm {
                        beta: beta.clone(),
                        mean: mean.clone(),
                        variance: variance.clone(),
                    });
                    Flow::Integers { bound, affine }
                }
                (Layer::Sign, _, Flow::Integers { bound, affine }) => {
                    let thresholds =
                        (0..to.channels).map(|channel| affine.threshold(channel, bound)).collect();
                    let is_feature = last_sign == Some(index);
                    if is_feature {
                        feature_len = to.len();
                    }
                    stages.push(Stage::Sign {
                        thresholds,
                        words: to.channels.div_ceil(64),
                        feature: is_feature.then_some(affine),
                    });
                    Flow::Bits
                }
                (Layer::Tanh, ..) => return Err(unsupported("tanh cannot be packed")),
                _ => {
                    return Err(unsupported(NEEDS_SUMS));
                }
            };
        }
        match flow {
            Flow::Integers { affine, .. } => {
                Ok(Self { input_len: shapes[0].len(), stages, output: affine, feature_len })
            }
            _ => Err(NetworkError::Unsupported {
                layer: architecture.layers.len() - 1,
                reason: "the network ends before a dense layer",
            }),
        }
    }

    /// Values of one window.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Values of the feature that templates are made of.
    pub fn feature_len(&self) -> usize {
        self.feature_len
    }

    /// Runs one window: rows x samples fixed-point values, row by row.
    ///
    /// # Errors
    /// When the window is of another length.
    pub fn run<'a>(
        &self,
        values: &[i16],
        scratch: &'a mut Scratch,
    ) -> Result<Output<'a>, NetworkError> {
        if values.len() != self.input_len {
            return Err(NetworkError::InputLength { length: values.len(), needed: self.input_len });
        }
        scratch.feature.clear();
        for stage in &self.stages {
            stage.run(values, scratch);
        }
        let classes = scratch.integers.len();
        self.output.apply_all(&scratch.integers, classes, &mut scratch.logits);
        Ok(Output { feature: &scratch.feature, logits: &scratch.logits })
    }
}

const NEEDS_SIGN: &str = "packed layers read signs: put a sign before this one";
const NEEDS_SUMS: &str = "packed, it must stand between a convolution or dense layer and its sign";
const TOO_MANY_PRODUCTS: &str = "with the layers before it, over 2^31 products in one window";
const TOO_MANY_TAPS: &str = "a filter of the first layer sees more than 512 values";

impl Stage {
    /// Reads and replaces what the scratch holds.
    fn run(&self, input: &[i16], scratch: &mut Scratch) {
        let Scratch { integers, bits, feature, .. } = scratch;
        match self {
            Self::FirstConvolution { geometry, negative } => {
                let filters = geometry.to.channels;
                integers.clear();
                integers.resize(geometry.to.len(), 0);
                for (position, sums) in integers.chunks_exact_mut(filters).enumerate() {
                    geometry.for_each_tap(position, |tap, source| {
                        let negative = &negative[tap * filters..][..filters];
                        kernels::add_signed(sums, i32::from(input[source]), negative);
                    });
                }
            }
            Self::FirstDense { negative, units } => {
                integers.clear();
                integers.resize(*units, 0);
                for (&value, negative) in input.iter().zip(negative.chunks_exact(*units)) {
                    kernels::add_signed(integers, i32::from(value), negative);
                }
            }
            Self::Convolution { geometry, words, weights } => {
                let filters = geometry.to.channels;
                integers.clear();
                integers.resize(geometry.to.len(), 0);
                for (position, sums) in integers.chunks_exact_mut(filters).enumerate() {
                    let mut taps = 0;
                    geometry.for_each_tap(position, |tap, source| {
                        taps += 1;
                        for word in 0..*words {
                            let weights = &weights[(tap * words + word) * filters..][..filters];
                            kernels::add_mismatches(sums, bits[source * words + word], weights);
                        }
                    });
                    let inputs = taps * geometry.from.channels as i32;
                    sums.iter_mut().for_each(|sum| *sum = inputs - 2 * *sum);
                }
            }
            Self::Dense { inputs, words, weights } => {
                integers.clear();
                integers.extend(
                    weights
                        .chunks_exact(*words)
                        .map(|weights| *inputs as i32 - 2 * kernels::mismatches(bits, weights)),
                );
            }
            Self::MaxPool { from, to, size } => {
                pool_in_place(integers, *from, *to, *size, to.channels, i32::max);
            }
            Self::MaxPoolBits { from, to, size, words } => {
                pool_in_place(bits, *from, *to, *size, *words, |a, b| a | b);
            }
            Self::Sign { thresholds, words, feature: affine } => {
                let channels = thresholds.len();
                bits.clear();
                bits.resize(integers.len() / channels * words, 0);
                let positions = bits.chunks_exact_mut(*words).zip(integers.chunks_exact(channels));
                for (words, integers) in positions {
                    kernels::pack(integers, thresholds, words);
                }
                if let Some(affine) = affine {
                    affine.apply_all(integers, channels, feature);
                }
            }
        }
    }
}

impl Geometry {
    /// Calls `visit` with each tap of the kernel that falls on the input at an output position,
    /// and the input position it falls on.
    fn for_each_tap(&self, position: usize, mut visit: impl FnMut(usize, usize)) {
        let (row, sample) = (position / self.to.samples, position % self.to.samples);
        for kernel_row in 0..self.kernel[0] {
            // Taps before an edge wrap round to a huge number, past the other edge.
            let from_row = (row + kernel_row).wrapping_sub(self.before[0]);
            if from_row >= self.from.rows {
                continue;
            }
            for kernel_sample in 0..self.kernel[1] {
                let from_sample = (sample + kernel_sample).wrapping_sub(self.before[1]);
                if from_sample < self.from.samples {
                    let tap = kernel_row * self.kernel[1] + kernel_sample;
                    visit(tap, from_row * self.from.samples + from_sample);
                }
            }
        }
    }
}

/// Combines each block of positions, `width` values each, into one.
fn pool_in_place<T: Copy>(
    values: &mut Vec<T>,
    from: Shape,
    to: Shape,
    size: [usize; 2],
    width: usize,
    combine: impl Fn(T, T) -> T,
) {
    for row in 0..to.rows {
        for sample in 0..to.samples {
            // Outputs never overtake the block that they are made from.
            let target = (row * to.samples + sample) * width;
            let first = (row * size[0] * from.samples + sample * size[1]) * width;
            values.copy_within(first..first + width, target);
            for block_row in 0..size[0] {
                for block_sample in usize::from(block_row == 0)..size[1] {
                    let source = first + (block_row * from.samples + block_sample) * width;
                    let (done, rest) = values.split_at_mut(source);
                    let pairs = done[target..target + width].iter_mut().zip(&rest[..width]);
                    pairs.for_each(|(pooled, &value)| *pooled = combine(*pooled, value));
                }
            }
        }
    }
    values.truncate(to.rows * to.samples * width);
}

fn weights_of(parameters: &LayerParameters) -> &[f32] {
    match parameters {
        LayerParameters::Weights { weights, .. } => weights,
        LayerParameters::BatchNorm { .. } => &[],
    }
}

fn with_bias((bound, mut affine): (i32, Affine), parameters: &LayerParameters) -> Flow {
    if let LayerParameters::Weights { bias: Some(bias), .. } = parameters {
        affine.steps.push(Step::Bias(bias.clone()));
    }
    Flow::Integers { bound, affine }
}

/// Largest sum of the first layer, in fixed point.
fn first_sums(taps: usize) -> Option<(i32, Affine)> {
    let scale = 1.0 / (1 << INPUT_FRACTION_BITS) as f32;
    (taps <= MAX_FIRST_LAYER_TAPS).then(|| (taps as i32 * (1 << 15), Affine::new(scale)))
}

/// `[filter][tap]` weights to `[tap][filter]` masks, -1 for a weight of -1.
fn negatives(weights: &[f32], taps: usize) -> Vec<i32> {
    let filters = weights.len() / taps;
    (0..weights.len())
        .map(|at| -i32::from(weights[at % filters * taps + at / filters] < 0.0))
        .collect()
}

/// `[filter][tap][channel]` weights to `[tap][word][filter]` words.
fn pack_filters(weights: &[f32], taps: usize, channels: usize) -> Vec<u64> {
    let filters = weights.len() / taps;
    let words = channels.div_ceil(64);
    let mut packed = vec![0; taps / channels * words * filters];
    for (filter, weights) in weights.chunks_exact(taps).enumerate() {
        for (tap, weights) in weights.chunks_exact(channels).enumerate() {
            for (channel, &weight) in weights.iter().enumerate() {
                let at = (tap * words + channel / 64) * filters + filter;
                packed[at] |= u64::from(weight > 0.0) << (channel % 64);
            }
        }
    }
    packed
}

/// `[unit][position][channel]` weights to `[unit][position][word]` words.
fn pack_units(weights: &[f32], channels: usize) -> Vec<u64> {
    weights
        .chunks_exact(channels)
        .flat_map(|weights| weights.chunks(64))
        .map(|weights| {
            weights
                .iter()
                .enumerate()
                .fold(0, |word, (bit, &weight)| word | u64::from(weight > 0.0) << bit)
        })
        .collect()
}

#[cfg(test)]
mod tests;

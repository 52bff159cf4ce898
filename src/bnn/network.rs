//! A binary network, packed and ready to run.

mod stage;

use super::kernels::Kernels;
use super::parameters::{batch_norm, deviation, normaliser};
use super::{Architecture, Layer, LayerParameters, NetworkError, Parameters, Weights};
use stage::{Geometry, Stage};

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
    /// Turns the last stage's integers into outputs.
    head: Head,
    feature_len: usize,
}

/// Working memory of [`Network::run`]; one a thread, for any network. It grows at a network's
/// first run; later runs allocate nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    integers: Vec<i32>,
    bits: Vec<u64>,
    /// Bits that a stage makes from bits, before they take their place.
    next_bits: Vec<u64>,
    feature: Vec<f32>,
    logits: Vec<f32>,
}

/// What a network says of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output<'a> {
    /// Real values before the last sign, or those whose direction the last layer reads: what
    /// templates are made of. Empty for a network without either.
    pub feature: &'a [f32],
    /// One value a class, the larger the likelier.
    pub logits: &'a [f32],
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
    BatchNorm { beta: Vec<f32>, mean: Vec<f32>, deviation: Vec<f32> },
}

impl Step {
    #[inline]
    fn apply(&self, value: f32, channel: usize) -> f32 {
        match self {
            Self::Bias(bias) => value + bias[channel],
            Self::BatchNorm { beta, mean, deviation } => {
                batch_norm(value, beta[channel], mean[channel], deviation[channel])
            }
        }
    }
}

impl Affine {
    fn new(scale: f32) -> Self {
        Self { scale, steps: Vec::new() }
    }

    fn apply(&self, integer: i32, channel: usize) -> f32 {
        let value = integer as f32 * self.scale;
        self.steps.iter().fold(value, |value, step| step.apply(value, channel))
    }

    fn apply_all(&self, integers: &[i32], channels: usize, into: &mut Vec<f32>) {
        into.clear();
        into.extend(integers.iter().map(|&integer| integer as f32 * self.scale));
        for step in &self.steps {
            for values in into.chunks_exact_mut(channels) {
                for (channel, value) in values.iter_mut().enumerate() {
                    *value = step.apply(*value, channel);
                }
            }
        }
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

/// The end of a network.
#[derive(Debug)]
enum Head {
    /// The last layer's integers are the outputs, but for these steps.
    Sums(Affine),
    /// The integers are the feature, of whose direction a last dense layer makes the outputs. Its
    /// weights are `[value][class]`.
    Direction { feature: Affine, weights: Vec<f32>, bias: Vec<f32> },
}

impl Head {
    /// From the last stage's integers to logits, and to the feature where it is made here.
    fn run(&self, scratch: &mut Scratch) {
        let Scratch { integers, feature, logits, .. } = scratch;
        match self {
            Self::Sums(affine) => affine.apply_all(integers, integers.len(), logits),
            Self::Direction { feature: affine, weights, bias } => {
                affine.apply_all(integers, integers.len(), feature);
                let scale = normaliser(feature);
                logits.clear();
                logits.resize(bias.len(), 0.0);
                for (value, weights) in feature.iter().zip(weights.chunks_exact(bias.len())) {
                    let value = value * scale;
                    logits.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
                }
                logits.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
        }
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
    /// The direction of what the steps make of integers.
    Direction(Affine),
}

impl Network {
    /// Packs a binary network.
    ///
    /// # Errors
    /// When parameters do not fit the architecture, or the stack cannot run packed: every
    /// convolution and dense layer but the first needs a sign before it. When the environment
    /// asks for kernels that cannot run here.
    pub fn new(architecture: &Architecture, parameters: &Parameters) -> Result<Self, NetworkError> {
        Self::with_kernels(architecture, parameters, Kernels::chosen()?)
    }

    /// Packs a binary network for the given kernels. They differ in speed alone.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_kernels(
        architecture: &Architecture,
        parameters: &Parameters,
        kernels: Kernels,
    ) -> Result<Self, NetworkError> {
        let mut network = Self::layer_by_layer(architecture, parameters)?;
        network.stages = stage::with_kernels(&network.stages, kernels);
        Ok(network)
    }

    fn layer_by_layer(
        architecture: &Architecture,
        parameters: &Parameters,
    ) -> Result<Self, NetworkError> {
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
        // A direction, where there is one, is the feature.
        let has_direction = architecture.layers.contains(&Layer::Normalise);
        let last_sign = architecture.layers.iter().rposition(|layer| *layer == Layer::Sign);
        let last_sign = last_sign.filter(|_| !has_direction);
        let mut stages = Vec::new();
        let mut flow = Flow::Input;
        let mut feature_len = 0;
        let mut head = None;
        for (index, layer) in architecture.layers.iter().enumerate() {
            let (from, to) = (shapes[index], shapes[index + 1]);
            let unsupported = |reason| NetworkError::Unsupported { layer: index, reason };
            products =
                weight_counts[index].saturating_mul(to.rows * to.samples).saturating_add(products);
            if products > MAX_PRODUCTS {
                return Err(unsupported(TOO_MANY_PRODUCTS));
            }
            flow = match (layer, &parameters.layers[index], flow) {
                (Layer::Dense { .. }, Some(parameters), Flow::Direction(feature)) => {
                    if index + 1 < architecture.layers.len() {
                        return Err(unsupported(ENDS_WITH_CLASSES));
                    }
                    let LayerParameters::Weights { weights, bias } = parameters else {
                        return Err(unsupported(NEEDS_SUMS));
                    };
                    head = Some(Head::Direction {
                        feature,
                        weights: (0..weights.len())
                            .map(|at| weights[at % to.channels * from.len() + at / to.channels])
                            .collect(),
                        bias: bias.clone().unwrap_or_else(|| vec![0.0; to.channels]),
                    });
                    Flow::Bits
                }
                (
                    layer @ (Layer::Convolution { .. } | Layer::Dense { .. }),
                    Some(parameters),
                    flow,
                ) => {
                    let geometry = Geometry::new(layer, from, to);
                    let taps = weight_counts[index] / to.channels;
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
                                weights: pack_filters(weights, taps, from.channels),
                            },
                            (taps as i32, Affine::new(1.0)),
                        ),
                        _ => return Err(unsupported(NEEDS_SIGN)),
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
                        deviation: variance.iter().copied().map(deviation).collect(),
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
                (Layer::Normalise, _, Flow::Integers { affine, .. }) => {
                    feature_len = to.len();
                    Flow::Direction(affine)
                }
                (Layer::Tanh, ..) => return Err(unsupported("tanh cannot be packed")),
                _ => {
                    return Err(unsupported(NEEDS_SUMS));
                }
            };
        }
        let head = match (head, flow) {
            (Some(head), _) => head,
            (None, Flow::Integers { affine, .. }) => Head::Sums(affine),
            _ => {
                return Err(NetworkError::Unsupported {
                    layer: architecture.layers.len() - 1,
                    reason: "the network ends before a dense layer",
                });
            }
        };
        Ok(Self { input_len: shapes[0].len(), stages, head, feature_len })
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
        self.run_showing(values, usize::MAX, &mut Vec::new(), scratch)
    }

    /// Runs one window, and gives the signs that one of the layers reads, for [`unpack`]. So many
    /// layers with weights follow that layer; where it reads the window itself, there are none.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_showing<'a>(
        &self,
        values: &[i16],
        layers_after: usize,
        signs: &mut Vec<u64>,
        scratch: &'a mut Scratch,
    ) -> Result<Output<'a>, NetworkError> {
        if values.len() != self.input_len {
            return Err(NetworkError::InputLength { length: values.len(), needed: self.input_len });
        }
        scratch.feature.clear();
        signs.clear();
        let mut with_weights =
            (0..self.stages.len()).rev().filter(|&at| self.stages[at].has_weights());
        // The head of a direction is no stage, and has the last weights.
        let of_head = usize::from(matches!(self.head, Head::Direction { .. }));
        let shown = with_weights.nth(layers_after - of_head.min(layers_after)).unwrap_or(0);
        for (at, stage) in self.stages.iter().enumerate() {
            if at == shown && at > 0 {
                signs.extend(&scratch.bits);
            }
            stage.run(values, scratch);
        }
        self.head.run(scratch);
        Ok(Output { feature: &scratch.feature, logits: &scratch.logits })
    }
}

/// Signs as +1 and -1, in the order of rows, samples, channels.
pub fn unpack(signs: &[u64], channels: usize, into: &mut [f32]) {
    let positions = signs.chunks_exact(channels.div_ceil(64));
    for (words, values) in positions.zip(into.chunks_exact_mut(channels)) {
        for (&word, values) in words.iter().zip(values.chunks_mut(64)) {
            for (bit, value) in values.iter_mut().enumerate() {
                // The sign bit of a float.
                *value = f32::from_bits(1f32.to_bits() | ((!word >> bit) as u32 & 1) << 31);
            }
        }
    }
}

const ENDS_WITH_CLASSES: &str = "packed, only the last layer can read a direction";
const NEEDS_SIGN: &str = "packed layers read signs: put a sign before this one";
const NEEDS_SUMS: &str = "packed, it must stand between a convolution or dense layer and its sign";
const TOO_MANY_PRODUCTS: &str = "with the layers before it, over 2^31 products in one window";
const TOO_MANY_TAPS: &str = "a filter of the first layer sees more than 512 values";

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

#[cfg(test)]
mod tests;

//! A binary network, packed and ready to run.

mod stage;

use super::kernels::Kernels;
use super::parameters::{batch_norm, deviation, normaliser, time_share};
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
    /// What a layer makes from reals, before they take their place.
    reals: Vec<f32>,
}

/// What a network says of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output<'a> {
    /// What templates are made of: the output of a deflation, or the real values whose direction the
    /// last layer reads, or those before the last sign. Empty for a network without any of these.
    pub feature: &'a [f32],
    /// One value a class, the larger the likelier. Empty for a network that ends with a deflation.
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
    Scale(Vec<f32>),
    Bias(Vec<f32>),
    BatchNorm { beta: Vec<f32>, mean: Vec<f32>, deviation: Vec<f32> },
}

impl Step {
    #[inline]
    fn apply(&self, value: f32, channel: usize) -> f32 {
        match self {
            Self::Scale(scale) => value * scale[channel],
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
    /// The integers become reals, so many `channels` a position, which the layers left read.
    Reals { channels: usize, affine: Affine, layers: Vec<RealLayer> },
}

/// A layer that reads reals.
#[derive(Debug)]
enum RealLayer {
    /// Weights are `[value][unit]`, and there is a bias for each unit.
    Dense {
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    BatchNorm(Step),
    /// What it reads is the feature.
    Normalise,
    /// The last layer. What it gives is the feature.
    Deflation(Deflation),
}

/// A deflation with its directions laid out for both products.
#[derive(Debug)]
struct Deflation {
    centre: Vec<f32>,
    count: usize,
    /// `[value][direction]`
    by_value: Vec<f32>,
    /// `[direction][value]`
    by_direction: Vec<f32>,
}

impl Deflation {
    fn new(centre: &[f32], directions: &[f32]) -> Self {
        let (values, count) = (centre.len(), directions.len() / centre.len());
        let by_value = (0..directions.len()).map(|at| directions[at % count * values + at / count]);
        Self {
            centre: centre.to_vec(),
            count,
            by_value: by_value.collect(),
            by_direction: directions.to_vec(),
        }
    }

    /// Replaces `values`, with `spare` to work in.
    fn run(&self, values: &mut [f32], spare: &mut Vec<f32>) {
        values.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
        spare.clear();
        spare.resize(self.count + values.len(), 0.0);
        let (along, removed) = spare.split_at_mut(self.count);
        add_products(values, &self.by_value, along);
        add_products(along, &self.by_direction, removed);
        values.iter_mut().zip(removed).for_each(|(value, removed)| *value -= *removed);
    }
}

impl Head {
    /// From the last stage's integers to logits, and to the feature where it is made here. Shows what
    /// that layer reads which so many with weights follow, where it is here.
    fn run(&self, scratch: &mut Scratch, layers_after: usize, shown: &mut Vec<f32>) {
        let Scratch { integers, feature, logits, reals, .. } = scratch;
        match self {
            Self::Sums(affine) => affine.apply_all(integers, integers.len(), logits),
            Self::Reals { channels, affine, layers } => {
                affine.apply_all(integers, *channels, logits);
                let mut dense_left = self.dense_layers();
                for layer in layers {
                    if matches!(layer, RealLayer::Dense { .. }) {
                        dense_left -= 1;
                        if dense_left == layers_after {
                            shown.clone_from(logits);
                        }
                    }
                    layer.run(logits, reals, feature);
                }
            }
        }
    }

    /// Layers with weights that it has.
    fn dense_layers(&self) -> usize {
        match self {
            Self::Sums(_) => 0,
            Self::Reals { layers, .. } => {
                layers.iter().filter(|layer| matches!(layer, RealLayer::Dense { .. })).count()
            }
        }
    }
}

/// Values that a layer of reals multiplies at a time.
const REALS_AT_A_TIME: usize = 8;

impl RealLayer {
    /// Replaces `values`, with `spare` to work in.
    fn run(&self, values: &mut Vec<f32>, spare: &mut Vec<f32>, feature: &mut Vec<f32>) {
        match self {
            Self::Dense { weights, bias } => {
                let units = bias.len();
                spare.clear();
                spare.resize(units, 0.0);
                add_products(values, weights, spare);
                spare.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
                values.clone_from(spare);
            }
            Self::BatchNorm(step) => {
                for (channel, value) in values.iter_mut().enumerate() {
                    *value = step.apply(*value, channel);
                }
            }
            Self::Normalise => {
                feature.clone_from(values);
                let scale = normaliser(values);
                values.iter_mut().for_each(|value| *value *= scale);
            }
            Self::Deflation(deflation) => {
                deflation.run(values, spare);
                feature.clone_from(values);
                values.clear();
            }
        }
    }
}

/// Adds to each sum the products of values and weights, which are `[value][sum]`.
fn add_products(values: &[f32], weights: &[f32], sums: &mut [f32]) {
    let units = sums.len();
    // Some values at a time, so that sums are loaded and stored less often. Each is still added in
    // its turn, as in the reference.
    let blocks = values.chunks(REALS_AT_A_TIME);
    for (values, weights) in blocks.zip(weights.chunks(REALS_AT_A_TIME * units)) {
        if let Ok(values) = <[f32; REALS_AT_A_TIME]>::try_from(values) {
            let rows: [&[f32]; REALS_AT_A_TIME] =
                std::array::from_fn(|row| &weights[row * units..][..units]);
            let sums = &mut sums[..units];
            for unit in 0..units {
                let mut sum = sums[unit];
                for (value, row) in values.iter().zip(rows) {
                    sum += value * row[unit];
                }
                sums[unit] = sum;
            }
            continue;
        }
        for (value, weights) in values.iter().zip(weights.chunks_exact(units)) {
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
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
    /// Integers that are means once these steps are done to them.
    Means(Affine),
    /// What so many channels of integers are after these steps, and layers that read it.
    Reals(usize, Affine, Vec<RealLayer>),
}

impl Flow {
    /// Reals of integers or means, of so many channels.
    ///
    /// # Panics
    /// When there are none.
    fn reals(self, channels: usize) -> (usize, Affine, Vec<RealLayer>) {
        match self {
            Self::Integers { affine, .. } | Self::Means(affine) => (channels, affine, Vec::new()),
            Self::Reals(channels, affine, layers) => (channels, affine, layers),
            Self::Input | Self::Bits => unreachable!("only what is real is asked for reals"),
        }
    }

    /// `None` where there is nothing that a step can be done to.
    fn with_step(mut self, step: Step) -> Option<Self> {
        match &mut self {
            Self::Integers { affine, .. } | Self::Means(affine) => affine.steps.push(step),
            Self::Reals(_, _, layers) => layers.push(RealLayer::BatchNorm(step)),
            Self::Input | Self::Bits => return None,
        }
        Some(self)
    }
}

impl Network {
    /// Packs a binary network.
    ///
    /// # Errors
    /// When parameters do not fit the architecture, or the stack cannot run packed: every
    /// convolution and dense layer but the first needs a sign before it.
    pub fn new(architecture: &Architecture, parameters: &Parameters) -> Result<Self, NetworkError> {
        Self::with_kernels(architecture, parameters, Kernels::preferred())
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
        let has_direction = architecture
            .layers
            .iter()
            .any(|layer| matches!(layer, Layer::Normalise | Layer::Deflation { .. }));
        let last_sign = architecture.layers.iter().rposition(|layer| *layer == Layer::Sign);
        let last_sign = last_sign.filter(|_| !has_direction);
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
                (
                    Layer::Dense { .. } | Layer::Projection { .. },
                    Some(LayerParameters::Weights { weights, bias }),
                    flow @ (Flow::Means(_) | Flow::Reals(..)),
                ) => {
                    let (channels, affine, mut layers) = flow.reals(from.channels);
                    let weight = |at| weights[at % to.channels * from.len() + at / to.channels];
                    layers.push(RealLayer::Dense {
                        weights: (0..weights.len()).map(weight).collect(),
                        bias: bias.clone().unwrap_or_else(|| vec![0.0; to.channels]),
                    });
                    Flow::Reals(channels, affine, layers)
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
                    flow,
                ) => {
                    let step = Step::BatchNorm {
                        beta: beta.clone(),
                        mean: mean.clone(),
                        deviation: variance.iter().copied().map(deviation).collect(),
                    };
                    flow.with_step(step).ok_or_else(|| unsupported(NEEDS_SUMS))?
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
                (Layer::Mean, _, Flow::Bits) => {
                    stages.push(Stage::Mean { from, words: from.channels.div_ceil(64) });
                    Flow::Means(Affine::new(time_share(from.samples)))
                }
                (Layer::Autocorrelation { lags }, _, Flow::Bits) => {
                    let words = from.channels.div_ceil(64);
                    stages.push(Stage::Autocorrelation { from, words, lags: *lags });
                    let counts = [0, lags[0], lags[1], lags[2]].map(|lag| from.samples - lag);
                    let series = from.rows * from.channels;
                    let scales = counts.iter().flat_map(|&count| vec![time_share(count); series]);
                    let mut affine = Affine::new(1.0);
                    affine.steps.push(Step::Scale(scales.collect()));
                    Flow::Means(affine)
                }
                (
                    Layer::Deflation { .. },
                    Some(LayerParameters::Deflation { centre, directions }),
                    flow @ (Flow::Integers { .. } | Flow::Means(_) | Flow::Reals(..)),
                ) => {
                    feature_len = to.len();
                    let (channels, affine, mut layers) = flow.reals(from.channels);
                    layers.push(RealLayer::Deflation(Deflation::new(centre, directions)));
                    Flow::Reals(channels, affine, layers)
                }
                (
                    Layer::Normalise,
                    _,
                    flow @ (Flow::Integers { .. } | Flow::Means(_) | Flow::Reals(..)),
                ) => {
                    feature_len = to.len();
                    let (channels, affine, mut layers) = flow.reals(from.channels);
                    layers.push(RealLayer::Normalise);
                    Flow::Reals(channels, affine, layers)
                }
                (Layer::Tanh, ..) => return Err(unsupported("tanh cannot be packed")),
                _ => {
                    return Err(unsupported(NEEDS_SUMS));
                }
            };
        }
        let has_end = matches!(
            architecture.layers.last(),
            Some(Layer::Dense { .. } | Layer::Deflation { .. })
        );
        let head = match flow {
            Flow::Reals(channels, affine, layers) if has_end => {
                Head::Reals { channels, affine, layers }
            }
            Flow::Integers { affine, .. } => Head::Sums(affine),
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

    /// Runs one window, and gives the values that one of the layers reads. So many layers with weights
    /// follow that layer; where it reads the window itself, there are no values.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_showing<'a>(
        &self,
        values: &[i16],
        layers_after: usize,
        shown: &mut Vec<f32>,
        scratch: &'a mut Scratch,
    ) -> Result<Output<'a>, NetworkError> {
        if values.len() != self.input_len {
            return Err(NetworkError::InputLength { length: values.len(), needed: self.input_len });
        }
        scratch.feature.clear();
        shown.clear();
        let mut with_weights =
            (0..self.stages.len()).rev().filter(|&at| self.stages[at].has_weights());
        let stages_after = layers_after.checked_sub(self.head.dense_layers());
        let at_shown = stages_after.map(|after| with_weights.nth(after).unwrap_or(0));
        for (at, stage) in self.stages.iter().enumerate() {
            if at > 0 && at_shown == Some(at) {
                unpack(&scratch.bits, stage.channels_read(), shown);
            }
            stage.run(values, scratch);
        }
        self.head.run(scratch, layers_after, shown);
        Ok(Output { feature: &scratch.feature, logits: &scratch.logits })
    }
}

/// Signs as +1 and -1, in the order of rows, samples, channels.
fn unpack(signs: &[u64], channels: usize, into: &mut Vec<f32>) {
    for words in signs.chunks_exact(channels.div_ceil(64)) {
        for (at, word) in words.iter().enumerate() {
            // The sign bit of a float.
            let value = |bit| f32::from_bits(1f32.to_bits() | ((!word >> bit) as u32 & 1) << 31);
            into.extend((0..(channels - 64 * at).min(64)).map(value));
        }
    }
}

const NEEDS_SIGN: &str = "packed layers read signs: put a sign before this one";
const NEEDS_SUMS: &str = "packed, it must stand between a convolution or dense layer and its sign";
const TOO_MANY_PRODUCTS: &str = "with the layers before it, over 2^31 products in one window";
const TOO_MANY_TAPS: &str = "a filter of the first layer sees more than 512 values";

fn weights_of(parameters: &LayerParameters) -> &[f32] {
    match parameters {
        LayerParameters::Weights { weights, .. } => weights,
        LayerParameters::BatchNorm { .. } | LayerParameters::Deflation { .. } => &[],
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

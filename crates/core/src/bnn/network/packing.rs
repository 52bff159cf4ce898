//! Layers and parameters to stages and a head.

use super::super::kernels::{Kernels, Matrix};
use super::super::parameters::time_share;
use super::super::{
    Architecture, Layer, LayerParameters, NetworkError, Parameters, Shape, Weights,
};
use super::affine::{Affine, Step};
use super::geometry::Geometry;
use super::head::{Deflation, Head, RealLayer, Reals};
use super::stage::Stage;
use super::{INPUT_FRACTION_BITS, Network};

/// Most inputs of one filter of the first layer. Its sums are then exact in a float too.
const MAX_FIRST_LAYER_TAPS: usize = 512;

/// Most products of a whole network. More would keep a caller waiting for seconds.
const MAX_PRODUCTS: usize = 1 << 31;

pub(super) const NEEDS_SIGN: &str = "packed layers read signs: put a sign before this one";
pub(super) const NEEDS_SUMS: &str =
    "a packed network can have it only between a convolution or dense layer and its sign";
pub(super) const TOO_MANY_PRODUCTS: &str =
    "up to this layer, one window takes more than 2^31 products";
pub(super) const TOO_MANY_TAPS: &str = "a filter of the first layer reads more than 512 values";

/// Why a layer cannot run packed.
type Reason = &'static str;

/// Packs a network, one stage per layer.
pub(super) fn pack(
    architecture: &Architecture,
    parameters: &Parameters,
    kernels: Kernels,
) -> Result<Network, NetworkError> {
    parameters.check(architecture)?;
    let unsupported = |layer, reason| NetworkError::Unsupported { layer, reason };
    if architecture.weights != Weights::Binary {
        return Err(unsupported(0, "float weights cannot be packed"));
    }
    let mut packing = Packing {
        architecture,
        parameters,
        kernels,
        shapes: architecture.shapes()?,
        weight_counts: architecture.weight_counts()?,
        feature_sign: feature_sign(architecture),
        products: 0,
        stages: Vec::new(),
        feature_len: 0,
    };
    let mut flow = Flow::Input;
    for index in 0..architecture.layers.len() {
        flow = packing.add_layer(index, flow).map_err(|reason| unsupported(index, reason))?;
    }
    let head = match flow {
        Flow::Integers { affine, .. } => Head::Sums(affine),
        Flow::Reals(reals) => Head::Reals(reals),
        Flow::Input | Flow::Bits | Flow::Means(_) => {
            unreachable!("`shapes` found a dense layer or a deflation at the end")
        }
    };
    let Packing { shapes, stages, feature_len, .. } = packing;
    Ok(Network { input_len: shapes[0].len(), stages, head, feature_len })
}

/// The last sign, unless the feature is a direction.
fn feature_sign(architecture: &Architecture) -> Option<usize> {
    let is_direction = |layer: &Layer| matches!(layer, Layer::Normalise | Layer::Deflation { .. });
    match architecture.layers.iter().any(is_direction) {
        true => None,
        false => architecture.layers.iter().rposition(|layer| *layer == Layer::Sign),
    }
}

/// The values between two layers.
enum Flow {
    /// The window itself.
    Input,
    /// Integers from `-bound` to `bound`, and the float steps that are still to come.
    Integers {
        bound: i32,
        affine: Affine,
    },
    Bits,
    /// Integers that become means by these steps.
    Means(Affine),
    Reals(Reals),
}

impl Flow {
    /// Integers or means with this many channels become reals. `None` for the window and bits.
    fn into_reals(self, channels: usize) -> Option<Reals> {
        match self {
            Self::Integers { affine, .. } | Self::Means(affine) => {
                Some(Reals { channels, affine, layers: Vec::new() })
            }
            Self::Reals(reals) => Some(reals),
            Self::Input | Self::Bits => None,
        }
    }

    /// Adds a float step. `None` for the window and bits.
    fn with_step(mut self, step: Step) -> Option<Self> {
        match &mut self {
            Self::Integers { affine, .. } | Self::Means(affine) => affine.steps.push(step),
            Self::Reals(reals) => reals.layers.push(RealLayer::BatchNorm(step)),
            Self::Input | Self::Bits => return None,
        }
        Some(self)
    }
}

/// A network while its layers are added.
struct Packing<'a> {
    architecture: &'a Architecture,
    parameters: &'a Parameters,
    kernels: Kernels,
    shapes: Vec<Shape>,
    weight_counts: Vec<usize>,
    /// The sign before which the values are the feature.
    feature_sign: Option<usize>,
    /// Products of the layers so far.
    products: usize,
    stages: Vec<Stage>,
    feature_len: usize,
}

impl Packing<'_> {
    /// Adds the stage of one layer, which reads `flow`. Returns the layer's output.
    fn add_layer(&mut self, index: usize, flow: Flow) -> Result<Flow, Reason> {
        let (from, to) = (self.shapes[index], self.shapes[index + 1]);
        let products = self.weight_counts[index].saturating_mul(to.rows * to.samples);
        self.products = self.products.saturating_add(products);
        if self.products > MAX_PRODUCTS {
            return Err(TOO_MANY_PRODUCTS);
        }
        let words = from.channels.div_ceil(64);
        match (self.architecture.layers[index], &self.parameters.layers[index], flow) {
            (_, Some(LayerParameters::Weights { weights, bias }), flow) => {
                self.add_weights(index, weights, bias.as_deref(), flow)
            }
            // The largest integer has the largest value after any monotone step, so pooling comes
            // first, whatever the order of the layers.
            (Layer::MaxPool { size }, _, flow @ Flow::Integers { .. }) => {
                self.stages.push(Stage::MaxPool { from, to, size });
                Ok(flow)
            }
            (Layer::MaxPool { size }, _, Flow::Bits) => {
                self.stages.push(Stage::MaxPoolBits { from, to, size, words });
                Ok(Flow::Bits)
            }
            (_, Some(LayerParameters::BatchNorm { beta, mean, variance }), flow) => {
                flow.with_step(Step::batch_norm(beta, mean, variance)).ok_or(NEEDS_SUMS)
            }
            (Layer::Sign, _, Flow::Integers { bound, affine }) => {
                let channels = 0..to.channels;
                let thresholds = channels.map(|channel| affine.threshold(channel, bound)).collect();
                let is_feature = self.feature_sign == Some(index);
                if is_feature {
                    self.feature_len = to.len();
                }
                let feature = is_feature.then_some(affine);
                self.stages.push(Stage::Sign { thresholds, words, feature });
                Ok(Flow::Bits)
            }
            (Layer::Mean, _, Flow::Bits) => {
                self.stages.push(self.series(from, &[]));
                Ok(Flow::Means(Affine::new(time_share(from.samples))))
            }
            (Layer::Autocorrelation { lags }, _, Flow::Bits) => {
                self.stages.push(self.series(from, &lags));
                let counts = [0, lags[0], lags[1], lags[2]].map(|lag| from.samples - lag);
                let series = from.rows * from.channels;
                let scales = counts.iter().flat_map(|&count| vec![time_share(count); series]);
                let steps = vec![Step::Scale(scales.collect())];
                Ok(Flow::Means(Affine { scale: 1.0, steps }))
            }
            (_, Some(LayerParameters::Deflation { centre, directions }), flow) => {
                let deflation =
                    RealLayer::Deflation(Deflation::new(self.kernels, centre, directions));
                self.add_feature(index, deflation, flow)
            }
            (Layer::Normalise, _, flow) => self.add_feature(index, RealLayer::Normalise, flow),
            (Layer::Tanh, ..) => Err("tanh cannot be packed"),
            _ => Err(NEEDS_SUMS),
        }
    }

    /// Adds a convolution, a dense layer or a projection.
    fn add_weights(
        &mut self,
        index: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
        flow: Flow,
    ) -> Result<Flow, Reason> {
        let layer = self.architecture.layers[index];
        let (from, to) = (self.shapes[index], self.shapes[index + 1]);
        let taps = self.weight_counts[index] / to.channels;
        let (bound, mut affine) = match (layer, flow) {
            (
                Layer::Dense { .. } | Layer::Projection { .. },
                flow @ (Flow::Means(_) | Flow::Reals(_)),
            ) => {
                let mut reals = flow.into_reals(from.channels).ok_or(NEEDS_SUMS)?;
                let weight = |input, unit| weights[unit * taps + input];
                reals.layers.push(RealLayer::Dense {
                    weights: Matrix::new(self.kernels, [taps, to.channels], weight),
                    bias: bias.map_or_else(|| vec![0.0; to.channels], <[f32]>::to_vec),
                });
                return Ok(Flow::Reals(reals));
            }
            (Layer::Projection { .. }, _) => return Err(NEEDS_SUMS),
            (layer, Flow::Input) if taps <= MAX_FIRST_LAYER_TAPS => {
                let geometry = Geometry::new(&layer, from, to);
                let negative = negatives(weights, taps);
                self.stages.push(Stage::FirstConvolution { geometry, negative });
                // The largest sum, in fixed point.
                let bound = taps as i32 * (1 << 15);
                (bound, Affine::new(1.0 / (1 << INPUT_FRACTION_BITS) as f32))
            }
            (_, Flow::Input) => return Err(TOO_MANY_TAPS),
            (layer, Flow::Bits) => {
                let geometry = Geometry::new(&layer, from, to);
                let weights = pack_filters(weights, taps, from.channels);
                self.stages.push(Stage::Convolution { geometry, weights });
                (taps as i32, Affine::new(1.0))
            }
            _ => return Err(NEEDS_SIGN),
        };
        affine.steps.extend(bias.map(|bias| Step::Bias(bias.to_vec())));
        Ok(Flow::Integers { bound, affine })
    }

    fn series(&self, from: Shape, lags: &[usize]) -> Stage {
        let (kernels, words) = (self.kernels, from.channels.div_ceil(64));
        Stage::Series { kernels, from, words, lags: lags.to_vec() }
    }

    /// Adds a layer of reals that makes the feature.
    fn add_feature(&mut self, index: usize, layer: RealLayer, flow: Flow) -> Result<Flow, Reason> {
        let mut reals = flow.into_reals(self.shapes[index].channels).ok_or(NEEDS_SUMS)?;
        reals.layers.push(layer);
        self.feature_len = self.shapes[index + 1].len();
        Ok(Flow::Reals(reals))
    }
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

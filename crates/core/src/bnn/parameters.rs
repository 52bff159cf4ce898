//! Parameters of a network as plain numbers.

use super::{Architecture, ArchitectureError, Layer, Weights};

/// Added to the variance by BatchNorm, as in Keras.
pub const BATCH_NORM_EPSILON: f32 = 0.001;

/// Parameters of one layer.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerParameters {
    /// Parameters of a convolution, a dense layer or a projection.
    Weights {
        /// Order of a convolution: filter, kernel row, kernel sample, input channel. Order of a dense
        /// layer: unit, then the flattened input (row, sample, channel). Binary weights are +1 or -1.
        weights: Vec<f32>,
        /// One per filter or unit, if the architecture has a bias.
        bias: Option<Vec<f32>>,
    },
    /// Parameters of BatchNorm, one per channel.
    BatchNorm {
        /// Added after normalisation.
        beta: Vec<f32>,
        /// Subtracted before normalisation.
        mean: Vec<f32>,
        /// Not negative.
        variance: Vec<f32>,
    },
    /// Parameters of a deflation.
    Deflation {
        /// Subtracted from the input.
        centre: Vec<f32>,
        /// `V`, ordered by direction, then input value. Those of one direction are multiples of a
        /// power of two.
        directions: Vec<f32>,
    },
}

/// Parameters of a network: one entry per layer, `None` for a layer without parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Ordered like [`Architecture::layers`].
    pub layers: Vec<Option<LayerParameters>>,
}

/// Why parameters are not those of a network, or a network cannot run.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum NetworkError {
    /// The layers themselves are wrong.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Parameters are missing, not needed, or those of another kind of layer.
    #[error("layer {layer}: its parameters are not those of {kind}")]
    Kind {
        /// Position of the layer, from 0.
        layer: usize,
        /// What the architecture has there.
        kind: &'static str,
    },
    /// A list has the wrong length.
    #[error("layer {layer}: {list} has {length} values; {needed} are needed")]
    Length {
        /// Position of the layer, from 0.
        layer: usize,
        /// Name of the list.
        list: &'static str,
        /// Length of the list.
        length: usize,
        /// Length that is needed.
        needed: usize,
    },
    /// NaN, infinity, a negative variance, or a binary weight that is neither +1 nor -1.
    #[error("layer {layer}: {list}[{index}] is {value}, which is not allowed")]
    Value {
        /// Position of the layer, from 0.
        layer: usize,
        /// Name of the list.
        list: &'static str,
        /// Position in the list.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The network cannot run packed.
    #[error("layer {layer}: {reason}")]
    Unsupported {
        /// Position of the layer, from 0.
        layer: usize,
        /// Why this layer prevents it.
        reason: &'static str,
    },
    /// The input has the wrong length.
    #[error("the window has {length} values; the network reads {needed} (rows x samples)")]
    InputLength {
        /// Length of the input.
        length: usize,
        /// Length that is needed.
        needed: usize,
    },
}

impl Parameters {
    /// Checks lengths and values against an architecture.
    ///
    /// # Errors
    /// Names the first layer and list that are wrong.
    pub fn check(&self, architecture: &Architecture) -> Result<(), NetworkError> {
        let shapes = architecture.shapes()?;
        let weight_counts = architecture.weight_counts()?;
        same_length(
            architecture.layers.len(),
            "parameters",
            self.layers.len(),
            architecture.layers.len(),
        )?;
        for (index, layer) in architecture.layers.iter().enumerate() {
            let channels = shapes[index + 1].channels;
            match (layer, &self.layers[index]) {
                (
                    Layer::Convolution { bias: with_bias, .. }
                    | Layer::Dense { bias: with_bias, .. },
                    Some(LayerParameters::Weights { weights, bias }),
                ) if *with_bias == bias.is_some() => {
                    same_length(index, "weights", weights.len(), weight_counts[index])?;
                    let possible = |value: f32| match architecture.weights {
                        Weights::Binary => value.abs() == 1.0,
                        Weights::Float => value.is_finite(),
                    };
                    all(index, "weights", weights, possible)?;
                    if let Some(bias) = bias {
                        same_length(index, "bias", bias.len(), channels)?;
                        all(index, "bias", bias, f32::is_finite)?;
                    }
                }
                (
                    Layer::Projection { .. },
                    Some(LayerParameters::Weights { weights, bias: Some(bias) }),
                ) => {
                    same_length(index, "weights", weights.len(), weight_counts[index])?;
                    all_int8(index, "weights", weights, shapes[index].len())?;
                    same_length(index, "bias", bias.len(), channels)?;
                    all(index, "bias", bias, f32::is_finite)?;
                }
                (Layer::BatchNorm, Some(LayerParameters::BatchNorm { beta, mean, variance })) => {
                    for (name, list) in [("beta", beta), ("mean", mean), ("variance", variance)] {
                        same_length(index, name, list.len(), channels)?;
                        all(index, name, list, f32::is_finite)?;
                    }
                    all(index, "variance", variance, |value| value >= 0.0)?;
                }
                (
                    Layer::Deflation { .. },
                    Some(LayerParameters::Deflation { centre, directions }),
                ) => {
                    same_length(index, "directions", directions.len(), weight_counts[index])?;
                    all_int8(index, "directions", directions, channels)?;
                    same_length(index, "centre", centre.len(), channels)?;
                    all(index, "centre", centre, f32::is_finite)?;
                }
                (
                    Layer::MaxPool { .. }
                    | Layer::Autocorrelation { .. }
                    | Layer::Sign
                    | Layer::Tanh
                    | Layer::Mean
                    | Layer::Normalise,
                    None,
                ) => {}
                (layer, _) => {
                    let kind = match layer {
                        Layer::Convolution { bias: true, .. } => "a convolution with a bias",
                        Layer::Convolution { .. } => "a convolution without a bias",
                        Layer::Dense { bias: true, .. } => "a dense layer with a bias",
                        Layer::Dense { .. } => "a dense layer without a bias",
                        Layer::Projection { .. } => "a projection with a bias",
                        Layer::Deflation { .. } => "a deflation",
                        Layer::BatchNorm => "BatchNorm",
                        _ => "a layer that has none",
                    };
                    return Err(NetworkError::Kind { layer: index, kind });
                }
            }
        }
        Ok(())
    }
}

fn same_length(
    layer: usize,
    list: &'static str,
    length: usize,
    needed: usize,
) -> Result<(), NetworkError> {
    if length == needed {
        Ok(())
    } else {
        Err(NetworkError::Length { layer, list, length, needed })
    }
}

fn all(
    layer: usize,
    list: &'static str,
    values: &[f32],
    possible: impl Fn(f32) -> bool,
) -> Result<(), NetworkError> {
    match values.iter().position(|&value| !possible(value)) {
        Some(at) => Err(NetworkError::Value { layer, list, index: at, value: values[at] }),
        None => Ok(()),
    }
}

/// Checks that values are finite and, in each row of `length`, multiples of its step.
fn all_int8(
    layer: usize,
    list: &'static str,
    values: &[f32],
    length: usize,
) -> Result<(), NetworkError> {
    all(layer, list, values, f32::is_finite)?;
    for (number, row) in values.chunks_exact(length).enumerate() {
        let step = int8_step(row);
        if let Some(at) = row.iter().position(|value| (value / step).fract() != 0.0) {
            let index = number * length + at;
            return Err(NetworkError::Value { layer, list, index, value: row[at] });
        }
    }
    Ok(())
}

/// BatchNorm of one value. There is only this definition, so that ties fall the same way everywhere.
pub(super) fn batch_norm(value: f32, beta: f32, mean: f32, deviation: f32) -> f32 {
    (value - mean) / deviation + beta
}

/// The factor that brings the mean of the squares of values to 1.
pub fn normaliser(values: &[f32]) -> f32 {
    let squares: f32 = values.iter().map(|value| value * value).sum();
    (values.len() as f32 / squares.max(f32::MIN_POSITIVE)).sqrt()
}

/// The power of two that eight-bit weights are multiples of.
pub fn int8_step(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    let mut step = 2f32.powi(LEAST_EXPONENT);
    while largest > LARGEST_INT8 * step {
        step *= 2.0;
    }
    step
}

/// Exponent of the smallest step. Its weights are negligible next to others.
const LEAST_EXPONENT: i32 = -64;

const LARGEST_INT8: f32 = 127.0;

/// Rounds values to eight bits, that is to multiples of their step.
pub fn round_int8(values: &mut [f32]) {
    let step = int8_step(values);
    values.iter_mut().for_each(|value| *value = (*value / step).round() * step);
}

/// The factor that turns a sum over time into a mean.
pub fn time_share(samples: usize) -> f32 {
    1.0 / samples as f32
}

/// The divisor of BatchNorm.
pub(super) fn deviation(variance: f32) -> f32 {
    (variance + BATCH_NORM_EPSILON).sqrt()
}

//! The layers of a network, without weights.

mod layer;
mod published;
mod text;

pub use layer::{Layer, Padding, Shape};

/// Precision of the weights of convolutions and dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// +1 or -1, one bit each.
    Binary,
    /// 32-bit floats.
    Float,
}

/// A network's layers and input shape.
///
/// `Display` and `FromStr` write and read a one-line form, such as
/// `binary 8x100 conv32/3x3 pool2x2 bn sign dense38`. `same` padding is written
/// `conv40/4x10/same`, and a bias is a trailing `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Rows and samples of one window.
    pub input: [usize; 2],
    /// Precision of the weights.
    pub weights: Weights,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// Why layers are not a network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchitectureError {
    /// A word of the one-line form is unknown.
    #[error("architecture: {0:?} is not a layer")]
    UnknownLayer(String),
    /// A layer does not fit its input, or one of its sizes is zero.
    #[error("architecture: layer {index} does not fit its input of {rows} x {samples} values")]
    DoesNotFit {
        /// Position of the layer, from 0.
        index: usize,
        /// Rows of its input.
        rows: usize,
        /// Samples of its input.
        samples: usize,
    },
    /// The network is empty, too large, or has a layer in the wrong place.
    #[error("architecture: {0}")]
    Unsupported(&'static str),
}

/// Most values between two layers, and most weights of one layer.
const MAX_VALUES: usize = 1 << 24;

impl Architecture {
    /// The input shape of each layer, then the shape of the output.
    ///
    /// # Errors
    /// If a layer does not fit its input, or a size is zero or too large.
    pub fn shapes(&self) -> Result<Vec<Shape>, ArchitectureError> {
        let unsupported = |reason| Err(ArchitectureError::Unsupported(reason));
        let [rows, samples] = self.input;
        if rows == 0 || samples == 0 || rows.saturating_mul(samples) > MAX_VALUES {
            return unsupported("the input is empty or too large");
        }
        if !matches!(self.layers.last(), Some(Layer::Dense { .. } | Layer::Deflation { .. })) {
            return unsupported("the last layer must be dense or a deflation");
        }
        let mut input = Shape { rows, samples, channels: 1 };
        let mut shapes = vec![input];
        for (index, layer) in self.layers.iter().enumerate() {
            match layer {
                Layer::Normalise if input.rows * input.samples > 1 => {
                    return unsupported(
                        "norm needs an input of one position, as from a dense layer",
                    );
                }
                Layer::Deflation { .. } if index + 1 < self.layers.len() => {
                    return unsupported("a deflation must be the last layer");
                }
                _ => {}
            }
            let values = |shape: &Shape| {
                shape.rows.saturating_mul(shape.samples).saturating_mul(shape.channels)
            };
            let output = layer.output(input).filter(|output| values(output) > 0).ok_or(
                ArchitectureError::DoesNotFit { index, rows: input.rows, samples: input.samples },
            )?;
            if values(&output) > MAX_VALUES || layer.weight_count(input) > MAX_VALUES {
                return unsupported("a layer is too large");
            }
            shapes.push(output);
            input = output;
        }
        Ok(shapes)
    }

    /// Number of outputs of the last layer if it is dense, else 0: the network has only a feature.
    pub fn classes(&self) -> usize {
        match self.layers.last() {
            Some(Layer::Dense { units, .. }) => *units,
            _ => 0,
        }
    }

    /// Number of weights of each layer.
    ///
    /// # Errors
    /// See [`Architecture::shapes`].
    pub fn weight_counts(&self) -> Result<Vec<usize>, ArchitectureError> {
        let shapes = self.shapes()?;
        Ok(self
            .layers
            .iter()
            .zip(&shapes)
            .map(|(layer, &input)| layer.weight_count(input))
            .collect())
    }

    /// Number of parameters, as papers count them: weights, biases, and three per channel of BatchNorm.
    ///
    /// # Errors
    /// See [`Architecture::shapes`].
    pub fn parameter_count(&self) -> Result<usize, ArchitectureError> {
        let shapes = self.shapes()?;
        let weights: usize = self.weight_counts()?.iter().sum();
        let others: usize = self
            .layers
            .iter()
            .zip(&shapes[1..])
            .map(|(layer, output)| match layer {
                Layer::BatchNorm => 3 * output.channels,
                Layer::Convolution { bias: true, .. }
                | Layer::Dense { bias: true, .. }
                | Layer::Projection { .. }
                | Layer::Deflation { .. } => output.channels,
                _ => 0,
            })
            .sum();
        Ok(weights + others)
    }
}

//! Layers and the shapes between them.

/// One layer of a network. The first layer reads an input of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Two-dimensional convolution of stride 1 over rows and samples.
    Convolution {
        /// Output channels.
        filters: usize,
        /// Rows and samples that one filter reads.
        kernel: [usize; 2],
        /// Treatment of the edges.
        padding: Padding,
        /// Whether every filter adds a 32-bit bias.
        bias: bool,
    },
    /// The largest value of each block of rows and samples. An incomplete last block is ignored.
    MaxPool {
        /// Rows and samples of one block.
        size: [usize; 2],
    },
    /// `(x - mean) / sqrt(variance + 0.001) + beta` for each channel, without gamma.
    BatchNorm,
    /// +1 if the value is zero or more, else -1.
    Sign,
    /// Hyperbolic tangent. Only networks with float weights can run it.
    Tanh,
    /// Mean over time of each row's channels.
    Mean,
    /// For each row and channel: the mean of the signs over time, then for each lag the mean product
    /// of a sign and the one `lag` samples later.
    ///
    /// Reads signs and writes one row of one sample, ordered by mean and lags, then row, then
    /// channel.
    Autocorrelation {
        /// Samples between the two signs, at least 1.
        lags: [usize; 3],
    },
    /// `y = d - V^T (V d)` with `d = x - centre`: removes what varies along a few directions.
    ///
    /// The weights of `V` have eight bits: those of one direction are multiples of a power of two,
    /// from -127 to 127. Always the last layer. Its output is the feature, and the network has no
    /// classes.
    Deflation {
        /// Rows of `V`.
        directions: usize,
    },
    /// Scales values so that their squares have a mean of 1. Only their direction is left.
    Normalise,
    /// A dense layer with a bias and with weights of eight bits: those of one unit are multiples of a
    /// power of two, from -127 to 127.
    Projection {
        /// Outputs.
        units: usize,
    },
    /// Every unit reads every value of the flattened (row, sample, channel) input.
    Dense {
        /// Outputs.
        units: usize,
        /// Whether every unit adds a 32-bit bias.
        bias: bool,
    },
}

/// How a convolution treats the edges of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Only positions that the whole kernel fits.
    Valid,
    /// As many outputs as inputs. Taps outside the input count as zero. The extra tap of an even
    /// kernel is on the far side, as in TensorFlow.
    Same,
}

/// Shape of the values between two layers. They are stored row by row, with channels innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows. The input has the eight signals as rows.
    pub rows: usize,
    /// Positions in time.
    pub samples: usize,
    /// Values of one position.
    pub channels: usize,
}

impl Shape {
    /// Number of values.
    pub fn len(self) -> usize {
        self.rows * self.samples * self.channels
    }

    /// Whether there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Layer {
    /// The shape of the output. `None` if the layer does not fit its input.
    pub(super) fn output(self, input: Shape) -> Option<Shape> {
        match self {
            Self::Convolution { filters, kernel: [rows, samples], padding, .. } => {
                if rows == 0 || samples == 0 {
                    return None;
                }
                match padding {
                    Padding::Same => Some(Shape { channels: filters, ..input }),
                    Padding::Valid => Some(Shape {
                        rows: (input.rows + 1).checked_sub(rows)?,
                        samples: (input.samples + 1).checked_sub(samples)?,
                        channels: filters,
                    }),
                }
            }
            Self::MaxPool { size: [rows, samples] } => Some(Shape {
                rows: input.rows.checked_div(rows)?,
                samples: input.samples.checked_div(samples)?,
                ..input
            }),
            Self::BatchNorm | Self::Sign | Self::Tanh | Self::Normalise => Some(input),
            Self::Mean => Some(Shape { samples: 1, ..input }),
            Self::Autocorrelation { lags } => {
                let fit = lags.iter().all(|lag| (1..input.samples).contains(lag));
                let series = input.rows * input.channels;
                fit.then_some(Shape { rows: 1, samples: 1, channels: series * (1 + lags.len()) })
            }
            Self::Deflation { directions } => {
                (input.rows * input.samples == 1 && directions > 0).then_some(input)
            }
            Self::Dense { units, .. } | Self::Projection { units } => {
                Some(Shape { rows: 1, samples: 1, channels: units })
            }
        }
    }

    /// Number of weights. `usize::MAX` if there are more.
    pub(super) fn weight_count(self, input: Shape) -> usize {
        match self {
            Self::Convolution { filters, kernel, .. } => filters
                .saturating_mul(kernel[0])
                .saturating_mul(kernel[1])
                .saturating_mul(input.channels),
            Self::Dense { units, .. } | Self::Projection { units } => {
                units.saturating_mul(input.len())
            }
            Self::Deflation { directions } => directions.saturating_mul(input.len()),
            _ => 0,
        }
    }
}

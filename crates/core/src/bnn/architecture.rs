//! What a network is made of, before any weight is known.

use std::fmt;
use std::str::FromStr;

/// One layer of a network. The stack is applied in order to an input of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Two-dimensional convolution of stride 1 over rows and samples.
    Convolution {
        /// Output channels.
        filters: usize,
        /// Rows and samples that one filter sees.
        kernel: [usize; 2],
        /// What happens at the edges.
        padding: Padding,
        /// Whether every filter adds a 32-bit bias.
        bias: bool,
    },
    /// The largest value of each block of rows by samples; an incomplete last block is left out.
    MaxPool {
        /// Rows and samples of one block.
        size: [usize; 2],
    },
    /// `(x - mean) / sqrt(variance + 0.001) + beta` for each channel; no gamma.
    BatchNorm,
    /// +1 where the value is zero or more, -1 elsewhere.
    Sign,
    /// Hyperbolic tangent; in networks with float weights only.
    Tanh,
    /// Mean over time of each row's channels: what is left does not tell when.
    Mean,
    /// For each row and channel the mean of the signs over time, then for each lag the mean of the
    /// product of a sign with the one so many samples later. Order: mean, first lag, second, third;
    /// within each rows, then channels. Reads signs; writes one row of one sample.
    Autocorrelation {
        /// Samples between the two signs, 1 or more.
        lags: [usize; 3],
    },
    /// `y = d - V^T (V d)` with `d = x - centre`: what varies along a few directions counts for less.
    /// `V` has eight bits a weight: for each direction whole multiples of a power of two, 127 times at
    /// most. Always the last layer, whose output is the feature; the network has no classes then.
    Deflation {
        /// Rows of `V`.
        directions: usize,
    },
    /// Scales a window's values so that their squares have a mean of 1: what is left is a direction.
    Normalise,
    /// A dense layer with a bias whose weights are of eight bits, whatever the others are: for each
    /// unit whole multiples of a power of two, 127 times at most.
    Projection {
        /// Outputs.
        units: usize,
    },
    /// Every unit sees every value of the flattened (row, sample, channel) input.
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
    /// Only positions where the whole kernel fits.
    Valid,
    /// As many outputs as inputs; taps outside the input contribute nothing.
    /// With an even kernel the extra tap is on the far side, as in TensorFlow.
    Same,
}

/// Precision of the weights of convolutions and dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// +1 or -1, one bit each.
    Binary,
    /// 32-bit floats.
    Float,
}

/// Extent of the values between two layers, stored row by row, channels innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows, the eight signals at the input.
    pub rows: usize,
    /// Positions in time.
    pub samples: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// Number of values.
    pub fn len(self) -> usize {
        self.rows * self.samples * self.channels
    }

    /// Whether there is no value at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A network's layers and input shape.
///
/// `Display` and `FromStr` give and read a one-line form such as
/// `binary 8x100 conv32/3x3 pool2x2 bn sign dense38`, in which `same` padding is written
/// `conv40/4x10/same` and a bias as a trailing `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Rows and samples of one window.
    pub input: [usize; 2],
    /// Precision of the weights.
    pub weights: Weights,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// Why a stack of layers is not a network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchitectureError {
    /// A word of the one-line form is not known.
    #[error("architecture: {0:?} is not a layer")]
    UnknownLayer(String),
    /// A layer does not fit the values it is given, or has a zero extent.
    #[error("architecture: layer {index} does not fit its input of {rows} x {samples} values")]
    DoesNotFit {
        /// Position of the layer, from 0.
        index: usize,
        /// Rows of its input.
        rows: usize,
        /// Samples of its input.
        samples: usize,
    },
    /// The network is larger than this crate accepts, or empty.
    #[error("architecture: {0}")]
    Unsupported(&'static str),
}

/// Largest number of values between two layers, and of weights in one layer.
const MAX_VALUES: usize = 1 << 24;

impl Architecture {
    /// The network that served before [`Architecture::openset`], for windows of 8 x `samples`:
    /// BiPedalNet's first two convolutions, the means of their signs over time, and a projection. It is
    /// not trained any more; its model files still run, since databases hold templates that it made.
    pub fn pooled(samples: usize, classes: usize) -> Self {
        let mut architecture = Self::bipedalnet(samples, classes);
        let trunk = Self::TWO_CONVOLUTIONS;
        let units =
            architecture.shapes().map_or(0, |shapes| shapes[trunk].rows * shapes[trunk].channels);
        architecture.layers.splice(
            trunk..,
            [
                Layer::Mean,
                Layer::Projection { units },
                Layer::Normalise,
                Layer::Dense { units: classes, bias: false },
            ],
        );
        architecture
    }

    /// The network that serves, for windows of 8 x `samples`: BiPedalNet's first two convolutions,
    /// means and autocorrelations of their signs over time, and a deflation. It knows no classes: its
    /// feature tells strangers apart.
    pub fn openset(samples: usize) -> Self {
        let mut architecture = Self::openset_trunk(samples);
        architecture.layers.push(Layer::Deflation { directions: 40 });
        architecture
    }

    /// The layers of [`Architecture::openset`] with a head that names the people of a training.
    pub fn openset_classifier(samples: usize, classes: usize) -> Self {
        let mut architecture = Self::openset_trunk(samples);
        let head =
            [Layer::BatchNorm, Layer::Normalise, Layer::Dense { units: classes, bias: false }];
        architecture.layers.extend(head);
        architecture
    }

    fn openset_trunk(samples: usize) -> Self {
        let mut architecture = Self::bipedalnet(samples, 1);
        architecture.layers.truncate(Self::TWO_CONVOLUTIONS);
        architecture.layers.push(Layer::Autocorrelation { lags: [3, 6, 12] });
        architecture
    }

    /// Layers of [`Architecture::bipedalnet`] up to the sign after its second convolution.
    const TWO_CONVOLUTIONS: usize = 7;

    /// BiPedalNet for windows of 8 x `samples` (100 as published). Source: arXiv 2103.16609, which
    /// leaves open what the last layer reads: here it is the direction of the 32 units before it,
    /// as templates are compared by their directions, too.
    pub fn bipedalnet(samples: usize, classes: usize) -> Self {
        let time_convolution = Layer::Convolution {
            filters: 64,
            kernel: [1, 3],
            padding: Padding::Valid,
            bias: false,
        };
        Self {
            input: [8, samples],
            weights: Weights::Binary,
            layers: vec![
                Layer::Convolution {
                    filters: 32,
                    kernel: [3, 3],
                    padding: Padding::Valid,
                    bias: false,
                },
                Layer::MaxPool { size: [2, 2] },
                Layer::BatchNorm,
                Layer::Sign,
                time_convolution,
                Layer::BatchNorm,
                Layer::Sign,
                time_convolution,
                Layer::BatchNorm,
                Layer::Sign,
                Layer::Dense { units: 32, bias: false },
                Layer::BatchNorm,
                Layer::Normalise,
                Layer::Dense { units: classes, bias: false },
            ],
        }
    }

    /// IDNet's network for windows of 8 x 200: the float network of the published table.
    /// Source: arXiv 1606.03238; the layer sizes follow from the published parameter count.
    pub fn idnet(classes: usize) -> Self {
        Self {
            input: [8, 200],
            weights: Weights::Float,
            layers: vec![
                Layer::Convolution {
                    filters: 20,
                    kernel: [1, 10],
                    padding: Padding::Valid,
                    bias: true,
                },
                Layer::Convolution {
                    filters: 40,
                    kernel: [4, 10],
                    padding: Padding::Same,
                    bias: true,
                },
                Layer::Tanh,
                Layer::MaxPool { size: [2, 4] },
                Layer::Dense { units: 40, bias: true },
                Layer::Tanh,
                Layer::Dense { units: classes, bias: true },
            ],
        }
    }

    /// IDNet with every weight made binary and a sign before every layer but the first.
    pub fn binarized_idnet(classes: usize) -> Self {
        let mut layers = Self::idnet(classes).layers;
        layers.retain(|layer| *layer != Layer::Tanh);
        layers.insert(1, Layer::Sign);
        layers.insert(4, Layer::Sign);
        layers.insert(6, Layer::Sign);
        Self { input: [8, 200], weights: Weights::Binary, layers }
    }

    /// The shape before each layer and, last, that of the output.
    ///
    /// # Errors
    /// When a layer does not fit its input, or sizes are zero or beyond what is accepted.
    pub fn shapes(&self) -> Result<Vec<Shape>, ArchitectureError> {
        let [rows, samples] = self.input;
        let mut shape = Shape { rows, samples, channels: 1 };
        if rows == 0 || samples == 0 || rows.saturating_mul(samples) > MAX_VALUES {
            return Err(ArchitectureError::Unsupported("the input is empty or too large"));
        }
        if !matches!(self.layers.last(), Some(Layer::Dense { .. } | Layer::Deflation { .. })) {
            return Err(ArchitectureError::Unsupported(
                "the last layer must be dense or a deflation",
            ));
        }
        let mut shapes = vec![shape];
        for (index, layer) in self.layers.iter().enumerate() {
            let input = shape;
            let misfit = || ArchitectureError::DoesNotFit {
                index,
                rows: input.rows,
                samples: input.samples,
            };
            let weights_per_output;
            shape = match *layer {
                Layer::Convolution {
                    filters,
                    kernel: [kernel_rows, kernel_samples],
                    padding,
                    ..
                } => {
                    if kernel_rows == 0 || kernel_samples == 0 || filters == 0 {
                        return Err(misfit());
                    }
                    weights_per_output =
                        kernel_rows.saturating_mul(kernel_samples).saturating_mul(shape.channels);
                    match padding {
                        Padding::Same => Shape { channels: filters, ..shape },
                        Padding::Valid => Shape {
                            rows: (shape.rows + 1).checked_sub(kernel_rows).ok_or_else(misfit)?,
                            samples: (shape.samples + 1)
                                .checked_sub(kernel_samples)
                                .ok_or_else(misfit)?,
                            channels: filters,
                        },
                    }
                }
                Layer::MaxPool { size: [pool_rows, pool_samples] } => {
                    weights_per_output = 0;
                    Shape {
                        rows: shape.rows.checked_div(pool_rows).ok_or_else(misfit)?,
                        samples: shape.samples.checked_div(pool_samples).ok_or_else(misfit)?,
                        ..shape
                    }
                }
                Layer::Normalise if shape.rows * shape.samples > 1 => {
                    return Err(ArchitectureError::Unsupported(
                        "only what a dense layer gives can be normalised",
                    ));
                }
                Layer::BatchNorm | Layer::Sign | Layer::Tanh | Layer::Normalise => {
                    weights_per_output = 0;
                    shape
                }
                Layer::Mean => {
                    weights_per_output = 0;
                    Shape { samples: 1, ..shape }
                }
                Layer::Autocorrelation { lags } => {
                    if lags.iter().any(|&lag| lag == 0 || lag >= shape.samples) {
                        return Err(misfit());
                    }
                    weights_per_output = 0;
                    let series = shape.rows * shape.channels;
                    Shape { rows: 1, samples: 1, channels: series * (1 + lags.len()) }
                }
                Layer::Deflation { directions } => {
                    if index + 1 < self.layers.len() {
                        return Err(ArchitectureError::Unsupported(
                            "a deflation must be the last layer",
                        ));
                    }
                    if shape.rows * shape.samples > 1 || directions == 0 {
                        return Err(misfit());
                    }
                    weights_per_output = directions;
                    shape
                }
                Layer::Dense { units, .. } | Layer::Projection { units } => {
                    weights_per_output = shape.len();
                    Shape { rows: 1, samples: 1, channels: units }
                }
            };
            let values = shape.rows.saturating_mul(shape.samples).saturating_mul(shape.channels);
            if values == 0 {
                return Err(misfit());
            }
            if values > MAX_VALUES || weights_per_output.saturating_mul(shape.channels) > MAX_VALUES
            {
                return Err(ArchitectureError::Unsupported("a layer is too large"));
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// Outputs of the last layer if it is dense, else 0: such a network gives a feature alone.
    pub fn classes(&self) -> usize {
        match self.layers.last() {
            Some(Layer::Dense { units, .. }) => *units,
            _ => 0,
        }
    }

    /// Number of weights of each layer, 0 where it has none.
    ///
    /// # Errors
    /// As [`Architecture::shapes`].
    pub fn weight_counts(&self) -> Result<Vec<usize>, ArchitectureError> {
        let shapes = self.shapes()?;
        Ok(self
            .layers
            .iter()
            .zip(&shapes)
            .map(|(layer, input)| match *layer {
                Layer::Convolution { filters, kernel, .. } => {
                    filters * kernel[0] * kernel[1] * input.channels
                }
                Layer::Dense { units, .. } | Layer::Projection { units } => units * input.len(),
                Layer::Deflation { directions } => directions * input.len(),
                _ => 0,
            })
            .collect())
    }

    /// All parameters, as papers count them: weights, biases, and three a channel of BatchNorm.
    ///
    /// # Errors
    /// As [`Architecture::shapes`].
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

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = |bias| if bias { "+" } else { "" };
        let precision = match self.weights {
            Weights::Binary => "binary",
            Weights::Float => "float",
        };
        write!(f, "{precision} {}x{}", self.input[0], self.input[1])?;
        for layer in &self.layers {
            match *layer {
                Layer::Convolution { filters, kernel: [rows, samples], padding, bias } => {
                    let same = if padding == Padding::Same { "/same" } else { "" };
                    write!(f, " conv{filters}/{rows}x{samples}{same}{}", plus(bias))?;
                }
                Layer::MaxPool { size: [rows, samples] } => write!(f, " pool{rows}x{samples}")?,
                Layer::BatchNorm => f.write_str(" bn")?,
                Layer::Sign => f.write_str(" sign")?,
                Layer::Tanh => f.write_str(" tanh")?,
                Layer::Mean => f.write_str(" mean")?,
                Layer::Autocorrelation { lags: [a, b, c] } => write!(f, " acf{a},{b},{c}")?,
                Layer::Deflation { directions } => write!(f, " deflate{directions}")?,
                Layer::Normalise => f.write_str(" norm")?,
                Layer::Projection { units } => write!(f, " project{units}")?,
                Layer::Dense { units, bias } => write!(f, " dense{units}{}", plus(bias))?,
            }
        }
        Ok(())
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let weights = match word() {
            "binary" => Weights::Binary,
            "float" => Weights::Float,
            other => return Err(ArchitectureError::UnknownLayer(other.to_owned())),
        };
        let input = word();
        let input = pair(input).ok_or_else(|| ArchitectureError::UnknownLayer(input.to_owned()))?;
        let layers = words
            .map(|word| {
                parse_layer(word).ok_or_else(|| ArchitectureError::UnknownLayer(word.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let architecture = Self { input, weights, layers };
        architecture.shapes()?;
        Ok(architecture)
    }
}

fn parse_layer(word: &str) -> Option<Layer> {
    match word {
        "bn" => return Some(Layer::BatchNorm),
        "sign" => return Some(Layer::Sign),
        "tanh" => return Some(Layer::Tanh),
        "mean" => return Some(Layer::Mean),
        "norm" => return Some(Layer::Normalise),
        _ => {}
    }
    if let Some(units) = word.strip_prefix("project") {
        return Some(Layer::Projection { units: units.parse().ok()? });
    }
    if let Some(directions) = word.strip_prefix("deflate") {
        return Some(Layer::Deflation { directions: directions.parse().ok()? });
    }
    if let Some(lags) = word.strip_prefix("acf") {
        let lags: Vec<usize> =
            lags.split(',').map(|lag| lag.parse().ok()).collect::<Option<_>>()?;
        return Some(Layer::Autocorrelation { lags: lags.try_into().ok()? });
    }
    let (word, bias) = match word.strip_suffix('+') {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    if let Some(units) = word.strip_prefix("dense") {
        Some(Layer::Dense { units: units.parse().ok()?, bias })
    } else if let Some(size) = word.strip_prefix("pool") {
        Some(Layer::MaxPool { size: pair(size)? })
    } else {
        let mut parts = word.strip_prefix("conv")?.split('/');
        let filters = parts.next()?.parse().ok()?;
        let kernel = pair(parts.next()?)?;
        let padding = match (parts.next(), parts.next()) {
            (None, None) => Padding::Valid,
            (Some("same"), None) => Padding::Same,
            _ => return None,
        };
        Some(Layer::Convolution { filters, kernel, padding, bias })
    }
}

fn pair(text: &str) -> Option<[usize; 2]> {
    let (rows, samples) = text.split_once('x')?;
    Some([rows.parse().ok()?, samples.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_set_network_is_the_one_that_is_described() {
        let architecture = Architecture::openset(100);
        let text = "binary 8x100 conv32/3x3 pool2x2 bn sign conv64/1x3 bn sign acf3,6,12 deflate40";
        assert_eq!(architecture.to_string(), text);
        assert_eq!(architecture.classes(), 0);
        let shapes = architecture.shapes().unwrap();
        assert_eq!(shapes[7], Shape { rows: 3, samples: 47, channels: 64 });
        assert_eq!(shapes[9], Shape { rows: 1, samples: 1, channels: 768 });
        let bits = 288 + 6144;
        let floats = 3 * (32 + 64) + 768;
        assert_eq!(architecture.parameter_count().unwrap(), bits + floats + 40 * 768);
    }

    #[test]
    fn counts_match_the_published_table() {
        let bipedalnet = Architecture::bipedalnet(100, 38);
        assert_eq!(bipedalnet.parameter_count().unwrap(), 296_992);
        assert_eq!(bipedalnet.weight_counts().unwrap().iter().sum::<usize>(), 296_416);
        assert_eq!(Architecture::idnet(38).parameter_count().unwrap(), 334_658);
        assert_eq!(Architecture::binarized_idnet(38).parameter_count().unwrap(), 334_658);
    }

    #[test]
    fn the_one_line_form_reads_back() {
        for architecture in [
            Architecture::bipedalnet(100, 38),
            Architecture::pooled(100, 38),
            Architecture::openset(100),
            Architecture::idnet(24),
            Architecture::binarized_idnet(24),
        ] {
            assert_eq!(architecture.to_string().parse(), Ok(architecture));
        }
        for text in [
            "",
            "binary",
            "binary 8x",
            "binary 8x100",
            "binary 8x100 conv",
            "float 2x2 conv3/3x3 dense2",
            "binary 8x20 conv4/3x3 bn sign acf3,6 dense2",
            "binary 8x20 conv4/3x3 bn sign acf3,6,18 dense2",
            "binary 8x20 conv4/3x3 bn sign acf0,6,12 dense2",
            "binary 8x20 conv4/3x3 bn sign deflate3",
            "binary 8x20 conv4/3x3 bn sign acf1,2,3 deflate0",
            "binary 8x20 conv4/3x3 bn sign acf1,2,3 deflate3 dense2",
        ] {
            assert!(text.parse::<Architecture>().is_err(), "{text:?}");
        }
    }
}

//! Networks from publications and of this project.

use super::{Architecture, Layer, Padding, Weights};

impl Architecture {
    /// The network before [`Architecture::openset`], for windows of 8 x `samples`: BiPedalNet's
    /// first two convolutions, the means of their signs over time, and a projection.
    ///
    /// It is not trained any more. Its model files still run, because databases hold its templates.
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

    /// The open-set network, for windows of 8 x `samples`: BiPedalNet's first two convolutions, means
    /// and autocorrelations of their signs over time, and a deflation.
    ///
    /// It has no classes. Its features also distinguish people who were not in the training data.
    pub fn openset(samples: usize) -> Self {
        let mut architecture = Self::openset_trunk(samples);
        architecture.layers.push(Layer::Deflation { directions: 40 });
        architecture
    }

    /// The layers of [`Architecture::openset`] with a head that classifies the people of a training.
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

    /// BiPedalNet for windows of 8 x `samples` (published: 100). Source: arXiv 2103.16609.
    ///
    /// The paper does not say what the last layer reads. Here it reads the direction of the 32 units
    /// before it, because templates are compared by their directions.
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

    /// IDNet for windows of 8 x 200, with float weights. Source: arXiv 1606.03238. The layer sizes
    /// follow from the published number of parameters.
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

    /// IDNet with binary weights and a sign before every layer except the first.
    pub fn binarized_idnet(classes: usize) -> Self {
        let mut layers = Self::idnet(classes).layers;
        layers.retain(|layer| *layer != Layer::Tanh);
        layers.insert(1, Layer::Sign);
        layers.insert(4, Layer::Sign);
        layers.insert(6, Layer::Sign);
        Self { input: [8, 200], weights: Weights::Binary, layers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bnn::Shape;

    #[test]
    fn the_open_set_network_has_the_documented_layers() {
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
    fn parameter_counts_match_the_published_ones() {
        let bipedalnet = Architecture::bipedalnet(100, 38);
        assert_eq!(bipedalnet.parameter_count().unwrap(), 296_992);
        assert_eq!(bipedalnet.weight_counts().unwrap().iter().sum::<usize>(), 296_416);
        assert_eq!(Architecture::idnet(38).parameter_count().unwrap(), 334_658);
        assert_eq!(Architecture::binarized_idnet(38).parameter_count().unwrap(), 334_658);
    }
}

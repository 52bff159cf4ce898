//! Layers that learn, one file each, behind [`TrainableLayer`].
//!
//! Values are stored sample by sample, then row, position in time, channel. A convolution leaves
//! its output as wide as its input, so that one matrix product runs over all windows of a batch.
//! The columns past [`Extent::valid`] have no meaning, and their gradient is zero.

mod activation;
mod autocorrelation;
mod batch_norm;
mod convolution;
mod dense;
mod max_pool;
mod mean;
mod normalise;
mod weights;

use activation::{Sign, Tanh};
use autocorrelation::Autocorrelation;
use batch_norm::BatchNorm;
use bipedalnet_core::bnn::{ArchitectureError, Layer, LayerParameters};
use convolution::Convolution;
use dense::Dense;
use max_pool::MaxPool;
use mean::Mean;
use normalise::Normalise;
use rand::Rng;
pub use weights::Weights;

/// Samples of a batch that one task works on. It is fixed, so that sums are added in the same order
/// whatever the number of threads.
const SHARD: usize = 16;

/// The purpose of a forward pass, which decides the statistics that BatchNorm uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// The batch's own statistics.
    Training,
    /// The batch's own. They also enter the average for inference, as batch `n` from 0.
    Calibration(usize),
    /// The averages of the last calibration.
    Inference,
}

/// Extent of one sample's values in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    pub rows: usize,
    /// Positions in memory.
    pub width: usize,
    /// Positions that count.
    pub valid: usize,
    pub channels: usize,
}

impl Extent {
    pub fn len(self) -> usize {
        self.rows * self.width * self.channels
    }

    /// Whether all values count.
    fn is_flat(self) -> bool {
        self.valid == self.width
    }
}

/// What a layer read and wrote in a training pass, and the loss's gradient of its output.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub input: &'a [f32],
    pub output: &'a [f32],
    pub output_gradient: &'a [f32],
    pub samples: usize,
}

/// Parameters of one kind in one layer, with their gradient.
pub struct ParameterList<'a> {
    pub values: &'a mut Vec<f32>,
    pub gradient: &'a mut Vec<f32>,
    /// The learning rate is multiplied by it.
    pub unit: f32,
    /// Whether these are latent weights of a binary layer.
    pub latent: bool,
}

/// A layer that can be trained.
pub trait TrainableLayer: Send {
    /// The extent of its output.
    fn output(&self) -> Extent;

    fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, pass: Pass);

    /// Adds to the gradients of its parameters. Writes the gradient of its input, unless no layer
    /// before needs it.
    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>);

    fn weights(&mut self) -> Option<&mut Weights> {
        None
    }

    /// What is trained, in a fixed order.
    fn trained(&mut self) -> Vec<ParameterList<'_>> {
        self.weights().map_or_else(Vec::new, Weights::trained)
    }

    /// The parameters as inference reads them.
    fn export(&self) -> Option<LayerParameters> {
        None
    }

    /// The reverse of [`TrainableLayer::export`].
    fn import(&mut self, _: &LayerParameters) {}
}

/// Builds a layer with random weights. `unit` is the unit of its input's values.
pub fn build(
    layer: &Layer,
    input: Extent,
    unit: f32,
    binary: bool,
    random: &mut impl Rng,
) -> Result<Box<dyn TrainableLayer>, ArchitectureError> {
    let mut dense = |mut layer: Dense, units: usize| {
        let fans = layer.inputs() + units;
        layer.weights.initialise(fans, random);
        Box::new(layer)
    };
    Ok(match *layer {
        Layer::Convolution { filters, kernel, padding, bias } => {
            let mut layer = Convolution::new(input, filters, kernel, padding, bias, binary);
            let fans = kernel[0] * kernel[1] * (input.channels + filters);
            layer.weights.initialise(fans, random);
            Box::new(layer)
        }
        Layer::MaxPool { size } => Box::new(MaxPool::new(input, size)),
        Layer::BatchNorm => Box::new(BatchNorm::new(input)),
        Layer::Sign => Box::new(Sign::new(input, unit)),
        Layer::Tanh => Box::new(Tanh::new(input)),
        Layer::Mean => Box::new(Mean::new(input)),
        Layer::Autocorrelation { lags } => Box::new(Autocorrelation::new(input, lags)),
        Layer::Normalise => Box::new(Normalise::new(input)),
        Layer::Dense { units, bias } => dense(Dense::new(input, units, bias, binary), units),
        Layer::Projection { units } => dense(Dense::projection(input, units), units),
        Layer::Deflation { .. } => {
            let reason = "a deflation is fitted to a trained network, and cannot be learned";
            return Err(ArchitectureError::Unsupported(reason));
        }
    })
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

fn add_bias(output: &mut [f32], bias: &[f32]) {
    if !bias.is_empty() {
        output.chunks_exact_mut(bias.len()).for_each(|values| add(values, bias));
    }
}

/// Columns past the valid ones have no gradient, so they may be summed along.
fn sum_by_channel(sums: &mut [f32], gradient: &[f32]) {
    if !sums.is_empty() {
        gradient.chunks_exact(sums.len()).for_each(|values| add(sums, values));
    }
}

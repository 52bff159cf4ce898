//! The weights of a convolution or a dense layer.

use bipedalnet_core::bnn::{LayerParameters, PackedFilters, SumsScratch};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::super::compression::Compression;
use super::activation::sign;
use super::{Extent, ParameterList};

/// Weights that one task updates.
const WEIGHTS_PER_TASK: usize = 1 << 14;

/// Share of the learning rate for fitted weights, which should hardly change.
const FITTED_RATE: f32 = 0.02;

/// Weights of a layer, with their gradient. The network multiplies by `effective`.
pub struct Weights {
    /// Real values. In a binary network, they are the latent weights.
    pub latent: Vec<f32>,
    /// The signs of the latent values, the values themselves, or what compression leaves of them.
    pub effective: Vec<f32>,
    /// Packed signs of `effective`, made on first use.
    packed: Option<PackedFilters>,
    pub gradient: Vec<f32>,
    pub bias: Vec<f32>,
    pub bias_gradient: Vec<f32>,
    pub binary: bool,
    /// Replaces the signs or the values, if given.
    pub compression: Option<Compression>,
    /// Whether they were fitted in closed form. Fitted weights are much smaller than 1.
    pub fitted: bool,
    outputs: usize,
    /// The unit of an output. In a binary network, it is three standard deviations of a sum of one
    /// sign for each input; otherwise 1.
    pub unit: f32,
}

impl Weights {
    pub fn new(inputs: usize, outputs: usize, bias: bool, binary: bool) -> Self {
        let count = inputs * outputs;
        let biases = if bias { outputs } else { 0 };
        Self {
            latent: vec![0.0; count],
            effective: vec![0.0; count],
            packed: None,
            gradient: vec![0.0; count],
            bias: vec![0.0; biases],
            bias_gradient: vec![0.0; biases],
            binary,
            compression: None,
            fitted: false,
            outputs,
            unit: if binary { 3.0 * (inputs as f32).sqrt() } else { 1.0 },
        }
    }

    /// Draws latent weights as Glorot and Bengio do (AISTATS 2010).
    pub fn initialise(&mut self, fans: usize, random: &mut impl Rng) {
        let limit = (6.0 / fans as f32).sqrt();
        for value in &mut self.latent {
            *value = random.random_range(-limit..=limit);
        }
        self.refresh();
    }

    /// The layer's parameters, with weights in the order of a model file.
    pub fn exported(&self, weights: Vec<f32>) -> LayerParameters {
        let bias = (!self.bias.is_empty()).then(|| self.bias.clone());
        LayerParameters::Weights { weights, bias }
    }

    /// Filters for inputs that are signs. `None` if sums are not counted in bits.
    pub fn packed(&mut self, channels: usize, outputs: usize) -> Option<&PackedFilters> {
        if self.binary && self.compression.is_none() && self.packed.is_none() {
            self.packed = PackedFilters::new(&self.effective, channels, outputs);
        }
        self.packed.as_ref()
    }

    /// Takes the outputs from `first` on from a dense layer's parameters, weights times `size`.
    pub fn import_outputs(&mut self, first: usize, parameters: &LayerParameters, size: f32) {
        let LayerParameters::Weights { weights, .. } = parameters else { return };
        let inputs = self.latent.len() / self.outputs;
        for (output, weights) in (first..self.outputs).zip(weights.chunks_exact(inputs)) {
            for (input, weight) in weights.iter().enumerate() {
                self.latent[input * self.outputs + output] = size * weight;
            }
        }
    }

    /// What is trained of them.
    pub fn trained(&mut self) -> Vec<ParameterList<'_>> {
        let unit = if self.fitted { FITTED_RATE } else { 1.0 };
        let weights = ParameterList {
            values: &mut self.latent,
            gradient: &mut self.gradient,
            unit,
            latent: self.binary,
        };
        let bias = ParameterList {
            values: &mut self.bias,
            gradient: &mut self.bias_gradient,
            unit: unit * self.unit,
            latent: false,
        };
        vec![weights, bias]
    }

    /// Brings `effective` up to date with `latent`.
    pub fn refresh(&mut self) {
        self.packed = None;
        if let Some(compression) = self.compression {
            compression.apply(&self.latent, self.outputs, &mut self.effective);
        } else if self.binary {
            self.effective
                .par_iter_mut()
                .zip(&self.latent)
                .with_min_len(WEIGHTS_PER_TASK)
                .for_each(|(effective, &latent)| *effective = sign(latent));
        } else {
            self.effective.copy_from_slice(&self.latent);
        }
    }
}

/// Computes the outputs of a binary layer without kernel rows or padding by counting bits. False if
/// its inputs are not signs, as in a first layer.
pub fn count_sums(
    filters: &PackedFilters,
    (input, from): (&[f32], Extent),
    (output, to): (&mut [f32], Extent),
    samples: usize,
) -> bool {
    output[..samples * to.len()]
        .par_chunks_mut(to.len())
        .zip(input.par_chunks(from.len()))
        .map_init(SumsScratch::default, |scratch, (output, input)| {
            input
                .chunks_exact(from.width * from.channels)
                .zip(output.chunks_exact_mut(to.width * to.channels))
                .all(|(input, output)| {
                    let input = &input[..from.valid * from.channels];
                    filters.sums(input, &mut output[..to.valid * to.channels], scratch)
                })
        })
        .all(|counted| counted)
}

//! Dense layer, and the projection that is one with fitted weights.

use bipedalnet_core::bnn::LayerParameters;
use rayon::prelude::*;

use super::super::compression::Compression;
use super::super::matrix::{View, multiply};
use super::weights::{Weights, count_sums};
use super::{Batch, Extent, Pass, SHARD, TrainableLayer, add_bias, sum_by_channel};

/// Dense layer. Weights are ordered (input value, unit); the input is the flattened valid part.
pub struct Dense {
    input: Extent,
    units: usize,
    pub weights: Weights,
    flat: Vec<f32>,
    flat_gradient: Vec<f32>,
}

/// Inputs for which one task computes the gradient of the weights.
const INPUTS_PER_TASK: usize = 2048;

impl Dense {
    pub fn new(input: Extent, units: usize, bias: bool, binary: bool) -> Self {
        let inputs = input.rows * input.valid * input.channels;
        Self {
            input,
            units,
            weights: Weights::new(inputs, units, bias, binary),
            flat: Vec::new(),
            flat_gradient: Vec::new(),
        }
    }

    /// A layer for imported weights, which hardly learn.
    pub fn projection(input: Extent, units: usize) -> Self {
        let mut layer = Self::new(input, units, true, false);
        layer.weights.fitted = true;
        layer.weights.compression = Some(Compression::Int8);
        layer
    }

    /// Number of input values.
    pub fn inputs(&self) -> usize {
        self.input.rows * self.input.valid * self.input.channels
    }
}

impl TrainableLayer for Dense {
    fn output(&self) -> Extent {
        Extent { rows: 1, width: 1, valid: 1, channels: self.units }
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, _: Pass) {
        let (inputs, units, extent) = (self.inputs(), self.units, self.input);
        if !extent.is_flat() {
            self.flat.resize(samples * inputs, 0.0);
            self.flat.par_chunks_mut(inputs).zip(input.par_chunks(extent.len())).for_each(
                |(flat, input)| {
                    let row = extent.valid * extent.channels;
                    for (flat, input) in flat
                        .chunks_exact_mut(row)
                        .zip(input.chunks_exact(extent.width * extent.channels))
                    {
                        flat.copy_from_slice(&input[..row]);
                    }
                },
            );
        }
        let flat = if extent.is_flat() { input } else { &self.flat };
        // As one position, whatever the shape, so that words are full.
        let row = Extent { rows: 1, width: 1, valid: 1, channels: inputs };
        let sums = Extent { channels: units, ..row };
        if let Some(filters) = self.weights.packed(inputs, units)
            && count_sums(filters, (flat, row), (output, sums), samples)
        {
            add_bias(&mut output[..samples * units], &self.weights.bias);
            return;
        }
        let weights = View::new(&self.weights.effective, inputs, units);
        let bias = &self.weights.bias;
        output[..samples * units]
            .par_chunks_mut(SHARD * units)
            .zip(flat.par_chunks(SHARD * inputs))
            .for_each(|(output, flat)| {
                let flat = View::new(flat, flat.len() / inputs, inputs);
                multiply(output, units, flat, weights, false);
                add_bias(output, bias);
            });
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { input, output_gradient, samples, .. } = *batch;
        let (inputs, units, extent) = (self.inputs(), self.units, self.input);
        let output_gradient = &output_gradient[..samples * units];
        let flat = if extent.is_flat() { input } else { &self.flat };
        self.weights.gradient.par_chunks_mut(INPUTS_PER_TASK * units).enumerate().for_each(
            |(task, gradient)| {
                let flat = View {
                    data: &flat[task * INPUTS_PER_TASK..],
                    rows: gradient.len() / units,
                    columns: samples,
                    row_stride: 1,
                    column_stride: inputs,
                };
                let output_gradient = View::new(output_gradient, samples, units);
                multiply(gradient, units, flat, output_gradient, true);
            },
        );
        sum_by_channel(&mut self.weights.bias_gradient, output_gradient);

        let Some(input_gradient) = input_gradient else { return };
        self.flat_gradient.resize(samples * inputs, 0.0);
        let weights = View::new(&self.weights.effective, inputs, units).transposed();
        self.flat_gradient
            .par_chunks_mut(SHARD * inputs)
            .zip(output_gradient.par_chunks(SHARD * units))
            .zip(input_gradient[..samples * extent.len()].par_chunks_mut(SHARD * extent.len()))
            .for_each(|((flat, gradient), input)| {
                let gradient = View::new(gradient, gradient.len() / units, units);
                multiply(flat, inputs, gradient, weights, false);
                let row = extent.valid * extent.channels;
                for (flat, input) in flat
                    .chunks_exact(row)
                    .zip(input.chunks_exact_mut(extent.width * extent.channels))
                {
                    input[..row].copy_from_slice(flat);
                    input[row..].fill(0.0);
                }
            });
    }

    fn weights(&mut self) -> Option<&mut Weights> {
        Some(&mut self.weights)
    }

    /// Orders weights as inference does: unit, input value.
    fn export(&self) -> Option<LayerParameters> {
        let (inputs, units) = (self.inputs(), self.units);
        let weights = (0..inputs * units)
            .map(|index| self.weights.effective[index % inputs * units + index / inputs])
            .collect();
        Some(self.weights.exported(weights))
    }

    fn import(&mut self, parameters: &LayerParameters) {
        if let LayerParameters::Weights { weights, bias } = parameters {
            let (inputs, units) = (self.inputs(), self.units);
            for (index, latent) in self.weights.latent.iter_mut().enumerate() {
                *latent = weights[index % units * inputs + index / units];
            }
            self.weights.bias.clone_from(bias.as_ref().unwrap_or(&Vec::new()));
        }
    }
}

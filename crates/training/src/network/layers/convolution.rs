//! Convolution, as one matrix product over all windows of a batch.

use bipedalnet_core::bnn::{LayerParameters, Padding};
use rayon::prelude::*;

use super::super::matrix::{View, multiply};
use super::weights::{Weights, count_sums};
use super::{Batch, Extent, Pass, SHARD, TrainableLayer, add, add_bias, sum_by_channel};

/// Convolution. Weights are ordered (tap in time, kernel row, input channel, filter), so that a
/// window of the input, with its kernel rows laid side by side, is one contiguous run.
pub struct Convolution {
    input: Extent,
    output: Extent,
    kernel: [usize; 2],
    pub weights: Weights,
    /// Zeros before the first row and the first position.
    padding_before: [usize; 2],
    /// Input with kernel rows side by side. Empty if the input can be read as it is.
    stacked: Vec<f32>,
    stacked_gradient: Vec<f32>,
}

impl Convolution {
    pub fn new(
        input: Extent,
        filters: usize,
        kernel: [usize; 2],
        padding: Padding,
        bias: bool,
        binary: bool,
    ) -> Self {
        let total = match padding {
            Padding::Valid => [0, 0],
            Padding::Same => [kernel[0] - 1, kernel[1] - 1],
        };
        let output = Extent {
            rows: input.rows + total[0] + 1 - kernel[0],
            width: input.width + total[1],
            valid: input.valid + total[1] + 1 - kernel[1],
            channels: filters,
        };
        Self {
            input,
            output,
            kernel,
            weights: Weights::new(kernel[0] * kernel[1] * input.channels, filters, bias, binary),
            padding_before: [total[0] / 2, total[1] / 2],
            stacked: Vec::new(),
            stacked_gradient: Vec::new(),
        }
    }

    /// Pairs the position of each weight here with its position in a model file.
    fn for_each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let ([rows, taps], channels) = (self.kernel, self.input.channels);
        let filters = self.output.channels;
        for ours in 0..rows * taps * channels * filters {
            let (rest, filter) = (ours / filters, ours % filters);
            let (rest, channel) = (rest / channels, rest % channels);
            let (tap, row) = (rest / rows, rest % rows);
            visit(ours, ((filter * rows + row) * taps + tap) * channels + channel);
        }
    }

    fn stacks(&self) -> bool {
        self.kernel[0] > 1 || self.output.width != self.input.width
    }

    /// Channels of one position once kernel rows lie side by side.
    fn stacked_channels(&self) -> usize {
        self.kernel[0] * self.input.channels
    }

    fn stacked_len(&self) -> usize {
        self.output.rows * self.output.width * self.stacked_channels()
    }

    /// Every window of a shard as the row of a matrix; rows overlap.
    fn windows<'a>(&self, data: &'a [f32], samples: usize) -> View<'a> {
        let positions = samples * self.output.rows * self.output.width;
        View {
            data,
            rows: positions + 1 - self.kernel[1],
            columns: self.kernel[1] * self.stacked_channels(),
            row_stride: self.stacked_channels(),
            column_stride: 1,
        }
    }

    /// Calls `visit` with the starts, in the stacked and in the input tensor, of each input row
    /// that stacking copies.
    fn for_each_row(&self, mut visit: impl FnMut(usize, usize)) {
        let channels = self.input.channels;
        let stacked_channels = self.stacked_channels();
        for row in 0..self.output.rows {
            for kernel_row in 0..self.kernel[0] {
                let Some(input_row) = (row + kernel_row).checked_sub(self.padding_before[0]) else {
                    continue;
                };
                if input_row < self.input.rows {
                    let first = row * self.output.width + self.padding_before[1];
                    visit(
                        first * stacked_channels + kernel_row * channels,
                        input_row * self.input.width * channels,
                    );
                }
            }
        }
    }

    fn stack(&self, input: &[f32], stacked: &mut [f32]) {
        let channels = self.input.channels;
        // Padding is never written, so it stays zero from the buffer's allocation on.
        self.for_each_row(|to, from| {
            let positions = stacked[to..].chunks_mut(self.stacked_channels());
            let input = &input[from..][..self.input.valid * channels];
            if channels == 1 {
                positions.zip(input).for_each(|(to, &from)| to[0] = from);
            } else {
                positions
                    .zip(input.chunks_exact(channels))
                    .for_each(|(to, from)| to[..channels].copy_from_slice(from));
            }
        });
    }

    fn unstack(&self, stacked: &[f32], input: &mut [f32]) {
        let channels = self.input.channels;
        input.fill(0.0);
        self.for_each_row(|from, to| {
            let positions = stacked[from..].chunks(self.stacked_channels());
            let input = &mut input[to..][..self.input.valid * channels];
            for (to, from) in input.chunks_exact_mut(channels).zip(positions) {
                add(to, &from[..channels]);
            }
        });
    }
}

impl TrainableLayer for Convolution {
    fn output(&self) -> Extent {
        self.output
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, _: Pass) {
        let (in_len, out_len, stacked_len) =
            (self.input.len(), self.output.len(), self.stacked_len());
        if !self.stacks()
            && let Some(filters) = self.weights.packed(self.input.channels, self.output.channels)
            && count_sums(filters, (input, self.input), (output, self.output), samples)
        {
            output[..samples * out_len]
                .par_chunks_mut(SHARD * out_len)
                .for_each(|output| add_bias(output, &self.weights.bias));
            return;
        }
        if self.stacks() {
            let mut stacked = std::mem::take(&mut self.stacked);
            stacked.resize(samples * stacked_len, 0.0);
            stacked
                .par_chunks_mut(stacked_len)
                .zip(input.par_chunks(in_len))
                .for_each(|(stacked, input)| self.stack(input, stacked));
            self.stacked = stacked;
        }
        let (source, length) =
            if self.stacks() { (&self.stacked[..], stacked_len) } else { (input, in_len) };
        let weights = View::new(
            &self.weights.effective,
            self.weights.effective.len() / self.output.channels,
            self.output.channels,
        );
        output[..samples * out_len]
            .par_chunks_mut(SHARD * out_len)
            .zip(source[..samples * length].par_chunks(SHARD * length))
            .for_each(|(output, source)| {
                let windows = self.windows(source, source.len() / length);
                multiply(output, self.output.channels, windows, weights, false);
                add_bias(output, &self.weights.bias);
            });
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { input, output_gradient, samples, .. } = *batch;
        let (in_len, out_len, stacked_len) =
            (self.input.len(), self.output.len(), self.stacked_len());
        let filters = self.output.channels;
        let (source, length) =
            if self.stacks() { (&self.stacked[..], stacked_len) } else { (input, in_len) };
        let output_gradient = &output_gradient[..samples * out_len];
        let parts: Vec<Vec<f32>> = source[..samples * length]
            .par_chunks(SHARD * length)
            .zip(output_gradient.par_chunks(SHARD * out_len))
            .map(|(source, gradient)| {
                let windows = self.windows(source, source.len() / length);
                let mut part = vec![0.0; self.weights.gradient.len()];
                let gradient = View::new(gradient, windows.rows, filters);
                multiply(&mut part, filters, windows.transposed(), gradient, false);
                part
            })
            .collect();
        for part in &parts {
            add(&mut self.weights.gradient, part);
        }
        sum_by_channel(&mut self.weights.bias_gradient, output_gradient);

        let Some(input_gradient) = input_gradient else { return };
        let mut stacked_gradient = std::mem::take(&mut self.stacked_gradient);
        let target = if self.stacks() {
            stacked_gradient.resize(samples * stacked_len, 0.0);
            &mut stacked_gradient[..]
        } else {
            &mut input_gradient[..samples * in_len]
        };
        target
            .par_chunks_mut(SHARD * length)
            .zip(output_gradient.par_chunks(SHARD * out_len))
            .for_each(|(target, gradient)| {
                target.fill(0.0);
                let channels = self.stacked_channels();
                let positions = self.windows(target, target.len() / length).rows;
                let gradient = View::new(gradient, positions, filters);
                for tap in 0..self.kernel[1] {
                    let weights = &self.weights.effective[tap * channels * filters..];
                    let weights = View::new(weights, channels, filters).transposed();
                    multiply(&mut target[tap * channels..], channels, gradient, weights, true);
                }
            });
        if self.stacks() {
            input_gradient[..samples * in_len]
                .par_chunks_mut(in_len)
                .zip(stacked_gradient.par_chunks(stacked_len))
                .for_each(|(input, stacked)| self.unstack(stacked, input));
        }
        self.stacked_gradient = stacked_gradient;
    }

    fn weights(&mut self) -> Option<&mut Weights> {
        Some(&mut self.weights)
    }

    /// Orders weights as inference does: filter, kernel row, tap, input channel.
    fn export(&self) -> Option<LayerParameters> {
        let mut weights = vec![0.0; self.weights.effective.len()];
        self.for_each_weight(|ours, theirs| weights[theirs] = self.weights.effective[ours]);
        Some(self.weights.exported(weights))
    }

    fn import(&mut self, parameters: &LayerParameters) {
        if let LayerParameters::Weights { weights, bias } = parameters {
            let mut latent = vec![0.0; weights.len()];
            self.for_each_weight(|ours, theirs| latent[ours] = weights[theirs]);
            self.weights.latent = latent;
            self.weights.bias.clone_from(bias.as_ref().unwrap_or(&Vec::new()));
        }
    }
}

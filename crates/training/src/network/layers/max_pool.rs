//! The largest value of each block.

use rayon::prelude::*;

use super::{Batch, Extent, Pass, TrainableLayer};

/// Largest value of each block.
pub struct MaxPool {
    input: Extent,
    output: Extent,
    size: [usize; 2],
    /// For each output, the position in its sample's input that it came from.
    sources: Vec<u32>,
}

impl MaxPool {
    pub fn new(input: Extent, size: [usize; 2]) -> Self {
        let width = input.valid / size[1];
        let output =
            Extent { rows: input.rows / size[0], width, valid: width, channels: input.channels };
        Self { input, output, size, sources: Vec::new() }
    }

    fn pool(&self, input: &[f32], output: &mut [f32], sources: &mut [u32]) {
        let channels = self.input.channels;
        let blocks = output.chunks_exact_mut(channels).zip(sources.chunks_exact_mut(channels));
        for (block, (output, sources)) in blocks.enumerate() {
            let (row, column) = (block / self.output.width, block % self.output.width);
            output.fill(f32::NEG_INFINITY);
            for offset in 0..self.size[0] * self.size[1] {
                let row = row * self.size[0] + offset / self.size[1];
                let column = column * self.size[1] + offset % self.size[1];
                let position = (row * self.input.width + column) as u32;
                let values = &input[position as usize * channels..][..channels];
                take_larger(output, sources, values, position);
            }
        }
    }
}

impl TrainableLayer for MaxPool {
    fn output(&self) -> Extent {
        self.output
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, _: Pass) {
        let out_len = self.output.len();
        let mut sources = std::mem::take(&mut self.sources);
        sources.resize(samples * out_len, 0);
        output[..samples * out_len]
            .par_chunks_mut(out_len)
            .zip(sources.par_chunks_mut(out_len))
            .zip(input.par_chunks(self.input.len()))
            .for_each(|((output, sources), input)| self.pool(input, output, sources));
        self.sources = sources;
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { output_gradient, samples, .. } = *batch;
        let Some(input_gradient) = input_gradient else { return };
        let (in_len, out_len) = (self.input.len(), self.output.len());
        input_gradient[..samples * in_len]
            .par_chunks_mut(in_len)
            .zip(output_gradient.par_chunks(out_len))
            .zip(self.sources.par_chunks(out_len))
            .for_each(|((input, gradient), sources)| {
                input.fill(0.0);
                let channels = self.input.channels;
                let blocks = sources.chunks_exact(channels).zip(gradient.chunks_exact(channels));
                for (sources, gradient) in blocks {
                    for (channel, (&source, gradient)) in sources.iter().zip(gradient).enumerate() {
                        input[source as usize * channels + channel] += gradient;
                    }
                }
            });
    }
}

/// Keeps the larger of each pair of values, and its position. A mask chooses the bits without a
/// branch, which the compiler turns into vector instructions.
fn take_larger(largest: &mut [f32], sources: &mut [u32], values: &[f32], position: u32) {
    for ((largest, source), &value) in largest.iter_mut().zip(sources).zip(values) {
        let mask = u32::from(value > *largest).wrapping_neg();
        *largest = f32::from_bits((value.to_bits() & mask) | (largest.to_bits() & !mask));
        *source = (position & mask) | (*source & !mask);
    }
}

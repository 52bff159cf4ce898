//! Sign and tanh, value by value.

use rayon::prelude::*;

use super::{Batch, Extent, Pass, TrainableLayer};

/// Values that one task computes.
const VALUES_PER_TASK: usize = 1 << 14;

/// The sign, which takes zero as positive. Its gradient is a straight-through estimate.
pub struct Sign {
    extent: Extent,
    /// The gradient passes if the input is within this distance of 0, the less the further away
    /// (Bi-Real Net, arXiv 1808.00278). It is 1 after BatchNorm, else the unit of the layer before:
    /// sums of hundreds of signs are hardly ever within 1, and nothing would be learned.
    unit: f32,
}

impl Sign {
    pub fn new(extent: Extent, unit: f32) -> Self {
        Self { extent, unit }
    }
}

impl TrainableLayer for Sign {
    fn output(&self) -> Extent {
        self.extent
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], _: usize, _: Pass) {
        map(input, output, sign);
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Some(input_gradient) = input_gradient else { return };
        let unit = self.unit;
        zip_map(input_gradient, batch.input, batch.output_gradient, |value, gradient| {
            gradient * (2.0 - 2.0 * value.abs() / unit).max(0.0)
        });
    }
}

pub struct Tanh {
    extent: Extent,
}

impl Tanh {
    pub fn new(extent: Extent) -> Self {
        Self { extent }
    }
}

impl TrainableLayer for Tanh {
    fn output(&self) -> Extent {
        self.extent
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], _: usize, _: Pass) {
        map(input, output, f32::tanh);
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Some(input_gradient) = input_gradient else { return };
        zip_map(input_gradient, batch.output, batch.output_gradient, |value, gradient| {
            gradient * (1.0 - value * value)
        });
    }
}

pub fn sign(value: f32) -> f32 {
    if value >= 0.0 { 1.0 } else { -1.0 }
}

fn map(input: &[f32], output: &mut [f32], function: impl Fn(f32) -> f32 + Sync) {
    output.par_chunks_mut(VALUES_PER_TASK).zip(input.par_chunks(VALUES_PER_TASK)).for_each(
        |(output, input)| {
            for (output, &input) in output.iter_mut().zip(input) {
                *output = function(input);
            }
        },
    );
}

fn zip_map(output: &mut [f32], a: &[f32], b: &[f32], function: impl Fn(f32, f32) -> f32 + Sync) {
    output
        .par_chunks_mut(VALUES_PER_TASK)
        .zip(a.par_chunks(VALUES_PER_TASK))
        .zip(b.par_chunks(VALUES_PER_TASK))
        .for_each(|((output, a), b)| {
            for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
                *output = function(a, b);
            }
        });
}

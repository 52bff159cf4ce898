//! The mean over time.

use bipedalnet_core::bnn::time_share;
use rayon::prelude::*;

use super::{Batch, Extent, Pass, SHARD, TrainableLayer, add};

/// Mean over time of each row's channels.
pub struct Mean {
    input: Extent,
    output: Extent,
}

impl Mean {
    pub fn new(input: Extent) -> Self {
        Self { input, output: Extent { width: 1, valid: 1, ..input } }
    }
}

impl TrainableLayer for Mean {
    fn output(&self) -> Extent {
        self.output
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], _: usize, _: Pass) {
        let Extent { width, valid, channels, .. } = self.input;
        let share = time_share(valid);
        let rows = output.par_chunks_mut(channels).zip(input.par_chunks(width * channels));
        rows.with_min_len(SHARD).for_each(|(means, row)| {
            means.fill(0.0);
            row[..valid * channels].chunks_exact(channels).for_each(|values| add(means, values));
            means.iter_mut().for_each(|mean| *mean *= share);
        });
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Some(input_gradient) = input_gradient else { return };
        let Extent { width, valid, channels, .. } = self.input;
        let share = time_share(valid);
        let rows = input_gradient.par_chunks_mut(width * channels);
        let rows = rows.zip(batch.output_gradient.par_chunks(channels)).with_min_len(SHARD);
        rows.for_each(|(row, gradient)| {
            let (valid, rest) = row.split_at_mut(valid * channels);
            for values in valid.chunks_exact_mut(channels) {
                values.iter_mut().zip(gradient).for_each(|(to, from)| *to = share * from);
            }
            rest.fill(0.0);
        });
    }
}

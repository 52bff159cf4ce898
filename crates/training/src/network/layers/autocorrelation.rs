//! Autocorrelations of signs over time.

use bipedalnet_core::bnn::time_share;
use rayon::prelude::*;

use super::{Batch, Extent, Pass, TrainableLayer, add};

/// Means of signs over time, and of their products with later signs.
pub struct Autocorrelation {
    input: Extent,
    output: Extent,
    /// Samples between the two factors; 0 stands for the mean of the signs themselves.
    lags: [usize; 4],
}

impl Autocorrelation {
    pub fn new(input: Extent, lags: [usize; 3]) -> Self {
        let lags = [0, lags[0], lags[1], lags[2]];
        let channels = lags.len() * input.rows * input.channels;
        Self { input, output: Extent { rows: 1, width: 1, valid: 1, channels }, lags }
    }
}

impl TrainableLayer for Autocorrelation {
    fn output(&self) -> Extent {
        self.output
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], _: usize, _: Pass) {
        let Extent { rows, width, valid, channels } = self.input;
        output.par_chunks_mut(self.output.len()).zip(input.par_chunks(self.input.len())).for_each(
            |(output, input)| {
                output.fill(0.0);
                let series = output.chunks_exact_mut(rows * channels).zip(self.lags);
                for (means, lag) in series {
                    let share = time_share(valid - lag);
                    let pairs =
                        means.chunks_exact_mut(channels).zip(input.chunks_exact(width * channels));
                    for (means, row) in pairs {
                        let row = &row[..valid * channels];
                        let later = row[lag * channels..].chunks_exact(channels);
                        for (now, later) in row.chunks_exact(channels).zip(later) {
                            if lag == 0 {
                                add(means, now);
                                continue;
                            }
                            for ((mean, now), later) in means.iter_mut().zip(now).zip(later) {
                                *mean += now * later;
                            }
                        }
                        means.iter_mut().for_each(|mean| *mean *= share);
                    }
                }
            },
        );
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { input, output_gradient, .. } = *batch;
        let Some(input_gradient) = input_gradient else { return };
        let Extent { rows, width, valid, channels } = self.input;
        input_gradient
            .par_chunks_mut(self.input.len())
            .zip(input.par_chunks(self.input.len()))
            .zip(output_gradient.par_chunks(self.output.len()))
            .for_each(|((input_gradient, input), output_gradient)| {
                input_gradient.fill(0.0);
                let series = output_gradient.chunks_exact(rows * channels).zip(self.lags);
                for (gradients, lag) in series {
                    let share = time_share(valid - lag);
                    let rows = input_gradient
                        .chunks_exact_mut(width * channels)
                        .zip(input.chunks_exact(width * channels))
                        .zip(gradients.chunks_exact(channels));
                    for ((to, row), gradient) in rows {
                        let gradient: Vec<f32> = gradient.iter().map(|g| share * g).collect();
                        for now in (0..(valid - lag) * channels).step_by(channels) {
                            if lag == 0 {
                                add(&mut to[now..now + channels], &gradient);
                                continue;
                            }
                            // Each factor's gradient is the other factor.
                            let later = now + lag * channels;
                            for (at, gradient) in gradient.iter().enumerate() {
                                to[now + at] += gradient * row[later + at];
                                to[later + at] += gradient * row[now + at];
                            }
                        }
                    }
                }
            });
    }
}

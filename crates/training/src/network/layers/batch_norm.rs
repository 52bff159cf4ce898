//! Batch normalisation.

use bipedalnet_core::bnn::{BATCH_NORM_EPSILON, LayerParameters};
use rayon::prelude::*;

use super::{Batch, Extent, ParameterList, Pass, SHARD, TrainableLayer, add};

/// Batch normalisation without gamma.
pub struct BatchNorm {
    extent: Extent,
    beta: Vec<f32>,
    beta_gradient: Vec<f32>,
    inference_mean: Vec<f32>,
    inference_variance: Vec<f32>,
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

impl BatchNorm {
    pub fn new(extent: Extent) -> Self {
        let zeros = vec![0.0; extent.channels];
        Self {
            extent,
            beta: zeros.clone(),
            beta_gradient: zeros.clone(),
            inference_mean: zeros.clone(),
            inference_variance: vec![1.0; extent.channels],
            mean: zeros.clone(),
            inverse_deviation: zeros,
        }
    }

    /// Moves the averages for inference towards the statistics of batch `number`, from 0.
    fn average(&mut self, mean: &[f32], variance: &[f32], number: usize) {
        let share = 1.0 / (number + 1) as f32;
        let averages = [(&mut self.inference_mean, mean), (&mut self.inference_variance, variance)];
        for (averages, batch) in averages {
            if number == 0 {
                // A move from the last average would leave a trace of it, by rounding.
                averages.copy_from_slice(batch);
            }
            for (average, batch) in averages.iter_mut().zip(batch) {
                *average += share * (batch - *average);
            }
        }
    }

    fn statistics(&self, input: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let extent = self.extent;
        let parts: Vec<(Vec<f32>, Vec<f32>)> = input
            .par_chunks(SHARD * extent.len())
            .map(|shard| {
                let mut sums = vec![0.0; extent.channels];
                let mut squares = vec![0.0; extent.channels];
                for values in valid_positions(shard, extent) {
                    for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(values) {
                        *sum += value;
                        *square += value * value;
                    }
                }
                (sums, squares)
            })
            .collect();
        let count = (input.len() / extent.len() * extent.rows * extent.valid) as f64;
        let mut totals = vec![[0.0f64; 2]; extent.channels];
        for (sums, squares) in &parts {
            for (total, (&sum, &square)) in totals.iter_mut().zip(sums.iter().zip(squares)) {
                total[0] += f64::from(sum);
                total[1] += f64::from(square);
            }
        }
        totals
            .iter()
            .map(|[sum, square]| {
                let mean = sum / count;
                (mean as f32, (square / count - mean * mean).max(0.0) as f32)
            })
            .unzip()
    }

    /// By channel, the sums of the gradient, and of its products with the normalised values.
    fn gradient_sums(&self, batch: &Batch<'_>) -> (Vec<f32>, Vec<f32>) {
        let Batch { output, output_gradient, samples, .. } = *batch;
        let extent = self.extent;
        let length = extent.len();
        let beta = &self.beta;
        let parts: Vec<(Vec<f32>, Vec<f32>)> = output[..samples * length]
            .par_chunks(SHARD * length)
            .zip(output_gradient[..samples * length].par_chunks(SHARD * length))
            .map(|(output, gradient)| {
                let mut sums = vec![0.0; extent.channels];
                let mut products = vec![0.0; extent.channels];
                let positions =
                    valid_positions(output, extent).zip(valid_positions(gradient, extent));
                for (output, gradient) in positions {
                    let totals = sums.iter_mut().zip(&mut products);
                    let terms = gradient.iter().zip(output).zip(beta);
                    for ((sum, product), ((gradient, output), beta)) in totals.zip(terms) {
                        *sum += gradient;
                        *product += gradient * (output - beta);
                    }
                }
                (sums, products)
            })
            .collect();
        let mut sums = vec![0.0; extent.channels];
        let mut products = vec![0.0; extent.channels];
        for (sum, product) in &parts {
            add(&mut sums, sum);
            add(&mut products, product);
        }
        (sums, products)
    }
}

impl TrainableLayer for BatchNorm {
    fn output(&self) -> Extent {
        self.extent
    }

    fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, pass: Pass) {
        let length = self.extent.len();
        let input = &input[..samples * length];
        let (mean, variance) = match pass {
            Pass::Inference => (self.inference_mean.clone(), self.inference_variance.clone()),
            Pass::Training | Pass::Calibration(_) => self.statistics(input),
        };
        if let Pass::Calibration(number) = pass {
            self.average(&mean, &variance, number);
        }
        let inverse: Vec<f32> =
            variance.iter().map(|v| 1.0 / (v + BATCH_NORM_EPSILON).sqrt()).collect();
        let extent = self.extent;
        let beta = &self.beta;
        output[..samples * length].par_chunks_mut(length).zip(input.par_chunks(length)).for_each(
            |(output, input)| {
                let pairs = output
                    .chunks_exact_mut(extent.channels)
                    .zip(input.chunks_exact(extent.channels));
                for (output, input) in pairs {
                    let terms = mean.iter().zip(&inverse).zip(beta);
                    for ((output, input), ((mean, inverse), beta)) in
                        output.iter_mut().zip(input).zip(terms)
                    {
                        *output = (input - mean) * inverse + beta;
                    }
                }
            },
        );
        self.mean = mean;
        self.inverse_deviation = inverse;
    }

    fn backward(&mut self, batch: &Batch<'_>, input_gradient: Option<&mut [f32]>) {
        let Batch { output, output_gradient, samples, .. } = *batch;
        let (extent, length) = (self.extent, self.extent.len());
        let (sums, products) = self.gradient_sums(batch);
        add(&mut self.beta_gradient, &sums);
        let Some(input_gradient) = input_gradient else { return };
        let beta = &self.beta;
        // The input's gradient is `inverse * (gradient - by_mean - normal * by_product)`.
        let inverse_count = 1.0 / (samples * extent.rows * extent.valid) as f32;
        let by_mean: Vec<f32> = sums.iter().map(|sum| sum * inverse_count).collect();
        let by_product: Vec<f32> = products.iter().map(|product| product * inverse_count).collect();
        let inverse = &self.inverse_deviation;
        let row = extent.width * extent.channels;
        let valid = extent.valid * extent.channels;
        input_gradient[..samples * length]
            .par_chunks_mut(row)
            .zip(output.par_chunks(row))
            .zip(output_gradient.par_chunks(row))
            .with_min_len(extent.rows)
            .for_each(|((input, output), gradient)| {
                input[valid..].fill(0.0);
                let positions = input[..valid]
                    .chunks_exact_mut(extent.channels)
                    .zip(output.chunks_exact(extent.channels))
                    .zip(gradient.chunks_exact(extent.channels));
                for ((input, output), gradient) in positions {
                    let values = input.iter_mut().zip(output).zip(gradient);
                    let terms = beta.iter().zip(inverse).zip(by_mean.iter().zip(&by_product));
                    for (((input, output), gradient), ((beta, inverse), (mean, product))) in
                        values.zip(terms)
                    {
                        *input = inverse * (gradient - mean - (output - beta) * product);
                    }
                }
            });
    }

    fn trained(&mut self) -> Vec<ParameterList<'_>> {
        vec![ParameterList {
            values: &mut self.beta,
            gradient: &mut self.beta_gradient,
            unit: 1.0,
            latent: false,
        }]
    }

    fn export(&self) -> Option<LayerParameters> {
        Some(LayerParameters::BatchNorm {
            beta: self.beta.clone(),
            mean: self.inference_mean.clone(),
            variance: self.inference_variance.clone(),
        })
    }

    fn import(&mut self, parameters: &LayerParameters) {
        if let LayerParameters::BatchNorm { beta, mean, variance } = parameters {
            self.beta.copy_from_slice(beta);
            self.inference_mean.copy_from_slice(mean);
            self.inference_variance.copy_from_slice(variance);
        }
    }
}

fn valid_positions(values: &[f32], extent: Extent) -> impl Iterator<Item = &[f32]> {
    values
        .chunks_exact(extent.width * extent.channels)
        .flat_map(move |row| row[..extent.valid * extent.channels].chunks_exact(extent.channels))
}

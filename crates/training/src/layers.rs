//! Forward and backward of each layer, on batches.
//!
//! Values are stored sample by sample, then row, position in time, channel. A convolution leaves
//! its output as wide as its input, so that one matrix product runs over all windows of a batch;
//! the columns past [`Extent::valid`] hold nothing of meaning, and their gradient is zero.

use rayon::prelude::*;

use super::compression::Compression;
use super::matrix::{View, multiply};
use bipedalnet_core::bnn::{
    BATCH_NORM_EPSILON, LayerParameters, PackedFilters, Padding, SumsScratch, time_share,
};

/// Samples of a batch that one task works on. Fixed, so that sums are added in the same order
/// whatever the number of threads.
pub(super) const SHARD: usize = 16;

/// Weights that one task looks after.
const WEIGHTS_PER_TASK: usize = 1 << 14;

/// What a forward pass is for, which decides the statistics that BatchNorm uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pass {
    /// The batch's own statistics.
    Training,
    /// The batch's own, which also enter the average for inference as batch number `n` from 0.
    Calibration(usize),
    /// The averages of the last calibration.
    Inference,
}

/// Extent of one sample's values in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extent {
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

/// Weights with their gradient; what the network multiplies by is `effective`.
pub(super) struct Weights {
    /// Latent reals where the network is binary.
    pub latent: Vec<f32>,
    /// Signs of the latent values, or the values themselves, or what compression leaves of them.
    pub effective: Vec<f32>,
    /// `effective` where it is signs, packed once it is needed.
    packed: Option<PackedFilters>,
    pub gradient: Vec<f32>,
    pub bias: Vec<f32>,
    pub bias_gradient: Vec<f32>,
    pub binary: bool,
    /// In place of the signs or the values.
    pub compression: Option<Compression>,
    /// Whether they were fitted, in place of being learned from signs or from nothing.
    pub fitted: bool,
    outputs: usize,
    /// What an output's size is measured in: three standard deviations of a sum of as many signs as
    /// there are inputs where the network is binary, 1 otherwise.
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

    fn exported(&self, weights: Vec<f32>) -> LayerParameters {
        let bias = (!self.bias.is_empty()).then(|| self.bias.clone());
        LayerParameters::Weights { weights, bias }
    }

    /// For inputs that are signs; `None` where sums are not counted.
    fn packed(&mut self, channels: usize, outputs: usize) -> Option<&PackedFilters> {
        if self.binary && self.compression.is_none() && self.packed.is_none() {
            self.packed = PackedFilters::new(&self.effective, channels, outputs);
        }
        self.packed.as_ref()
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

pub(super) fn sign(value: f32) -> f32 {
    if value >= 0.0 { 1.0 } else { -1.0 }
}

/// Convolution. Weights are ordered (tap in time, kernel row, input channel, filter), so that a
/// window of the input, with its kernel rows laid side by side, is one contiguous run.
pub(super) struct Convolution {
    pub input: Extent,
    pub output: Extent,
    pub kernel: [usize; 2],
    pub weights: Weights,
    /// Zeros before the first row and the first position.
    padding_before: [usize; 2],
    /// Input with kernel rows side by side; empty where the input can be read as it is.
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

    /// Weights as inference orders them: filter, kernel row, tap, input channel.
    pub fn export(&self) -> LayerParameters {
        let mut weights = vec![0.0; self.weights.effective.len()];
        self.for_each_weight(|ours, theirs| weights[theirs] = self.weights.effective[ours]);
        self.weights.exported(weights)
    }

    /// The reverse of [`Convolution::export`].
    pub fn import(&mut self, parameters: &LayerParameters) {
        if let LayerParameters::Weights { weights, bias } = parameters {
            let mut latent = vec![0.0; weights.len()];
            self.for_each_weight(|ours, theirs| latent[ours] = weights[theirs]);
            self.weights.latent = latent;
            self.weights.bias.clone_from(bias.as_ref().unwrap_or(&Vec::new()));
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

    pub fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize) {
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

    /// Adds to the weights' gradient; writes the input's where it is wanted.
    pub fn backward(
        &mut self,
        input: &[f32],
        output_gradient: &[f32],
        input_gradient: Option<&mut [f32]>,
        samples: usize,
    ) {
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

/// Keeps the larger of each pair of values, and where it came from. Without a branch: bits are
/// chosen by a mask, which the compiler turns into vector instructions.
fn take_larger(largest: &mut [f32], sources: &mut [u32], values: &[f32], position: u32) {
    for ((largest, source), &value) in largest.iter_mut().zip(sources).zip(values) {
        let mask = u32::from(value > *largest).wrapping_neg();
        *largest = f32::from_bits((value.to_bits() & mask) | (largest.to_bits() & !mask));
        *source = (position & mask) | (*source & !mask);
    }
}

/// Largest value of each block.
pub(super) struct MaxPool {
    pub input: Extent,
    pub output: Extent,
    size: [usize; 2],
    /// Position in its sample's input from which each output came.
    sources: Vec<u32>,
}

impl MaxPool {
    pub fn new(input: Extent, size: [usize; 2]) -> Self {
        let width = input.valid / size[1];
        let output =
            Extent { rows: input.rows / size[0], width, valid: width, channels: input.channels };
        Self { input, output, size, sources: Vec::new() }
    }

    pub fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize) {
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

    pub fn backward(&self, output_gradient: &[f32], input_gradient: &mut [f32], samples: usize) {
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

/// Mean over time of each row's channels.
pub(super) struct Mean {
    pub input: Extent,
    pub output: Extent,
}

impl Mean {
    pub fn new(input: Extent) -> Self {
        Self { input, output: Extent { width: 1, valid: 1, ..input } }
    }

    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
        let Extent { width, valid, channels, .. } = self.input;
        let share = time_share(valid);
        let rows = output.par_chunks_mut(channels).zip(input.par_chunks(width * channels));
        rows.with_min_len(SHARD).for_each(|(means, row)| {
            means.fill(0.0);
            row[..valid * channels].chunks_exact(channels).for_each(|values| add(means, values));
            means.iter_mut().for_each(|mean| *mean *= share);
        });
    }

    pub fn backward(&self, output_gradient: &[f32], input_gradient: &mut [f32]) {
        let Extent { width, valid, channels, .. } = self.input;
        let share = time_share(valid);
        let rows = input_gradient.par_chunks_mut(width * channels);
        let rows = rows.zip(output_gradient.par_chunks(channels)).with_min_len(SHARD);
        rows.for_each(|(row, gradient)| {
            let (valid, rest) = row.split_at_mut(valid * channels);
            for values in valid.chunks_exact_mut(channels) {
                values.iter_mut().zip(gradient).for_each(|(to, from)| *to = share * from);
            }
            rest.fill(0.0);
        });
    }
}

/// Means of signs over time, and of their products with later signs.
pub(super) struct Autocorrelation {
    pub input: Extent,
    pub output: Extent,
    /// Samples between the two factors; 0 stands for the mean of the signs themselves.
    lags: [usize; 4],
}

impl Autocorrelation {
    pub fn new(input: Extent, lags: [usize; 3]) -> Self {
        let lags = [0, lags[0], lags[1], lags[2]];
        let channels = lags.len() * input.rows * input.channels;
        Self { input, output: Extent { rows: 1, width: 1, valid: 1, channels }, lags }
    }

    pub fn forward(&self, input: &[f32], output: &mut [f32]) {
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

    pub fn backward(&self, input: &[f32], output_gradient: &[f32], input_gradient: &mut [f32]) {
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

/// Batch normalisation without gamma.
pub(super) struct BatchNorm {
    pub extent: Extent,
    pub beta: Vec<f32>,
    pub beta_gradient: Vec<f32>,
    pub inference_mean: Vec<f32>,
    pub inference_variance: Vec<f32>,
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

    pub fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize, pass: Pass) {
        let length = self.extent.len();
        let input = &input[..samples * length];
        let (mean, variance) = match pass {
            Pass::Inference => (self.inference_mean.clone(), self.inference_variance.clone()),
            Pass::Training | Pass::Calibration(_) => self.statistics(input),
        };
        if let Pass::Calibration(number) = pass {
            let share = 1.0 / (number + 1) as f32;
            if number == 0 {
                // Not moved there from the last average, of which rounding would leave a trace.
                self.inference_mean.clone_from(&mean);
                self.inference_variance.clone_from(&variance);
            }
            for (average, batch) in self.inference_mean.iter_mut().zip(&mean) {
                *average += share * (batch - *average);
            }
            for (average, batch) in self.inference_variance.iter_mut().zip(&variance) {
                *average += share * (batch - *average);
            }
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

    /// `output` is what [`BatchNorm::forward`] wrote while training.
    pub fn backward(
        &mut self,
        output: &[f32],
        output_gradient: &[f32],
        input_gradient: &mut [f32],
        samples: usize,
    ) {
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
        add(&mut self.beta_gradient, &sums);
    }
}

/// Dense layer. Weights are ordered (input value, unit); the input is the flattened valid part.
pub(super) struct Dense {
    pub input: Extent,
    pub units: usize,
    pub weights: Weights,
    flat: Vec<f32>,
    flat_gradient: Vec<f32>,
}

/// Inputs whose weights' gradient one task computes.
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

    /// One whose weights are to be imported, and hardly learned.
    pub fn projection(input: Extent, units: usize) -> Self {
        let mut layer = Self::new(input, units, true, false);
        layer.weights.fitted = true;
        layer.weights.compression = Some(Compression::Int8);
        layer
    }

    /// Weights as inference orders them: unit, input value.
    pub fn export(&self) -> LayerParameters {
        let (inputs, units) = (self.inputs(), self.units);
        let weights = (0..inputs * units)
            .map(|index| self.weights.effective[index % inputs * units + index / inputs])
            .collect();
        self.weights.exported(weights)
    }

    /// The reverse of [`Dense::export`].
    pub fn import(&mut self, parameters: &LayerParameters) {
        if let LayerParameters::Weights { weights, bias } = parameters {
            let (inputs, units) = (self.inputs(), self.units);
            for (index, latent) in self.weights.latent.iter_mut().enumerate() {
                *latent = weights[index % units * inputs + index / units];
            }
            self.weights.bias.clone_from(bias.as_ref().unwrap_or(&Vec::new()));
        }
    }

    /// Number of input values.
    pub fn inputs(&self) -> usize {
        self.input.rows * self.input.valid * self.input.channels
    }

    pub fn forward(&mut self, input: &[f32], output: &mut [f32], samples: usize) {
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
        // As one position, whatever the shape: so most values fit a word.
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

    pub fn backward(
        &mut self,
        input: &[f32],
        output_gradient: &[f32],
        input_gradient: Option<&mut [f32]>,
        samples: usize,
    ) {
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
}

/// Outputs of a binary layer without kernel rows or padding by counting bits. False where its
/// inputs are no signs, as a first layer's are not.
fn count_sums(
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

fn valid_positions(values: &[f32], extent: Extent) -> impl Iterator<Item = &[f32]> {
    values
        .chunks_exact(extent.width * extent.channels)
        .flat_map(move |row| row[..extent.valid * extent.channels].chunks_exact(extent.channels))
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

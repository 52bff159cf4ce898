//! The stages that a packed network runs: one per layer, or one for several layers if there are
//! kernels for their shapes.

use super::super::Shape;
use super::super::kernels::{self, Filters, FirstBlock, Kernels, MAX_SIGN_WORDS};
use super::Scratch;
use super::affine::Affine;
use super::geometry::Geometry;

#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// From the fixed-point input to integers. Weights are `[tap][filter]`, -1 for -1, 0 for +1.
    FirstConvolution { geometry: Geometry, negative: Vec<i32> },
    /// From bits to integers. Weights are `[tap][word][filter]`.
    Convolution { geometry: Geometry, weights: Vec<u64> },
    /// From integers to integers.
    MaxPool { from: Shape, to: Shape, size: [usize; 2] },
    /// From bits to bits.
    MaxPoolBits { from: Shape, to: Shape, size: [usize; 2], words: usize },
    /// From bits to integers: the sum of each row's signs over time, then for each lag the sum of
    /// the products of two signs this far apart.
    Series { kernels: Kernels, from: Shape, words: usize, lags: Vec<usize> },
    /// From integers to bits. `feature` is there if the values before the sign are the feature.
    Sign { thresholds: Vec<i32>, words: usize, feature: Option<Affine> },
    /// Convolution, max-pool and sign: from the fixed-point input to bits.
    FirstBlock(FirstBlock),
    /// Convolution and sign: from bits to bits.
    FilterSigns { geometry: Geometry, filters: Filters },
    /// Convolution: from bits to integers.
    FilterSums { geometry: Geometry, filters: Filters },
}

/// Replaces stages with faster ones if there are kernels for their shapes.
pub(super) fn with_kernels(mut stages: &[Stage], kernels: Kernels) -> Vec<Stage> {
    let mut faster = Vec::new();
    loop {
        let (stage, rest) = match stages {
            [] => return faster,
            [
                Stage::FirstConvolution { geometry, negative },
                Stage::MaxPool { size: [2, 2], .. },
                Stage::Sign { thresholds, feature: None, .. },
                rest @ ..,
            ] if geometry.kernel == [3, 3] && geometry.is_unpadded() => {
                let input = [geometry.from.rows, geometry.from.samples];
                (Stage::FirstBlock(FirstBlock::new(kernels, input, negative, thresholds)), rest)
            }
            [
                Stage::Convolution { geometry, weights },
                Stage::Sign { thresholds, feature: None, .. },
                rest @ ..,
            ] if geometry.suits_filters() && geometry.window_words() <= MAX_SIGN_WORDS => {
                // A sum is the number of inputs that match minus the number that do not.
                let inputs = geometry.inputs() as i32;
                let limit = |threshold: &i32| (inputs - threshold).div_euclid(2);
                let limits: Vec<i32> = thresholds.iter().map(limit).collect();
                let filters = geometry.filters(kernels, weights, &limits);
                (Stage::FilterSigns { geometry: *geometry, filters }, rest)
            }
            [Stage::Convolution { geometry, weights }, rest @ ..] if geometry.suits_filters() => {
                let filters = geometry.filters(kernels, weights, &[]);
                (Stage::FilterSums { geometry: *geometry, filters }, rest)
            }
            [stage, rest @ ..] => (stage.clone(), rest),
        };
        faster.push(stage);
        stages = rest;
    }
}

impl Stage {
    pub(super) fn has_weights(&self) -> bool {
        !matches!(
            self,
            Self::MaxPool { .. }
                | Self::MaxPoolBits { .. }
                | Self::Series { .. }
                | Self::Sign { .. }
        )
    }

    /// Number of channels that a stage with weights reads; 1 if it reads the window itself.
    pub(super) fn channels_read(&self) -> usize {
        match self {
            Self::Convolution { geometry, .. }
            | Self::FilterSigns { geometry, .. }
            | Self::FilterSums { geometry, .. } => geometry.from.channels,
            _ => 1,
        }
    }

    /// Reads the window or the scratch, and writes the scratch.
    pub(super) fn run(&self, input: &[i16], scratch: &mut Scratch) {
        let Scratch { integers, tables, bits, next_bits, blocks, feature, .. } = scratch;
        match self {
            Self::FirstConvolution { geometry, negative } => {
                let filters = geometry.to.channels;
                integers.clear();
                integers.resize(geometry.to.len(), 0);
                for (position, sums) in integers.chunks_exact_mut(filters).enumerate() {
                    geometry.for_each_tap(position, |tap, source| {
                        let value = i32::from(input[source]);
                        let negative = &negative[tap * filters..][..filters];
                        for (sum, &negative) in sums.iter_mut().zip(negative) {
                            *sum += (value ^ negative) - negative;
                        }
                    });
                }
            }
            Self::Convolution { geometry, weights } => {
                let (filters, words) = (geometry.to.channels, geometry.position_words());
                integers.clear();
                integers.resize(geometry.to.len(), 0);
                for (position, sums) in integers.chunks_exact_mut(filters).enumerate() {
                    let mut taps = 0;
                    geometry.for_each_tap(position, |tap, source| {
                        taps += 1;
                        for word in 0..words {
                            let weights = &weights[(tap * words + word) * filters..][..filters];
                            kernels::add_mismatches(sums, bits[source * words + word], weights);
                        }
                    });
                    to_sums(sums, taps * geometry.from.channels);
                }
            }
            Self::MaxPool { from, to, size } => {
                pool_in_place(integers, *from, *to, *size, to.channels, i32::max);
            }
            Self::MaxPoolBits { from, to, size, words } => {
                pool_in_place(bits, *from, *to, *size, *words, |a, b| a | b);
            }
            Self::Series { kernels, from, words, lags } => {
                let shape = [from.samples, *words, from.channels];
                kernels.sums_over_time(bits, shape, lags, blocks, integers);
            }
            Self::Sign { thresholds, words, feature: affine } => {
                let channels = thresholds.len();
                bits.clear();
                bits.resize(integers.len() / channels * words, 0);
                let positions = bits.chunks_exact_mut(*words).zip(integers.chunks_exact(channels));
                for (words, integers) in positions {
                    pack(integers, thresholds, words);
                }
                if let Some(affine) = affine {
                    affine.apply_all(integers, channels, feature);
                }
            }
            Self::FirstBlock(block) => block.run(input, tables, bits),
            Self::FilterSigns { geometry, filters } => {
                let row_words = geometry.to.samples * geometry.to.channels.div_ceil(64);
                next_bits.resize(geometry.to.rows * row_words, 0);
                for (row, signs) in next_bits.chunks_exact_mut(row_words).enumerate() {
                    filters.signs(geometry.row(bits, row), signs);
                }
                // Not swapped, so that the first run grows each buffer to its final size.
                bits.clone_from(next_bits);
            }
            Self::FilterSums { geometry, filters } => {
                let row_sums = geometry.to.samples * geometry.to.channels;
                integers.resize(geometry.to.rows * row_sums, 0);
                for (row, sums) in integers.chunks_exact_mut(row_sums).enumerate() {
                    filters.mismatches(geometry.row(bits, row), sums);
                    to_sums(sums, geometry.inputs());
                }
            }
        }
    }
}

/// Each input that matches a filter adds 1 to its sum; each that does not subtracts 1.
fn to_sums(mismatches: &mut [i32], inputs: usize) {
    mismatches.iter_mut().for_each(|value| *value = inputs as i32 - 2 * *value);
}

/// Packs one position: bit `c` is set if value `c` is at least threshold `c`.
fn pack(values: &[i32], thresholds: &[i32], words: &mut [u64]) {
    let pairs = values.chunks(64).zip(thresholds.chunks(64));
    for (word, (values, thresholds)) in words.iter_mut().zip(pairs) {
        *word = 0;
        for (bit, (value, threshold)) in values.iter().zip(thresholds).enumerate() {
            *word |= u64::from(value >= threshold) << bit;
        }
    }
}

/// Combines each block of positions into one position. A position has `width` values.
fn pool_in_place<T: Copy>(
    values: &mut Vec<T>,
    from: Shape,
    to: Shape,
    size: [usize; 2],
    width: usize,
    combine: impl Fn(T, T) -> T,
) {
    for row in 0..to.rows {
        for sample in 0..to.samples {
            // An output never lies behind the block that it is made from.
            let target = (row * to.samples + sample) * width;
            let first = (row * size[0] * from.samples + sample * size[1]) * width;
            values.copy_within(first..first + width, target);
            for block_row in 0..size[0] {
                for block_sample in usize::from(block_row == 0)..size[1] {
                    let source = first + (block_row * from.samples + block_sample) * width;
                    let (done, rest) = values.split_at_mut(source);
                    let pairs = done[target..target + width].iter_mut().zip(&rest[..width]);
                    pairs.for_each(|(pooled, &value)| *pooled = combine(*pooled, value));
                }
            }
        }
    }
    values.truncate(to.rows * to.samples * width);
}

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
    /// From bits to integers: the sum of each row's signs over time.
    Mean { from: Shape, words: usize },
    /// From bits to integers: the sum of each row's signs over time, then for each lag the sum of
    /// the products of two signs this far apart.
    Autocorrelation { from: Shape, words: usize, lags: [usize; 3] },
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
                | Self::Mean { .. }
                | Self::Autocorrelation { .. }
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
        let Scratch { integers, bits, next_bits, feature, .. } = scratch;
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
            Self::Mean { from, words } => {
                integers.clear();
                for row in bits.chunks_exact(from.samples * words) {
                    let words = row.chunks_exact(*words);
                    add_sums_by_channel(words, from.channels, |words, at| words[at], integers);
                }
            }
            Self::Autocorrelation { from, words, lags } => {
                integers.clear();
                let rows = || bits.chunks_exact(from.samples * words);
                for row in rows() {
                    let words = row.chunks_exact(*words);
                    add_sums_by_channel(words, from.channels, |words, at| words[at], integers);
                }
                for lag in lags {
                    for row in rows() {
                        let pairs =
                            row.chunks_exact(*words).zip(row[lag * words..].chunks_exact(*words));
                        // The product of two equal signs is +1.
                        let product =
                            |(now, later): (&[u64], &[u64]), at: usize| !(now[at] ^ later[at]);
                        add_sums_by_channel(pairs, from.channels, product, integers);
                    }
                }
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
            Self::FirstBlock(block) => block.run(input, bits),
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

/// Appends the sum of each channel's signs over positions. `bits` returns a word of a position.
fn add_sums_by_channel<P>(
    positions: impl ExactSizeIterator<Item = P> + Clone,
    channels: usize,
    bits: impl Fn(P, usize) -> u64,
    sums: &mut Vec<i32>,
) {
    let count = positions.len() as i32;
    for word in 0..channels.div_ceil(64) {
        let ones = ones_by_bit(positions.clone().map(|position| bits(position, word)));
        let channels = (channels - 64 * word).min(64);
        sums.extend(ones[..channels].iter().map(|ones| 2 * ones - count));
    }
}

/// For each bit, the number of words in which it is set.
///
/// Counts in binary, 64 bits side by side. Eight words at a time are added to the first three
/// digits; the carry ripples on to the others.
fn ones_by_bit(mut words: impl ExactSizeIterator<Item = u64>) -> [i32; 64] {
    let mut digits = [0u64; i32::BITS as usize];
    let (low, high) = digits.split_at_mut(3);
    let [ones, twos, fours] = low else { unreachable!("three digits were split off") };
    for _ in 0..words.len().div_ceil(8) {
        // Missing words at the end count as zeros.
        let mut pair_to = |digit: &mut u64| {
            let [a, b] = [(); 2].map(|()| words.next().unwrap_or(0));
            add_pair(digit, a, b)
        };
        let [a, b, c, d] = [(); 4].map(|()| pair_to(ones));
        let [a, b] = [add_pair(twos, a, b), add_pair(twos, c, d)];
        let mut carry = add_pair(fours, a, b);
        for digit in high.iter_mut() {
            if carry == 0 {
                break;
            }
            (*digit, carry) = (*digit ^ carry, *digit & carry);
        }
    }
    let used = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
    let mut ones = [0; 64];
    for (place, digit) in digits[..used].iter().enumerate() {
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones |= ((digit >> bit & 1) as i32) << place;
        }
    }
    ones
}

/// Adds two bits to each bit of a digit. Returns the carry.
fn add_pair(digit: &mut u64, a: u64, b: u64) -> u64 {
    let either = *digit ^ a;
    let carry = (*digit & a) | (either & b);
    *digit = either ^ b;
    carry
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

//! Sums of a binary layer by counting bits. For training, which changes weights at each step.

use super::kernels::{Filters, Kernels, negatives};

/// Most words that a filter reads.
const MAX_WINDOW_WORDS: usize = 1 << 14;

/// Binary filters of a dense layer or a convolution over time.
pub struct PackedFilters {
    filters: Filters,
    channels: usize,
    /// Number of values that a filter reads.
    inputs: usize,
}

/// Working memory of [`PackedFilters::sums`].
#[derive(Default)]
pub struct SumsScratch {
    words: Vec<u64>,
    mismatches: Vec<i32>,
}

impl PackedFilters {
    /// Packs `weights` of +1 and -1, ordered `[position][channel][filter]`. `None` if filters are too
    /// wide.
    pub fn new(weights: &[f32], channels: usize, count: usize) -> Option<Self> {
        let inputs = weights.len() / count;
        let words = channels.div_ceil(64);
        if inputs / channels * words > MAX_WINDOW_WORDS {
            return None;
        }
        let mut packed = vec![0; inputs / channels * words * count];
        for (input, weights) in weights.chunks_exact(count).enumerate() {
            let (position, channel) = (input / channels, input % channels);
            let word = position * words + channel / 64;
            for (word, weight) in packed[word * count..][..count].iter_mut().zip(weights) {
                *word |= u64::from(!is_negative(*weight)) << (channel % 64);
            }
        }
        let kernels = Kernels::available()[0];
        let filters = Filters::new(kernels, &packed, count, channels, &[]);
        Some(Self { filters, channels, inputs })
    }

    /// Slides over a row of signs, `[position][channel]`, and writes the sums, `[window][filter]`. They
    /// equal a float product exactly.
    ///
    /// Returns false and writes nothing if a value is not +1 or -1.
    pub fn sums(&self, row: &[f32], sums: &mut [f32], scratch: &mut SumsScratch) -> bool {
        scratch.words.clear();
        for values in row.chunks_exact(self.channels) {
            for values in values.chunks(64) {
                let Some(word) = pack(values) else { return false };
                scratch.words.push(word);
            }
        }
        scratch.mismatches.resize(sums.len(), 0);
        self.filters.mismatches(&scratch.words, &mut scratch.mismatches);
        for (sum, mismatches) in sums.iter_mut().zip(&scratch.mismatches) {
            *sum = (self.inputs as i32 - 2 * mismatches) as f32;
        }
        true
    }
}

/// One bit per value, set for +1. `None` if a value is not +1 or -1.
fn pack(values: &[f32]) -> Option<u64> {
    let strange =
        values.iter().fold(0, |bits, value| bits | (value.abs().to_bits() ^ 1f32.to_bits()));
    let (fours, rest) = values.as_chunks();
    let mut word = 0;
    for (at, four) in fours.iter().enumerate() {
        word |= (!negatives(four) & 15) << (4 * at);
    }
    for (at, value) in rest.iter().enumerate() {
        word |= u64::from(!is_negative(*value)) << (4 * fours.len() + at);
    }
    (strange == 0).then_some(word)
}

fn is_negative(value: f32) -> bool {
    value.to_bits() >> 31 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_equal_a_float_product() {
        let mut state = 1u32;
        let mut sign = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 1 { 1.0 } else { -1.0 }
        };
        for (positions, taps, channels, count) in [
            (9, 3, 64, 64),
            (9, 3, 32, 5),
            (7, 7, 70, 33),
            (4, 2, 1, 65),
            (1, 1, 32, 38),
            (1, 1, 1000, 32),
        ] {
            let weights: Vec<f32> = (0..taps * channels * count).map(|_| sign()).collect();
            let mut row: Vec<f32> = (0..positions * channels).map(|_| sign()).collect();
            let filters = PackedFilters::new(&weights, channels, count).unwrap();
            let mut sums = vec![0.5; (positions + 1 - taps) * count];
            let scratch = &mut SumsScratch::default();
            assert!(filters.sums(&row, &mut sums, scratch));
            for (window, sums) in sums.chunks_exact(count).enumerate() {
                for (filter, &sum) in sums.iter().enumerate() {
                    let expected: f32 = (0..taps * channels)
                        .map(|at| row[window * channels + at] * weights[at * count + filter])
                        .sum();
                    assert_eq!(sum, expected, "window {window}, filter {filter}");
                }
            }
            for strange in [0.0, -0.5, f32::NAN] {
                row[positions * channels - 1] = strange;
                assert!(!filters.sums(&row, &mut sums, scratch));
            }
        }
        assert!(PackedFilters::new(&vec![1.0; (1 << 14) + 1], 1, 1).is_none());
    }
}

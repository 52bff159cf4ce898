//! The inner loops, in portable code. Faster ones for a given processor belong here, behind the
//! same functions, each held to these by property tests.
//!
//! Bits: channel `c` of a position is bit `c % 64` of word `c / 64`, 1 for +1; bits past the last
//! channel are 0 in values and in weights, so that they never mismatch. Weights are stored with
//! the filter innermost, one word or value for each, so that filters lie across vector lanes.

/// Adds `value`, or its negative where `negative` is -1 instead of 0, to each filter's sum.
pub(super) fn add_signed(sums: &mut [i32], value: i32, negative: &[i32]) {
    for (sum, &negative) in sums.iter_mut().zip(negative) {
        *sum += (value ^ negative) - negative;
    }
}

/// Adds the number of bits in which `word` and each filter's weights differ.
pub(super) fn add_mismatches(mismatches: &mut [i32], word: u64, weights: &[u64]) {
    for (mismatches, weights) in mismatches.iter_mut().zip(weights) {
        *mismatches += (word ^ weights).count_ones() as i32;
    }
}

/// Number of bits in which two lists of words differ.
pub(super) fn mismatches(words: &[u64], weights: &[u64]) -> i32 {
    words.iter().zip(weights).map(|(a, b)| (a ^ b).count_ones() as i32).sum()
}

/// Packs one position: bit `c` tells whether value `c` has reached threshold `c`.
pub(super) fn pack(values: &[i32], thresholds: &[i32], words: &mut [u64]) {
    let pairs = values.chunks(64).zip(thresholds.chunks(64));
    for (word, (values, thresholds)) in words.iter_mut().zip(pairs) {
        *word = 0;
        for (bit, (value, threshold)) in values.iter().zip(thresholds).enumerate() {
            *word |= u64::from(value >= threshold) << bit;
        }
    }
}

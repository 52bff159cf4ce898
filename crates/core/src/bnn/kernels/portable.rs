//! Plain Rust on 64-bit words.
//!
//! Signs are counted bit by bit: bit `f` of a word belongs to filter `f`. Logic gates add the mismatches
//! of 64 filters in parallel, binary digit by binary digit.

use super::{FirstBlock, LANES, MAX_SIGN_WORDS, Windows};

/// Number of pooled positions of a row that are computed together.
const COLUMNS: usize = 8;

/// For each pattern of signs, sums of three taps at even and at odd positions.
type Tables = [[[i32; COLUMNS]; 2]; 8];

pub(super) fn first_block(block: &FirstBlock, input: &[i16], bits: &mut [u64]) {
    for first in (0..block.pooled_samples).step_by(COLUMNS) {
        let columns = COLUMNS.min(block.pooled_samples - first);
        // Tables of the last four rows.
        let mut tables = [[[[0; COLUMNS]; 2]; 8]; 4];
        for row in 0..2 * block.pooled_rows + 2 {
            let taps = &input[row * block.samples + 2 * first..][..2 * columns + 2];
            fill(&mut tables[row % 4], taps);
            if row < 3 || row % 2 == 0 {
                continue;
            }
            let rows = [1, 2, 3, 4].map(|next| &tables[(row + next) % 4]);
            let position = (row / 2 - 1) * block.pooled_samples + first;
            for word in 0..block.words {
                let signs = signs(block, rows, word);
                let words = bits[position * block.words + word..].iter_mut().step_by(block.words);
                words.zip(&signs[..columns]).for_each(|(word, signs)| *word = *signs);
            }
        }
    }
}

fn fill(tables: &mut Tables, taps: &[i16]) {
    let (mut even, mut odd) = ([0; COLUMNS + 1], [0; COLUMNS + 1]);
    for (taps, (even, odd)) in taps.chunks_exact(2).zip(even.iter_mut().zip(&mut odd)) {
        (*even, *odd) = (i32::from(taps[0]), i32::from(taps[1]));
    }
    for (pattern, [even_sums, odd_sums]) in tables.iter_mut().enumerate() {
        // -1 negates a value, 0 keeps it.
        let [a, b, c] = [0, 1, 2].map(|tap| (pattern as i32 >> tap & 1) - 1);
        for at in 0..COLUMNS {
            let inner = ((odd[at] ^ b) - b) + ((even[at + 1] ^ c) - c);
            even_sums[at] = ((even[at] ^ a) - a) + inner;
            let inner = ((odd[at] ^ a) - a) + ((even[at + 1] ^ b) - b);
            odd_sums[at] = inner + ((odd[at + 1] ^ c) - c);
        }
    }
}

/// One word of signs for each column.
fn signs(block: &FirstBlock, rows: [&Tables; 4], word: usize) -> [u64; COLUMNS] {
    let mut signs = [0; COLUMNS];
    let registers = block.thresholds.iter().enumerate().skip(word * 64 / LANES).take(64 / LANES);
    for (register, thresholds) in registers {
        for (lane, &threshold) in thresholds.0.iter().enumerate() {
            let [a, b, c] =
                block.patterns.each_ref().map(|lanes| lanes[register].0[lane] as usize % 8);
            let bit = (register * LANES + lane) % 64;
            for (column, signs) in signs.iter_mut().enumerate() {
                let sum = |row: usize, odd: usize| {
                    rows[row][a][odd][column]
                        + rows[row + 1][b][odd][column]
                        + rows[row + 2][c][odd][column]
                };
                let largest = sum(0, 0).max(sum(0, 1)).max(sum(1, 0)).max(sum(1, 1));
                *signs |= u64::from(largest >= threshold) << bit;
            }
        }
    }
    signs
}

#[derive(Clone, Debug)]
pub(super) struct Filters {
    /// `[word][filter]`.
    weights: Vec<u64>,
    /// Blocks of up to 64 filters, one per output word. None if there are no limits.
    blocks: Vec<Block>,
    filters: usize,
    /// Number of bits of each word that positions use: 32 or 64.
    word_bits: usize,
}

/// Bit `f` of each word belongs to filter `f`.
#[derive(Clone, Debug)]
struct Block {
    /// One word for each bit of a window.
    weights: Vec<u64>,
    /// Binary digits of the limits, lowest first.
    limits: [u64; DIGITS],
    /// Filters with a limit of 0 or more.
    possible: u64,
}

/// Binary digits of a number of mismatches.
const DIGITS: usize = 8;
const _: () = assert!(MAX_SIGN_WORDS * 64 < 1 << DIGITS);

/// Number of windows that are counted together, so that the compiler can use vector registers.
const WINDOWS: usize = 16;

type Bits = [u64; WINDOWS];

impl Filters {
    pub(super) fn new(weights: &[u64], filters: usize, channels: usize, limits: &[i32]) -> Self {
        let word_bits = if channels > 32 { 64 } else { 32 };
        let block = |first: usize| {
            let block = first..filters.min(first + 64);
            let limits = &limits[block.clone()];
            let words = weights.chunks_exact(filters).map(|words| &words[block.clone()]);
            let bit = |words: &[u64], bit| word(words.iter().map(|word| word >> bit & 1 == 1));
            Block {
                weights: words
                    .flat_map(|words| (0..word_bits).map(move |at| bit(words, at)))
                    .collect(),
                limits: std::array::from_fn(|digit| {
                    word(limits.iter().map(|limit| limit >> digit & 1 == 1))
                }),
                possible: word(limits.iter().map(|&limit| limit >= 0)),
            }
        };
        let blocks = (0..limits.len()).step_by(64).map(block).collect();
        Self { weights: weights.to_vec(), blocks, filters, word_bits }
    }

    pub(super) fn signs(&self, windows: Windows, signs: &mut [u64]) {
        let positions = signs.len() / self.blocks.len();
        for first in (0..positions).step_by(WINDOWS) {
            // Repeats the last position if there are too few.
            let position = |next: usize| (first + next).min(positions - 1);
            let together = std::array::from_fn(|next| windows.at(position(next)));
            for (at, block) in self.blocks.iter().enumerate() {
                let words = block.signs(together, self.word_bits);
                let signs = signs[at..].iter_mut().step_by(self.blocks.len());
                signs.skip(first).zip(words).for_each(|(sign, word)| *sign = word);
            }
        }
    }

    pub(super) fn mismatches(&self, window: &[u64], mismatches: &mut [i32]) {
        mismatches.fill(0);
        for (&word, weights) in window.iter().zip(self.weights.chunks_exact(self.filters)) {
            add_mismatches(mismatches, word, weights);
        }
    }
}

impl Block {
    fn signs(&self, windows: [&[u64]; WINDOWS], word_bits: usize) -> Bits {
        let mut counted = [[0; WINDOWS]; DIGITS];
        for (at, weights) in self.weights.chunks_exact(word_bits).enumerate() {
            let words = windows.map(|window| window[at]);
            for (byte, weights) in weights.chunks_exact(8).enumerate() {
                let weights = weights.try_into().expect("chunks have this length");
                add_byte(&mut counted, words.map(|word| word >> (8 * byte)), weights);
            }
        }
        let mut at_most = [u64::MAX; WINDOWS];
        for (counted, limit) in counted.iter().zip(self.limits) {
            for (at_most, counted) in at_most.iter_mut().zip(counted) {
                // The highest digit in which they differ decides.
                *at_most = (!counted & limit) | (*at_most & !(counted ^ limit));
            }
        }
        at_most.map(|at_most| at_most & self.possible)
    }
}

/// Adds the mismatches of the lowest eight bits of each word.
fn add_byte(counted: &mut [Bits; DIGITS], words: Bits, weights: &[u64; 8]) {
    for window in 0..WINDOWS {
        let mismatch = |bit: usize| (words[window] >> bit & 1).wrapping_neg() ^ weights[bit];
        let mut digits = counted.each_ref().map(|digit| digit[window]);
        let [ones, twos, fours, above @ ..] = &mut digits;
        let mut add_four = |bit: usize| {
            let low = add(ones, mismatch(bit), mismatch(bit + 1));
            let high = add(ones, mismatch(bit + 2), mismatch(bit + 3));
            add(twos, low, high)
        };
        let (low, high) = (add_four(0), add_four(4));
        let mut carry = add(fours, low, high);
        for digit in above {
            (*digit, carry) = (*digit ^ carry, *digit & carry);
        }
        for (counted, digit) in counted.iter_mut().zip(digits) {
            counted[window] = digit;
        }
    }
}

/// Adds two bits to a digit of the same weight. Returns the carry.
#[inline(always)]
fn add(digit: &mut u64, first: u64, second: u64) -> u64 {
    let either = first ^ second;
    let carry = (first & second) | (*digit & either);
    *digit ^= either;
    carry
}

/// Adds the number of bits in which `word` differs from the weights of each filter.
pub(in crate::bnn) fn add_mismatches(mismatches: &mut [i32], word: u64, weights: &[u64]) {
    for (mismatches, weights) in mismatches.iter_mut().zip(weights) {
        *mismatches += (word ^ weights).count_ones() as i32;
    }
}

/// A word from up to 64 bits, lowest first.
fn word(bits: impl Iterator<Item = bool>) -> u64 {
    bits.enumerate().fold(0, |word, (at, bit)| word | u64::from(bit) << at)
}

//! AVX-512 with VPOPCNTDQ: 16 filters per register.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FACTORS, FirstBlock, LANES, Lanes, Windows, lanes, pair};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vpopcntdq")
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &Lanes) -> __m512i {
    // SAFETY: `Lanes` are 64 bytes, aligned to 64 bytes.
    unsafe { _mm512_load_si512(lanes.0.as_ptr().cast()) }
}

/// The tables of two neighbouring positions, side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn tables(taps: &[i16], factors: [__m512i; 2]) -> __m512i {
    let first = _mm512_madd_epi16(_mm512_set1_epi32(pair(taps[0], taps[1])), factors[0]);
    let second = _mm512_madd_epi16(_mm512_set1_epi32(pair(taps[2], taps[3])), factors[1]);
    _mm512_add_epi32(first, second)
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn first_block(block: &FirstBlock, input: &[i16], bits: &mut [u64]) {
    let factors = [load(&FACTORS[0]), load(&FACTORS[1])];
    for (half, thresholds) in block.thresholds.chunks_exact(2).enumerate() {
        let thresholds = [load(&thresholds[0]), load(&thresholds[1])];
        // For even positions, then for odd ones. Their table starts at lane 8.
        let mut patterns = [[[_mm512_setzero_si512(); 2]; 3]; 2];
        for (row, lanes) in block.patterns.iter().enumerate() {
            for group in 0..2 {
                let even = load(&lanes[2 * half + group]);
                patterns[0][row][group] = even;
                patterns[1][row][group] = _mm512_add_epi32(even, _mm512_set1_epi32(8));
            }
        }
        for column in 0..block.pooled_samples {
            let table =
                |row: usize| tables(&input[row * block.samples + 2 * column..][..4], factors);
            let (mut top, mut second) = (table(0), table(1));
            for row in 0..block.pooled_rows {
                let (third, bottom) = (table(2 * row + 2), table(2 * row + 3));
                let mut word = 0;
                for group in 0..2 {
                    let sum = |rows: [__m512i; 3], patterns: &[[__m512i; 2]; 3]| {
                        let sum = _mm512_add_epi32(
                            _mm512_permutexvar_epi32(patterns[0][group], rows[0]),
                            _mm512_permutexvar_epi32(patterns[1][group], rows[1]),
                        );
                        let last = _mm512_permutexvar_epi32(patterns[2][group], rows[2]);
                        _mm512_add_epi32(sum, last)
                    };
                    let larger = |rows: [__m512i; 3]| {
                        _mm512_max_epi32(sum(rows, &patterns[0]), sum(rows, &patterns[1]))
                    };
                    let upper = larger([top, second, third]);
                    let lower = larger([second, third, bottom]);
                    let largest = _mm512_max_epi32(upper, lower);
                    let mask = _mm512_cmpge_epi32_mask(largest, thresholds[group]);
                    word |= u64::from(mask) << (LANES * group);
                }
                let position = row * block.pooled_samples + column;
                bits[position * block.words + half / 2] |= word << (2 * LANES * (half % 2));
                (top, second) = (third, bottom);
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Ordered `[word][half word][register]`.
    weights: Vec<Lanes>,
    limits: Vec<Lanes>,
    /// Whether positions use the upper half of a word.
    upper_half: bool,
}

impl super::Block for Block {
    fn new(
        weights: &[u64],
        filters: usize,
        block: Range<usize>,
        upper_half: bool,
        limits: Vec<i32>,
    ) -> Self {
        let shifts: &[u32] = if upper_half { &[0, 32] } else { &[0] };
        // Without a list for each half word, because training packs filters at each step.
        let registers = block.len().next_multiple_of(2 * LANES) / LANES;
        let mut packed = Vec::with_capacity(weights.len() / filters * shifts.len() * registers);
        for weights in weights.chunks_exact(filters) {
            let weights = &weights[block.clone()];
            for shift in shifts {
                packed.extend((0..registers).map(|register| {
                    let mut lanes = Lanes([0; LANES]);
                    let words = weights.get(register * LANES..).unwrap_or_default();
                    for (lane, word) in lanes.0.iter_mut().zip(words) {
                        *lane = (word >> shift) as i32;
                    }
                    lanes
                }));
            }
        }
        Self { weights: packed, limits: lanes(limits.into_iter(), -1), upper_half }
    }

    fn signs<'a>(&self, windows: Windows, signs: impl ExactSizeIterator<Item = &'a mut u64>) {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.limits.len(), self.upper_half) {
                (2, false) => self.all_signs::<2, 1>(windows, signs),
                (2, true) => self.all_signs::<2, 2>(windows, signs),
                (_, false) => self.all_signs::<4, 1>(windows, signs),
                (_, true) => self.all_signs::<4, 2>(windows, signs),
            }
        }
    }

    fn mismatches(&self, window: &[u64]) -> [i32; 64] {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.limits.len(), self.upper_half) {
                (2, false) => self.all_mismatches::<2, 1>(window),
                (2, true) => self.all_mismatches::<2, 2>(window),
                (_, false) => self.all_mismatches::<4, 1>(window),
                (_, true) => self.all_mismatches::<4, 2>(window),
            }
        }
    }
}

impl Block {
    #[inline]
    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    fn sums<const REGISTERS: usize, const HALVES: usize>(
        &self,
        window: &[u64],
    ) -> [__m512i; REGISTERS] {
        let mut sums = [_mm512_setzero_si512(); REGISTERS];
        for (&word, weights) in window.iter().zip(self.weights.chunks_exact(HALVES * REGISTERS)) {
            for half in 0..HALVES {
                let half_word = _mm512_set1_epi32((word >> (32 * half)) as i32);
                for register in 0..REGISTERS {
                    let weights = load(&weights[half * REGISTERS + register]);
                    let mismatches = _mm512_popcnt_epi32(_mm512_xor_si512(half_word, weights));
                    sums[register] = _mm512_add_epi32(sums[register], mismatches);
                }
            }
        }
        sums
    }

    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    fn all_signs<'a, const REGISTERS: usize, const HALVES: usize>(
        &self,
        windows: Windows,
        signs: impl Iterator<Item = &'a mut u64>,
    ) {
        let mut limits = [_mm512_setzero_si512(); REGISTERS];
        for (limit, lanes) in limits.iter_mut().zip(&self.limits) {
            *limit = load(lanes);
        }
        for (position, sign) in signs.enumerate() {
            let sums = self.sums::<REGISTERS, HALVES>(windows.at(position));
            *sign = 0;
            for register in 0..REGISTERS {
                let mask = _mm512_cmple_epi32_mask(sums[register], limits[register]);
                *sign |= u64::from(mask) << (LANES * register);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    fn all_mismatches<const REGISTERS: usize, const HALVES: usize>(
        &self,
        window: &[u64],
    ) -> [i32; 64] {
        let mut all = [0; 64];
        let sums = self.sums::<REGISTERS, HALVES>(window);
        for (lanes, sums) in all.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: a chunk has room for 16 lanes.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sums) }
        }
        all
    }
}

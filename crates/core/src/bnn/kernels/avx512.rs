//! AVX-512 with VPOPCNTDQ and BITALG: 16 filters per register.

use std::arch::x86_64::*;
use std::ops::Range;

use super::narrow::FILTERS;
use super::{FACTORS, FirstBlock, LANES, Lanes, Table, Windows, lanes, pair};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("avx512bitalg")
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
pub(super) fn first_block(
    block: &FirstBlock,
    input: &[i16],
    tables: &mut Vec<Table>,
    bits: &mut [u64],
) {
    if !block.is_narrow(input) {
        return wide_first_block(block, input, bits);
    }
    block.table_rows(input, tables).for_each(|(row, tables)| narrow_tables(row, tables));
    let positions = block.samples - 2;
    for (at, group) in block.narrow.iter().enumerate() {
        let places = group.places.each_ref().map(|places| load_all(places));
        let thresholds = load_all(&group.thresholds);
        for column in 0..block.pooled_samples {
            // The tables of an even and of an odd position.
            let pair = |row: usize| {
                let tables = &tables[row * positions + 2 * column..][..2];
                [broadcast(&tables[0]), broadcast(&tables[1])]
            };
            let (mut top, mut second) = (pair(0), pair(1));
            for row in 0..block.pooled_rows {
                let (third, bottom) = (pair(2 * row + 2), pair(2 * row + 3));
                let sum = |rows: [__m512i; 3]| {
                    let sum = _mm512_add_epi16(
                        _mm512_shuffle_epi8(rows[0], places[0]),
                        _mm512_shuffle_epi8(rows[1], places[1]),
                    );
                    _mm512_add_epi16(sum, _mm512_shuffle_epi8(rows[2], places[2]))
                };
                let larger = |rows: [[__m512i; 2]; 3]| {
                    _mm512_max_epi16(sum(rows.map(|row| row[0])), sum(rows.map(|row| row[1])))
                };
                let upper = larger([top, second, third]);
                let lower = larger([second, third, bottom]);
                let largest = _mm512_max_epi16(upper, lower);
                let mask = _mm512_cmpge_epi16_mask(largest, thresholds);
                let position = row * block.pooled_samples + column;
                bits[position * block.words + at / 2] |= u64::from(mask) << (FILTERS * (at % 2));
                (top, second) = (third, bottom);
            }
        }
    }
}

/// Makes four tables at a time, in the quarters of a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn narrow_tables(row: &[i16], tables: &mut [Table]) {
    // In quarter `q`, the bytes of sample `q`.
    let spread: [u8; 64] = std::array::from_fn(|byte| (2 * (byte / 16) + byte % 2) as u8);
    let spread = load_all(&spread);
    let signs = [0, 1, 2].map(|tap| {
        load_all(&std::array::from_fn::<i16, 32, _>(
            |word| if word >> tap & 1 == 1 { 1 } else { -1 },
        ))
    });
    let last = tables.len() - 4;
    for first in (0..tables.len()).step_by(4) {
        // The last four may overlap others.
        let first = first.min(last);
        let product = |tap: usize| {
            let taps = row[first + tap..][..4].as_array().expect("four were taken");
            // SAFETY: four values have the size of a lane of 64 bits.
            let taps: i64 = unsafe { std::mem::transmute::<[i16; 4], i64>(*taps) };
            _mm512_mullo_epi16(_mm512_shuffle_epi8(_mm512_set1_epi64(taps), spread), signs[tap])
        };
        let sums = _mm512_add_epi16(_mm512_add_epi16(product(0), product(1)), product(2));
        let tables = &mut tables[first..][..4];
        // SAFETY: four tables are 64 bytes.
        unsafe { _mm512_storeu_si512(tables.as_mut_ptr().cast(), sums) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_all<T, const COUNT: usize>(values: &[T; COUNT]) -> __m512i {
    const { assert!(size_of::<[T; COUNT]>() == 64) };
    // SAFETY: the array has 64 bytes.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// A table in each quarter of a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(table: &Table) -> __m512i {
    // SAFETY: a table has 16 bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f,avx512bw")]
fn wide_first_block(block: &FirstBlock, input: &[i16], bits: &mut [u64]) {
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

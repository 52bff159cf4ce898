//! AVX2. It has no instruction that counts bits, so a byte shuffle looks up counts, 32 filters at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::narrow::FILTERS;
use super::{FACTORS, FirstBlock, LANES, Lanes, MAX_SIGN_WORDS, Table, Windows, pair};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Loads the lower or upper eight values.
#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &Lanes, half: usize) -> __m256i {
    let half = &lanes.0[half * LANES / 2..][..LANES / 2];
    // SAFETY: eight values are 32 bytes, and the halves of `Lanes` are aligned to 32 bytes.
    unsafe { _mm256_load_si256(half.as_ptr().cast()) }
}

/// The tables of two neighbouring positions.
#[inline]
#[target_feature(enable = "avx2")]
fn tables(taps: &[i16]) -> [__m256i; 2] {
    let [first, second] = [pair(taps[0], taps[1]), pair(taps[2], taps[3])];
    let table = |half| {
        _mm256_add_epi32(
            _mm256_madd_epi16(_mm256_set1_epi32(first), load(&FACTORS[0], half)),
            _mm256_madd_epi16(_mm256_set1_epi32(second), load(&FACTORS[1], half)),
        )
    };
    [table(0), table(1)]
}

#[target_feature(enable = "avx2")]
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
        for half in 0..2 {
            let places = group.places.each_ref().map(|places| half_of(places, half));
            let thresholds = half_of(&group.thresholds, half);
            for column in 0..block.pooled_samples {
                // The tables of an even and of an odd position.
                let pair = |row: usize| {
                    let tables = &tables[row * positions + 2 * column..][..2];
                    [broadcast(&tables[0]), broadcast(&tables[1])]
                };
                let (mut top, mut second) = (pair(0), pair(1));
                for row in 0..block.pooled_rows {
                    let (third, bottom) = (pair(2 * row + 2), pair(2 * row + 3));
                    let sum = |rows: [__m256i; 3]| {
                        let sum = _mm256_add_epi16(
                            _mm256_shuffle_epi8(rows[0], places[0]),
                            _mm256_shuffle_epi8(rows[1], places[1]),
                        );
                        _mm256_add_epi16(sum, _mm256_shuffle_epi8(rows[2], places[2]))
                    };
                    let larger = |rows: [[__m256i; 2]; 3]| {
                        _mm256_max_epi16(sum(rows.map(|row| row[0])), sum(rows.map(|row| row[1])))
                    };
                    let upper = larger([top, second, third]);
                    let lower = larger([second, third, bottom]);
                    let largest = _mm256_max_epi16(upper, lower);
                    let below = _mm256_cmpgt_epi16(thresholds, largest);
                    // One byte a filter, in the lower half of each half.
                    let below = _mm256_packs_epi16(below, _mm256_setzero_si256());
                    let below = _mm256_movemask_epi8(below) as u32;
                    let mask = !((below & 0xff) | (below >> 8 & 0xff00)) & 0xffff;
                    let position = row * block.pooled_samples + column;
                    let bit = FILTERS * (at % 2) + FILTERS / 2 * half;
                    bits[position * block.words + at / 2] |= u64::from(mask) << bit;
                    (top, second) = (third, bottom);
                }
            }
        }
    }
}

/// Makes two tables at a time, in the halves of a register.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow_tables(row: &[i16], tables: &mut [Table]) {
    // In half `h`, the bytes of sample `h`.
    let spread: [u8; 64] = std::array::from_fn(|byte| (2 * (byte / 16) + byte % 2) as u8);
    let spread = half_of(&spread, 0);
    let signs = [0, 1, 2].map(|tap| {
        half_of(
            &std::array::from_fn::<i16, 32, _>(|word| if word >> tap & 1 == 1 { 1 } else { -1 }),
            0,
        )
    });
    let last = tables.len() - 2;
    for first in (0..tables.len()).step_by(2) {
        // The last two may overlap others.
        let first = first.min(last);
        let product = |tap: usize| {
            let taps = _mm256_set1_epi32(pair(row[first + tap], row[first + tap + 1]));
            _mm256_sign_epi16(_mm256_shuffle_epi8(taps, spread), signs[tap])
        };
        let sums = _mm256_add_epi16(_mm256_add_epi16(product(0), product(1)), product(2));
        let tables = &mut tables[first..][..2];
        // SAFETY: two tables are 32 bytes.
        unsafe { _mm256_storeu_si256(tables.as_mut_ptr().cast(), sums) }
    }
}

/// Loads the lower or upper half of 64 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn half_of<T, const COUNT: usize>(values: &[T; COUNT], half: usize) -> __m256i {
    const { assert!(size_of::<[T; COUNT]>() == 2 * BYTES) };
    let half = &values[half * COUNT / 2..][..COUNT / 2];
    // SAFETY: half of the array has 32 bytes.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

/// A table in each half of a register.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(table: &Table) -> __m256i {
    // SAFETY: a table has 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
fn wide_first_block(block: &FirstBlock, input: &[i16], bits: &mut [u64]) {
    for column in 0..block.pooled_samples {
        let tables = |row: usize| tables(&input[row * block.samples + 2 * column..][..4]);
        let (mut top, mut second) = (tables(0), tables(1));
        for row in 0..block.pooled_rows {
            let (third, bottom) = (tables(2 * row + 2), tables(2 * row + 3));
            let words = &mut bits[(row * block.pooled_samples + column) * block.words..];
            for (group, thresholds) in block.thresholds.iter().enumerate() {
                for half in 0..2 {
                    let patterns = [
                        load(&block.patterns[0][group], half),
                        load(&block.patterns[1][group], half),
                        load(&block.patterns[2][group], half),
                    ];
                    let sum = |rows: [__m256i; 3]| {
                        let sum = _mm256_add_epi32(
                            _mm256_permutevar8x32_epi32(rows[0], patterns[0]),
                            _mm256_permutevar8x32_epi32(rows[1], patterns[1]),
                        );
                        _mm256_add_epi32(sum, _mm256_permutevar8x32_epi32(rows[2], patterns[2]))
                    };
                    let larger = |rows: [[__m256i; 2]; 3]| {
                        _mm256_max_epi32(sum(rows.map(|row| row[0])), sum(rows.map(|row| row[1])))
                    };
                    let upper = larger([top, second, third]);
                    let lower = larger([second, third, bottom]);
                    let largest = _mm256_max_epi32(upper, lower);
                    let below = _mm256_cmpgt_epi32(load(thresholds, half), largest);
                    let mask = !_mm256_movemask_ps(_mm256_castsi256_ps(below)) as u8;
                    let bit = group * LANES + half * LANES / 2;
                    words[bit / 64] |= u64::from(mask) << (bit % 64);
                }
            }
            (top, second) = (third, bottom);
        }
    }
}

/// Filters in one register, one byte each.
const BYTES: usize = 32;

const _: () = assert!(MAX_SIGN_WORDS * 64 < 255);

/// For each half byte of the input and of weights, the number of bits in which they differ.
static MISMATCHES: [[u8; 16]; 16] = {
    let mut mismatches = [[0; 16]; 16];
    let mut at = 0;
    while at < 256 {
        mismatches[at / 16][at % 16] = ((at / 16) ^ (at % 16)).count_ones() as u8;
        at += 1;
    }
    mismatches
};

#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Half a byte of each filter, ordered `[word][half byte][register]`.
    weights: Vec<Bytes>,
    registers: usize,
    limits: Vec<i32>,
    /// Whether positions use the upper half of a word.
    upper_half: bool,
}

#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
struct Bytes([u8; BYTES]);

impl super::Block for Block {
    fn new(
        weights: &[u64],
        filters: usize,
        block: Range<usize>,
        upper_half: bool,
        limits: Vec<i32>,
    ) -> Self {
        let half_bytes = if upper_half { 16 } else { 8 };
        let registers = block.len().div_ceil(BYTES);
        let mut packed = vec![Bytes([0; BYTES]); weights.len() / filters * half_bytes * registers];
        for (words, lanes) in
            weights.chunks_exact(filters).zip(packed.chunks_exact_mut(half_bytes * registers))
        {
            for (filter, word) in words[block.clone()].iter().enumerate() {
                for (at, lanes) in lanes.chunks_exact_mut(registers).enumerate() {
                    lanes[filter / BYTES].0[filter % BYTES] = (word >> (4 * at)) as u8 & 15;
                }
            }
        }
        Self { weights: packed, registers, limits, upper_half }
    }

    fn signs<'a>(&self, windows: Windows, signs: impl ExactSizeIterator<Item = &'a mut u64>) {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.registers, self.upper_half) {
                (1, false) => self.all_signs::<1, 8>(windows, signs),
                (1, true) => self.all_signs::<1, 16>(windows, signs),
                (_, false) => self.all_signs::<2, 8>(windows, signs),
                (_, true) => self.all_signs::<2, 16>(windows, signs),
            }
        }
    }

    fn mismatches(&self, window: &[u64]) -> [i32; 64] {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.registers, self.upper_half) {
                (1, false) => self.all_mismatches::<1, 8>(window),
                (1, true) => self.all_mismatches::<1, 16>(window),
                (_, false) => self.all_mismatches::<2, 8>(window),
                (_, true) => self.all_mismatches::<2, 16>(window),
            }
        }
    }
}

impl Block {
    #[target_feature(enable = "avx2")]
    fn all_signs<'a, const REGISTERS: usize, const HALF_BYTES: usize>(
        &self,
        windows: Windows,
        mut signs: impl ExactSizeIterator<Item = &'a mut u64>,
    ) {
        // One more than the largest number of mismatches that sets a bit.
        let mut limits = [Bytes([0; BYTES]); REGISTERS];
        let bytes = limits.iter_mut().flat_map(|limits| &mut limits.0);
        for (limit, &value) in bytes.zip(&self.limits) {
            *limit = (value + 1) as u8;
        }
        let mut position = 0;
        while let Some(first) = signs.next() {
            // Two windows share the loaded weights.
            if let Some(second) = signs.next() {
                let windows = [windows.at(position), windows.at(position + 1)];
                let sums = mismatches::<REGISTERS, HALF_BYTES, 2>(&self.weights, windows);
                *first = word(sums[0], &limits);
                *second = word(sums[1], &limits);
            } else {
                let windows = [windows.at(position)];
                let sums = mismatches::<REGISTERS, HALF_BYTES, 1>(&self.weights, windows);
                *first = word(sums[0], &limits);
            }
            position += 2;
        }
    }

    #[target_feature(enable = "avx2")]
    fn all_mismatches<const REGISTERS: usize, const HALF_BYTES: usize>(
        &self,
        window: &[u64],
    ) -> [i32; 64] {
        let mut all = [0; 64];
        let weights = self.weights.chunks(MAX_SIGN_WORDS * HALF_BYTES * REGISTERS);
        for (window, weights) in window.chunks(MAX_SIGN_WORDS).zip(weights) {
            let [sums] = mismatches::<REGISTERS, HALF_BYTES, 1>(weights, [window]);
            for (all, sums) in all.chunks_exact_mut(BYTES).zip(sums) {
                let mut bytes = Bytes([0; BYTES]);
                // SAFETY: `Bytes` are 32 bytes, aligned to 32 bytes.
                unsafe { _mm256_store_si256(bytes.0.as_mut_ptr().cast(), sums) }
                all.iter_mut().zip(bytes.0).for_each(|(all, byte)| *all += i32::from(byte));
            }
        }
        all
    }
}

/// Mismatches of each filter in windows of at most [`MAX_SIGN_WORDS`] words.
#[inline]
#[target_feature(enable = "avx2")]
fn mismatches<const REGISTERS: usize, const HALF_BYTES: usize, const WINDOWS: usize>(
    weights: &[Bytes],
    windows: [&[u64]; WINDOWS],
) -> [[__m256i; REGISTERS]; WINDOWS] {
    let mut sums = [[_mm256_setzero_si256(); REGISTERS]; WINDOWS];
    for (at, weights) in weights.chunks_exact(HALF_BYTES * REGISTERS).enumerate() {
        for half_byte in 0..HALF_BYTES {
            for (sums, window) in sums.iter_mut().zip(windows) {
                let table = &MISMATCHES[(window[at] >> (4 * half_byte)) as usize & 15];
                // SAFETY: a table has 16 bytes, and the load may be unaligned.
                let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
                let table = _mm256_broadcastsi128_si256(table);
                for register in 0..REGISTERS {
                    let weights = load_bytes(&weights[half_byte * REGISTERS + register]);
                    let mismatches = _mm256_shuffle_epi8(table, weights);
                    sums[register] = _mm256_add_epi8(sums[register], mismatches);
                }
            }
        }
    }
    sums
}

/// One bit per filter, set if its sum is less than its limit.
#[inline]
#[target_feature(enable = "avx2")]
fn word<const REGISTERS: usize>(sums: [__m256i; REGISTERS], limits: &[Bytes; REGISTERS]) -> u64 {
    let mut word = 0;
    for register in 0..REGISTERS {
        let sums = sums[register];
        let reached = _mm256_cmpeq_epi8(_mm256_max_epu8(sums, load_bytes(&limits[register])), sums);
        word |= u64::from(!_mm256_movemask_epi8(reached) as u32) << (BYTES * register);
    }
    word
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &Bytes) -> __m256i {
    // SAFETY: `Bytes` are 32 bytes, aligned to 32 bytes.
    unsafe { _mm256_load_si256(bytes.0.as_ptr().cast()) }
}

//! NEON, which almost every 64-bit ARM processor has: 16 filters per register, one byte each.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;
use std::ops::Range;

use super::{FirstBlock, LANES, Lanes, MAX_SIGN_WORDS, Windows};

pub(super) fn is_available() -> bool {
    is_aarch64_feature_detected!("neon")
}

/// Loads four of the values.
#[inline]
#[target_feature(enable = "neon")]
fn load(lanes: &Lanes, quarter: usize) -> int32x4_t {
    let quarter = &lanes.0[quarter * LANES / 4..][..LANES / 4];
    // SAFETY: four values are 16 bytes.
    unsafe { vld1q_s32(quarter.as_ptr()) }
}

/// The bytes of the table of sums of three taps.
#[inline]
#[target_feature(enable = "neon")]
fn table(taps: &[i16]) -> uint8x16x2_t {
    let [first, second, third] = [0, 1, 2].map(|tap| i32::from(taps[tap]));
    // Lane `p` of four has pattern `p` or, if the third tap is positive, `p + 4`.
    let sums = [-first - second, first - second, second - first, first + second];
    // SAFETY: four values are 16 bytes.
    let sums = unsafe { vld1q_s32(sums.as_ptr()) };
    let third = vdupq_n_s32(third);
    uint8x16x2_t(
        vreinterpretq_u8_s32(vsubq_s32(sums, third)),
        vreinterpretq_u8_s32(vaddq_s32(sums, third)),
    )
}

#[target_feature(enable = "neon")]
pub(super) fn first_block(block: &FirstBlock, input: &[i16], bits: &mut [u64]) {
    let bit_of_lane = load(&Lanes([1, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
    for column in 0..block.pooled_samples {
        let tables = |row: usize| {
            let taps = &input[row * block.samples + 2 * column..][..4];
            [table(&taps[..3]), table(&taps[1..])]
        };
        let (mut top, mut second) = (tables(0), tables(1));
        for row in 0..block.pooled_rows {
            let (third, bottom) = (tables(2 * row + 2), tables(2 * row + 3));
            let words = &mut bits[(row * block.pooled_samples + column) * block.words..];
            for (group, thresholds) in block.thresholds.iter().enumerate() {
                for quarter in 0..4 {
                    // The positions in a table of the four bytes of a sum.
                    let bytes = block.patterns.each_ref().map(|patterns| {
                        let pattern = vreinterpretq_u32_s32(load(&patterns[group], quarter));
                        let first = vdupq_n_u32(0x0302_0100);
                        vreinterpretq_u8_u32(vmlaq_n_u32(first, pattern, 0x0404_0404))
                    });
                    let sum = |rows: [uint8x16x2_t; 3]| {
                        let [first, second, third] = [0, 1, 2]
                            .map(|row| vreinterpretq_s32_u8(vqtbl2q_u8(rows[row], bytes[row])));
                        vaddq_s32(vaddq_s32(first, second), third)
                    };
                    let larger = |rows: [[uint8x16x2_t; 2]; 3]| {
                        vmaxq_s32(sum(rows.map(|row| row[0])), sum(rows.map(|row| row[1])))
                    };
                    let upper = larger([top, second, third]);
                    let lower = larger([second, third, bottom]);
                    let reached = vcgeq_s32(vmaxq_s32(upper, lower), load(thresholds, quarter));
                    let mask = vaddvq_u32(vandq_u32(reached, vreinterpretq_u32_s32(bit_of_lane)));
                    let bit = group * LANES + quarter * LANES / 4;
                    words[bit / 64] |= u64::from(mask) << (bit % 64);
                }
            }
            (top, second) = (third, bottom);
        }
    }
}

/// Filters in one register, one byte each.
const BYTES: usize = 16;

const _: () = assert!(MAX_SIGN_WORDS * 64 < 255);

/// The filters of one output word, in 2 or 4 registers.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// One byte of each filter, ordered `[word][byte][register]`.
    weights: Vec<[u8; BYTES]>,
    registers: usize,
    limits: Vec<i32>,
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
        let word_bytes = if upper_half { 8 } else { 4 };
        let registers = block.len().div_ceil(2 * BYTES) * 2;
        let mut packed = vec![[0; BYTES]; weights.len() / filters * word_bytes * registers];
        for (words, lanes) in
            weights.chunks_exact(filters).zip(packed.chunks_exact_mut(word_bytes * registers))
        {
            for (filter, word) in words[block.clone()].iter().enumerate() {
                for (at, lanes) in lanes.chunks_exact_mut(registers).enumerate() {
                    lanes[filter / BYTES][filter % BYTES] = (word >> (8 * at)) as u8;
                }
            }
        }
        Self { weights: packed, registers, limits, upper_half }
    }

    fn signs<'a>(&self, windows: Windows, signs: impl ExactSizeIterator<Item = &'a mut u64>) {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.registers, self.upper_half) {
                (2, false) => self.all_signs::<2, 4>(windows, signs),
                (2, true) => self.all_signs::<2, 8>(windows, signs),
                (_, false) => self.all_signs::<4, 4>(windows, signs),
                (_, true) => self.all_signs::<4, 8>(windows, signs),
            }
        }
    }

    fn mismatches(&self, window: &[u64]) -> [i32; 64] {
        // SAFETY: this layout exists only if the processor has the instructions.
        unsafe {
            match (self.registers, self.upper_half) {
                (2, false) => self.all_mismatches::<2, 4>(window),
                (2, true) => self.all_mismatches::<2, 8>(window),
                (_, false) => self.all_mismatches::<4, 4>(window),
                (_, true) => self.all_mismatches::<4, 8>(window),
            }
        }
    }
}

impl Block {
    #[target_feature(enable = "neon")]
    fn all_signs<'a, const REGISTERS: usize, const WORD_BYTES: usize>(
        &self,
        windows: Windows,
        signs: impl Iterator<Item = &'a mut u64>,
    ) {
        // One more than the largest number of mismatches that sets a bit.
        let mut limits = [[0; BYTES]; REGISTERS];
        for (limit, &value) in limits.as_flattened_mut().iter_mut().zip(&self.limits) {
            *limit = (value + 1) as u8;
        }
        for (position, sign) in signs.enumerate() {
            let sums = mismatches::<REGISTERS, WORD_BYTES>(&self.weights, windows.at(position));
            *sign = 0;
            for (register, (sums, limits)) in sums.into_iter().zip(&limits).enumerate() {
                let mask = mask(vcltq_u8(sums, load_bytes(limits)));
                *sign |= u64::from(mask) << (BYTES * register);
            }
        }
    }

    #[target_feature(enable = "neon")]
    fn all_mismatches<const REGISTERS: usize, const WORD_BYTES: usize>(
        &self,
        window: &[u64],
    ) -> [i32; 64] {
        let mut all = [0; 64];
        let weights = self.weights.chunks(MAX_SIGN_WORDS * WORD_BYTES * REGISTERS);
        for (window, weights) in window.chunks(MAX_SIGN_WORDS).zip(weights) {
            let sums = mismatches::<REGISTERS, WORD_BYTES>(weights, window);
            for (all, sums) in all.chunks_exact_mut(BYTES).zip(sums) {
                let mut bytes = [0; BYTES];
                // SAFETY: there is room for 16 bytes.
                unsafe { vst1q_u8(bytes.as_mut_ptr(), sums) }
                all.iter_mut().zip(bytes).for_each(|(all, byte)| *all += i32::from(byte));
            }
        }
        all
    }
}

/// Mismatches of each filter in a window of at most [`MAX_SIGN_WORDS`] words.
#[inline]
#[target_feature(enable = "neon")]
fn mismatches<const REGISTERS: usize, const WORD_BYTES: usize>(
    weights: &[[u8; BYTES]],
    window: &[u64],
) -> [uint8x16_t; REGISTERS] {
    let mut sums = [vdupq_n_u8(0); REGISTERS];
    for (word, weights) in window.iter().zip(weights.chunks_exact(WORD_BYTES * REGISTERS)) {
        for (byte, weights) in word.to_le_bytes().into_iter().zip(weights.chunks_exact(REGISTERS)) {
            let byte = vdupq_n_u8(byte);
            for (sums, weights) in sums.iter_mut().zip(weights) {
                *sums = vaddq_u8(*sums, vcntq_u8(veorq_u8(byte, load_bytes(weights))));
            }
        }
    }
    sums
}

/// One bit per byte. All bits of a byte are set, or none.
#[inline]
#[target_feature(enable = "neon")]
fn mask(bytes: uint8x16_t) -> u16 {
    let bits =
        vandq_u8(bytes, load_bytes(&[1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128]));
    u16::from(vaddv_u8(vget_low_u8(bits))) | u16::from(vaddv_u8(vget_high_u8(bits))) << 8
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(bytes: &[u8; BYTES]) -> uint8x16_t {
    // SAFETY: there are 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

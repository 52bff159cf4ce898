//! The hot loops of a network, written for each kind of processor.
//!
//! Bits: channel `c` of a position is bit `c % 64` of word `c / 64`, 1 for +1. Bits after the last
//! channel are 0 in values and in weights, so they never mismatch. Filters lie across vector lanes;
//! their weights are laid out for one kind of processor when a network is built. Comparing their sums
//! with thresholds gives the packed word that the next layer reads.
//!
//! There are kernels for the common shapes; `network/stage.rs` runs the others layer by layer. All
//! arithmetic is on integers, so all kernels give the same bits.
//!
//! The vector kernels share their blocks of filters, but no vector type. They differ in the width of a
//! sum (a byte or 32 bits), in how they count bits, and in what stays in registers.

pub(crate) mod alignments;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod blocks;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod series;
pub(crate) mod vectors;

use std::sync::OnceLock;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use blocks::{Block, Blocks};
pub(super) use matrix::Matrix;
pub(super) use portable::add_mismatches;
pub(super) use series::Block as SeriesBlock;

/// The instructions that packed networks use. A value exists only if the processor has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels(Instructions);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// There are no such kernels, or this processor cannot run them.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("this processor cannot run the kernels {asked:?}; it can run: {available}")]
pub struct KernelsError {
    asked: String,
    available: String,
}

/// The kernels that networks are packed for by default.
static PREFERRED: OnceLock<Kernels> = OnceLock::new();

impl Kernels {
    /// The kernels that [`Network::new`](super::Network::new) packs for: the fastest, or those of
    /// [`prefer`](Self::prefer).
    pub fn preferred() -> Self {
        *PREFERRED.get_or_init(|| Self::available()[0])
    }

    /// Makes this process pack its networks for these kernels.
    ///
    /// Only the first call has an effect, and only before the first network.
    pub fn prefer(self) {
        PREFERRED.get_or_init(|| self);
    }

    /// The kernels with this name.
    ///
    /// # Errors
    /// If this processor cannot run them.
    pub fn named(name: &str) -> Result<Self, KernelsError> {
        let available = Self::available();
        let names =
            || available.iter().map(|kernels| kernels.name()).collect::<Vec<_>>().join(", ");
        let found = available.iter().copied().find(|kernels| kernels.name() == name);
        found.ok_or_else(|| KernelsError { asked: name.to_owned(), available: names() })
    }

    /// All kernels that this processor can run, fastest first. Never empty.
    pub fn available() -> Vec<Self> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::is_available() {
                available.push(Self(Instructions::Avx512));
            }
            if avx2::is_available() {
                available.push(Self(Instructions::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon::is_available() {
            available.push(Self(Instructions::Neon));
        }
        available.push(Self(Instructions::Portable));
        available
    }

    /// The name: `avx512`, `avx2`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => "neon",
            Instructions::Portable => "portable",
        }
    }
}

/// The whole first block: 3 x 3 convolution of the fixed-point input without padding, 2 x 2 max-pool,
/// and sign.
///
/// The three taps of a kernel row have 8 patterns of signs. All filters, and the three output rows that
/// read an input position, share one table of its sums. So the sum of a filter takes three look-ups and
/// two additions.
#[derive(Clone, Debug)]
pub(super) struct FirstBlock {
    kernels: Kernels,
    samples: usize,
    pooled_rows: usize,
    pooled_samples: usize,
    /// For each kernel row and filter, bit `t` is set if tap `t` has a weight of +1.
    patterns: [Vec<Lanes>; 3],
    /// Smallest sums with a sign of +1. `i32::MAX`, which no sum reaches, after the last filter.
    thresholds: Vec<Lanes>,
    words: usize,
    #[cfg(target_arch = "x86_64")]
    narrow: Vec<narrow::Group>,
}

/// The sums of three neighbouring samples, one for each pattern of signs, in 16 bits.
pub(super) type Table = [i16; 8];

/// Values for the widest vector register, one per filter.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Lanes([i32; LANES]);

const LANES: usize = 16;

impl FirstBlock {
    /// For an input of `rows` x `samples`. `negative`, ordered `[tap][filter]`, is -1 for a weight of -1
    /// and 0 for +1.
    pub(super) fn new(
        kernels: Kernels,
        [rows, samples]: [usize; 2],
        negative: &[i32],
        thresholds: &[i32],
    ) -> Self {
        let filters = thresholds.len();
        let words = filters.div_ceil(64);
        let pattern = |row: usize, filter: usize| {
            (0..3).map(|tap| (1 + negative[(3 * row + tap) * filters + filter]) << tap).sum()
        };
        let patterns =
            [0, 1, 2].map(|row| lanes((0..filters).map(|filter| pattern(row, filter)), 0));
        let thresholds = lanes(thresholds.iter().copied(), i32::MAX);
        Self {
            kernels,
            samples,
            pooled_rows: (rows - 2) / 2,
            pooled_samples: (samples - 2) / 2,
            #[cfg(target_arch = "x86_64")]
            narrow: narrow::groups(&patterns, &thresholds),
            patterns,
            thresholds,
            words,
        }
    }

    /// Reads rows x samples values and replaces `bits` with the words of each pooled position. `tables`
    /// is working memory.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
    pub(super) fn run(&self, input: &[i16], tables: &mut Vec<Table>, bits: &mut Vec<u64>) {
        bits.clear();
        bits.resize(self.pooled_rows * self.pooled_samples * self.words, 0);
        match self.kernels.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { avx512::first_block(self, input, tables, bits) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2::first_block(self, input, tables, bits) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Instructions::Neon => unsafe { neon::first_block(self, input, bits) },
            Instructions::Portable => portable::first_block(self, input, bits),
        }
    }
}

/// Factors of four taps, pair by pair. The products give the sums of taps 0 to 2 for each pattern of
/// signs in lanes 0 to 7, and those of taps 1 to 3 in lanes 8 to 15.
#[cfg(target_arch = "x86_64")]
static FACTORS: [Lanes; 2] = {
    let mut factors = [Lanes([0; LANES]); 2];
    let mut lane = 0;
    while lane < LANES {
        let mut taps = [0; 4];
        let mut tap = 0;
        while tap < 3 {
            taps[lane / 8 + tap] = if lane >> tap & 1 == 1 { 1 } else { -1 };
            tap += 1;
        }
        factors[0].0[lane] = pair(taps[0], taps[1]);
        factors[1].0[lane] = pair(taps[2], taps[3]);
        lane += 1;
    }
    factors
};

/// Two 16-bit values in one lane.
#[cfg(target_arch = "x86_64")]
const fn pair(low: i16, high: i16) -> i32 {
    low as u16 as i32 | (high as i32) << 16
}

/// Values in an even number of registers, padded so that each kernel can read groups of its size.
fn lanes(values: impl Iterator<Item = i32>, padding: i32) -> Vec<Lanes> {
    let mut values: Vec<i32> = values.collect();
    values.resize(values.len().next_multiple_of(2 * LANES), padding);
    values
        .chunks_exact(LANES)
        .map(|chunk| Lanes(chunk.try_into().expect("chunks have this length")))
        .collect()
}

/// One bit per value, set for negative values.
#[cfg(target_arch = "x86_64")]
pub(super) fn negatives(values: &[f32; 4]) -> u64 {
    use std::arch::x86_64::{_mm_movemask_ps, _mm_set_ps};
    let [a, b, c, d] = *values;
    // SAFETY: every x86-64 processor has SSE.
    unsafe { _mm_movemask_ps(_mm_set_ps(d, c, b, a)) as u64 }
}

/// One bit per value, set for negative values.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn negatives(values: &[f32; 4]) -> u64 {
    let bit = |at: usize| u64::from(values[at].to_bits() >> 31) << at;
    bit(0) | bit(1) | bit(2) | bit(3)
}

/// Binary filters over windows of contiguous words: a dense layer or a convolution over time.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    count: usize,
    window_words: usize,
    position_words: usize,
    layout: Layout,
}

#[derive(Clone, Debug)]
enum Layout {
    #[cfg(target_arch = "x86_64")]
    Avx512(Blocks<avx512::Block>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Blocks<avx2::Block>),
    #[cfg(target_arch = "aarch64")]
    Neon(Blocks<neon::Block>),
    Portable(portable::Filters),
}

/// Most words of a window in [`Filters::signs`], so that a byte can count its mismatches.
pub(super) const MAX_SIGN_WORDS: usize = 3;

impl Filters {
    /// Lays out `weights`, ordered `[word][filter]`, for positions of `channels` channels.
    ///
    /// The sign of a filter is set if it has at most as many mismatches as its limit. `limits` may be
    /// empty if only [`Filters::mismatches`] is called.
    pub(super) fn new(
        kernels: Kernels,
        weights: &[u64],
        filters: usize,
        channels: usize,
        limits: &[i32],
    ) -> Self {
        let layout = match kernels.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => Layout::Avx512(Blocks::new(weights, filters, channels, limits)),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => Layout::Avx2(Blocks::new(weights, filters, channels, limits)),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => Layout::Neon(Blocks::new(weights, filters, channels, limits)),
            Instructions::Portable => {
                Layout::Portable(portable::Filters::new(weights, filters, channels, limits))
            }
        };
        Self {
            count: filters,
            window_words: weights.len() / filters,
            position_words: channels.div_ceil(64),
            layout,
        }
    }

    /// Slides over a row of positions and writes the words of each window's signs.
    pub(super) fn signs(&self, row: &[u64], signs: &mut [u64]) {
        let windows = self.windows(row);
        match &self.layout {
            #[cfg(target_arch = "x86_64")]
            Layout::Avx512(filters) => filters.signs(windows, signs),
            #[cfg(target_arch = "x86_64")]
            Layout::Avx2(filters) => filters.signs(windows, signs),
            #[cfg(target_arch = "aarch64")]
            Layout::Neon(filters) => filters.signs(windows, signs),
            Layout::Portable(filters) => filters.signs(windows, signs),
        }
    }

    /// Slides over a row of positions and counts the bits in which each window differs from each filter,
    /// ordered `[window][filter]`.
    pub(super) fn mismatches(&self, row: &[u64], mismatches: &mut [i32]) {
        let windows = self.windows(row);
        for (position, mismatches) in mismatches.chunks_exact_mut(self.count).enumerate() {
            let window = windows.at(position);
            match &self.layout {
                #[cfg(target_arch = "x86_64")]
                Layout::Avx512(filters) => filters.mismatches(window, mismatches),
                #[cfg(target_arch = "x86_64")]
                Layout::Avx2(filters) => filters.mismatches(window, mismatches),
                #[cfg(target_arch = "aarch64")]
                Layout::Neon(filters) => filters.mismatches(window, mismatches),
                Layout::Portable(filters) => filters.mismatches(window, mismatches),
            }
        }
    }

    fn windows<'a>(&self, row: &'a [u64]) -> Windows<'a> {
        Windows { row, window_words: self.window_words, step: self.position_words }
    }
}

/// Consecutive windows in a row of positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows<'a> {
    row: &'a [u64],
    window_words: usize,
    /// Words from the start of one window to the start of the next.
    step: usize,
}

impl<'a> Windows<'a> {
    fn at(self, index: usize) -> &'a [u64] {
        &self.row[index * self.step..][..self.window_words]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_names() {
        let available = Kernels::available();
        assert_eq!(available.last().map(|kernels| kernels.name()), Some("portable"));
        for &kernels in &available {
            assert_eq!(Kernels::named(kernels.name()), Ok(kernels));
        }
    }

    #[test]
    fn unknown_kernels_are_rejected() {
        for name in ["", "sse9", "AVX2", "portable "] {
            let message = Kernels::named(name).unwrap_err().to_string();
            assert!(message.contains(&format!("cannot run the kernels {name:?}; ")), "{message}");
            assert!(message.ends_with("portable"), "{message}");
        }
    }
}

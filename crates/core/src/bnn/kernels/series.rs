//! Sums of signs over time, and of the products of signs that are some samples apart.

#[cfg(target_arch = "x86_64")]
use super::Instructions;
use super::Kernels;

/// Signs of 64 channels in 64 samples: one word per channel, one bit per sample.
pub(in crate::bnn) type Block = [u64; 64];

/// A row of positions: `words` words of up to 64 channels each.
#[derive(Clone, Copy)]
struct Row<'a> {
    bits: &'a [u64],
    words: usize,
    channels: usize,
}

impl Kernels {
    /// Writes the sum of each row's and channel's signs, ordered `[row][channel]`. Then, for each of
    /// `lags`, the sums of the products of two signs this far apart. They must be shorter than a row.
    ///
    /// A row has `samples` positions, of `words` words each. `blocks` is working memory.
    pub(in crate::bnn) fn sums_over_time(
        self,
        bits: &[u64],
        [samples, words, channels]: [usize; 3],
        lags: &[usize],
        blocks: &mut Vec<Block>,
        sums: &mut Vec<i32>,
    ) {
        let rows = bits.chunks_exact(samples * words);
        let series = rows.len() * channels;
        sums.resize((1 + lags.len()) * series, 0);
        for (row, bits) in rows.enumerate() {
            let row_of = Row { bits, words, channels };
            let sums = &mut sums[row * channels..];
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: kernels exist only if the processor has their instructions.
                Instructions::Avx512 => unsafe { avx512(row_of, lags, series, blocks, sums) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Instructions::Avx2 => unsafe { avx2(row_of, lags, series, blocks, sums) },
                _ => row_of.sums(lags, series, blocks, sums),
            }
        }
    }
}

/// The compiler vectorises the plain loops.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn avx512(row: Row, lags: &[usize], series: usize, blocks: &mut Vec<Block>, sums: &mut [i32]) {
    row.sums(lags, series, blocks, sums);
}

/// As above.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(row: Row, lags: &[usize], series: usize, blocks: &mut Vec<Block>, sums: &mut [i32]) {
    row.sums(lags, series, blocks, sums);
}

impl Row<'_> {
    /// Writes the sums of one row. Those of the next lag are `series` later.
    #[inline(always)]
    fn sums(self, lags: &[usize], series: usize, blocks: &mut Vec<Block>, sums: &mut [i32]) {
        let samples = self.bits.len() / self.words;
        for word in 0..self.words {
            blocks.clear();
            // Without a closure that `Vec` would call: it would not have the caller's instructions.
            for first in (0..samples).step_by(64) {
                blocks.push(self.block(word, first));
            }
            let channels = 64 * word..self.channels.min(64 * (word + 1));
            let mut minuses = [samples as i32; 64];
            for block in blocks.iter() {
                subtract_ones(&mut minuses, block);
            }
            to_sums(&minuses, samples, &mut sums[channels.clone()]);
            for (at, &lag) in lags.iter().enumerate() {
                let sums = &mut sums[(at + 1) * series..][channels.clone()];
                to_sums(&unequal(blocks, samples, lag), samples - lag, sums);
            }
        }
    }

    /// The block of one word, from the sample `first` on. Samples after the last are zeros.
    #[inline(always)]
    fn block(self, word: usize, first: usize) -> Block {
        let mut block = [0; 64];
        let words = self.bits[first * self.words + word..].iter().step_by(self.words);
        for (sample, word) in block.iter_mut().zip(words) {
            *sample = *word;
        }
        // Each of the six digits of the number of a sample changes places with the same digit of the
        // number of a channel.
        exchange(&mut block, 32, 0x0000_0000_ffff_ffff);
        exchange(&mut block, 16, 0x0000_ffff_0000_ffff);
        exchange(&mut block, 8, 0x00ff_00ff_00ff_00ff);
        exchange(&mut block, 4, 0x0f0f_0f0f_0f0f_0f0f);
        exchange(&mut block, 2, 0x3333_3333_3333_3333);
        exchange(&mut block, 1, 0x5555_5555_5555_5555);
        block
    }
}

/// Exchanges the bits of each word that are not in `mask` with those of the word `step` later that are,
/// `step` places lower.
// Once in a file for browsers, whose size counts.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn exchange(block: &mut Block, step: usize, mask: u64) {
    for words in block.chunks_exact_mut(2 * step) {
        let (early, late) = words.split_at_mut(step);
        for (early, late) in early.iter_mut().zip(late) {
            let changed = (*early >> step ^ *late) & mask;
            *early ^= changed << step;
            *late ^= changed;
        }
    }
}

#[inline(always)]
fn subtract_ones(counts: &mut [i32; 64], block: &Block) {
    for (count, word) in counts.iter_mut().zip(block) {
        *count -= word.count_ones() as i32;
    }
}

/// For each channel, the number of samples whose sign is not the one `lag` samples later.
#[inline(always)]
fn unequal(blocks: &[Block], samples: usize, lag: usize) -> [i32; 64] {
    let mut counts = [0; 64];
    let (skipped, shift) = (lag / 64, lag % 64);
    let later =
        blocks[skipped..].iter().zip(blocks.iter().skip(skipped + 1).map(Some).chain([None]));
    for (at, (early, (late, next))) in blocks.iter().zip(later).enumerate() {
        let mask = lowest((samples - lag).saturating_sub(64 * at));
        for channel in 0..64 {
            // In two steps, because a shift by 64 is not defined.
            let carried = next.map_or(0, |next| next[channel] << 1 << (63 - shift));
            let late = late[channel] >> shift | carried;
            counts[channel] += ((early[channel] ^ late) & mask).count_ones() as i32;
        }
    }
    counts
}

/// A product or sign of -1 counts -1, others count +1.
#[inline(always)]
fn to_sums(minuses: &[i32; 64], count: usize, sums: &mut [i32]) {
    for (sum, minuses) in sums.iter_mut().zip(minuses) {
        *sum = count as i32 - 2 * minuses;
    }
}

/// A word with its lowest `count` bits set, at most 64.
fn lowest(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_kernels_sum_like_the_definition(
            bits in prop::collection::vec(any::<u64>(), 600),
            rows in 1..4usize,
            samples in 2..150usize,
            channels in 1..130usize,
            lags in prop::array::uniform3(0..150usize),
        ) {
            let words = channels.div_ceil(64);
            let rows = rows.min(600 / (samples * words)).max(1);
            let samples = samples.min(600 / words);
            let lags = lags.map(|lag| lag % samples);
            let bits = &bits[..rows * samples * words];
            let sign = |row: usize, sample: usize, channel: usize| {
                let word = bits[(row * samples + sample) * words + channel / 64];
                if word >> (channel % 64) & 1 == 1 { 1 } else { -1 }
            };
            let mut expected = Vec::new();
            for lag in [None].into_iter().chain(lags.map(Some)) {
                for (row, channel) in (0..rows * channels).map(|at| (at / channels, at % channels)) {
                    let product = |sample: usize| {
                        let late = lag.map_or(1, |lag| sign(row, sample + lag, channel));
                        sign(row, sample, channel) * late
                    };
                    expected.push((0..samples - lag.unwrap_or(0)).map(product).sum::<i32>());
                }
            }
            for kernels in Kernels::available() {
                let (mut blocks, mut sums) = (Vec::new(), vec![7; 3]);
                let shape = [samples, words, channels];
                kernels.sums_over_time(bits, shape, &lags, &mut blocks, &mut sums);
                prop_assert_eq!(&sums, &expected, "{}", kernels.name());
            }
        }
    }
}

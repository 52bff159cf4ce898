//! Mismatches of a block of bits at each word of a longer row of bits.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::Instructions;
use super::Kernels;

/// Words of a block.
pub(crate) const BLOCK_WORDS: usize = 17;

/// Places that are counted together: as many as the widest vector register has words.
const PLACES: usize = 8;

/// After this many words, places that do not match have too many mismatches already.
const FIRST_WORDS: usize = 13;

/// A block, and which of its bits count.
pub(crate) struct Block {
    pub words: [u64; BLOCK_WORDS],
    pub mask: [u64; BLOCK_WORDS],
}

/// A row, and which of its bits count.
pub(crate) struct Row {
    words: Vec<u64>,
    mask: Vec<u64>,
    /// Words of which all bits count.
    #[cfg(target_arch = "x86_64")]
    whole: Range<usize>,
}

impl Row {
    /// A row of `bits` bits with a block of others on either side, so that a block may begin before it
    /// and end after it.
    pub(crate) fn new(words: &[u64], bits: usize) -> Self {
        let before = BLOCK_WORDS - 1;
        let mut row = Self {
            words: vec![0; before],
            mask: vec![0; before],
            #[cfg(target_arch = "x86_64")]
            whole: before..before + bits / 64,
        };
        row.words.extend(words);
        row.mask.extend((0..words.len()).map(|at| lowest(bits - 64 * at)));
        for list in [&mut row.words, &mut row.mask] {
            list.resize(list.len() + before + PLACES, 0);
        }
        row
    }
}

impl Kernels {
    /// Counts the mismatches of a block that starts at each word of a row, or writes `u64::MAX` if they
    /// are more than `most`. Leaves out the last words if they are no multiple of 8, and if a block
    /// would end after the row. Returns whether there is a place with at most `most`.
    pub(crate) fn mismatches(
        self,
        block: &Block,
        row: &Row,
        most: u64,
        counts: &mut Vec<u64>,
    ) -> bool {
        counts.resize((row.words.len() + 1).saturating_sub(BLOCK_WORDS), 0);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { avx512(block, row, most, counts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2(block, row, most, counts) },
            _ => count(block, row, most, counts),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn avx512(block: &Block, row: &Row, most: u64, counts: &mut [u64]) -> bool {
    use std::arch::x86_64::*;

    let load = |words: &[u64; PLACES + BLOCK_WORDS - 1], first: usize| {
        let words = &words[first..first + PLACES];
        // SAFETY: eight words are 64 bytes.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    };
    let broadcast = |word: u64| _mm512_set1_epi64(word as i64);
    let most = broadcast(most);
    let mut found = false;
    for (group, counts) in counts.as_chunks_mut::<PLACES>().0.iter_mut().enumerate() {
        let places = PLACES * group..PLACES * group + PLACES + BLOCK_WORDS - 1;
        let is_whole = row.whole.start <= places.start && places.end <= row.whole.end;
        let [words, mask] = [&row.words, &row.mask]
            .map(|list| list[places.clone()].as_array().expect("the range has this length"));
        let add = |mut sums, range: Range<usize>| {
            for at in range {
                let mut known = broadcast(block.mask[at]);
                if !is_whole {
                    known = _mm512_and_si512(known, load(mask, at));
                }
                // (words ^ block) & known
                let differ = _mm512_ternarylogic_epi64::<0x28>(
                    load(words, at),
                    broadcast(block.words[at]),
                    known,
                );
                sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(differ));
            }
            sums
        };
        let mut sums = add(_mm512_setzero_si512(), 0..FIRST_WORDS);
        let mut hopeless = _mm512_cmpgt_epu64_mask(sums, most);
        if hopeless != u8::MAX {
            sums = add(sums, FIRST_WORDS..BLOCK_WORDS);
            hopeless = _mm512_cmpgt_epu64_mask(sums, most);
            found |= hopeless != u8::MAX;
        }
        let sums = _mm512_mask_set1_epi64(sums, hopeless, -1);
        // SAFETY: eight counts are 64 bytes.
        unsafe { _mm512_storeu_si512(counts.as_mut_ptr().cast(), sums) };
    }
    found
}

/// The compiler vectorises the plain loops.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(block: &Block, row: &Row, most: u64, counts: &mut [u64]) -> bool {
    count(block, row, most, counts)
}

#[inline(always)]
fn count(block: &Block, row: &Row, most: u64, counts: &mut [u64]) -> bool {
    let mut found = false;
    for (group, counts) in counts.as_chunks_mut::<PLACES>().0.iter_mut().enumerate() {
        let places = PLACES * group..PLACES * group + PLACES + BLOCK_WORDS - 1;
        let (words, mask) = (&row.words[places.clone()], &row.mask[places]);
        let mut sums = [0; PLACES];
        add(&mut sums, block, 0..FIRST_WORDS, words, mask);
        let hopeless = |sums: &[u64; PLACES]| sums.iter().all(|&sum| sum > most);
        if !hopeless(&sums) {
            add(&mut sums, block, FIRST_WORDS..BLOCK_WORDS, words, mask);
            found |= !hopeless(&sums);
        }
        *counts = sums.map(|sum| if sum > most { u64::MAX } else { sum });
    }
    found
}

#[inline(always)]
fn add(sums: &mut [u64; PLACES], block: &Block, range: Range<usize>, words: &[u64], mask: &[u64]) {
    for at in range {
        for (place, sum) in sums.iter_mut().enumerate() {
            let differ = (block.words[at] ^ words[at + place]) & block.mask[at] & mask[at + place];
            *sum += u64::from(differ.count_ones());
        }
    }
}

/// A word with its lowest `count` bits set, at most 64.
pub(crate) fn lowest(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_kernels_count_the_same(
            words in vec(any::<u64>(), 1..100),
            unused in 0..64usize,
            block in vec(any::<[u64; 2]>(), BLOCK_WORDS),
            most in 100..400u64,
        ) {
            let row = Row::new(&words, 64 * words.len() - unused);
            let block = Block {
                words: std::array::from_fn(|at| block[at][0]),
                mask: std::array::from_fn(|at| block[at][1]),
            };
            let plain = |place: usize| -> u64 {
                let differ = |at: usize| {
                    (block.words[at] ^ row.words[place + at]) & block.mask[at] & row.mask[place + at]
                };
                (0..BLOCK_WORDS).map(|at| u64::from(differ(at).count_ones())).sum()
            };
            for kernels in Kernels::available() {
                let mut counts = Vec::new();
                let found = kernels.mismatches(&block, &row, most, &mut counts);
                let whole = counts.len() / PLACES * PLACES;
                for (place, count) in counts[..whole].iter().enumerate() {
                    let expected = Some(plain(place)).filter(|count| *count <= most);
                    prop_assert_eq!(*count, expected.unwrap_or(u64::MAX));
                }
                prop_assert_eq!(found, counts[..whole].iter().any(|count| *count <= most));
            }
        }
    }
}

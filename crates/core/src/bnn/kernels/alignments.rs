//! Mismatches of bits at each byte of a longer row of bits.
//!
//! The compiler vectorises the plain loops for each kind of instructions.

use std::iter::zip;

#[cfg(target_arch = "x86_64")]
use super::Instructions;
use super::Kernels;

/// Places that are counted together: as many as the widest vector register has bytes.
pub(crate) const PLACES: usize = 64;

/// The longest segment.
pub(crate) const SEGMENT_BYTES: usize = 4;

/// All bits of a segment. The sum of seven such counts fits a byte, and bytes add faster than 16 bits.
const MOST_COUNT: u8 = 8 * SEGMENT_BYTES as u8;

/// A row of bits, and which of them are known. Both have the same length.
pub(crate) struct Row {
    pub bits: Vec<u8>,
    pub known: Vec<u8>,
}

impl Kernels {
    /// Counts the mismatches of a segment that starts at each byte of a row, from the byte `first` on.
    /// Unknown bits match. The number of counts is a multiple of [`PLACES`].
    ///
    /// # Panics
    /// If the segment has more than [`SEGMENT_BYTES`], or the last one would end after the row.
    pub(crate) fn mismatches(self, segment: &[u8], row: &Row, first: usize, counts: &mut [u8]) {
        assert!(segment.len() <= SEGMENT_BYTES && counts.len().is_multiple_of(PLACES));
        let (bits, known) = (&row.bits[first..], &row.known[first..]);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { avx512_mismatches(segment, bits, known, counts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2_mismatches(segment, bits, known, counts) },
            _ => mismatches(segment, bits, known, counts),
        }
    }

    /// Adds up several lists of counts, each at most [`MOST_COUNT`], and returns whether a sum is below its
    /// limit. The number of sums is a multiple of [`PLACES`].
    ///
    /// # Panics
    /// If a list has fewer counts than there are sums, or there are more or fewer limits.
    pub(crate) fn sums_below(self, lists: &[&[u8]], limits: &[u16], sums: &mut [u16]) -> bool {
        assert!(limits.len() == sums.len() && sums.len().is_multiple_of(PLACES));
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { avx512_sums_below(lists, limits, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2_sums_below(lists, limits, sums) },
            _ => sums_below(lists, limits, sums),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn avx512_mismatches(segment: &[u8], bits: &[u8], known: &[u8], counts: &mut [u8]) {
    mismatches(segment, bits, known, counts);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2_mismatches(segment: &[u8], bits: &[u8], known: &[u8], counts: &mut [u8]) {
    mismatches(segment, bits, known, counts);
}

#[inline(always)]
fn mismatches(segment: &[u8], bits: &[u8], known: &[u8], counts: &mut [u8]) {
    for (group, counts) in counts.as_chunks_mut::<PLACES>().0.iter_mut().enumerate() {
        let mut sums = [0; PLACES];
        for (at, byte) in segment.iter().enumerate() {
            let places = PLACES * group + at..PLACES * (group + 1) + at;
            for (sum, (bits, known)) in
                zip(&mut sums, zip(&bits[places.clone()], &known[places.clone()]))
            {
                *sum += ((bits ^ byte) & known).count_ones() as u8;
            }
        }
        *counts = sums;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn avx512_sums_below(lists: &[&[u8]], limits: &[u16], sums: &mut [u16]) -> bool {
    sums_below(lists, limits, sums)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2_sums_below(lists: &[&[u8]], limits: &[u16], sums: &mut [u16]) -> bool {
    sums_below(lists, limits, sums)
}

#[inline(always)]
fn sums_below(lists: &[&[u8]], limits: &[u16], sums: &mut [u16]) -> bool {
    let mut found = false;
    let groups = zip(sums.as_chunks_mut::<PLACES>().0, limits.as_chunks::<PLACES>().0);
    for (group, (sums, limits)) in groups.enumerate() {
        let mut totals = [0; PLACES];
        for lists in lists.chunks(usize::from(u8::MAX / MOST_COUNT)) {
            let mut bytes = [0u8; PLACES];
            for list in lists {
                let counts = &list[PLACES * group..PLACES * (group + 1)];
                zip(&mut bytes, counts).for_each(|(byte, count)| *byte += count);
            }
            zip(&mut totals, bytes).for_each(|(total, byte)| *total += u16::from(byte));
        }
        let below: u16 = zip(&totals, limits).map(|(total, limit)| u16::from(total < limit)).sum();
        found |= below > 0;
        *sums = totals;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_kernels_count_the_same(
            row in vec(any::<(u8, u8)>(), 200..300),
            segment in vec(any::<u8>(), 1..=SEGMENT_BYTES),
            first in 0..40usize,
        ) {
            let (bits, known) = row.into_iter().unzip();
            let row = Row { bits, known };
            let expected: Vec<u8> = (first..first + 2 * PLACES)
                .map(|place| {
                    let differ = |at: usize| {
                        (row.bits[place + at] ^ segment[at]) & row.known[place + at]
                    };
                    (0..segment.len()).map(|at| differ(at).count_ones() as u8).sum()
                })
                .collect();
            for kernels in Kernels::available() {
                let mut counts = vec![7; 2 * PLACES];
                kernels.mismatches(&segment, &row, first, &mut counts);
                prop_assert_eq!(&counts, &expected);
            }
        }

        #[test]
        fn all_kernels_add_the_same(
            lists in vec(vec(0..=MOST_COUNT, 2 * PLACES..3 * PLACES), 1..33),
            limits in vec(0..1000u16, 2 * PLACES),
        ) {
            let lists: Vec<&[u8]> = lists.iter().map(|list| &list[..]).collect();
            let sum = |place: usize| lists.iter().map(|list| u16::from(list[place])).sum::<u16>();
            let expected: Vec<u16> = (0..2 * PLACES).map(sum).collect();
            for kernels in Kernels::available() {
                let mut sums = vec![7; 2 * PLACES];
                let found = kernels.sums_below(&lists, &limits, &mut sums);
                prop_assert_eq!(&sums, &expected);
                prop_assert_eq!(found, zip(&sums, &limits).any(|(sum, limit)| sum < limit));
            }
        }
    }
}

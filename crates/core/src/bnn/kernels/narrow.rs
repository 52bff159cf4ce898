//! The first block in 16 bits, for x86-64.
//!
//! Half the width is twice the speed. It is exact for a window in which no sum is larger than 16 bits.
//! Most windows are such. The others take the kernels with 32 bits.

use super::{FirstBlock, LANES, Lanes, Table};

/// Tables that are made together at most.
const TABLES: usize = 4;

/// Fewest samples of a row: a table reads three.
const LEAST_SAMPLES: usize = TABLES + 2;

/// Filters of one group.
pub(super) const FILTERS: usize = 32;

/// The largest sum. So there is a threshold above all sums, and one below.
const MOST: u16 = 32766;

/// Filters that fill the widest register.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Group {
    /// For each kernel row, where the bytes of each filter's sum are in a [`Table`].
    pub places: [[u8; 2 * FILTERS]; 3],
    pub thresholds: [i16; FILTERS],
}

pub(super) fn groups(patterns: &[Vec<Lanes>; 3], thresholds: &[Lanes]) -> Vec<Group> {
    const REGISTERS: usize = FILTERS / LANES;
    let of = |lanes: &[Lanes], filter: usize| lanes[filter / LANES].0[filter % LANES];
    let group = |(group, thresholds): (usize, &[Lanes])| {
        let patterns = patterns.each_ref().map(|lanes| &lanes[group * REGISTERS..][..REGISTERS]);
        let place = |lanes: &[Lanes], byte: usize| 2 * of(lanes, byte / 2) as u8 + byte as u8 % 2;
        let (least, most) = (i32::from(i16::MIN), i32::from(i16::MAX));
        let threshold = |filter| match of(thresholds, filter) {
            threshold if threshold > i32::from(MOST) => most,
            threshold => threshold.max(least),
        };
        Group {
            places: patterns.map(|lanes| std::array::from_fn(|byte| place(lanes, byte))),
            thresholds: std::array::from_fn(|filter| threshold(filter) as i16),
        }
    };
    thresholds.chunks_exact(REGISTERS).enumerate().map(group).collect()
}

/// Most samples of a row.
const MOST_SAMPLES: usize = 128;

impl FirstBlock {
    /// Whether no sum of a window is too large for 16 bits, because those of absolute values are not.
    #[inline(always)]
    pub(super) fn is_narrow(&self, input: &[i16]) -> bool {
        if !(LEAST_SAMPLES..=MOST_SAMPLES).contains(&self.samples) {
            return false;
        }
        let mut largest = 0;
        for row in 0..2 * self.pooled_rows {
            let [top, middle, bottom] =
                [0, 1, 2].map(|next| &input[(row + next) * self.samples..][..self.samples]);
            let mut sums = [0u16; MOST_SAMPLES + 2];
            for (sum, ((top, middle), bottom)) in
                sums.iter_mut().zip(top.iter().zip(middle).zip(bottom))
            {
                let two = top.unsigned_abs().saturating_add(middle.unsigned_abs());
                *sum = two.saturating_add(bottom.unsigned_abs());
            }
            for at in 0..MOST_SAMPLES {
                let sum = sums[at].saturating_add(sums[at + 1]).saturating_add(sums[at + 2]);
                largest = sum.max(largest);
            }
        }
        largest <= MOST
    }

    /// Each row of a window with its tables, one for each sample but the last two.
    pub(super) fn table_rows<'a>(
        &self,
        input: &'a [i16],
        tables: &'a mut Vec<Table>,
    ) -> impl Iterator<Item = (&'a [i16], &'a mut [Table])> {
        let positions = self.samples - 2;
        tables.resize((2 * self.pooled_rows + 2) * positions, [0; 8]);
        input.chunks_exact(self.samples).zip(tables.chunks_exact_mut(positions))
    }
}

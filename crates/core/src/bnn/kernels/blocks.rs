//! Filters in blocks, as all vector kernels run them.

use std::ops::Range;

use super::Windows;

/// Filters of one block: those of one output word.
const BLOCK_FILTERS: usize = 64;

/// Up to 64 filters, laid out for one kind of processor.
pub(super) trait Block: Sized {
    /// Lays out the filters `block` of `filters` in all.
    ///
    /// There is one limit per filter of the block, -1 if its sign is never set. Positions use the upper
    /// half of a word only if `upper_half`.
    fn new(
        weights: &[u64],
        filters: usize,
        block: Range<usize>,
        upper_half: bool,
        limits: Vec<i32>,
    ) -> Self;

    /// Writes one word of signs per window.
    fn signs<'a>(&self, windows: Windows, signs: impl ExactSizeIterator<Item = &'a mut u64>);

    /// Mismatches of each filter in a window.
    fn mismatches(&self, window: &[u64]) -> [i32; BLOCK_FILTERS];
}

/// Filters of one layer.
#[derive(Clone, Debug)]
pub(super) struct Blocks<B>(Vec<B>);

impl<B: Block> Blocks<B> {
    pub fn new(weights: &[u64], filters: usize, channels: usize, limits: &[i32]) -> Self {
        let block = |first: usize| {
            let block = first..filters.min(first + BLOCK_FILTERS);
            let limits = match limits.get(block.clone()) {
                Some(limits) => limits.to_vec(),
                None => vec![-1; block.len()],
            };
            B::new(weights, filters, block, channels > 32, limits)
        };
        Self((0..filters).step_by(BLOCK_FILTERS).map(block).collect())
    }

    pub fn signs(&self, windows: Windows, signs: &mut [u64]) {
        for (at, block) in self.0.iter().enumerate() {
            block.signs(windows, signs[at..].iter_mut().step_by(self.0.len()));
        }
    }

    pub fn mismatches(&self, window: &[u64], mismatches: &mut [i32]) {
        for (block, mismatches) in self.0.iter().zip(mismatches.chunks_mut(BLOCK_FILTERS)) {
            mismatches.copy_from_slice(&block.mismatches(window)[..mismatches.len()]);
        }
    }
}

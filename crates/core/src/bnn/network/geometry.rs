//! Where the taps of a convolution fall.

use super::super::kernels::{Filters, Kernels};
use super::super::{Layer, Padding, Shape};

/// Most words that filters read if kernels run them.
const MAX_WINDOW_WORDS: usize = 1 << 14;

/// Where the taps of a convolution fall. The kernel of a dense layer covers the whole input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub from: Shape,
    pub to: Shape,
    pub kernel: [usize; 2],
    /// Number of taps before the first row and before the first sample.
    before: [usize; 2],
}

impl Geometry {
    pub fn new(layer: &Layer, from: Shape, to: Shape) -> Self {
        let (kernel, padding) = match *layer {
            Layer::Convolution { kernel, padding, .. } => (kernel, padding),
            _ => ([from.rows, from.samples], Padding::Valid),
        };
        let before = match padding {
            Padding::Valid => [0, 0],
            Padding::Same => [(kernel[0] - 1) / 2, (kernel[1] - 1) / 2],
        };
        Self { from, to, kernel, before }
    }

    /// Number of values that one filter reads if its whole kernel falls on the input.
    pub fn inputs(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.from.channels
    }

    /// Number of words that one filter reads.
    pub fn window_words(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.position_words()
    }

    /// Number of words of one input position.
    pub fn position_words(&self) -> usize {
        self.from.channels.div_ceil(64)
    }

    /// Whether the whole kernel falls on the input at every position.
    pub fn is_unpadded(&self) -> bool {
        self.to.rows + self.kernel[0] == self.from.rows + 1
            && self.to.samples + self.kernel[1] == self.from.samples + 1
    }

    /// Whether the words that one filter reads are contiguous, and few enough that weights spread
    /// over vector lanes take little memory.
    pub fn suits_filters(&self) -> bool {
        self.is_unpadded()
            && (self.kernel[0] == 1 || self.kernel[1] == self.from.samples)
            && self.window_words() <= MAX_WINDOW_WORDS
    }

    pub fn filters(&self, kernels: Kernels, weights: &[u64], limits: &[i32]) -> Filters {
        Filters::new(kernels, weights, self.to.channels, self.from.channels, limits)
    }

    /// The words that the outputs of one row read, if these are contiguous.
    pub fn row<'a>(&self, bits: &'a [u64], row: usize) -> &'a [u64] {
        &bits[row * self.from.samples * self.position_words()..]
    }

    /// Calls `visit` for each tap of the kernel that falls on the input at an output position: with
    /// the tap and the input position.
    pub fn for_each_tap(&self, position: usize, mut visit: impl FnMut(usize, usize)) {
        let (row, sample) = (position / self.to.samples, position % self.to.samples);
        for kernel_row in 0..self.kernel[0] {
            // Taps before an edge wrap around to a huge number, past the other edge.
            let from_row = (row + kernel_row).wrapping_sub(self.before[0]);
            if from_row >= self.from.rows {
                continue;
            }
            for kernel_sample in 0..self.kernel[1] {
                let from_sample = (sample + kernel_sample).wrapping_sub(self.before[1]);
                if from_sample < self.from.samples {
                    let tap = kernel_row * self.kernel[1] + kernel_sample;
                    visit(tap, from_row * self.from.samples + from_sample);
                }
            }
        }
    }
}

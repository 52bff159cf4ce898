//! A binary network, packed and ready to run.

mod affine;
mod geometry;
mod head;
mod packing;
mod stage;

use head::Head;
use stage::Stage;

use super::kernels::{Kernels, SeriesBlock, Table};
use super::{Architecture, NetworkError, Parameters};

/// Inputs are fixed point: a value of 1.0 is `1 << INPUT_FRACTION_BITS`.
pub const INPUT_FRACTION_BITS: u32 = 10;

/// A binary network in packed form. Immutable; share it between threads.
#[derive(Debug)]
pub struct Network {
    input_len: usize,
    stages: Vec<Stage>,
    /// Turns the last stage's integers into outputs.
    head: Head,
    feature_len: usize,
}

/// Working memory of [`Network::run`], for any network. Use one per thread.
///
/// The first run of a network allocates; later runs do not.
#[derive(Debug, Default)]
pub struct Scratch {
    integers: Vec<i32>,
    /// Sums of the first block.
    tables: Vec<Table>,
    bits: Vec<u64>,
    /// Output of a stage from bits to bits, until it replaces its input.
    next_bits: Vec<u64>,
    /// Signs of a row, channel by channel.
    blocks: Vec<SeriesBlock>,
    feature: Vec<f32>,
    logits: Vec<f32>,
    /// Output of a layer of reals, until it replaces its input.
    reals: Vec<f32>,
}

/// The outputs for one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output<'a> {
    /// The values that templates are made of: the output of a deflation, else the input of the
    /// normalisation, else the values before the last sign. Empty for a network without these.
    pub feature: &'a [f32],
    /// One value per class; the largest is the likeliest class. Empty for a network that ends with
    /// a deflation.
    pub logits: &'a [f32],
}

impl Network {
    /// Packs a binary network.
    ///
    /// # Errors
    /// If the parameters do not fit the architecture, or the layers cannot run packed. Every
    /// convolution and dense layer except the first needs a sign before it.
    pub fn new(architecture: &Architecture, parameters: &Parameters) -> Result<Self, NetworkError> {
        Self::with_kernels(architecture, parameters, Kernels::preferred())
    }

    /// Packs a binary network for these kernels. The choice changes nothing but the speed.
    ///
    /// # Errors
    /// See [`Network::new`].
    pub fn with_kernels(
        architecture: &Architecture,
        parameters: &Parameters,
        kernels: Kernels,
    ) -> Result<Self, NetworkError> {
        let mut network = packing::pack(architecture, parameters, kernels)?;
        network.stages = stage::with_kernels(&network.stages, kernels);
        Ok(network)
    }

    /// Number of values of one window.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Number of values of a feature.
    pub fn feature_len(&self) -> usize {
        self.feature_len
    }

    /// Runs one window: rows x samples fixed-point values, row by row.
    ///
    /// # Errors
    /// If the window has another length.
    pub fn run<'a>(
        &self,
        values: &[i16],
        scratch: &'a mut Scratch,
    ) -> Result<Output<'a>, NetworkError> {
        self.run_showing(values, usize::MAX, &mut Vec::new(), scratch)
    }

    /// Runs one window, and copies the input of one layer to `shown`.
    ///
    /// This is the layer that `layers_after` layers with weights follow. `shown` is empty if it reads
    /// the window itself.
    ///
    /// # Errors
    /// See [`Network::run`].
    pub fn run_showing<'a>(
        &self,
        values: &[i16],
        layers_after: usize,
        shown: &mut Vec<f32>,
        scratch: &'a mut Scratch,
    ) -> Result<Output<'a>, NetworkError> {
        if values.len() != self.input_len {
            return Err(NetworkError::InputLength { length: values.len(), needed: self.input_len });
        }
        scratch.feature.clear();
        shown.clear();
        let mut with_weights =
            (0..self.stages.len()).rev().filter(|&at| self.stages[at].has_weights());
        let stages_after = layers_after.checked_sub(self.head.dense_layers());
        let at_shown = stages_after.map(|after| with_weights.nth(after).unwrap_or(0));
        for (at, stage) in self.stages.iter().enumerate() {
            if at > 0 && at_shown == Some(at) {
                unpack(&scratch.bits, stage.channels_read(), shown);
            }
            stage.run(values, scratch);
        }
        self.head.run(scratch, layers_after, shown);
        Ok(Output { feature: &scratch.feature, logits: &scratch.logits })
    }
}

/// Signs as +1 and -1, ordered by row, sample and channel.
fn unpack(signs: &[u64], channels: usize, into: &mut Vec<f32>) {
    for words in signs.chunks_exact(channels.div_ceil(64)) {
        for (at, word) in words.iter().enumerate() {
            // Sets the sign bit of 1.0.
            let value = |bit| f32::from_bits(1f32.to_bits() | ((!word >> bit) as u32 & 1) << 31);
            into.extend((0..(channels - 64 * at).min(64)).map(value));
        }
    }
}

#[cfg(test)]
mod tests;

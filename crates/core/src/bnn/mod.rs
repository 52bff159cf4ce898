//! Packed binary neural networks: layers, kernels, networks and model files.
//!
//! Weights and the values between layers are +1 or -1, with one bit each. The sign of zero is +1,
//! here and in training. The input is fixed point. So every binary layer, even the first, is integer
//! arithmetic, and equals the float network exactly on every processor.

mod architecture;
mod kernels;
mod model_file;
mod network;
mod parameters;
pub mod reference;
mod sums;

pub use architecture::{Architecture, ArchitectureError, Layer, Padding, Shape, Weights};
pub use kernels::{Kernels, KernelsError};
pub(crate) use kernels::{alignments, vectors};
pub use model_file::{MAX_FILE_BYTES, Metadata, Model, ModelFileError, decode, encode};
pub use network::{INPUT_FRACTION_BITS, Network, Output, Scratch};
pub use parameters::{BATCH_NORM_EPSILON, LayerParameters, NetworkError, Parameters};
pub use parameters::{int8_step, normaliser, round_int8, time_share};
pub use sums::{PackedFilters, SumsScratch};

#[cfg(test)]
mod arbitrary;

//! Packed inference of binary neural networks: layers, kernels, the network and its file.
//!
//! Pure: no I/O, no async, nothing of this crate's other rooms.

mod architecture;

pub use architecture::{Architecture, ArchitectureError, Layer, Padding, Shape, Weights};

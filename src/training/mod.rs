//! Training.

mod layers;
mod matrix;
mod network;
mod samples;
mod train;

pub use samples::Augmentation;
pub use train::{Progress, Schedule, Trained};

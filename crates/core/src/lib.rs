//! From a phone's recording to a decision: the part of bipedalnet that also runs on a phone.
//!
//! | module | what it does |
//! |---|---|
//! | [`identity`] | templates, gallery, calibration, decision |
//! | [`gait`] | recording to windows, walking check, fingerprints against replay, simulator |
//! | [`bnn`] | packed inference, the model file |
//! | [`cbor`] | CBOR with typed arrays |
//!
//! Pure: no I/O, no async, no clock, no environment.

pub mod bnn;
pub mod cbor;
pub mod gait;
mod gait_model;
pub mod identity;

pub use gait_model::{GaitModel, Reading, UnfitModel};

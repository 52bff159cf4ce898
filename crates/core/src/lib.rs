//! From a phone's recording to a decision. This part of bipedalnet also runs on a phone.
//!
//! | module | what it does |
//! |---|---|
//! | [`identity`] | user ids, templates, gallery, calibration, decision |
//! | [`gait`] | recordings, windows, walking check, fingerprints against replay, simulator |
//! | [`bnn`] | packed binary networks and the model file |
//! | [`cbor`] | CBOR with typed arrays for serde |
//!
//! [`GaitModel`] joins them: a model file with which recordings become templates.
//!
//! It is pure: no I/O, no async, no clock, no environment variables.

pub mod bnn;
pub mod cbor;
pub mod gait;
mod gait_model;
pub mod identity;
mod rounding;

pub use gait_model::{GaitModel, Reading, UnfitModel};

//! From a phone's recording to the windows that a network reads.
//!
//! Units, resampling, orientation, the walking check, fingerprints against replay, compact
//! documents, and a simulator of walkers.

mod compact;
mod error;
mod fingerprint;
mod orientation;
mod recipe;
mod recording;
mod resample;
mod rows;
pub mod simulator;
mod walking;
mod window;

pub use compact::{Precision, compact, exact};
pub use error::SignalError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use recipe::{Recipe, Rows, WINDOW_ROWS};
pub use recording::{AccelerationUnit, AngularRateUnit, Recording, RecordingDocument};
pub use resample::Signal;
pub use rows::{WINDOW_FRACTION_BITS, quantise, unit_scale_rows};
pub use window::{CutWindows, Window, cut_windows};

//! From a phone's recording to the windows that a network reads.
//!
//! Units, resampling, orientation, the walking check, fingerprints against replay, compact
//! documents, and a simulator of walkers.

mod clock;
mod compact;
mod document;
mod error;
mod fingerprint;
mod gravity;
mod orientation;
mod recipe;
mod recording;
mod resample;
mod rows;
mod sensor;
pub mod simulator;
mod walking;
mod window;

pub use clock::Mend;
pub use compact::{Precision, compact, exact};
pub use document::{AccelerationUnit, AngularRateUnit, AtRest, RecordingDocument};
pub use error::SignalError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use recipe::{Recipe, Rows, WINDOW_ROWS};
pub use recording::Recording;
pub use resample::Signal;
pub use rows::{WINDOW_FRACTION_BITS, quantise, unit_scale_rows};
pub use window::{CutWindows, Window, cut_windows};

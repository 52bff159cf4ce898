//! From a phone's recording to the windows that a network reads.
//!
//! Pure signal processing: units, resampling, orientation, the walking check, and a simulator
//! of walkers. Nothing of this crate's other rooms.

mod compact;
mod error;
mod fingerprint;
mod orientation;
mod recording;
mod resample;
pub mod simulator;
mod walking;
mod window;

pub use compact::{Precision, compact, exact};
pub use error::SignalError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use recording::{AccelerationUnit, AngularRateUnit, Recording, RecordingDocument};
pub use resample::Signal;
pub use window::{Cut, Recipe, Rows, WINDOW_FRACTION_BITS, WINDOW_ROWS, Window, cut_windows};
pub use window::{acceleration_axes, is_walking, quantise, rows, unit_scale_rows};

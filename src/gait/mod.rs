//! From a phone's recording to the windows that a network reads.
//!
//! Pure signal processing: units, resampling, orientation, the walking check, and a simulator
//! of walkers. Nothing of this crate's other rooms.

mod recording;
mod window;

pub use recording::{AccelerationUnit, AngularRateUnit, Recording, RecordingDocument};
pub use window::{SignalError, WINDOW_FRACTION_BITS, WINDOW_ROWS, Window};

//! Training: the networks, the loop over epochs, and the last layer of an open-set network.

mod accuracy;
mod deflation;
mod design;
mod eigen;
mod epochs;
mod nearest_subject;
mod phase;
mod spread;

pub use accuracy::{Accuracy, CONSECUTIVE, accuracy, correct, named};
pub use deflation::{Deflation, PEOPLE_AT_A_TIME, WINDOWS_A_PERSON, with_deflation};
pub use design::Design;
pub use epochs::{CALIBRATION_WINDOWS, Draws, Progress, Schedule, Trained, cross_entropy, train};
pub use nearest_subject::NearestSubject;
pub use phase::BINARY_LOGIT_SCALE;
pub use spread::Spread;

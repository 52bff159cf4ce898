//! Training: recordings in, a network's parameters out.
//!
//! | file | what is in it |
//! |---|---|
//! | `dataset` | folders of recordings |
//! | `samples` | what trains, what tests; windows, and how they are varied |
//! | `train` | the loop, its schedule and progress |
//! | `design` | the networks, each with a schedule that suits it |
//! | `network` | a network that learns: forward, backward, Adam |
//! | `layers` | forward and backward of each layer |
//! | `matrix` | the matrix product |
//! | `compression` | other weights than signs, to compare with |
//! | `deflation` | the last layer of the network that serves, in closed form |
//! | `eigen` | the largest eigenvalues of a matrix |
//! | `accuracy` | how well a trained network names people |
//! | `retraining` | a new network for enrolled users: the loop |
//! | `enrolled` | their walks, and simulated strangers |
//! | `student` | a network that learns from walks and from its parent |
//! | `refit` | a network without classes for enrolled users: its last layer, in closed form |
//! | `checkpoint` | a retraining between two epochs, as bytes |
//! | `threads` | a pool that leaves the processor to others |

mod accuracy;
mod calibration;
mod checkpoint;
mod compression;
mod dataset;
mod deflation;
mod design;
mod eigen;
mod enrolled;
pub mod evaluation;
mod layers;
mod matrix;
mod network;
pub mod plots;
mod rates;
mod recording_file;
mod refit;
mod retrained_model;
mod retraining;
mod samples;
mod student;
mod threads;
mod train;
mod trial;

pub use accuracy::{Accuracy, accuracy};
pub(crate) use accuracy::{CONSECUTIVE, Nearest, named};
pub use calibration::{Fitted, Strangers, calibrate};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use compression::Compression;
pub(crate) use dataset::natural_order;
pub use dataset::{DataError, DataSet, Person, Walk, by_person, read_data};
pub use deflation::Deflation;
pub use design::Design;
pub use enrolled::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, ReadRecording, TooLittle, Users};
pub use recording_file::{FormatError, MAX_RECORDING_BYTES, read_padova_walk, read_recording};
pub use retrained_model::retrained_model;
pub use retraining::{Event, Length, Retrained, RetrainingError, RetrainingOptions, retrain};
pub use samples::sessions_exist;
pub use samples::{Augmentation, Division, LabelledWalk, Split, SplitError};
pub use threads::low_priority_pool;
pub use train::{Progress, Schedule, Trained, train};

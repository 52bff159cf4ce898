//! Training: recordings in, a network's parameters out.
//!
//! | file | what is in it |
//! |---|---|
//! | `dataset` | folders of recordings |
//! | `samples` | what trains, what tests; windows, and how they are varied |
//! | `train` | the loop, its schedule and progress |
//! | `published` | the three networks of the published table |
//! | `network` | a network that learns: forward, backward, Adam |
//! | `layers` | forward and backward of each layer |
//! | `matrix` | the matrix product |
//! | `evaluation` | how well a trained network names people |

mod dataset;
mod evaluation;
mod layers;
mod matrix;
mod network;
mod published;
mod samples;
mod train;

pub use dataset::{DataError, DataSet, Person, Walk, by_person, read_data};
pub use evaluation::{Evaluation, evaluate};
pub use published::Published;
pub use samples::{Augmentation, Division, LabelledWalk, Split, SplitError};
pub use train::{Progress, Schedule, Trained, train};

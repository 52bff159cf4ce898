//! Whole runs: a model that can serve, and the published table.

mod held_out;
mod published_table;
mod train_model;

use std::ops::ControlFlow;

use bipedalnet_core::bnn::{ArchitectureError, ModelFileError, NetworkError};
use bipedalnet_core::gait::SignalError;
pub use held_out::FEWEST_SUBJECTS_TO_CALIBRATE;
pub use published_table::{TableRow, published_table};
pub use train_model::{SubjectPart, TrainModelOptions, TrainedModel, train_model};

use crate::data::SplitError;
use crate::trainer::{Design, Progress};

/// A network that is being trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The network itself.
    Network(Design),
    /// A network that lacks some subjects, for the calibration.
    HeldOut {
        /// From 1.
        number: usize,
        /// The number of these networks.
        of: usize,
    },
}

/// What a run reports.
#[derive(Debug)]
pub enum TrainingEvent<'a> {
    /// Recordings that cannot be used, as `subject, session`, and why. Comes before training.
    LeftOut(&'a [(String, SignalError)]),
    /// Comes after each step. [`ControlFlow::Break`] stops the training.
    Progress(Stage, &'a Progress),
}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A folder to leave out is not among those that were read.
    #[error("cannot leave out {0:?}: no folder has this name")]
    UnknownFolder(String),
    /// No folder is left to train on.
    #[error("every folder is left out")]
    NoFolder,
    /// The recordings cannot be divided.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// No window of walking is left to test on.
    #[error("no window of walking to test on; choose another split")]
    NothingToTest,
    /// There is no network to keep yet.
    #[error("stopped in the first epoch: there is no network yet to keep")]
    StoppedInFirstEpoch,
    /// The table lacks rows.
    #[error("stopped before the table was complete")]
    TableIncomplete,
    /// The layers do not make a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network does not fit a model file.
    #[error(transparent)]
    File(#[from] ModelFileError),
}

impl From<ArchitectureError> for TrainingError {
    fn from(error: ArchitectureError) -> Self {
        Self::Network(error.into())
    }
}

/// Passes a stage's progress to an observer, and remembers whether that stopped the run.
struct Observer<F> {
    observe: F,
    stopped: bool,
}

impl<F: FnMut(TrainingEvent<'_>) -> ControlFlow<()>> Observer<F> {
    fn new(observe: F) -> Self {
        Self { observe, stopped: false }
    }

    fn left_out(&mut self, recordings: &[(String, SignalError)]) {
        self.stopped |= (self.observe)(TrainingEvent::LeftOut(recordings)).is_break();
    }

    fn progress(&mut self, stage: Stage) -> impl FnMut(&Progress) -> ControlFlow<()> {
        move |progress| {
            let go_on = (self.observe)(TrainingEvent::Progress(stage, progress));
            self.stopped |= go_on.is_break();
            go_on
        }
    }
}

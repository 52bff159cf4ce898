//! Why a retraining has no result.

use std::error::Error;

use bipedalnet_core::bnn::{ArchitectureError, ModelFileError, NetworkError};
use bipedalnet_core::gait::{Rows, WINDOW_ROWS};

use super::checkpoint::CheckpointError;

/// Windows of walking that each user needs, half a window apart: about nine seconds.
pub const FEWEST_WINDOWS_A_USER: usize = 8;

/// Windows of walking that all users need together.
pub const FEWEST_WINDOWS: usize = 32;

/// A user with too little walking to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// The user's position, from 0.
    pub user: usize,
    /// The user's recordings.
    pub recordings: usize,
    /// Windows of walking in them, half a window apart.
    pub windows: usize,
}

/// Why a retraining has no result.
#[derive(Debug, thiserror::Error)]
pub enum RetrainingError {
    /// There are no users.
    #[error("there are no users to train on; enroll at least one")]
    NoUsers,
    /// There is too little walking.
    #[error(
        "too little walking to train on: each user needs {FEWEST_WINDOWS_A_USER} windows, all together {FEWEST_WINDOWS} (about a second each); {}",
        missing(.users, *.windows)
    )]
    TooLittle {
        /// Users with too little of their own.
        users: Vec<TooLittle>,
        /// Windows of walking of all users.
        windows: usize,
    },
    /// A recording cannot be read, or was deleted.
    #[error("a recording cannot be read: {0}")]
    Recording(Box<dyn Error + Send + Sync>),
    /// The memory limit is too low.
    #[error("retraining takes {needed_bytes} bytes of memory; {allowed_bytes} are allowed")]
    Memory {
        /// Memory that it needs with the shortest recordings possible.
        needed_bytes: usize,
        /// The limit.
        allowed_bytes: usize,
    },
    /// The parent is not a model.
    #[error(transparent)]
    Parent(#[from] ModelFileError),
    /// The parent reads windows that this version does not cut.
    #[error("the parent reads {found}; this version cuts {WINDOW_ROWS} rows {}", Rows::names())]
    Windows {
        /// The windows, according to its file.
        found: String,
    },
    /// The layers do not fit this number of classes.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The checkpoint cannot be resumed from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<ArchitectureError> for RetrainingError {
    fn from(error: ArchitectureError) -> Self {
        Self::Network(error.into())
    }
}

fn missing(users: &[TooLittle], windows: usize) -> String {
    match users.len() {
        0 => format!("there are {windows}"),
        short => format!("there are {windows}, and {short} users have too few"),
    }
}

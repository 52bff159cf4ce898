//! What a caller gives to a retraining, and gets from it.

use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::time::Duration;

use bipedalnet_core::bnn::{Architecture, Parameters};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpoint;
use crate::trainer::Progress;

/// When a retraining ends. A refit takes one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After this number of passes over the data.
    Epochs(NonZeroU16),
    /// After the passes that fit into this time at the speed of the first one. At least one.
    Budget(Duration),
}

/// How to retrain. Training runs on the rayon pool that [`retrain`](super::retrain) is called in.
/// The number of threads does not change the result.
#[derive(Clone, Debug)]
pub struct RetrainingOptions {
    /// Trains only the layer that makes the feature and the last one, on the outputs of the
    /// parent's other layers. That is several times as fast. A network without classes has its last
    /// layer refitted in either case.
    pub last_layers_only: bool,
    /// When it ends.
    pub length: Length,
    /// Decides everything random.
    pub seed: u64,
    /// Limits the memory of the cut recordings and of the network in training. Recordings are
    /// shortened, the longest users' first, until they fit. Recordings that are being read come on
    /// top: one a thread.
    pub memory_bytes: usize,
}

impl RetrainingOptions {
    /// Identifies a job: a checkpoint can only resume the job that wrote it.
    pub(super) fn job(&self, parent_id: &str, data_sha256: &[u8; 32]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(data_sha256);
        hash.update(format!("{parent_id} {self:?}"));
        hash.finalize().into()
    }
}

/// What a running retraining reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// Comes several times a second.
    Progress(&'a Progress),
    /// Comes after each epoch.
    Checkpoint(&'a Checkpoint),
}

impl Event<'_> {
    /// Reports progress. `None` if the observer stops the retraining.
    pub(super) fn report(
        observe: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
        progress: &Progress,
    ) -> Option<()> {
        observe(Event::Progress(progress)).is_continue().then_some(())
    }
}

/// A retrained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrained {
    /// The parent's. If it has classes, their number is different.
    pub architecture: Architecture,
    /// The parameters after the epoch with the best validation accuracy. Without validation, those
    /// after the last epoch.
    pub parameters: Parameters,
    /// Names of the classes: `user 1` and so on, in the order of the users, then `background 1` and
    /// so on. A user's own name would outlive their erasure. A network without classes has the
    /// names of the people whom the parent was trained on.
    pub classes: Vec<String>,
    /// SHA-256 of the recordings, in hexadecimal.
    pub data_sha256: String,
    /// Number of users.
    pub users: usize,
    /// The seed of the options.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// The pass that was kept.
    pub best_epoch: u32,
    /// Share of the windows of users' last recordings that are named correctly, among users and
    /// simulated walkers. `None` if no user has two recordings.
    pub validation_accuracy: Option<f32>,
}

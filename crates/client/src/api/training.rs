//! Training jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which layers a training job changes.
///
/// This applies to a network with classes. A network without classes, such as the shipped one, always
/// has only its last layer refitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainingScope {
    /// All layers.
    #[default]
    Whole,
    /// The feature layer and the last layer. This is faster.
    LastLayers,
}

/// What to train. `{}` trains a new model from the active one and the kept recordings of all users, and
/// activates it if it is no less accurate.
///
/// A network without classes, such as the shipped one, has its last layer refitted: what varies
/// between the walks of one user then counts for less. This takes seconds. It works best with
/// recordings of the same users on several days. A network with classes is trained for several epochs
/// to tell the users apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainDocument {
    /// The layers to change.
    #[serde(default)]
    pub scope: TrainingScope,
    /// Number of epochs, from 1 to 200. The default is 20. A refit takes one epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 200)]
    pub epochs: Option<u16>,
    /// Time limit that replaces `epochs`: the job runs at least one epoch, and more while time is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub budget_seconds: Option<u32>,
    /// Whether to activate the new model if it is no less accurate than the active one. The default is
    /// true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<bool>,
    /// Leave out users with too little walking in kept recordings. Without this, such users make the
    /// request fail. The new model recognises them all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_users_with_too_little: bool,
    /// Seed of the random numbers. The default is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

/// State of a training job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job waits for earlier ones.
    Queued,
    /// The job runs.
    Running,
    /// The job made a new model.
    Succeeded,
    /// The job made no model; see `reason`.
    Failed,
    /// The job was cancelled.
    Cancelled,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the job has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// As it is written in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A training job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainingJobAnswer {
    /// Number of the job.
    pub job: i64,
    /// State of the job.
    pub state: JobState,
    /// The layers that change.
    pub scope: TrainingScope,
    /// Number of finished epochs.
    pub epoch: u32,
    /// Total number of epochs. With `budget_seconds`, it is known after the first. A refit has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Time limit that replaces the number of epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_seconds: Option<u32>,
    /// Whether to activate the new model if it is no less accurate.
    pub activate: bool,
    /// Seed of the random numbers.
    pub seed: u32,
    /// Id of the model that was active when the job started. The new model is trained from it, or from
    /// its parent if it is a refitted model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Number of users with enough walking, once they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// Number of users who are left out because they have too little walking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_left_out: Option<u32>,
    /// Mean cross-entropy in the current or last epoch. Absent for a refit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    /// Share of windows that the network classified correctly after the last epoch. The windows come
    /// from each user's last walk, which is not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f32>,
    /// Share of the training that is done, while the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_done: Option<f32>,
    /// Windows trained on per second, while the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f32>,
    /// Estimated time until the training ends, while the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f32>,
    /// Id of the new model. `GET /v1/models/{model}` compares it with the model that was active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the new model was activated.
    pub activated: bool,
    /// Why the job failed, or why its model was not activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the job was requested.
    pub created_at_unix_seconds: i64,
    /// When the job started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_unix_seconds: Option<i64>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_unix_seconds: Option<i64>,
}

/// A list of training jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainingJobsAnswer {
    /// The jobs, newest first: the last 100, and all that have not ended.
    pub jobs: Vec<TrainingJobAnswer>,
}

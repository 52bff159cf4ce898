//! Documents about training jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a training changes of a network with classes. A network without classes, such as the one that
/// ships, has its last layer refitted in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainingScope {
    /// All layers.
    #[default]
    Whole,
    /// The feature's layer and the last, on what the serving model's others give: done sooner.
    LastLayers,
}

/// What to train. `{}` makes a new network from the one that serves and all users' kept recordings. It
/// takes over if it does no worse.
///
/// A network without classes, such as the one that ships, has its last layer refitted: what varies
/// between the walks of one user then counts for less. This takes seconds. It learns most from users
/// with recordings of several days. A network with classes learns to tell the users apart, epoch by
/// epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainDocument {
    /// What changes.
    #[serde(default)]
    pub scope: TrainingScope,
    /// Passes over the data, 1 to 200; 20 if neither this nor a time is given. A refit takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 200)]
    pub epochs: Option<u16>,
    /// Instead of `epochs`: as many passes as fit into this time, one at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400)]
    pub budget_seconds: Option<u32>,
    /// Whether the new model takes over where it does no worse than the one that serves; it does
    /// where this is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<bool>,
    /// Whether users with too little walking in kept recordings are left out, instead of the request
    /// being refused. They are recognised all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_users_with_too_little: bool,
    /// Everything random follows from it; 1 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// It is being carried out.
    Running,
    /// There is a new model.
    Succeeded,
    /// There is none: see the reason.
    Failed,
    /// It was called off.
    Cancelled,
}

/// A training job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainingJobAnswer {
    /// Its number.
    pub job: i64,
    /// How far it is.
    pub state: JobState,
    /// What changes.
    pub scope: TrainingScope,
    /// Epochs done.
    pub epoch: u32,
    /// Epochs in all; with a time budget known after the first. A refit has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// The time that was asked for instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_seconds: Option<u32>,
    /// Whether the new model was to take over.
    pub activate: bool,
    /// The seed.
    pub seed: u32,
    /// Id of the model that served when it began, once it runs. The new model is made from it; if it
    /// was itself refitted, from the one that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Users that it learns from, once they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// Users with too little walking to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_left_out: Option<u32>,
    /// Mean cross-entropy over the last epoch, or the one that runs. A refit has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    /// Share of the windows of users' last walks that the network named right after the last epoch:
    /// walks that it does not learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f32>,
    /// Share of the training that is done, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_done: Option<f32>,
    /// Windows a second that it learns from, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f32>,
    /// Time that the rest of the training takes at this speed, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f32>,
    /// Id of the new model; how it did beside the one that served is in `GET /v1/models/{model}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it took over.
    pub activated: bool,
    /// Why the job failed, or its model did not take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at_unix_seconds: i64,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_unix_seconds: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_unix_seconds: Option<i64>,
}

/// Training jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainingJobsAnswer {
    /// The newest first: 100, and all that are not over.
    pub jobs: Vec<TrainingJobAnswer>,
}

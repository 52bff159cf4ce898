//! Models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelAnswer {
    /// Id of the model.
    pub model: String,
    /// Whether the model is active: it answers all requests.
    pub active: bool,
    /// Whether the model ships with the program.
    pub shipped: bool,
    /// Name of the model, for people.
    pub name: String,
    /// Id of the model that this one was trained from. That model may have been deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Description of the data that the model was trained on.
    pub training_data: String,
    /// Measured figures, by name.
    pub metrics: BTreeMap<String, f32>,
    /// Comparison with the model that was active at the last attempt to activate this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonAnswer>,
    /// Length of the model file.
    pub size_bytes: u64,
    /// SHA-256 of the model file in hexadecimal digits. It is also the `ETag` of the file.
    pub sha256: String,
    /// When the model was registered.
    pub created_at_unix_seconds: i64,
}

/// A list of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelsAnswer {
    /// The models, oldest first.
    pub models: Vec<ModelAnswer>,
}

/// Comparison of two models on the same recordings.
///
/// The last recording of each user with several kept recordings is identified; the others are enrolled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonAnswer {
    /// Number of recordings that were identified, one per user.
    pub recordings: u32,
    /// Id of the old model, which was active.
    pub old_model: String,
    /// Results of the old model.
    pub old: SharesAnswer,
    /// Results of the new model.
    pub new: SharesAnswer,
}

/// Results of a model, as shares of the recordings from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SharesAnswer {
    /// Recordings that were identified as the right user.
    pub identified_right: f64,
    /// Recordings that were identified as a wrong user.
    pub identified_wrong: f64,
    /// Recordings that were identified as a wrong user while the walker was not enrolled.
    pub strangers_identified: f64,
}

/// Options for activating a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateDocument {
    /// Activate the model even if enrollments would be lost or it is less accurate.
    #[serde(default)]
    pub force: bool,
}

/// Result of activating a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActivatedAnswer {
    /// Id of the model that is active now.
    pub model: String,
    /// Id of the model that was active before. The same as `model` if that was active already.
    pub previous_model: String,
    /// Comparison of the two models. Absent if there were no recordings to compare them on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonAnswer>,
    /// Why `comparison` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// Enrollments that the new model cannot use because their recordings are not kept.
    pub walks_lost: u64,
    /// Number of users who have such enrollments.
    pub users_with_walks_lost: u64,
}

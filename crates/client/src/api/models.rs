//! Documents about models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model that can serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelAnswer {
    /// Its id.
    pub model: String,
    /// Whether it serves.
    pub active: bool,
    /// Whether it ships with the program.
    pub shipped: bool,
    /// Name for people.
    pub name: String,
    /// Id of the model that it was made from, which may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What it was trained on.
    pub training_data: String,
    /// Measured figures by name.
    pub metrics: BTreeMap<String, f32>,
    /// With the model that served when this one was last to take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonAnswer>,
    /// Length of its file.
    pub size_bytes: u64,
    /// SHA-256 of its file, in hexadecimal digits: its `ETag` too.
    pub sha256: String,
    /// When it was registered.
    pub created_at_unix_seconds: i64,
}

/// Models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelsAnswer {
    /// The oldest first.
    pub models: Vec<ModelAnswer>,
}

/// Two models on the same recordings: the last of each user with several, the others being enrolled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComparisonAnswer {
    /// Recordings, one a user.
    pub recordings: u32,
    /// Id of the model that served.
    pub old_model: String,
    /// What it made of them.
    pub old: SharesAnswer,
    /// What the other made of them.
    pub new: SharesAnswer,
}

/// What a model makes of recordings: shares of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SharesAnswer {
    /// Identified as who walks.
    pub identified_right: f64,
    /// Identified as someone else.
    pub identified_wrong: f64,
    /// Identified as someone else where who walks is not enrolled.
    pub strangers_identified: f64,
}

/// How a model takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateDocument {
    /// Whether it takes over even where walks would no longer count, or it does worse.
    #[serde(default)]
    pub force: bool,
}

/// A model that took over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActivatedAnswer {
    /// Id of the model that serves now.
    pub model: String,
    /// Id of the model that served before: the same where it served already.
    pub previous_model: String,
    /// Between the two, where there are recordings to compare them on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonAnswer>,
    /// Why there is no comparison, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// Walks that counted before and do not now, as their recordings are not kept.
    pub walks_lost: u64,
    /// Users whose walks they are.
    pub users_with_walks_lost: u64,
}

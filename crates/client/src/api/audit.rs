//! The audit trail.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entry of the audit trail: who did what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// From 1 on, without gaps.
    pub number: i64,
    /// When it was added.
    pub at_unix_seconds: i64,
    /// Id of the API key; or `anonymous`, `server` or `command_line`.
    pub actor: String,
    /// What was done: `user_created`, `user_deleted`, `user_exported`, `user_locked`,
    /// `user_unlocked`, `enrolled`, `enrollment_deleted`, `template_updated`, `verified`,
    /// `key_created`, `key_revoked`, `model_registered`, `model_activated`, `model_deleted` or
    /// `audit_pruned`.
    pub action: String,
    /// Keyed digest of the user's id, in hexadecimal digits. `bipedalnet audit --user ID` finds the
    /// entries about a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_digest: Option<String>,
    /// Number of the enrollment, the decision, or the id of the key or model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Keyed hash of this entry and the one before it, in hexadecimal digits.
    pub hash: String,
}

/// A page of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditAnswer {
    /// The entries, oldest first.
    pub entries: Vec<AuditEntry>,
    /// `after` for the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

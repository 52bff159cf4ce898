//! Collections of users.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectionDocument {
    /// Most users. Defaults to no limit but that of the server, which counts all collections together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub max_users: Option<u64>,
    /// Most enrollments of a user. Defaults to the server's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub max_enrollments_per_user: Option<u64>,
}

/// A collection of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectionAnswer {
    /// Id of the collection.
    pub collection: String,
    /// Number of its users.
    pub users: u64,
    /// Most users, if the collection has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users: Option<u64>,
    /// Most enrollments of a user, if the collection has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_enrollments_per_user: Option<u64>,
    /// When the collection was created.
    pub created_at_unix_seconds: i64,
}

/// A page of collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectionsAnswer {
    /// The collections, in the order of their ids.
    pub collections: Vec<CollectionAnswer>,
    /// `after` for the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

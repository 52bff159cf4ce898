//! Users who are locked because too many verifications failed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bipedalnet_client::api;

use super::body::Format;
use super::idempotency::{IdempotencyKey, no_content};
use super::path::{InCollection, UserPath};
use super::problem::Problem;
use crate::service::{Lock, Service, ServiceError};

/// List locked users
///
/// At most 1,000 of a collection, in the order of their ids.
#[utoipa::path(get, path = "/v1/locks", operation_id = "list_locks", tag = "users",
    responses((status = 200, description = "The locked users", body = api::LocksAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    InCollection { collection, .. }: InCollection,
    format: Format,
) -> Result<Response, Problem> {
    let locks = service.attempts.locks(Some(&collection)).await;
    let locks = locks.map_err(ServiceError::from)?;
    let answer = |lock: Lock| api::LockAnswer {
        user: lock.user.to_string(),
        failed_verifications: lock.failures,
        last_failure_at_unix_seconds: lock.last_at_unix_seconds,
        for_all_keys: lock.for_all_keys,
        for_keys: lock.for_keys,
    };
    Ok(format.answer(&api::LocksAnswer { locks: locks.into_iter().map(answer).collect() }))
}

/// Release a user
///
/// Forgets the user's failed verifications, so that the user is neither locked nor delayed. Release a
/// user after they have proven who they are in another way.
#[utoipa::path(delete, path = "/v1/users/{user}/lock", operation_id = "release_user", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 204, description = "The user has no failed verifications")))]
pub(super) async fn release(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let write = service.attempts.release(reservation, user).await?;
        Ok(write.commit_with(no_content()).await?)
    })
    .await
}

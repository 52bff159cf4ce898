//! Collections of users.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bipedalnet_client::api::{self, CollectionDocument};
use bipedalnet_core::identity::CollectionId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Document, Format, invalid_field};
use super::idempotency::{IdempotencyKey, no_content};
use super::page;
use super::path::{CollectionPath, Parameters};
use super::problem::Problem;
use crate::access::Principal;
use crate::service::{Collection, CollectionLimits, Service, StoredResponse};

/// Most collections on a page, and the default.
const PAGE: u32 = 100;

/// The highest limit.
const MOST: u64 = 1_000_000_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParameters {
    /// `next` of the previous page.
    after: Option<String>,
    /// Most collections on the page. Defaults to 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// List collections
///
/// In the order of their ids: all, or those that the API key is bound to. For the next page, send `next`
/// as `after`.
#[utoipa::path(get, path = "/v1/collections",
    operation_id = "list_collections", tag = "collections", params(PageParameters),
    responses((status = 200, description = "A page of collections", body = api::CollectionsAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    format: Format,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Response, Problem> {
    let after: Option<CollectionId> = page
        .after
        .map(|id| id.parse())
        .transpose()
        .map_err(|error| Problem::from(error).at("after"))?;
    let limit = page::limit(page.limit, PAGE)?;
    // One more shows whether there is a next page.
    let binding = principal.binding.as_ref();
    let mut found = service.collections.list(binding, after.as_ref(), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| last.id.to_string());
    let collections = found.into_iter().map(answer).collect();
    Ok(format.answer(&api::CollectionsAnswer { collections, next }))
}

/// Get a collection
#[utoipa::path(get, path = "/v1/collections/{collection}",
    operation_id = "get_collection", tag = "collections",
    params(("collection" = String, Path, description = "Id of the collection")),
    responses((status = 200, description = "The collection", body = api::CollectionAnswer)))]
pub(super) async fn read(
    State(service): State<Arc<Service>>,
    CollectionPath(collection): CollectionPath,
    format: Format,
) -> Result<Response, Problem> {
    Ok(format.answer(&answer(service.collections.get(&collection).await?)))
}

/// Create a collection
///
/// Creates it, or sets the limits of one that exists. A limit that is left out is that of the server. A
/// lower limit than what is there deletes nothing.
#[utoipa::path(put, path = "/v1/collections/{collection}",
    operation_id = "put_collection", tag = "collections",
    params(("collection" = String, Path, description = "Id of the collection")),
    request_body = Option<CollectionDocument>,
    responses(
        (status = 201, description = "The collection was created", body = api::CollectionAnswer),
        (status = 200, description = "The collection already existed", body = api::CollectionAnswer),
    ))]
pub(super) async fn put(
    State(service): State<Arc<Service>>,
    CollectionPath(collection): CollectionPath,
    format: Format,
    key: IdempotencyKey,
    body: Option<Document<CollectionDocument>>,
) -> Result<Response, Problem> {
    let digest = body.as_ref().map_or_else(Vec::new, |body| body.digest.to_vec());
    let limits = limits(body.map(|body| body.value).unwrap_or_default())?;
    key.once(&service, &digest, async |reservation| {
        let (is_new, collection, write) =
            service.collections.put(reservation, collection, limits).await?;
        let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        let location = is_new.then(|| format!("/v1/collections/{}", collection.id));
        let response = format.stored(code, &answer(collection));
        Ok(write.commit_with(StoredResponse { location, ..response }).await?)
    })
    .await
}

fn limits(document: CollectionDocument) -> Result<CollectionLimits, Problem> {
    let CollectionDocument { max_users, max_enrollments_per_user } = document;
    let checked = |name: &'static str, limit: Option<u64>| match limit {
        Some(limit) if !(1..=MOST).contains(&limit) => {
            Err(invalid_field(name, format!("it is {limit}; expected 1 to {MOST}")))
        }
        limit => Ok(limit),
    };
    Ok(CollectionLimits {
        max_users: checked("max_users", max_users)?,
        max_enrollments_per_user: checked("max_enrollments_per_user", max_enrollments_per_user)?,
    })
}

/// Delete a collection
///
/// It must have no users. The collection `default` is always there.
#[utoipa::path(delete, path = "/v1/collections/{collection}",
    operation_id = "delete_collection", tag = "collections",
    params(("collection" = String, Path, description = "Id of the collection")),
    responses((status = 204, description = "The collection is deleted")))]
pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    CollectionPath(collection): CollectionPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let write = service.collections.delete(reservation, collection).await?;
        Ok(write.commit_with(no_content()).await?)
    })
    .await
}

fn answer(collection: Collection) -> api::CollectionAnswer {
    let Collection { id, limits, users, created_at_unix_seconds } = collection;
    api::CollectionAnswer {
        collection: id.to_string(),
        users,
        max_users: limits.max_users,
        max_enrollments_per_user: limits.max_enrollments_per_user,
        created_at_unix_seconds,
    }
}

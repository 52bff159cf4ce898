//! The audit trail.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bipedalnet_client::api;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::Format;
use super::page;
use super::path::Parameters;
use super::problem::Problem;
use crate::service::Service;

/// Most entries on a page, and the default.
const PAGE: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParameters {
    /// `next` of the previous page, or the number of the last entry that you have.
    after: Option<i64>,
    /// Most entries on the page. Defaults to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List entries of the audit trail
///
/// The entries are in the order in which they were added. For the next page, send `next` as `after`.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit_entries", tag = "audit",
    params(AuditParameters),
    responses((status = 200, description = "A page of entries", body = api::AuditAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    format: Format,
    Parameters(AuditParameters { after, limit }): Parameters<AuditParameters>,
) -> Result<Response, Problem> {
    let limit = page::limit(limit, PAGE)?;
    // One more shows whether there is a next page.
    let mut entries = service.audit_entries(after.unwrap_or(0), limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(|last| last.number);
    let entries = entries.into_iter().map(api::AuditEntry::from).collect();
    Ok(format.answer(&api::AuditAnswer { entries, next }))
}

//! Metrics and probes, and what the server is doing.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};

use super::debug;
use super::problem::{Problem, ProblemType};
use crate::access::BearerSecret;
use crate::service::Service;

/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics and probes for the operator's port.
///
/// Metrics include scores, so they are not on the public port. Neither is `/debug`. The probes are here as well, because
/// this port is served to the end. The probes need no key.
pub fn operator_router(service: Arc<Service>, metrics_key: Option<BearerSecret>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/debug", get(debug::debug))
        .route_layer(from_fn_with_state(metrics_key, require_key))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(service)
}

async fn require_key(
    State(key): State<Option<BearerSecret>>,
    request: Request,
    next: Next,
) -> Response {
    let sent = request.headers().typed_get::<Authorization<Bearer>>();
    if key.is_none_or(|key| sent.is_some_and(|sent| key.accepts(sent.token()))) {
        return next.run(request).await;
    }
    Problem::new(
        ProblemType::BadApiKey,
        "send `Authorization: Bearer` with the text in the server's metrics-key-file",
    )
    .at("authorization")
    .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    .into_response()
}

/// Reads the metrics that nothing keeps up to date.
pub(super) async fn observe(service: &Service) {
    if let Err(error) = service.observe().await {
        tracing::error!(%error, "cannot read metrics from the database");
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    observe(&service).await;
    ([(header::CONTENT_TYPE, METRICS)], service.metrics.encode()).into_response()
}

/// Check that the server runs
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "operation", responses(
    (status = 200, description = "The server runs",
        body = String, content_type = "text/plain", example = json!("live\n"))
))]
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Check that the server accepts requests
///
/// The status is 503 while the server stops, and if a file of its database was deleted or replaced. Open
/// requests are still answered. If nothing can be stored for a while, it stays 200, because the server
/// still identifies people, and a line begins with `read-only:` and says why. If it cannot read what other
/// servers of the same database change, a line begins with `behind:` and says since when.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "operation", responses(
    (status = 200, description = "The server accepts requests",
        body = String, content_type = "text/plain", example = json!("ready\n"))
))]
pub(super) async fn ready(State(service): State<Arc<Service>>) -> Result<String, Problem> {
    if !service.has_its_files() {
        return Err(Problem::database_gone());
    }
    if service.is_ready() {
        let mut text = "ready\n".to_owned();
        if let Some(reason) = service.read_only() {
            text += &format!("read-only: {reason}\n");
        }
        if let Some(age) = service.behind() {
            text += &format!("behind: the gallery is {} s old\n", age.as_secs());
        }
        return Ok(text);
    }
    Err(Problem::new(
        ProblemType::NotReady,
        "it still answers open requests; send new ones elsewhere",
    ))
}

//! For operators, and for the programs that watch a server.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::{Problem, ProblemType};
use crate::service::Service;

/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is for the operator alone: metrics, of which scores are a part, so that they are no more for
/// everybody than answers are. With the probes, since this is served to the end.
pub fn operator_router(service: Service) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(service)
}

async fn metrics(State(service): State<Service>) -> Response {
    if let Err(error) = service.observe().await {
        tracing::error!(%error, "metrics of the database were not read");
    }
    ([(header::CONTENT_TYPE, METRICS)], service.metrics().encode()).into_response()
}

/// Whether the server runs
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "operation", responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain")
))]
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Whether requests should be sent here
///
/// Not while the server stops: what is open then is still answered.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "operation", responses(
    (status = 200, description = "They should", body = String, content_type = "text/plain")
))]
pub(super) async fn ready(State(service): State<Service>) -> Result<&'static str, Problem> {
    if service.is_ready() {
        return Ok("ready\n");
    }
    Err(Problem::new(
        ProblemType::NotReady,
        "it answers what is open; send other requests elsewhere",
    ))
}

//! Web pages of other origins that may call the API (CORS).

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::problem::{Problem, ProblemType};
use crate::config::CorsOrigins;

/// How long a browser need not ask again.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);

/// What scripts may read of a response, beside what they may always read.
const EXPOSED: [HeaderName; 8] = [
    header::CONTENT_RANGE,
    header::ETAG,
    HeaderName::from_static("idempotency-replayed"),
    header::LOCATION,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    header::RETRY_AFTER,
    HeaderName::from_static("x-request-id"),
];

/// `None` if no page of another origin may call the API. Browsers send no cookies: keys are in headers.
pub(super) fn layer(origins: &CorsOrigins) -> Option<CorsLayer> {
    let origins = match origins {
        CorsOrigins::None => return None,
        CorsOrigins::Listed(origins) => AllowOrigin::list(origins.clone()),
        CorsOrigins::Any => AllowOrigin::any(),
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(PREFLIGHT_AGE);
    Some(layer)
}

/// Tells why a preflight is refused. One that is not has no content.
pub(super) async fn answer_preflights(
    origins: &CorsOrigins,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    if !is_preflight(request.method(), request.headers()) {
        return next(request).await;
    }
    if !request.headers().get(header::ORIGIN).is_some_and(|origin| origins.allow(origin)) {
        return Problem::new(
            ProblemType::OriginNotAllowed,
            "pages of this origin may not call the server; the operator can add it to --cors-origins",
        )
        .at("origin")
        .into_response();
    }
    let mut response = next(request).await;
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

//! What every request passes before a handler, and every response after it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use super::compression::compress;
use super::cors::answer_preflights;
use super::deadline::deadline;
use super::etag::etag;
use super::guard::limit_by_address;
use super::observe::{RequestIds, observe};
use super::problem::{PROBLEM_JSON, Problem};
use super::replica::after_change;
use super::request_body::read_the_rest;
use super::{App, Browsers, cors, host};
use crate::config::CorsOrigins;

/// What the middleware needs.
struct Middleware {
    app: App,
    ids: RequestIds,
    cors_origins: CorsOrigins,
    is_local: bool,
}

/// Routes with the middleware of each request, outermost first.
///
/// tower boxes each layer of axum and its future for each request. So only two layers are, and each calls
/// several functions.
pub(super) fn around(routes: Router<App>, app: &App, browsers: Browsers) -> Router<App> {
    let Browsers { cors_origins, is_local, .. } = browsers;
    let cors = cors::layer(&cors_origins);
    let ids = RequestIds::new();
    let middleware = Arc::new(Middleware { app: app.clone(), ids, cors_origins, is_local });
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state(Arc::clone(&middleware), outer))
            .option_layer(cors)
            .map_response(explain_bare_errors)
            .layer(CatchPanicLayer::custom(Problem::of_panic))
            .layer(from_fn_with_state(middleware, inner)),
    )
}

async fn outer(
    State(middleware): State<Arc<Middleware>>,
    request: Request,
    next: Next,
) -> Response {
    let Middleware { app, ids, cors_origins, .. } = &*middleware;
    let cors = async |request| next.run(request).await;
    let preflights = async |request| answer_preflights(cors_origins, request, cors).await;
    observe(&app.service, ids, request, preflights).await
}

/// The innermost is named first.
async fn inner(
    State(middleware): State<Arc<Middleware>>,
    request: Request,
    next: Next,
) -> Response {
    let Middleware { app, is_local, .. } = &*middleware;
    let App { service, http, guard, .. } = app;
    let handler = async |request| next.run(request).await;
    let tags = async |request| etag(request, handler).await;
    let changes = async |request| after_change(service, request, tags).await;
    let hosts = async |request| host::check(service, *is_local, request, changes).await;
    let quotas = async |request| limit_by_address(guard, request, hosts).await;
    // tower's time-out has no deadline for each request, and its limit cannot change.
    let deadlines = async |request| deadline(http, request, quotas).await;
    let bodies = async |request| read_the_rest(http, request, deadlines).await;
    compress(request, bodies).await
}

/// Gives a problem+json body to errors of layers that have none.
fn explain_bare_errors(response: impl IntoResponse) -> Response {
    let response = response.into_response();
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_explained = response.headers().get(header::CONTENT_TYPE) == Some(&PROBLEM_JSON);
    if !is_error || is_explained {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut explanation = Problem::of_status(parts.status).into_response();
    explanation.headers_mut().extend(parts.headers);
    explanation
}

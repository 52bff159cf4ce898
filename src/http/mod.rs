//! REST over HTTP: routes, JSON and CBOR, and errors as problem+json. Knows the service alone.

mod batch;
mod body;
mod deadline;
mod description;
mod docs;
mod encoding;
mod etag;
mod guard;
mod models;
mod observe;
mod once;
mod operation;
mod path;
mod places;
mod problem;

mod range;
mod recognition;
mod server;
mod tls;
mod training_jobs;
mod users;
mod walk;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::{HttpSettings, Live};
use crate::service::Service;
use guard::Guard;
use observe::Ids;
pub use operation::operator_router;
use problem::Problem;
pub use server::{ConnectionLimits, serve};
pub use tls::{TlsError, tls_config};

/// What handlers work with.
#[derive(Clone)]
struct App {
    service: Service,
    http: Live<HttpSettings>,
    /// A permit for each byte of a body that is in memory.
    bodies: Arc<Semaphore>,
}

/// The API over a service.
pub fn router(service: Service, http: Live<HttpSettings>) -> Router {
    let (routes, openapi) = OpenApiRouter::with_openapi(description::base())
        .routes(routes!(users::list))
        .routes(routes!(users::put, users::read, users::erase))
        .routes(routes!(users::export))
        .routes(routes!(users::enroll, users::enrollments))
        .routes(routes!(users::erase_enrollment))
        .routes(routes!(recognition::challenge))
        .routes(routes!(recognition::verify))
        .routes(routes!(recognition::identify))
        .routes(routes!(batch::batch))
        .routes(routes!(models::list))
        .routes(routes!(models::read, models::delete))
        .routes(routes!(models::file))
        .routes(routes!(models::activate))
        .routes(routes!(training_jobs::list, training_jobs::post))
        .routes(routes!(training_jobs::read, training_jobs::cancel))
        .routes(routes!(training_jobs::events))
        .routes(routes!(operation::live))
        .routes(routes!(operation::ready))
        .split_for_parts();
    let openapi = description::complete(openapi);
    let guard = Arc::new(Guard::new(service.clone(), http.clone(), &openapi));
    // Outermost last.
    routes
        .merge(docs::routes(&openapi))
        .layer(from_fn(etag::etag))
        .layer(from_fn_with_state(guard, guard::guard))
        .layer(from_fn_with_state(http.clone(), deadline::deadline))
        // Weights do not shrink, and their ETag is of the bytes as they are.
        .layer(CompressionLayer::new().compress_when(
            DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream")),
        ))
        .layer(CatchPanicLayer::custom(Problem::of_panic))
        .layer(map_response(explain_bare_errors))
        .layer(from_fn_with_state((service.clone(), Arc::new(Ids::new())), observe::observe))
        .with_state(App { service, http, bodies: Arc::new(Semaphore::new(body::BODIES_BYTES)) })
}

/// Gives a body to errors of layers and of the router, which have none of their own.
async fn explain_bare_errors(response: Response) -> Response {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let explained = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/problem+json");
    if !is_error || explained {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut explanation = Problem::of_status(parts.status).into_response();
    explanation.headers_mut().extend(parts.headers);
    explanation
}

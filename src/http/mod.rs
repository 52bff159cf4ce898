//! REST over HTTP: routes, JSON and CBOR, and errors as problem+json.

mod audit;
mod batch;
mod body;
mod collections;
mod compression;
mod cors;
mod deadline;
mod debug;
mod description;
mod docs;
mod encoding;
mod etag;
mod export;
mod guard;
mod host;
mod idempotency;
mod locks;
mod memory;
mod misread;
mod models;
mod observe;
mod operation;
mod page;
mod path;
mod phone;
mod problem;
mod range;
mod rate_limit;
mod recognition;
mod replica;
mod request_body;
mod server;
mod training_jobs;
mod user_tokens;
mod users;
mod walk;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use guard::{Guard, Requires};
use memory::Bodies;
use observe::RequestIds;
pub use operation::operator_router;
use problem::{PROBLEM_JSON, Problem};
pub use server::{ConnectionLimits, Tls, TlsFiles, serve};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Scope;
use crate::config::{CorsOrigins, HttpSettings, Live};
use crate::service::Service;

/// The state of handlers.
#[derive(Clone)]
struct App {
    service: Arc<Service>,
    http: Live<HttpSettings>,
    bodies: Bodies,
    guard: Arc<Guard>,
}

/// What browsers may do.
#[derive(Clone, Debug, Default)]
pub struct Browsers {
    /// Pages of these origins may call the API.
    pub cors_origins: CorsOrigins,
    /// Whether there is a page on which people record walks.
    pub phone_page: bool,
    /// Whether only this machine may reach the server as long as there is no API key.
    pub is_local: bool,
}

/// The API of a service.
pub fn router(service: Arc<Service>, http: Live<HttpSettings>, browsers: Browsers) -> Router {
    observe::expect_errors(&service.metrics);
    let guard = Guard::new(service.clone(), http.clone());
    let (routes, openapi) = api(&guard).split_for_parts();
    let openapi = description::complete(openapi);
    let phone = if browsers.phone_page { phone::routes() } else { Router::new() };
    let routes = routes
        .merge(docs::routes(&openapi))
        .merge(phone)
        .fallback(async || Problem::no_such_resource())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    let bodies = Bodies::new(Arc::clone(&service));
    with_middleware(routes, &service, &http, Arc::clone(&guard), browsers).with_state(App {
        service,
        http,
        bodies,
        guard,
    })
}

/// The routes of the API by what they require of a key.
fn api(guard: &Arc<Guard>) -> OpenApiRouter<App> {
    let open = OpenApiRouter::with_openapi(description::base())
        .routes(routes!(operation::live))
        .routes(routes!(operation::ready));
    let any_key = OpenApiRouter::new()
        .routes(routes!(user_tokens::create))
        .routes(routes!(models::list))
        .routes(routes!(models::read));
    let any_sender =
        OpenApiRouter::new().routes(routes!(batch::batch)).routes(routes!(models::file));
    let identify = OpenApiRouter::new().routes(routes!(recognition::identify));
    let verify = OpenApiRouter::new()
        .routes(routes!(recognition::challenge))
        .routes(routes!(recognition::verify));
    let create = OpenApiRouter::new().routes(routes!(users::put));
    let enroll = OpenApiRouter::new()
        .routes(routes!(users::read))
        .routes(routes!(users::enroll, users::enrollments));
    let template = OpenApiRouter::new().routes(routes!(users::template));
    let erase = OpenApiRouter::new().routes(routes!(users::erase));
    let collections =
        OpenApiRouter::new().routes(routes!(collections::list)).routes(routes!(collections::read));
    let train = OpenApiRouter::new()
        .routes(routes!(models::delete))
        .routes(routes!(models::activate))
        .routes(routes!(training_jobs::list, training_jobs::post))
        .routes(routes!(training_jobs::read, training_jobs::cancel))
        .routes(routes!(training_jobs::events));
    let whole = OpenApiRouter::new()
        .routes(routes!(audit::list))
        .routes(routes!(collections::put, collections::delete));
    let admin = OpenApiRouter::new()
        .routes(routes!(users::list))
        .routes(routes!(locks::list))
        .routes(routes!(locks::release))
        .routes(routes!(users::erase_enrollment))
        .routes(routes!(users::export));
    open.merge(guard.protect(Requires::Key, any_key))
        .merge(guard.protect(Requires::KeyOrToken, any_sender))
        .merge(guard.protect(Requires::Scope(Scope::Identify), identify))
        .merge(guard.protect(Requires::OwnScope(Scope::Identify), verify))
        .merge(guard.protect(Requires::Scope(Scope::Enroll), create))
        .merge(guard.protect(Requires::OwnScope(Scope::Enroll), enroll))
        .merge(guard.protect(Requires::OwnScope(Scope::Template), template))
        .merge(guard.protect(Requires::OwnScope(Scope::Erase), erase))
        .merge(guard.protect(Requires::Scope(Scope::Admin), collections))
        .merge(guard.protect(Requires::WholeService(Scope::Train), train))
        .merge(guard.protect(Requires::WholeService(Scope::Admin), whole))
        .merge(guard.protect(Requires::Scope(Scope::Admin), admin))
}

/// What every request passes, outermost first.
fn with_middleware(
    routes: Router<App>,
    service: &Arc<Service>,
    http: &Live<HttpSettings>,
    guard: Arc<Guard>,
    browsers: Browsers,
) -> Router<App> {
    let Browsers { cors_origins, is_local, .. } = browsers;
    let cors = cors::layer(&cors_origins);
    let ids = Arc::new(RequestIds::new());
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state((service.clone(), ids), observe::observe))
            .layer(from_fn_with_state(Arc::new(cors_origins), cors::answer_preflights))
            .option_layer(cors)
            .map_response(explain_bare_errors)
            .layer(CatchPanicLayer::custom(Problem::of_panic))
            .layer(from_fn(compression::compress))
            .layer(from_fn_with_state(http.clone(), request_body::read_the_rest))
            // tower's time-out has no deadline for each request, and its limit cannot change.
            .layer(from_fn_with_state(http.clone(), deadline::deadline))
            .layer(from_fn_with_state(guard, guard::limit_by_address))
            .layer(from_fn_with_state((service.clone(), is_local), host::check))
            .layer(from_fn_with_state(service.clone(), replica::after_change))
            .layer(from_fn(etag::etag)),
    )
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

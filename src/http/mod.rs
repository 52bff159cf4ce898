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
mod middleware;
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
use guard::{Guard, Requires};
use memory::Bodies;
pub use operation::operator_router;
use problem::Problem;
pub use server::{ConnectionLimits, Tls, TlsFiles, serve};
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
    let app = App { service, http, bodies, guard };
    middleware::around(routes, &app, browsers).with_state(app)
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

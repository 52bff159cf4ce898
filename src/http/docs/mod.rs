//! The HTML documentation, made from the OpenAPI description: one page, readable without its script.
//!
//! - `page`: the whole page; `operation`: a section of it; `schema`: the fields of a document
//! - `curl`, `form`: an operation as a command to paste, and as a form that `docs.js` sends
//! - `walks`: recordings that both send
//! - `html`, `layout`: how texts and JSON are written

mod curl;
mod form;
mod html;
mod layout;
mod operation;
mod page;
mod schema;
mod walks;

use std::sync::Arc;

use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use axum::{Extension, Router};
use page::Page;
use serde_json::Value;

use super::compression::FixedBody;

const STYLE: &str = include_str!("style.css");

const SCRIPT: &str = include_str!("docs.js");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Serves `/openapi.json` and `/docs`, to which `/` leads.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(openapi: &Value) -> Router<S> {
    let serve = |content_type: &'static str, body: String| {
        let body = FixedBody::new(body);
        get(move || async move {
            let headers = [
                (header::CONTENT_TYPE, content_type),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, Extension(Arc::clone(&body)), body.plain())
        })
    };
    let routes = Router::new()
        .route("/", get(async || Redirect::temporary("/docs")))
        .route("/openapi.json", serve("application/json", openapi.to_string()))
        .route("/docs", serve("text/html; charset=utf-8", Page { openapi }.html()))
        .route("/docs/docs.js", serve("text/javascript; charset=utf-8", SCRIPT.to_owned()))
        .route("/docs/style.css", serve("text/css; charset=utf-8", STYLE.to_owned()));
    walks::files().into_iter().fold(routes, |routes, (name, body)| {
        routes.route(&format!("/docs/{name}"), serve("application/json", body))
    })
}

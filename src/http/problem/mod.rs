//! Errors as clients see them: problem+json (RFC 9457).

mod from_errors;
mod problem_type;

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api;
pub(super) use problem_type::ProblemType;

use super::observe::request_id;
use crate::access::{Binding, Scope};

/// The media type of a problem.
pub(super) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    kind: ProblemType,
    status: StatusCode,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(kind: ProblemType, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            status: kind.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            title: kind.title(),
            detail: detail.into(),
            field: None,
            headers: Vec::new(),
        }
    }

    /// Names the part of the request that is at fault.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Tells the client when to try again.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, seconds.into())
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn too_large(most_bytes: usize) -> Self {
        Self::new(
            ProblemType::BodyTooLarge,
            format!("a body has at most {most_bytes} bytes; send the walk in parts"),
        )
    }

    pub fn missing_scope(needed: Scope) -> Self {
        Self::new(
            ProblemType::MissingScope,
            format!("use an API key with the scope {}", needed.name()),
        )
        .at("authorization")
    }

    pub fn beyond_token() -> Self {
        Self::new(
            ProblemType::BeyondToken,
            "a token allows only what concerns its own user; for anything else, use an API key",
        )
        .at("authorization")
    }

    pub fn beyond_binding(binding: &Binding) -> Self {
        Self::new(
            ProblemType::WrongCollection,
            format!(
                "this concerns all collections, and the API key is bound to {}; use a key that is bound to \
                 none",
                binding.listed()
            ),
        )
        .at("authorization")
    }

    /// For the metrics of a response that holds the problem.
    pub fn kind(&self) -> ProblemType {
        self.kind
    }

    /// The body, without what belongs to this one request: batches and stored responses contain it.
    pub fn document(&self) -> api::Problem {
        api::Problem {
            r#type: self.kind.uri(),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone().into_owned(),
            field: self.field.clone(),
            request_id: None,
        }
    }

    /// A defect or a broken machine. The reason is for the log, not for the client.
    fn internal(reason: &dyn Display) -> Self {
        tracing::error!(%reason, "request failed");
        Self::new(
            ProblemType::Internal,
            "nothing was changed; the operator's log has the reason under the request id",
        )
    }

    pub fn of_panic(_payload: Box<dyn Any + Send>) -> Response {
        Self::internal(&"panic").into_response()
    }

    pub fn no_such_resource() -> Self {
        Self::new(ProblemType::NoSuchResource, "/docs and /openapi.json list the paths of the API")
    }

    pub fn method_not_allowed() -> Self {
        Self::new(ProblemType::MethodNotAllowed, "the Allow header lists the path's methods")
    }

    /// For an error of a layer, which has no body of its own.
    pub fn of_status(status: StatusCode) -> Self {
        let detail = "the request was refused before it reached the service";
        Self {
            status,
            title: status.canonical_reason().unwrap_or(ProblemType::Http.title()),
            ..Self::new(ProblemType::Http, detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = api::Problem { request_id: request_id(), ..self.document() };
        let mut response = (self.status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.extend(self.headers);
        // For the metrics.
        response.extensions_mut().insert(self.kind);
        response
    }
}

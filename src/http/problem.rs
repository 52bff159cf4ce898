//! Errors as clients see them: problem+json (RFC 9457).

use std::any::Any;
use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::identity::UserIdError;
use crate::service::{PoolError, ServiceError};

/// An error response. `code` is the stable end of the `type` URI.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<String>,
    /// Whether the same request may succeed soon.
    retry: bool,
}

/// Seconds after which a client should try again.
const RETRY_AFTER_SECONDS: &str = "1";

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), field: None, retry: false }
    }

    /// The stable URI of a kind of problem.
    pub fn type_of(code: &str) -> String {
        format!("urn:bipedalnet:problem:{code}")
    }

    /// Names the part of the request that is at fault.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Tells the client to try again.
    fn retry(self) -> Self {
        Self { retry: true, ..self }
    }

    /// A defect or a broken machine: the reason is for the log, not for the client.
    fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "nothing was changed; the operator's log has the reason",
        )
    }

    pub fn of_panic(_payload: Box<dyn Any + Send>) -> Response {
        Self::internal(&"panic").into_response()
    }

    /// A body for errors that come from below the handlers without one.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::new(
                status,
                "no-such-resource",
                "There is nothing at this path",
                "the README lists the API's paths, all of which but /livez begin with /v1",
            ),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "method-not-allowed",
                "This path has no such method",
                "the Allow header names those that it has",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                status,
                "body-too-large",
                "The body is too large",
                format!(
                    "at most {} bytes are taken; send the walk in parts",
                    super::MAX_BODY_BYTES
                ),
            ),
            StatusCode::REQUEST_TIMEOUT => Self::new(
                status,
                "timeout",
                "The request took too long",
                format!(
                    "a request must be whole within {} s; nothing was changed, send it again",
                    super::REQUEST_TIMEOUT.as_secs()
                ),
            ),
            _ => Self::new(
                status,
                "http",
                status.canonical_reason().unwrap_or("The request failed"),
                "the request was refused before it reached the service",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: Self::type_of(self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

impl From<UserIdError> for Problem {
    fn from(error: UserIdError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-id",
            "This cannot be an id",
            error.to_string(),
        )
        .at("user")
    }
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overloaded => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The server is busy",
                error.to_string(),
            )
            .retry(),
            PoolError::Failed => Self::internal(&error),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let unusable = |code, field: &str, detail: String| {
            let title = "The recording cannot be used";
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail).at(field)
        };
        match error {
            ServiceError::Signal(error) => unusable(error.code(), error.field(), error.to_string()),
            ServiceError::TooLong { .. } => unusable("too-long", "acceleration", error.to_string()),
            ServiceError::Pool(error) => error.into(),
            ServiceError::NoSuchUser(user) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-user",
                "There is no such user",
                format!("there is no user {user}; make it with PUT /v1/users/{user}"),
            )
            .at("user"),
            ServiceError::NoSuchEnrollment { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-enrollment",
                "There is no such enrollment",
                format!("{error}; GET /v1/users/{{user}}/enrollments lists those that there are"),
            )
            .at("enrollment"),
            ServiceError::OtherRequest => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "This idempotency key stands for another request",
                "send the same method, path and body as before, or take a new key",
            )
            .at("idempotency-key"),
            ServiceError::InFlight => Self::new(
                StatusCode::CONFLICT,
                "request-in-flight",
                "This request is being carried out",
                "send it again in a second: its answer will be there",
            )
            .at("idempotency-key")
            .retry(),
            ServiceError::NotEnrolled(_) => Self::new(
                StatusCode::CONFLICT,
                "not-enrolled",
                "The user has no enrolled walk",
                format!("{error}; enroll one with POST /v1/users/{{user}}/enrollments"),
            )
            .at("user"),
            ServiceError::UnknownRate { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown-false-match-rate",
                "There is no threshold for this false match rate",
                error.to_string(),
            )
            .at("fmr"),
            ServiceError::Store(error) => Self::internal(&error),
        }
    }
}

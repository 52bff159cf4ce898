//! Errors as clients see them: problem+json (RFC 9457).

use std::any::Any;
use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::observe::request_id;
use crate::access::Scope;
use crate::service::{AccessError, PoolError, ServiceError};
use bipedalnet_client::api;
use bipedalnet_core::identity::UserIdError;

/// An error response. `code` is the stable end of the `type` URI.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    field: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Seconds after which a client should try again, where nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 1;

impl Problem {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// The stable URI of a kind of problem.
    pub fn type_of(code: &str) -> String {
        format!("urn:bipedalnet:problem:{code}")
    }

    /// Names the part of the request that is at fault.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Tells the client when to try again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.headers.push((header::RETRY_AFTER, seconds.into()));
        self
    }

    /// Adds a header to the answer.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn too_large(most_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            format!("at most {most_bytes} bytes are taken; send the walk in parts"),
        )
    }

    /// A key that is good, but not for this.
    pub fn forbidden(needed: Scope) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "missing-scope",
            "The API key does not allow this",
            format!("a key with the scope {} is needed", needed.name()),
        )
        .at("authorization")
    }

    /// As it is sent.
    pub fn document(&self) -> api::Problem {
        api::Problem {
            r#type: Self::type_of(self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone().into_owned(),
            field: self.field.clone(),
            request_id: None,
        }
    }

    /// A defect or a broken machine: the reason is for the log, not for the client.
    fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "nothing was changed; the operator's log has the reason under the request's id",
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
                "/docs and /openapi.json list the paths that there are",
            ),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "method-not-allowed",
                "This path has no such method",
                "the Allow header names those that it has",
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
        // Not in documents that are kept for retries, which get them byte for byte.
        let document = api::Problem { request_id: request_id(), ..self.document() };
        let mut response = (self.status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let code = match error {
            AccessError::NoKey => "no-api-key",
            AccessError::BadKey => "bad-api-key",
        };
        Self::new(
            StatusCode::UNAUTHORIZED,
            code,
            "An API key is needed",
            format!("{error}: send `Authorization: Bearer` with a key of `bipedalnet keys create`"),
        )
        .at("authorization")
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
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
            PoolError::Overloaded { retry_after_seconds } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The server is busy",
                error.to_string(),
            )
            .retry_after(retry_after_seconds),
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
            ServiceError::OtherModel { .. } => Self::new(
                StatusCode::CONFLICT,
                "other-model",
                "The features are of another model",
                error.to_string(),
            )
            .at("model"),
            ServiceError::FeatureCount { .. } | ServiceError::Feature { .. } => {
                unusable("bad-features", "features", error.to_string())
            }
            ServiceError::Pool(error) => error.into(),
            // No names: answers are kept, and may outlive the user.
            ServiceError::NoSuchUser(_) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-user",
                "There is no such user",
                "make the user first, with PUT /v1/users/{user}",
            )
            .at("user"),
            ServiceError::TooManyEnrollments { most, .. } => Self::new(
                StatusCode::CONFLICT,
                "too-many-enrollments",
                "The user may have no more walks",
                format!("there are {most} enrolled walks, as many as may be; erase some"),
            )
            .at("user"),
            ServiceError::AnswerErased => Self::new(
                StatusCode::GONE,
                "answer-erased",
                "The answer is gone",
                error.to_string(),
            )
            .at("idempotency-key"),
            ServiceError::TooManyUsers { .. } => Self::new(
                StatusCode::CONFLICT,
                "too-many-users",
                "No more users may be made",
                error.to_string(),
            )
            .at("user"),
            ServiceError::ChallengeNeeded => Self::new(
                StatusCode::PRECONDITION_REQUIRED,
                "challenge-needed",
                "A challenge is needed",
                format!("{error}; get one with POST /v1/users/{{user}}/challenges"),
            )
            .at("challenge"),
            ServiceError::BadChallenge => Self::new(
                StatusCode::CONFLICT,
                "bad-challenge",
                "The challenge is not good",
                format!("{error}; get another with POST /v1/users/{{user}}/challenges"),
            )
            .at("challenge"),
            ServiceError::TooManyChallenges => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-challenges",
                "The server is busy",
                error.to_string(),
            )
            .retry_after(60),
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
            .retry_after(RETRY_AFTER_SECONDS),
            ServiceError::NotEnrolled(_) => Self::new(
                StatusCode::CONFLICT,
                "not-enrolled",
                "The user has no enrolled walk",
                "there is nothing to compare with; enroll a walk with POST /v1/users/{user}/enrollments",
            )
            .at("user"),
            ServiceError::UnknownRate { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown-false-match-rate",
                "This false match rate is not offered",
                error.to_string(),
            )
            .at("fmr"),
            ServiceError::Store(error) if error.is_transient() => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "database-busy",
                "The database is busy",
                "another program holds it, a backup for example; nothing was changed, try again",
            )
            .retry_after(RETRY_AFTER_SECONDS),
            ServiceError::NoSuchModel(_) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-model",
                "There is no such model",
                format!("{error}; GET /v1/models lists those that there are"),
            )
            .at("model"),
            ServiceError::ModelInUse { .. } => Self::new(
                StatusCode::CONFLICT,
                "model-in-use",
                "The model is needed",
                error.to_string(),
            )
            .at("model"),
            ServiceError::UnusableModel(_) => Self::new(
                StatusCode::CONFLICT,
                "unusable-model",
                "The model cannot be used",
                error.to_string(),
            )
            .at("model"),
            ServiceError::WalksLost { .. } => Self::new(
                StatusCode::CONFLICT,
                "walks-lost",
                "Walks would no longer count",
                format!("{error}; have these users walk anew, or force it"),
            )
            .at("force"),
            ServiceError::WorseModel(_) => Self::new(
                StatusCode::CONFLICT,
                "worse-model",
                "The model does worse than the one that serves",
                format!("{error}; force it if it is meant"),
            )
            .at("force"),
            ServiceError::NobodyToTrainOn => Self::new(
                StatusCode::CONFLICT,
                "nobody-to-train-on",
                "There is nobody to train on",
                format!("{error}; enroll some with POST /v1/users/{{user}}/enrollments"),
            ),
            ServiceError::TooLittleToTrainOn { .. } => Self::new(
                StatusCode::CONFLICT,
                "too-little-data",
                "There is too little walking to train on",
                format!("{error}; have them walk, or leave them out"),
            )
            .at("skip_users_with_too_little"),
            ServiceError::NoSuchJob(_) => Self::new(
                StatusCode::NOT_FOUND,
                "unknown-training-job",
                "There is no such training job",
                format!("{error}; GET /v1/training-jobs lists those that are kept"),
            )
            .at("job"),
            ServiceError::TooManyJobs { seconds, .. } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-training-jobs",
                "Too many training jobs wait",
                format!("{error}; try again later, or cancel one"),
            )
            .retry_after(seconds),
            ServiceError::JobOver { .. } => Self::new(
                StatusCode::CONFLICT,
                "training-job-over",
                "The training job is over",
                error.to_string(),
            )
            .at("job"),
            ServiceError::Randomness(_) | ServiceError::NotCompared | ServiceError::Store(_) => Self::internal(&error),
        }
    }
}

//! REST over HTTP: routes, JSON, and errors as problem+json. Knows the service alone.

mod encoding;
mod once;
mod places;
mod problem;
mod recognition;
mod server;
mod tls;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::gait::{Recording, RecordingDocument};
use crate::identity::UserId;
use crate::service::{Service, ServiceError};
use encoding::Encoding;
use problem::Problem;
pub use server::{ConnectionLimits, serve};
pub use tls::{TlsError, tls_config};

/// Largest body: ten minutes of a six-axis walk at 50 Hz as JSON.
const MAX_BODY_BYTES: usize = 2 << 20;

/// A larger body is read on to here and thrown away: a client that is still sending when the
/// connection closes never sees the answer.
const MAX_DISCARDED_BYTES: usize = 8 * MAX_BODY_BYTES;

/// From the last header to the answer, a slowly sent body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The API over a service.
pub fn router(service: Service) -> Router {
    // Outermost last.
    Router::new()
        .route("/v1/users", get(users::list))
        .route("/v1/users/{user}", put(users::put).get(users::read).delete(users::erase))
        .route("/v1/users/{user}/export", get(users::export))
        .route("/v1/users/{user}/enrollments", post(users::enroll).get(users::enrollments))
        .route("/v1/users/{user}/enrollments/{enrollment}", delete(users::erase_enrollment))
        .route("/v1/users/{user}/verify", post(recognition::verify))
        .route("/v1/identify", post(recognition::identify))
        .route("/livez", get(|| async { "live\n" }))
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(CatchPanicLayer::custom(Problem::of_panic))
        .layer(middleware::map_response(explain_bare_errors))
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            // The route, not the path: paths hold user ids.
            let route =
                request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
            tracing::info_span!("request", method = %request.method(), route)
        }))
        .with_state(service)
}

/// The user named in the path.
struct UserPath(UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "malformed-path",
                "The path is not valid UTF-8",
                error.body_text(),
            )
            .at("user")
        })?;
        Ok(Self(path["user"].parse()?))
    }
}

/// The number of an enrollment in the path.
struct EnrollmentPath(i64);

impl<S: Send + Sync> FromRequestParts<S> for EnrollmentPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let number = path.ok().and_then(|Path(path)| path["enrollment"].parse().ok());
        Ok(Self(number.ok_or_else(|| Problem::of_status(StatusCode::NOT_FOUND))?))
    }
}

/// The query, with an error that names what is wrong.
struct Parameters<T>(T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(parameters) = query.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-query",
                "A query parameter is wrong",
                error.body_text(),
            )
            .at("query")
        })?;
        Ok(Self(parameters))
    }
}

/// The recording in the body.
struct Walk {
    recording: Recording,
    /// SHA-256 of the body as it was sent.
    digest: [u8; 32],
}

impl FromRequest<Service> for Walk {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Service) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let encoding = Encoding::of(request.headers());
        let body = read(request.into_body()).await?;
        if !is_json {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body's media type is not supported",
                "send a recording as application/json",
            )
            .at("content-type"));
        }
        let encoding = encoding?;
        let decode = move || {
            let digest = Sha256::digest(&body);
            decode(&encoding.decode(body)?).map(|recording| (recording, digest))
        };
        let (recording, digest) = service.compute(decode).await??;
        Ok(Self { recording, digest: digest.into() })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

async fn read(mut body: Body) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    let mut length = 0;
    while length <= MAX_DISCARDED_BYTES
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "incomplete-body",
                "The body broke off",
                "the connection ended before the body did; nothing was changed, send it again",
            )
        })?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else {
            kept = Vec::new();
        }
    }
    if length > MAX_BODY_BYTES {
        return Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(kept)
}

fn decode(body: &[u8]) -> Result<Recording, Problem> {
    if body.is_empty() {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "empty-body",
            "The body is empty",
            "send a recording as JSON: acceleration, and time_seconds or rate_hz",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let document: RecordingDocument = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| invalid(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| invalid(".", &error))?;
    Recording::try_from(document).map_err(|error| ServiceError::from(error).into())
}

fn invalid(path: &str, error: &serde_json::Error) -> Problem {
    let problem = if error.is_data() {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-field",
            "A field of the body is wrong",
            error.to_string(),
        )
    } else {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed-json",
            "The body is not JSON",
            match error.to_string() {
                // What a NaN looks like to the parser.
                text if text.starts_with("expected value") => {
                    format!("{text}; NaN and infinity are not JSON: leave broken samples out")
                }
                text => text,
            },
        )
    };
    if path == "." { problem } else { problem.at(path) }
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

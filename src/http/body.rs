//! Request bodies: read, decompressed and decoded from JSON or CBOR, within limits. Response bodies
//! in the format that the client prefers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRef, FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bipedalnet_core::cbor;
use headers::HeaderMapExt;
use headers_accept::Accept;
use http_body_util::BodyExt;
use mediatype::MediaType;
use mediatype::names::{self, APPLICATION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::App;
use super::encoding::Encoding;
use super::memory::{Decoded, Held};
use super::misread;
use super::observe::note_received;
use super::problem::{Problem, ProblemType};
use crate::service::{Admission, Cost, Service, StoredResponse};
use crate::telemetry::Metrics;

const JSON: &str = "application/json";
const CBOR: &str = "application/cbor";

/// The formats of responses. The first is the default.
static FORMATS: [MediaType; 2] =
    [MediaType::new(APPLICATION, names::JSON), MediaType::new(APPLICATION, names::CBOR)];

/// Tells caches that the format depends on the client.
pub(super) const VARY: (HeaderName, &str) = (header::VARY, "accept");

/// A decoded body.
pub(super) struct Document<T> {
    pub value: T,
    /// SHA-256 of the body as it was sent.
    pub digest: [u8; 32],
    _held: Held,
}

impl<T: DeserializeOwned + Decoded + Send + 'static> FromRequest<App> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let received = Received::from_request(request, app).await?;
        let cost = received.cost();
        let decode = move |_: &mut _| {
            let digest = Sha256::digest(&received.body).into();
            let (value, _held) = received.decode()?;
            Ok(Self { value, digest, _held })
        };
        app.service.pool.run(Admission::Costing(cost), decode).await?
    }
}

/// A document that may be left out. Some clients send null then.
impl<T: DeserializeOwned + Decoded + Send + 'static> OptionalFromRequest<App> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Option<Self>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        let Document { value, digest, _held } =
            <Document<Option<T>> as FromRequest<App>>::from_request(request, app).await?;
        Ok(value.map(|value| Self { value, digest, _held }))
    }
}

/// A body as it was sent.
pub(super) struct Received {
    body: Vec<u8>,
    format: Format,
    encoding: Encoding,
    most: usize,
    held: Held,
    metrics: Arc<Metrics>,
}

impl FromRequest<App> for Received {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let format = Format::of_body(request.headers())?;
        let encoding = Encoding::of(request.headers())?;
        let most = app.http.get().max_body_bytes;
        // Before the first byte is read: until then, the client may wait for `100 Continue`.
        if request.body().size_hint().lower() > most as u64 {
            return Err(Problem::too_large(most));
        }
        let begin = Instant::now();
        let mut held = app.bodies.hold();
        let body = read(request.into_body(), most, &mut held).await?;
        let metrics = Arc::clone(&app.service.metrics);
        metrics.stages.receive.ended(begin);
        note_received();
        Ok(Self { body, format, encoding, most, held, metrics })
    }
}

impl Received {
    /// What it costs to decode it, and perhaps to read its walk.
    pub fn cost(&self) -> Cost {
        Cost::of_bytes(self.body.len())
    }

    /// Decodes the body. This takes compute, so it belongs on the pool. Keep the second value as long
    /// as the document is in memory.
    pub fn decode<T: DeserializeOwned + Decoded>(mut self) -> Result<(T, Held), Problem> {
        let begin = Instant::now();
        let sent_bytes = self.body.len();
        let body = self.encoding.decode(self.body, self.most)?;
        self.held.grow(body.len().saturating_sub(sent_bytes))?;
        let value: T = self.format.decode(&body)?;
        self.held.grow(value.list_bytes())?;
        self.metrics.stages.decode.ended(begin);
        Ok((value, self.held))
    }
}

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Cbor,
}

/// The format that the client prefers for responses.
impl<S: Send + Sync> FromRequestParts<S> for Format {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(Self::accepted(&parts.headers))
    }
}

impl Format {
    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.typed_get::<Accept>();
        let chosen = accept.as_ref().and_then(|accept| accept.negotiate(&FORMATS));
        if chosen == Some(&FORMATS[1]) { Self::Cbor } else { Self::Json }
    }

    fn of_body(headers: &HeaderMap) -> Result<Self, Problem> {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match media_type.map(essence) {
            Some(name) if name.eq_ignore_ascii_case(JSON) => Ok(Self::Json),
            Some(name) if name.eq_ignore_ascii_case(CBOR) => Ok(Self::Cbor),
            _ => Err(Problem::new(
                ProblemType::UnsupportedMediaType,
                "set Content-Type to application/json or application/cbor",
            )
            .at("content-type")),
        }
    }

    fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Problem> {
        if body.is_empty() {
            return Err(Problem::new(
                ProblemType::EmptyBody,
                "send a JSON or CBOR document; /docs describes its fields",
            ));
        }
        let body = if self == Self::Json { misread::without_mark(body) } else { body };
        let value = match self {
            Self::Json => serde_json::from_slice(body).ok(),
            Self::Cbor => cbor::from_slice(body).ok(),
        };
        match value {
            Some(value) => Ok(value),
            None => match misread::recognised(self.malformed(), body) {
                Some(problem) => Err(problem),
                None => self.decode_with_path(body),
            },
        }
    }

    /// Like [`Format::decode`], but errors name the field. This is slower, because it tracks the
    /// position of each value.
    fn decode_with_path<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Problem> {
        match self {
            Self::Json => {
                let mut json = serde_json::Deserializer::from_slice(body);
                let value = serde_path_to_error::deserialize(&mut json)
                    .map_err(|error| bad_json(body, &error.path().to_string(), error.inner()))?;
                json.end().map_err(|error| bad_json(body, ".", &error))?;
                Ok(value)
            }
            Self::Cbor => {
                let mut cbor = cbor::Deserializer::from_slice(body);
                let value = serde_path_to_error::deserialize(&mut cbor)
                    .map_err(|error| bad_cbor(&error.path().to_string(), error.inner()))?;
                cbor.end().map_err(|error| bad_cbor(".", &error))?;
                Ok(value)
            }
        }
    }

    pub fn encode(self, body: &impl Serialize) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(body).map_err(|error| error.to_string()),
            Self::Cbor => minicbor_serde::to_vec(body).map_err(|error| error.to_string()),
        }
        .expect("responses are plain data with string keys")
    }

    fn malformed(self) -> ProblemType {
        match self {
            Self::Json => ProblemType::MalformedJson,
            Self::Cbor => ProblemType::MalformedCbor,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Cbor => CBOR,
        }
    }

    /// A response that is not stored.
    pub fn answer(self, body: &impl Serialize) -> Response {
        ([VARY, (header::CONTENT_TYPE, self.media_type())], self.encode(body)).into_response()
    }

    /// A response that is made while it is sent.
    pub fn streamed(self, body: Body) -> Response {
        ([VARY, (header::CONTENT_TYPE, self.media_type())], body).into_response()
    }

    /// A response that may be stored for retries.
    pub fn stored(self, status: StatusCode, body: &impl Serialize) -> StoredResponse {
        let content_type = Some(self.media_type().to_owned());
        StoredResponse {
            status: status.as_u16(),
            content_type,
            body: self.encode(body),
            location: None,
            change: None,
        }
    }
}

/// A media type without its parameters.
fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Reads a body of at most `most` bytes.
async fn read(mut body: Body, most: usize, held: &mut Held) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Problem::new(
                ProblemType::IncompleteBody,
                "the connection ended before the body did; nothing was changed; send it again",
            )
        })?;
        let data = frame.into_data().unwrap_or_default();
        if kept.len() + data.len() > most {
            return Err(Problem::too_large(most));
        }
        held.grow(data.len())?;
        kept.extend_from_slice(&data);
    }
    Ok(kept)
}

fn bad_json(body: &[u8], path: &str, error: &serde_json::Error) -> Problem {
    if error.is_data() {
        return invalid_field(path, error.to_string());
    }
    // If a list is too long, the parser reports the rest of it as trailing characters.
    if error.to_string().starts_with("trailing characters")
        && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
    {
        return invalid_field(
            path,
            format!("too many values at line {} column {}", error.line(), error.column()),
        );
    }
    let detail = match error.to_string() {
        // The parser reports NaN like this.
        text if text.starts_with("expected value") => {
            format!("{text}; NaN and infinity are not JSON: leave out broken samples")
        }
        text => text,
    };
    named(path, Problem::new(ProblemType::MalformedJson, detail))
}

fn bad_cbor(path: &str, error: &cbor::CborError) -> Problem {
    if let cbor::CborError::Data { .. } | cbor::CborError::Array { .. } = error {
        return invalid_field(path, error.to_string());
    }
    named(path, Problem::new(ProblemType::MalformedCbor, error.to_string()))
}

pub(super) fn invalid_field(path: &str, detail: String) -> Problem {
    let detail = misread::about_samples(path, detail);
    named(path, Problem::new(ProblemType::InvalidField, detail))
}

fn named(path: &str, problem: Problem) -> Problem {
    // The path of the whole document, or of an unknown field.
    if matches!(path, "." | "?") { problem } else { problem.at(path) }
}

/// Lets handlers extract the service alone.
impl FromRef<App> for Arc<Service> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_format_of_responses() {
        for (accept, expected) in [
            ("application/cbor", Format::Cbor),
            ("Application/CBOR", Format::Cbor),
            ("application/cbor, */*", Format::Cbor),
            ("application/json;q=0.5, application/cbor", Format::Cbor),
            ("application/json, application/cbor;q=0.1", Format::Json),
            ("application/json, application/cbor;q=0", Format::Json),
            ("application/cbor;q=0", Format::Json),
            ("application/*", Format::Json),
            ("*/*", Format::Json),
            ("text/html", Format::Json),
            ("", Format::Json),
            ("nonsense", Format::Json),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(Format::accepted(&headers), expected, "{accept}");
        }
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Json);
    }
}

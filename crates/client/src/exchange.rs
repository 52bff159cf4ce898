//! One request and its response: headers, time limits and retries.

use std::time::Duration;

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::Problem;
use crate::body::Body;
use crate::client::Client;
use crate::error::ClientError;

/// Limit for one try. The server is told, so that it drops work that would come too late.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit for all tries of a request and the waits between them.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_TRIES: u32 = 5;

/// Wait before the first retry. It doubles with each one.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The largest response is the export of a user with many kept recordings.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Paths that begin with these are about users of one collection.
const IN_COLLECTION: [&str; 3] = ["users", "identify", "batch"];

/// A try that failed.
pub(crate) struct FailedTry {
    pub error: ClientError,
    /// Shortest wait before another try; `None` if another try would not help.
    retry_after: Option<Duration>,
}

impl Client {
    /// Sends a request, with retries, and parses the response. An empty response is read as `null`.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Body>,
    ) -> Result<T, ClientError> {
        let (status, body) = self.fetch(method, path, query, body).await?;
        let json = if body.is_empty() { &b"null"[..] } else { &body };
        serde_json::from_slice(json)
            .map_err(|error| self.unexpected_answer(status, error.to_string()))
    }

    /// Sends a request, with retries, and returns the response's bytes.
    pub(crate) async fn fetch(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Body>,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let random = random()?;
        let mut jitter = Pcg64Mcg::new(random);
        let request = self.request(method, path, query, body, random)?;
        let end = Instant::now() + TOTAL_TIMEOUT;
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            let limit = REQUEST_TIMEOUT.min(end - Instant::now());
            let mut attempt = request.try_clone().expect("a body of bytes can be cloned");
            let milliseconds = HeaderValue::from(limit.as_millis().max(1) as u64);
            attempt.headers_mut().insert("request-deadline-ms", milliseconds);
            *attempt.timeout_mut() = Some(limit);
            let failed = match self.try_once(attempt).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tries += 1;
            let Some(retry_after) = failed.retry_after.filter(|_| tries < MAX_TRIES) else {
                return Err(failed.error);
            };
            // Jitter, so that clients with the same `Retry-After` do not come back together.
            let pause = retry_after + wait.mul_f64(jitter.random_range(0.5..=1.0));
            if Instant::now() + pause >= end {
                return Err(failed.error);
            }
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
    }

    /// A URL below the server's own path.
    pub(crate) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server_url.clone();
        let mut segments = url.path_segments_mut().expect("http and https URLs have paths");
        segments.pop_if_empty().extend(path);
        drop(segments);
        url
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Body>,
        idempotency_key: u128,
    ) -> Result<Request, ClientError> {
        // A URL normalises these away, which would address another resource.
        if let Some(id) = path.iter().find(|part| ["", ".", ".."].contains(part)) {
            return Err(ClientError::Id((*id).to_owned()));
        }
        let mut url = self.url(&[&["v1"], path].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        if let Some(collection) = &self.collection
            && path.first().is_some_and(|first| IN_COLLECTION.contains(first))
        {
            url.query_pairs_mut().append_pair("collection", collection);
        }
        let is_write = method != Method::GET;
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        if is_write {
            let key = HeaderValue::try_from(format!("{idempotency_key:032x}"));
            headers.insert("idempotency-key", key.expect("hexadecimal digits"));
        }
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cbor"));
            if body.zstd {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
            }
            *request.body_mut() = Some(body.bytes.into());
        }
        Ok(request)
    }

    pub(crate) async fn try_once(
        &self,
        request: Request,
    ) -> Result<(StatusCode, Vec<u8>), FailedTry> {
        let transport = |source| FailedTry {
            error: ClientError::Transport { url: self.server_url.to_string(), source },
            retry_after: Some(Duration::ZERO),
        };
        let mut response = self.http.execute(request).await.map_err(transport)?;
        let status = response.status();
        let asked = retry_after(&response);
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(transport)? {
            if body.len() + part.len() > MAX_ANSWER_BYTES {
                let reason = format!("the response has more than {MAX_ANSWER_BYTES} bytes");
                let error = self.unexpected_answer(status, reason);
                return Err(FailedTry { error, retry_after: None });
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return Ok((status, body));
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let is_temporary = is_temporary(status, problem.as_ref());
        let error = match problem {
            Some(problem) => ClientError::Problem(Box::new(problem)),
            None => self.unexpected_answer(status, "the error is not problem+json".to_owned()),
        };
        Err(FailedTry { error, retry_after: is_temporary.then_some(asked) })
    }

    pub(crate) fn unexpected_answer(&self, status: StatusCode, reason: String) -> ClientError {
        ClientError::Answer { url: self.server_url.to_string(), status: status.as_u16(), reason }
    }
}

fn is_temporary(status: StatusCode, problem: Option<&Problem>) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => true,
        StatusCode::CONFLICT => problem
            .is_some_and(|problem| problem.r#type == "urn:bipedalnet:problem:request-in-flight"),
        _ => false,
    }
}

fn random() -> Result<u128, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ClientError::Randomness)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// The response's `Retry-After` in seconds; zero if there is none.
fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked =
        value.and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    // A longer wait fails in any case; the bound keeps the sum of waits from overflowing.
    asked.min(TOTAL_TIMEOUT)
}

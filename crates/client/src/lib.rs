//! A client for backends: one method for each thing that the API does, typed by its documents.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use bipedalnet_client::api::Verified;
//! use bipedalnet_client::{Client, VerifyOptions};
//! use bipedalnet::gait::read_recording;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("https://gait.example.com", std::env::var("BIPEDALNET_KEY").ok())?;
//! client.put_user("ann").await?;
//! let walk = read_recording(Path::new("walk.csv"))?;
//! let enrolled = client.enroll("ann", &walk).await?;
//! println!("{} windows of walking are missing", enrolled.user.windows_missing);
//!
//! let later = read_recording(Path::new("later.csv"))?;
//! match client.identify(&later, None).await?.user {
//!     Some(user) => println!("this is {user}"),
//!     None => println!("this is nobody who is enrolled"),
//! }
//! let options = VerifyOptions { fmr: Some(0.001), ..VerifyOptions::default() };
//! let again = read_recording(Path::new("again.csv"))?;
//! let is_ann = client.verify("ann", &again, &options).await?.decision == Verified::Accept;
//! # Ok(())
//! # }
//! ```
//!
//! Every request that changes something has an `Idempotency-Key` of its own, so that all may be sent
//! again: after a lost connection or a time-out, and where the server is busy (408, 409 of a request in
//! flight, 429, 502, 503 and 504), as long after as its `Retry-After` asks, five times in a minute
//! at most.

use std::error::Error;
use std::time::Duration;

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Request, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use api::{
    ActivateDocument, ActivatedAnswer, BatchDocument, ChallengeAnswer, EnrolledAnswer,
    EnrollmentsAnswer, ExportAnswer, IdentifyAnswer, JobState, ModelsAnswer, OutcomesAnswer,
    Problem, TrainDocument, TrainingJobAnswer, TrainingJobsAnswer, UserAnswer, UsersAnswer,
    VerifyAnswer, WalkDocument,
};
use bipedalnet_core::{
    cbor,
    gait::{Precision, Recording, compact, exact},
};

pub mod api;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One try's; the server is told.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// All tries of one request, and the waits between them.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_TRIES: u32 = 5;

/// Doubled from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Largest answer that is read: the export of somebody whose recordings are kept.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Largest event that is read.
const MAX_EVENT_BYTES: usize = 64 << 10;

const ZSTD_LEVEL: i32 = 3;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not the URL of a server.
    #[error("{url:?} is not the URL of a server: {reason}; http://127.0.0.1:8080 would be one")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A character that no key has.
    #[error("the API key holds a character that cannot be sent; keys are bpn_ and letters, digits")]
    Key,
    /// A user or a model that no URL can name.
    #[error("{0:?} cannot be an id")]
    Id(String),
    /// The system has no certificates to trust, or the like.
    #[error("the HTTP client does not start: {}", root_cause(.0))]
    Start(#[source] reqwest::Error),
    /// The system gave no random bytes for an idempotency key.
    #[error("there are no random numbers: {0}")]
    Randomness(getrandom::Error),
    /// The server was not reached, or the connection broke, at every try.
    #[error("no answer from {url}: {}", root_cause(.source))]
    Transport {
        /// The server's.
        url: String,
        /// Of the last try.
        source: reqwest::Error,
    },
    /// The server refused; of a problem that passes, at every try.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Box<Problem>),
    /// What answers is no server of this API, or one of another version.
    #[error("{url} answered {status}, but not as bipedalnet does: {reason}; is this its URL?")]
    Answer {
        /// The server's.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong.
        reason: String,
    },
}

fn root_cause(error: &reqwest::Error) -> &dyn Error {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// How to verify. The default is the server's false match rate, and a walk that counts alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyOptions {
    /// The false match rate that decides: 0.1, 0.01 or 0.001.
    pub fmr: Option<f64>,
    /// Walks of one session count together: a name chosen by the caller, written as a user's id.
    pub session: Option<String>,
    /// The answer to [`Client::challenge`].
    pub challenge: Option<String>,
}

/// A body as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// CBOR, compressed or not.
    pub bytes: Vec<u8>,
    /// Whether the bytes are compressed with zstd.
    pub zstd: bool,
}

impl Body {
    /// A recording as the client sends it: as finely as recognition needs (see [`Precision`]), or
    /// bit by bit where it has gaps, which the server then names.
    pub fn of_recording(recording: &Recording) -> Self {
        Self::compressed(small(recording))
    }

    fn of_document(document: &impl Serialize) -> Self {
        let plain = minicbor_serde::to_vec(document);
        Self::compressed(plain.expect("documents are plain data with string keys"))
    }

    fn compressed(plain: Vec<u8>) -> Self {
        match zstd::bulk::compress(&plain, ZSTD_LEVEL) {
            Ok(bytes) if bytes.len() < plain.len() => Self { bytes, zstd: true },
            _ => Self { bytes: plain, zstd: false },
        }
    }
}

fn small(recording: &Recording) -> Vec<u8> {
    compact(recording, &Precision::default()).unwrap_or_else(|_| exact(recording))
}

/// A recording as an item of a batch, as fine as [`Body::of_recording`].
pub fn walk(recording: &Recording) -> WalkDocument {
    cbor::from_slice(&small(recording)).expect("a recording that was written is read")
}

/// A server of the API, and who asks. Cheap to clone; clones share connections. Needs tokio.
///
/// All requests fail as [`ClientError`] says. A change whose request failed may have been made all
/// the same, where the answer to a try was lost.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

/// One try that failed.
struct Failure {
    error: ClientError,
    /// Whether another may do better, and after how long at least.
    retry_after: Option<Duration>,
}

impl Client {
    /// Of the server at `url`, `http` or `https`, with an API key where it asks for one. Trusts the
    /// system's certificates, or those that the environment's `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// When the URL or the key cannot be used, or `https` has no certificates to trust.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, ClientError> {
        let bad = |reason: String| ClientError::Url { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad(format!("{} is neither http nor https", parsed.scheme())));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(bad("nothing may follow its path".to_owned()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value =
                HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // Where a provider of TLS is there already, it serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("bipedalnet/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirected POST would arrive as a GET.
            .redirect(redirect::Policy::none());
        if parsed.scheme() == "http" {
            // So that a machine without any certificates can use it.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(ClientError::Start)?;
        Ok(Self { http, url: parsed })
    }

    /// Makes a user, who may exist.
    pub async fn put_user(&self, user: &str) -> Result<UserAnswer, ClientError> {
        self.send(Method::PUT, &["users", user], &[], None).await
    }

    /// A user: whether enough is known of them, and what is missing.
    pub async fn user(&self, user: &str) -> Result<UserAnswer, ClientError> {
        self.send(Method::GET, &["users", user], &[], None).await
    }

    /// A page of at most 100 users, from the one that follows `after` on: the page's `next` is the
    /// `after` of the next.
    pub async fn users(&self, after: Option<&str>) -> Result<UsersAnswer, ClientError> {
        let query: Vec<_> = after.map(|after| ("after", after.to_owned())).into_iter().collect();
        self.send(Method::GET, &["users"], &query, None).await
    }

    /// Erases a user and all that is held about them.
    pub async fn erase_user(&self, user: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, &["users", user], &[], None).await
    }

    /// All that is held about a user.
    pub async fn export(&self, user: &str) -> Result<ExportAnswer, ClientError> {
        self.send(Method::GET, &["users", user, "export"], &[], None).await
    }

    /// Enrolls a walk of a user who exists.
    pub async fn enroll(
        &self,
        user: &str,
        recording: &Recording,
    ) -> Result<EnrolledAnswer, ClientError> {
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["users", user, "enrollments"], &[], Some(body)).await
    }

    /// The enrolled walks of a user.
    pub async fn enrollments(&self, user: &str) -> Result<EnrollmentsAnswer, ClientError> {
        self.send(Method::GET, &["users", user, "enrollments"], &[], None).await
    }

    /// Erases an enrolled walk, given its number.
    pub async fn erase_enrollment(&self, user: &str, enrollment: i64) -> Result<(), ClientError> {
        let path = ["users", user, "enrollments", &enrollment.to_string()];
        self.send(Method::DELETE, &path, &[], None).await
    }

    /// Tells who is walking, `among` these users or all.
    pub async fn identify(
        &self,
        recording: &Recording,
        among: Option<&[&str]>,
    ) -> Result<IdentifyAnswer, ClientError> {
        let query: Vec<_> = among.map(|users| ("among", users.join(","))).into_iter().collect();
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["identify"], &query, Some(body)).await
    }

    /// Asks for a challenge, which makes one verification of a user fresh.
    pub async fn challenge(&self, user: &str) -> Result<ChallengeAnswer, ClientError> {
        self.send(Method::POST, &["users", user, "challenges"], &[], None).await
    }

    /// Tells whether it is the user who walks.
    pub async fn verify(
        &self,
        user: &str,
        recording: &Recording,
        options: &VerifyOptions,
    ) -> Result<VerifyAnswer, ClientError> {
        let VerifyOptions { fmr, session, challenge } = options.clone();
        let fmr = fmr.map(|fmr| fmr.to_string());
        let query: Vec<_> = [("fmr", fmr), ("session", session), ("challenge", challenge)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["users", user, "verify"], &query, Some(body)).await
    }

    /// Sends up to 64 items, walks as [`walk`] writes them: each is answered like a request of its
    /// own, a failed one by the `problem` of its outcome.
    pub async fn batch(&self, batch: &BatchDocument) -> Result<OutcomesAnswer, ClientError> {
        self.send(Method::POST, &["batch"], &[], Some(Body::of_document(batch))).await
    }

    /// The models that there are, the oldest first.
    pub async fn models(&self) -> Result<ModelsAnswer, ClientError> {
        self.send(Method::GET, &["models"], &[], None).await
    }

    /// A model's file, for [`Model::from_bytes`](bipedalnet_core::bnn::Model::from_bytes), which checks it.
    pub async fn model_file(&self, model: &str) -> Result<Vec<u8>, ClientError> {
        Ok(self.fetch(Method::GET, &["models", model, "file"], &[], None).await?.1)
    }

    /// Lets a model serve; with `force` even where walks would no longer count, or it does worse.
    ///
    /// Where there is much to read first, the server may go on longer than the client waits:
    /// [`Client::models`] tells which serves, and another call waits on.
    pub async fn activate(&self, model: &str, force: bool) -> Result<ActivatedAnswer, ClientError> {
        let body = Body::of_document(&ActivateDocument { force });
        self.send(Method::POST, &["models", model, "activate"], &[], Some(body)).await
    }

    /// Asks for a new network; the answer comes at once, and the job runs on in the server.
    pub async fn train(&self, document: &TrainDocument) -> Result<TrainingJobAnswer, ClientError> {
        let body = Body::of_document(document);
        self.send(Method::POST, &["training-jobs"], &[], Some(body)).await
    }

    /// The training jobs that are kept, the newest first.
    pub async fn training_jobs(&self) -> Result<TrainingJobsAnswer, ClientError> {
        self.send(Method::GET, &["training-jobs"], &[], None).await
    }

    /// A training job.
    pub async fn training_job(&self, job: i64) -> Result<TrainingJobAnswer, ClientError> {
        self.send(Method::GET, &["training-jobs", &job.to_string()], &[], None).await
    }

    /// Calls a training job off.
    pub async fn cancel_training_job(&self, job: i64) -> Result<(), ClientError> {
        self.send(Method::DELETE, &["training-jobs", &job.to_string()], &[], None).await
    }

    /// Tells how far a training job is, a few times a second, until it is over. A lost connection is
    /// made again, for as long as the server comes back within a minute.
    pub async fn follow_training_job(
        &self,
        job: i64,
        mut tell: impl FnMut(&TrainingJobAnswer),
    ) -> Result<TrainingJobAnswer, ClientError> {
        let path = ["training-jobs", &job.to_string(), "events"];
        let mut last = None;
        loop {
            let mut request = self.request(Method::GET, &path, &[], None, 0)?;
            let headers = request.headers_mut();
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            if let Some(last) = last {
                headers.insert("last-event-id", HeaderValue::from(last));
            }
            let response = tokio::time::timeout(REQUEST_TIMEOUT, self.http.execute(request)).await;
            if let Ok(Ok(response)) = response
                && response.status() == StatusCode::OK
            {
                self.read_events(response, &mut last, &mut tell).await?;
            }
            // Over, or the stream broke off: this waits for a server that is away.
            let answer = self.training_job(job).await?;
            if !matches!(answer.state, JobState::Queued | JobState::Running) {
                tell(&answer);
                return Ok(answer);
            }
            tokio::time::sleep(FIRST_WAIT).await;
        }
    }

    /// Reads events until the stream ends or breaks off.
    async fn read_events(
        &self,
        mut response: Response,
        last: &mut Option<i64>,
        tell: &mut impl FnMut(&TrainingJobAnswer),
    ) -> Result<(), ClientError> {
        let status = response.status();
        let mut buffer = Vec::new();
        while let Ok(Ok(Some(part))) = tokio::time::timeout(REQUEST_TIMEOUT, response.chunk()).await
        {
            buffer.extend_from_slice(&part);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = buffer.drain(..end + 2).collect();
                for line in event.split(|byte| *byte == b'\n') {
                    if let Some(json) = line.strip_prefix(b"data: ") {
                        let answer = serde_json::from_slice(json);
                        tell(&answer.map_err(|error| self.odd(status, error.to_string()))?);
                    } else if let Some(id) = line.strip_prefix(b"id: ") {
                        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
                        *last = id.or(*last);
                    }
                }
            }
            if buffer.len() > MAX_EVENT_BYTES {
                let reason = format!("an event has more than {MAX_EVENT_BYTES} bytes");
                return Err(self.odd(status, reason));
            }
        }
        Ok(())
    }

    /// Whether the server runs: asked once, within five seconds.
    pub async fn live(&self) -> Result<(), ClientError> {
        let mut request = Request::new(Method::GET, self.url(&["livez"]));
        *request.timeout_mut() = Some(CONNECT_TIMEOUT);
        self.attempt(request).await.map(drop).map_err(|failure| failure.error)
    }

    /// Sends a request until it is answered, or there is no hope.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Body>,
    ) -> Result<T, ClientError> {
        let (status, body) = self.fetch(method, path, query, body).await?;
        let json = if body.is_empty() { &b"null"[..] } else { &body };
        serde_json::from_slice(json).map_err(|error| self.odd(status, error.to_string()))
    }

    /// An answer as it was sent.
    async fn fetch(
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
            let mut attempt = request.try_clone().expect("a body of bytes can be sent again");
            let milliseconds = HeaderValue::from(limit.as_millis().max(1) as u64);
            attempt.headers_mut().insert("request-deadline-ms", milliseconds);
            *attempt.timeout_mut() = Some(limit);
            let failure = match self.attempt(attempt).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            tries += 1;
            let Some(retry_after) = failure.retry_after.filter(|_| tries < MAX_TRIES) else {
                return Err(failure.error);
            };
            // Apart from other clients that were told the same.
            let pause = retry_after + wait.mul_f64(jitter.random_range(0.5..=1.0));
            if Instant::now() + pause >= end {
                return Err(failure.error);
            }
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
    }

    /// Of a path under the server's own.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        let mut segments = url.path_segments_mut().expect("http and https URLs have paths");
        segments.pop_if_empty().extend(path);
        drop(segments);
        url
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Body>,
        idempotency_key: u128,
    ) -> Result<Request, ClientError> {
        // These would be resolved away, and another path be meant.
        if let Some(id) = path.iter().find(|part| ["", ".", ".."].contains(part)) {
            return Err(ClientError::Id((*id).to_owned()));
        }
        let mut url = self.url(&[&["v1"], path].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let writes = method != Method::GET;
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        if writes {
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

    async fn attempt(&self, request: Request) -> Result<(StatusCode, Vec<u8>), Failure> {
        let broken = |source| Failure {
            error: ClientError::Transport { url: self.url.to_string(), source },
            retry_after: Some(Duration::ZERO),
        };
        let mut response = self.http.execute(request).await.map_err(broken)?;
        let status = response.status();
        let asked = retry_after(&response);
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(broken)? {
            if body.len() + part.len() > MAX_ANSWER_BYTES {
                let reason = format!("the answer has more than {MAX_ANSWER_BYTES} bytes");
                let error = self.odd(status, reason);
                return Err(Failure { error, retry_after: None });
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return Ok((status, body));
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let passes = match status {
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => true,
            StatusCode::CONFLICT => problem.as_ref().is_some_and(|problem| {
                problem.r#type == "urn:bipedalnet:problem:request-in-flight"
            }),
            _ => false,
        };
        let error = match problem {
            Some(problem) => ClientError::Problem(Box::new(problem)),
            None => self.odd(status, "the error has no problem+json".to_owned()),
        };
        Err(Failure { error, retry_after: passes.then_some(asked) })
    }

    fn odd(&self, status: StatusCode, reason: String) -> ClientError {
        ClientError::Answer { url: self.url.to_string(), status: status.as_u16(), reason }
    }
}

/// The system's random bits: no two requests of any client share them.
fn random() -> Result<u128, ClientError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ClientError::Randomness)?;
    Ok(u128::from_ne_bytes(bytes))
}

/// What the server asks for in seconds, zero where it does not; longer waits than are ever made are
/// all alike.
fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked =
        value.and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    asked.min(TOTAL_TIMEOUT)
}

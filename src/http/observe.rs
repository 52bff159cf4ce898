//! What operators see of each request: an id, a span, its duration and a line in the log.

use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;

use super::problem::ProblemType;
use crate::service::Service;
use crate::telemetry::{Metrics, OpenRequest, continue_trace};

/// Identifies a request in its response and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_ID_BYTES: usize = 64;

/// Probes and pages are not what users wait for.
const API: &str = "/v1/";

const RECOGNITIONS: [&str; 2] = ["/v1/identify", "/v1/users/{user}/verify"];

/// The objective for a recognition.
const FAST: Duration = Duration::from_millis(250);

/// How long a client waits at least that gave up because the server is slow.
const PATIENCE: Duration = Duration::from_millis(2500);

/// The status of a request whose client disconnected, as in nginx.
const HUNG_UP: &str = "499";

tokio::task_local! {
    static CURRENT: Current;
}

/// The current request.
#[derive(Clone)]
struct Current {
    id: HeaderValue,
    /// When the server had all of it. The time before is up to the client and its network.
    received: Arc<OnceLock<Instant>>,
}

/// Makes ids for requests without one.
pub(super) struct RequestIds {
    /// Random, so that ids of two runs of the server differ.
    run: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new() -> Self {
        let mut run = [0; 4];
        // Without randomness, ids are unique within one run.
        let _ = getrandom::fill(&mut run);
        Self { run: u32::from_ne_bytes(run), next: AtomicU64::new(0) }
    }

    /// The client's id if it is safe in a log, or a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_safe = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=MAX_ID_BYTES).contains(&bytes.len())
                && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
        };
        // A copy: the value is a piece of what was read, which would stay in memory with the id.
        let copied = |sent: &HeaderValue| HeaderValue::from_bytes(sent.as_bytes()).ok();
        headers.get(REQUEST_ID).filter(is_safe).and_then(copied).unwrap_or_else(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut text = Cursor::new([0; 25]);
            write!(text, "{:08x}-{number:x}", self.run).expect("at most 8 and 16 digits");
            let length = text.position() as usize;
            HeaderValue::from_bytes(&text.get_ref()[..length]).expect("digits and a hyphen")
        })
    }
}

/// The id of the current request, if there is one.
pub(super) fn request_id() -> Option<String> {
    CURRENT.try_with(|current| id_text(&current.id).to_owned()).ok()
}

/// Notes that all of the current request has arrived.
pub(super) fn note_received() {
    // In a test of a handler alone, there is no request.
    let _ = CURRENT.try_with(|current| *current.received.get_or_init(Instant::now));
}

pub(super) fn id_text(id: &HeaderValue) -> &str {
    id.to_str().expect("ids are ASCII")
}

/// An open request. It is counted when it is dropped, even if the client disconnects.
struct Measured<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    route: Option<MatchedPath>,
    status: Option<StatusCode>,
    problem: Option<ProblemType>,
    begin: Instant,
    received: Arc<OnceLock<Instant>>,
    /// Its number among the open requests.
    number: u64,
}

impl Measured<'_> {
    fn route(&self) -> &str {
        route_or_none(self.route.as_ref())
    }

    fn count_for_objectives(&self) {
        let http = &self.metrics.http;
        let problem = self.problem.filter(|problem| problem.is_server_error());
        if let Some(problem) = problem {
            http.errors.with_label_values(&[problem.code()]).inc();
        }
        let status = self.status.map(|status| status.as_u16());
        let (available, fast) =
            objectives(self.route(), status, problem, self.received.get().map(Instant::elapsed));
        available.into_iter().for_each(|is_good| http.available.count(is_good));
        fast.into_iter().for_each(|is_good| http.fast.count(is_good));
    }
}

/// Whether a request is good for the objectives that `docs/operation.md` states: availability and latency.
/// `None` if it does not count. There is no status if the client hung up, and no `waited`, the time since
/// the whole request was here, if it never was.
fn objectives(
    route: &str,
    status: Option<u16>,
    server_error: Option<ProblemType>,
    waited: Option<Duration>,
) -> (Option<bool>, Option<bool>) {
    let waited = waited.unwrap_or_default();
    match (status, server_error) {
        // The client gave up. Its network may be to blame, unless it waited for long.
        (None, _) => (None, (waited > PATIENCE).then_some(false)),
        (Some(408 | 504), _) => (None, (waited > FAST).then_some(false)),
        (Some(401 | 429), _) | (_, Some(ProblemType::Overloaded)) => (None, None),
        (Some(status), server_error) => {
            let is_recognised = status == 200 && RECOGNITIONS.contains(&route);
            let is_available = status < 500 && server_error.is_none();
            (Some(is_available), is_recognised.then_some(waited <= FAST))
        }
    }
}

/// Lets the errors begin at zero.
pub(super) fn expect_errors(metrics: &Metrics) {
    for problem in ProblemType::all().filter(|problem| problem.is_server_error()) {
        metrics.http.errors.with_label_values(&[problem.code()]);
    }
}

fn route_or_none(route: Option<&MatchedPath>) -> &str {
    route.map_or("none", MatchedPath::as_str)
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or(HUNG_UP, |status| status.as_str());
        self.metrics.open_requests.end(self.number, status);
        let http = &self.metrics.http;
        let elapsed = self.begin.elapsed();
        http.in_flight.dec();
        http.duration_seconds
            .with_label_values(&[self.method, self.route(), status])
            .observe(elapsed.as_secs_f64());
        if self.route().starts_with(API) {
            self.count_for_objectives();
        }
    }
}

/// Identifies, measures and logs a request.
pub(super) async fn observe(
    service: &Service,
    ids: &RequestIds,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let id = ids.of(request.headers());
    let metrics = &service.metrics;
    metrics.http.in_flight.inc();
    let (method, begin) = (known(request.method()), Instant::now());
    // The route, not the path: paths contain user ids, and there is no end of them.
    let route = request.extensions().get().cloned();
    let open = OpenRequest {
        id: id.clone(),
        method,
        route: route_or_none(route.as_ref()).to_owned(),
        begin,
    };
    let number = metrics.open_requests.begin(open);
    let current = Current { id: id.clone(), received: Arc::default() };
    if request.body().is_end_stream() {
        let _ = current.received.set(begin);
    }
    let received = Arc::clone(&current.received);
    let mut measured =
        Measured { metrics, method, route, status: None, problem: None, begin, received, number };
    let span = tracing::info_span!(
        "request",
        request_id = id_text(&id),
        trace_id = Empty,
        method,
        route = measured.route(),
        status = Empty,
        otel.kind = "server",
        otel.name = format_args!("{method} {}", measured.route()),
        otel.status_code = Empty,
    );
    if let Some(trace) = continue_trace(&span, request.headers()) {
        span.record("trace_id", trace);
    }
    let answer = CURRENT.scope(current, next(request));
    let mut response = answer.instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    measured.status = Some(response.status());
    measured.problem = response.extensions().get().copied();
    span.record("status", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    tracing::debug!(
        target: "bipedalnet::access",
        parent: &span,
        status = response.status().as_u16(),
        seconds = measured.begin.elapsed().as_secs_f64(),
        "answered"
    );
    response
}

/// A label for the metrics. Clients may invent methods.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_count_what_the_server_is_to_blame_for() {
        let [fast, slow, late] = [250, 251, 2501].map(Duration::from_millis);
        let walk = "/v1/users/{user}/verify";
        let timed_out = Some(ProblemType::DeadlinePassed);
        for (route, status, problem, waited, expected) in [
            (walk, Some(200), None, fast, (Some(true), Some(true))),
            (walk, Some(200), None, slow, (Some(true), Some(false))),
            (walk, Some(422), None, slow, (Some(true), None)),
            ("/v1/models", Some(200), None, slow, (Some(true), None)),
            (walk, Some(500), Some(ProblemType::Internal), fast, (Some(false), None)),
            (walk, Some(503), Some(ProblemType::DatabaseBusy), fast, (Some(false), None)),
            (walk, Some(503), Some(ProblemType::Overloaded), fast, (None, None)),
            (walk, Some(502), None, fast, (Some(false), None)),
            ("/v1/batch", Some(200), Some(ProblemType::Internal), fast, (Some(false), None)),
            (walk, Some(401), None, fast, (None, None)),
            (walk, Some(429), None, fast, (None, None)),
            (walk, Some(408), None, late, (None, Some(false))),
            (walk, Some(504), timed_out, slow, (None, Some(false))),
            // The client would not wait for longer.
            (walk, Some(504), timed_out, fast, (None, None)),
            (walk, None, None, slow, (None, None)),
            (walk, None, None, late, (None, Some(false))),
        ] {
            let got = objectives(route, status, problem, Some(waited));
            assert_eq!(got, expected, "{route} {status:?} {problem:?} {waited:?}");
        }
        // The body never came.
        for (status, problem) in [(None, None), (Some(408), None), (Some(504), timed_out)] {
            assert_eq!(objectives(walk, status, problem, None), (None, None));
        }
    }

    #[test]
    fn only_ids_that_are_safe_in_a_log_are_kept() {
        let ids = RequestIds::new();
        let of = |sent: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, sent.parse().unwrap())]);
            id_text(&ids.of(&headers)).to_owned()
        };
        let longest = "x".repeat(MAX_ID_BYTES);
        for good in ["1", "550e8400-e29b-41d4-a716-446655440000", &longest] {
            assert_eq!(of(good), good);
        }
        let long = "x".repeat(MAX_ID_BYTES + 1);
        let made: Vec<String> = ["", "a b", "a=b", "a\"b", &long].map(of).into();
        for (index, id) in made.iter().enumerate() {
            assert_eq!(*id, format!("{:08x}-{index:x}", ids.run));
        }
    }
}

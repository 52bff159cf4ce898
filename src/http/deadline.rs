//! How long a request may take: the server's limit, or the client's deadline if it is shorter.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::problem::{Problem, ProblemType};
use crate::config::{HttpSettings, Live};
use crate::service;

/// How long the client waits, in milliseconds.
const DEADLINE: &str = "request-deadline-ms";

/// Drops a request that is not answered in time, with its queued work. If the queue is too long for
/// the deadline, the service refuses the request at once.
///
/// A write that was not committed yet is rolled back, except those that run to their end in a task of
/// their own. A retry with its idempotency key gets the response, or carries the request out.
pub(super) async fn deadline(
    settings: &Live<HttpSettings>,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let allowed = Duration::from_secs(settings.get().request_timeout_seconds.into());
    let deadline = match asked_for(request.headers()) {
        Ok(deadline) => deadline,
        Err(problem) => return problem.into_response(),
    };
    let limit = deadline.map_or(allowed, |deadline| deadline.min(allowed));
    let answer = service::until(Instant::now() + limit, next(request));
    match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) if limit < allowed => Problem::new(
            ProblemType::DeadlinePassed,
            format!(
                "there was no response within the {} ms of {DEADLINE}; a write may have started: \
                 retry it with its idempotency key",
                limit.as_millis()
            ),
        )
        .at(DEADLINE)
        .into_response(),
        Err(_) => Problem::new(
            ProblemType::Timeout,
            format!(
                "a request must be received and answered within {} s; retry a write with its \
                 idempotency key",
                allowed.as_secs()
            ),
        )
        .into_response(),
    }
}

fn asked_for(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(DEADLINE) else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(milliseconds @ 1u32..) => Ok(Some(Duration::from_millis(milliseconds.into()))),
        _ => Err(Problem::new(
            ProblemType::InvalidDeadline,
            "give the time that the client waits in milliseconds, a whole number of at least 1",
        )
        .at(DEADLINE)),
    }
}

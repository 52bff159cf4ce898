//! How long a request may take: as long as the server allows, or as the client will wait.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Problem, ProblemType};
use crate::config::{HttpSettings, Live};
use crate::service;

/// Milliseconds, from now, for which the client waits.
const DEADLINE: &str = "request-deadline-ms";

/// Drops a request that is not answered in time; what is queued for it is then dropped at its turn.
/// One that cannot be answered in time is refused at once.
/// A change that is being written is finished all the same, and a retry under its idempotency key
/// gets the answer.
pub(super) async fn deadline(
    State(settings): State<Live<HttpSettings>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = Duration::from_secs(settings.get().request_timeout_seconds.into());
    let deadline = match asked_for(request.headers()) {
        Ok(deadline) => deadline,
        Err(problem) => return problem.into_response(),
    };
    let limit = deadline.map_or(allowed, |deadline| deadline.min(allowed));
    let answer = service::until(Instant::now() + limit, next.run(request));
    match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) if limit < allowed => Problem::new(
            ProblemType::DeadlinePassed,
            format!(
                "there was no answer within the {} ms of {DEADLINE}; a write may be under way: \
                 send it again under its idempotency key",
                limit.as_millis()
            ),
        )
        .at(DEADLINE)
        .into_response(),
        Err(_) => Problem::new(
            ProblemType::Timeout,
            format!(
                "a request must be whole and answered within {} s; send a write again under its \
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
            "give the milliseconds for which the client waits, a whole number from 1 on",
        )
        .at(DEADLINE)),
    }
}

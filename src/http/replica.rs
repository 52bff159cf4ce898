//! Several servers that share a database answer alike: a client that sends what an answer to a write had in
//! `Bipedalnet-Change` as `Bipedalnet-After` is answered by any server with that change in its memory.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};

use super::problem::{Problem, ProblemType};
use crate::service::Service;

/// An answer to a write has it if other servers need the change in memory to answer alike.
pub(super) const CHANGE: HeaderName = HeaderName::from_static("bipedalnet-change");

/// A request has it.
const AFTER: HeaderName = HeaderName::from_static("bipedalnet-after");

/// An answer has it, in seconds, if the server cannot read what others change.
const GALLERY_AGE: HeaderName = HeaderName::from_static("bipedalnet-gallery-age");

/// Answers once the memory has the change that a request names. Says how old the memory is if the database
/// cannot be read.
pub(super) async fn after_change(
    service: &Service,
    request: Request,
    next: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    if let Some(change) = request.headers().get(AFTER) {
        let Some(change) = change.to_str().ok().and_then(|change| change.parse().ok()) else {
            let reason = "send the value of Bipedalnet-Change of an earlier answer, or none";
            return Problem::new(ProblemType::InvalidChange, reason)
                .at("Bipedalnet-After")
                .into_response();
        };
        if !service.wait_for(change).await {
            let reason = "this server does not have the change yet; try again";
            let problem = Problem::new(ProblemType::ChangeNotHere, reason);
            return problem.retry_after(1).into_response();
        }
    }
    let is_answered_from_memory = request.method() == Method::POST;
    let mut response = next(request).await;
    if is_answered_from_memory && let Some(age) = service.behind() {
        response.headers_mut().insert(GALLERY_AGE, HeaderValue::from(age.as_secs()));
    }
    response
}

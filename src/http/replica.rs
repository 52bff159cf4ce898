//! Several servers that share a database answer alike: a client that sends what an answer to a write had in
//! `Bipedalnet-Change` as `Bipedalnet-After` is answered by any server with that change in its memory.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

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
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(change) = request.headers().get(AFTER) {
        let change = change.to_str().ok().and_then(|change| change.parse().ok());
        let change = change.ok_or_else(|| {
            let reason = "send the value of Bipedalnet-Change of an earlier answer, or none";
            Problem::new(ProblemType::InvalidChange, reason).at("Bipedalnet-After")
        })?;
        if !service.wait_for(change).await {
            let reason = "this server does not have the change yet; try again";
            return Err(Problem::new(ProblemType::ChangeNotHere, reason).retry_after(1));
        }
    }
    let is_answered_from_memory = request.method() == Method::POST;
    let mut response = next.run(request).await;
    if is_answered_from_memory && let Some(age) = service.behind() {
        response.headers_mut().insert(GALLERY_AGE, HeaderValue::from(age.as_secs()));
    }
    Ok(response)
}

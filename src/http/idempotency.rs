//! Retries of writes: the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::{Problem, ProblemType};
use super::{body, replica};
use crate::access::Principal;
use crate::service::{
    IdempotentRequest, PoolError, Reservation, Reserved, Service, StoredResponse,
};

const KEY: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;

/// Says that the response was stored by an earlier request.
const REPLAYED: &str = "idempotency-replayed";

/// A write's idempotency key, if it has one, and the request that it stands for.
pub(super) struct IdempotencyKey {
    principal: Principal,
    key: Option<String>,
    /// Covers method and path.
    digest: Sha256,
}

impl IdempotencyKey {
    /// Carries out a request once. A retry gets the stored response.
    pub async fn once<F>(
        self,
        service: &Service,
        body_digest: &[u8],
        request: impl FnOnce(Reservation) -> F,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = Result<StoredResponse, Problem>>,
    {
        let digest = self.digest.chain_update(body_digest).finalize().into();
        let principal = self.principal;
        let key = self.key.map(|idempotency_key| IdempotentRequest {
            principal: principal.id.clone(),
            idempotency_key,
            digest,
        });
        let idempotency = &service.idempotency;
        let reservation = match idempotency.reserve(principal, key.clone()).await? {
            Reserved::New(reservation) => reservation,
            Reserved::Answered(stored) => return Ok(response(stored, true)),
        };
        match request(reservation).await {
            Ok(carried_out) => Ok(response(carried_out, false)),
            // A fault of this server. The database may be gone, so it is not asked again.
            Err(problem) if problem.kind().is_server_error() => Err(problem),
            Err(problem) => match idempotency.answered_meanwhile(key.as_ref()).await? {
                Some(stored) => Ok(response(stored, true)),
                None => Err(problem),
            },
        }
    }
}

/// Runs a long change in a task of its own, which ends even if the client hangs up or its deadline
/// passes. A retry gets the stored response.
pub(super) async fn to_the_end(
    change: impl Future<Output = Result<StoredResponse, Problem>> + Send + 'static,
) -> Result<StoredResponse, Problem> {
    tokio::spawn(change).await.map_err(|_| PoolError::Failed)?
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let key = parts.headers.get(KEY).map(|value| match value.to_str() {
            Ok(key)
                if (1..=MAX_KEY_BYTES).contains(&key.len())
                    && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(key.to_owned())
            }
            _ => Err(Problem::new(
                ProblemType::InvalidIdempotencyKey,
                format!("use 1 to {MAX_KEY_BYTES} visible ASCII characters, for example a UUID"),
            )
            .at(KEY)),
        });
        let digest = Sha256::new()
            .chain_update(parts.method.as_str())
            .chain_update([0])
            .chain_update(parts.uri.path_and_query().map_or("", PathAndQuery::as_str))
            .chain_update([0]);
        let principal = parts.extensions.get::<Principal>().cloned();
        let principal = principal.unwrap_or_else(Principal::anonymous);
        Ok(Self { principal, key: key.transpose()?, digest })
    }
}

/// A response without a body.
pub(super) fn no_content() -> StoredResponse {
    StoredResponse::empty(StatusCode::NO_CONTENT.as_u16())
}

fn response(stored: StoredResponse, replayed: bool) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, stored.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    let content_type = stored.content_type.and_then(|name| HeaderValue::try_from(name).ok());
    headers.extend(content_type.map(|name| (header::CONTENT_TYPE, name)));
    let location = stored.location.and_then(|path| HeaderValue::try_from(path).ok());
    headers.extend(location.map(|path| (header::LOCATION, path)));
    let change = stored.change.and_then(|it| HeaderValue::try_from(it.to_string()).ok());
    headers.extend(change.map(|change| (replica::CHANGE, change)));
    headers.insert(body::VARY.0, HeaderValue::from_static(body::VARY.1));
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

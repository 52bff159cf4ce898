//! Who may come in, and how often.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use serde_json::Value;

use super::body::discard;
use super::problem::{Problem, ProblemType};
use super::server::Peer;
use crate::access::{Principal, Scope};
use crate::config::{HttpSettings, Live};
use crate::service::Service;

/// How much may come at once, in seconds' worth.
const BURST_SECONDS: u32 = 10;

/// After so many requests, keys and addresses that have been quiet are forgotten.
const REQUESTS_BETWEEN_SWEEPS: u32 = 4096;

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>, revision 10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What every request passes.
pub(super) struct Guard {
    service: Service,
    settings: Live<HttpSettings>,
    needs: HashMap<(Method, String), Need>,
    addresses: Adjustable<IpAddr>,
    keys: Adjustable<String>,
}

/// What a route asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    AnyKey,
    Scope(Scope),
}

impl Guard {
    /// Over the routes of an OpenAPI document, which says what scope each needs.
    pub fn new(service: Service, settings: Live<HttpSettings>, openapi: &Value) -> Self {
        Self {
            service,
            settings,
            needs: needs(openapi),
            addresses: Adjustable::new("address"),
            keys: Adjustable::new("key"),
        }
    }

    /// Who sends the request, and what is left of their quota.
    fn admit(&self, request: &Request) -> Result<(Principal, Option<Standing>), Problem> {
        let settings = self.settings.get();
        let limit = self.addresses.at(settings.address_requests_per_second);
        let by_address = match (limit, request.extensions().get::<Peer>()) {
            (Some(limit), Some(peer)) => Some(limit.take(&peer.network())?),
            _ => None,
        };
        let need = match request.extensions().get::<MatchedPath>() {
            Some(path) => {
                let method = match *request.method() {
                    // The router lets the handlers of GET answer it.
                    Method::HEAD => Method::GET,
                    ref method => method.clone(),
                };
                let route = (method, path.as_str().to_owned());
                self.needs.get(&route).copied().unwrap_or(Need::Nothing)
            }
            // Nothing is there: that is no secret.
            None => Need::Nothing,
        };
        if need == Need::Nothing {
            return Ok((Principal::anonymous(), by_address));
        }
        let principal = self.service.authenticate(bearer(request))?;
        let by_key = match self.keys.at(settings.key_requests_per_second) {
            Some(limit) if !principal.id.is_empty() => Some(limit.take(&principal.id)?),
            _ => None,
        };
        if let Need::Scope(scope) = need
            && !principal.scopes.contains(scope)
        {
            return Err(Problem::missing_scope(scope));
        }
        let tightest = by_address.into_iter().chain(by_key).min_by_key(|left| left.requests);
        Ok((principal, tightest))
    }
}

/// Lets a request in, or says why not.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.admit(&request) {
        Ok((principal, standing)) => {
            request.extensions_mut().insert(principal);
            let mut response = next.run(request).await;
            if let Some(standing) = standing {
                response.headers_mut().extend(standing.headers());
            }
            response
        }
        Err(problem) => {
            discard(request.into_body(), guard.settings.get().max_body_bytes).await;
            problem.into_response()
        }
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn needs(openapi: &Value) -> HashMap<(Method, String), Need> {
    let mut needs = HashMap::new();
    for (path, operations) in openapi["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) else {
                continue;
            };
            let need = match &operation["security"] {
                Value::Array(requirements) => match &requirements[0]["api_key"] {
                    Value::Array(scopes) if scopes.is_empty() => Need::AnyKey,
                    Value::Array(scopes) => {
                        let scope = scopes[0].as_str().and_then(|name| name.parse().ok());
                        Need::Scope(scope.unwrap_or(Scope::Admin))
                    }
                    _ => Need::Nothing,
                },
                // A route that says nothing is not open by mistake.
                _ if path.starts_with("/v1/") => Need::Scope(Scope::Admin),
                _ => Need::Nothing,
            };
            needs.insert((method, path.clone()), need);
        }
    }
    needs
}

/// A limit whose rate may change; all then begin anew.
struct Adjustable<K: Hash + Eq + Clone> {
    name: &'static str,
    current: RwLock<(u32, Option<Arc<Limit<K>>>)>,
}

impl<K: Hash + Eq + Clone> Adjustable<K> {
    fn new(name: &'static str) -> Self {
        Self { name, current: RwLock::new((0, None)) }
    }

    /// The limit at a rate; `None` where there is none.
    fn at(&self, requests_per_second: u32) -> Option<Arc<Limit<K>>> {
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if current.0 == requests_per_second {
                return current.1.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != requests_per_second {
            let limit = Limit::new(self.name, requests_per_second).map(Arc::new);
            *current = (requests_per_second, limit);
        }
        current.1.clone()
    }
}

/// So many requests a second of each key, on average (GCRA).
struct Limit<K: Hash + Eq + Clone> {
    name: &'static str,
    burst: u32,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>,
    requests_to_sweep: AtomicU32,
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    name: &'static str,
    burst: u32,
    requests: u32,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    /// `None` where there is none.
    fn new(name: &'static str, requests_per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(requests_per_second)?;
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS)?);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, DefaultClock::default())
            .with_middleware::<StateInformationMiddleware>();
        let requests_to_sweep = AtomicU32::new(REQUESTS_BETWEEN_SWEEPS);
        Some(Self { name, burst: burst.get(), limiter, requests_to_sweep })
    }

    fn take(&self, key: &K) -> Result<Standing, Problem> {
        // Wraps after a sweep by another thread at the same time: a sweep too few does no harm.
        if self.requests_to_sweep.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.requests_to_sweep.store(REQUESTS_BETWEEN_SWEEPS, Ordering::Relaxed);
            self.limiter.retain_recent();
        }
        let standing = |requests| Standing { name: self.name, burst: self.burst, requests };
        match self.limiter.check_key(key) {
            Ok(state) => Ok(standing(state.remaining_burst_capacity())),
            Err(until) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let problem = Problem::new(
                    ProblemType::TooManyRequests,
                    format!(
                        "this {} may send {} requests a second; wait, or send batches",
                        self.name,
                        self.burst / BURST_SECONDS
                    ),
                );
                let problem = problem.retry_after(ceil_seconds(wait));
                let headers = standing(0).headers();
                Err(headers
                    .into_iter()
                    .fold(problem, |problem, (name, value)| problem.with(name, value)))
            }
        }
    }
}

impl Standing {
    fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        let Self { name, burst, requests } = self;
        // Of the whole burst, counted from now.
        let reset =
            (u64::from(burst - requests) * u64::from(BURST_SECONDS)).div_ceil(u64::from(burst));
        let value = |text: String| HeaderValue::try_from(text).expect("digits and known names");
        [
            (RATE_LIMIT_POLICY, value(format!("\"{name}\";q={burst};w={BURST_SECONDS}"))),
            (RATE_LIMIT, value(format!("\"{name}\";r={requests};t={reset}"))),
        ]
    }
}

fn ceil_seconds(wait: Duration) -> u64 {
    (wait.as_secs_f64().ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_need_what_their_description_says_and_silent_ones_are_shut() {
        let needs = needs(&json!({"paths": {
            "/livez": {"get": {}},
            "/v1/batch": {"post": {"security": [{"api_key": []}]}},
            "/v1/identify": {"post": {"security": [{"api_key": ["identify"]}]}},
            "/v1/forgotten": {"get": {}, "post": {"security": [{"api_key": ["misspelt"]}]}},
        }}));
        let need = |method, path: &str| needs[&(method, path.to_owned())];
        assert_eq!(need(Method::GET, "/livez"), Need::Nothing);
        assert_eq!(need(Method::POST, "/v1/batch"), Need::AnyKey);
        assert_eq!(need(Method::POST, "/v1/identify"), Need::Scope(Scope::Identify));
        assert_eq!(need(Method::GET, "/v1/forgotten"), Need::Scope(Scope::Admin));
        assert_eq!(need(Method::POST, "/v1/forgotten"), Need::Scope(Scope::Admin));
    }

    #[test]
    fn a_quota_runs_out_for_one_and_not_for_others() {
        let limit = Limit::new("key", 1).unwrap();
        let left = |key: &str| limit.take(&key.to_owned()).map(|left| left.requests);
        for expected in (0..10).rev() {
            assert_eq!(left("ann"), Ok(expected));
        }
        assert!(left("ann").is_err());
        assert_eq!(left("bob"), Ok(9));
        assert!(Limit::<String>::new("key", 0).is_none());
    }

    #[test]
    fn a_quota_begins_anew_when_its_rate_changes_and_only_then() {
        let limit = Adjustable::new("key");
        let left = |rate| limit.at(rate).map(|it| it.take(&"ann").unwrap().requests);
        assert_eq!([left(0), left(1), left(1)], [None, Some(9), Some(8)]);
        assert_eq!([left(2), left(0), left(1)], [Some(19), None, Some(9)]);
    }
}

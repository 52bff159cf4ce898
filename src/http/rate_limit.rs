//! Rate limits (GCRA), and the headers that announce them.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::problem::{Problem, ProblemType};

/// Size of a burst, in seconds' worth of requests.
const BURST_SECONDS: u32 = 10;

/// After this many requests, keys and addresses that have been quiet are forgotten.
const REQUESTS_BETWEEN_SWEEPS: u32 = 4096;

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>, revision 10.
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A rate limit for each `K`. If its rate changes, all start with a full burst again.
pub(super) struct RateLimit<K: Hash + Eq + Clone> {
    name: &'static str,
    current: RwLock<(u32, Option<Arc<FixedRateLimit<K>>>)>,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// `name` stands in headers and problems.
    pub fn new(name: &'static str) -> Self {
        Self { name, current: RwLock::new((0, None)) }
    }

    /// Counts a request. A rate of 0 means no limit.
    pub fn take(&self, key: &K, requests_per_second: u32) -> Result<Option<Allowance>, Problem> {
        self.take_more(key, requests_per_second, NonZeroU32::MIN)
    }

    /// Counts several requests, or none of them.
    pub fn take_more(
        &self,
        key: &K,
        requests_per_second: u32,
        requests: NonZeroU32,
    ) -> Result<Option<Allowance>, Problem> {
        self.at(requests_per_second).map(|limit| limit.take(key, requests)).transpose()
    }

    fn at(&self, requests_per_second: u32) -> Option<Arc<FixedRateLimit<K>>> {
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if current.0 == requests_per_second {
                return current.1.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != requests_per_second {
            let limit = FixedRateLimit::new(self.name, requests_per_second).map(Arc::new);
            *current = (requests_per_second, limit);
        }
        current.1.clone()
    }
}

struct FixedRateLimit<K: Hash + Eq + Clone> {
    name: &'static str,
    burst: u32,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>,
    requests_to_sweep: AtomicU32,
}

impl<K: Hash + Eq + Clone> FixedRateLimit<K> {
    fn new(name: &'static str, requests_per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(requests_per_second)?;
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS)?);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, DefaultClock::default())
            .with_middleware::<StateInformationMiddleware>();
        let requests_to_sweep = AtomicU32::new(REQUESTS_BETWEEN_SWEEPS);
        Some(Self { name, burst: burst.get(), limiter, requests_to_sweep })
    }

    fn take(&self, key: &K, requests: NonZeroU32) -> Result<Allowance, Problem> {
        // If two threads sweep at once, the counter can wrap. Then one sweep is skipped: no harm.
        if self.requests_to_sweep.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.requests_to_sweep.store(REQUESTS_BETWEEN_SWEEPS, Ordering::Relaxed);
            self.limiter.retain_recent();
        }
        let allowance = |requests| Allowance { name: self.name, burst: self.burst, requests };
        match self.limiter.check_key_n(key, requests) {
            Ok(Ok(state)) => Ok(allowance(state.remaining_burst_capacity())),
            Err(_) => {
                let detail = format!(
                    "each item counts as a request, and this {} may send {} at once; send fewer \
                     items",
                    self.name, self.burst
                );
                Err(Problem::new(ProblemType::BatchSize, detail).at("items"))
            }
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.limiter.clock().now());
                let mut detail = format!(
                    "this {} may send {} requests a second; wait",
                    self.name,
                    self.burst / BURST_SECONDS
                );
                if requests > NonZeroU32::MIN {
                    detail += &format!("; each item counts as a request: {requests} more");
                }
                let problem = Problem::new(ProblemType::TooManyRequests, detail)
                    .retry_after(whole_seconds(wait));
                let headers = allowance(0).headers().into_iter();
                Err(headers.fold(problem, |problem, (name, value)| problem.with(name, value)))
            }
        }
    }
}

/// What is left of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    name: &'static str,
    burst: u32,
    pub requests: u32,
}

impl Allowance {
    pub fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        let Self { name, burst, requests } = self;
        // Seconds until the whole burst is available again.
        let reset =
            (u64::from(burst - requests) * u64::from(BURST_SECONDS)).div_ceil(u64::from(burst));
        let value = |text: String| HeaderValue::try_from(text).expect("digits and known names");
        [
            (RATE_LIMIT_POLICY, value(format!("\"{name}\";q={burst};w={BURST_SECONDS}"))),
            (RATE_LIMIT, value(format!("\"{name}\";r={requests};t={reset}"))),
        ]
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs_f64().ceil() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_for_one_key_and_not_for_others() {
        let limit = RateLimit::new("key");
        let left = |key: &str| limit.take(&key.to_owned(), 1).map(|left| left.unwrap().requests);
        for expected in (0..10).rev() {
            assert_eq!(left("ann"), Ok(expected));
        }
        assert!(left("ann").is_err());
        assert_eq!(left("bob"), Ok(9));
    }

    #[test]
    fn several_requests_count_together_or_not_at_all() {
        let limit = RateLimit::new("key");
        let take = |count| limit.take_more(&"ann", 1, NonZeroU32::new(count).unwrap());
        assert_eq!(take(7).unwrap().unwrap().requests, 3);
        assert_eq!(take(4).unwrap_err().document().status, 429);
        assert_eq!(take(11).unwrap_err().document().status, 422);
        assert_eq!(take(3).unwrap().unwrap().requests, 0);
    }

    #[test]
    fn a_limit_starts_again_if_its_rate_changes_and_only_then() {
        let limit = RateLimit::new("key");
        let left = |rate| limit.take(&"ann", rate).unwrap().map(|left| left.requests);
        assert_eq!([left(0), left(1), left(1)], [None, Some(9), Some(8)]);
        assert_eq!([left(2), left(0), left(1)], [Some(19), None, Some(9)]);
    }
}

//! Requests in progress and those that were slow of late, for `/debug`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;

/// Requests that took longer are noted.
const SLOW: Duration = Duration::from_millis(250);

/// Most slow requests that are noted, so that they take little memory.
const SLOW_NOTED: usize = 32;

/// What is known of a request. It names no user.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub id: HeaderValue,
    pub method: &'static str,
    pub route: String,
    pub begin: Instant,
}

/// A request that took long.
#[derive(Clone, Debug)]
pub struct SlowRequest {
    pub request: OpenRequest,
    pub status: String,
    pub taken: Duration,
}

#[derive(Debug, Default)]
pub struct OpenRequests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, OpenRequest>,
    next: u64,
    /// The newest last.
    slow: VecDeque<SlowRequest>,
}

impl OpenRequests {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request began. Returns its number.
    pub fn begin(&self, request: OpenRequest) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, request);
        number
    }

    /// Notes that a request ended.
    pub fn end(&self, number: u64, status: &str) {
        let mut state = self.state();
        let Some(request) = state.open.remove(&number) else { return };
        let taken = request.begin.elapsed();
        if taken >= SLOW {
            if state.slow.len() == SLOW_NOTED {
                state.slow.pop_front();
            }
            state.slow.push_back(SlowRequest { request, status: status.to_owned(), taken });
        }
    }

    /// The number of open requests, and those that have been open for longest.
    pub fn longest(&self, most: usize) -> (usize, Vec<OpenRequest>) {
        let state = self.state();
        let mut open: Vec<&OpenRequest> = state.open.values().collect();
        open.sort_by_key(|request| request.begin);
        (open.len(), open.into_iter().take(most).cloned().collect())
    }

    /// Slow requests, the newest first.
    pub fn slow(&self) -> Vec<SlowRequest> {
        self.state().slow.iter().rev().cloned().collect()
    }
}

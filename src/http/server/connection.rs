//! What happens on one connection: its requests, and how far the client has read their responses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Peer;

/// Memory of an open request beside the bodies: its task and headers.
pub(super) const REQUEST_BYTES: usize = 4 << 10;

pub(super) struct Connection {
    pub number: u64,
    pub peer: Peer,
    state: Mutex<State>,
    must_close: Notify,
}

struct State {
    /// Open requests, in the order of their arrival.
    requests: BTreeMap<u64, Progress>,
    next: u64,
    /// When the last request ended.
    idle_since: Instant,
    /// When the first byte of a request came that has not begun.
    head_since: Option<Instant>,
}

/// How far the client has read a response.
pub(super) struct Progress {
    /// Bytes of the response in memory.
    pub unread: usize,
    /// The server still works on what comes next.
    pub server_works: bool,
    /// When the client last took bytes, or got some to take.
    pub last: Instant,
}

/// What a connection holds in memory.
pub(super) struct Held {
    pub bytes: usize,
    /// How long the slowest response has made no progress.
    pub unchanged_for: Duration,
}

impl Connection {
    pub fn new(number: u64, peer: Peer) -> Self {
        let state = State {
            requests: BTreeMap::new(),
            next: 0,
            idle_since: Instant::now(),
            head_since: None,
        };
        Self { number, peer, state: Mutex::new(state), must_close: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes of an HTTP/1.1 client came. Between requests, they are of the next one's headers.
    pub fn received(&self) {
        let mut state = self.state();
        if state.requests.is_empty() {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Adds a request and returns its number.
    pub fn begin(&self) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.head_since = None;
        let progress = Progress { unread: 0, server_works: true, last: Instant::now() };
        state.requests.insert(number, progress);
        number
    }

    /// Changes a request's progress. Returns by how many bytes it holds more than before.
    pub fn update(&self, request: u64, change: impl FnOnce(&mut Progress)) -> i64 {
        let mut state = self.state();
        let Some(progress) = state.requests.get_mut(&request) else { return 0 };
        let before = progress.unread as i64;
        change(progress);
        progress.unread as i64 - before
    }

    /// Removes a request. Returns how many bytes it held.
    pub fn end(&self, request: u64) -> usize {
        let mut state = self.state();
        let ended = state.requests.remove(&request);
        if state.requests.is_empty() {
            state.idle_since = Instant::now();
        }
        ended.map_or(0, |progress| progress.unread)
    }

    pub fn is_idle(&self) -> bool {
        self.state().requests.is_empty()
    }

    /// Memory for open requests and for responses that the client has not read.
    pub fn held(&self) -> Held {
        let state = self.state();
        let requests = state.requests.values();
        let oldest = requests.clone().map(|progress| progress.last).min();
        Held {
            bytes: requests.map(|progress| REQUEST_BYTES + progress.unread).sum(),
            unchanged_for: oldest.map_or(Duration::ZERO, |oldest| oldest.elapsed()),
        }
    }

    /// Makes [`Connection::closed`] complete.
    pub fn close(&self) {
        self.must_close.notify_one();
    }

    pub async fn closed(&self) {
        self.must_close.notified().await;
    }

    /// Completes if there was no request for so long.
    pub async fn idle(&self, limit: Duration) {
        let is_idle = |state: &State| state.requests.is_empty().then_some(state.idle_since);
        self.after(limit, is_idle).await;
    }

    /// Completes if the headers of a request are not complete so long after their first byte.
    pub async fn late(&self, limit: Duration) {
        self.after(limit, |state| state.head_since).await;
    }

    /// Completes if the client has read nothing of a response for so long.
    pub async fn stalled(&self, limit: Duration) {
        let stalled = |state: &State| {
            let waits = |progress: &&Progress| progress.unread > 0 || !progress.server_works;
            state.requests.values().filter(waits).map(|progress| progress.last).min()
        };
        self.after(limit, stalled).await;
    }

    async fn after(&self, limit: Duration, since: impl Fn(&State) -> Option<Instant>) {
        loop {
            let now = Instant::now();
            let end = since(&self.state()).unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

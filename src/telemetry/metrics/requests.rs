use std::time::{Duration, Instant};

use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry,
};

use super::{STAGE_SECONDS, VALID, counters, gauge, keep, name};
use crate::telemetry::traces::add_stage;

/// From a cheap response to the default time limit of a request.
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug)]
pub struct HttpMetrics {
    pub duration_seconds: HistogramVec,
    pub in_flight: IntGauge,
    /// Responses with a 5xx status, by the code of their problem.
    pub errors: IntCounterVec,
    /// Requests that were answered, or not.
    pub available: Objective,
    /// Requests that were answered in time, or not.
    pub fast: Objective,
}

/// Counts what a service level objective is about.
#[derive(Debug)]
pub struct Objective {
    good: IntCounter,
    bad: IntCounter,
}

impl Objective {
    fn new(requests: &IntCounterVec, name: &str) -> Self {
        let result = |result| requests.with_label_values(&[name, result]);
        Self { good: result("good"), bad: result("bad") }
    }

    pub fn count(&self, is_good: bool) {
        if is_good { self.good.inc() } else { self.bad.inc() }
    }
}

impl HttpMetrics {
    pub fn new(registry: &Registry) -> Self {
        let options = HistogramOpts::new(
            name("http_request_duration_seconds"),
            "Time to the first byte of the response; status 499 means that the client hung up",
        );
        let vec = HistogramVec::new(
            options.buckets(REQUEST_SECONDS.to_vec()),
            &["method", "route", "status"],
        );
        let help = "Requests in progress";
        let errors =
            "Responses with a 5xx status, and batches with one inside, by the code of the problem";
        let objectives = "Requests that the service level objectives are about";
        let objectives = counters(registry, "slo_requests_total", objectives, &["slo", "result"]);
        Self {
            duration_seconds: keep(registry, vec.expect(VALID)),
            in_flight: gauge(registry, "http_requests_in_flight", help),
            errors: counters(registry, "http_errors_total", errors, &["problem"]),
            available: Objective::new(&objectives, "availability"),
            fast: Objective::new(&objectives, "latency"),
        }
    }
}

/// Connections of a port. Clones count together.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    pub open: IntGauge,
    /// Responses that clients have not read, and what open requests take beside their bodies.
    pub unread_bytes: IntGauge,
    /// Closed at once, because there were too many.
    pub refused: IntCounter,
    /// Gave way to one of a network or address with fewer connections.
    pub evicted: IntCounter,
    /// Closed because it held too many bytes that its client did not read.
    pub unread: IntCounter,
    /// Closed because its client read nothing for too long.
    pub stalled: IntCounter,
}

impl ConnectionMetrics {
    pub fn new(registry: &Registry) -> Self {
        let help = "Connections that the server closed to protect itself";
        let vec = counters(registry, "connections_closed_total", help, &["reason"]);
        let reason = |name| vec.with_label_values(&[name]);
        Self {
            open: gauge(registry, "connections_open", "Open connections of clients"),
            unread_bytes: gauge(
                registry,
                "http_responses_bytes",
                "Memory for open requests and unread responses, without request bodies",
            ),
            refused: reason("full"),
            evicted: reason("evicted"),
            unread: reason("unread"),
            stalled: reason("stalled"),
        }
    }

    /// For a port that the service's metrics do not cover.
    pub fn unregistered() -> Self {
        Self::new(&Registry::new())
    }
}

/// A stage of requests. It counts in a histogram, and is a span in the request's trace.
#[derive(Debug)]
pub struct Stage {
    name: &'static str,
    seconds: Histogram,
}

impl Stage {
    /// The current request was in this stage from `begin` until now.
    pub fn ended(&self, begin: Instant) {
        self.took(begin, begin.elapsed());
    }

    /// The current request was in this stage for `taken`, from `begin` on.
    pub fn took(&self, begin: Instant, taken: Duration) {
        self.seconds.observe(taken.as_secs_f64());
        add_stage(self.name, begin, taken);
    }
}

#[derive(Debug)]
pub struct StageMetrics {
    /// Reading the body from the network.
    pub receive: Stage,
    /// Waiting for a thread of the pool.
    pub queue: Stage,
    /// Decompressing and decoding the body.
    pub decode: Stage,
    /// Turning the recording into windows and fingerprints.
    pub signal: Stage,
    /// Running the network on all windows of a walk.
    pub inference: Stage,
    /// Comparing with the enrolled users.
    pub gallery: Stage,
    /// Reading and comparing the mirror image of a walk that matches nobody.
    pub mirror: Stage,
    /// Waiting for the database writer.
    pub turn: Stage,
    /// Writing to the database, including the commit.
    pub store: Stage,
}

impl StageMetrics {
    pub fn new(registry: &Registry) -> Self {
        let options = HistogramOpts::new(
            name("request_stage_duration_seconds"),
            "Time that requests spend in each stage",
        );
        let vec = HistogramVec::new(options.buckets(STAGE_SECONDS.to_vec()), &["stage"]);
        let vec = keep(registry, vec.expect(VALID));
        let stage = |name| Stage { name, seconds: vec.with_label_values(&[name]) };
        Self {
            receive: stage("receive"),
            queue: stage("queue"),
            decode: stage("decode"),
            signal: stage("signal"),
            inference: stage("inference"),
            gallery: stage("gallery"),
            mirror: stage("mirror"),
            turn: stage("turn"),
            store: stage("store"),
        }
    }
}

#[derive(Debug)]
pub struct PoolMetrics {
    pub threads: IntGauge,
    pub waiting: IntGauge,
    pub running: IntGauge,
    pub busy_seconds: Counter,
}

impl PoolMetrics {
    pub fn new(registry: &Registry) -> Self {
        let busy = Counter::with_opts(Opts::new(
            name("pool_busy_seconds_total"),
            "Time that the threads of the inference pool were busy",
        ));
        Self {
            threads: gauge(registry, "pool_threads", "Threads of the inference pool"),
            waiting: gauge(registry, "pool_jobs_waiting", "Jobs in the inference pool's queue"),
            running: gauge(registry, "pool_jobs_running", "Jobs on the inference pool's threads"),
            busy_seconds: keep(registry, busy.expect(VALID)),
        }
    }
}

#[derive(Debug)]
pub struct ShedMetrics {
    /// The queue of the inference pool was full.
    pub queue_full: IntCounter,
    /// The response would have been too late for the client.
    pub deadline: IntCounter,
    /// The client hung up while the request waited.
    pub client_gone: IntCounter,
    /// Too many writes were waiting.
    pub changes_full: IntCounter,
    /// Request bodies used too much memory.
    pub memory: IntCounter,
}

impl ShedMetrics {
    pub fn new(registry: &Registry) -> Self {
        let help = "Requests refused or dropped because time, memory or queue space ran out";
        let vec = counters(registry, "requests_shed_total", help, &["reason"]);
        let reason = |name| vec.with_label_values(&[name]);
        Self {
            queue_full: reason("queue_full"),
            deadline: reason("deadline"),
            client_gone: reason("client_gone"),
            changes_full: reason("changes_full"),
            memory: reason("memory"),
        }
    }
}

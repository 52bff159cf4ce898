//! The service's metrics. Names and units follow the conventions of Prometheus.
//!
//! To add a metric, add a field and the line that creates it to one of the files below, and a row to the table in
//! `docs/operation.md`.
//!
//! | file | metrics about |
//! |---|---|
//! | `requests.rs` | HTTP requests, their stages, the inference pool, shed load |
//! | `collections.rs` | users, templates and decisions by collection |
//! | `recognition.rs` | walks, decisions, calibration, the active model |
//! | `operation.rs` | training jobs, the database, memory |
//! | `reloads.rs` | settings and the certificate, which are read again while the server runs |
//! | `process.rs` | the build, the async runtime, the allocator |
//!
//! - Each label combination on a request's path has its own handle, so counting is one addition.
//! - Labels have few values, and clients cannot invent new ones.
//! - Sizes and ages are computed just before [`Metrics::encode`].

mod collections;
mod operation;
mod process;
mod recognition;
mod reloads;
mod requests;

pub use collections::CollectionMetrics;
pub use operation::{DatabaseMetrics, MemoryMetrics, TrainingMetrics};
pub use process::{COMMIT, ProcessMetrics};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
#[cfg(test)]
pub use recognition::REFUSALS;
pub use recognition::{
    CalibrationMetrics, DecisionMetrics, GuessMetrics, ModelMetrics, WalkMetrics,
};
use reloads::ReloadMetrics;
pub use reloads::TlsMetrics;
pub use requests::{ConnectionMetrics, HttpMetrics, PoolMetrics, ShedMetrics, StageMetrics};

use super::OpenRequests;

/// Starts at ten microseconds, because most stages take far less than a millisecond.
const STAGE_SECONDS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0,
    5.0,
];

/// All metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub http: HttpMetrics,
    pub connections: ConnectionMetrics,
    pub stages: StageMetrics,
    pub pool: PoolMetrics,
    pub shed: ShedMetrics,
    pub walks: WalkMetrics,
    pub decisions: DecisionMetrics,
    pub collections: CollectionMetrics,
    pub guesses: GuessMetrics,
    pub calibration: CalibrationMetrics,
    pub model: ModelMetrics,
    pub training: TrainingMetrics,
    pub database: DatabaseMetrics,
    pub memory: MemoryMetrics,
    reloads: ReloadMetrics,
    pub process: ProcessMetrics,
    pub open_requests: OpenRequests,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("names are registered once");
        Self {
            http: HttpMetrics::new(&registry),
            connections: ConnectionMetrics::new(&registry),
            stages: StageMetrics::new(&registry),
            pool: PoolMetrics::new(&registry),
            shed: ShedMetrics::new(&registry),
            walks: WalkMetrics::new(&registry),
            decisions: DecisionMetrics::new(&registry),
            collections: CollectionMetrics::new(&registry),
            guesses: GuessMetrics::new(&registry),
            calibration: CalibrationMetrics::new(&registry),
            model: ModelMetrics::new(&registry),
            training: TrainingMetrics::new(&registry),
            database: DatabaseMetrics::new(&registry),
            memory: MemoryMetrics::new(&registry),
            reloads: ReloadMetrics::new(&registry),
            process: ProcessMetrics::new(&registry),
            open_requests: OpenRequests::default(),
            registry,
        }
    }

    /// Notes whether the settings were read again.
    pub fn note_reloaded_settings(&self, successful: bool) {
        self.reloads.note("settings", successful);
    }

    /// Adds the metrics of a server that speaks TLS.
    pub fn tls(&self) -> TlsMetrics {
        TlsMetrics::new(&self.registry, self.reloads.clone())
    }

    /// All metrics in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("each family has a name and a metric, and writing to a string cannot fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Names, labels and buckets are constants, which the test below registers.
const VALID: &str = "names, labels and buckets are valid";

fn name(suffix: &str) -> String {
    format!("bipedalnet_{suffix}")
}

fn keep<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> M {
    registry.register(Box::new(metric.clone())).expect("names are registered once");
    metric
}

fn counter(registry: &Registry, suffix: &str, help: &str) -> IntCounter {
    keep(registry, IntCounter::new(name(suffix), help).expect(VALID))
}

fn counters(registry: &Registry, suffix: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    keep(registry, IntCounterVec::new(Opts::new(name(suffix), help), labels).expect(VALID))
}

fn gauge(registry: &Registry, suffix: &str, help: &str) -> IntGauge {
    keep(registry, IntGauge::new(name(suffix), help).expect(VALID))
}

fn gauges(registry: &Registry, suffix: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    keep(registry, IntGaugeVec::new(Opts::new(name(suffix), help), labels).expect(VALID))
}

fn histogram(registry: &Registry, suffix: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name(suffix), help).buckets(buckets.to_vec());
    keep(registry, Histogram::with_opts(options).expect(VALID))
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::identity::CollectionId;

    use super::*;

    #[test]
    fn metrics_start_at_zero_and_show_what_was_counted() {
        let metrics = Metrics::new();
        let text = metrics.encode();
        assert!(
            text.contains(
                "bipedalnet_decisions_total{decision=\"reject\",operation=\"verify\"} 0\n"
            )
        );
        metrics.decisions.reject.inc();
        metrics.walks.window_inference_seconds.observe(4.5e-6);
        metrics.model.serves("one");
        metrics.model.serves("two");
        let text = metrics.encode();
        for line in [
            "bipedalnet_decisions_total{decision=\"reject\",operation=\"verify\"} 1\n",
            "bipedalnet_window_inference_duration_seconds_bucket{le=\"0.000004\"} 0\n",
            "bipedalnet_window_inference_duration_seconds_bucket{le=\"0.000005\"} 1\n",
            "bipedalnet_model_info{model=\"two\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("\"one\""));
    }

    #[test]
    fn lines_by_collection_are_bounded_and_those_of_deleted_ones_go() {
        let metrics = Metrics::new();
        let id = |number: usize| format!("c{number}").parse::<CollectionId>().unwrap();
        let ids: Vec<CollectionId> = (0..1000).map(id).collect();
        metrics.collections.show(&ids);
        for id in &ids {
            metrics.collections.decided(id, "identify", "unknown");
        }
        let counts: Vec<_> = ids.iter().map(|id| (id.clone(), 2)).collect();
        metrics.collections.count_users(&counts);
        metrics.collections.count_templates(&counts);
        let lines = |text: &str| text.lines().filter(|it| it.contains("collection=")).count();
        let text = metrics.encode();
        assert_eq!(lines(&text), 51 * (7 + 2));
        for line in [
            "bipedalnet_collection_users{collection=\"c0\"} 2\n",
            "bipedalnet_collection_users{collection=\"(other)\"} 1900\n",
            "{collection=\"(other)\",decision=\"unknown\",operation=\"identify\"} 950\n",
            "{collection=\"c49\",decision=\"unknown\",operation=\"identify\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.collections.show(&ids[1..]);
        metrics.collections.decided(&ids[0], "identify", "unknown");
        let text = metrics.encode();
        assert!(!text.contains("collection=\"c0\",d"), "{text}");
        assert!(
            text.contains("{collection=\"c50\",decision=\"unknown\",operation=\"identify\"} 0")
        );
        metrics.collections.show(&ids[..1]);
        metrics.collections.count_users(&counts[..1]);
        metrics.collections.count_templates(&[]);
        assert_eq!(lines(&metrics.encode()), 2 * (7 + 2));
    }

    #[test]
    fn each_service_counts_for_itself() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.shed.memory.inc();
        assert_eq!((one.shed.memory.get(), other.shed.memory.get()), (1, 0));
    }
}

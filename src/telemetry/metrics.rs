//! The metrics of the service, by Prometheus' conventions for names and units.
//!
//! What is counted on the way of a request has a handle of its own, found once: counting is an
//! addition. Labels have few values, none of which a client can make up. The figures that are read
//! only when somebody looks (sizes, ages) are set before [`Metrics::encode`].

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// From a cheap answer to the longest that a request may take.
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From ten microseconds on: most stages are far below a millisecond.
const STAGE_SECONDS: &[f64] = &[
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0,
    5.0,
];

/// Microseconds: a window takes some four to nine.
const WINDOW_SECONDS: &[f64] = &[
    1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 8e-6, 1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 5e-4,
    1e-3,
];

/// Cosines; finer where thresholds lie.
const SCORES: &[f64] = &[
    -0.5, 0.0, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925,
    0.95, 0.975, 1.0,
];

/// All metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests as a whole.
    pub http: HttpMetrics,
    /// Parts of a request's time.
    pub stages: StageMetrics,
    /// The inference pool.
    pub pool: PoolMetrics,
    /// Requests that were refused or dropped for want of time or room.
    pub shed: ShedMetrics,
    /// Walks and their windows.
    pub walks: WalkMetrics,
    /// Who was recognised.
    pub decisions: DecisionMetrics,
    /// The thresholds that decide.
    pub calibration: CalibrationMetrics,
    /// The model that serves.
    pub model: ModelMetrics,
    /// The trainer.
    pub training: TrainingMetrics,
    /// The database.
    pub database: DatabaseMetrics,
    /// Where memory goes.
    pub memory: MemoryMetrics,
}

/// Requests as a whole.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Time to an answer's first byte, by `method`, `route` and `status`; 499: the client hung up.
    pub duration_seconds: HistogramVec,
    /// Requests that are being answered.
    pub in_flight: IntGauge,
}

/// Parts of a request's time.
#[derive(Debug)]
pub struct StageMetrics {
    /// Reading the body from the network.
    pub receive: Histogram,
    /// Waiting for a thread of the pool.
    pub queue: Histogram,
    /// Decompressing and decoding the body.
    pub decode: Histogram,
    /// From recording to windows and fingerprints.
    pub signal: Histogram,
    /// The network, over all windows of a walk.
    pub inference: Histogram,
    /// Comparing with the enrolled.
    pub gallery: Histogram,
    /// Waiting for the turn to write.
    pub turn: Histogram,
    /// A change of the database, as a whole.
    pub store: Histogram,
}

/// The inference pool.
#[derive(Debug)]
pub struct PoolMetrics {
    /// Its threads.
    pub threads: IntGauge,
    /// Jobs that wait.
    pub waiting: IntGauge,
    /// Jobs that run.
    pub running: IntGauge,
    /// Time that its threads have worked.
    pub busy_seconds: Counter,
}

/// Requests that were refused or dropped for want of time or room.
#[derive(Debug)]
pub struct ShedMetrics {
    /// The pool's queue was full.
    pub queue_full: IntCounter,
    /// The answer would have come, or came, too late for the client.
    pub deadline: IntCounter,
    /// The client hung up before its turn.
    pub client_gone: IntCounter,
    /// Too many changes waited.
    pub changes_full: IntCounter,
    /// Bodies took too much memory.
    pub memory: IntCounter,
}

/// Walks and their windows.
#[derive(Debug)]
pub struct WalkMetrics {
    /// Walks that were enrolled.
    pub enrollments: IntCounter,
    /// Verified walks that were added to their users'.
    pub template_updates: IntCounter,
    /// Windows that were found to be walking.
    pub windows_accepted: IntCounter,
    /// Windows that were not, by `reason`.
    pub windows_refused: IntCounterVec,
    /// Recordings that were refused as a whole, by `reason`.
    pub recordings_refused: IntCounterVec,
    /// Time of the network for one window.
    pub window_inference_seconds: Histogram,
}

/// The thresholds that decide.
#[derive(Debug)]
pub struct CalibrationMetrics {
    /// Users of the gallery that the thresholds were last fitted to.
    pub users: IntGauge,
    /// False match rate among the gallery's own users, by the rate `asked` for.
    pub gallery_fmr: GaugeVec,
}

/// Who was recognised.
#[derive(Debug)]
pub struct DecisionMetrics {
    /// Identifications that named somebody.
    pub identified: IntCounter,
    /// Identifications that named nobody.
    pub unknown: IntCounter,
    /// Identifications of too short a walk.
    pub identify_inconclusive: IntCounter,
    /// Verifications that held.
    pub accept: IntCounter,
    /// Verifications that did not.
    pub reject: IntCounter,
    /// Verifications of too short a walk.
    pub verify_inconclusive: IntCounter,
    /// Verifications of a walk that was sent before.
    pub suspected_replay: IntCounter,
    /// Scores of the nearest user in identifications.
    pub identify_score: Histogram,
    /// Scores of the user claimed in verifications.
    pub verify_score: Histogram,
}

/// The model that serves, and whom it knows.
#[derive(Debug)]
pub struct ModelMetrics {
    info: IntGaugeVec,
    /// When it was registered, in seconds since 1970.
    pub created_timestamp_seconds: IntGauge,
    /// Length of its file, about as much as its packed network takes in memory.
    pub bytes: IntGauge,
    /// Share of validation windows named right when it was trained.
    pub validation_accuracy: Gauge,
    /// Users that exist.
    pub users: IntGauge,
    /// Users with a template.
    pub gallery_users: IntGauge,
}

/// The trainer, set by whoever runs it.
#[derive(Debug)]
pub struct TrainingMetrics {
    /// Jobs, by `state`.
    pub jobs: IntGaugeVec,
    /// The epoch under way, from 1; 0 where nothing trains.
    pub epoch: IntGauge,
    /// Loss of the last epoch.
    pub loss: Gauge,
    /// Share of validation windows named right after the last epoch.
    pub validation_accuracy: Gauge,
    /// Windows trained on a second.
    pub samples_per_second: Gauge,
}

/// The database.
#[derive(Debug)]
pub struct DatabaseMetrics {
    /// Its file.
    pub bytes: IntGauge,
    /// Its write-ahead log.
    pub log_bytes: IntGauge,
    /// Time to make a change last.
    pub commit_seconds: Histogram,
}

/// Where memory goes. Resident memory is among the process's metrics.
#[derive(Debug)]
pub struct MemoryMetrics {
    /// The gallery.
    pub gallery: IntGauge,
    /// Page caches of the database's open connections, at most.
    pub sqlite_cache: IntGauge,
    /// Bodies of requests.
    pub bodies: IntGauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("names are registered once");
        let info = gauges(&registry, "build_info", "The program; always 1", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            http: HttpMetrics::new(&registry),
            stages: StageMetrics::new(&registry),
            pool: PoolMetrics::new(&registry),
            shed: ShedMetrics::new(&registry),
            walks: WalkMetrics::new(&registry),
            decisions: DecisionMetrics::new(&registry),
            calibration: CalibrationMetrics::new(&registry),
            model: ModelMetrics::new(&registry),
            training: TrainingMetrics::new(&registry),
            database: DatabaseMetrics::new(&registry),
            memory: MemoryMetrics::new(&registry),
            registry,
        }
    }

    /// As Prometheus reads it.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("each family has a name and a metric, and a text can be added to");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpMetrics {
    fn new(registry: &Registry) -> Self {
        let options = HistogramOpts::new(
            name("http_request_duration_seconds"),
            "Time to an answer's first byte; 499: the client hung up",
        );
        let vec = HistogramVec::new(
            options.buckets(REQUEST_SECONDS.to_vec()),
            &["method", "route", "status"],
        );
        let help = "Requests that are being answered";
        Self {
            duration_seconds: keep(registry, vec.expect(VALID)),
            in_flight: gauge(registry, "http_requests_in_flight", help),
        }
    }
}

impl StageMetrics {
    fn new(registry: &Registry) -> Self {
        let options = HistogramOpts::new(
            name("request_stage_duration_seconds"),
            "Time that requests spend in each stage",
        );
        let vec = HistogramVec::new(options.buckets(STAGE_SECONDS.to_vec()), &["stage"]);
        let vec = keep(registry, vec.expect(VALID));
        let stage = |name| vec.with_label_values(&[name]);
        Self {
            receive: stage("receive"),
            queue: stage("queue"),
            decode: stage("decode"),
            signal: stage("signal"),
            inference: stage("inference"),
            gallery: stage("gallery"),
            turn: stage("turn"),
            store: stage("store"),
        }
    }
}

impl PoolMetrics {
    fn new(registry: &Registry) -> Self {
        let busy = Counter::with_opts(Opts::new(
            name("pool_busy_seconds_total"),
            "Time that threads of the inference pool have worked",
        ));
        Self {
            threads: gauge(registry, "pool_threads", "Threads of the inference pool"),
            waiting: gauge(registry, "pool_jobs_waiting", "Jobs in the inference pool's queue"),
            running: gauge(registry, "pool_jobs_running", "Jobs on the inference pool's threads"),
            busy_seconds: keep(registry, busy.expect(VALID)),
        }
    }
}

impl ShedMetrics {
    fn new(registry: &Registry) -> Self {
        let help = "Requests refused or dropped for want of time or room";
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

impl WalkMetrics {
    fn new(registry: &Registry) -> Self {
        let windows = counters(
            registry,
            "windows_refused_total",
            "Windows of recordings that are not walking",
            &["reason"],
        );
        let recordings = counters(
            registry,
            "recordings_refused_total",
            "Recordings in which there is no walking, or that are broken",
            &["reason"],
        );
        Self {
            enrollments: counter(registry, "enrollments_total", "Walks that were enrolled"),
            template_updates: counter(
                registry,
                "template_updates_total",
                "Verified walks that were added to their users'",
            ),
            windows_accepted: counter(registry, "windows_accepted_total", "Windows of walking"),
            windows_refused: windows,
            recordings_refused: recordings,
            window_inference_seconds: histogram(
                registry,
                "window_inference_duration_seconds",
                "Time of the network for one window",
                WINDOW_SECONDS,
            ),
        }
    }
}

impl CalibrationMetrics {
    fn new(registry: &Registry) -> Self {
        let users = "Users of the gallery that the thresholds were last fitted to";
        let name = name("calibration_gallery_fmr");
        let help = "Share of enrolled users' comparisons with one another's templates that are accepted \
                    at a false match rate";
        let gallery_fmr = GaugeVec::new(Opts::new(name, help), &["asked"]).expect(VALID);
        Self {
            users: gauge(registry, "calibration_users", users),
            gallery_fmr: keep(registry, gallery_fmr),
        }
    }
}

impl DecisionMetrics {
    fn new(registry: &Registry) -> Self {
        let help = "Answers to who is walking, and to whether it is who they say";
        let vec = counters(registry, "decisions_total", help, &["operation", "decision"]);
        let of = |operation, decision| vec.with_label_values(&[operation, decision]);
        let options = HistogramOpts::new(
            name("decision_score"),
            "Cosine between a walk and the nearest user, or the user claimed",
        );
        let scores = HistogramVec::new(options.buckets(SCORES.to_vec()), &["operation"]);
        let scores = keep(registry, scores.expect(VALID));
        Self {
            identified: of("identify", "identified"),
            unknown: of("identify", "unknown"),
            identify_inconclusive: of("identify", "inconclusive"),
            accept: of("verify", "accept"),
            reject: of("verify", "reject"),
            verify_inconclusive: of("verify", "inconclusive"),
            suspected_replay: of("verify", "suspected_replay"),
            identify_score: scores.with_label_values(&["identify"]),
            verify_score: scores.with_label_values(&["verify"]),
        }
    }
}

impl ModelMetrics {
    fn new(registry: &Registry) -> Self {
        let accuracy = Gauge::new(
            name("model_validation_accuracy_ratio"),
            "Share of validation windows that the serving model named right when it was trained",
        );
        let of = |name, help| gauge(registry, name, help);
        Self {
            info: gauges(registry, "model_info", "The model that serves; always 1", &["model"]),
            created_timestamp_seconds: of(
                "model_created_timestamp_seconds",
                "When the serving model was registered",
            ),
            bytes: of("model_bytes", "Length of the serving model's file, about its memory"),
            validation_accuracy: keep(registry, accuracy.expect(VALID)),
            users: of("users", "Users that exist"),
            gallery_users: of("gallery_users", "Users with a template of the serving model"),
        }
    }

    /// Says which model serves, in place of the one before.
    pub fn serves(&self, id: &str) {
        self.info.reset();
        self.info.with_label_values(&[id]).set(1);
    }
}

impl TrainingMetrics {
    fn new(registry: &Registry) -> Self {
        let float = |suffix, help| keep(registry, Gauge::new(name(suffix), help).expect(VALID));
        Self {
            jobs: gauges(registry, "training_jobs", "Training jobs", &["state"]),
            epoch: gauge(registry, "training_epoch", "The epoch under way; 0: nothing trains"),
            loss: float("training_loss", "Loss of the last epoch"),
            validation_accuracy: float(
                "training_validation_accuracy_ratio",
                "Share of validation windows named right after the last epoch",
            ),
            samples_per_second: float("training_samples_per_second", "Windows trained on a second"),
        }
    }
}

impl DatabaseMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            bytes: gauge(registry, "database_bytes", "Length of the database's file"),
            log_bytes: gauge(registry, "database_wal_bytes", "Length of its write-ahead log"),
            commit_seconds: histogram(
                registry,
                "database_commit_duration_seconds",
                "Time to make a change last",
                STAGE_SECONDS,
            ),
        }
    }
}

impl MemoryMetrics {
    fn new(registry: &Registry) -> Self {
        let of = |name, help| gauge(registry, name, help);
        Self {
            gallery: of("gallery_bytes", "Memory of the gallery"),
            sqlite_cache: of(
                "sqlite_cache_limit_bytes",
                "Memory that page caches of the database's open connections may take",
            ),
            bodies: of("http_request_bodies_bytes", "Memory of request bodies"),
        }
    }
}

/// Names and labels are constants of this file, which its test reads: they do not fail at run time.
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
    fn each_service_counts_for_itself() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.shed.memory.inc();
        assert_eq!((one.shed.memory.get(), other.shed.memory.get()), (1, 0));
    }
}

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{VALID, counter, counters, gauge, gauges, histogram, keep, name};

/// A window takes about four to nine microseconds.
const WINDOW_SECONDS: &[f64] = &[
    1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 8e-6, 1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 5e-4,
    1e-3,
];

/// Cosines; finer near the thresholds.
const SCORES: &[f64] = &[
    -0.5, 0.0, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925,
    0.95, 0.975, 1.0,
];

/// Codes of the errors that a recording or a window may have. A test in `http` compares them with those
/// of `core`.
pub const REFUSALS: [&str; 22] = [
    "ambiguous-time",
    "backward-time",
    "batched-times",
    "clipped-sensor",
    "empty-recording",
    "flat-sensor",
    "gravity-units",
    "implausible-angular-rate",
    "implausible-gravity",
    "invalid-rate",
    "invalid-scale",
    "length-mismatch",
    "missing-samples",
    "no-steps",
    "non-finite-value",
    "rate-too-low",
    "rounded-times",
    "shaking",
    "slow-sensor",
    "standing-still",
    "time-units",
    "too-short",
];

#[derive(Debug)]
pub struct WalkMetrics {
    pub enrollments: IntCounter,
    pub template_updates: IntCounter,
    pub windows_accepted: IntCounter,
    pub windows_refused: IntCounterVec,
    pub recordings_refused: IntCounterVec,
    pub window_inference_seconds: Histogram,
}

impl WalkMetrics {
    pub fn new(registry: &Registry) -> Self {
        let windows = counters(
            registry,
            "windows_refused_total",
            "Windows that were refused because they are not walking",
            &["reason"],
        );
        let recordings = counters(
            registry,
            "recordings_refused_total",
            "Recordings that were refused because they have no walking or are invalid",
            &["reason"],
        );
        for reason in REFUSALS {
            windows.with_label_values(&[reason]);
            recordings.with_label_values(&[reason]);
        }
        Self {
            enrollments: counter(registry, "enrollments_total", "Walks enrolled"),
            template_updates: counter(
                registry,
                "template_updates_total",
                "Verified walks that were added to the template of their user",
            ),
            windows_accepted: counter(
                registry,
                "windows_accepted_total",
                "Windows that were accepted as walking",
            ),
            windows_refused: windows,
            recordings_refused: recordings,
            window_inference_seconds: histogram(
                registry,
                "window_inference_duration_seconds",
                "Time that the network takes for one window",
                WINDOW_SECONDS,
            ),
        }
    }
}

#[derive(Debug)]
pub struct DecisionMetrics {
    pub identified: IntCounter,
    pub unknown: IntCounter,
    pub identify_inconclusive: IntCounter,
    pub accept: IntCounter,
    pub reject: IntCounter,
    pub verify_inconclusive: IntCounter,
    pub suspected_replay: IntCounter,
    pub identify_score: Histogram,
    pub verify_score: Histogram,
}

impl DecisionMetrics {
    pub fn new(registry: &Registry) -> Self {
        let help = "Decisions of identifications and verifications";
        let vec = counters(registry, "decisions_total", help, &["operation", "decision"]);
        let of = |operation, decision| vec.with_label_values(&[operation, decision]);
        let options = HistogramOpts::new(
            name("decision_score"),
            "Cosine similarity of a walk and the nearest user (identify) or the claimed user (verify)",
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

/// Verifications that were refused because too many had failed.
#[derive(Debug)]
pub struct GuessMetrics {
    pub delayed: IntCounter,
    pub locked: IntCounter,
    pub key: IntCounter,
    pub address: IntCounter,
    pub locked_users: IntGauge,
}

impl GuessMetrics {
    pub fn new(registry: &Registry) -> Self {
        let help = "Verifications refused because too many had failed, by what had too many";
        let vec = counters(registry, "guesses_refused_total", help, &["limit"]);
        let limit = |name| vec.with_label_values(&[name]);
        let locked =
            "Users locked because too many verifications failed; at most 1,000 are counted";
        Self {
            delayed: limit("delay"),
            locked: limit("lock"),
            key: limit("key"),
            address: limit("address"),
            locked_users: gauge(registry, "locked_users", locked),
        }
    }
}

#[derive(Debug)]
pub struct CalibrationMetrics {
    pub users: IntGauge,
    pub gallery_fmr: GaugeVec,
}

impl CalibrationMetrics {
    pub fn new(registry: &Registry) -> Self {
        let users = "Enrolled users that the thresholds were last fitted to";
        let name = name("calibration_gallery_fmr");
        let help = "Share of comparisons among enrolled users that are accepted at a nominal false match rate";
        let gallery_fmr = GaugeVec::new(Opts::new(name, help), &["asked"]).expect(VALID);
        Self {
            users: gauge(registry, "calibration_users", users),
            gallery_fmr: keep(registry, gallery_fmr),
        }
    }
}

#[derive(Debug)]
pub struct ModelMetrics {
    info: IntGaugeVec,
    pub created_timestamp_seconds: IntGauge,
    pub bytes: IntGauge,
    pub validation_accuracy: Gauge,
    pub users: IntGauge,
    pub gallery_users: IntGauge,
}

impl ModelMetrics {
    pub fn new(registry: &Registry) -> Self {
        let accuracy = Gauge::new(
            name("model_validation_accuracy_ratio"),
            "Share of validation windows that the active model classified correctly when it was trained",
        );
        let of = |name, help| gauge(registry, name, help);
        Self {
            info: gauges(
                registry,
                "model_info",
                "Id of the active model; the value is always 1",
                &["model"],
            ),
            created_timestamp_seconds: of(
                "model_created_timestamp_seconds",
                "When the active model was registered",
            ),
            bytes: of(
                "model_bytes",
                "Length of the active model's file, which is about the memory it takes",
            ),
            validation_accuracy: keep(registry, accuracy.expect(VALID)),
            users: of("users", "Users"),
            gallery_users: of("gallery_users", "Users with a template for the active model"),
        }
    }

    /// Replaces the id of the active model.
    pub fn serves(&self, id: &str) {
        self.info.reset();
        self.info.with_label_values(&[id]).set(1);
    }
}

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, IntGaugeVec, Registry};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{STAGE_SECONDS, VALID, counter, gauge, gauges, histogram, keep, name};

#[derive(Debug)]
pub struct TrainingMetrics {
    pub jobs: IntGaugeVec,
    pub epoch: IntGauge,
    last_progress: IntGauge,
    pub loss: Gauge,
    pub validation_accuracy: Gauge,
    pub samples_per_second: Gauge,
}

impl TrainingMetrics {
    pub fn new(registry: &Registry) -> Self {
        let float = |suffix, help| keep(registry, Gauge::new(name(suffix), help).expect(VALID));
        Self {
            jobs: gauges(registry, "training_jobs", "Training jobs by state", &["state"]),
            epoch: gauge(
                registry,
                "training_epoch",
                "Current epoch of the running training job; 0 if none runs",
            ),
            last_progress: gauge(
                registry,
                "training_last_progress_timestamp_seconds",
                "When the running training job began or last made a step; 0 if none runs",
            ),
            loss: float("training_loss", "Loss of the last epoch"),
            validation_accuracy: float(
                "training_validation_accuracy_ratio",
                "Share of validation windows classified correctly after the last epoch",
            ),
            samples_per_second: float(
                "training_samples_per_second",
                "Windows trained on per second",
            ),
        }
    }
}

impl TrainingMetrics {
    /// Notes that the running job began or made a step.
    pub fn progressed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_progress.set(now.as_secs() as i64);
    }

    /// Notes that no job runs.
    pub fn ended(&self) {
        self.last_progress.set(0);
    }
}

#[derive(Debug)]
pub struct DatabaseMetrics {
    pub bytes: IntGauge,
    pub disk_bytes: IntGauge,
    pub disk_free_bytes: IntGauge,
    pub log_bytes: IntGauge,
    pub damaged_rows: IntGauge,
    pub gone: IntGauge,
    pub created_timestamp_seconds: IntGauge,
    pub backup_succeeded_timestamp_seconds: IntGauge,
    pub backup_failed_timestamp_seconds: IntGauge,
    pub commit_seconds: Histogram,
    pub locked_seconds: Counter,
    pub locked_writes: IntCounter,
    pub retention_paused: IntGauge,
    pub gallery_age_seconds: Gauge,
    pub disk_full: IntGauge,
    pub read_only_file_system: IntGauge,
}

impl DatabaseMetrics {
    pub fn new(registry: &Registry) -> Self {
        let read_only = gauges(
            registry,
            "read_only",
            "1 if nothing can be stored for this reason, otherwise 0",
            &["reason"],
        );
        Self {
            disk_full: read_only.with_label_values(&["disk_full"]),
            read_only_file_system: read_only.with_label_values(&["read_only_file_system"]),
            bytes: gauge(registry, "database_bytes", "Length of the database file"),
            disk_bytes: gauge(
                registry,
                "database_disk_bytes",
                "Size of the file system that holds the database",
            ),
            disk_free_bytes: gauge(
                registry,
                "database_disk_free_bytes",
                "Free space on the file system that holds the database",
            ),
            log_bytes: gauge(registry, "database_wal_bytes", "Length of the write-ahead log"),
            gone: gauge(
                registry,
                "database_gone",
                "1 if a file of the database was deleted or replaced, otherwise 0",
            ),
            created_timestamp_seconds: gauge(
                registry,
                "database_created_timestamp_seconds",
                "When the database was created",
            ),
            backup_succeeded_timestamp_seconds: gauge(
                registry,
                "backup_last_success_timestamp_seconds",
                "When the last backup began that succeeded; 0 if there is none",
            ),
            backup_failed_timestamp_seconds: gauge(
                registry,
                "backup_last_failure_timestamp_seconds",
                "When the last backup began that failed; 0 if there is none",
            ),
            damaged_rows: gauge(
                registry,
                "damaged_rows",
                "Templates, recordings and fingerprints that cannot be decrypted",
            ),
            commit_seconds: histogram(
                registry,
                "database_commit_duration_seconds",
                "Time to commit a write",
                STAGE_SECONDS,
            ),
            locked_seconds: keep(
                registry,
                Counter::new(
                    name("database_locked_seconds_total"),
                    "Time in which another process had the database or the keyring locked",
                )
                .expect(VALID),
            ),
            locked_writes: counter(
                registry,
                "database_locked_writes_total",
                "Writes that failed because another process had the file locked",
            ),
            gallery_age_seconds: keep(
                registry,
                Gauge::new(
                    name("gallery_age_seconds"),
                    "Time since this server last read what other servers changed; 0 with SQLite",
                )
                .expect(VALID),
            ),
            retention_paused: gauge(
                registry,
                "retention_paused",
                "1 if data past its time is kept because the clock leapt, otherwise 0",
            ),
        }
    }
}

#[derive(Debug)]
pub struct MemoryMetrics {
    pub gallery: IntGauge,
    pub sqlite_cache: IntGauge,
    pub bodies: IntGauge,
}

impl MemoryMetrics {
    pub fn new(registry: &Registry) -> Self {
        let of = |name, help| gauge(registry, name, help);
        Self {
            gallery: of("gallery_bytes", "Memory for templates"),
            sqlite_cache: of(
                "sqlite_cache_limit_bytes",
                "Largest memory that the page caches of database connections can take",
            ),
            bodies: of("http_request_bodies_bytes", "Memory for request bodies"),
        }
    }
}

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{gauge, gauges};

/// Clones share the gauges.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    successful: IntGaugeVec,
    success_seconds: IntGaugeVec,
}

impl ReloadMetrics {
    /// The settings were read at the start.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            successful: gauges(
                registry,
                "last_reload_successful",
                "1 if settings or certificate could be used when they were last read, otherwise 0",
                &["what"],
            ),
            success_seconds: gauges(
                registry,
                "last_reload_success_timestamp_seconds",
                "When settings or certificate could last be used",
                &["what"],
            ),
        };
        metrics.note("settings", true);
        metrics
    }

    pub fn note(&self, what: &str, successful: bool) {
        self.successful.with_label_values(&[what]).set(i64::from(successful));
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.success_seconds.with_label_values(&[what]).set(now.as_secs() as i64);
        }
    }
}

#[derive(Debug)]
pub struct TlsMetrics {
    pub not_after: IntGauge,
    reloads: ReloadMetrics,
}

impl TlsMetrics {
    pub fn new(registry: &Registry, reloads: ReloadMetrics) -> Self {
        let not_after = gauge(
            registry,
            "tls_certificate_not_after_seconds",
            "When the first certificate of the chain expires, in Unix time",
        );
        Self { not_after, reloads }
    }

    /// Notes whether the files of certificate and key could be used.
    pub fn note_reload(&self, successful: bool) {
        self.reloads.note("certificate", successful);
    }
}

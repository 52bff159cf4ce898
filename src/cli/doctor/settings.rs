use super::super::settings::unknown_variables;
use super::report::Report;
use crate::config::{Config, CorsOrigins};

const AREA: &str = "settings";

pub fn check(report: &mut Report, config: &Config) {
    for warning in unknown_variables() {
        report.warning(AREA, warning, "correct the name, or remove the variable");
    }
    let connections = &config.connections;
    let is_public = !config.listen.ip().is_loopback();
    if is_public && connections.tls_certificate.is_none() {
        report.warning(
            AREA,
            format!(
                "{} is reachable without TLS, so walks and keys can be read on their way",
                config.listen
            ),
            "set tls-certificate and tls-key, or let only a TLS proxy reach it",
        );
    }
    if config.allow_anonymous && is_public {
        report.warning(
            AREA,
            "allow-anonymous is set on a public address",
            "create API keys, and remove allow-anonymous",
        );
    }
    if config.allow_anonymous && connections.cors_origins == CorsOrigins::Any {
        report.problem(
            AREA,
            "with allow-anonymous and cors-origins = \"*\", every web page may read and delete users",
            "list the origins of your own pages",
        );
    }
    if let Some(metrics) = config.metrics_listen
        && !metrics.ip().is_loopback()
        && config.metrics_key_file.is_none()
    {
        report.warning(
            AREA,
            format!("everybody who reaches {metrics} can read the metrics, which hold scores"),
            "set metrics-key-file, or let only Prometheus reach it",
        );
    }
    if config.metrics_listen.is_none() {
        report.warning(
            AREA,
            "there are no metrics, so no alert can fire",
            "set metrics-listen, and let Prometheus read it",
        );
    }
    if config.metrics_listen.is_some_and(|metrics| metrics == config.listen && metrics.port() != 0)
    {
        report.problem(
            AREA,
            format!("listen and metrics-listen are both {}", config.listen),
            "give them different ports",
        );
    }
    if connections.connections_per_address > connections.max_connections {
        report.warning(
            AREA,
            format!(
                "connections-per-address ({}) is more than max-connections ({})",
                connections.connections_per_address, connections.max_connections
            ),
            "lower it to max-connections or less",
        );
    }
    if config.service.erase_inactive_days > 0
        && config.service.keep_recordings_days > config.service.erase_inactive_days
    {
        report.warning(
            AREA,
            "keep-recordings-days is more than erase-inactive-days, which erases recordings first",
            "lower keep-recordings-days",
        );
    }
    if report.is_clean(AREA) {
        report.ok(AREA, "they agree with each other");
    }
}

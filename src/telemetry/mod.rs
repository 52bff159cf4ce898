//! Metrics and logs for the operator. They contain nothing that identifies a user.

mod logs;
mod metrics;

pub use logs::{LogSettings, Logs, start_logs};
pub use metrics::{ConnectionMetrics, Metrics, TlsMetrics};

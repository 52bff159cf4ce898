//! Metrics, logs and traces for the operator. They contain nothing that identifies a user.

mod logs;
mod metrics;
mod open_requests;
mod traces;

pub use logs::{LogSettings, Logs, start_logs};
#[cfg(test)]
pub use metrics::REFUSALS;
pub use metrics::{COMMIT, ConnectionMetrics, Metrics, TlsMetrics};
pub use open_requests::{OpenRequest, OpenRequests, SlowRequest};
pub use traces::continue_trace;

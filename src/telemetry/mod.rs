//! What the operator sees of a running server: metrics and logs. Holds figures; knows nothing of what
//! they are of, and nothing that tells users apart.

mod logs;
mod metrics;

pub use logs::{LogError, LogSettings, Logs, start_logs};
pub use metrics::{
    DatabaseMetrics, DecisionMetrics, HttpMetrics, MemoryMetrics, Metrics, ModelMetrics,
    PoolMetrics, ShedMetrics, StageMetrics, TrainingMetrics, WalkMetrics,
};

//! What the operator sees.

use std::sync::Arc;

use super::{Identification, PoolError, Service, Verification};
use crate::store::StoreError;
use crate::telemetry::{DecisionMetrics, Metrics};
use bipedalnet_core::gait::SignalError;
use bipedalnet_core::identity::{Decision, Verdict};

/// The metric of a model file that tells how well it did on windows held back from training.
const VALIDATION_ACCURACY: &str = "validation_top1";

impl Service {
    /// For whoever counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Sets the metrics that are read only when somebody looks.
    ///
    /// # Errors
    /// When the database fails: its own are as old as they were then.
    pub async fn observe(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let Metrics { model, memory, database, training, .. } = &*shared.metrics;
        shared.pool.observe();
        let serving = shared.serving();
        model.serves(serving.model.id());
        let accuracy = serving.model.file.metadata.metrics.get(VALIDATION_ACCURACY);
        model.validation_accuracy.set(accuracy.copied().map_or(f64::NAN, f64::from));
        let (users, bytes) = {
            let gallery = serving.gallery();
            (gallery.len(), gallery.bytes())
        };
        model.gallery_users.set(users as i64);
        memory.gallery.set(bytes as i64);
        memory.sqlite_cache.set(shared.store.cache_limit_bytes() as i64);
        let stored = shared.store.model(serving.model.id()).await?;
        model.created_timestamp_seconds.set(stored.created_at_unix_seconds);
        model.bytes.set(stored.size_bytes as i64);
        let sizes = shared.store.sizes().await?;
        model.users.set(sizes.users as i64);
        database.bytes.set(sizes.database_bytes as i64);
        database.log_bytes.set(sizes.log_bytes as i64);
        for (state, jobs) in shared.store.count_training_jobs().await? {
            training.jobs.with_label_values(&[state.name()]).set(jobs);
        }
        let progress = shared.jobs.current.borrow().progress.unwrap_or_default();
        training.epoch.set(progress.epoch as i64);
        training.samples_per_second.set(progress.samples_per_second.into());
        if progress.epoch > 0 {
            let known = |figure: Option<f32>| figure.map_or(f64::NAN, f64::from);
            training.loss.set(known(progress.loss));
            training.validation_accuracy.set(known(progress.validation_accuracy));
        }
        Ok(())
    }

    /// Refuses a request whose body there is no memory for.
    pub fn refuse_body(&self) -> PoolError {
        self.shared.metrics.shed.memory.inc();
        self.shared.pool.refusal()
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        // All else that a request needs was there before the service was.
        !self.shared.jobs.current.borrow().closing
    }

    /// Says that the server is about to stop. Requests are answered as before, but for streams of
    /// events, which end; a training goes on when the service is started again.
    pub fn stop(&self) {
        self.shared.jobs.current.send_modify(|current| current.closing = true);
    }
}

pub(super) fn count_identification(metrics: &DecisionMetrics, answer: &Identification) {
    match answer.decision {
        Decision::Identified(_) => &metrics.identified,
        Decision::Unknown => &metrics.unknown,
        Decision::Inconclusive(_) => &metrics.identify_inconclusive,
    }
    .inc();
    if let Some(nearest) = answer.candidates.first() {
        metrics.identify_score.observe(nearest.score.into());
    }
}

pub(super) fn count_verification(metrics: &DecisionMetrics, answer: &Verification) {
    match answer.verdict {
        Verdict::Accept => &metrics.accept,
        Verdict::Reject => &metrics.reject,
        Verdict::Inconclusive(_) => &metrics.verify_inconclusive,
        Verdict::SuspectedReplay => &metrics.suspected_replay,
    }
    .inc();
    metrics.verify_score.observe(answer.score.into());
}

pub(super) fn count_refused(metrics: &Metrics, refused: &[(SignalError, usize)]) {
    for (error, windows) in refused {
        let counter = metrics.walks.windows_refused.with_label_values(&[error.code()]);
        counter.inc_by(*windows as u64);
    }
}

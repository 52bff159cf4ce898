//! Thresholds that follow the gallery: enrolled users compared with one another's templates are
//! impostors recorded by this deployment's own phones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bipedalnet_core::identity::{FALSE_MATCH_RATES, Tails};

use super::active_model::{ActiveModel, LoadedModel};
use super::pool::{Admission, Pool, PoolError};
use crate::telemetry::Metrics;

/// The pause after a fit, as a multiple of the fit's own time.
const PAUSE_FACTOR: u32 = 5;

/// The pause after a fit that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Fits the thresholds of the active model to its gallery.
pub struct Thresholds {
    active: ActiveModel,
    pool: Pool,
    metrics: Arc<Metrics>,
    /// Version of the gallery that the thresholds were last fitted to. Locked during a fit.
    fitted: tokio::sync::Mutex<u64>,
}

impl Thresholds {
    /// The model's thresholds must be fitted already.
    pub(super) fn new(active: ActiveModel, pool: Pool, metrics: Arc<Metrics>) -> Self {
        Self { active, pool, metrics, fitted: tokio::sync::Mutex::default() }
    }

    /// Fits the thresholds as soon as the gallery changes. Pauses after each fit, so that many
    /// changes take a small share of the compute. Never returns.
    pub(super) async fn follow_gallery(&self) {
        let mut versions = self.active.gallery_version();
        loop {
            let begin = Instant::now();
            let pause = match self.fit().await {
                Ok(()) => begin.elapsed() * PAUSE_FACTOR,
                Err(error) => {
                    tracing::warn!(%error, "thresholds were not fitted to the gallery; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            tokio::time::sleep(pause).await;
            // `self` holds the sender.
            let _ = versions.changed().await;
        }
    }

    /// Fits the thresholds to the gallery as it is now. Does nothing if they fit already.
    ///
    /// # Errors
    /// If the pool fails.
    pub async fn fit(&self) -> Result<(), PoolError> {
        let mut fitted = self.fitted.lock().await;
        let version = *self.active.gallery_version().borrow();
        if *fitted == version {
            return Ok(());
        }
        let model = self.active.get();
        let fitted_model = Arc::clone(&model);
        let fit = self.pool.run(Admission::Always, move |_| Fit::of(&fitted_model)).await?;
        // Not if another model became active during the fit: it shows its own.
        if Arc::ptr_eq(&model, &self.active.get()) {
            fit.show(&self.metrics);
        }
        *fitted = version;
        Ok(())
    }
}

/// The result of a fit.
pub(super) struct Fit {
    tails: Tails,
    /// The strengths of the gallery's own impostors.
    strengths: Vec<f32>,
}

impl Fit {
    /// Fits a model's thresholds to its gallery. Runs on the pool.
    pub fn of(model: &LoadedModel) -> Self {
        let cohort = model.gallery().cohort();
        let strengths = cohort.impostor_strengths();
        let tails = cohort.tails_of(&strengths);
        model.gallery_mut().set_tails(tails);
        Self { tails, strengths }
    }

    /// Shows which share of the gallery's own impostors each false match rate accepts.
    pub fn show(&self, metrics: &Metrics) {
        let (metrics, single) = (&metrics.calibration, self.tails.single);
        metrics.users.set(self.tails.users as i64);
        for asked in FALSE_MATCH_RATES {
            let is_accepted = |strength: &&f32| single.fmr(**strength) <= asked;
            let accepted = self.strengths.iter().filter(is_accepted).count();
            let share = accepted as f64 / self.strengths.len().max(1) as f64;
            metrics.gallery_fmr.with_label_values(&[asked.to_string().as_str()]).set(share);
        }
    }
}

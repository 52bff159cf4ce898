//! Thresholds that follow the gallery: enrolled users compared with one another's templates are
//! impostors of this deployment's own phones.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::pool::Entry;
use super::{PoolError, Service, Shared};
use bipedalnet_core::identity::{FALSE_MATCH_RATES, Tails};

/// Time without a fit, in times of the fit before.
const RESTS: u32 = 5;

/// Time until a fit that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Service {
    /// Fits the thresholds at once when the gallery changes, and then rests, so that many changes take a
    /// small share of the compute. Never returns: to be dropped with the server.
    pub async fn follow_gallery(&self) {
        loop {
            let begin = Instant::now();
            let rest = match self.shared.refine_thresholds().await {
                Ok(()) => begin.elapsed() * RESTS,
                Err(error) => {
                    tracing::warn!(%error, "thresholds were not fitted to the gallery; trying again");
                    RETRY
                }
            };
            tokio::time::sleep(rest).await;
            self.shared.gallery_change.notified().await;
        }
    }

    /// Fits the thresholds to the users who are enrolled now, if that changed, and waits for it.
    ///
    /// # Errors
    /// If there is no compute for it.
    pub async fn settle_thresholds(&self) -> Result<(), PoolError> {
        self.shared.refine_thresholds().await
    }
}

impl Shared {
    /// Notes that the thresholds are due.
    pub(super) fn gallery_changed(&self) {
        self.refinement_due.store(true, Ordering::Relaxed);
        self.gallery_change.notify_one();
    }

    /// Fits the thresholds to the users who are enrolled now, if that changed. They take the place of
    /// the old ones at once.
    pub(super) async fn refine_thresholds(&self) -> Result<(), PoolError> {
        // So that nobody returns while another fit is under way.
        let _turn = self.refining.lock().await;
        if !self.refinement_due.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let serving = self.serving();
        let gallery = Arc::clone(&serving);
        let refine = move |_: &mut _| {
            let cohort = gallery.gallery().cohort();
            let strengths = cohort.impostor_strengths();
            let tails = cohort.tails_of(&strengths);
            gallery.gallery_mut().set_tails(tails);
            (strengths, tails)
        };
        match self.pool.run(Entry::Always, refine).await {
            Ok((strengths, tails)) => self.show_thresholds(&strengths, tails),
            Err(error) => {
                self.gallery_changed();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Shows which share of the gallery's own impostors each false match rate lets in.
    fn show_thresholds(&self, strengths: &[f32], tails: Tails) {
        let metrics = &self.metrics.calibration;
        metrics.users.set(tails.users as i64);
        for asked in FALSE_MATCH_RATES {
            let accepted =
                strengths.iter().filter(|strength| tails.single.fmr(**strength) <= asked).count();
            let share = accepted as f64 / strengths.len().max(1) as f64;
            metrics.gallery_fmr.with_label_values(&[asked.to_string().as_str()]).set(share);
        }
    }
}

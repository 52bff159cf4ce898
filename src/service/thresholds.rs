//! Thresholds that follow the gallery: enrolled users compared with one another's templates are
//! impostors recorded by this deployment's own phones.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::active_model::{ActiveModel, LoadedModel};
use super::pool::{Admission, Pool, PoolError};

/// The pause after a fit, as a multiple of the fit's own time.
const PAUSE_FACTOR: u32 = 20;

/// The longest pause, however long a fit waited for its turn, and however many galleries it was for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pause after a fit that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Fits the thresholds of the active model to its galleries.
pub struct Thresholds {
    active: ActiveModel,
    pool: Pool,
    /// Locked during a fit.
    fitting: tokio::sync::Mutex<()>,
}

impl Thresholds {
    /// The model's thresholds must be fitted already.
    pub(super) fn new(active: ActiveModel, pool: Pool) -> Self {
        Self { active, pool, fitting: tokio::sync::Mutex::default() }
    }

    /// Fits the thresholds of each gallery as soon as it changes. Pauses after each round, so that many
    /// changes take a small share of the compute. Never returns.
    pub(super) async fn follow_galleries(&self) {
        loop {
            let begin = Instant::now();
            let pause = match self.fit().await {
                Ok(()) => (begin.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE),
                Err(error) => {
                    tracing::warn!(%error, "thresholds were not fitted to a gallery; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            tokio::time::sleep(pause).await;
            self.active.changes().await;
        }
    }

    /// Fits the thresholds to the galleries as they are now. Does nothing if they fit already.
    ///
    /// # Errors
    /// If the pool fails.
    pub async fn fit(&self) -> Result<(), PoolError> {
        let _alone = self.fitting.lock().await;
        while let Some(collection) = self.active.take_changed() {
            let gallery = self.active.get().gallery(&collection);
            let fitted = self.pool.run(Admission::Always, move |_| gallery.fit()).await;
            if fitted.is_err() {
                self.active.gallery_changed(collection);
            }
            fitted?;
        }
        Ok(())
    }
}

/// Fits all thresholds of a model that does not serve yet.
///
/// # Errors
/// If the pool fails.
pub(super) async fn fit_all(pool: &Pool, model: &LoadedModel) -> Result<(), PoolError> {
    let threads = available_parallelism().map_or(1, usize::from);
    let fits = model
        .galleries
        .all()
        .into_iter()
        .map(|(_, gallery): (_, Arc<_>)| pool.run(Admission::Always, move |_| gallery.fit()));
    stream::iter(fits).buffer_unordered(threads).try_collect().await
}

//! What is due from time to time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::{Service, Shared};
use crate::store::StoreError;

/// How soon a key that was made or revoked counts.
const KEYS: Duration = Duration::from_secs(1);

/// How often recordings that were kept long enough are erased, in ticks of [`KEYS`].
const RETENTION_TICKS: u64 = 600;

impl Service {
    /// Keeps keys fresh, forgets sessions and challenges that are over, erases what was kept long
    /// enough, and retries what an erasure left to do.
    /// Never returns: to be dropped with the server.
    pub async fn maintain(&self) {
        let mut timer = tokio::time::interval(KEYS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0u64.. {
            timer.tick().await;
            if let Err(error) = self.refresh_keys().await {
                tracing::error!(%error, "API keys were not read");
            }
            if tick.is_multiple_of(RETENTION_TICKS)
                && let Err(error) = self.erase_old_recordings().await
            {
                tracing::error!(%error, "recordings past their time were not erased");
            }
            self.shared.serving().sessions().sweep();
            self.shared.challenges().sweep(Instant::now());
            if self.shared.scrub_due.load(Ordering::Relaxed) {
                self.shared.scrub_log().await;
            }
        }
    }

    async fn erase_old_recordings(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let erased =
            shared.store.erase_old_recordings(shared.settings.get().kept_recordings()).await?;
        if erased > 0 {
            tracing::info!(erased, "recordings past their time were erased");
            shared.scrub_log().await;
        }
        Ok(())
    }
}

impl Shared {
    /// Removes erased data from the write-ahead log. The data is gone from the tables already: a
    /// failure here is the operator's to mend, and none of the client's.
    pub(super) async fn scrub_log(&self) {
        let done = match self.store.scrub_log().await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the write-ahead log still holds erased data");
                false
            }
        };
        self.scrub_due.store(!done, Ordering::Relaxed);
    }
}

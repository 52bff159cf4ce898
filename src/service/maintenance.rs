//! Work that is due from time to time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::users::days_ago;
use super::{Service, ServiceError};
use crate::store::{Clock, ClockEvent, Store, StoreError, date_and_time};

/// How soon a key that was created or revoked counts.
const KEYS: Duration = Duration::from_secs(1);

/// How often the length of the write-ahead log is checked, in ticks of [`KEYS`].
const LOG_TICKS: u64 = 5;

/// How often sessions that have ended are deleted, in ticks of [`KEYS`].
const SESSION_TICKS: u64 = 60;

/// How often data past its time is deleted, in ticks of [`KEYS`].
const RETENTION_TICKS: u64 = 600;

/// How often the audit trail is pruned, in ticks of [`KEYS`]. Each time adds an entry.
const AUDIT_TICKS: u64 = 24 * 60 * 60;

/// What follows from a leap of the clock.
const PAUSED: &str = "no kept recording, inactive user or audit entry is deleted; if the time is right, run \
                      `bipedalnet confirm-clock`";

impl Service {
    /// Reads keys, deletes data past its time, and removes deleted data from the write-ahead log. Never
    /// returns.
    pub(super) async fn maintain(&self) {
        let mut timer = tokio::time::interval(KEYS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut files, mut is_keeper) = (true, false);
        for tick in 0u64.. {
            timer.tick().await;
            let checked = self.store.check_files();
            if let Err(error) = &checked
                && files
            {
                tracing::error!(%error, "nothing can be stored");
            }
            files = checked.is_ok();
            report("API keys were not read", self.keys.refresh().await);
            report("collections were not read", self.collections.refresh().await);
            let clock = self.look_at_clock(tick == 0).await;
            // One of several servers deletes for all. The next one does at once what may be due.
            let was_keeper = is_keeper;
            is_keeper = clock.is_ok() && self.store.is_keeper().await.unwrap_or(false);
            let is_due = |ticks| tick.is_multiple_of(ticks) || !was_keeper;
            if let Ok(clock) = clock
                && is_keeper
                && (is_due(RETENTION_TICKS) || clock.event.is_some())
            {
                let forgotten = self.store.forget_failing_clients().await;
                report("addresses of failed verifications were not deleted", forgotten);
                let forgotten = self.store.forget_used_challenges().await;
                report("used challenges were not deleted", forgotten);
                report("old changes were not deleted", self.store.prune_changes().await);
                let deleted = self.delete_by_the_clock(clock, is_due(AUDIT_TICKS)).await;
                report("data past its time was not deleted", deleted);
            }
            report("the clock was not checked", clock.map(drop));
            if tick.is_multiple_of(SESSION_TICKS) {
                let deleted = self.store.delete_ended_sessions().await;
                report("sessions that have ended were not deleted", deleted);
            }
            self.log.scrub_if_due().await;
            if tick.is_multiple_of(LOG_TICKS) {
                report("the write-ahead log was not truncated", self.store.shrink_log().await);
            }
            report("damaged rows were not set aside", self.store.set_damaged_aside().await);
            // Last: writing megabytes may take a while.
            self.store.reserve_space().await;
        }
    }

    /// Looks at the clock, and says what happened to it.
    async fn look_at_clock(&self, is_start: bool) -> Result<Clock, StoreError> {
        let clock = self.store.look_at_clock().await?;
        self.metrics.database.retention_paused.set(clock.is_paused.into());
        match clock.event {
            Some(ClockEvent::Leapt { from, to }) => tracing::warn!(
                from = date_and_time(from),
                to = date_and_time(to),
                "the clock moved by more than a day, or the server did not run for so long: {PAUSED}"
            ),
            Some(ClockEvent::Returned) => tracing::info!("the clock is right again after its leap"),
            Some(ClockEvent::Settled) => {
                tracing::info!("the clock has been steady for a day: its leap is taken for right");
            }
            Some(ClockEvent::Confirmed) => tracing::info!("the clock was confirmed"),
            None if is_start && clock.is_paused => {
                tracing::warn!("the clock leapt before the start: {PAUSED}");
            }
            None => {}
        }
        Ok(clock)
    }

    /// Deletes old recordings, inactive users and old audit entries, if the clock can be trusted.
    async fn delete_by_the_clock(
        &self,
        clock: Clock,
        prunes_audit: bool,
    ) -> Result<(), ServiceError> {
        report("the time was not stored", self.store.note_clock().await);
        let settings = self.settings.get();
        self.users.store_activity().await?;
        // If none are kept, their age does not count.
        if clock.is_steady || !settings.keeps_recordings() {
            self.delete_old_recordings().await?;
        }
        if !clock.is_steady {
            return Ok(());
        }
        if settings.erase_inactive_days > 0 {
            let erased = self.users.erase_inactive(settings.erase_inactive_days).await?;
            if erased > 0 {
                tracing::info!(erased, "inactive users were erased");
            }
        }
        if prunes_audit && settings.keep_audit_days > 0 {
            let before = days_ago(settings.keep_audit_days);
            loop {
                let mut transaction = self.store.begin().await?;
                let more = transaction.prune_audit(before).await?;
                transaction.commit().await?;
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn delete_old_recordings(&self) -> Result<(), StoreError> {
        let kept = self.settings.get().kept_recordings();
        let deleted = self.store.erase_old_recordings(kept).await?;
        if deleted > 0 {
            tracing::info!(deleted, "recordings past their time were deleted");
            self.log.scrub().await;
        }
        Ok(())
    }
}

/// Logs that background work failed. It is tried again later.
fn report(what: &str, done: Result<(), impl Into<ServiceError>>) {
    match done.map_err(Into::into) {
        Ok(()) => {}
        Err(error) if error.is_watched() => tracing::debug!(%error, "{what}"),
        Err(error) => tracing::error!(%error, "{what}"),
    }
}

/// Removes deleted data from the write-ahead log. Clones share what is due.
#[derive(Clone)]
pub(super) struct LogScrubber {
    store: Store,
    due: Arc<AtomicBool>,
}

impl LogScrubber {
    pub fn new(store: Store) -> Self {
        // A crash may have left deleted data in the log.
        Self { store, due: Arc::new(AtomicBool::new(true)) }
    }

    /// Notes that the log holds deleted data.
    pub fn set_due(&self) {
        self.due.store(true, Ordering::Relaxed);
    }

    /// Removes deleted data from the log, and destroys keys of deleted users. The tables no longer hold
    /// them. If this fails, it is tried again later: it is the operator's problem, not the client's.
    pub async fn scrub(&self) {
        let scrubbed = self.store.scrub().await;
        let done = *scrubbed.as_ref().unwrap_or(&false);
        report("the write-ahead log or the keyring still holds deleted data", scrubbed.map(drop));
        self.due.store(!done, Ordering::Relaxed);
    }

    async fn scrub_if_due(&self) {
        if self.due.load(Ordering::Relaxed) {
            self.scrub().await;
        }
    }
}

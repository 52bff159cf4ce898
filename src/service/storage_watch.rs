//! Watches whether the database can be written to.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Service;

const INTERVAL: Duration = Duration::from_secs(1);

/// Why nothing can be stored, while everything else works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadOnly {
    /// Another process has it locked for long.
    #[error("another process has the database locked")]
    Locked,
}

impl Service {
    /// Watches by itself: there may be no request, and other work in the background may wait for the
    /// database. Never returns.
    pub(super) async fn watch_storage(&self) {
        let metrics = &self.metrics.database;
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let locked = self.store.look_for_locks();
            metrics.locked_seconds.inc_by(locked.time.as_secs_f64());
            metrics.locked_writes.inc_by(locked.failed_writes);
        }
    }

    /// Why nothing can be stored. `None` if all is well.
    pub fn read_only(&self) -> Option<ReadOnly> {
        self.store.is_locked().then_some(ReadOnly::Locked)
    }
}

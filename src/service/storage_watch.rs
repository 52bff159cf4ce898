//! Watches whether the database can be written to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Service;
use crate::store::DiskFault;

const INTERVAL: Duration = Duration::from_secs(1);

/// How often the disk is checked, in ticks of [`INTERVAL`].
const DISK_TICKS: u64 = 5;

/// Why nothing can be stored, while everything else works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadOnly {
    /// Another process has it locked for long.
    #[error("another process has the database locked")]
    Locked,
    #[error("the disk is full")]
    DiskFull,
    #[error("the file system is read-only")]
    FileSystem,
}

/// What is known about the disk.
#[derive(Default)]
pub(super) struct Disk(Mutex<Option<DiskFault>>);

impl Disk {
    fn fault(&self) -> Option<DiskFault> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a fault, or that there is none, and returns what was noted before.
    fn replace(&self, fault: Option<DiskFault>) -> Option<DiskFault> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), fault)
    }
}

impl Service {
    /// Watches by itself: there may be no request, and other work in the background may wait for the
    /// database. Never returns.
    pub(super) async fn watch_storage(&self) {
        let metrics = &self.metrics.database;
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0u64.. {
            timer.tick().await;
            let locked = self.store.look_for_locks();
            metrics.locked_seconds.inc_by(locked.time.as_secs_f64());
            metrics.locked_writes.inc_by(locked.failed_writes);
            if tick.is_multiple_of(DISK_TICKS) && !self.store.is_locked() {
                self.check_disk().await;
            }
        }
    }

    async fn check_disk(&self) {
        let fault = self.store.disk_fault().await;
        let metrics = &self.metrics.database;
        metrics.disk_full.set((fault == Some(DiskFault::Full)).into());
        metrics.read_only_file_system.set((fault == Some(DiskFault::ReadOnly)).into());
        let before = self.disk.replace(fault);
        if fault == before {
            return;
        }
        match self.read_only() {
            Some(reason) => {
                tracing::warn!("{reason}: nothing can be stored, but people are still identified");
            }
            None => tracing::info!("the disk can be written to again"),
        }
    }

    /// Why nothing can be stored. `None` if all is well.
    pub fn read_only(&self) -> Option<ReadOnly> {
        match self.disk.fault() {
            Some(DiskFault::Full) => Some(ReadOnly::DiskFull),
            Some(DiskFault::ReadOnly) => Some(ReadOnly::FileSystem),
            None => self.store.is_locked().then_some(ReadOnly::Locked),
        }
    }
}

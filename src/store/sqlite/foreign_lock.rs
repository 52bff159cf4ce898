//! Whether another process has a database locked, so that nothing can be written to it.

use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::error::is_busy;
use super::{BUSY_TIMEOUT, StoreError, beside};

/// The byte of the `-shm` file that SQLite locks for a write (`WAL_WRITE_LOCK`).
const WRITE_LOCK_BYTE: u64 = 120;

/// How often a write tries all the same while the lock seems to last. Another program may take it again and
/// again, with gaps between.
const TRY_INTERVAL: Duration = Duration::from_secs(10);

/// How often a lock that lasts is logged.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Watches the write lock of one file.
pub(in crate::store) struct ForeignLock {
    path: PathBuf,
    /// Never closed: that would release the locks that SQLite holds in this process.
    shared_memory: OnceLock<ManuallyDrop<File>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last_look: Option<Instant>,
    /// The first of the last looks in a row that found the lock.
    since: Option<Instant>,
    /// When a write last tried to get it.
    tried: Option<Instant>,
    /// Writes that failed since the last look.
    failed: u64,
    /// And since the lock was last announced or released.
    unannounced: u64,
    warned: Option<Instant>,
    is_announced: bool,
}

/// What was seen since the look before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// How long another process had the lock.
    pub time: Duration,
    /// Writes that failed.
    pub failed_writes: u64,
}

impl ForeignLock {
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), shared_memory: OnceLock::new(), seen: Mutex::default() }
    }

    /// Runs a statement that takes the lock. If another process has had it for long, most statements would
    /// wait in vain and make others wait, so they fail at once.
    ///
    /// # Errors
    /// [`StoreError::Locked`], or if the statement fails.
    pub async fn write<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        if self.is_held_long()
            && let Some(holder) = self.holder()
            && !self.may_try()
        {
            self.seen().failed += 1;
            return Err(StoreError::Locked { path: self.path.clone(), holder });
        }
        match statement.await {
            Err(error) if is_busy(&error) => {
                self.seen().failed += 1;
                // It may have ended just now.
                let holder = self.holder().ok_or(error)?;
                Err(StoreError::Locked { path: self.path.clone(), holder })
            }
            Err(error) => Err(error.into()),
            Ok(written) => {
                self.seen().since = None;
                Ok(written)
            }
        }
    }

    fn may_try(&self) -> bool {
        let mut seen = self.seen();
        let may_try = seen.tried.is_none_or(|tried| tried.elapsed() >= TRY_INTERVAL);
        if may_try {
            seen.tried = Some(Instant::now());
        }
        may_try
    }

    /// Whether another process has had the lock for longer than a write waits for it.
    pub fn is_held_long(&self) -> bool {
        self.seen().since.is_some_and(|since| since.elapsed() >= BUSY_TIMEOUT)
    }

    /// Looks whether another process has the lock, and logs it if it lasts or made a write fail. To be
    /// called once a second.
    pub fn look(&self) -> Locked {
        let holder = self.holder();
        let now = Instant::now();
        let mut seen = self.seen();
        let last = seen.last_look.replace(now);
        let failed_writes = std::mem::take(&mut seen.failed);
        seen.unannounced += failed_writes;
        let was_held = seen.since.is_some();
        seen.since = holder.is_some().then(|| seen.since.unwrap_or(now));
        let held = seen.since.map_or(Duration::ZERO, |since| now - since);
        let file = self.path.display();
        let failed = seen.unannounced;
        if (failed_writes > 0 || held >= BUSY_TIMEOUT)
            && seen.warned.is_none_or(|warned| now - warned >= WARN_INTERVAL)
        {
            (seen.warned, seen.is_announced, seen.unannounced) = (Some(now), true, 0);
            let holder = holder.as_deref().unwrap_or("another process");
            tracing::warn!(
                %file, held_seconds = held.as_secs(), failed_writes = failed,
                "{holder} has the file locked: nothing can be written until it ends its transaction"
            );
        } else if holder.is_none() && failed_writes == 0 && seen.is_announced {
            (seen.is_announced, seen.unannounced) = (false, 0);
            tracing::info!(%file, failed_writes = failed, "the file is no longer locked");
        }
        let time = if was_held && holder.is_some() {
            last.map_or(Duration::ZERO, |last| now - last)
        } else {
            Duration::ZERO
        };
        Locked { time, failed_writes }
    }

    /// The process that has the lock, in words. `None` if nobody has it, or this process.
    fn holder(&self) -> Option<String> {
        let file = match self.shared_memory.get() {
            Some(file) => file,
            None => {
                let file = ManuallyDrop::new(File::open(beside(&self.path, "-shm")).ok()?);
                self.shared_memory.get_or_init(|| file)
            }
        };
        let write_lock = Flock { start: WRITE_LOCK_BYTE, length: 1, ..FlockType::WriteLock.into() };
        let held = fcntl_getlk(&**file, &write_lock).ok()??;
        // It has no number if it is in another container.
        let Some(pid) = held.pid.map(|pid| pid.as_raw_nonzero().get()).filter(|pid| *pid > 0)
        else {
            return Some("a process outside this container".to_owned());
        };
        Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid} ({})", name.trim_end()),
            Err(_) => format!("process {pid}"),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A disk that is full, or cannot be written to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};
use sqlx::sqlite::SqliteConnectOptions;

use super::error::is_full;
use super::{Engine, Store, folder_of};

/// Once a write has failed, the disk counts as full until it has so much. This is more than the reserve
/// leaves, so that the reserve is filled first.
const ENOUGH_BYTES: u64 = 256 << 10;

/// Keeps in the process's memory what SQLite otherwise shares in a file. No other process can open the
/// database then.
pub(in crate::store) const UNSHARED_VFS: &str = "unix-excl";

/// How long a connection that failed may take to be closed, in pauses.
const CLOSING_PAUSES: u32 = 100;
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

/// Why the disk takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    Full,
    ReadOnly,
}

/// Whether a write failed since there was enough space.
#[derive(Default)]
pub(in crate::store) struct Disk(AtomicBool);

impl Disk {
    pub fn note_full(&self, is_full: bool) {
        self.0.store(is_full, Ordering::Relaxed);
    }
}

/// Connects, even if there is no space for the file with SQLite's shared memory: reading needs no other.
/// Returns whether that is so, and other connections need [`UNSHARED_VFS`].
pub(in crate::store) async fn connect_anyway<
    T,
    Connecting: Future<Output = Result<T, sqlx::Error>>,
>(
    options: SqliteConnectOptions,
    connect: impl Fn(SqliteConnectOptions) -> Connecting,
) -> Result<(T, bool), sqlx::Error> {
    match connect(options.clone()).await {
        Err(error) if is_full(&error) => {
            let file = options.get_filename().to_owned();
            let unshared = options.vfs(UNSHARED_VFS);
            // The connection that failed is closed in the background. Until then, SQLite gives this
            // process the file that the other one has open.
            let mut pauses = CLOSING_PAUSES;
            let connected = loop {
                match connect(unshared.clone()).await {
                    Err(error) if is_full(&error) && pauses > 0 => pauses -= 1,
                    connected => break connected?,
                }
                tokio::time::sleep(CLOSING_PAUSE).await;
            };
            tracing::warn!(
                file = %file.display(),
                "the disk is full; until the next start, no other program can open the file, such as \
                 `bipedalnet backup`"
            );
            Ok((connected, true))
        }
        connected => Ok((connected?, false)),
    }
}

impl Store {
    /// Whether the disk of SQLite takes no writes. After a write has failed, this tries one, of a value that changes:
    /// SQLite writes no others.
    pub async fn disk_fault(&self) -> Option<DiskFault> {
        let Engine::Sqlite(file) = &self.engine else { return None };
        let system = statvfs(folder_of(&file.path)).ok()?;
        if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Some(DiskFault::ReadOnly);
        }
        if !file.disk.0.load(Ordering::Relaxed) {
            return None;
        }
        let is_full =
            DiskSpace::from(&system).free_bytes < ENOUGH_BYTES || self.note_clock().await.is_err();
        file.disk.note_full(is_full);
        is_full.then_some(DiskFault::Full)
    }
}

/// Space on a file system.
pub struct DiskSpace {
    /// What this process may still use.
    pub free_bytes: u64,
    pub bytes: u64,
}

impl From<&StatVfs> for DiskSpace {
    fn from(system: &StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Self { free_bytes: bytes(system.f_bavail), bytes: bytes(system.f_blocks) }
    }
}

impl DiskSpace {
    /// The space beside a file. `None` if the system does not say.
    pub(in crate::store) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&statvfs(folder_of(path)).ok()?))
    }
}

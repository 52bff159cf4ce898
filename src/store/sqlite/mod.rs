//! What is SQLite's alone: its files, locks, log and backups.

mod backup;
mod disk;
pub(super) mod files;
mod foreign_lock;
mod inspection;
mod lock;
mod reserve;
mod restore;
mod upgrade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use backup::{BackedUp, BackupRequest, BackupTimes, backup};
pub(super) use disk::connect_anyway;
use disk::{Disk, UNSHARED_VFS};
pub use disk::{DiskFault, DiskSpace};
use files::OpenFiles;
pub use files::database_files;
pub(super) use foreign_lock::ForeignLock;
pub use foreign_lock::Locked;
pub(super) use inspection::inspect;
pub(super) use lock::DatabaseLock;
pub use lock::lock_holder;
use reserve::Reserve;
pub use restore::{RestoreRequest, Restored, restore};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
pub(super) use upgrade::MARK_ENCRYPTED;

use super::keyring::{Keyring, MasterKeyPlace, key_id, keyring_file};
use super::sql::{Pool, query, query_scalar};
use super::{
    AuditEvent, DAY_SECONDS, Database, Engine, FoundKey, Inspection, Progress, Store, StoreError,
    Transaction, audit, beside, date_and_time, error, folder_of, keyring, sealed, sql,
    unix_seconds, users,
};
use error::opening;

/// The same as in the first migration.
const APPLICATION_ID: i32 = 1_112_559_188;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read. More would only wait for processors.
const READERS: u32 = 4;

/// The largest page cache of a connection.
const CACHE_KIB: u32 = 2048;

/// How long a checkpoint waits for readers. It is tried again later.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(100);

/// SQLite copies the log to the database from 4 MiB on. It is longer than this only if a reader was there
/// for long, and SQLite itself does not truncate it.
const LONG_LOG_BYTES: u64 = 8 << 20;

/// How long a connection waits for another process that has the file locked, a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open database file.
pub(super) struct File {
    path: PathBuf,
    /// For checkpoints, which must not make the writer wait.
    pub checkpointer: SqlitePool,
    pub lock: ForeignLock,
    pub disk: Disk,
}

/// What a store keeps of its files.
pub(super) struct Files {
    open: OpenFiles,
    pub reserve: Arc<Reserve>,
    /// Held by a server, and by commands that must run alone.
    lock: Option<DatabaseLock>,
}

/// Opens a database. Creates or upgrades it if needed.
///
/// # Errors
/// If the file cannot be opened, is damaged, or is not a database of this version.
pub(super) async fn open(path: &Path) -> Result<Database, StoreError> {
    refuse_network(path)?;
    restore::refuse_unfinished(path)?;
    let path = path.to_owned();
    let fail = |error| opening(path.clone(), error);
    files::make_private(&path).map_err(|error| fail(error.into()))?;
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            // Connections to a local file do not break.
            .test_before_acquire(false)
    };
    let connect = |options| pool(1).connect_with(options);
    let connected = connect_anyway(writing_options(&path), connect).await;
    let (writer, is_unshared) = connected.map_err(fail)?;
    let mut options = options(&path);
    if is_unshared {
        options = options.vfs(UNSHARED_VFS);
    }
    check_origin(&writer, &path).await?;
    files::narrow_all(&path).map_err(|error| fail(error.into()))?;
    migrate(&writer).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
        MigrateError::VersionMissing(found) => {
            let known = MIGRATIONS.iter().map(|it| it.version).max().unwrap_or(0);
            StoreError::Newer { path: path.clone(), found, known }
        }
        error => StoreError::Version { path: path.clone(), error },
    })?;
    let checkpointing = options.clone().busy_timeout(CHECKPOINT_TIMEOUT);
    let checkpointer = pool(1).connect_lazy_with(checkpointing);
    let readers = pool(READERS).connect_with(options.read_only(true)).await.map_err(fail)?;
    let disk = Disk::default();
    disk.note_full(is_unshared);
    let lock = ForeignLock::of(&path);
    let file = File { path: path.clone(), checkpointer, lock, disk };
    Ok(Database {
        writer: Pool::Sqlite(writer),
        readers: Pool::Sqlite(readers),
        path,
        engine: Engine::Sqlite(Arc::new(file)),
    })
}

/// The version of a database's tables; 0 without tables.
pub(super) async fn schema_version(path: &Path) -> Result<i64, StoreError> {
    let fail = |error| opening(path.to_owned(), error);
    let mut file = read_only(path).await.map_err(fail)?;
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
    let exists: bool = sqlx::query_scalar(exists).fetch_one(&mut file).await.map_err(fail)?;
    let newest = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
    let version = match exists {
        true => sqlx::query_scalar(newest).fetch_one(&mut file).await.map_err(fail)?,
        false => 0,
    };
    file.close().await?;
    Ok(version)
}

/// Opens a database with its keyring. Creates or upgrades them if needed.
///
/// # Errors
/// As [`Store::open`].
pub(super) async fn open_store(
    path: &Path,
    place: MasterKeyPlace<'_>,
    lock: Option<DatabaseLock>,
) -> Result<Store, StoreError> {
    prepare(path, place, lock).await.map_err(|error| {
        if error.is_disk_full() { StoreError::DiskFull { path: path.to_owned() } } else { error }
    })
}

async fn prepare(
    path: &Path,
    place: MasterKeyPlace<'_>,
    lock: Option<DatabaseLock>,
) -> Result<Store, StoreError> {
    let reserve = Reserve::of(path);
    // The start itself writes.
    reserve.release_if_needed();
    let database = open(path).await?;
    let needed: Option<Vec<u8>> =
        query_scalar("SELECT id FROM keyring").fetch_optional(&database.writer).await?;
    let needed = needed.and_then(|id| key_id(&id));
    let keyring = Keyring::open(&keyring_file(path), needed, place).await?;
    if needed.is_none() {
        query("INSERT INTO keyring VALUES ($1)")
            .bind(&keyring.id().0[..])
            .execute(&database.writer)
            .await?;
    }
    let open = OpenFiles::of(&[path.to_owned(), keyring_file(path)]);
    let files = Files { open, reserve: Arc::new(reserve), lock };
    Store::prepare(database, keyring, Some(files)).await
}

impl Store {
    /// Checks that the files of the database and the keyring are still where they were opened.
    ///
    /// # Errors
    /// [`StoreError::FileGone`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.as_ref().map_or(Ok(()), |files| files.open.check())
    }

    /// Whether the database is locked to this process, so that no other server uses it.
    pub fn is_alone(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.lock.is_some())
    }

    /// Gives reserved space to a deletion on a full disk.
    pub(super) fn release_reserve(&self) {
        if let Some(files) = &self.files {
            files.reserve.release_if_needed();
        }
    }

    /// Reserves space for deletions on a full disk, as far as there is any.
    pub async fn reserve_space(&self) {
        let Some(files) = &self.files else { return };
        let reserve = Arc::clone(&files.reserve);
        // A panic is logged where it happens.
        let _ = tokio::task::spawn_blocking(move || reserve.fill()).await;
    }

    /// Looks whether another process has the database or the keyring locked. To be called once a second.
    pub fn look_for_locks(&self) -> Locked {
        let (mut time, mut failed_writes) = (Duration::ZERO, 0);
        for lock in self.locks() {
            let locked = lock.look();
            time = time.max(locked.time);
            failed_writes += locked.failed_writes;
        }
        Locked { time, failed_writes }
    }

    /// Whether another process has had the database or the keyring locked for so long that writes are
    /// refused.
    pub fn is_locked(&self) -> bool {
        self.locks().any(ForeignLock::is_held_long)
    }

    fn locks(&self) -> impl Iterator<Item = &ForeignLock> {
        let database = match &self.engine {
            Engine::Sqlite(file) => Some(&file.lock),
            Engine::Postgres(_) => None,
        };
        database.into_iter().chain(self.keyring.foreign_lock())
    }

    /// Empties the write-ahead log if it has grown long, unless a reader still needs it. Writers wait only
    /// while the file is truncated.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn shrink_log(&self) -> Result<(), StoreError> {
        let Engine::Sqlite(file) = &self.engine else { return Ok(()) };
        if file.log_bytes().await <= LONG_LOG_BYTES {
            return Ok(());
        }
        // Copies what readers allow, while others write.
        let (_, pages, copied): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&file.checkpointer).await?;
        if copied == pages {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&file.checkpointer).await?;
        }
        Ok(())
    }

    /// Space on the database's file system. `None` if the system does not say, or another one has it.
    pub async fn disk_space(&self) -> Option<DiskSpace> {
        let Engine::Sqlite(file) = &self.engine else { return None };
        let path = file.path.clone();
        tokio::task::spawn_blocking(move || DiskSpace::of(&path)).await.ok().flatten()
    }

    /// The largest page caches of all open connections to SQLite.
    pub fn cache_limit_bytes(&self) -> u64 {
        let Engine::Sqlite(file) = &self.engine else { return 0 };
        let connections = self.writer.size() + self.readers.size() + file.checkpointer.size();
        u64::from(connections * CACHE_KIB) << 10
    }
}

impl File {
    /// Empties the write-ahead log. Returns whether it did: a reader may still need it.
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.checkpointer)
            .await?;
        Ok(busy == 0)
    }

    /// Length of the write-ahead log.
    pub async fn log_bytes(&self) -> u64 {
        let log = beside(&self.path, "-wal");
        let log = tokio::task::spawn_blocking(move || std::fs::metadata(log)).await;
        // There is no log before the first change.
        log.ok().and_then(Result::ok).map_or(0, |log| log.len())
    }
}

/// Brings the tables up to date. Foreign keys are off meanwhile: SQLite changes some parts of a table only
/// by a new table, and dropping the old one would delete all rows that refer to it.
async fn migrate(writer: &SqlitePool) -> Result<(), MigrateError> {
    let mut connection = writer.acquire().await?;
    sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut *connection).await?;
    MIGRATIONS.run(&mut *connection).await?;
    sqlx::query("PRAGMA foreign_keys = ON").execute(&mut *connection).await?;
    Ok(())
}

/// What all connections have in common.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", format!("-{CACHE_KIB}"))
}

/// Opens a database that is only read.
pub(super) async fn read_only(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.busy_timeout(BUSY_TIMEOUT).connect().await
}

pub(super) fn writing_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // WAL with NORMAL may lose acknowledged commits on power loss.
        .synchronous(SqliteSynchronous::Full)
        // Biometric data: deleted rows are overwritten.
        .pragma("secure_delete", "ON")
}

/// Refuses damaged files and other programs' databases before anything is written.
async fn check_origin(connection: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let fail = |error| opening(path.to_owned(), error);
    let verdict: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await.map_err(fail)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), reason: verdict });
    }
    let id: i32 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(connection).await.map_err(fail)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(connection)
        .await
        .map_err(fail)?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    Ok(())
}

/// SQLite relies on file locks, which are unreliable on network file systems.
fn refuse_network(path: &Path) -> Result<(), StoreError> {
    match network_file_system(folder_of(path)) {
        Some(kind) => Err(StoreError::NetworkFileSystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

/// The network file system that a folder is on, if it is on one.
pub fn network_file_system(folder: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    // From linux/magic.h and the kernel's file systems. The field's width differs by platform.
    return match rustix::fs::statfs(folder).ok()?.f_type as u32 {
        0x6969 => Some("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("SMB"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    };
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests;

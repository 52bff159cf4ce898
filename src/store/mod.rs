//! The SQLite database: users, templates, models, jobs. All SQL is here, one file for each family of
//! tables. This file opens the database. `keyring` has the keys that its biometric data is encrypted
//! with.

mod api_keys;
mod audit;
mod backup;
mod challenges;
mod clock;
mod collections;
mod damage;
mod disk;
mod enrollments;
mod error;
mod failed_verifications;
mod files;
mod foreign_lock;
mod inspection;
mod keyring;
mod lock;
mod models;
mod renewal;
mod reserve;
mod restore;
mod sealed;
mod sessions;
mod stored_responses;
mod templates;
mod text;
mod trainees;
mod training_jobs;
mod upgrade;
mod users;
mod walks;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use audit::{AuditEntry, AuditEvent};
pub use backup::{BackedUp, BackupRequest, backup};
use clock::ClockWatch;
pub use clock::{Clock, ClockEvent, date_and_time, unix_seconds};
pub use collections::{Collection, CollectionLimits};
use damage::Damage;
use disk::{Disk, UNSHARED_VFS, connect_anyway};
pub use disk::{DiskFault, DiskSpace};
pub use enrollments::Enrollment;
pub use error::StoreError;
use error::{no_such_user, opening};
pub use failed_verifications::{CLIENT_SECONDS, ClientFailures, FailuresByKey};
use files::OpenFiles;
pub use files::database_files;
use foreign_lock::ForeignLock;
pub use foreign_lock::Locked;
pub use inspection::{FoundKey, Inspection};
use keyring::{Keyring, MasterKeyPlace, key_id, keyring_file};
pub use keyring::{MASTER_KEY_VARIABLE, SecretKey, rotate_master_key};
use lock::DatabaseLock;
pub use lock::lock_holder;
pub use models::{Comparison, Outcomes, StoredModel};
pub use renewal::renew_templates;
use reserve::Reserve;
pub use restore::{RestoreRequest, Restored, restore};
pub use sessions::{MAX_SESSION_WALKS, SessionKey, SessionWalk};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Sqlite};
pub use stored_responses::{IdempotentRequest, StoredResponse};
pub use templates::{ExportedTemplate, StoredTemplate};
pub use trainees::Trainee;
pub use training_jobs::{JobEnd, JobEvent, JobLength, JobRequest, Lease, TrainingJob};
pub use users::{Consent, User};
pub use walks::{COMPARED, ENROLLED_COMPARED};

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

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 24 * 60 * 60;

/// How long a connection waits for another process that has the file locked, a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables that need no master key, and the connections: one that writes, as SQLite allows one
/// writer, and some that read. Clones share them.
#[derive(Clone)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
    /// For checkpoints, which must not make the writer wait.
    checkpointer: SqlitePool,
    path: PathBuf,
    foreign_lock: Arc<ForeignLock>,
    disk: Arc<Disk>,
}

/// The database with its keyring. Clones share them.
#[derive(Clone)]
pub struct Store {
    database: Database,
    keyring: Arc<Keyring>,
    damage: Damage,
    files: Arc<OpenFiles>,
    reserve: Arc<Reserve>,
    clock: Arc<ClockWatch>,
    /// The number of the secret that templates are transformed with.
    template_generation: u32,
    /// Held by a server, and by commands that must run alone.
    lock: Option<Arc<DatabaseLock>>,
}

impl Deref for Store {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// Sizes of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Users.
    pub users: u64,
    /// Length of the database file.
    pub database_bytes: u64,
    /// Length of the write-ahead log.
    pub log_bytes: u64,
}

/// Connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    pub open: usize,
    pub idle: usize,
}

/// A change that is not committed yet. Dropped, it never was.
pub struct Transaction {
    inner: sqlx::Transaction<'static, Sqlite>,
    store: Store,
    /// Who acts, in the audit trail.
    actor: String,
}

impl Transaction {
    /// Commits the change. Once this returns, it survives a power loss.
    ///
    /// # Errors
    /// If the disk is full, for example. Nothing was changed then. Or if a file is gone, and the change
    /// with it.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.store.noting_full(self.inner.commit().await.map_err(StoreError::from))?;
        self.store.check_files()
    }
}

impl Database {
    /// Opens a database. Creates or upgrades it if needed.
    ///
    /// # Errors
    /// If the file cannot be opened, is damaged, or is not a database of this version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
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
        let foreign_lock = Arc::new(ForeignLock::of(&path));
        let disk = Arc::<Disk>::default();
        disk.note_full(is_unshared);
        Ok(Self { writer, readers, checkpointer, path, foreign_lock, disk })
    }

    /// Runs a statement of the writer. Waits if another process has the file locked, but not for long.
    ///
    /// # Errors
    /// If the file is locked, or the statement fails.
    async fn write<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.noting_full(self.foreign_lock.write(statement).await)
    }

    /// Finishes all statements and closes the file.
    pub async fn close(&self) {
        // The last connection to close writes the log back, which a reader cannot.
        self.readers.close().await;
        self.checkpointer.close().await;
        self.writer.close().await;
    }
}

impl Store {
    /// Opens a database and its keyring. Creates or upgrades them if needed. `master_key_file` is the
    /// setting; see [`MasterKey::find`](keyring::MasterKey::find).
    ///
    /// # Errors
    /// If a file cannot be opened, is damaged, or is not of this version, or the master key is missing
    /// or wrong.
    pub async fn open(path: &Path, master_key_file: Option<&Path>) -> Result<Self, StoreError> {
        let place = MasterKeyPlace { file: master_key_file, database: path };
        Self::open_with(path, place, None).await
    }

    /// Like [`Store::open`], for a server. Another server would go on with users that this one erases.
    ///
    /// # Errors
    /// Also if another server has the database open.
    pub async fn open_alone(
        path: &Path,
        master_key_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let lock = DatabaseLock::take(path)?;
        let place = MasterKeyPlace { file: master_key_file, database: path };
        Self::open_with(path, place, Some(Arc::new(lock))).await
    }

    async fn open_with(
        path: &Path,
        place: MasterKeyPlace<'_>,
        lock: Option<Arc<DatabaseLock>>,
    ) -> Result<Self, StoreError> {
        Self::prepare(path, place, lock).await.map_err(|error| {
            if error.is_disk_full() {
                StoreError::DiskFull { path: path.to_owned() }
            } else {
                error
            }
        })
    }

    async fn prepare(
        path: &Path,
        place: MasterKeyPlace<'_>,
        lock: Option<Arc<DatabaseLock>>,
    ) -> Result<Self, StoreError> {
        let reserve = Reserve::of(path);
        // The start itself writes.
        reserve.release_if_needed();
        let database = Database::open(path).await?;
        let needed: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM keyring").fetch_optional(&database.writer).await?;
        let needed = needed.and_then(|id| key_id(&id));
        let keyring = Keyring::open(&keyring_file(path), needed, place).await?;
        if needed.is_none() {
            sqlx::query("INSERT INTO keyring VALUES (?)")
                .bind(&keyring.id().0[..])
                .execute(&database.writer)
                .await?;
        }
        let mut store = Self {
            database,
            keyring: Arc::new(keyring),
            damage: Damage::default(),
            files: Arc::new(OpenFiles::of(&[path.to_owned(), keyring_file(path)])),
            reserve: Arc::new(reserve),
            clock: Arc::default(),
            template_generation: 0,
            lock,
        };
        // If nothing can be written for now, this is done later, or by the next start.
        let or_later = |done: Result<(), StoreError>| match done {
            Err(error) if error.is_temporary() => Ok(()),
            done => done,
        };
        or_later(store.destroy_erased_keys().await)?;
        store.upgrade().await?;
        store.find_template_generation().await?;
        or_later(store.forget_damage().await)?;
        or_later(store.chain_audit_notes().await)?;
        Ok(store)
    }

    /// Whether the database is locked to this process, so that no other server uses it.
    pub fn is_alone(&self) -> bool {
        self.lock.is_some()
    }

    /// Checks that the files of the database and the keyring are still where they were opened.
    ///
    /// # Errors
    /// [`StoreError::FileGone`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    /// Reserves space for deletions on a full disk, as far as there is any.
    pub async fn reserve_space(&self) {
        let reserve = Arc::clone(&self.reserve);
        // A panic is logged where it happens.
        let _ = tokio::task::spawn_blocking(move || reserve.fill()).await;
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// If a file is gone, or the statement fails.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        self.check_files()?;
        // Not deferred: a transaction that reads first may later be refused the right to write.
        let begin = || self.write(self.writer.begin_with("BEGIN IMMEDIATE"));
        let inner = match begin().await {
            // When the disk is full, SQLite ends a transaction by itself. sqlx does not notice, and
            // would refuse this connection for ever.
            Err(StoreError::Statement(sqlx::Error::InvalidSavePointStatement)) => {
                self.writer.acquire().await?.close().await?;
                begin().await?
            }
            begun => begun?,
        };
        Ok(Transaction { inner, store: self.clone(), actor: audit::SERVER.to_owned() })
    }

    /// Begins a transaction that only reads, and waits for nobody.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn begin_reading(&self) -> Result<Transaction, StoreError> {
        let inner = self.readers.begin().await?;
        Ok(Transaction { inner, store: self.clone(), actor: audit::SERVER.to_owned() })
    }

    /// Looks whether another process has the database or the keyring locked. To be called once a second.
    pub fn look_for_locks(&self) -> Locked {
        let [database, keyring] =
            [&self.foreign_lock, self.keyring.foreign_lock()].map(|it| it.look());
        Locked {
            time: database.time.max(keyring.time),
            failed_writes: database.failed_writes + keyring.failed_writes,
        }
    }

    /// Whether another process has had the database or the keyring locked for so long that writes are
    /// refused.
    pub fn is_locked(&self) -> bool {
        self.foreign_lock.is_held_long() || self.keyring.foreign_lock().is_held_long()
    }

    /// Removes what was deleted from where it still is: destroys keys of deleted users, and empties the
    /// write-ahead log. Returns whether it did: a reader may still need the log.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        self.destroy_erased_keys().await?;
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.checkpointer)
            .await?;
        Ok(busy == 0)
    }

    /// Empties the write-ahead log if it has grown long, unless a reader still needs it. Writers wait only
    /// while the file is truncated.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn shrink_log(&self) -> Result<(), StoreError> {
        if self.log_bytes().await <= LONG_LOG_BYTES {
            return Ok(());
        }
        // Copies what readers allow, while others write.
        let (_, pages, copied): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&self.checkpointer).await?;
        if copied == pages {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.checkpointer).await?;
        }
        Ok(())
    }

    /// The number of users, and the lengths of the files.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn sizes(&self) -> Result<Sizes, StoreError> {
        let (users, database_bytes): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM users), page_count * page_size
             FROM pragma_page_count, pragma_page_size",
        )
        .fetch_one(&self.readers)
        .await?;
        let log_bytes = self.log_bytes().await;
        Ok(Sizes { users: users as u64, database_bytes: database_bytes as u64, log_bytes })
    }

    /// Length of the write-ahead log.
    async fn log_bytes(&self) -> u64 {
        let log = beside(&self.path, "-wal");
        let log = tokio::task::spawn_blocking(move || std::fs::metadata(log)).await;
        // There is no log before the first change.
        log.ok().and_then(Result::ok).map_or(0, |log| log.len())
    }

    /// Space on the database's file system. `None` if the system does not say.
    pub async fn disk_space(&self) -> Option<DiskSpace> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || DiskSpace::of(&path)).await.ok().flatten()
    }

    /// Connections that write, and those that read.
    pub fn connections(&self) -> (PoolUse, PoolUse) {
        let used =
            |pool: &SqlitePool| PoolUse { open: pool.size() as usize, idle: pool.num_idle() };
        (used(&self.writer), used(&self.readers))
    }

    /// The largest page caches of all open connections.
    pub fn cache_limit_bytes(&self) -> u64 {
        let pools = [&self.writer, &self.readers, &self.checkpointer];
        let connections: u32 = pools.iter().map(|pool| pool.size()).sum();
        u64::from(connections * CACHE_KIB) << 10
    }

    /// Finishes all statements and closes the files.
    pub async fn close(&self) {
        self.database.close().await;
        self.keyring.close().await;
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
async fn read_only(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.busy_timeout(BUSY_TIMEOUT).connect().await
}

fn writing_options(path: &Path) -> SqliteConnectOptions {
    options(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // WAL with NORMAL may lose acknowledged commits on power loss.
        .synchronous(SqliteSynchronous::Full)
        // Biometric data: deleted rows are overwritten.
        .pragma("secure_delete", "ON")
}

/// The path of a file beside another: its name with a suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
mod tests {
    use bipedalnet_client::api::WalkSource;
    use bipedalnet_core::identity::UserId;

    use super::*;

    #[tokio::test]
    async fn walks_of_before_there_were_models_keep_their_templates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqlitePool::connect_with(options).await.unwrap();
        let migrations: Vec<_> = MIGRATIONS.iter().take(5).cloned().collect();
        Migrator { migrations: migrations.into(), ..Migrator::DEFAULT }.run(&old).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO users VALUES ('ann', 1);
             INSERT INTO enrollments VALUES (7, 'ann', 'fedcba9876543210', x'0000803f00000040', 9, 2);
             INSERT INTO recordings VALUES (7, x'00', 2);
             INSERT INTO fingerprints VALUES (1, 'ann', 7, x'00');",
        )
        .execute(&old)
        .await
        .unwrap();
        old.close().await;

        let store = Store::open(&path, None).await.unwrap();
        let ann: UserId = "ann".parse().unwrap();
        let walks = store.begin().await.unwrap().templates("fedcba9876543210", 2).await.unwrap();
        let [StoredTemplate { enrollment: 7, template, .. }] = &walks[..] else {
            panic!("{walks:?}")
        };
        let square: f32 = template.values().iter().map(|it| it * it).sum();
        assert!((square - 5.0).abs() < 0.1 && template.windows() == 9, "{template:?}");
        assert!(store.recording_of(&ann, 7).await.unwrap().is_some());
        let [walk] = &store.enrollments_of(&ann).await.unwrap()[..] else { panic!() };
        assert_eq!(walk.source, WalkSource::Enrollment);
        let mut writing = store.begin().await.unwrap();
        assert!(writing.refuse_other_models("fedcba9876543210").await.is_ok());
        let refused = writing.refuse_other_models("0123456789abcdef").await;
        assert!(matches!(refused, Err(StoreError::OtherModel { .. })), "{refused:?}");
        // The walk goes with all that was made of it.
        writing.erase_user(&ann).await.unwrap();
        writing.commit().await.unwrap();
        for table in ["templates", "recordings", "fingerprints"] {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let count: i64 = sqlx::query_scalar(count).fetch_one(&store.readers).await.unwrap();
            assert_eq!(count, 0, "{table}");
        }
    }
}

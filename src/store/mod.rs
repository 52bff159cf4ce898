//! The database: users, templates, models, jobs. All SQL is here, one file for each family of tables.
//! SQLite and PostgreSQL share it, in a language that both understand (`sql`); `sqlite` and `postgres` have
//! what is theirs alone. This file opens the database. `keyring` has the keys that its biometric data is
//! encrypted with.

mod api_keys;
mod audit;
mod challenges;
mod clock;
mod collections;
mod copy;
mod damage;
mod enrollments;
mod error;
mod failed_verifications;
mod inspection;
mod keyring;
mod migration;
mod models;
mod number;
mod postgres;
mod progress;
mod renewal;
mod sealed;
mod sessions;
mod sql;
mod sqlite;
mod stored_responses;
mod templates;
mod text;
mod trainees;
mod training_jobs;
mod users;
mod walks;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use audit::{AuditEntry, AuditEvent};
use clock::ClockWatch;
pub use clock::{Clock, ClockEvent, date_and_time, unix_seconds};
pub use collections::{Collection, CollectionLimits};
pub use copy::{Copied, CopyRequest, copy};
use damage::Damage;
pub use enrollments::Enrollment;
pub use error::StoreError;
use error::no_such_user;
pub use failed_verifications::{CLIENT_SECONDS, ClientFailures, FailuresByKey};
pub use inspection::{FoundKey, Inspection, RunningServer};
use keyring::{Keyring, MasterKeyPlace};
pub use keyring::{MASTER_KEY_VARIABLE, SecretKey, rotate_master_key};
pub use migration::migrate;
pub use models::{Comparison, Outcomes, StoredModel};
use number::Number;
use postgres::Server;
pub use postgres::{ChangeToken, Changed, Snapshot, State};
use progress::Progress;
pub use renewal::renew_templates;
use sealed::Owner;
pub use sessions::{MAX_SESSION_WALKS, SessionKey, SessionWalk};
use sql::{Pool, Tx, query_as};
pub use sqlite::{
    BackedUp, BackupRequest, DiskFault, DiskSpace, RestoreRequest, Restored, backup,
    database_files, lock_holder, network_file_system, restore,
};
use sqlite::{File, Files};
pub use stored_responses::{IdempotentRequest, StoredResponse};
pub use templates::{ExportedTemplate, StoredTemplate};
pub use trainees::Trainee;
pub use training_jobs::{JobEnd, JobEvent, JobLength, JobRequest, Lease, TrainingJob};
use users::UserCount;
pub use users::{Consent, User};
pub use walks::{COMPARED, ENROLLED_COMPARED};

use crate::config::DatabaseAddress;

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The tables that need no master key, and the connections: those that write, and those that read.
/// Clones share them.
#[derive(Clone)]
pub struct Database {
    writer: Pool,
    readers: Pool,
    /// The file, or the address without the password.
    path: PathBuf,
    engine: Engine,
}

/// What one of the two databases needs.
#[derive(Clone)]
enum Engine {
    Sqlite(Arc<File>),
    Postgres(Arc<Server>),
}

/// The database with its keyring. Clones share them.
#[derive(Clone)]
pub struct Store {
    database: Database,
    keyring: Arc<Keyring>,
    damage: Damage,
    /// `None` with PostgreSQL.
    files: Option<Arc<Files>>,
    clock: Arc<ClockWatch>,
    user_count: Arc<UserCount>,
    /// The number of the secret that templates are transformed with.
    template_generation: u32,
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
    inner: Tx,
    store: Store,
    /// Who acts, in the audit trail.
    actor: String,
    /// The change that it is, for other servers.
    change: Option<ChangeToken>,
    /// The user whose key was needed last. It is needed several times.
    owner: Option<Owner>,
    /// Number and hash of the audit trail's newest entry, if this transaction added it.
    newest_entry: Option<(i64, Vec<u8>)>,
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
    /// If it cannot be opened, is damaged, or is not a database of this version.
    pub async fn open(address: impl Into<DatabaseAddress>) -> Result<Self, StoreError> {
        match address.into() {
            DatabaseAddress::Sqlite(path) => sqlite::open(&path).await,
            DatabaseAddress::Postgres(server) => postgres::open(&server).await,
        }
    }

    /// Runs a statement of the writer. Waits if another process has the file locked, but not for long.
    ///
    /// # Errors
    /// If the file is locked, or the statement fails.
    async fn write<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match &self.engine {
            Engine::Sqlite(file) => self.noting_full(file.lock.write(statement).await),
            Engine::Postgres(_) => Ok(statement.await?),
        }
    }

    /// Begins a transaction that writes.
    async fn begin_writing(&self) -> Result<Tx, StoreError> {
        // Not deferred: a transaction that reads first may later be refused the right to write.
        self.write(self.writer.begin_with("BEGIN IMMEDIATE", postgres::BEGIN)).await
    }

    /// Notes if a write failed because the disk is full.
    fn noting_full<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Engine::Sqlite(file) = &self.engine
            && done.as_ref().is_err_and(StoreError::is_disk_full)
        {
            file.disk.note_full(true);
        }
        done
    }

    /// Finishes all statements and closes the database.
    pub async fn close(&self) {
        // The last connection to close writes the log of SQLite back, which a reader cannot.
        self.readers.close().await;
        match &self.engine {
            Engine::Sqlite(file) => file.checkpointer.close().await,
            Engine::Postgres(server) => server.close().await,
        }
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
    pub async fn open(
        address: impl Into<DatabaseAddress>,
        master_key_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        match address.into() {
            DatabaseAddress::Sqlite(path) => {
                let place = MasterKeyPlace { file: master_key_file, database: &path };
                sqlite::open_store(&path, place, None).await
            }
            DatabaseAddress::Postgres(server) => {
                postgres::open_store(&server, master_key_file).await
            }
        }
    }

    /// Like [`Store::open`], for a server. Another server of the same file would go on with users that
    /// this one erases. Servers may share PostgreSQL.
    ///
    /// # Errors
    /// Also if another server has the file open.
    pub async fn open_alone(
        address: impl Into<DatabaseAddress>,
        master_key_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        match address.into() {
            DatabaseAddress::Sqlite(path) => {
                let lock = sqlite::DatabaseLock::take(&path)?;
                let place = MasterKeyPlace { file: master_key_file, database: &path };
                sqlite::open_store(&path, place, Some(lock)).await
            }
            server => Self::open(server, master_key_file).await,
        }
    }

    /// A store over an open database and its keyring. Finishes what an earlier process left undone.
    async fn prepare(
        database: Database,
        keyring: Keyring,
        files: Option<Files>,
    ) -> Result<Self, StoreError> {
        let mut store = Self {
            database,
            keyring: Arc::new(keyring),
            damage: Damage::default(),
            files: files.map(Arc::new),
            clock: Arc::default(),
            user_count: Arc::default(),
            template_generation: 0,
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

    /// Begins a transaction.
    ///
    /// # Errors
    /// If a file is gone, or the statement fails.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        self.check_files()?;
        let inner = match self.begin_writing().await {
            // When the disk is full, SQLite ends a transaction by itself. sqlx does not notice, and
            // would refuse this connection for ever.
            Err(StoreError::Statement(sqlx::Error::InvalidSavePointStatement)) => {
                if let Pool::Sqlite(writer) = &self.writer {
                    writer.acquire().await?.close().await?;
                }
                self.begin_writing().await?
            }
            begun => begun?,
        };
        Ok(self.transaction(inner))
    }

    /// As [`Store::begin`], while no other server of the same database writes.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub async fn begin_alone(&self) -> Result<Transaction, StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => self.begin().await,
            Engine::Postgres(_) => {
                let inner = self.writer.begin_with("BEGIN IMMEDIATE", postgres::BEGIN_ALONE);
                Ok(self.transaction(inner.await?))
            }
        }
    }

    fn transaction(&self, inner: Tx) -> Transaction {
        let actor = audit::SERVER.to_owned();
        Transaction {
            inner,
            store: self.clone(),
            actor,
            change: None,
            owner: None,
            newest_entry: None,
        }
    }

    /// Begins a transaction that only reads, and waits for nobody.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn begin_reading(&self) -> Result<Transaction, StoreError> {
        let inner = self.readers.begin_with("BEGIN", postgres::BEGIN_READING).await?;
        Ok(self.transaction(inner))
    }

    /// Removes what was deleted from where it still is: destroys keys of deleted users, and empties the
    /// write-ahead log of SQLite. Returns whether it did: a reader may still need the log.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        self.destroy_erased_keys().await?;
        match &self.engine {
            Engine::Sqlite(file) => file.empty_log().await,
            Engine::Postgres(_) => Ok(true),
        }
    }

    /// The number of users, and the sizes of the database.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn sizes(&self) -> Result<Sizes, StoreError> {
        let (users, database_bytes): (i64, i64) = query_as(sql::either(
            "SELECT (SELECT count(*) FROM users), page_count * page_size
             FROM pragma_page_count, pragma_page_size",
            "SELECT (SELECT count(*) FROM users), pg_database_size(current_database())",
        ))
        .fetch_one(&self.readers)
        .await?;
        let log_bytes = match &self.engine {
            Engine::Sqlite(file) => file.log_bytes().await,
            Engine::Postgres(_) => 0,
        };
        Ok(Sizes { users: users as u64, database_bytes: database_bytes as u64, log_bytes })
    }

    /// Connections that write, and those that read.
    pub fn connections(&self) -> (PoolUse, PoolUse) {
        let used = |pool: &Pool| PoolUse { open: pool.size() as usize, idle: pool.num_idle() };
        (used(&self.writer), used(&self.readers))
    }

    /// Finishes all statements and closes the files.
    pub async fn close(&self) {
        self.database.close().await;
        self.keyring.close().await;
    }
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

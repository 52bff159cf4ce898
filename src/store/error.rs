//! Why the database cannot be used.

use std::path::PathBuf;

use bipedalnet_core::identity::{CollectionId, UserId};
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite cannot open the file.
    #[error("database {path}: {error}; is the folder there and writable?", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: sqlx::Error,
    },
    /// The file is damaged, or is no database.
    #[error("database {path} is damaged or not SQLite: {reason}; restore a backup or choose another file", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A server has the database open.
    #[error("database {path} is used by {holder}; a database serves one server at a time, so stop it first", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The server's process and host.
        holder: String,
    },
    /// Servers of a PostgreSQL database run that would go on with what a command changes.
    #[error("database {path} is used by {servers} running servers; stop all of them first", path = path.display())]
    ServersRun {
        /// The address.
        path: PathBuf,
        servers: i64,
    },
    /// A pooler gives each transaction another session, and the address does not say so.
    #[error("database {path} is behind a pooler that gives each transaction another session; add `?statement-cache-capacity=0` to its address", path = path.display())]
    Pooler {
        /// The address.
        path: PathBuf,
    },
    /// A database of another program.
    #[error("database {path} belongs to another program; choose another file", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of this program wrote the tables.
    #[error("database {path} was made by a newer version of this program (schema {found}; this one knows {known}); start that version, or restore a backup from before the upgrade with `bipedalnet restore`", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of its newest migration.
        found: i64,
        /// That of this program.
        known: i64,
    },
    /// Another version of this program wrote the tables.
    #[error("database {path}: {error}; start the version of this program that wrote it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Which migration differs.
        error: MigrateError,
    },
    /// It holds templates of another model, and no active model.
    #[error("database {path} holds templates of model {found}, which model {wanted} cannot read; start with model {found}, or with a new database", path = path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model whose templates it holds.
        found: String,
        /// The model that is loaded.
        wanted: String,
    },
    /// The master key is missing or malformed.
    #[error("master key {place}: {reason}")]
    MasterKey {
        /// Where it should be.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The keyring cannot be used.
    #[error("keyring {path}: {reason}", path = path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The user's key is not in the keyring: an older copy of the database, or of the keyring, was
    /// restored.
    #[error("the user's key is missing from the keyring; delete the user and enroll again")]
    KeyLost,
    /// The system gives no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The disk is full, and the program cannot start without a change of the database.
    #[error("the disk of {path} is full, and this start must write to it: it creates or upgrades the database; free some space and start again", path = path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// Another process has had the file locked for long.
    #[error("{path} is locked by {holder}; nothing was changed", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process.
        holder: String,
    },
    /// A server started while the disk was full, so it shares the file with nobody.
    #[error("{path} is in use by a server that started while the disk was full, so no other program can read it; free some space and restart the server", path = path.display())]
    Unshared {
        /// The file.
        path: PathBuf,
    },
    /// A file was deleted or replaced while it was open.
    #[error("{path} was deleted or replaced while the server runs; put it back, or restart the server", path = path.display())]
    FileGone {
        /// The file.
        path: PathBuf,
    },
    /// A row that this program cannot have written.
    #[error("database {path}, {row}: {reason}; restore a backup", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The chain of the audit trail is broken.
    #[error("audit entry {number}: {reason}; entries from there on prove nothing")]
    AuditBroken {
        /// Number of the first entry that is wrong.
        number: i64,
        reason: &'static str,
    },
    /// The user does not exist.
    #[error("there is no user {0}")]
    NoSuchUser(UserId),
    /// The collection does not exist.
    #[error("there is no collection {0}")]
    NoSuchCollection(CollectionId),
    /// The collection cannot be deleted.
    #[error("{}", in_use(.collection, *.users))]
    CollectionInUse {
        collection: CollectionId,
        /// Its number of users.
        users: u64,
    },
    /// The limit of collections is reached.
    #[error("there are {most} collections, the maximum")]
    TooManyCollections {
        /// The limit.
        most: u64,
    },
    /// The collection's limit of users is reached.
    #[error("the collection has {most} users, its maximum; delete some, or raise its max_users")]
    CollectionFull {
        /// The limit.
        most: u64,
    },
    /// The user has no such walk.
    #[error("user {user} has no enrollment {id}")]
    NoSuchEnrollment {
        user: UserId,
        /// Number of the walk.
        id: i64,
    },
    /// The model does not exist.
    #[error("there is no model {0}")]
    NoSuchModel(String),
    /// The model may not be deleted.
    #[error("model {model} {reason}")]
    ModelInUse {
        model: String,
        /// Why not.
        reason: &'static str,
    },
    /// The training job does not exist.
    #[error("there is no training job {0}")]
    NoSuchJob(i64),
    /// The queue of training jobs is full.
    #[error("{most} training jobs are waiting, the maximum")]
    TooManyJobs {
        /// The limit.
        most: u32,
    },
    /// The limit of users is reached.
    #[error("there are {most} users, the maximum")]
    TooManyUsers {
        /// The limit.
        most: u64,
    },
    /// The user's limit of walks is reached.
    #[error("user {user} has {most} enrolled walks, the maximum")]
    TooManyEnrollments {
        user: UserId,
        /// The limit.
        most: u64,
    },
    /// The key does not exist.
    #[error("there is no API key {0}; `bipedalnet keys list` lists all keys")]
    NoSuchApiKey(String),
    /// The file is on a network file system. SQLite cannot rely on its locks.
    #[error("database {path} is on a network file system ({kind}), where SQLite loses data; choose a local disk", path = path.display())]
    NetworkFileSystem {
        /// The file.
        path: PathBuf,
        /// Which file system.
        kind: &'static str,
    },
    /// A backup was not made.
    #[error("backup {path}: {reason}; the database is unharmed", path = path.display())]
    Backup {
        /// The backup.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A backup was not restored.
    #[error("backup {path}: {reason}; nothing was changed", path = path.display())]
    Restore {
        /// The backup.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A database was not copied.
    #[error("copy to {path}: {reason}; nothing was copied", path = path.display())]
    Copy {
        /// The database that it should be copied to.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A restore ended between the old database and the new one.
    #[error("a restore of database {path} is not finished: {reason}; start the server, or restore again", path = path.display())]
    RestoreUnfinished {
        /// The database.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    OtherRequest,
    /// Another server of the same database carried the request out meanwhile.
    #[error("another server has carried this request out")]
    AnsweredElsewhere,
    /// The stored response named a user who was deleted since.
    #[error("this request was carried out; its response named a user who was deleted since")]
    AnswerErased,
    /// A statement failed, on a full disk for example.
    #[error("database: {0}")]
    Statement(#[from] sqlx::Error),
}

impl StoreError {
    /// Whether another process held the file for too long.
    pub fn is_lock(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Statement(error) => is_busy(error),
            _ => false,
        }
    }

    /// Whether a retry may succeed soon: the file was locked, or no connection became free.
    pub fn is_transient(&self) -> bool {
        self.is_lock() || matches!(self, Self::Statement(error) if is_away(error))
    }

    /// Whether nothing can be written for now: the disk is full, or another process has the file locked.
    /// Reading works.
    pub fn is_temporary(&self) -> bool {
        self.is_transient() || self.is_disk_full()
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Statement(error) => is_full(error),
            _ => false,
        }
    }
}

/// Whether the database cannot be reached or used for now.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        // Of PostgreSQL: no connection, a conflict with another server, resources, an operator who stops it,
        // a timeout, or a standby.
        sqlx::Error::Database(error) => {
            const CLASSES: [&str; 6] = ["08", "40", "53", "57", "55P03", "25006"];
            let code = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code);
            code.is_some_and(|code| CLASSES.iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

/// Turns a broken foreign key into [`StoreError::NoSuchUser`].
pub(super) fn no_such_user(error: sqlx::Error, user: &UserId) -> StoreError {
    broken_reference(error, StoreError::NoSuchUser(user.clone()))
}

/// Turns a broken foreign key into what it means.
pub(super) fn broken_reference(error: sqlx::Error, meaning: StoreError) -> StoreError {
    match error.as_database_error() {
        Some(reason) if reason.is_foreign_key_violation() => meaning,
        _ => StoreError::Statement(error),
    }
}

/// Distinguishes a damaged file, or one that is no database, from one that cannot be opened.
pub(super) fn opening(path: PathBuf, error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        Some(11 | 26) => StoreError::Damaged { path, reason: error.to_string() },
        _ if is_full(&error) => StoreError::DiskFull { path },
        _ => StoreError::Open { path, error },
    }
}

/// Whether another connection has the file locked.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY and SQLITE_LOCKED.
    matches!(primary_code(error), Some(5 | 6))
}

/// Whether the disk is full.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE, which is the same for shared memory.
    primary_code(error) == Some(13) || code(error) == Some(4874)
}

/// Whether a table cannot be read: it is damaged, of another version, or no SQLite at all.
pub(super) fn is_unreadable(error: &sqlx::Error) -> bool {
    // SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_CANTOPEN and SQLITE_NOTADB.
    is_of_other_version(error) || matches!(primary_code(error), Some(10 | 11 | 14 | 26))
}

/// Whether there is no such table or column, as in a database of another version.
pub(super) fn is_of_other_version(error: &sqlx::Error) -> bool {
    // SQLITE_ERROR.
    primary_code(error) == Some(1)
}

/// SQLite's primary result code.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    Some(code(error)? & 0xff)
}

/// SQLite's extended result code.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.try_downcast_ref::<SqliteError>()?.code()?.parse().ok()
}

fn in_use(collection: &CollectionId, users: u64) -> String {
    if collection.is_default() {
        format!("collection {collection} is always there")
    } else {
        format!("collection {collection} has {users} users; delete them first")
    }
}

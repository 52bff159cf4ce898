//! SQLite: users and the templates of their walks. All SQL of this crate is here: opening in this
//! file, then one file for each family of tables.

mod enrollments;
mod replies;
mod users;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use crate::identity::UserId;
pub use enrollments::{Enrollment, StoredTemplate};
pub use replies::{Reply, Request};
pub use users::User;

/// As in the first migration.
const APPLICATION_ID: i32 = 1_112_559_188;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The database. Clones share one connection: SQLite has one writer at a time, and what is read
/// often is kept in memory elsewhere.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
}

/// A change under way.
pub struct Writing {
    transaction: Transaction<'static, Sqlite>,
    path: PathBuf,
}

impl Writing {
    /// Ends the change. Once this returns it survives a power loss.
    ///
    /// # Errors
    /// When the disk is full, for example; nothing was changed then.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

/// Why the database did not do what was asked.
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
    /// The file is damaged, or no database.
    #[error("database {path} is damaged or not SQLite: {reason}; restore a backup or choose another file", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A database of another program.
    #[error("database {path} belongs to another program; choose another file", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Its tables were laid out by another version of this program.
    #[error("database {path}: {error}; start the version of this program that wrote it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Which migration is at odds.
        error: MigrateError,
    },
    /// It holds templates of another model.
    #[error("database {path} holds templates of model {found}, which model {wanted} cannot read; start with model {found}, or with a new database", path = path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The model whose templates it holds.
        found: String,
        /// The model that is loaded.
        wanted: String,
    },
    /// A row that this program cannot have written.
    #[error("database {path}, {row}: {reason}; restore a backup", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row at fault.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The user does not exist.
    #[error("there is no user {0}")]
    NoSuchUser(UserId),
    /// The user has no such walk.
    #[error("user {user} has no enrollment {id}")]
    NoSuchEnrollment {
        /// The user.
        user: UserId,
        /// Number of the walk.
        id: i64,
    },
    /// The idempotency key stands for another request.
    #[error("this idempotency key was used for another request")]
    OtherRequest,
    /// A statement failed, on a full disk for example.
    #[error("database: {0}")]
    Statement(#[from] sqlx::Error),
}

impl Store {
    /// Opens a database, and makes or upgrades it where needed.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or is not a database of this version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // WAL with NORMAL may lose acknowledged commits on power loss.
            .synchronous(SqliteSynchronous::Full)
            // Biometric data: what is deleted is overwritten.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(5));
        let opened = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await;
        let path = path.to_owned();
        let pool = match opened {
            Ok(pool) => pool,
            Err(error) => return Err(opening(path, error)),
        };
        let store = Self { pool, path };
        store.check_origin().await?;
        MIGRATIONS.run(&store.pool).await.map_err(|error| match error {
            MigrateError::Execute(error) => opening(store.path.clone(), error),
            error => StoreError::Version { path: store.path.clone(), error },
        })?;
        Ok(store)
    }

    /// Refuses damaged files and other programs' databases before anything is written.
    async fn check_origin(&self) -> Result<(), StoreError> {
        let fail = |error| opening(self.path.clone(), error);
        let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&self.pool)
            .await
            .map_err(fail)?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: self.path.clone(), reason: verdict });
        }
        let id: i32 = sqlx::query_scalar("PRAGMA application_id")
            .fetch_one(&self.pool)
            .await
            .map_err(fail)?;
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
            .fetch_one(&self.pool)
            .await
            .map_err(fail)?;
        if id != APPLICATION_ID && (id != 0 || tables > 0) {
            return Err(StoreError::Foreign { path: self.path.clone() });
        }
        Ok(())
    }

    /// Begins a change. Dropped without [`Writing::commit`], it never was.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn write(&self) -> Result<Writing, StoreError> {
        // Not deferred: a transaction that reads first may later be refused the right to write.
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Writing { transaction, path: self.path.clone() })
    }

    /// Empties the write-ahead log, in which erased rows would live on.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn scrub_log(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await?;
        Ok(())
    }

    /// Finishes what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Tells a file that is no database, or a broken one, from one that cannot be reached.
fn opening(path: PathBuf, error: sqlx::Error) -> StoreError {
    // SQLITE_CORRUPT and SQLITE_NOTADB, in the low byte of extended codes.
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok());
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => StoreError::Damaged { path, reason: error.to_string() },
        _ => StoreError::Open { path, error },
    }
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

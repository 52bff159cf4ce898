//! A look into a database that changes nothing, for `bipedalnet doctor`.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::api_keys::read_api_keys;
use super::backup::{BackupTimes, read_backup_times};
use super::keyring::{MasterKey, MasterKeyPlace, check_keyring, keyring_file, own_key_file};
use super::restore::refuse_unfinished;
use super::{APPLICATION_ID, BUSY_TIMEOUT, MIGRATIONS, StoreError, beside, lock_holder, opening};
use crate::access::ApiKey;

/// What a database, its keyring and its master key look like.
pub struct Inspection {
    /// What SQLite's quick check says, unless all is well.
    pub damage: Option<String>,
    /// Version of the tables.
    pub version: i64,
    /// Whether changes are in a log that could not be read, as the file that belongs to it is missing.
    pub has_unread_log: bool,
    /// Users; 0 if the tables have another version than this program's.
    pub users: u64,
    /// API keys, revoked ones too. None if the tables have another version.
    pub api_keys: Vec<ApiKey>,
    /// Rows that are set aside because they cannot be decrypted.
    pub damaged_rows: u64,
    /// When the server last noted the time.
    pub clock_seen_at_unix_seconds: Option<i64>,
    /// What the clock showed before a leap that no operator has confirmed.
    pub clock_leapt_from_unix_seconds: Option<i64>,
    /// When it was backed up.
    pub backup_times: Option<BackupTimes>,
    /// Id and file of the active model.
    pub active_model: Option<(String, Vec<u8>)>,
    /// The master key.
    pub master_key: FoundKey,
}

/// Whether there is a master key, and where.
pub enum FoundKey {
    /// It opens the keyring.
    Opens {
        /// A file or a variable.
        place: String,
        /// Whether it lies where the program makes it, beside the database.
        is_beside_database: bool,
    },
    /// There is none where this process may look. Another process may have it as a credential.
    Missing,
    /// It cannot be read, or it does not open the keyring, or there is no keyring.
    Unusable(StoreError),
    /// The database needs none yet.
    NotNeeded,
}

impl Inspection {
    /// Version of the tables that this program makes.
    pub fn own_version() -> i64 {
        MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
    }

    /// Looks into a database, which may be in use. Makes no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no database of this program.
    pub async fn of(path: &Path, master_key_file: Option<&Path>) -> Result<Self, StoreError> {
        let fail = |error| opening(path.to_owned(), error);
        refuse_unfinished(path)?;
        let is_in_use = lock_holder(path).is_some();
        let mut database = look_into(path, is_in_use).await?;
        let id: i32 = sqlx::query_scalar("PRAGMA application_id")
            .fetch_one(&mut database)
            .await
            .map_err(fail)?;
        if id != APPLICATION_ID {
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
        let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut database)
            .await
            .map_err(fail)?;
        let version: i64 =
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
                .fetch_one(&mut database)
                .await
                .map_err(fail)?;
        let mut inspection = Self {
            damage: (verdict != "ok").then_some(verdict),
            version,
            has_unread_log: has_unread_log(path),
            users: 0,
            api_keys: Vec::new(),
            damaged_rows: 0,
            clock_seen_at_unix_seconds: None,
            clock_leapt_from_unix_seconds: None,
            backup_times: None,
            active_model: None,
            master_key: FoundKey::NotNeeded,
        };
        if version == Self::own_version() {
            inspection.read_tables(&mut database, path).await?;
            let needed: Option<Vec<u8>> =
                sqlx::query_scalar("SELECT id FROM keyring").fetch_optional(&mut database).await?;
            if let Some(needed) = needed {
                inspection.master_key = find_key(path, &needed, master_key_file, is_in_use).await;
            }
        }
        database.close().await?;
        Ok(inspection)
    }

    async fn read_tables(
        &mut self,
        database: &mut SqliteConnection,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.api_keys = read_api_keys(&mut *database, path).await?;
        self.backup_times = Some(read_backup_times(&mut *database).await?);
        let (users, damaged, seen, leapt): (i64, i64, Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM users),
                    (SELECT count(*) FROM templates WHERE damaged = 1)
                      + (SELECT count(*) FROM recordings WHERE damaged = 1)
                      + (SELECT count(*) FROM fingerprints WHERE damaged = 1),
                    (SELECT seen_at_unix_seconds FROM retention_clock),
                    (SELECT leapt_from_unix_seconds FROM retention_clock)",
        )
        .fetch_one(&mut *database)
        .await?;
        (self.users, self.damaged_rows) = (users as u64, damaged as u64);
        self.clock_seen_at_unix_seconds = seen;
        self.clock_leapt_from_unix_seconds = leapt;
        self.active_model = sqlx::query_as("SELECT id, file FROM models WHERE active = 1")
            .fetch_optional(database)
            .await?;
        Ok(())
    }
}

/// Opens a database and makes no file. SQLite would make those of the log, or change them, unless it is
/// told that nobody else uses the database.
async fn look_into(path: &Path, is_in_use: bool) -> Result<SqliteConnection, StoreError> {
    let has_log = log_bytes(path) > 0 || is_in_use;
    let reads_log = has_log && beside(path, "-shm").exists();
    if is_in_use && !reads_log {
        return Err(StoreError::Unshared { path: path.to_owned() });
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(!reads_log);
    let opened = options.busy_timeout(BUSY_TIMEOUT).connect().await;
    opened.map_err(|error| opening(path.to_owned(), error))
}

fn has_unread_log(path: &Path) -> bool {
    log_bytes(path) > 0 && !beside(path, "-shm").exists()
}

fn log_bytes(path: &Path) -> u64 {
    beside(path, "-wal").metadata().map_or(0, |log| log.len())
}

async fn find_key(
    path: &Path,
    needed: &[u8],
    master_key_file: Option<&Path>,
    is_in_use: bool,
) -> FoundKey {
    let own = own_key_file(path);
    let key = match MasterKey::find(MasterKeyPlace { file: master_key_file, database: path }) {
        Ok(key) => key,
        Err(StoreError::MasterKey { place, .. })
            if place == own.display().to_string() && !own.exists() =>
        {
            return FoundKey::Missing;
        }
        Err(error) => return FoundKey::Unusable(error),
    };
    let keyring = keyring_file(path);
    let checked = match keyring.exists() {
        true => match look_into(&keyring, is_in_use).await {
            Ok(file) => check_keyring(file, &keyring, needed, &key).await,
            Err(error) => Err(error),
        },
        false => Err(StoreError::Keyring {
            path: keyring,
            reason: "it is missing, and the database cannot be read without it".to_owned(),
        }),
    };
    match checked {
        Ok(()) => {
            let is_beside_database = key.place == own.display().to_string();
            FoundKey::Opens { place: key.place, is_beside_database }
        }
        Err(error) => FoundKey::Unusable(error),
    }
}

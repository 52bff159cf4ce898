//! A look into a database that changes nothing, for `bipedalnet doctor`.

use std::path::Path;

use super::api_keys::read_api_keys;
use super::sql::{Pool, query_as};
use super::sqlite::BackupTimes;
use super::{DatabaseAddress, StoreError, postgres, sqlite};
use crate::access::ApiKey;

/// What a database, its keyring and its master key look like.
pub struct Inspection {
    /// What SQLite's quick check says, unless all is well.
    pub damage: Option<String>,
    /// Version of the tables.
    pub version: i64,
    /// Version of the tables that this program makes.
    pub own_version: i64,
    /// Whether this program can use the tables as they are.
    pub is_usable: bool,
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
    /// The servers that run. `None` for SQLite, whose lock tells.
    pub servers: Option<Vec<RunningServer>>,
}

/// A server of a PostgreSQL database.
#[derive(sqlx::FromRow)]
pub struct RunningServer {
    pub host: String,
    /// The program's version.
    pub version: String,
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
    /// Looks into a database, which may be in use. Makes no file and no table.
    ///
    /// # Errors
    /// If it cannot be read, or is no database of this program.
    pub async fn of(
        address: &DatabaseAddress,
        master_key_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        match address {
            DatabaseAddress::Sqlite(path) => sqlite::inspect(path, master_key_file).await,
            DatabaseAddress::Postgres(server) => postgres::inspect(server, master_key_file).await,
        }
    }

    /// An inspection that has read the version of the tables and nothing else.
    pub(super) fn new(version: i64, own_version: i64, is_usable: bool) -> Self {
        Self {
            damage: None,
            version,
            own_version,
            is_usable,
            has_unread_log: false,
            users: 0,
            api_keys: Vec::new(),
            damaged_rows: 0,
            clock_seen_at_unix_seconds: None,
            clock_leapt_from_unix_seconds: None,
            backup_times: None,
            active_model: None,
            master_key: FoundKey::NotNeeded,
            servers: None,
        }
    }

    /// Reads what both databases have.
    pub(super) async fn read_tables(
        &mut self,
        database: &Pool,
        path: &Path,
    ) -> Result<(), StoreError> {
        self.api_keys = read_api_keys(database, path).await?;
        let (users, damaged, seen, leapt): (i64, i64, Option<i64>, Option<i64>) = query_as(
            "SELECT (SELECT count(*) FROM users),
                    (SELECT count(*) FROM templates WHERE damaged)
                      + (SELECT count(*) FROM recordings WHERE damaged)
                      + (SELECT count(*) FROM fingerprints WHERE damaged),
                    (SELECT seen_at_unix_seconds FROM retention_clock),
                    (SELECT leapt_from_unix_seconds FROM retention_clock)",
        )
        .fetch_one(database)
        .await?;
        (self.users, self.damaged_rows) = (users as u64, damaged as u64);
        self.clock_seen_at_unix_seconds = seen;
        self.clock_leapt_from_unix_seconds = leapt;
        self.active_model =
            query_as("SELECT id, file FROM models WHERE active").fetch_optional(database).await?;
        Ok(())
    }
}

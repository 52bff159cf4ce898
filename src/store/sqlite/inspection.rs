//! Looks into a file and changes nothing.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use super::backup::read_backup_times;
use super::keyring::{MasterKey, MasterKeyPlace, check_keyring, keyring_file, own_key_file};
use super::restore::refuse_unfinished;
use super::sql::Pool;
use super::{
    APPLICATION_ID, BUSY_TIMEOUT, FoundKey, Inspection, MIGRATIONS, StoreError, beside,
    lock_holder, opening,
};

/// As [`Inspection::of`].
pub(in crate::store) async fn inspect(
    path: &Path,
    master_key_file: Option<&Path>,
) -> Result<Inspection, StoreError> {
    let fail = |error| opening(path.to_owned(), error);
    refuse_unfinished(path)?;
    let is_in_use = lock_holder(path).is_some();
    let database = look_into(path, is_in_use).await?;
    let id: i32 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&database).await.map_err(fail)?;
    if id != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let verdict: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&database).await.map_err(fail)?;
    let version: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(&database)
        .await
        .map_err(fail)?;
    let own_version = MIGRATIONS.iter().map(|it| it.version).max().unwrap_or_default();
    let mut inspection = Inspection::new(version, own_version, version == own_version);
    inspection.damage = (verdict != "ok").then_some(verdict);
    inspection.has_unread_log = has_unread_log(path);
    if inspection.is_usable {
        inspection.backup_times = Some(read_backup_times(&database).await?);
        let pool = Pool::Sqlite(database.clone());
        inspection.read_tables(&pool, path).await?;
        let needed: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM keyring").fetch_optional(&database).await?;
        if let Some(needed) = needed {
            inspection.master_key = find_key(path, &needed, master_key_file, is_in_use).await;
        }
    }
    database.close().await;
    Ok(inspection)
}

/// Opens a database and makes no file. SQLite would make those of the log, or change them, unless it is
/// told that nobody else uses the database.
async fn look_into(path: &Path, is_in_use: bool) -> Result<SqlitePool, StoreError> {
    let has_log = log_bytes(path) > 0 || is_in_use;
    let reads_log = has_log && beside(path, "-shm").exists();
    if is_in_use && !reads_log {
        return Err(StoreError::Unshared { path: path.to_owned() });
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(!reads_log);
    let one = SqlitePoolOptions::new().max_connections(1);
    let opened = one.connect_with(options.busy_timeout(BUSY_TIMEOUT)).await;
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
            Ok(file) => check_keyring(&file, &keyring, needed, &key).await,
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

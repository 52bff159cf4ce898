//! Backups of a database, which may be in use.

use std::fs::File;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::keyring::keyring_file;
use super::{APPLICATION_ID, BUSY_TIMEOUT, StoreError, folder_of, opening};

/// Copies a database, which may be in use, to a new file, and then its keyring, if it has one. The copies
/// hold everything that was acknowledged before the call. Each gets its name only when it is complete
/// and on disk. The keyring goes to `keyring`, which it replaces, or to a new file beside the copy.
/// Returns where it is.
///
/// # Errors
/// If a file cannot be read or is another program's, a new file exists already, or it cannot be
/// written.
pub async fn backup(
    database: &Path,
    copy: &Path,
    keyring: Option<&Path>,
) -> Result<Option<PathBuf>, StoreError> {
    let own = keyring_file(copy);
    let keyring_copy = keyring.unwrap_or(&own);
    for new in [copy].into_iter().chain(keyring.is_none().then_some(keyring_copy)) {
        if new.exists() {
            let reason = "it exists already; choose another name".to_owned();
            return Err(StoreError::Backup { path: new.to_owned(), reason });
        }
    }
    copy_file(database, copy, APPLICATION_ID, false).await?;
    // After the database, so that no key is missing.
    let source = keyring_file(database);
    if !source.exists() {
        return Ok(None);
    }
    copy_file(&source, keyring_copy, super::keyring::APPLICATION_ID, keyring.is_some()).await?;
    Ok(Some(keyring_copy.to_owned()))
}

async fn copy_file(
    source: &Path,
    copy: &Path,
    application_id: i32,
    replace: bool,
) -> Result<(), StoreError> {
    let fail = |reason: String| StoreError::Backup { path: copy.to_owned(), reason };
    let last = |error: std::io::Error| fail(error.to_string());
    let folder = folder_of(copy);
    // Only its owner can read it. Deleted on drop, unless it gets its name.
    let part = tempfile::Builder::new().prefix(".backup-").tempfile_in(folder).map_err(last)?;
    copy_to(source, part.path(), application_id, &fail).await?;
    part.as_file().sync_all().map_err(last)?;
    let named = if replace { part.persist(copy) } else { part.persist_noclobber(copy) };
    named.map_err(|error| last(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(last)
}

async fn copy_to(
    database: &Path,
    part: &Path,
    application_id: i32,
    fail: &impl Fn(String) -> StoreError,
) -> Result<(), StoreError> {
    let open = async |path: &Path| -> Result<SqliteConnection, StoreError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let opened = options.busy_timeout(BUSY_TIMEOUT).connect().await;
        opened.map_err(|error| opening(path.to_owned(), error))
    };
    let mut source = open(database).await?;
    let id: i32 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut source)
        .await
        .map_err(|error| opening(database.to_owned(), error))?;
    if id != application_id {
        return Err(StoreError::Foreign { path: database.to_owned() });
    }
    let name = part.to_str().ok_or_else(|| fail("its name is not UTF-8".to_owned()))?;
    sqlx::query("VACUUM INTO ?")
        .bind(name)
        .execute(&mut source)
        .await
        .map_err(|error| fail(error.to_string()))?;
    source.close().await?;
    let mut made = open(part).await?;
    let verdict: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut made).await?;
    made.close().await?;
    match &verdict[..] {
        "ok" => Ok(()),
        verdict => Err(fail(format!("the copy is damaged: {verdict}"))),
    }
}

//! Backups of a database, which may be in use.

use std::fs::File;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::{APPLICATION_ID, BUSY_TIMEOUT, StoreError, opening};

/// Copies a database, which may be in use, to a new file. The copy holds everything that was
/// acknowledged before the call. It gets its name only when it is complete and on disk.
///
/// # Errors
/// If the database cannot be read or is another program's, the new file exists already, or it
/// cannot be written.
pub async fn backup(database: &Path, copy: &Path) -> Result<(), StoreError> {
    let fail = |reason: String| StoreError::Backup { path: copy.to_owned(), reason };
    if copy.exists() {
        return Err(fail("it exists already; choose another name".to_owned()));
    }
    let last = |error: std::io::Error| fail(error.to_string());
    let folder = copy.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Deleted on drop, unless it gets its name.
    let part = tempfile::Builder::new().prefix(".backup-").tempfile_in(folder).map_err(last)?;
    copy_to(database, part.path(), &fail).await?;
    part.as_file().sync_all().map_err(last)?;
    part.persist_noclobber(copy).map_err(|error| last(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(last)
}

async fn copy_to(
    database: &Path,
    part: &Path,
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
    if id != APPLICATION_ID {
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

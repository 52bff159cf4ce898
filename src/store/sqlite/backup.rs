//! Backups of a database, which may be in use.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteExecutor, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};

use super::error::is_of_other_version;
use super::keyring::{self, keyring_file};
use super::restore::refuse_unfinished;
use super::sql::Pool;
use super::{
    APPLICATION_ID, DAY_SECONDS, Store, StoreError, date_and_time, folder_of, opening, options,
    read_only, unix_seconds,
};

/// Notes in a database when a backup was begun that succeeded, or failed.
const NOTE_BACKUP: &str = "UPDATE backup_times SET succeeded_at_unix_seconds = ?";
const NOTE_FAILURE: &str = "UPDATE backup_times SET failed_at_unix_seconds = ?";

/// Copies that are not complete have names that begin with this.
const PART: &str = ".backup-";

/// What to copy, and where to.
#[derive(Clone, Copy, Debug)]
pub struct BackupRequest<'a> {
    pub database: &'a Path,
    /// A new file, or a folder, in which the copy gets a name with the time. `None` copies the keyring
    /// only.
    pub copy: Option<&'a Path>,
    /// Replaced if it exists. By default, it is a new file beside the copy of the database.
    pub keyring: Option<&'a Path>,
    /// How many copies the folder keeps, if it is one.
    pub keep: Option<usize>,
}

/// Where the copies are.
#[derive(Debug, Default)]
pub struct BackedUp {
    pub copy: Option<PathBuf>,
    /// `None` if the database has no keyring yet.
    pub keyring: Option<PathBuf>,
    /// Older copies that were deleted.
    pub deleted: usize,
    /// Why the database does not have the time of this backup.
    pub not_noted: Option<String>,
}

/// When backups were made. 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BackupTimes {
    pub succeeded_at_unix_seconds: i64,
    pub failed_at_unix_seconds: i64,
    pub database_created_at_unix_seconds: i64,
}

impl Store {
    /// When this database was backed up. `None` with PostgreSQL, whose own tools do that.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn backup_times(&self) -> Result<Option<BackupTimes>, StoreError> {
        match &self.readers {
            Pool::Sqlite(readers) => read_backup_times(readers).await.map(Some),
            Pool::Postgres(..) => Ok(None),
        }
    }
}

/// When a database was backed up.
///
/// # Errors
/// If the statement fails.
pub(in crate::store) async fn read_backup_times(
    database: impl SqliteExecutor<'_>,
) -> Result<BackupTimes, StoreError> {
    let times = sqlx::query_as(
        "SELECT backup_times.*, (SELECT unixepoch(min(installed_on)) FROM _sqlx_migrations)
         AS database_created_at_unix_seconds FROM backup_times",
    );
    Ok(times.fetch_one(database).await?)
}

/// Copies a database, which may be in use, and then its keyring, if it has one. The copies hold
/// everything that was acknowledged before the call. Each is checked, and gets its name only when it is
/// complete and on disk. The database has the time of the last backup, and of the last that failed.
///
/// # Errors
/// If a file cannot be read or is another program's, a new file exists already, or it cannot be
/// written.
pub async fn backup(request: BackupRequest<'_>) -> Result<BackedUp, StoreError> {
    let began_at_unix_seconds = unix_seconds();
    let note =
        async |statement| note(options(request.database), statement, began_at_unix_seconds).await;
    match make(&request, began_at_unix_seconds).await {
        Ok(mut made) => {
            if made.copy.is_some() {
                made.not_noted = note(NOTE_BACKUP).await.err().map(|error| error.to_string());
            }
            Ok(made)
        }
        Err(error) => {
            // Otherwise nothing shows that this is a database of this program.
            if matches!(error, StoreError::Backup { .. }) {
                // What failed comes first.
                let _ = note(NOTE_FAILURE).await;
            }
            Err(error)
        }
    }
}

async fn make(request: &BackupRequest<'_>, unix_seconds: i64) -> Result<BackedUp, StoreError> {
    let BackupRequest { database, copy, keyring, keep } = *request;
    refuse_unfinished(database)?;
    let mut made = BackedUp::default();
    let folder = copy.filter(|copy| copy.is_dir());
    let series = folder.map(|folder| Series::of(database, folder));
    made.copy = match &series {
        Some(series) => Some(series.next(unix_seconds)),
        None => copy.map(Path::to_owned),
    };
    let own = made.copy.as_deref().map(keyring_file);
    for new in made.copy.iter().chain(own.iter().filter(|_| keyring.is_none())) {
        if new.exists() {
            let reason = "it exists already; choose another name".to_owned();
            return Err(StoreError::Backup { path: new.clone(), reason });
        }
    }
    if let Some(copy) = &made.copy {
        copy_file(database, copy, APPLICATION_ID, NOTE_BACKUP, false).await?;
    }
    // After the database, so that no key is missing.
    let source = keyring_file(database);
    if source.exists()
        && let Some(copy) = keyring.or(own.as_deref())
    {
        let id = keyring::APPLICATION_ID;
        copy_file(&source, copy, id, keyring::NOTE_COPY, keyring.is_some()).await?;
        made.keyring = Some(copy.to_owned());
    }
    if let (Some(series), Some(keep)) = (series, keep) {
        made.deleted = series.rotate(keep).map_err(|error| StoreError::Backup {
            path: series.folder.clone(),
            reason: format!("the backup is made, but older ones were not deleted: {error}"),
        })?;
    }
    Ok(made)
}

/// Copies in a folder: `NAME-20261128T061500Z.db` for a database `NAME.db`.
struct Series {
    folder: PathBuf,
    prefix: String,
}

impl Series {
    fn of(database: &Path, folder: &Path) -> Self {
        let name = database.file_stem().unwrap_or_default().to_string_lossy();
        Self { folder: folder.to_owned(), prefix: format!("{name}-") }
    }

    fn next(&self, unix_seconds: i64) -> PathBuf {
        let time = date_and_time(unix_seconds).replace(" UTC", "Z").replace(' ', "T");
        self.folder.join(format!("{}{}.db", self.prefix, time.replace(['-', ':'], "")))
    }

    /// Deletes all but the newest. Files with other names stay.
    fn rotate(&self, keep: usize) -> io::Result<usize> {
        let mut copies = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let time = name.and_then(|it| it.strip_prefix(&self.prefix)?.strip_suffix("Z.db"));
            let is_time = |time: &str| {
                time.len() == 15 && time.bytes().all(|it| it.is_ascii_digit() || it == b'T')
            };
            if time.is_some_and(is_time) {
                copies.push(path);
            }
        }
        // In the order of time.
        copies.sort_unstable();
        copies.truncate(copies.len().saturating_sub(keep));
        copies.iter().try_for_each(fs::remove_file)?;
        Ok(copies.len())
    }
}

async fn copy_file(
    source: &Path,
    copy: &Path,
    application_id: i32,
    note_time: &'static str,
    replace: bool,
) -> Result<(), StoreError> {
    let fail = |reason: String| StoreError::Backup { path: copy.to_owned(), reason };
    let last = |error: std::io::Error| fail(error.to_string());
    let folder = folder_of(copy);
    remove_leftovers(folder);
    // Only its owner can read it. Deleted on drop, unless it gets its name.
    let part = tempfile::Builder::new().prefix(PART).tempfile_in(folder).map_err(last)?;
    let began_at_unix_seconds = unix_seconds();
    copy_to(source, part.path(), application_id, &fail).await?;
    let options = SqliteConnectOptions::new().filename(part.path());
    let options = options.journal_mode(SqliteJournalMode::Memory);
    let noted = note(options, note_time, began_at_unix_seconds).await;
    noted.map_err(|error| fail(error.to_string()))?;
    part.as_file().sync_all().map_err(last)?;
    let named = if replace { part.persist(copy) } else { part.persist_noclobber(copy) };
    named.map_err(|error| last(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(last)
}

/// Removes what backups left that were killed: parts that are older than a day.
fn remove_leftovers(folder: &Path) {
    let is_old = |file: &fs::DirEntry| {
        let age = file.metadata().and_then(|it| it.modified()).map(|at| at.elapsed());
        file.file_name().to_string_lossy().starts_with(PART)
            && matches!(age, Ok(Ok(age)) if age.as_secs() > DAY_SECONDS as u64)
    };
    for file in fs::read_dir(folder).into_iter().flatten().flatten().filter(is_old) {
        // The next backup tries again.
        let _ = fs::remove_file(file.path());
    }
}

async fn note(
    options: SqliteConnectOptions,
    statement: &'static str,
    unix_seconds: i64,
) -> Result<(), sqlx::Error> {
    let mut database = options.connect().await?;
    match sqlx::query(statement).bind(unix_seconds).execute(&mut database).await {
        // An earlier version notes no times.
        Err(error) if !is_of_other_version(&error) => Err(error),
        _ => database.close().await,
    }
}

/// Copies a database to a file that is empty, and checks the copy.
pub(in crate::store) async fn copy_to(
    database: &Path,
    part: &Path,
    application_id: i32,
    fail: &impl Fn(String) -> StoreError,
) -> Result<(), StoreError> {
    let open =
        async |path: &Path| read_only(path).await.map_err(|error| opening(path.to_owned(), error));
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

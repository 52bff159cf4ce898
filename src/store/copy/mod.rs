//! Copies a database with its keyring to an empty one: from SQLite to PostgreSQL, back, or from one to
//! another of its kind. `tables.rs` has the tables.

mod tables;

use std::path::Path;

use sqlx::AssertSqlSafe;
use tables::TABLES;

use super::keyring::{StoredKeyring, keyring_file};
use super::sql::{Tx, either, query, query_as, query_scalar};
use super::sqlite::{DatabaseLock, MARK_ENCRYPTED, files};
use super::{
    AuditEvent, Database, DatabaseAddress, Engine, Store, StoreError, folder_of, postgres,
};

/// What to copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyRequest<'a> {
    /// It is brought up to date first.
    pub from: &'a DatabaseAddress,
    /// An empty database of PostgreSQL, or a file, which need not exist.
    pub to: &'a DatabaseAddress,
    pub master_key_file: Option<&'a Path>,
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// Each table with its number of rows, which is that of the other database.
    pub tables: Vec<(&'static str, i64)>,
    /// Keys of users.
    pub keys: usize,
}

/// Copies a database and its keyring, which keeps its master key. If the program ends at any point, the
/// copy is whole or the target is empty.
///
/// # Errors
/// If a server uses one of the two, the target is not empty, the master key is wrong, or a statement
/// fails.
pub async fn copy(request: CopyRequest<'_>) -> Result<Copied, StoreError> {
    if is_same(request.from, request.to) {
        return Err(refusal(request.to, "it is the database itself".to_owned()));
    }
    for address in [request.from, request.to] {
        if let DatabaseAddress::Postgres(server) = address {
            postgres::refuse_newer(server).await?;
        }
    }
    let source = Store::open_alone(request.from, request.master_key_file).await?;
    let copied = copy_from(&source, request).await;
    source.close().await;
    copied
}

fn refusal(to: &DatabaseAddress, reason: String) -> StoreError {
    StoreError::Copy { path: to.to_string().into(), reason }
}

fn is_same(one: &DatabaseAddress, other: &DatabaseAddress) -> bool {
    match (one, other) {
        (DatabaseAddress::Sqlite(one), DatabaseAddress::Sqlite(other)) => {
            let real = |path: &Path| path.canonicalize().ok();
            one == other || real(one).is_some_and(|one| real(other) == Some(one))
        }
        _ => one.to_string() == other.to_string(),
    }
}

async fn copy_from(source: &Store, request: CopyRequest<'_>) -> Result<Copied, StoreError> {
    source.refuse_running_servers().await?;
    let lock = request.to.file().map(DatabaseLock::take).transpose()?;
    request.to.file().map_or(Ok(()), |path| give(path, request.to))?;
    let target = Database::open(request.to).await?;
    let copied = match target.refuse_running_servers().await {
        Ok(()) => fill(source, &target, request).await,
        Err(error) => Err(error),
    };
    target.close().await;
    drop(lock);
    copied
}

async fn fill(
    source: &Store,
    target: &Database,
    request: CopyRequest<'_>,
) -> Result<Copied, StoreError> {
    let mut from = source.readers.begin_with("BEGIN", postgres::BEGIN_READING).await?;
    let keyring = source.keyring.stored().await?;
    let mut to = target.writer.begin_with("BEGIN IMMEDIATE", postgres::BEGIN_COPYING).await?;
    refuse_filled(&mut to, request.to).await?;
    if let Engine::Postgres(_) = target.engine {
        // First, so that no server makes one meanwhile.
        keyring.insert(&mut to).await?;
    }
    let triggers = switch_triggers_off(&mut to).await?;
    tables::clear(&mut to).await?;
    for table in TABLES {
        tables::copy_rows(&mut from, &mut to, table).await?;
    }
    tables::copy_counters(&mut from, &mut to).await?;
    let mut copied = Copied { tables: Vec::new(), keys: keyring.keys.len() };
    for table in TABLES {
        let rows = tables::count(&mut to, table).await?;
        let expected = tables::count(&mut from, table).await?;
        if rows != expected {
            let reason = format!("{table} has {rows} rows, and should have {expected}");
            return Err(refusal(request.to, reason));
        }
        copied.tables.push((table, rows));
    }
    // It names transactions of another server.
    query("UPDATE replies SET change = NULL").execute(&mut to).await?;
    for statement in triggers {
        query(AssertSqlSafe(statement)).execute(&mut to).await?;
    }
    let kind = match source.engine {
        Engine::Sqlite(_) => "sqlite",
        Engine::Postgres(_) => "postgres",
    };
    AuditEvent::DatabaseCopied(kind).note(&mut to).await?;
    // One that started meanwhile may have changed what was copied already.
    source.refuse_running_servers().await?;
    if let Some(path) = request.to.file() {
        finish_file(&mut to, path, &keyring).await?;
        give(&keyring_file(path), request.to)?;
    }
    to.commit().await?;
    Ok(copied)
}

/// Lets the service's own user open a file that root made.
fn give(file: &Path, to: &DatabaseAddress) -> Result<(), StoreError> {
    let given = files::give_to_owner_of(folder_of(file), file);
    given.map_err(|error| refusal(to, format!("{}: {error}", file.display())))
}

/// Refuses a target that holds more than its tables.
async fn refuse_filled(to: &mut Tx, address: &DatabaseAddress) -> Result<(), StoreError> {
    let choose = "choose a new file, or an empty database of PostgreSQL";
    if let Some((table, rows)) = tables::filled(to).await? {
        let reason = format!("it is not empty: {table} has {rows} rows; {choose}");
        return Err(refusal(address, reason));
    }
    let has_keyring: bool = query_scalar(either(
        "SELECT EXISTS (SELECT 1 FROM keyring)",
        "SELECT EXISTS (SELECT 1 FROM keyring.root) OR EXISTS (SELECT 1 FROM keyring.keys)",
    ))
    .fetch_one(to)
    .await?;
    if has_keyring {
        return Err(refusal(address, format!("it has a keyring already; {choose}")));
    }
    match address.file().map(keyring_file) {
        Some(keyring) if keyring.exists() => {
            let keyring = keyring.display();
            let reason = format!(
                "there is a keyring {keyring} already; choose another name, or delete it if a copy \
                 left it that did not come to its end"
            );
            Err(refusal(address, reason))
        }
        _ => Ok(()),
    }
}

/// Switches triggers off that guard the audit trail. Returns the statements that switch them on.
async fn switch_triggers_off(to: &mut Tx) -> Result<Vec<String>, StoreError> {
    let triggers: Vec<(String, String)> = query_as(either(
        "SELECT 'DROP TRIGGER ' || name, sql FROM sqlite_master WHERE type = 'trigger'",
        "SELECT DISTINCT format('ALTER TABLE %I DISABLE TRIGGER USER', event_object_table),
             format('ALTER TABLE %I ENABLE TRIGGER USER', event_object_table)
         FROM information_schema.triggers WHERE trigger_schema = current_schema()",
    ))
    .fetch_all(&mut *to)
    .await?;
    let mut on = Vec::new();
    for (off, statement) in triggers {
        query(AssertSqlSafe(off)).execute(&mut *to).await?;
        on.push(statement);
    }
    Ok(on)
}

/// What a file of SQLite needs besides its tables. Its keyring is there before the rest is committed: a
/// database without one could not be read.
async fn finish_file(to: &mut Tx, path: &Path, keyring: &StoredKeyring) -> Result<(), StoreError> {
    query("INSERT INTO keyring VALUES ($1)").bind(&keyring.id.0[..]).execute(&mut *to).await?;
    query(MARK_ENCRYPTED).execute(to).await?;
    keyring.write(&keyring_file(path)).await
}

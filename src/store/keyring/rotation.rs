//! Rotation of the master key: all keys are encrypted with another one, in one transaction.

use std::path::{Path, PathBuf};

use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;

use super::super::sql::{query, query_as};
use super::super::sqlite::DatabaseLock;
use super::super::{DatabaseAddress, StoreError, postgres};
use super::master_key::{MasterKey, MasterKeyPlace, finish, own_key_file, own_next_key_file};
use super::{
    KEYS_AT_A_TIME, check_origin, connect, context, key_id, keyring_file, open_root, unwrap, wrong,
};

/// Encrypts the keyring of a database with a new master key, which is read from `new` or made there.
/// Without `new`, the file that the program made beside a file of SQLite is replaced. Returns the file of
/// the new key.
///
/// If the program ends at any point, the keyring can be opened with the old or with the new key, and the
/// next start finds it if both are beside the database.
///
/// # Errors
/// If a server uses the database, a key is missing or wrong, or a file cannot be written.
pub async fn rotate_master_key(
    database: &DatabaseAddress,
    old: Option<&Path>,
    new: Option<&Path>,
) -> Result<PathBuf, StoreError> {
    match (database, new) {
        (DatabaseAddress::Sqlite(path), _) => rotate_file(path, old, new).await,
        (DatabaseAddress::Postgres(server), Some(new)) => {
            rotate_tables(server, &MasterKey::find_shared(old)?, new).await
        }
        (DatabaseAddress::Postgres(_), None) => Err(needs_file(MasterKey::find_shared(old)?)),
    }
}

fn needs_file(master: MasterKey) -> StoreError {
    let reason = "the program did not make it; name a file with --new-master-key-file";
    StoreError::MasterKey { place: master.place, reason: reason.to_owned() }
}

async fn rotate_tables(
    server: &PgConnectOptions,
    master: &MasterKey,
    new: &Path,
) -> Result<PathBuf, StoreError> {
    let database = postgres::open(server).await?;
    database.refuse_running_servers().await?;
    let mut change = database.writer.begin_with("", postgres::BEGIN_COPYING).await?;
    let row = query_as("SELECT id, wrapped FROM keyring.root").fetch_one(&mut change).await?;
    let (id, root) = open_root(&database.path, master, row)?;
    let next = read_or_make(new)?;
    query("UPDATE keyring.root SET wrapped = $1")
        .bind(next.key.seal(&context("root", &id), root.bytes())?)
        .execute(&mut change)
        .await?;
    let keys: Vec<(Vec<u8>, Vec<u8>)> =
        query_as("SELECT id, wrapped FROM keyring.keys").fetch_all(&mut change).await?;
    for keys in keys.chunks(KEYS_AT_A_TIME) {
        let (mut ids, mut sealed) = (Vec::new(), Vec::new());
        for (id, wrapped) in keys {
            if let Some(wrapped) = reseal(id, wrapped, master, &next)? {
                ids.push(id.clone());
                sealed.push(wrapped);
            }
        }
        query(
            "UPDATE keyring.keys SET wrapped = changed.wrapped
             FROM unnest($1::bytea[], $2::bytea[]) AS changed (id, wrapped)
             WHERE keys.id = changed.id",
        )
        .bind(ids)
        .bind(sealed)
        .execute(&mut change)
        .await?;
    }
    change.commit().await?;
    database.writer.close().await;
    // What the old key opens is in the tables' old files.
    postgres::rewrite_keyring(server).await?;
    Ok(new.to_owned())
}

/// A user's key, encrypted with another master key. `None` if it is damaged: it stays what it is.
fn reseal(
    id: &[u8],
    wrapped: &[u8],
    old: &MasterKey,
    new: &MasterKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(id) = key_id(id) else { return Ok(None) };
    let context = context("user", &id);
    let Some(key) = unwrap(&old.key, &context, wrapped) else { return Ok(None) };
    new.key.seal(&context, key.bytes()).map(Some)
}

fn read_or_make(file: &Path) -> Result<MasterKey, StoreError> {
    if file.exists() { MasterKey::read(file) } else { MasterKey::make(file) }
}

async fn rotate_file(
    database: &Path,
    old: Option<&Path>,
    new: Option<&Path>,
) -> Result<PathBuf, StoreError> {
    let path = keyring_file(database);
    let own = own_key_file(database);
    let mut master = MasterKey::find(MasterKeyPlace { file: old, database })?;
    if new.is_none() && master.place != own.display().to_string() {
        return Err(needs_file(master));
    }
    // A server that has the keyring open would go on with the old key.
    let _lock = DatabaseLock::take(database)?;
    let mut keyring = connect(&path).await?;
    check_origin(&mut keyring, &path).await?;
    let mut change = keyring.begin_with("BEGIN EXCLUSIVE").await?;
    let (id, wrapped): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT id, wrapped FROM root").fetch_one(&mut *change).await?;
    let id = key_id(&id).ok_or_else(|| wrong(&path, "it is damaged".to_owned()))?;
    let root_context = context("root", &id);
    let mut root = unwrap(&master.key, &root_context, &wrapped);
    if root.is_none()
        && let Some(next) = MasterKey::unfinished(&master, database)?
    {
        root = unwrap(&next.key, &root_context, &wrapped);
        master = next;
        finish(database)?;
    }
    let root = root.ok_or_else(|| {
        wrong(&path, format!("the master key from {} does not open it", master.place))
    })?;
    let next = match new {
        Some(file) => read_or_make(file)?,
        None => {
            let file = own_next_key_file(database);
            // Of a rotation that did not come to its transaction.
            let _ = std::fs::remove_file(&file);
            MasterKey::make(&file)?
        }
    };
    sqlx::query("UPDATE root SET wrapped = ?")
        .bind(next.key.seal(&root_context, root.bytes())?)
        .execute(&mut *change)
        .await?;
    let keys: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT id, wrapped FROM keys").fetch_all(&mut *change).await?;
    for (id, wrapped) in keys {
        let Some(sealed) = reseal(&id, &wrapped, &master, &next)? else { continue };
        sqlx::query("UPDATE keys SET wrapped = ? WHERE id = ?")
            .bind(sealed)
            .bind(id)
            .execute(&mut *change)
            .await?;
    }
    change.commit().await?;
    // What the old key opens is overwritten. Closing writes the log back.
    sqlx::query("VACUUM").execute(&mut keyring).await?;
    keyring.close().await?;
    let Some(file) = new else {
        finish(database)?;
        return Ok(own);
    };
    Ok(file.to_owned())
}

//! Rotation of the master key: all keys are encrypted with another one, in one transaction.

use std::path::{Path, PathBuf};

use sqlx::Connection;

use super::super::StoreError;
use super::super::sqlite::DatabaseLock;
use super::master_key::{MasterKey, MasterKeyPlace, finish, own_key_file, own_next_key_file};
use super::{check_origin, connect, context, key_id, keyring_file, unwrap, wrong};

/// Encrypts the keyring of a database with a new master key, which is read from `new` or made there.
/// Without `new`, the file that the program made beside the database is replaced. Returns the file of
/// the new key.
///
/// If the program ends at any point, the keyring can be opened with the old or with the new key, and the
/// next start finds it if both are beside the database.
///
/// # Errors
/// If a server uses the database, a key is missing or wrong, or a file cannot be written.
pub async fn rotate_master_key(
    database: &Path,
    old: Option<&Path>,
    new: Option<&Path>,
) -> Result<PathBuf, StoreError> {
    let path = keyring_file(database);
    let own = own_key_file(database);
    let mut master = MasterKey::find(MasterKeyPlace { file: old, database })?;
    if new.is_none() && master.place != own.display().to_string() {
        let reason = "the program did not make it; name a file with --new-master-key-file";
        return Err(StoreError::MasterKey { place: master.place, reason: reason.to_owned() });
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
        Some(file) if file.exists() => MasterKey::read(file)?,
        Some(file) => MasterKey::make(file)?,
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
    for (bytes, wrapped) in keys {
        let Some(id) = key_id(&bytes) else { continue };
        let context = context("user", &id);
        // A damaged key stays what it is.
        let Some(key) = unwrap(&master.key, &context, &wrapped) else { continue };
        sqlx::query("UPDATE keys SET wrapped = ? WHERE id = ?")
            .bind(next.key.seal(&context, key.bytes())?)
            .bind(bytes)
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

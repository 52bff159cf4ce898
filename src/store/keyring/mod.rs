//! The keyring: a key for each user, and a root from which other secrets follow. All are encrypted with the
//! master key. It is a file beside a database of SQLite, and a schema of its own in PostgreSQL.
//!
//! A user is erased for good once their key is destroyed here: old copies of the database hold nothing
//! readable of them. So keys are never among the other tables, and copies of the keyring should be few.

mod history;
mod key;
mod master_key;
mod rotation;
mod stored;
mod tables;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub(super) use history::{KeyringFile, NOTE_COPY};
pub(super) use key::OVERHEAD_BYTES;
pub use key::SecretKey;
pub use master_key::{MASTER_KEY_VARIABLE, MasterKey, MasterKeyPlace, own_key_file};
pub use rotation::rotate_master_key;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use sqlx::{ConnectOptions, Connection, QueryBuilder};
pub use stored::StoredKeyring;
use tables::KeyTables;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::sqlite::{ForeignLock, connect_anyway, files, writing_options};
use super::{StoreError, beside};

/// "BPNK": tells keyrings from other databases.
pub(super) const APPLICATION_ID: i32 = 1_112_559_179;

/// Keys that one statement stores.
const KEYS_AT_A_TIME: usize = 1000;

/// Names a key, or a keyring. Random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    fn random() -> Result<Self, StoreError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        Ok(Self(id))
    }
}

/// An open keyring. All keys of a file are in memory, and of PostgreSQL those that were needed.
pub struct Keyring {
    id: KeyId,
    place: Place,
    master: SecretKey,
    root: SecretKey,
    keys: RwLock<HashMap<KeyId, Arc<SecretKey>>>,
}

/// Where the encrypted keys are.
enum Place {
    File(Box<KeyFile>),
    Tables(KeyTables),
}

struct KeyFile {
    path: PathBuf,
    /// `None` once it is closed.
    connection: Mutex<Option<SqliteConnection>>,
    lock: ForeignLock,
}

/// The keyring of a database.
pub fn keyring_file(database: &Path) -> PathBuf {
    beside(database, "-keyring")
}

impl Keyring {
    /// Opens a keyring. Makes it if the database needs none yet and there is none.
    ///
    /// # Errors
    /// If it is missing, is that of another database, or cannot be read with the master key.
    pub async fn open(
        path: &Path,
        needed: Option<KeyId>,
        place: MasterKeyPlace<'_>,
    ) -> Result<Self, StoreError> {
        let wrong = |reason: &str| wrong(path, reason.to_owned());
        if path.exists() {
            let master = MasterKey::find(place)?;
            let keyring = match Self::read(path, &master).await {
                Ok(keyring) => keyring,
                Err(error) => {
                    // A rotation may have ended before the new key file got its name.
                    let next = MasterKey::unfinished(&master, place.database)?.ok_or(error)?;
                    let keyring = Self::read(path, &next).await?;
                    master_key::finish(place.database)?;
                    keyring
                }
            };
            if needed.is_some_and(|id| id != keyring.id) {
                return Err(wrong("it is the keyring of another database"));
            }
            return Ok(keyring);
        }
        if needed.is_some() {
            return Err(wrong(
                "it is missing, and the database cannot be read without it; restore it from a backup",
            ));
        }
        let master = MasterKey::find_or_make(place)?;
        Self::make(path, master).await
    }

    async fn make(path: &Path, master: MasterKey) -> Result<Self, StoreError> {
        let (id, root) = (KeyId::random()?, SecretKey::random()?);
        let root = master.key.seal(&context("root", &id), root.bytes())?;
        StoredKeyring { id, root, keys: Vec::new() }.write(path).await?;
        Self::read(path, &master).await
    }

    async fn read(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let wrong = |reason: String| wrong(path, reason);
        let mut file = connect(path).await?;
        check_origin(&mut file, path).await?;
        files::narrow_all(path).map_err(|error| wrong(error.to_string()))?;
        let row = sqlx::query_as("SELECT id, wrapped FROM root").fetch_one(&mut file).await?;
        let (id, root) = open_root(path, master, row)?;
        history::go_live(&mut file).await?;
        let rows: Vec<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT id, wrapped FROM keys").fetch_all(&mut file).await?;
        let keyring = Self {
            id,
            place: Place::File(Box::new(KeyFile {
                path: path.to_owned(),
                connection: Mutex::new(Some(file)),
                lock: ForeignLock::of(path),
            })),
            master: master.key.clone(),
            root,
            keys: RwLock::default(),
        };
        keyring.open_keys(&rows);
        Ok(keyring)
    }

    /// Takes encrypted keys, each with its id. A damaged key is a missing one: rows that need it are set
    /// aside.
    fn open_keys(&self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let opened: HashMap<KeyId, Arc<SecretKey>> = rows
            .iter()
            .filter_map(|(id, wrapped)| {
                let id = key_id(id)?;
                Some((id, Arc::new(unwrap(&self.master, &context("user", &id), wrapped)?)))
            })
            .collect();
        if opened.len() < rows.len() {
            let damaged = rows.len() - opened.len();
            tracing::warn!(damaged, "the keyring has damaged keys");
        }
        self.keys.write().unwrap_or_else(PoisonError::into_inner).extend(opened);
    }

    /// Learns keys that another server made. Must be called with the ids in rows, before they are opened.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn learn<'a>(
        &self,
        ids: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), StoreError> {
        let Place::Tables(tables) = &self.place else { return Ok(()) };
        let unknown: Vec<Vec<u8>> = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let is_unknown = |id: &&[u8]| key_id(id).is_some_and(|id| !keys.contains_key(&id));
            ids.flatten().filter(is_unknown).map(<[u8]>::to_vec).collect()
        };
        if !unknown.is_empty() {
            self.open_keys(&tables.find(&unknown).await?);
        }
        Ok(())
    }

    /// Forgets a key that another server destroyed.
    pub fn forget(&self, id: KeyId) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The lock of its file.
    pub fn foreign_lock(&self) -> Option<&ForeignLock> {
        match &self.place {
            Place::File(file) => Some(&file.lock),
            Place::Tables(_) => None,
        }
    }

    /// The secret for a purpose. It is the same each time, and differs between deployments. It tells
    /// nothing about secrets for other purposes.
    pub fn secret(&self, purpose: &str) -> SecretKey {
        SecretKey::new(self.root.digest(purpose.as_bytes()))
    }

    /// Makes a key. Once this returns, it survives a power loss.
    ///
    /// # Errors
    /// If the file cannot be written, or the system gives no random bytes.
    pub async fn make_key(&self) -> Result<KeyId, StoreError> {
        Ok(self.make_keys(1).await?[0])
    }

    /// Makes several keys. As [`Keyring::make_key`].
    ///
    /// # Errors
    /// As [`Keyring::make_key`].
    pub async fn make_keys(&self, count: usize) -> Result<Vec<KeyId>, StoreError> {
        let mut made = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, key) = (KeyId::random()?, SecretKey::random()?);
            let wrapped = self.master.seal(&context("user", &id), key.bytes())?;
            made.push((id, key, wrapped));
        }
        for keys in made.chunks(KEYS_AT_A_TIME) {
            match &self.place {
                Place::File(file) => file.insert(keys).await?,
                Place::Tables(tables) => tables.insert(keys).await?,
            }
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let ids = made.iter().map(|(id, ..)| *id).collect();
        keys.extend(made.into_iter().map(|(id, key, _)| (id, Arc::new(key))));
        Ok(ids)
    }

    /// A key, unless it was destroyed.
    pub fn key(&self, id: KeyId) -> Option<Arc<SecretKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Destroys keys. Once this returns, the files do not hold them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn destroy(&self, ids: &[KeyId]) -> Result<(), StoreError> {
        match &self.place {
            Place::File(file) => file.delete(ids).await?,
            Place::Tables(tables) => tables.delete(ids).await?,
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        ids.iter().for_each(|id| drop(keys.remove(id)));
        Ok(())
    }

    /// Closes the file.
    pub async fn close(&self) {
        let Place::File(file) = &self.place else { return };
        let Some(mut connection) = file.connection.lock().await.take() else { return };
        // The last statement is done, so the file is whole in any case.
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        let _ = connection.close().await;
    }
}

/// A key with its id, and as it is stored.
type NewKey = (KeyId, SecretKey, Vec<u8>);

impl KeyFile {
    async fn insert(&self, keys: &[NewKey]) -> Result<(), StoreError> {
        let mut inserted = QueryBuilder::new("INSERT INTO keys ");
        inserted.push_values(keys, |mut row, (id, _, wrapped)| {
            row.push_bind(&id.0[..]).push_bind(&wrapped[..]);
        });
        let mut connection = self.connection().await?;
        self.lock.write(inserted.build().execute(&mut *connection)).await?;
        Ok(())
    }

    async fn delete(&self, ids: &[KeyId]) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        for id in ids {
            let deleted = sqlx::query("DELETE FROM keys WHERE id = ?").bind(&id.0[..]);
            self.lock.write(deleted.execute(&mut *connection)).await?;
        }
        // The log still holds them.
        let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut *connection)
            .await?;
        match busy {
            0 => Ok(()),
            _ => Err(wrong(&self.path, "another program reads it".to_owned())),
        }
    }

    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, StoreError> {
        MutexGuard::try_map(self.connection.lock().await, Option::as_mut)
            .map_err(|_| wrong(&self.path, "it is closed".to_owned()))
    }
}

/// Checks that an open keyring is the one that a database needs, and that a master key opens it.
///
/// # Errors
/// If it is another one, or cannot be read with the key.
pub async fn check_keyring(
    pool: &SqlitePool,
    path: &Path,
    needed: &[u8],
    master: &MasterKey,
) -> Result<(), StoreError> {
    let wrong = |reason: &str| wrong(path, reason.to_owned());
    let mut file = pool.acquire().await?;
    check_origin(&mut file, path).await?;
    let (id, wrapped): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT id, wrapped FROM root").fetch_one(&mut *file).await?;
    file.close().await?;
    let id = key_id(&id).filter(|id| id.0 == needed);
    let id = id.ok_or_else(|| wrong("it is the keyring of another database"))?;
    match unwrap(&master.key, &context("root", &id), &wrapped) {
        Some(_) => Ok(()),
        None => Err(wrong(&format!("the master key from {} does not open it", master.place))),
    }
}

async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = writing_options(path).create_if_missing(false);
    let connect = async |options: SqliteConnectOptions| options.connect().await;
    match connect_anyway(options, connect).await {
        Ok((file, _)) => Ok(file),
        Err(error) => Err(wrong(path, error.to_string())),
    }
}

async fn check_origin(keyring: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let application: Result<i32, sqlx::Error> =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(keyring).await;
    match application {
        Ok(APPLICATION_ID) => Ok(()),
        Ok(_) => Err(wrong(path, "it is no keyring".to_owned())),
        Err(error) => Err(wrong(path, error.to_string())),
    }
}

/// Keeps a wrapped key from being taken for another.
fn context(kind: &str, id: &KeyId) -> Vec<u8> {
    [b"bipedalnet keyring ", kind.as_bytes(), b" ", &id.0].concat()
}

fn unwrap(master: &SecretKey, context: &[u8], wrapped: &[u8]) -> Option<SecretKey> {
    let opened = zeroize::Zeroizing::new(master.open(context, wrapped)?);
    Some(SecretKey::new(opened[..].try_into().ok()?))
}

/// The name and the root of a keyring, from the row that holds them.
fn open_root(
    path: &Path,
    master: &MasterKey,
    (id, wrapped): (Vec<u8>, Vec<u8>),
) -> Result<(KeyId, SecretKey), StoreError> {
    let id = key_id(&id).ok_or_else(|| wrong(path, "it is damaged".to_owned()))?;
    let root = unwrap(&master.key, &context("root", &id), &wrapped).ok_or_else(|| {
        wrong(path, format!("the master key from {} does not open it", master.place))
    })?;
    Ok((id, root))
}

pub(super) fn key_id(bytes: &[u8]) -> Option<KeyId> {
    bytes.try_into().ok().map(KeyId)
}

fn wrong(path: &Path, reason: String) -> StoreError {
    StoreError::Keyring { path: path.to_owned(), reason }
}

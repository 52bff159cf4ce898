//! A keyring in PostgreSQL: the schema `keyring`, so that a dump can leave it out.

use std::path::Path;
use std::sync::RwLock;

use super::super::StoreError;
use super::super::sql::{Pool, query, query_as, query_scalar};
use super::master_key::MasterKey;
use super::{KeyId, Keyring, NewKey, Place, SecretKey, context, open_root, wrong};

/// Stores ids, and as many encrypted keys.
pub(super) const INSERT_KEYS: &str =
    "INSERT INTO keyring.keys SELECT * FROM unnest($1::bytea[], $2::bytea[])";

/// The tables of encrypted keys.
pub(super) struct KeyTables(Pool);

impl Keyring {
    /// Opens the keyring of a database. Makes it if there is none.
    ///
    /// # Errors
    /// If the master key does not open it, or a statement fails.
    pub async fn in_postgres(
        pool: Pool,
        name: &Path,
        master: &MasterKey,
    ) -> Result<Self, StoreError> {
        let (id, root) = (KeyId::random()?, SecretKey::random()?);
        let wrapped = master.key.seal(&context("root", &id), root.bytes())?;
        // Of servers that start at the same time, one makes it.
        let made = query(
            "INSERT INTO keyring.root (id, wrapped) SELECT $1, $2
             WHERE NOT EXISTS (SELECT 1 FROM keyring.keys) ON CONFLICT DO NOTHING",
        );
        made.bind(&id.0[..]).bind(wrapped).execute(&pool).await?;
        Self::open_tables(pool, name, master).await
    }

    /// Opens the keyring of a database.
    ///
    /// # Errors
    /// If there is none, the master key does not open it, or a statement fails.
    pub async fn open_tables(
        pool: Pool,
        name: &Path,
        master: &MasterKey,
    ) -> Result<Self, StoreError> {
        let found = query_as("SELECT id, wrapped FROM keyring.root");
        let found: Option<(Vec<u8>, Vec<u8>)> = found.fetch_optional(&pool).await?;
        let row = found.ok_or_else(|| wrong(name, "its root is missing".to_owned()))?;
        let (id, root) = open_root(name, master, row)?;
        let rows = query_as("SELECT id, wrapped FROM keyring.keys").fetch_all(&pool).await?;
        let keyring = Self {
            id,
            place: Place::Tables(KeyTables(pool)),
            master: master.key.clone(),
            root,
            keys: RwLock::default(),
        };
        keyring.open_keys(&rows);
        Ok(keyring)
    }
}

impl KeyTables {
    /// The encrypted root, and all keys.
    pub async fn all(&self) -> Result<(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>), StoreError> {
        let root = query_scalar("SELECT wrapped FROM keyring.root").fetch_one(&self.0).await?;
        let keys = query_as("SELECT id, wrapped FROM keyring.keys").fetch_all(&self.0).await?;
        Ok((root, keys))
    }

    /// Encrypted keys with these ids.
    pub async fn find(&self, ids: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let found = query_as("SELECT id, wrapped FROM keyring.keys WHERE id = ANY($1)");
        Ok(found.bind(ids.to_vec()).fetch_all(&self.0).await?)
    }

    pub async fn insert(&self, keys: &[NewKey]) -> Result<(), StoreError> {
        let ids: Vec<Vec<u8>> = keys.iter().map(|(id, ..)| id.0.to_vec()).collect();
        let wrapped: Vec<Vec<u8>> = keys.iter().map(|(.., wrapped)| wrapped.clone()).collect();
        query(INSERT_KEYS).bind(ids).bind(wrapped).execute(&self.0).await?;
        Ok(())
    }

    pub async fn delete(&self, ids: &[KeyId]) -> Result<(), StoreError> {
        let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
        query("DELETE FROM keyring.keys WHERE id = ANY($1)").bind(ids).execute(&self.0).await?;
        Ok(())
    }
}

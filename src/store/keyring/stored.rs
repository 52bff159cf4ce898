//! A keyring as it is stored: encrypted with the master key. A copy has the same one.

use std::path::Path;

use sqlx::{Connection, QueryBuilder};

use super::super::sql::{Tx, query, query_as, query_scalar};
use super::super::sqlite::files;
use super::super::{StoreError, beside, folder_of};
use super::tables::INSERT_KEYS;
use super::{KEYS_AT_A_TIME, KeyId, Keyring, Place, connect, wrong};

const SCHEMA: &str = "
    PRAGMA application_id = 1112559179;
    -- One row: the name of this keyring, and the root of all secrets that are no user's.
    CREATE TABLE root (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;";

pub struct StoredKeyring {
    pub id: KeyId,
    /// Encrypted.
    pub(super) root: Vec<u8>,
    /// Ids, and encrypted keys.
    pub keys: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Keyring {
    /// This keyring as it is stored.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn stored(&self) -> Result<StoredKeyring, StoreError> {
        let (root, keys) = match &self.place {
            Place::File(file) => {
                let mut file = file.connection().await?;
                let root = query_scalar("SELECT wrapped FROM root").fetch_one(&mut *file).await?;
                (root, query_as("SELECT id, wrapped FROM keys").fetch_all(&mut *file).await?)
            }
            Place::Tables(tables) => tables.all().await?,
        };
        Ok(StoredKeyring { id: self.id, root, keys })
    }
}

impl StoredKeyring {
    /// Writes a file, which gets its name only when it is complete and on disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn write(&self, path: &Path) -> Result<(), StoreError> {
        let part = beside(path, ".part");
        for left in ["", "-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(beside(&part, left));
        }
        let failed = |error: std::io::Error| wrong(path, error.to_string());
        files::make_private(&part).map_err(failed)?;
        let mut file = connect(&part).await?;
        let mut written = file.begin().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *written).await?;
        sqlx::query("INSERT INTO root VALUES (?, ?)")
            .bind(&self.id.0[..])
            .bind(&self.root)
            .execute(&mut *written)
            .await?;
        for keys in self.keys.chunks(KEYS_AT_A_TIME) {
            let mut inserted = QueryBuilder::new("INSERT INTO keys ");
            inserted.push_values(keys, |mut row, (id, wrapped)| {
                row.push_bind(&id[..]).push_bind(&wrapped[..]);
            });
            inserted.build().execute(&mut *written).await?;
        }
        written.commit().await?;
        // Closing writes the log back.
        file.close().await?;
        std::fs::rename(&part, path).map_err(failed)?;
        std::fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Stores it in PostgreSQL, in a transaction.
    ///
    /// # Errors
    /// If there is one already, or a statement fails.
    pub async fn insert(&self, transaction: &mut Tx) -> Result<(), StoreError> {
        query("INSERT INTO keyring.root (id, wrapped) VALUES ($1, $2)")
            .bind(&self.id.0[..])
            .bind(&self.root)
            .execute(&mut *transaction)
            .await?;
        for keys in self.keys.chunks(KEYS_AT_A_TIME) {
            let (ids, wrapped): (Vec<_>, Vec<_>) = keys.iter().cloned().unzip();
            query(INSERT_KEYS).bind(ids).bind(wrapped).execute(&mut *transaction).await?;
        }
        Ok(())
    }
}

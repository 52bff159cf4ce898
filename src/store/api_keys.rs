//! API keys.

use std::path::Path;

use bipedalnet_core::identity::UserIdError;

use super::sql::{Target, query, query_as};
use super::{AuditEvent, Database, StoreError};
use crate::access::{ApiKey, Binding, ScopeError};

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: String,
    secret_digest: Vec<u8>,
    name: String,
    scopes: String,
    created_at_unix_seconds: i64,
    expires_at_unix_seconds: Option<i64>,
    revoked: bool,
    last_used_at_unix_seconds: Option<i64>,
    /// Databases of earlier versions lack it.
    #[sqlx(default)]
    collections: Option<String>,
}

impl Database {
    /// All keys, revoked ones too, the oldest first.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        read_api_keys(&self.readers, &self.path).await
    }

    /// Stores a key.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let mut transaction = self.begin_writing().await?;
        let scopes = key.scopes.to_string();
        let collections = key.binding.as_ref().map(Binding::to_string);
        query(
            "INSERT INTO api_keys
             (id, secret_digest, name, scopes, created_at_unix_seconds, expires_at_unix_seconds,
              collections)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&key.id)
        .bind(&key.secret_digest[..])
        .bind(&key.name)
        .bind(&scopes)
        .bind(key.created_at_unix_seconds)
        .bind(key.expires_at_unix_seconds)
        .bind(&collections)
        .execute(&mut transaction)
        .await?;
        AuditEvent::KeyCreated(&key.id, &scopes, collections.as_deref())
            .note(&mut transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Revokes a key for good.
    ///
    /// # Errors
    /// If the key does not exist, or the statement fails.
    pub async fn revoke_api_key(&self, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin_writing().await?;
        let revoked = query("UPDATE api_keys SET revoked = TRUE WHERE id = $1")
            .bind(id)
            .execute(&mut transaction)
            .await?;
        if revoked == 0 {
            return Err(StoreError::NoSuchApiKey(id.to_owned()));
        }
        AuditEvent::KeyRevoked(id).note(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Stores when keys were last used.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn note_api_key_uses(&self, uses: &[(String, i64)]) -> Result<(), StoreError> {
        let mut transaction = self.begin_writing().await?;
        for (id, used_at_unix_seconds) in uses {
            query("UPDATE api_keys SET last_used_at_unix_seconds = $1 WHERE id = $2")
                .bind(used_at_unix_seconds)
                .bind(id)
                .execute(&mut transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

/// Reads all keys of the database at a path.
///
/// # Errors
/// As [`Database::api_keys`].
pub(super) async fn read_api_keys(
    database: impl Into<Target<'_>>,
    path: &Path,
) -> Result<Vec<ApiKey>, StoreError> {
    let rows: Vec<KeyRow> = query_as("SELECT * FROM api_keys ORDER BY created_at_unix_seconds, id")
        .fetch_all(database)
        .await?;
    rows.into_iter().map(|row| api_key_of(path, row)).collect()
}

fn api_key_of(path: &Path, row: KeyRow) -> Result<ApiKey, StoreError> {
    let wrong = |reason: String| StoreError::Row {
        path: path.to_owned(),
        row: format!("API key {}", row.id),
        reason,
    };
    let digest = &row.secret_digest[..];
    Ok(ApiKey {
        secret_digest: digest
            .try_into()
            .map_err(|_| wrong(format!("its digest has {} bytes", digest.len())))?,
        scopes: row.scopes.parse().map_err(|error: ScopeError| wrong(error.to_string()))?,
        binding: row
            .collections
            .map(|collections| collections.parse())
            .transpose()
            .map_err(|error: UserIdError| wrong(error.to_string()))?,
        name: row.name,
        created_at_unix_seconds: row.created_at_unix_seconds,
        expires_at_unix_seconds: row.expires_at_unix_seconds,
        revoked: row.revoked,
        last_used_at_unix_seconds: row.last_used_at_unix_seconds,
        id: row.id,
    })
}

//! API keys.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};
use crate::access::{ApiKey, ScopeError};

impl Store {
    /// All keys, revoked ones too, in the order in which they were made.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query("SELECT * FROM api_keys ORDER BY created_at_unix_seconds, id")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| self.api_key_of(row)).collect()
    }

    /// Keeps a key.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_keys
             (id, secret_digest, name, scopes, created_at_unix_seconds, expires_at_unix_seconds)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&key.id)
        .bind(&key.secret_digest[..])
        .bind(&key.name)
        .bind(key.scopes.to_string())
        .bind(key.created_at_unix_seconds)
        .bind(key.expires_at_unix_seconds)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Revokes a key for good.
    ///
    /// # Errors
    /// When there is no such key, or the statement fails.
    pub async fn revoke_api_key(&self, id: &str) -> Result<(), StoreError> {
        let revoked = sqlx::query("UPDATE api_keys SET revoked = 1 WHERE id = ?")
            .bind(id)
            .execute(&self.writer)
            .await?;
        if revoked.rows_affected() == 0 {
            return Err(StoreError::NoSuchApiKey(id.to_owned()));
        }
        Ok(())
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn note_api_key_uses(&self, uses: &[(String, i64)]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for (id, used_at_unix_seconds) in uses {
            sqlx::query("UPDATE api_keys SET last_used_at_unix_seconds = ? WHERE id = ?")
                .bind(used_at_unix_seconds)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    fn api_key_of(&self, row: &SqliteRow) -> Result<ApiKey, StoreError> {
        let id: String = row.try_get("id")?;
        let wrong = |reason: String| StoreError::Row {
            path: self.path.clone(),
            row: format!("API key {id}"),
            reason,
        };
        let digest: &[u8] = row.try_get("secret_digest")?;
        let scopes: &str = row.try_get("scopes")?;
        Ok(ApiKey {
            secret_digest: digest
                .try_into()
                .map_err(|_| wrong(format!("its digest has {} bytes", digest.len())))?,
            scopes: scopes.parse().map_err(|error: ScopeError| wrong(error.to_string()))?,
            name: row.try_get("name")?,
            created_at_unix_seconds: row.try_get("created_at_unix_seconds")?,
            expires_at_unix_seconds: row.try_get("expires_at_unix_seconds")?,
            revoked: row.try_get("revoked")?,
            last_used_at_unix_seconds: row.try_get("last_used_at_unix_seconds")?,
            id,
        })
    }
}

//! Answers to writes, kept for retries.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Store, StoreError, Transaction, unix_seconds};
use bipedalnet_core::identity::UserId;

/// How long an answer is kept for retries.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A write that may be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Whose request it is: the id of an API key, or empty.
    pub principal: String,
    /// The client's name for it.
    pub idempotency_key: String,
    /// SHA-256 of all that makes the request.
    pub digest: [u8; 32],
}

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// Of the body; `None` where there is none.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Path of what was made, where that is told.
    pub location: Option<String>,
}

impl StoredResponse {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: None, body: Vec::new(), location: None }
    }
}

impl IdempotentRequest {
    /// Under which the answer is kept.
    fn key_digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(&self.principal)
            .chain_update([0])
            .chain_update(&self.idempotency_key)
            .finalize()
            .into()
    }
}

#[derive(sqlx::FromRow)]
struct ResponseRow {
    request_digest: Vec<u8>,
    status: u16,
    content_type: Option<String>,
    body: Option<Vec<u8>>,
    location: Option<String>,
}

impl Store {
    /// The answer that a request was given in the last 24 hours.
    ///
    /// # Errors
    /// When the key was used for another request, the answer named somebody who was erased since, or
    /// the statement fails.
    pub async fn stored_response(
        &self,
        request: &IdempotentRequest,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let row: Option<ResponseRow> = sqlx::query_as(
            "SELECT request_digest, status, content_type, body, location FROM replies
             WHERE key_digest = ? AND created_at_unix_seconds > ?",
        )
        .bind(&request.key_digest()[..])
        .bind(unix_seconds() - KEPT_SECONDS)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.request_digest != request.digest {
            return Err(StoreError::OtherRequest);
        }
        Ok(Some(StoredResponse {
            status: row.status,
            content_type: row.content_type,
            body: row.body.ok_or(StoreError::AnswerErased)?,
            location: row.location,
        }))
    }
}

impl Transaction {
    /// Keeps the answer to this change, which names `users`, and drops those that are too old.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn keep_response(
        &mut self,
        request: &IdempotentRequest,
        users: &BTreeSet<UserId>,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        let now = unix_seconds();
        sqlx::query("DELETE FROM replies WHERE created_at_unix_seconds <= ?")
            .bind(now - KEPT_SECONDS)
            .execute(&mut *self.inner)
            .await?;
        let key = request.key_digest();
        sqlx::query(
            "INSERT INTO replies
             (key_digest, request_digest, status, content_type, body, location,
              created_at_unix_seconds)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&key[..])
        .bind(&request.digest[..])
        .bind(response.status)
        .bind(&response.content_type)
        .bind(&response.body)
        .bind(&response.location)
        .bind(now)
        .execute(&mut *self.inner)
        .await?;
        for user in users {
            sqlx::query("INSERT INTO reply_users (user_id, key_digest) VALUES (?, ?)")
                .bind(user.as_str())
                .bind(&key[..])
                .execute(&mut *self.inner)
                .await?;
        }
        Ok(())
    }

    /// Erases what was answered about a user, but not that it was.
    pub(super) async fn erase_responses(&mut self, user: &UserId) -> Result<(), StoreError> {
        for statement in [
            "UPDATE replies SET body = NULL WHERE key_digest IN
             (SELECT key_digest FROM reply_users WHERE user_id = ?)",
            "DELETE FROM reply_users WHERE user_id = ?",
        ] {
            sqlx::query(statement).bind(user.as_str()).execute(&mut *self.inner).await?;
        }
        Ok(())
    }
}

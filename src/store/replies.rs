//! Answers to writes, kept for retries.

use sqlx::Row;

use super::{Store, StoreError, Writing, unix_seconds};
use crate::identity::UserId;

/// How long an answer is kept for retries.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A write that may be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's name for it.
    pub idempotency_key: String,
    /// SHA-256 of all that makes the request.
    pub digest: [u8; 32],
}

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON, or empty.
    pub body: Vec<u8>,
}

impl Store {
    /// The answer that a request was given in the last 24 hours.
    ///
    /// # Errors
    /// When the key was used for another request, or the statement fails.
    pub async fn reply(&self, request: &Request) -> Result<Option<Reply>, StoreError> {
        let row = sqlx::query(
            "SELECT request_digest, status, body FROM replies
             WHERE idempotency_key = ? AND created_at_unix_seconds > ?",
        )
        .bind(&request.idempotency_key)
        .bind(unix_seconds() - KEPT_SECONDS)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let digest: &[u8] = row.try_get("request_digest")?;
        if digest != request.digest {
            return Err(StoreError::OtherRequest);
        }
        Ok(Some(Reply { status: row.try_get("status")?, body: row.try_get("body")? }))
    }
}

impl Writing {
    /// Keeps the answer to this change, and drops those that are too old.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn keep_reply(
        &mut self,
        request: &Request,
        user: Option<&UserId>,
        reply: &Reply,
    ) -> Result<(), StoreError> {
        let now = unix_seconds();
        sqlx::query("DELETE FROM replies WHERE created_at_unix_seconds <= ?")
            .bind(now - KEPT_SECONDS)
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query(
            "INSERT INTO replies
             (idempotency_key, request_digest, user_id, status, body, created_at_unix_seconds)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&request.idempotency_key)
        .bind(&request.digest[..])
        .bind(user.map(UserId::as_str))
        .bind(reply.status)
        .bind(&reply.body)
        .bind(now)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

//! What may be kept of a walk beside its template: its fingerprint, and the recording itself.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Writing, unix_seconds};
use crate::gait::Fingerprint;
use crate::identity::UserId;

/// Verified walks whose fingerprints are kept for each user: the newest.
const VERIFIED_KEPT: i64 = 64;

impl Store {
    /// Fingerprints of a user's walks.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn fingerprints(&self, user: &UserId) -> Result<Vec<Fingerprint>, StoreError> {
        let query = sqlx::query("SELECT id, fingerprint FROM fingerprints WHERE user_id = ?");
        let rows = query.bind(user.as_str()).fetch_all(&self.readers).await?;
        let fingerprint = |row: &SqliteRow| -> Result<Fingerprint, StoreError> {
            let id: i64 = row.try_get("id")?;
            Fingerprint::from_bytes(row.try_get("fingerprint")?).map_err(|error| StoreError::Row {
                path: self.path.clone(),
                row: format!("fingerprint {id}"),
                reason: error.to_string(),
            })
        };
        rows.iter().map(fingerprint).collect()
    }

    /// Recordings that are kept of a user, by enrollment, as they were given to
    /// [`Writing::add_recording`].
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn recordings_of(&self, user: &UserId) -> Result<HashMap<i64, Vec<u8>>, StoreError> {
        let query = sqlx::query_as(
            "SELECT enrollment_id, recording FROM recordings
             JOIN enrollments ON enrollments.id = enrollment_id WHERE user_id = ?",
        );
        let rows: Vec<(i64, Vec<u8>)> = query.bind(user.as_str()).fetch_all(&self.readers).await?;
        Ok(rows.into_iter().collect())
    }

    /// Erases recordings that are older than the given time; tells how many. [`Store::scrub_log`] is
    /// due where there were any.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn erase_old_recordings(&self, kept: Duration) -> Result<u64, StoreError> {
        let erased = sqlx::query("DELETE FROM recordings WHERE created_at_unix_seconds <= ?")
            .bind(unix_seconds().saturating_sub_unsigned(kept.as_secs()))
            .execute(&self.writer)
            .await?;
        Ok(erased.rows_affected())
    }
}

impl Writing {
    /// Keeps the recording of an enrolled walk.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn add_recording(&mut self, enrollment: i64, bytes: &[u8]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO recordings (enrollment_id, recording, created_at_unix_seconds)
             VALUES (?, ?, ?)",
        )
        .bind(enrollment)
        .bind(bytes)
        .bind(unix_seconds())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Keeps the fingerprint of a walk that was enrolled, or of one that was verified: of these, the
    /// newest 64.
    ///
    /// # Errors
    /// When there is no such user, or a statement fails.
    pub async fn add_fingerprint(
        &mut self,
        user: &UserId,
        enrollment: Option<i64>,
        fingerprint: &Fingerprint,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO fingerprints (user_id, enrollment_id, fingerprint) VALUES (?, ?, ?)",
        )
        .bind(user.as_str())
        .bind(enrollment)
        .bind(fingerprint.to_bytes())
        .execute(&mut *self.transaction)
        .await
        .map_err(|error| super::no_such_user(error, user))?;
        if enrollment.is_none() {
            sqlx::query(
                "DELETE FROM fingerprints WHERE user_id = ?1 AND enrollment_id IS NULL AND id NOT IN
                 (SELECT id FROM fingerprints WHERE user_id = ?1 AND enrollment_id IS NULL
                  ORDER BY id DESC LIMIT ?2)",
            )
            .bind(user.as_str())
            .bind(VERIFIED_KEPT)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }
}

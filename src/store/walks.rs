//! What may be kept of a walk beside its template: its fingerprint, and the recording itself.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use sqlx::{Executor, Sqlite};

use super::{Store, StoreError, Transaction, unix_seconds};
use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::UserId;

/// Fingerprints of verified walks that are kept of each user: the newest.
const VERIFIED_KEPT: i64 = 100;

/// Fingerprints that a walk is compared with: the newest, as a bound on the compute.
const COMPARED: i64 = 200;

impl Store {
    /// All fingerprints of a user's walks.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn fingerprints(&self, user: &UserId) -> Result<Vec<Fingerprint>, StoreError> {
        let all = fingerprints(&self.path, user, 0, i64::MAX, &self.readers).await?;
        Ok(all.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// The fingerprints that a new walk is compared with, each with its number: the newest, and the
    /// newest first.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn newest_fingerprints(
        &self,
        user: &UserId,
    ) -> Result<Vec<(i64, Fingerprint)>, StoreError> {
        fingerprints(&self.path, user, 0, COMPARED, &self.readers).await
    }

    /// Recordings that are kept of a user, by enrollment, as they were given to
    /// [`Transaction::add_recording`].
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

impl Transaction {
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
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Fingerprints of a user's walks that are newer than number `after`, this change's included.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn fingerprints_after(
        &mut self,
        user: &UserId,
        after: i64,
    ) -> Result<Vec<Fingerprint>, StoreError> {
        let newer = fingerprints(&self.path, user, after, COMPARED, &mut *self.inner).await?;
        Ok(newer.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// Keeps the fingerprint of a walk that was enrolled, or of one that was verified: of these, the
    /// newest 100.
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
        .execute(&mut *self.inner)
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
            .execute(&mut *self.inner)
            .await?;
        }
        Ok(())
    }
}

async fn fingerprints<'c>(
    path: &Path,
    user: &UserId,
    after: i64,
    most: i64,
    connection: impl Executor<'c, Database = Sqlite>,
) -> Result<Vec<(i64, Fingerprint)>, StoreError> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT id, fingerprint FROM fingerprints WHERE user_id = ? AND id > ?
         ORDER BY id DESC LIMIT ?",
    )
    .bind(user.as_str())
    .bind(after)
    .bind(most)
    .fetch_all(connection)
    .await?;
    let fingerprint = |(id, bytes): (i64, Vec<u8>)| {
        let fingerprint = Fingerprint::from_bytes(&bytes).map_err(|error| StoreError::Row {
            path: path.to_owned(),
            row: format!("fingerprint {id}"),
            reason: error.to_string(),
        })?;
        Ok((id, fingerprint))
    };
    rows.into_iter().map(fingerprint).collect()
}

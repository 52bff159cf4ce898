//! The other data of a walk: its fingerprints, and its recording if that is kept.

use std::path::Path;
use std::time::Duration;

use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::UserId;
use sqlx::{Executor, Sqlite};

use super::{Store, StoreError, Transaction, unix_seconds};

/// Fingerprints of verified walks per user. Only the newest are kept.
const VERIFIED_KEPT: i64 = 100;

/// Fingerprints that a walk is compared with: the newest, to bound the compute.
pub const COMPARED: usize = 200;

impl Store {
    /// All fingerprints of a user's walks.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn fingerprints(&self, user: &UserId) -> Result<Vec<Fingerprint>, StoreError> {
        let all = fingerprints(&self.path, user, 0, i64::MAX, &self.readers).await?;
        Ok(all.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// The fingerprints that a new walk is compared with, each with its number, the newest first.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn newest_fingerprints(
        &self,
        user: &UserId,
    ) -> Result<Vec<(i64, Fingerprint)>, StoreError> {
        fingerprints(&self.path, user, 0, COMPARED as i64, &self.readers).await
    }

    /// The kept recording of a user's walk, as `Transaction::add_recording` stored it.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn recording_of(
        &self,
        user: &UserId,
        enrollment: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT recording FROM recordings JOIN enrollments ON enrollments.id = enrollment_id
             WHERE user_id = ?1 AND enrollment_id = ?2",
        );
        Ok(query.bind(user.as_str()).bind(enrollment).fetch_optional(&self.readers).await?)
    }

    /// Deletes recordings that are older than `kept`, and returns how many. If there were any,
    /// [`Store::scrub`] is due.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn erase_old_recordings(&self, kept: Duration) -> Result<u64, StoreError> {
        let erased = sqlx::query("DELETE FROM recordings WHERE created_at_unix_seconds <= ?")
            .bind(unix_seconds().saturating_sub_unsigned(kept.as_secs()))
            .execute(&self.writer)
            .await?;
        Ok(erased.rows_affected())
    }
}

impl Transaction {
    /// Stores the recording of an enrolled walk.
    ///
    /// # Errors
    /// If the statement fails.
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

    /// A user's fingerprints after number `after`, those of this transaction included.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn fingerprints_after(
        &mut self,
        user: &UserId,
        after: i64,
    ) -> Result<Vec<Fingerprint>, StoreError> {
        let newer =
            fingerprints(&self.path, user, after, COMPARED as i64, &mut *self.inner).await?;
        Ok(newer.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// Stores the fingerprint of an enrolled or of a verified walk. The newest 100 of verified walks
    /// are kept.
    ///
    /// # Errors
    /// If the user does not exist, or a statement fails.
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

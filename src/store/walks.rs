//! The other data of a walk: its fingerprints, and its recording if that is kept.

use std::time::Duration;

use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::UserId;

use super::damage::DamagedRow;
use super::sealed::Context;
use super::sql::{Target, query, query_as};
use super::{Store, StoreError, Transaction, unix_seconds};

/// Fingerprints of verified walks per user. Only the newest are kept.
const VERIFIED_KEPT: i64 = 100;

/// Fingerprints that a walk is compared with: the newest, to bound the compute.
pub const COMPARED: usize = 200;

/// Fingerprints of enrolled walks that a new one is compared with, so that a long walk costs little.
pub const ENROLLED_COMPARED: usize = 50;

#[derive(sqlx::FromRow)]
pub(super) struct RecordingRow {
    enrollment_id: i64,
    user_id: String,
    key_id: Option<Vec<u8>>,
    recording: Vec<u8>,
}

impl RecordingRow {
    /// The recordings, each with its enrollment. `None` for a damaged one, which sets it aside.
    pub async fn open_all(
        store: &Store,
        rows: Vec<Self>,
    ) -> Result<Vec<(i64, Option<Vec<u8>>)>, StoreError> {
        store.keyring.learn(rows.iter().map(|row| row.key_id.as_deref())).await?;
        Ok(rows.into_iter().map(|row| (row.enrollment_id, row.open(store))).collect())
    }

    fn open(&self, store: &Store) -> Option<Vec<u8>> {
        let context = Context::recording(&self.user_id, self.enrollment_id);
        let opened = store.keyring.open_row(self.key_id.as_deref(), &context, &self.recording);
        if opened.is_none() {
            store.damage.note(DamagedRow::Recording { enrollment: self.enrollment_id });
        }
        opened
    }
}

impl Store {
    /// All fingerprints of a user's walks.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn fingerprints(&self, user: &UserId) -> Result<Vec<Fingerprint>, StoreError> {
        let all = fingerprints(self, user, false, 0, i64::MAX, &self.readers).await?;
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
        fingerprints(self, user, false, 0, COMPARED as i64, &self.readers).await
    }

    /// The fingerprints of enrolled walks that a new one is compared with, each with its number, the
    /// newest first.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn newest_enrolled_fingerprints(
        &self,
        user: &UserId,
    ) -> Result<Vec<(i64, Fingerprint)>, StoreError> {
        fingerprints(self, user, true, 0, ENROLLED_COMPARED as i64, &self.readers).await
    }

    /// The kept recording of a user's walk, as `Transaction::add_recording` got it. `None` if it is
    /// damaged.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn recording_of(
        &self,
        user: &UserId,
        enrollment: i64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let query = query_as(
            "SELECT enrollment_id, user_id, key_id, recording FROM recordings
             JOIN enrollments ON enrollments.id = enrollment_id
             JOIN users ON users.id = user_id WHERE user_id = $1 AND enrollment_id = $2",
        );
        let query = query.bind(user.as_str()).bind(enrollment);
        let row: Option<RecordingRow> = query.fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(RecordingRow::open_all(self, vec![row]).await?.pop().and_then(|(_, opened)| opened))
    }

    /// Deletes recordings that are older than `kept`, and returns how many. If there were any,
    /// [`Store::scrub`] is due.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn erase_old_recordings(&self, kept: Duration) -> Result<u64, StoreError> {
        self.release_reserve();
        let erased = query("DELETE FROM recordings WHERE created_at_unix_seconds <= $1")
            .bind(unix_seconds().saturating_sub_unsigned(kept.as_secs()));
        self.write(erased.execute(&self.writer)).await
    }
}

impl Transaction {
    /// Stores the recording of an enrolled walk, unless it was deleted.
    ///
    /// # Errors
    /// If the user's key is missing, or the statement fails.
    pub async fn add_recording(&mut self, enrollment: i64, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(enrollment).await? else { return Ok(()) };
        let context = Context::recording(&owner.user, enrollment);
        query(
            "INSERT INTO recordings (enrollment_id, recording, created_at_unix_seconds)
             VALUES ($1, $2, $3)",
        )
        .bind(enrollment)
        .bind(owner.key.seal_row(&context, bytes)?)
        .bind(unix_seconds())
        .execute(&mut self.inner)
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
            fingerprints(&self.store, user, false, after, COMPARED as i64, &mut self.inner).await?;
        Ok(newer.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// Like [`Transaction::fingerprints_after`], of enrolled walks alone.
    ///
    /// # Errors
    /// As [`Store::fingerprints`].
    pub async fn enrolled_fingerprints_after(
        &mut self,
        user: &UserId,
        after: i64,
    ) -> Result<Vec<Fingerprint>, StoreError> {
        let (store, most) = (&self.store, ENROLLED_COMPARED as i64);
        let newer = fingerprints(store, user, true, after, most, &mut self.inner).await?;
        Ok(newer.into_iter().map(|(_, fingerprint)| fingerprint).collect())
    }

    /// Stores the fingerprint of an enrolled or of a verified walk. The newest 100 of verified walks
    /// are kept.
    ///
    /// # Errors
    /// If the user does not exist, their key is missing, or a statement fails.
    pub async fn add_fingerprint(
        &mut self,
        user: &UserId,
        enrollment: Option<i64>,
        fingerprint: &Fingerprint,
    ) -> Result<(), StoreError> {
        let owner = self.owner(user.as_str()).await?;
        let owner = owner.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?;
        let context = Context::fingerprint(user.as_str(), enrollment);
        query("INSERT INTO fingerprints (user_id, enrollment_id, fingerprint) VALUES ($1, $2, $3)")
            .bind(user.as_str())
            .bind(enrollment)
            .bind(owner.key.seal_row(&context, &fingerprint.to_bytes())?)
            .execute(&mut self.inner)
            .await?;
        if enrollment.is_none() {
            query(
                "DELETE FROM fingerprints WHERE user_id = $1 AND enrollment_id IS NULL AND id NOT IN
                 (SELECT id FROM fingerprints WHERE user_id = $1 AND enrollment_id IS NULL
                  ORDER BY id DESC LIMIT +$2)",
            )
            .bind(user.as_str())
            .bind(VERIFIED_KEPT)
            .execute(&mut self.inner)
            .await?;
        }
        Ok(())
    }
}

#[derive(sqlx::FromRow)]
struct FingerprintRow {
    id: i64,
    enrollment_id: Option<i64>,
    key_id: Option<Vec<u8>>,
    fingerprint: Vec<u8>,
}

async fn fingerprints<'c>(
    store: &Store,
    user: &UserId,
    only_enrolled: bool,
    after: i64,
    most: i64,
    connection: impl Into<Target<'c>>,
) -> Result<Vec<(i64, Fingerprint)>, StoreError> {
    let rows: Vec<FingerprintRow> = query_as(
        "SELECT fingerprints.id, enrollment_id, key_id, fingerprint
         FROM fingerprints JOIN users ON users.id = user_id
         WHERE user_id = $1 AND fingerprints.id > $2 AND (enrollment_id IS NOT NULL OR NOT $3)
         ORDER BY fingerprints.id DESC LIMIT +$4",
    )
    .bind(user.as_str())
    .bind(after)
    .bind(only_enrolled)
    .bind(most)
    .fetch_all(connection)
    .await?;
    store.keyring.learn(rows.iter().map(|row| row.key_id.as_deref())).await?;
    let fingerprint = |row: FingerprintRow| {
        let context = Context::fingerprint(user.as_str(), row.enrollment_id);
        let opened = store.keyring.open_row(row.key_id.as_deref(), &context, &row.fingerprint);
        let read = opened.and_then(|bytes| Fingerprint::from_bytes(&bytes).ok());
        if read.is_none() {
            store.damage.note(DamagedRow::Fingerprint { id: row.id });
        }
        Some((row.id, read?))
    };
    Ok(rows.into_iter().filter_map(fingerprint).collect())
}

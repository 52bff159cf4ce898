//! Users, and the record of their deletion.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bipedalnet_core::identity::{CollectionId, UserId, UserIdError};
use sha2::{Digest, Sha256};

use super::error::broken_reference;
use super::keyring::{KeyId, SecretKey, key_id};
use super::sql::{Target, either, query, query_as, query_scalar};
use super::{AuditEvent, Store, StoreError, Transaction, unix_seconds};

/// The purpose of the secret that makes digests of erased users.
pub(super) const ERASURES: &str = "erasures";

/// The purpose of the secret that signs a user's tokens.
const TOKENS: &[u8] = b"tokens";

/// How long a count of all users is used.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Users that other servers may create meanwhile.
const CREATED_ELSEWHERE: u64 = 1000;

/// A count of all users, with those that were created since. It spares a new user the count of all, except
/// near the limit.
#[derive(Default)]
pub(super) struct UserCount(Mutex<Option<(u64, Instant)>>);

/// A user, and how much is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub id: UserId,
    /// When they were created.
    pub created_at_unix_seconds: i64,
    /// Their walks.
    pub enrollments: u64,
    /// Windows of walking in them.
    pub windows: u64,
    /// Occasions on which they were recorded. Walks more than an hour apart are of two.
    pub occasions: u64,
    pub consent: Option<Consent>,
    /// When they last enrolled a walk or, to the day, were recognised.
    pub last_active_at_unix_seconds: i64,
}

/// Consent to the use of somebody's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Where it can be found, 1 to 200 characters.
    pub reference: String,
    pub given_at_unix_seconds: i64,
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: String,
    created_at_unix_seconds: i64,
    enrollments: i64,
    windows: i64,
    occasions: i64,
    consent_reference: Option<String>,
    consent_at_unix_seconds: Option<i64>,
    last_active_at_unix_seconds: i64,
}

impl UserRow {
    fn user(self, path: &Path) -> Result<User, StoreError> {
        Ok(User {
            id: user_id(path, self.id)?,
            created_at_unix_seconds: self.created_at_unix_seconds,
            enrollments: self.enrollments.unsigned_abs(),
            windows: self.windows.unsigned_abs(),
            occasions: self.occasions.unsigned_abs(),
            consent: Consent::of(self.consent_reference, self.consent_at_unix_seconds),
            last_active_at_unix_seconds: self.last_active_at_unix_seconds,
        })
    }
}

impl Consent {
    /// From the columns.
    pub(super) fn of(
        reference: Option<String>,
        given_at_unix_seconds: Option<i64>,
    ) -> Option<Self> {
        Some(Self { reference: reference?, given_at_unix_seconds: given_at_unix_seconds? })
    }
}

impl Store {
    /// A user.
    ///
    /// # Errors
    /// If the user does not exist, or the statement fails.
    pub async fn user(&self, user: &UserId) -> Result<User, StoreError> {
        one_user(&self.path, user, &self.readers).await
    }

    /// One of these users who does not exist.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn unknown_user(
        &self,
        users: &BTreeSet<UserId>,
    ) -> Result<Option<UserId>, StoreError> {
        let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let unknown: Option<String> = query_scalar(either(
            "SELECT value FROM json_each($1)
                 WHERE value NOT IN (SELECT id FROM users) LIMIT 1",
            "SELECT value FROM jsonb_array_elements_text($1::jsonb) AS value
                 WHERE value NOT IN (SELECT id FROM users) LIMIT 1",
        ))
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_optional(&self.readers)
        .await?;
        unknown.map(|id| user_id(&self.path, id)).transpose()
    }

    /// Users of a collection in the order of their names, beginning after `after`. With `inactive_since`,
    /// only those who were not active after that time.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn users(
        &self,
        collection: &CollectionId,
        after: Option<&UserId>,
        inactive_since_unix_seconds: Option<i64>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError> {
        let rows: Vec<UserRow> = query_as(
            "SELECT user_summaries.*, consent_reference, consent_at_unix_seconds,
             last_active_at_unix_seconds
             FROM user_summaries JOIN users USING (id)
             WHERE collection = $1 AND id > $2 AND last_active_at_unix_seconds <= $3
             ORDER BY id LIMIT +$4",
        )
        .bind(collection.as_str())
        .bind(after.map_or("", UserId::as_str))
        .bind(inactive_since_unix_seconds.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(|row| row.user(&self.path)).collect()
    }

    /// The secret that signs a user's tokens. It follows from the user's key: it is destroyed with the
    /// user, and a later user with the same id has another.
    ///
    /// # Errors
    /// If the user does not exist, their key was destroyed, or the statement fails.
    pub async fn token_secret(&self, user: &UserId) -> Result<SecretKey, StoreError> {
        self.user_secret(user, TOKENS).await
    }

    /// The secret for a purpose that follows from a user's key.
    pub(super) async fn user_secret(
        &self,
        user: &UserId,
        purpose: &[u8],
    ) -> Result<SecretKey, StoreError> {
        let key: Option<Option<Vec<u8>>> = query_scalar("SELECT key_id FROM users WHERE id = $1")
            .bind(user.as_str())
            .fetch_optional(&self.readers)
            .await?;
        let key = key.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?;
        self.keyring.learn([key.as_deref()].into_iter()).await?;
        let key = key.as_deref().and_then(key_id).and_then(|id| self.keyring.key(id));
        let key = key.ok_or(StoreError::KeyLost)?;
        Ok(SecretKey::new(key.digest(purpose)))
    }

    /// Destroys the keys of users who were deleted.
    ///
    /// # Errors
    /// If the keyring cannot be written, or a statement fails.
    pub(super) async fn destroy_erased_keys(&self) -> Result<(), StoreError> {
        let ids: Vec<Vec<u8>> =
            query_scalar("SELECT key_id FROM erased_keys").fetch_all(&self.readers).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let keys: Vec<KeyId> = ids.iter().filter_map(|id| key_id(id)).collect();
        self.keyring.destroy(&keys).await?;
        for id in ids {
            let forgotten = query("DELETE FROM erased_keys WHERE key_id = $1").bind(id);
            self.write(forgotten.execute(&self.writer)).await?;
        }
        Ok(())
    }
}

impl Transaction {
    /// Whether there may be one user more.
    async fn has_room(&mut self, most: u64) -> Result<bool, StoreError> {
        let counted = self.store.user_count.clone();
        let count = || counted.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((users, at)) = &mut *count()
            && at.elapsed() < COUNTED_FOR
            && *users + CREATED_ELSEWHERE < most
        {
            *users += 1;
            return Ok(true);
        }
        let users: i64 =
            query_scalar("SELECT count(*) FROM users").fetch_one(&mut self.inner).await?;
        let users = users.unsigned_abs();
        *count() = Some((users + 1, Instant::now()));
        Ok(users < most)
    }

    /// Creates a user with a key, unless there are `most` already, or as many in the collection as it may
    /// have. Returns whether they are new.
    ///
    /// # Errors
    /// If there are too many users, the collection does not exist, the keyring cannot be written, or a statement fails.
    pub async fn put_user(&mut self, user: &UserId, most: u64) -> Result<bool, StoreError> {
        let collection = user.collection();
        let found: Option<(bool, Option<i64>, i64)> = query_as(
            "SELECT EXISTS (SELECT 1 FROM users WHERE id = $1), max_users, CASE WHEN max_users IS NULL THEN 0
             ELSE (SELECT count(*) FROM users WHERE collection = $2) END
             FROM collections WHERE id = $2",
        )
        .bind(user.as_str())
        .bind(collection.as_str())
        .fetch_optional(&mut self.inner)
        .await?;
        let Some((is_known, most_here, users_here)) = found else {
            return Err(StoreError::NoSuchCollection(collection));
        };
        if is_known {
            return Ok(false);
        }
        if !self.has_room(most).await? {
            return Err(StoreError::TooManyUsers { most });
        }
        if let Some(most) = most_here.filter(|most| users_here >= *most) {
            return Err(StoreError::CollectionFull { most: most.unsigned_abs() });
        }
        // If the transaction fails, the keyring has a key too many, which does no harm.
        let key = self.store.noting_full(self.store.keyring.make_key().await)?;
        let created = query(
            "INSERT INTO users
             (id, created_at_unix_seconds, last_active_at_unix_seconds, key_id, collection)
             VALUES ($1, $2, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(user.as_str())
        .bind(unix_seconds())
        .bind(&key.0[..])
        .bind(collection.as_str())
        .execute(&mut self.inner)
        .await
        // Another server deleted it just now.
        .map_err(|error| broken_reference(error, StoreError::NoSuchCollection(collection)))?;
        // Another server may have created the user meanwhile.
        if created == 0 {
            return Ok(false);
        }
        self.audit(AuditEvent::UserCreated(user)).await?;
        Ok(true)
    }

    /// Records that a user consented. It replaces an earlier consent.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn record_consent(
        &mut self,
        user: &UserId,
        consent: &Consent,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE users SET consent_reference = $1, consent_at_unix_seconds = $2 WHERE id = $3",
        )
        .bind(&consent.reference)
        .bind(consent.given_at_unix_seconds)
        .bind(user.as_str())
        .execute(&mut self.inner)
        .await?;
        self.audit(AuditEvent::ConsentRecorded(user)).await
    }

    /// Stores when users were active. Less than a day later than before changes nothing.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn note_activity(&mut self, users: &HashMap<UserId, i64>) -> Result<(), StoreError> {
        for (user, active_at_unix_seconds) in users {
            query(
                "UPDATE users SET last_active_at_unix_seconds = $1
                 WHERE id = $2 AND last_active_at_unix_seconds <= $1 - 86400",
            )
            .bind(active_at_unix_seconds)
            .bind(user.as_str())
            .execute(&mut self.inner)
            .await?;
        }
        Ok(())
    }

    /// At most `most` users who were not active after a time.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn inactive_users(
        &mut self,
        since_unix_seconds: i64,
        most: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<String> = query_scalar(
            "SELECT id FROM users WHERE last_active_at_unix_seconds <= $1
             ORDER BY last_active_at_unix_seconds LIMIT +$2",
        )
        .bind(since_unix_seconds)
        .bind(most)
        .fetch_all(&mut self.inner)
        .await?;
        ids.into_iter().map(|id| user_id(&self.store.path, id)).collect()
    }

    /// A user, as this transaction leaves them.
    ///
    /// # Errors
    /// If the user does not exist, or the statement fails.
    pub async fn user(&mut self, user: &UserId) -> Result<User, StoreError> {
        one_user(&self.store.path, user, &mut self.inner).await
    }

    /// Deletes a user and all that is held about them. [`Store::scrub`] is due after it, which destroys
    /// their key.
    ///
    /// # Errors
    /// If the user does not exist, or a statement fails.
    pub async fn erase_user(&mut self, user: &UserId) -> Result<(), StoreError> {
        self.store.release_reserve();
        let enrollments = self.user(user).await?.enrollments as i64;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let digest = Sha256::new().chain_update(salt).chain_update(user.as_str()).finalize();
        let digest = self.store.keyring.secret(ERASURES).digest(&digest);
        query(
            "INSERT INTO erased_keys SELECT key_id FROM users WHERE id = $1 AND key_id IS NOT NULL",
        )
        .bind(user.as_str())
        .execute(&mut self.inner)
        .await?;
        self.note_deletion(user).await?;
        query("DELETE FROM users WHERE id = $1")
            .bind(user.as_str())
            .execute(&mut self.inner)
            .await?;
        self.owner = None;
        self.erase_responses(user).await?;
        query(
            "INSERT INTO erasures (user_digest, salt, enrollments, erased_at_unix_seconds, keyed)
             VALUES ($1, $2, $3, $4, TRUE)",
        )
        .bind(&digest[..])
        .bind(&salt[..])
        .bind(enrollments)
        .bind(unix_seconds())
        .execute(&mut self.inner)
        .await?;
        self.audit(AuditEvent::UserDeleted(user)).await
    }
}

pub(super) fn user_id(path: &Path, id: String) -> Result<UserId, StoreError> {
    UserId::from_stored(&id).map_err(|reason: UserIdError| StoreError::Row {
        path: path.to_owned(),
        row: format!("user {id:?}"),
        reason: reason.to_string(),
    })
}

async fn one_user<'c>(
    path: &Path,
    user: &UserId,
    connection: impl Into<Target<'c>>,
) -> Result<User, StoreError> {
    let row: Option<UserRow> = query_as(
        "SELECT user_summaries.*, consent_reference, consent_at_unix_seconds,
         last_active_at_unix_seconds
         FROM user_summaries JOIN users USING (id) WHERE id = $1",
    )
    .bind(user.as_str())
    .fetch_optional(connection)
    .await?;
    row.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?.user(path)
}

//! Challenges: the secret that signs a user's, and which were used.

use bipedalnet_core::identity::UserId;

use super::sql::{query, query_scalar};
use super::{SecretKey, Store, StoreError, Transaction, unix_seconds};

/// The purpose of the secret that signs a user's challenges.
const CHALLENGES: &[u8] = b"challenges";

/// How long a used challenge is kept after it expired. A clock that is set back by less makes none valid
/// again.
const KEPT_SECONDS: i64 = 3600;

impl Store {
    /// The secret that signs a user's challenges. It follows from the user's key, as
    /// [`Store::token_secret`] does.
    ///
    /// # Errors
    /// As [`Store::token_secret`].
    pub async fn challenge_secret(&self, user: &UserId) -> Result<SecretKey, StoreError> {
        self.user_secret(user, CHALLENGES).await
    }

    /// Whether a challenge was used.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn is_challenge_used(&self, nonce_digest: &[u8; 32]) -> Result<bool, StoreError> {
        let used = query_scalar("SELECT count(*) FROM used_challenges WHERE nonce_digest = $1");
        let used: i64 = used.bind(&nonce_digest[..]).fetch_one(&self.readers).await?;
        Ok(used > 0)
    }

    /// Forgets used challenges that have long expired.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn forget_used_challenges(&self) -> Result<(), StoreError> {
        let forgotten = query("DELETE FROM used_challenges WHERE expires_at_unix_seconds <= $1")
            .bind(unix_seconds() - KEPT_SECONDS);
        self.write(forgotten.execute(&self.writer)).await?;
        Ok(())
    }
}

impl Transaction {
    /// As [`Store::challenge_secret`], as this transaction leaves the user.
    ///
    /// # Errors
    /// As [`Store::challenge_secret`].
    pub async fn challenge_secret(&mut self, user: &UserId) -> Result<SecretKey, StoreError> {
        let owner = self.owner(user.as_str()).await?;
        let owner = owner.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?;
        Ok(SecretKey::new(owner.key.digest(CHALLENGES)))
    }

    /// Uses a challenge up. Returns whether it was unused.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn use_challenge(
        &mut self,
        nonce_digest: &[u8; 32],
        expires_at_unix_seconds: i64,
    ) -> Result<bool, StoreError> {
        let used = query(
            "INSERT INTO used_challenges (nonce_digest, expires_at_unix_seconds) VALUES ($1, $2)
             ON CONFLICT (nonce_digest) DO NOTHING",
        )
        .bind(&nonce_digest[..])
        .bind(expires_at_unix_seconds)
        .execute(&mut self.inner)
        .await?;
        Ok(used > 0)
    }
}

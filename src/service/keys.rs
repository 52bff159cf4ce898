//! Who sends a request: API keys, in memory, so that no request waits for the database, and user tokens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::ServiceError;
use crate::access::{ApiKey, Principal, SentToken, UserToken};
use crate::store::{SecretKey, Store, StoreError, unix_seconds};

/// The last use of a key is stored to the minute.
const USE_SECONDS: i64 = 60;

const TOKEN_ID_BYTES: usize = 6;

/// How often a key is checked while a response to it goes on.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Authenticates requests.
pub struct Keys {
    store: Store,
    by_id: RwLock<HashMap<String, ApiKey>>,
    /// Last uses that are not stored yet.
    uses: Mutex<HashMap<String, i64>>,
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It has no key.
    #[error("an API key is needed")]
    NoKey,
    /// Its key is wrong, expired or revoked. The client is not told which.
    #[error("the API key is invalid")]
    BadKey,
    /// It has a token whose time is over.
    #[error("the token has expired")]
    ExpiredToken,
}

impl Keys {
    /// Reads all keys.
    pub(super) async fn new(store: Store) -> Result<Self, StoreError> {
        let keys = Self { store, by_id: RwLock::default(), uses: Mutex::default() };
        keys.read().await?;
        Ok(keys)
    }

    /// The principal of a request with this key or token, or without one. If no key exists, none is
    /// needed. Only a token reads the database.
    ///
    /// # Errors
    /// If a key is needed, this one is invalid, or the database fails.
    pub async fn authenticate(&self, text: Option<&str>) -> Result<Principal, ServiceError> {
        if self.is_anonymous() {
            return Ok(Principal::anonymous());
        }
        let text = text.ok_or(AccessError::NoKey)?;
        if let Some(token) = SentToken::parse(text) {
            return self.authenticate_token(token).await;
        }
        let now = unix_seconds();
        let is_accepted = |key: &ApiKey| key.accepts(text, now);
        let key = ApiKey::id_in(text).and_then(|id| self.used(id, is_accepted));
        let key = key.ok_or(AccessError::BadKey)?;
        Ok(Principal {
            id: key.id.clone(),
            key: key.id,
            scopes: key.scopes,
            binding: key.binding,
            ..Principal::anonymous()
        })
    }

    /// A token is valid only while its key and its user are there.
    async fn authenticate_token(&self, token: SentToken) -> Result<Principal, ServiceError> {
        let now = unix_seconds();
        let key = self.used(token.key(), |key| key.is_live(now)).ok_or(AccessError::BadKey)?;
        let secret = match self.store.token_secret(token.user()).await {
            Err(StoreError::NoSuchUser(_) | StoreError::KeyLost) => {
                return Err(AccessError::BadKey.into());
            }
            secret => secret?,
        };
        let token = token.proven(secret.bytes()).ok_or(AccessError::BadKey)?;
        // One that lives for too long was made while the clock was wrong.
        let left_seconds = token.expires_at_unix_seconds - now;
        if left_seconds <= 0 || left_seconds > 2 * i64::from(UserToken::LONGEST_SECONDS) {
            return Err(AccessError::ExpiredToken.into());
        }
        Ok(Principal {
            id: token_id(&key.id, &secret),
            key: key.id,
            user: Some(token.user),
            scopes: token.scopes,
            binding: key.binding,
            network: None,
        })
    }

    /// A key, if it exists and a condition holds. Notes its use.
    fn used(&self, id: &str, is_good: impl Fn(&ApiKey) -> bool) -> Option<ApiKey> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let key = by_id.get(id).filter(|key| is_good(key))?.clone();
        let now = unix_seconds();
        if key.last_used_at_unix_seconds.is_none_or(|last| now - last >= USE_SECONDS) {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.insert(key.id.clone(), now);
        }
        Some(key)
    }

    /// Completes when the key of an earlier request is no longer valid, or if a request without one
    /// would now need it.
    pub async fn revoked(&self, principal: &Principal) {
        while self.is_valid(principal) {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    fn is_valid(&self, principal: &Principal) -> bool {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        match by_id.get(&principal.key) {
            Some(key) => key.is_live(unix_seconds()),
            None => by_id.is_empty() && principal.is_anonymous(),
        }
    }

    /// Whether requests need no key.
    pub fn is_anonymous(&self) -> bool {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads keys again, since `bipedalnet keys` changes them from another process, and stores which
    /// were used.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        self.read().await?;
        self.store.chain_audit_notes().await?;
        let uses: Vec<(String, i64)> = {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.drain().collect()
        };
        if !uses.is_empty() {
            self.store.note_api_key_uses(&uses).await?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<(), StoreError> {
        let keys = self.store.api_keys().await?;
        let by_id = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = by_id;
        Ok(())
    }
}

/// Id of the tokens that a key makes for a user. It names nobody: the secret is destroyed with the user.
pub(super) fn token_id(key: &str, secret: &SecretKey) -> String {
    format!("{key}.{}", const_hex::encode(&secret.digest(b"id")[..TOKEN_ID_BYTES]))
}

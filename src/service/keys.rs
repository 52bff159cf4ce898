//! API keys in memory, so that no request waits for the database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::access::{ApiKey, Principal};
use crate::store::{Store, StoreError, unix_seconds};

/// The last use of a key is stored to the minute.
const USE_SECONDS: i64 = 60;

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
}

impl Keys {
    /// Reads all keys.
    pub(super) async fn new(store: Store) -> Result<Self, StoreError> {
        let keys = Self { store, by_id: RwLock::default(), uses: Mutex::default() };
        keys.refresh().await?;
        Ok(keys)
    }

    /// The principal of a request with this key, or without one. If no key exists, none is needed.
    ///
    /// # Errors
    /// If a key is needed, or this one is invalid.
    pub fn authenticate(&self, key: Option<&str>) -> Result<Principal, AccessError> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        if by_id.is_empty() {
            return Ok(Principal::anonymous());
        }
        let text = key.ok_or(AccessError::NoKey)?;
        let known = ApiKey::id_in(text).and_then(|id| by_id.get(id));
        let now = unix_seconds();
        let key = known.filter(|key| key.accepts(text, now)).ok_or(AccessError::BadKey)?;
        if key.last_used_at_unix_seconds.is_none_or(|last| now - last >= USE_SECONDS) {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.insert(key.id.clone(), now);
        }
        Ok(Principal { id: key.id.clone(), scopes: key.scopes.clone(), network: None })
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
        match by_id.get(&principal.id) {
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
        self.store.chain_audit_notes().await?;
        let keys = self.store.api_keys().await?;
        let by_id = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = by_id;
        let uses: Vec<(String, i64)> = {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.drain().collect()
        };
        if !uses.is_empty() {
            self.store.note_api_key_uses(&uses).await?;
        }
        Ok(())
    }
}

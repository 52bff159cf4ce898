//! API keys in memory, so that no request waits for the database to know who sends it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use super::Service;
use crate::access::{ApiKey, Principal};
use crate::store::{StoreError, unix_seconds};

/// Uses of keys are noted to the minute.
const USE_SECONDS: i64 = 60;

/// All keys there are.
#[derive(Default)]
pub(super) struct Keys {
    by_id: RwLock<HashMap<String, ApiKey>>,
    /// Uses that are not noted yet.
    uses: Mutex<HashMap<String, i64>>,
}

/// Why a request is from nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// It has no key.
    #[error("an API key is needed")]
    NoKey,
    /// Its key is wrong, expired or revoked; which of these is not said.
    #[error("the API key is not good")]
    BadKey,
}

impl Service {
    /// Who sends a request with this key, or with none. A service that never had a key asks for none.
    ///
    /// # Errors
    /// When a key is needed, or this one is not good.
    pub fn authenticate(&self, key: Option<&str>) -> Result<Principal, AccessError> {
        let keys = &self.shared.keys;
        let by_id = keys.by_id.read().unwrap_or_else(PoisonError::into_inner);
        if by_id.is_empty() {
            return Ok(Principal::anonymous());
        }
        let text = key.ok_or(AccessError::NoKey)?;
        let known = ApiKey::id_in(text).and_then(|id| by_id.get(id));
        let now = unix_seconds();
        let key = known.filter(|key| key.accepts(text, now)).ok_or(AccessError::BadKey)?;
        if key.last_used_at_unix_seconds.is_none_or(|last| now - last >= USE_SECONDS) {
            let mut uses = keys.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.insert(key.id.clone(), now);
        }
        Ok(Principal { id: key.id.clone(), scopes: key.scopes.clone() })
    }

    /// Whether requests need no key.
    pub fn is_anonymous(&self) -> bool {
        self.shared.keys.by_id.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads keys anew and notes which were used: `bipedalnet keys` changes them from outside.
    pub(super) async fn refresh_keys(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let keys = shared.store.api_keys().await?;
        let by_id = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        *shared.keys.by_id.write().unwrap_or_else(PoisonError::into_inner) = by_id;
        let uses: Vec<(String, i64)> = {
            let mut uses = shared.keys.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.drain().collect()
        };
        if !uses.is_empty() {
            shared.store.note_api_key_uses(&uses).await?;
        }
        Ok(())
    }
}

//! When users were last recognised. Kept in memory at first, so that a recognition need not write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bipedalnet_core::identity::UserId;

use crate::store::{StoreError, Transaction, unix_seconds};

/// Notes who was recognised. Clones share the notes.
#[derive(Clone, Default)]
pub(super) struct Activity {
    /// When each user was last recognised, until that is stored.
    noted: Arc<Mutex<HashMap<UserId, i64>>>,
}

impl Activity {
    /// Notes that a user is active now.
    pub fn note(&self, user: &UserId) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.get_mut(user) {
            Some(last) => *last = unix_seconds(),
            None => {
                noted.insert(user.clone(), unix_seconds());
            }
        }
    }

    /// Stores what was noted, at most once a day for each user.
    pub async fn store(&self, transaction: &mut Transaction) -> Result<(), StoreError> {
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        transaction.note_activity(&noted).await
    }
}

//! Collections of users: create, read, limit, delete.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use bipedalnet_core::identity::CollectionId;

use super::ServiceError;
use super::active_model::ActiveModel;
use super::idempotency::Reservation;
use super::write::{Write, Writes};
use crate::access::Binding;
use crate::store::{Collection, CollectionLimits, Store, StoreError};
use crate::telemetry::Metrics;

/// Most collections. Each takes memory.
const MAX_COLLECTIONS: u64 = 100_000;

/// Manages collections. Knows which exist, so that no request waits for the database to find out.
pub struct Collections {
    store: Store,
    active: ActiveModel,
    writes: Writes,
    known: Arc<Known>,
}

struct Known {
    ids: RwLock<Ids>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Ids {
    all: HashSet<CollectionId>,
    oldest_first: Vec<CollectionId>,
}

impl Known {
    fn change(&self, change: impl FnOnce(&mut Ids)) {
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut ids);
        ids.all = ids.oldest_first.iter().cloned().collect();
        self.metrics.collections.show(&ids.oldest_first);
    }
}

impl Collections {
    pub(super) async fn new(
        store: Store,
        active: ActiveModel,
        writes: Writes,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let known = Arc::new(Known { ids: RwLock::default(), metrics: Arc::clone(metrics) });
        let ids = store.collection_ids().await?;
        known.change(|known| known.oldest_first = ids);
        Ok(Self { store, active, writes, known })
    }

    /// Checks that a collection exists.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, id: &CollectionId) -> Result<(), ServiceError> {
        let ids = self.known.ids.read().unwrap_or_else(PoisonError::into_inner);
        match ids.all.contains(id) {
            true => Ok(()),
            false => Err(ServiceError::NoSuchCollection(id.clone())),
        }
    }

    /// At most `limit` collections in the order of their ids, beginning after `after`: only those of the
    /// binding, if there is one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(
        &self,
        binding: Option<&Binding>,
        after: Option<&CollectionId>,
        limit: u32,
    ) -> Result<Vec<Collection>, ServiceError> {
        let Some(binding) = binding else {
            return Ok(self.store.collections(after, limit).await?);
        };
        let mut found = Vec::new();
        for id in binding.iter().filter(|id| after.is_none_or(|after| *id > after)) {
            if found.len() == limit as usize {
                break;
            }
            match self.store.collection(id).await {
                Ok(collection) => found.push(collection),
                Err(StoreError::NoSuchCollection(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// A collection.
    ///
    /// # Errors
    /// If it does not exist, or the database fails.
    pub async fn get(&self, id: &CollectionId) -> Result<Collection, ServiceError> {
        Ok(self.store.collection(id).await?)
    }

    /// Sets the limits of a collection. Creates it if needed, and returns whether it is new.
    ///
    /// # Errors
    /// If there are too many collections, or the database fails.
    pub async fn put(
        &self,
        reservation: Reservation,
        id: CollectionId,
        limits: CollectionLimits,
    ) -> Result<(bool, Collection, Write), ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        let is_new = write.transaction.put_collection(&id, limits, MAX_COLLECTIONS).await?;
        let collection = write.transaction.collection(&id).await?;
        if is_new {
            let known = Arc::clone(&self.known);
            write.after_commit(move || known.change(|ids| ids.oldest_first.push(id)));
        }
        Ok((is_new, collection, write))
    }

    /// Deletes an empty collection.
    ///
    /// # Errors
    /// If it does not exist, has users or is the default one, or the database fails.
    pub async fn delete(
        &self,
        reservation: Reservation,
        id: CollectionId,
    ) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        write.transaction.delete_collection(&id).await?;
        let (known, active) = (Arc::clone(&self.known), self.active.clone());
        write.after_commit(move || {
            known.change(|ids| ids.oldest_first.retain(|other| *other != id));
            active.get().galleries.forget(&id);
        });
        Ok(write)
    }
}

//! Collections of users: create, read, limit, delete.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

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

/// Manages collections. Knows which exist, so that a request waits for the database only if it names one
/// that is not known.
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
    /// The store's mark as they were read.
    mark: (i64, i64),
}

impl Known {
    fn read(&self) -> RwLockReadGuard<'_, Ids> {
        self.ids.read().unwrap_or_else(PoisonError::into_inner)
    }

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
        let collections = Self { store, active, writes, known };
        collections.refresh().await?;
        Ok(collections)
    }

    /// Reads which collections there are, if that changed: another server may share the database.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let mark = self.store.collections_mark().await?;
        if self.known.read().mark == mark {
            return Ok(());
        }
        let ids = self.store.collection_ids().await?;
        let before = self.known.read().all.clone();
        self.known.change(|known| {
            known.oldest_first = ids;
            known.mark = mark;
        });
        let model = self.active.get();
        for gone in before.difference(&self.known.read().all) {
            model.galleries.forget(gone);
        }
        Ok(())
    }

    /// Checks that a collection exists.
    ///
    /// # Errors
    /// If it does not, or the database fails.
    pub async fn check(&self, id: &CollectionId) -> Result<(), ServiceError> {
        if !self.known.read().all.contains(id) {
            self.store.collection(id).await?;
        }
        Ok(())
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
            write.after_commit(move || {
                known.change(|ids| {
                    // It may have been read already.
                    if !ids.all.contains(&id) {
                        ids.oldest_first.push(id);
                    }
                });
            });
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

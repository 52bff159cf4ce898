//! Retried requests: each is carried out once, and a retry gets the stored response.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bipedalnet_core::identity::UserId;

use super::ServiceError;
use crate::access::Principal;
use crate::store::{IdempotentRequest, Store, StoreError, StoredResponse, Transaction};

/// Principals and idempotency keys of requests that are being carried out.
type InFlight = Arc<Mutex<HashSet<(String, String)>>>;

/// Keeps retries from being carried out twice.
pub struct Idempotency {
    store: Store,
    in_flight: InFlight,
}

/// What is stored under the idempotency key of a request.
pub enum Reserved {
    /// Nothing. The request has to be carried out.
    New(Reservation),
    /// The response to an earlier request.
    Answered(StoredResponse),
}

/// The right to carry out a request of its sender. Until it is dropped, no other request with the same
/// idempotency key is carried out.
pub struct Reservation {
    pub(super) principal: Principal,
    held: Option<(IdempotentRequest, InFlight)>,
}

impl Idempotency {
    pub(super) fn new(store: Store) -> Self {
        Self { store, in_flight: InFlight::default() }
    }

    /// Reserves a request's idempotency key, or finds the stored response.
    ///
    /// # Errors
    /// If a request with this key is being carried out, the key was used for another request, the
    /// response named a user who was deleted since, or the database fails.
    pub async fn reserve(
        &self,
        principal: Principal,
        request: Option<IdempotentRequest>,
    ) -> Result<Reserved, ServiceError> {
        let Some(request) = request else {
            return Ok(Reserved::New(Reservation::of(principal)));
        };
        let is_free = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(in_flight(&request));
        if !is_free {
            return Err(ServiceError::InFlight);
        }
        let held = Some((request.clone(), Arc::clone(&self.in_flight)));
        let held = Reservation { principal, held };
        Ok(match self.store.stored_response(&request).await? {
            Some(response) => Reserved::Answered(response),
            None => Reserved::New(held),
        })
    }

    /// The response to a request that another server carried out while this one refused it. The refusal
    /// may be due to that: the walk is enrolled already.
    ///
    /// # Errors
    /// See [`Idempotency::reserve`].
    pub async fn answered_meanwhile(
        &self,
        request: Option<&IdempotentRequest>,
    ) -> Result<Option<StoredResponse>, ServiceError> {
        match request {
            Some(request) => Ok(self.store.stored_response(request).await?),
            None => Ok(None),
        }
    }
}

impl Reservation {
    /// For a request without an idempotency key.
    pub(super) fn of(principal: Principal) -> Self {
        Self { principal, held: None }
    }

    /// Refuses the request if another server has carried it out meanwhile. Its users are locked already.
    pub(super) async fn check(&self, transaction: &mut Transaction) -> Result<(), StoreError> {
        match &self.held {
            Some((request, _)) => transaction.refuse_answered(request).await,
            None => Ok(()),
        }
    }

    /// Stores the response in the transaction of the change. `users` are those whom it names.
    pub(super) async fn store(
        &self,
        transaction: &mut Transaction,
        users: &BTreeSet<UserId>,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        match &self.held {
            Some((request, _)) => transaction.keep_response(request, users, response).await,
            None => Ok(()),
        }
    }
}

/// For work of the service itself.
impl Default for Reservation {
    fn default() -> Self {
        Self::of(Principal::server())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some((request, keys)) = &self.held {
            keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&in_flight(request));
        }
    }
}

fn in_flight(request: &IdempotentRequest) -> (String, String) {
    (request.principal.clone(), request.idempotency_key.clone())
}

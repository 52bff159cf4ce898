//! Changes: one at a time, each with its answer, each answered once.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::{PoolError, Service, ServiceError, Shared};
use crate::store::{IdempotentRequest, StoreError, StoredResponse, Transaction};
use bipedalnet_core::identity::UserId;

/// An answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to send.
    pub reply: StoredResponse,
    /// Whether it was given before, to an earlier request under the same key.
    pub replayed: bool,
}

/// What a request to write meets.
pub(super) enum Start {
    /// It is new.
    New(Ticket),
    /// It was answered before.
    Answered(Answer),
}

/// The right to carry out a request; no other under the same key has it meanwhile.
pub(super) struct Ticket {
    request: Option<IdempotentRequest>,
    shared: Arc<Shared>,
}

/// A change that is being made.
pub(super) struct Turn {
    pub writing: Transaction,
    ticket: Ticket,
}

/// Principals and keys of requests that are being carried out.
pub(super) type InFlight = Mutex<HashSet<(String, String)>>;

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            let mut keys = self.shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            keys.remove(&in_flight(request));
        }
    }
}

fn in_flight(request: &IdempotentRequest) -> (String, String) {
    (request.principal.clone(), request.idempotency_key.clone())
}

impl Ticket {
    /// Whether the answer is kept for retries.
    pub fn is_repeatable(&self) -> bool {
        self.request.is_some()
    }

    /// Keeps the answer for retries, in the change that it is about. `users` are whom it names.
    pub async fn keep(
        &self,
        writing: &mut Transaction,
        users: &BTreeSet<UserId>,
        reply: &StoredResponse,
    ) -> Result<(), StoreError> {
        match &self.request {
            Some(request) => writing.keep_response(request, users, reply).await,
            None => Ok(()),
        }
    }
}

impl Service {
    /// Takes up a request, or finds its earlier answer.
    pub(super) async fn start(
        &self,
        request: Option<IdempotentRequest>,
    ) -> Result<Start, ServiceError> {
        if let Some(request) = &request {
            let mut keys = self.shared.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            if !keys.insert(in_flight(request)) {
                return Err(ServiceError::InFlight);
            }
        }
        let ticket = Ticket { request, shared: Arc::clone(&self.shared) };
        if let Some(request) = &ticket.request
            && let Some(reply) = self.shared.store.stored_response(request).await?
        {
            return Ok(Start::Answered(Answer { reply, replayed: true }));
        }
        Ok(Start::New(ticket))
    }

    /// Makes a change that needs no preparation, unless it was made before.
    pub(super) async fn write_once<F>(
        &self,
        request: Option<IdempotentRequest>,
        change: impl FnOnce(Arc<Shared>, Turn) -> F + Send + 'static,
    ) -> Result<Answer, ServiceError>
    where
        F: Future<Output = Result<StoredResponse, ServiceError>> + Send,
    {
        match self.start(request).await? {
            Start::New(ticket) => self.write(ticket, change).await,
            Start::Answered(answer) => Ok(answer),
        }
    }

    /// Changes database and gallery, one change at a time, in a task of its own: a client that hangs
    /// up cannot part the two.
    pub(super) async fn write<F>(
        &self,
        ticket: Ticket,
        change: impl FnOnce(Arc<Shared>, Turn) -> F + Send + 'static,
    ) -> Result<Answer, ServiceError>
    where
        F: Future<Output = Result<StoredResponse, ServiceError>> + Send,
    {
        let shared = Arc::clone(&self.shared);
        // A client that hangs up before its turn has changed nothing, and waits no more.
        let place = shared.place()?;
        let queued = Instant::now();
        let one_at_a_time = Arc::clone(&shared.writing).lock_owned().await;
        drop(place);
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            let begin = Instant::now();
            let stages = &shared.metrics.stages;
            stages.turn.observe((begin - queued).as_secs_f64());
            let writing = shared.store.write().await?;
            let reply = change(Arc::clone(&shared), Turn { writing, ticket }).await?;
            stages.store.observe(begin.elapsed().as_secs_f64());
            Ok(Answer { reply, replayed: false })
        });
        task.await.map_err(|_| PoolError::Failed)?
    }
}

impl Shared {
    /// A place among the changes that wait.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, PoolError> {
        Arc::clone(&self.changes).try_acquire_owned().map_err(|_| {
            self.metrics.shed.changes_full.inc();
            self.pool.refusal()
        })
    }

    /// Makes a change last.
    pub(super) async fn commit(&self, writing: Transaction) -> Result<(), StoreError> {
        let begin = Instant::now();
        writing.commit().await?;
        let seconds = begin.elapsed().as_secs_f64();
        self.metrics.database.commit_seconds.observe(seconds);
        Ok(())
    }
}

impl Turn {
    /// Makes the change and its answer last. `users` are whom the answer names.
    pub async fn commit(
        mut self,
        users: &BTreeSet<UserId>,
        reply: &StoredResponse,
    ) -> Result<(), StoreError> {
        self.ticket.keep(&mut self.writing, users, reply).await?;
        self.ticket.shared.commit(self.writing).await
    }
}

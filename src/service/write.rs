//! Writes: one at a time, each a change of the database and of what is in memory.
//!
//! A use case makes its change in a [`Write`] and returns that with its outcome. The caller encodes
//! the outcome and commits both: the response is stored in the same transaction, and the change shows
//! in memory once it is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bipedalnet_core::identity::{UserId, UserTemplates};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use super::ServiceError;
use super::active_model::ActiveModel;
use super::idempotency::Reservation;
use super::maintenance::LogScrubber;
use super::pool::{Pool, PoolError};
use super::replica::Replica;
use crate::store::{Store, StoreError, StoredResponse, Transaction};
use crate::telemetry::Metrics;

/// Writes that may wait for their turn; more are refused.
const MAX_WAITING: usize = 1024;

/// Where writes begin. Clones share one queue.
#[derive(Clone)]
pub(super) struct Writes {
    store: Store,
    active: ActiveModel,
    pool: Pool,
    metrics: Arc<Metrics>,
    log: LogScrubber,
    replica: Replica,
    turn: Arc<Mutex<()>>,
    /// A permit for each write that waits for its turn.
    places: Arc<Semaphore>,
}

/// The right to write. Held from before a transaction until the change shows in memory, so that
/// database and memory change in one order.
pub(super) type Turn = Arc<OwnedMutexGuard<()>>;

/// A change that is not committed yet. Dropped, it never was.
pub struct Write {
    pub(super) transaction: Transaction,
    pub(super) gallery: GalleryChanges,
    /// Users whom the outcome names. If one is deleted, the stored response is deleted, too.
    pub(super) named_users: BTreeSet<UserId>,
    /// Numbers of walks that it added to sessions.
    pub(super) session_walks: Vec<i64>,
    /// Whether it changes more in memory than the gallery: the active model.
    pub(super) is_change: bool,
    /// Whether data was deleted that must leave the write-ahead log before the response.
    pub(super) scrubs_log: bool,
    after_commit: Vec<Box<dyn FnOnce() + Send>>,
    reservation: Reservation,
    writes: Writes,
    begin: Instant,
    // Last, so that a rollback is queued before the next turn.
    _turn: Turn,
}

/// What a write changes in the gallery.
#[derive(Default)]
pub(super) struct GalleryChanges {
    /// All templates of each user who changes. Without templates a user leaves the gallery.
    pub users: BTreeMap<UserId, UserTemplates>,
    pub enrolled: u64,
    pub updates: u64,
}

impl Writes {
    pub fn new(
        store: Store,
        active: ActiveModel,
        pool: Pool,
        metrics: Arc<Metrics>,
        log: LogScrubber,
        replica: Replica,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MAX_WAITING));
        Self { store, active, pool, metrics, log, replica, turn: Arc::default(), places }
    }

    /// Waits for the turn and begins a write.
    pub async fn begin(&self, reservation: Reservation) -> Result<Write, ServiceError> {
        let turn = self.next_turn().await?;
        Ok(self.begin_in(&turn, reservation).await?)
    }

    /// As [`Writes::begin`], while no other server of the same database writes. The memory has all that
    /// they wrote.
    pub async fn begin_alone(&self, reservation: Reservation) -> Result<Write, ServiceError> {
        let turn = self.next_turn().await?;
        let transaction = self.store.begin_alone().await?;
        self.replica.catch_up().await?;
        Ok(self.write(&turn, reservation, transaction))
    }

    async fn next_turn(&self) -> Result<Turn, ServiceError> {
        let place = self.place()?;
        let queued = Instant::now();
        let turn = self.turn().await;
        drop(place);
        self.metrics.stages.turn.ended(queued);
        Ok(turn)
    }

    /// A place in the queue.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, PoolError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            self.metrics.shed.changes_full.inc();
            self.pool.refusal()
        })
    }

    /// Writes that wait for their turn.
    pub fn waiting(&self) -> usize {
        MAX_WAITING - self.places.available_permits()
    }

    pub async fn turn(&self) -> Turn {
        Arc::new(Arc::clone(&self.turn).lock_owned().await)
    }

    pub async fn begin_in(
        &self,
        turn: &Turn,
        reservation: Reservation,
    ) -> Result<Write, StoreError> {
        Ok(self.write(turn, reservation, self.store.begin().await?))
    }

    fn write(&self, turn: &Turn, reservation: Reservation, mut transaction: Transaction) -> Write {
        transaction.act_for(reservation.principal.actor());
        Write {
            transaction,
            gallery: GalleryChanges::default(),
            named_users: BTreeSet::new(),
            session_walks: Vec::new(),
            is_change: false,
            scrubs_log: false,
            after_commit: Vec::new(),
            reservation,
            writes: self.clone(),
            begin: Instant::now(),
            _turn: Arc::clone(turn),
        }
    }
}

impl Write {
    /// Keeps other servers from changing these users until the write ends. The memory has all that they
    /// wrote about them. To be called before anything of the users is read.
    pub(super) async fn claim(&mut self, users: &[&UserId]) -> Result<(), ServiceError> {
        self.transaction.lock_users(users).await?;
        self.reservation.check(&mut self.transaction).await?;
        self.writes.replica.catch_up().await
    }

    /// A response that names the change, if other servers must have it to answer alike.
    pub(super) fn naming_change(&self, response: StoredResponse) -> StoredResponse {
        let changes_memory = self.is_change || !self.gallery.users.is_empty();
        let change = self.transaction.change().filter(|_| changes_memory);
        StoredResponse { change, ..response }
    }

    /// Commits the change together with its response, which a retry gets back. Returns the response.
    ///
    /// # Errors
    /// If the database fails. Nothing was changed then.
    pub async fn commit_with(
        mut self,
        response: StoredResponse,
    ) -> Result<StoredResponse, ServiceError> {
        let response = self.naming_change(response);
        self.reservation.store(&mut self.transaction, &self.named_users, &response).await?;
        self.commit().await?;
        Ok(response)
    }

    /// Commits the change without a response.
    ///
    /// # Errors
    /// If the database fails. Nothing was changed then.
    pub async fn commit(self) -> Result<(), ServiceError> {
        // In a separate task: if the client hangs up, database and memory still agree.
        let task = async move {
            let (begin, metrics) = (self.begin, Arc::clone(&self.writes.metrics));
            self.finish().await?;
            metrics.stages.store.ended(begin);
            Ok(())
        };
        tokio::spawn(task.in_current_span()).await.map_err(|_| PoolError::Failed)?
    }

    /// As [`Write::commit`]. The caller must not be dropped before this ends.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        self.transaction.note_changes(self.gallery.users.keys()).await?;
        let Writes { active, metrics, log, replica, .. } = &self.writes;
        let begin = Instant::now();
        let memory = replica.hold().await;
        self.transaction.commit().await?;
        metrics.database.commit_seconds.observe(begin.elapsed().as_secs_f64());
        if self.gallery.updates > 0 {
            // Older updates may have been deleted.
            log.set_due();
        }
        self.gallery.apply(active, metrics);
        self.after_commit.into_iter().for_each(|change| change());
        drop(memory);
        if self.scrubs_log {
            log.scrub().await;
        }
        Ok(())
    }

    /// Adds a change to the state in memory. It is made once the write is on disk.
    pub(super) fn after_commit(&mut self, change: impl FnOnce() + Send + 'static) {
        self.after_commit.push(Box::new(change));
    }
}

impl GalleryChanges {
    fn apply(self, active: &ActiveModel, metrics: &Metrics) {
        metrics.walks.enrollments.inc_by(self.enrolled);
        metrics.walks.template_updates.inc_by(self.updates);
        if self.users.is_empty() {
            return;
        }
        let model = active.get();
        // Users of one collection follow one another, and change together.
        let users: Vec<(UserId, UserTemplates)> = self.users.into_iter().collect();
        for of_collection in users.chunk_by(|(a, _), (b, _)| a.collection() == b.collection()) {
            let collection = of_collection[0].0.collection();
            model.galleries.change(&collection, |gallery| {
                for (user, templates) in of_collection {
                    gallery.replace(user, templates.clone());
                }
            });
            active.gallery_changed(collection);
        }
    }
}

//! Writes enrollments that arrive at the same time in one transaction, so that they share one wait
//! for the disk.

use std::collections::{BTreeSet, VecDeque};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bipedalnet_core::identity::UserId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Span;

use super::ServiceError;
use super::active_model::ActiveModel;
use super::enroll::Enrolled;
use super::idempotency::Reservation;
use super::pool::PoolError;
use super::walk_admission::{Permit, WalkAdmission};
use super::walk_reader::{ReadWalk, WalkReader};
use super::write::{Turn, Writes};
use crate::store::StoredResponse;

/// Enrollments in one transaction. Later writes wait for all of them.
const MAX_BATCH: usize = 64;

/// Writes enrollments. Clones share one queue.
#[derive(Clone)]
pub(super) struct BatchWriter {
    active: ActiveModel,
    reader: WalkReader,
    admission: WalkAdmission,
    writes: Writes,
    /// Oldest first.
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
}

/// An enrollment that waits for its turn.
struct Waiting {
    reservation: Reservation,
    user: UserId,
    walk: ReadWalk,
    permit: Permit,
    encode: Box<dyn Fn(Enrolled) -> StoredResponse + Send>,
    done: oneshot::Sender<Result<StoredResponse, ServiceError>>,
    queued: Instant,
    /// The span of the request.
    span: Span,
    _place: OwnedSemaphorePermit,
}

impl BatchWriter {
    pub fn new(
        active: ActiveModel,
        reader: WalkReader,
        admission: WalkAdmission,
        writes: Writes,
    ) -> Self {
        Self { active, reader, admission, writes, waiting: Arc::default() }
    }

    /// Enrolls a walk, together with others that wait. If the client hangs up before its turn, nothing
    /// changes.
    pub async fn enroll(
        &self,
        reservation: Reservation,
        user: UserId,
        walk: ReadWalk,
        permit: Permit,
        encode: impl Fn(Enrolled) -> StoredResponse + Send + 'static,
    ) -> Result<StoredResponse, ServiceError> {
        let _place = self.writes.place()?;
        let (done, result) = oneshot::channel();
        let waiting = Waiting {
            reservation,
            user,
            walk,
            permit,
            encode: Box::new(encode),
            done,
            queued: Instant::now(),
            span: Span::current(),
            _place,
        };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        // There is one task per walk, so no walk is left behind, whichever task writes it.
        let writer = self.clone();
        tokio::spawn(async move {
            let turn = writer.writes.turn().await;
            writer.write_batch(&turn).await;
        });
        result.await.map_err(|_| PoolError::Failed)?
    }

    async fn write_batch(&self, turn: &Turn) {
        let begin = Instant::now();
        let taken: Vec<Waiting> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = waiting.len().min(MAX_BATCH);
            waiting.drain(..count).collect()
        };
        let stages = &self.reader.metrics.stages;
        let mut batch = Vec::with_capacity(taken.len());
        for mut waiting in taken {
            if waiting.done.is_closed() {
                continue;
            }
            waiting.span.in_scope(|| stages.turn.took(waiting.queued, begin - waiting.queued));
            match self.reader.read_again(&self.active, &mut waiting.walk).await {
                Ok(()) => batch.push(waiting),
                Err(error) => waiting.end(Err(error)),
            }
        }
        if batch.is_empty() {
            return;
        }
        let results = match self.write(turn, &mut batch).await {
            Ok(results) => results,
            Err(error) if batch.len() == 1 => vec![Err(error)],
            // None was written. Each tries alone, so that it has its own result.
            Err(_) => {
                let mut results = Vec::with_capacity(batch.len());
                for waiting in &mut batch {
                    let result = self.write(turn, slice::from_mut(waiting)).await;
                    results.push(result.and_then(|mut results| results.remove(0)));
                }
                results
            }
        };
        for (waiting, result) in batch.into_iter().zip(results) {
            if result.is_ok() {
                waiting.span.in_scope(|| stages.store.ended(begin));
            }
            waiting.end(result);
        }
    }

    /// Writes a batch in one transaction. Each enrollment has its own result, unless the database
    /// fails.
    async fn write(
        &self,
        turn: &Turn,
        batch: &mut [Waiting],
    ) -> Result<Vec<Result<StoredResponse, ServiceError>>, ServiceError> {
        let mut write = self.writes.begin_in(turn, Reservation::default()).await?;
        let users: Vec<&UserId> = batch.iter().map(|waiting| &waiting.user).collect();
        write.claim(&users).await?;
        let max_enrollments = self.reader.settings.get().max_enrollments_per_user;
        let mut results = Vec::with_capacity(batch.len());
        for Waiting { reservation, user, walk, permit, encode, .. } in batch {
            write.transaction.act_for(reservation.principal.actor());
            let enrolled = async {
                // Another server may have carried it out, or activated a model.
                reservation.check(&mut write.transaction).await?;
                self.reader.read_again(&self.active, walk).await?;
                self.admission.admit(&mut write, permit, user, walk).await?;
                write.add_enrollment(&self.active, max_enrollments, user, walk).await
            };
            results.push(match enrolled.await {
                Ok(enrolled) => {
                    let response = write.naming_change(encode(enrolled));
                    let named = BTreeSet::from([user.clone()]);
                    reservation.store(&mut write.transaction, &named, &response).await?;
                    Ok(response)
                }
                Err(error @ ServiceError::Store(_)) => return Err(error),
                Err(error) => Err(error),
            });
        }
        write.finish().await?;
        Ok(results)
    }
}

impl Waiting {
    fn end(self, result: Result<StoredResponse, ServiceError>) {
        let Self { reservation, done, .. } = self;
        // The client may send its request again as soon as it knows the result.
        drop(reservation);
        // The client may have hung up.
        let _ = done.send(result);
    }
}

//! Enrollments that come while another change is made: they share one transaction, and so one wait
//! for the disk.

use std::collections::{BTreeSet, VecDeque};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::enrolling::{Enrolled, Walks};
use super::evidence::Walk;
use super::writing::{Answer, Ticket};
use super::{PoolError, Service, ServiceError, Shared, StoredResponse};
use bipedalnet_core::identity::UserId;

/// Enrollments of one transaction, at most: what comes after them waits that long.
const MOST: usize = 64;

/// Those that wait, in the order in which they came.
pub(super) type WaitingWalks = Mutex<VecDeque<Waiting>>;

/// An enrollment that waits for its turn.
pub(super) struct Waiting {
    ticket: Ticket,
    user: UserId,
    walk: Walk,
    answer: Box<dyn Fn(Enrolled) -> StoredResponse + Send>,
    done: oneshot::Sender<Result<Answer, ServiceError>>,
    queued: Instant,
    _place: OwnedSemaphorePermit,
}

impl Service {
    /// Enrolls a walk, together with others that wait. A client that hangs up before its turn has
    /// changed nothing.
    pub(super) async fn enroll_together(
        &self,
        ticket: Ticket,
        user: UserId,
        walk: Walk,
        answer: impl Fn(Enrolled) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let _place = shared.place()?;
        let (done, result) = oneshot::channel();
        let (answer, queued) = (Box::new(answer), Instant::now());
        let waiting = Waiting { ticket, user, walk, answer, done, queued, _place };
        shared.walks().push_back(waiting);
        // As many tasks as walks, so that none is left behind, whichever of them a task finds.
        tokio::spawn(async move {
            let _one_at_a_time = shared.writing.lock().await;
            shared.enroll_waiting().await;
        });
        result.await.map_err(|_| PoolError::Failed)?
    }
}

impl Shared {
    fn walks(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting_walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enrolls those that wait. For whoever has the turn to write.
    async fn enroll_waiting(&self) {
        let begin = Instant::now();
        let taken: Vec<Waiting> = {
            let mut walks = self.walks();
            let count = walks.len().min(MOST);
            walks.drain(..count).collect()
        };
        let mut group = Vec::with_capacity(taken.len());
        for mut waiting in taken {
            if waiting.done.is_closed() {
                continue;
            }
            self.metrics.stages.turn.observe((begin - waiting.queued).as_secs_f64());
            match self.read_by_who_serves(&mut waiting.walk).await {
                Ok(()) => group.push(waiting),
                Err(error) => waiting.end(Err(error)),
            }
        }
        if group.is_empty() {
            return;
        }
        let results = match self.enroll_group(&mut group).await {
            Ok(results) => results,
            Err(error) if group.len() == 1 => vec![Err(error)],
            // None was written. Each tries by itself, so that it has its own result.
            Err(_) => {
                let mut results = Vec::with_capacity(group.len());
                for waiting in &mut group {
                    let result = self.enroll_group(slice::from_mut(waiting)).await;
                    results.push(result.and_then(|mut results| results.remove(0)));
                }
                results
            }
        };
        for (waiting, result) in group.into_iter().zip(results) {
            if result.is_ok() {
                self.metrics.stages.store.observe(begin.elapsed().as_secs_f64());
            }
            waiting.end(result);
        }
    }

    /// Enrolls walks in one transaction: each has a result of its own, unless the database fails.
    async fn enroll_group(
        &self,
        group: &mut [Waiting],
    ) -> Result<Vec<Result<StoredResponse, ServiceError>>, ServiceError> {
        let mut writing = self.store.write().await?;
        let mut walks = Walks::default();
        let mut results = Vec::with_capacity(group.len());
        for Waiting { ticket, user, walk, answer, .. } in group {
            results.push(match walks.add(self, &mut writing, user, walk).await {
                Ok(enrolled) => {
                    let reply = answer(enrolled);
                    ticket.keep(&mut writing, &BTreeSet::from([user.clone()]), &reply).await?;
                    Ok(reply)
                }
                Err(error @ ServiceError::Store(_)) => return Err(error),
                Err(error) => Err(error),
            });
        }
        self.commit(writing).await?;
        walks.show(self);
        Ok(results)
    }
}

impl Waiting {
    fn end(self, result: Result<StoredResponse, ServiceError>) {
        let Self { ticket, done, .. } = self;
        // Before the client knows: it may ask again at once.
        drop(ticket);
        // The client may have gone in the meantime.
        let _ = done.send(result.map(|reply| Answer { reply, replayed: false }));
    }
}

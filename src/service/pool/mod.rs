//! Threads for compute, separate from the async runtime's, with a bounded queue that is fair to all
//! senders.
//!
//! A request is admitted or refused at its first job, and again when its cost is known. Its other jobs
//! are always queued. Jobs are short: long work is several jobs, so that nobody waits for all of it.

mod cost;
mod fair_queue;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::Scratch;
pub use cost::Cost;
use fair_queue::FairQueue;
pub use fair_queue::Sender;
use tokio::sync::oneshot;
use tracing::Span;

use crate::telemetry::Metrics;

/// Places in the queue for each thread. A sender may take as many as are left, so one alone has half. At
/// well under a millisecond each, these are a few tens of milliseconds of work.
const QUEUE_PER_THREAD: usize = 128;

tokio::task_local! {
    static REQUEST: RequestState;
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A request with a deadline.
struct RequestState {
    deadline: Instant,
    sender: RefCell<Sender>,
    admitted: Cell<bool>,
}

/// Runs a request that is useless after `deadline`. The pool refuses it if the queue is longer, and
/// drops those of its jobs that would begin later. Tasks that the request spawns have no deadline.
pub async fn until<F: Future>(deadline: Instant, request: F) -> F::Output {
    let sender = RefCell::default();
    REQUEST.scope(RequestState { deadline, sender, admitted: Cell::new(false) }, request).await
}

/// Says who sent the current request. Senders share compute and memory fairly.
pub fn sent_by(sender: Sender) {
    // Without a deadline, it is work in the background.
    let _ = REQUEST.try_with(|request| request.sender.replace(sender));
}

/// Who sent the current request.
pub fn sender() -> Sender {
    REQUEST.try_with(|request| request.sender.borrow().clone()).unwrap_or_default()
}

/// A thread pool with a bounded queue. Clones share it.
#[derive(Clone)]
pub struct Pool {
    threads: Arc<rayon::ThreadPool>,
    load: Arc<Load>,
}

type Job = Box<dyn FnOnce(Running) + Send>;

/// The pool's current work.
struct Load {
    metrics: Arc<Metrics>,
    threads: usize,
    queue: Mutex<FairQueue<Job>>,
    running: AtomicU64,
    refusals: AtomicU64,
}

/// Whether a job may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Refused if the sender has too many jobs in the queue, or work of this cost would end after the
    /// deadline.
    Costing(Cost),
    /// Never refused: the rest of an admitted request, one job at a time, or work in the background.
    Always,
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full, or longer than the client waits.
    #[error("the server is busy; try again in {retry_after_seconds} s")]
    Overloaded {
        /// When there should be room again. Varies, so that clients do not all come back at once.
        retry_after_seconds: u64,
    },
    /// A bug in this program.
    #[error("the computation failed")]
    Failed,
}

/// Admitted work. It counts until it is dropped.
pub struct Admitted {
    load: Arc<Load>,
    sender: Sender,
    cost: Cost,
}

impl Admitted {
    /// A part of the work is done.
    pub fn spend(&mut self, cost: Cost) {
        let cost = cost.min(self.cost);
        self.cost = self.cost - cost;
        self.load.queue().settle(&self.sender, cost);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.load.queue().settle(&self.sender, self.cost);
    }
}

/// A job on a thread. Counts its time when it ends, even by a panic.
struct Running {
    load: Arc<Load>,
    sender: Sender,
    begin: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        let taken = self.begin.elapsed();
        self.load.running.fetch_sub(1, Ordering::Relaxed);
        self.load.queue().ended(&self.sender, taken);
        self.load.metrics.pool.busy_seconds.inc_by(taken.as_secs_f64());
    }
}

impl Load {
    fn queue(&self) -> MutexGuard<'_, FairQueue<Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the next job. Called once for each job in the queue.
    fn run_next(self: Arc<Self>) {
        let Some((sender, job)) = self.queue().pop() else { return };
        self.running.fetch_add(1, Ordering::Relaxed);
        job(Running { load: self, sender, begin: Instant::now() });
    }

    /// Admits a request, or refuses it.
    fn admit(self: &Arc<Self>, cost: Cost, is_first: bool) -> Result<Admitted, PoolError> {
        let (sender, deadline) = (sender(), deadline());
        let mut queue = self.queue();
        let time = queue.time_until(&sender, cost) / self.threads as u32;
        let places = (self.threads * QUEUE_PER_THREAD).saturating_sub(queue.waiting());
        let reason = if is_first && queue.waiting_of(&sender) >= places {
            &self.metrics.shed.queue_full
        } else if deadline.is_some_and(|deadline| deadline < Instant::now() + time) {
            &self.metrics.shed.deadline
        } else {
            queue.owe(&sender, cost);
            drop(queue);
            return Ok(Admitted { load: Arc::clone(self), sender, cost });
        };
        reason.inc();
        Err(self.refused(time))
    }

    fn refused(&self, drained: Duration) -> PoolError {
        let soonest = drained.as_secs() + 1;
        let later = self.refusals.fetch_add(1, Ordering::Relaxed) % (soonest + 1);
        PoolError::Overloaded { retry_after_seconds: soonest + later }
    }
}

impl Pool {
    /// One thread per processor.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("inference-{index}"))
            // A panic drops the job's channel, which the waiting request sees.
            .panic_handler(|_| tracing::error!("a computation panicked"))
            .build()
            .expect("the system starts threads");
        let load = Load {
            metrics,
            threads: threads.current_num_threads(),
            queue: Mutex::new(FairQueue::new()),
            running: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        };
        Self { threads: Arc::new(threads), load: Arc::new(load) }
    }

    /// Admits the rest of a request, whose cost is known by now. Its jobs then need no admission of
    /// their own.
    ///
    /// # Errors
    /// If it would end after its deadline.
    pub fn admit(&self, cost: Cost) -> Result<Admitted, PoolError> {
        let is_first = !REQUEST.try_with(|request| request.admitted.replace(true)).unwrap_or(false);
        self.load.admit(cost, is_first)
    }

    /// Runs a job and waits for its result. A job is dropped if its caller has gone, or its deadline
    /// has passed, before it begins.
    ///
    /// # Errors
    /// If the job was refused or dropped, or panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        admission: Admission,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let admitted = match admission {
            Admission::Costing(cost) => Some(self.admit(cost)?),
            Admission::Always => None,
        };
        let deadline = deadline();
        let (result, receiver) = oneshot::channel();
        let metrics = Arc::clone(&self.load.metrics);
        let (queued, span) = (Instant::now(), Span::current());
        let job = move |running: Running| {
            let _admitted = admitted;
            let _entered = span.enter();
            metrics.stages.queue.took(queued, running.begin - queued);
            if deadline.is_some_and(|deadline| deadline < running.begin) {
                metrics.shed.deadline.inc();
                return;
            }
            if result.is_closed() {
                metrics.shed.client_gone.inc();
                return;
            }
            let value = SCRATCH.with_borrow_mut(job);
            drop((running, _admitted));
            // The caller may have gone in the meantime.
            let _ = result.send(value);
        };
        self.load.queue().push(&sender(), Box::new(job));
        let load = Arc::clone(&self.load);
        self.threads.spawn_fifo(move || load.run_next());
        receiver.await.map_err(|_| match deadline {
            Some(deadline) if deadline <= Instant::now() => self.load.refused(Duration::ZERO),
            _ => PoolError::Failed,
        })
    }

    /// A refusal for another reason than the pool.
    pub(super) fn refusal(&self) -> PoolError {
        let time = self.load.queue().time_until(&sender(), Cost::default());
        self.load.refused(time / self.load.threads as u32)
    }

    /// Sets the pool's gauges.
    pub(super) fn observe(&self) {
        let metrics = &self.load.metrics.pool;
        metrics.threads.set(self.load.threads as i64);
        metrics.waiting.set(self.load.queue().waiting() as i64);
        metrics.running.set(self.load.running.load(Ordering::Relaxed) as i64);
    }
}

fn deadline() -> Option<Instant> {
    REQUEST.try_with(|request| request.deadline).ok()
}

#[cfg(test)]
mod tests;

//! Threads for compute, separate from the async runtime's, with a bounded queue.
//!
//! A request is admitted or refused once, at its first job. Its later jobs are always queued, so that
//! no work is wasted on a request that is refused in the end.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::Scratch;
use tokio::sync::oneshot;

use crate::telemetry::Metrics;

/// Jobs that may wait for each thread before requests are refused. At well under a millisecond each,
/// a full queue is a few tens of milliseconds of work.
const QUEUE_PER_THREAD: usize = 64;

/// Weight of one job in the mean time of a job, as a share of this.
const MEAN_OVER_JOBS: i64 = 64;

tokio::task_local! {
    static REQUEST: RequestState;
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A request with a deadline.
struct RequestState {
    deadline: Instant,
    admitted: Cell<bool>,
}

/// Runs a request that is useless after `deadline`. The pool refuses it if the queue is longer, and
/// drops those of its jobs that would begin later. Tasks that the request spawns have no deadline.
pub async fn until<F: Future>(deadline: Instant, request: F) -> F::Output {
    REQUEST.scope(RequestState { deadline, admitted: Cell::new(false) }, request).await
}

/// A thread pool with a bounded queue. Clones share it.
#[derive(Clone)]
pub struct Pool {
    threads: Arc<rayon::ThreadPool>,
    queue_length: usize,
    load: Arc<Load>,
}

/// The pool's current work.
struct Load {
    metrics: Arc<Metrics>,
    waiting: AtomicUsize,
    running: AtomicUsize,
    mean_job_nanos: AtomicU64,
    refusals: AtomicU64,
}

/// Whether a job may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The only job of a request. Refused if the queue is full.
    Single,
    /// The first of two jobs of a request: decode, then read. Refused if the queue is full, or if
    /// there is no time for both.
    FirstOfTwo,
    /// Never refused: the rest of an admitted request, one job at a time.
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

/// A job on a thread. Counts its time when it ends, even by a panic.
struct Running<'a> {
    load: &'a Load,
    begin: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let taken = self.begin.elapsed();
        self.load.running.fetch_sub(1, Ordering::Relaxed);
        self.load.metrics.pool.busy_seconds.inc_by(taken.as_secs_f64());
        let mean = self.load.mean_job_nanos.load(Ordering::Relaxed) as i64;
        let change = (taken.as_nanos() as i64 - mean) / MEAN_OVER_JOBS;
        // Another thread's change may get lost; the mean is still good enough.
        self.load.mean_job_nanos.store((mean + change) as u64, Ordering::Relaxed);
    }
}

impl Load {
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
        let queue_length = threads.current_num_threads() * QUEUE_PER_THREAD;
        let load = Load {
            metrics,
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            mean_job_nanos: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        };
        Self { threads: Arc::new(threads), queue_length, load: Arc::new(load) }
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
        let (deadline, admitted) = REQUEST
            .try_with(|request| (Some(request.deadline), request.admitted.replace(true)))
            .unwrap_or((None, false));
        let admitted = admitted || admission == Admission::Always;
        let before = self.load.waiting.fetch_add(1, Ordering::Relaxed);
        let passes = if admission == Admission::FirstOfTwo { 2 } else { 1 };
        if !admitted && let Err(error) = self.admit(before, deadline, passes) {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        let (sender, receiver) = oneshot::channel();
        let load = Arc::clone(&self.load);
        let queued = Instant::now();
        self.threads.spawn_fifo(move || {
            let begin = Instant::now();
            load.waiting.fetch_sub(1, Ordering::Relaxed);
            load.metrics.stages.queue.observe((begin - queued).as_secs_f64());
            if deadline.is_some_and(|deadline| deadline < begin) {
                load.metrics.shed.deadline.inc();
                return;
            }
            if sender.is_closed() {
                load.metrics.shed.client_gone.inc();
                return;
            }
            load.running.fetch_add(1, Ordering::Relaxed);
            let running = Running { load: &load, begin };
            let result = SCRATCH.with_borrow_mut(job);
            drop(running);
            // The caller may have gone in the meantime.
            let _ = sender.send(result);
        });
        receiver.await.map_err(|_| match deadline {
            Some(deadline) if deadline <= Instant::now() => self.load.refused(Duration::ZERO),
            _ => PoolError::Failed,
        })
    }

    /// Admits a request that finds `waiting` jobs before its own, or refuses it.
    fn admit(
        &self,
        waiting: usize,
        deadline: Option<Instant>,
        passes: u32,
    ) -> Result<(), PoolError> {
        let drained = self.drained_after(waiting);
        let reason = if waiting >= self.queue_length {
            &self.load.metrics.shed.queue_full
        } else if deadline.is_some_and(|deadline| deadline < Instant::now() + drained * passes) {
            &self.load.metrics.shed.deadline
        } else {
            return Ok(());
        };
        reason.inc();
        Err(self.load.refused(drained))
    }

    /// How long `waiting` jobs take.
    fn drained_after(&self, waiting: usize) -> Duration {
        let mean = self.load.mean_job_nanos.load(Ordering::Relaxed);
        Duration::from_nanos(mean * waiting as u64 / self.threads.current_num_threads() as u64)
    }

    /// A refusal for another reason than the pool.
    pub(super) fn refusal(&self) -> PoolError {
        self.load.refused(self.drained_after(self.load.waiting.load(Ordering::Relaxed)))
    }

    /// Sets the pool's gauges.
    pub(super) fn observe(&self) {
        let metrics = &self.load.metrics.pool;
        metrics.threads.set(self.threads.current_num_threads() as i64);
        metrics.waiting.set(self.load.waiting.load(Ordering::Relaxed) as i64);
        metrics.running.set(self.load.running.load(Ordering::Relaxed) as i64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use super::*;

    fn pool() -> Pool {
        Pool::new(Arc::new(Metrics::new()))
    }

    /// Keeps all threads busy until somebody waits at the gate.
    fn block(pool: &Pool) -> Arc<Barrier> {
        let threads = pool.threads.current_num_threads();
        let gate = Arc::new(Barrier::new(threads + 1));
        let (started, starts) = mpsc::channel();
        for _ in 0..threads {
            let (gate, started) = (Arc::clone(&gate), started.clone());
            pool.threads.spawn_fifo(move || {
                let _ = started.send(());
                gate.wait();
            });
        }
        (0..threads).for_each(|_| starts.recv().unwrap());
        gate
    }

    /// Queues a job from another task.
    async fn queued(
        pool: &Pool,
        admission: Admission,
    ) -> tokio::task::JoinHandle<Result<u8, PoolError>> {
        let before = waiting(pool);
        let task = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(admission, |_| 7).await }
        });
        while waiting(pool) == before {
            tokio::task::yield_now().await;
        }
        task
    }

    fn waiting(pool: &Pool) -> usize {
        pool.load.waiting.load(Ordering::SeqCst)
    }

    fn is_overloaded<T>(result: Result<T, PoolError>) -> bool {
        matches!(result, Err(PoolError::Overloaded { retry_after_seconds: 1.. }))
    }

    #[tokio::test]
    async fn a_full_queue_refuses_but_what_was_admitted_and_drains() {
        let pool = pool();
        let gate = block(&pool);
        let mut jobs = Vec::new();
        for _ in 0..pool.queue_length {
            jobs.push(queued(&pool, Admission::Single).await);
        }
        assert!(is_overloaded(pool.run(Admission::Single, |_| 7).await));
        jobs.push(queued(&pool, Admission::Always).await);
        let shed = &pool.load.metrics.shed;
        assert_eq!((shed.queue_full.get(), shed.deadline.get()), (1, 0));
        gate.wait();
        for job in jobs {
            assert_eq!(job.await.unwrap(), Ok(7));
        }
        assert_eq!(pool.run(Admission::Single, |_| 7).await, Ok(7));
        assert_eq!((waiting(&pool), pool.load.running.load(Ordering::SeqCst)), (0, 0));
    }

    #[tokio::test]
    async fn a_request_is_admitted_or_refused_at_its_first_job() {
        let pool = pool();
        let gate = block(&pool);
        let deadline = Instant::now() + Duration::from_secs(3600);
        let admitted = until(deadline, async {
            let first = pool.run(Admission::Single, |_| 7);
            let fill = async {
                // The first is in the queue: all are polled in this order.
                let mut jobs = Vec::new();
                while waiting(&pool) < pool.queue_length {
                    jobs.push(queued(&pool, Admission::Single).await);
                }
                gate.wait();
                jobs
            };
            let (first, jobs) = tokio::join!(first, fill);
            assert_eq!(first, Ok(7));
            for job in jobs {
                assert_eq!(job.await.unwrap(), Ok(7));
            }
            let gate = block(&pool);
            let mut jobs = Vec::new();
            while waiting(&pool) < pool.queue_length {
                jobs.push(queued(&pool, Admission::Single).await);
            }
            let refused = until(deadline, pool.run(Admission::Single, |_| 7)).await;
            assert!(is_overloaded(refused));
            let open = async {
                gate.wait();
            };
            tokio::join!(pool.run(Admission::Single, |_| 7), open).0
        });
        assert_eq!(admitted.await, Ok(7));
    }

    #[tokio::test]
    async fn a_request_is_refused_if_the_queue_is_longer_than_it_can_wait() {
        let pool = pool();
        let gate = block(&pool);
        // A minute for each job.
        pool.load.mean_job_nanos.store(60_000_000_000, Ordering::SeqCst);
        let mut jobs = Vec::new();
        for _ in 0..pool.threads.current_num_threads() * 2 {
            jobs.push(queued(&pool, Admission::Single).await);
        }
        let within = async |admission, minutes: u64| {
            let deadline = Instant::now() + Duration::from_secs(60 * minutes);
            until(deadline, pool.run(admission, |_| 7)).await
        };
        // Two minutes for each pass.
        assert!(is_overloaded(within(Admission::Single, 1).await));
        let refused = within(Admission::FirstOfTwo, 3).await;
        let Err(PoolError::Overloaded { retry_after_seconds }) = refused else {
            panic!("{refused:?}")
        };
        assert!((121..=242).contains(&retry_after_seconds), "{retry_after_seconds}");
        assert_eq!(pool.load.metrics.shed.deadline.get(), 2);
        let open = async {
            gate.wait();
        };
        let (both, one) = (within(Admission::FirstOfTwo, 5), within(Admission::Single, 3));
        let answers = tokio::join!(both, one, open);
        assert_eq!((answers.0, answers.1), (Ok(7), Ok(7)));
        for job in jobs {
            assert_eq!(job.await.unwrap(), Ok(7));
        }
    }

    #[tokio::test]
    async fn a_panic_fails_one_job_alone() {
        let pool = pool();
        assert_eq!(
            pool.run(Admission::Single, |_| panic!("on purpose")).await,
            Err::<(), _>(PoolError::Failed)
        );
        assert_eq!(pool.run(Admission::Single, |_| 7).await, Ok(7));
        assert_eq!(pool.load.running.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let pool = pool();
        let gate = block(&pool);
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let abandoned = pool.run(Admission::Single, move |_| count.fetch_add(1, Ordering::SeqCst));
        // Polled once, so that the job is in the queue, then dropped.
        let waited = tokio::select! {
            biased;
            _ = abandoned => true,
            () = std::future::ready(()) => false,
        };
        assert!(!waited);
        let count = Arc::clone(&done);
        let late = REQUEST.scope(
            RequestState { deadline: Instant::now(), admitted: Cell::new(true) },
            pool.run(Admission::Single, move |_| count.fetch_add(1, Ordering::SeqCst)),
        );
        let open = async {
            gate.wait();
        };
        assert!(is_overloaded(tokio::join!(late, open).0));
        assert_eq!(pool.run(Admission::Single, |_| 7).await, Ok(7));
        assert_eq!(done.load(Ordering::SeqCst), 0);
        let shed = &pool.load.metrics.shed;
        assert_eq!((shed.client_gone.get(), shed.deadline.get()), (1, 1));
    }
}

//! Threads for compute, apart from the async runtime's, with a bounded queue before them.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::bnn::Scratch;

/// Jobs that may wait for each thread. At well under a millisecond each, a full queue is a few
/// tens of milliseconds of work.
const QUEUE_PER_THREAD: usize = 64;

/// A thread pool whose queue is bounded: what does not fit is refused at once.
pub(super) struct Pool {
    threads: rayon::ThreadPool,
    /// One permit for each job, running or waiting.
    places: Arc<Semaphore>,
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full.
    #[error("all compute is taken; try again in a second")]
    Overloaded,
    /// A defect of this program.
    #[error("the computation failed")]
    Failed,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Pool {
    /// One thread a processor.
    pub fn new() -> Self {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("inference-{index}"))
            // A panic drops the job's channel, which the waiting request sees.
            .panic_handler(|_| tracing::error!("a computation panicked"))
            .build()
            .expect("the system starts threads");
        let places = threads.current_num_threads() * QUEUE_PER_THREAD;
        Self { threads, places: Arc::new(Semaphore::new(places)) }
    }

    /// Runs a job and waits for its result. A job whose caller has gone before its turn is not run.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let place =
            Arc::clone(&self.places).try_acquire_owned().map_err(|_| PoolError::Overloaded)?;
        self.run_at(place, job).await
    }

    /// As [`Pool::run`], but waits where the queue is full: for work that does not come from clients,
    /// one job at a time.
    pub async fn run_in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.run_at(place.map_err(|_| PoolError::Failed)?, job).await
    }

    async fn run_at<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (sender, receiver) = oneshot::channel();
        self.threads.spawn_fifo(move || {
            let _place = place;
            if sender.is_closed() {
                return;
            }
            let result = SCRATCH.with_borrow_mut(job);
            // The caller may have gone in the meantime.
            let _ = sender.send(result);
        });
        receiver.await.map_err(|_| PoolError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_drains() {
        let pool = Arc::new(Pool::new());
        let places = pool.places.available_permits();
        let threads = pool.threads.current_num_threads();
        let gate = Arc::new(Barrier::new(threads + 1));
        let (started, starts) = mpsc::channel();
        let jobs: Vec<_> = (0..places)
            .map(|index| {
                let (pool, gate, started) = (Arc::clone(&pool), Arc::clone(&gate), started.clone());
                tokio::spawn(async move {
                    let wait = move |_: &mut Scratch| {
                        if index < threads {
                            let _ = started.send(());
                            gate.wait();
                        }
                        index
                    };
                    pool.run(wait).await
                })
            })
            .collect();
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|_| ()).await, Err(PoolError::Overloaded));
        (0..threads).for_each(|_| starts.recv().unwrap());
        gate.wait();
        for (index, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), Ok(index));
        }
        assert_eq!(pool.run(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_fails_one_job_alone() {
        let pool = Pool::new();
        assert_eq!(pool.run(|_| panic!("on purpose")).await, Err::<(), _>(PoolError::Failed));
        assert_eq!(pool.run(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let pool = Pool::new();
        let threads = pool.threads.current_num_threads();
        let gate = Arc::new(Barrier::new(threads + 1));
        for _ in 0..threads {
            let gate = Arc::clone(&gate);
            pool.threads.spawn_fifo(move || {
                gate.wait();
            });
        }
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let abandoned = pool.run(move |_| count.fetch_add(1, Ordering::SeqCst));
        // Polled once, so that the job is in the queue, then dropped.
        let waited = tokio::select! {
            biased;
            _ = abandoned => true,
            () = std::future::ready(()) => false,
        };
        assert!(!waited);
        gate.wait();
        assert_eq!(pool.run(|_| 7).await, Ok(7));
        while pool.places.available_permits() < threads * QUEUE_PER_THREAD {
            tokio::task::yield_now().await;
        }
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }
}

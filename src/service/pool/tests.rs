use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, mpsc};

use super::*;

const MINUTE: Cost = Cost::of_micros(60_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// A job that may be refused, and costs nothing.
const FREE: Admission = Admission::Costing(Cost::of_micros(0));

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

/// Fills the places of a sender.
async fn fill(pool: &Pool) -> Vec<tokio::task::JoinHandle<Result<u8, PoolError>>> {
    let mut jobs = Vec::new();
    while waiting(pool) < pool.load.threads * QUEUE_PER_THREAD / 2 {
        jobs.push(queued(pool, FREE).await);
    }
    jobs
}

/// A request of a sender that ends within this time.
async fn request<T>(sender: &str, within: Duration, request: impl Future<Output = T>) -> T {
    let request = async {
        sent_by(sender.into());
        request.await
    };
    until(Instant::now() + within, request).await
}

fn waiting(pool: &Pool) -> usize {
    pool.load.queue().waiting()
}

fn is_overloaded<T>(result: Result<T, PoolError>) -> bool {
    matches!(result, Err(PoolError::Overloaded { retry_after_seconds: 1.. }))
}

#[tokio::test]
async fn a_full_queue_refuses_its_sender_but_what_was_admitted_and_drains() {
    let pool = pool();
    let gate = block(&pool);
    let mut jobs = fill(&pool).await;
    assert!(is_overloaded(pool.run(FREE, |_| 7).await));
    jobs.push(queued(&pool, Admission::Always).await);
    let shed = &pool.load.metrics.shed;
    assert_eq!((shed.queue_full.get(), shed.deadline.get()), (1, 0));
    let open = async {
        gate.wait();
    };
    // Others have places left, and do not wait for the whole queue.
    let left = Arc::new(AtomicUsize::new(0));
    let other = request("bob", HOUR, {
        let (left, seen) = (Arc::clone(&left), pool.clone());
        pool.run(FREE, move |_| left.store(waiting(&seen), Ordering::SeqCst))
    });
    assert_eq!(tokio::join!(other, open).0, Ok(()));
    assert!(left.load(Ordering::SeqCst) > 0);
    for job in jobs {
        assert_eq!(job.await.unwrap(), Ok(7));
    }
    assert_eq!(pool.run(FREE, |_| 7).await, Ok(7));
    assert_eq!((waiting(&pool), pool.load.running.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_request_finds_a_place_at_its_first_job_or_is_refused() {
    let pool = pool();
    let gate = block(&pool);
    let admitted = until(Instant::now() + HOUR, async {
        let first = pool.run(FREE, |_| 7);
        let full = async {
            // The first is in the queue: all are polled in this order.
            let jobs = fill(&pool).await;
            gate.wait();
            jobs
        };
        let (first, jobs) = tokio::join!(first, full);
        assert_eq!(first, Ok(7));
        for job in jobs {
            assert_eq!(job.await.unwrap(), Ok(7));
        }
        let gate = block(&pool);
        let _jobs = fill(&pool).await;
        let refused = until(Instant::now() + HOUR, pool.run(FREE, |_| 7)).await;
        assert!(is_overloaded(refused));
        let open = async {
            gate.wait();
        };
        tokio::join!(pool.run(FREE, |_| 7), open).0
    });
    assert_eq!(admitted.await, Ok(7));
}

#[tokio::test]
async fn a_request_is_refused_if_its_cost_does_not_fit_before_its_deadline() {
    let pool = pool();
    let gate = block(&pool);
    let threads = pool.load.threads as u64;
    let minutes = |count: u64| Duration::from_secs(60 * count);
    // Two minutes for each thread.
    let heavy: Vec<_> =
        (0..2 * threads).map(|_| request("ann", HOUR, async { pool.admit(MINUTE) })).collect();
    let heavy = futures_util::future::join_all(heavy).await;
    let refused = request("ann", minutes(1), pool.run(Admission::Costing(MINUTE), |_| 7)).await;
    let Err(PoolError::Overloaded { retry_after_seconds }) = refused else { panic!("{refused:?}") };
    let soonest = 60 * (2 * threads + 1) / threads + 1;
    assert!((soonest..=2 * soonest).contains(&retry_after_seconds), "{retry_after_seconds}");
    assert_eq!(pool.load.metrics.shed.deadline.get(), 1);
    // A request is refused later if only then its cost is known.
    let late = request("ann", minutes(3), async {
        let first = pool.admit(Cost::default());
        (first.is_ok(), is_overloaded(pool.admit(Cost::of_micros(threads * 90_000_000))))
    });
    assert_eq!(late.await, (true, true));
    let open = async {
        gate.wait();
    };
    let own = request("ann", minutes(4), pool.run(Admission::Costing(MINUTE), |_| 7));
    // Another sender waits for as much of ann's work as they bring.
    let other = request("bob", minutes(3), pool.run(Admission::Costing(MINUTE), |_| 7));
    let answers = tokio::join!(own, other, open);
    assert_eq!((answers.0, answers.1), (Ok(7), Ok(7)));
    drop(heavy);
    let after = request("ann", minutes(1), pool.run(Admission::Costing(Cost::default()), |_| 7));
    assert_eq!(after.await, Ok(7));
}

#[tokio::test]
async fn a_panic_fails_one_job_alone() {
    let pool = pool();
    assert_eq!(pool.run(FREE, |_| panic!("on purpose")).await, Err::<(), _>(PoolError::Failed));
    assert_eq!(pool.run(FREE, |_| 7).await, Ok(7));
    assert_eq!(pool.load.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn work_that_nobody_waits_for_is_dropped() {
    let pool = pool();
    let gate = block(&pool);
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let abandoned = pool.run(FREE, move |_| count.fetch_add(1, Ordering::SeqCst));
    // Polled once, so that the job is in the queue, then dropped.
    let waited = tokio::select! {
        biased;
        _ = abandoned => true,
        () = std::future::ready(()) => false,
    };
    assert!(!waited);
    let count = Arc::clone(&done);
    let late = request("ann", Duration::ZERO, {
        pool.run(Admission::Always, move |_| count.fetch_add(1, Ordering::SeqCst))
    });
    let open = async {
        gate.wait();
    };
    assert!(is_overloaded(tokio::join!(late, open).0));
    assert_eq!(pool.run(FREE, |_| 7).await, Ok(7));
    assert_eq!(done.load(Ordering::SeqCst), 0);
    let shed = &pool.load.metrics.shed;
    assert_eq!((shed.client_gone.get(), shed.deadline.get()), (1, 1));
}

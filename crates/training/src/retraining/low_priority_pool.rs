//! Threads that leave the processor to whoever else wants it.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The largest niceness: a thread of the default one gets 68 times as much time
/// (`sched_prio_to_weight` of Linux).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// A pool for [`retrain`](super::retrain), 0 threads meaning one a core. On Linux its threads run
/// at the lowest priority; elsewhere niceness is a whole process's, and stays as it is.
///
/// # Errors
/// When the system starts no more threads.
pub fn low_priority_pool(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("train-{number}"))
        .start_handler(|_| lower_priority())
        // What was spawned is dropped then, which whoever waits for it sees.
        .panic_handler(|_| tracing::error!("a training panicked"))
        .build()
}

#[cfg(target_os = "linux")]
fn lower_priority() {
    // Of the calling thread alone: Linux keeps niceness by thread, against POSIX (setpriority(2)).
    // Stepping back needs no right, and training at normal priority is better than none.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_pool_s_threads_step_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let pool = low_priority_pool(2).unwrap();
        assert_eq!(pool.broadcast(|_| niceness()), [NICENESS; 2]);
        assert_eq!(niceness(), before);
    }
}

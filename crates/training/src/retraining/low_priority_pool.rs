//! Threads at the lowest priority, so that training does not slow requests down.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The largest niceness. A thread with the default niceness gets 68 times as much time
/// (`sched_prio_to_weight` of Linux).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

/// Builds a thread pool for [`retrain`](super::retrain). 0 threads means one for each core. On Linux
/// the threads run at the lowest priority. Other systems set the priority of a whole process, which
/// stays as it is.
///
/// # Errors
/// If the system cannot start the threads.
pub fn low_priority_pool(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("train-{number}"))
        .start_handler(|_| lower_priority())
        // The spawned task is dropped, so its receiver gets an error.
        .panic_handler(|_| tracing::error!("a training panicked"))
        .build()
}

#[cfg(target_os = "linux")]
fn lower_priority() {
    // This changes the calling thread only: Linux keeps niceness for each thread, unlike POSIX
    // (setpriority(2)). If it fails, training at normal priority is better than none.
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

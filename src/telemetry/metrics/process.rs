//! Metrics of the program itself.

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use bipedalnet_core::bnn::Kernels;
use prometheus::{Counter, IntCounter, IntGauge, Opts, Registry};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Handle;

use super::{VALID, counter, gauge, gauges, keep, name};

/// The system's allocator, with counters.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The commit that the program is built from, or `unknown`.
pub const COMMIT: &str = env!("BUILT_FROM_COMMIT");

/// What the async runtime and the allocator are doing.
#[derive(Debug)]
pub struct ProcessMetrics {
    pub workers: IntGauge,
    pub tasks: IntGauge,
    pub tasks_queued: IntGauge,
    pub busy_seconds: Counter,
    pub allocated: IntGauge,
    pub allocations: IntCounter,
    looking: Mutex<()>,
}

impl ProcessMetrics {
    pub fn new(registry: &Registry) -> Self {
        let info = gauges(
            registry,
            "build_info",
            "Version and commit of the program, and the kernels that it uses; the value is always 1",
            &["version", "commit", "kernels"],
        );
        let version = env!("CARGO_PKG_VERSION");
        info.with_label_values(&[version, COMMIT, Kernels::preferred().name()]).set(1);
        let busy = Counter::with_opts(Opts::new(
            name("runtime_busy_seconds_total"),
            "Time that the threads of the async runtime were busy",
        ));
        Self {
            workers: gauge(registry, "runtime_workers", "Threads of the async runtime"),
            tasks: gauge(registry, "runtime_tasks", "Tasks of the async runtime"),
            tasks_queued: gauge(
                registry,
                "runtime_tasks_queued",
                "Tasks that wait for a thread of the async runtime, in the queue of all threads",
            ),
            busy_seconds: keep(registry, busy.expect(VALID)),
            allocated: gauge(
                registry,
                "allocated_bytes",
                "Memory that the program has allocated, without that of C libraries",
            ),
            allocations: counter(registry, "allocations_total", "Allocations of memory"),
            looking: Mutex::default(),
        }
    }

    /// Reads the figures. Must be called from async code.
    pub fn observe(&self) {
        let runtime = Handle::current().metrics();
        self.workers.set(runtime.num_workers() as i64);
        self.tasks.set(runtime.num_alive_tasks() as i64);
        self.tasks_queued.set(runtime.global_queue_depth() as i64);
        let busy = (0..runtime.num_workers()).map(|it| runtime.worker_total_busy_duration(it));
        let busy: f64 = busy.map(|busy| busy.as_secs_f64()).sum();
        // Two who look at once must not count the same time twice.
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.busy_seconds.inc_by((busy - self.busy_seconds.get()).max(0.0));
        let stats = ALLOCATOR.stats();
        let bytes = stats.bytes_allocated.saturating_sub(stats.bytes_deallocated);
        self.allocated.set(bytes as i64);
        let allocations = stats.allocations as u64;
        self.allocations.inc_by(allocations.saturating_sub(self.allocations.get()));
    }
}

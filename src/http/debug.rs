//! What the server is doing now, for an operator who looks into a problem. Nothing in it is about a user.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::observe::id_text;
use crate::service::Service;
use crate::store::PoolUse;
use crate::telemetry::{COMMIT, OpenRequest, SlowRequest};

/// Open requests that are listed.
const LISTED: usize = 32;

#[derive(Serialize)]
pub(super) struct Debug {
    version: &'static str,
    commit: &'static str,
    model: String,
    runtime: Runtime,
    memory: Memory,
    inference_pool: InferencePool,
    connections: Connections,
    database: Database,
    requests: Requests,
}

#[derive(Serialize)]
struct Runtime {
    workers: i64,
    tasks: i64,
    tasks_queued: i64,
    busy_seconds: f64,
}

#[derive(Serialize)]
struct Memory {
    allocated_bytes: i64,
    gallery_bytes: i64,
    request_bodies_bytes: i64,
    sqlite_cache_limit_bytes: i64,
}

#[derive(Serialize)]
struct InferencePool {
    threads: i64,
    jobs_running: i64,
    jobs_waiting: i64,
    busy_seconds: f64,
}

#[derive(Serialize)]
struct Connections {
    open: i64,
    unread_bytes: i64,
}

#[derive(Serialize)]
struct Database {
    bytes: i64,
    wal_bytes: i64,
    writes_waiting: usize,
    writer: ConnectionPool,
    readers: ConnectionPool,
}

#[derive(Serialize)]
struct ConnectionPool {
    open: usize,
    idle: usize,
}

#[derive(Serialize)]
struct Requests {
    open: usize,
    /// Those that have been open for longest, the oldest first.
    longest_open: Vec<Open>,
    /// Those that took long of late, the newest first.
    slow: Vec<Slow>,
}

#[derive(Serialize)]
struct Open {
    request_id: String,
    method: &'static str,
    route: String,
    seconds: f64,
}

#[derive(Serialize)]
struct Slow {
    request_id: String,
    method: &'static str,
    route: String,
    status: String,
    seconds: f64,
    began_at_unix_seconds: u64,
}

impl From<OpenRequest> for Open {
    fn from(request: OpenRequest) -> Self {
        let seconds = request.begin.elapsed().as_secs_f64();
        let OpenRequest { id, method, route, .. } = request;
        Self { request_id: id_text(&id).to_owned(), method, route, seconds }
    }
}

impl From<SlowRequest> for Slow {
    fn from(slow: SlowRequest) -> Self {
        let SlowRequest { request, status, taken } = slow;
        let began = SystemTime::now() - request.begin.elapsed();
        let since_1970 = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            request_id: id_text(&request.id).to_owned(),
            method: request.method,
            route: request.route,
            status,
            seconds: taken.as_secs_f64(),
            began_at_unix_seconds: since_1970.as_secs(),
        }
    }
}

impl From<PoolUse> for ConnectionPool {
    fn from(PoolUse { open, idle }: PoolUse) -> Self {
        Self { open, idle }
    }
}

pub(super) async fn debug(State(service): State<Arc<Service>>) -> Json<Debug> {
    super::operation::observe(&service).await;
    let metrics = &service.metrics;
    let (open, longest) = metrics.open_requests.longest(LISTED);
    let slow = metrics.open_requests.slow();
    let (writer, readers) = service.database_connections();
    Json(Debug {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        model: service.model_id(),
        runtime: Runtime {
            workers: metrics.process.workers.get(),
            tasks: metrics.process.tasks.get(),
            tasks_queued: metrics.process.tasks_queued.get(),
            busy_seconds: metrics.process.busy_seconds.get(),
        },
        memory: Memory {
            allocated_bytes: metrics.process.allocated.get(),
            gallery_bytes: metrics.memory.gallery.get(),
            request_bodies_bytes: metrics.memory.bodies.get(),
            sqlite_cache_limit_bytes: metrics.memory.sqlite_cache.get(),
        },
        inference_pool: InferencePool {
            threads: metrics.pool.threads.get(),
            jobs_running: metrics.pool.running.get(),
            jobs_waiting: metrics.pool.waiting.get(),
            busy_seconds: metrics.pool.busy_seconds.get(),
        },
        connections: Connections {
            open: metrics.connections.open.get(),
            unread_bytes: metrics.connections.unread_bytes.get(),
        },
        database: Database {
            bytes: metrics.database.bytes.get(),
            wal_bytes: metrics.database.log_bytes.get(),
            writes_waiting: service.writes_waiting(),
            writer: writer.into(),
            readers: readers.into(),
        },
        requests: Requests {
            open,
            longest_open: longest.into_iter().map(Open::from).collect(),
            slow: slow.into_iter().map(Slow::from).collect(),
        },
    })
}

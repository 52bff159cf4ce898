//! Load generators, to be run in a `LocalSet`. In a closed loop each client waits for its response. In
//! an open loop requests are sent at random times, without waiting for responses.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Connection, quantile};

const CONNECTIONS: usize = 512;

/// Results of one load, in requests per second and milliseconds.
pub struct Outcome {
    pub offered: f64,
    pub goodput: f64,
    pub refused: f64,
    pub other: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
}

/// State of an open loop.
struct Load {
    free: RefCell<Vec<Connection>>,
    /// Due times of the requests that wait for a free connection.
    late: RefCell<VecDeque<Instant>>,
    latencies_ms: RefCell<Vec<f64>>,
    refused: Cell<u32>,
    other: Cell<u32>,
    requests: Vec<Vec<u8>>,
    next: Cell<usize>,
}

/// Runs 16 clients in a closed loop, each with its part of the requests. Returns successful responses per
/// second.
pub async fn closed_loop(address: &str, requests: &[Vec<u8>], seconds: f64) -> f64 {
    const CLIENTS: usize = 16;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = Connection::open(address).await.expect("it listens");
        let requests: Vec<Vec<u8>> =
            requests.iter().skip(client).step_by(CLIENTS).cloned().collect();
        clients.push(tokio::task::spawn_local(async move {
            let mut answered = 0;
            for request in requests.iter().cycle() {
                if Instant::now() >= end {
                    break;
                }
                answered += u32::from(connection.send(request).await.is_ok_and(|s| s / 100 == 2));
            }
            answered
        }));
    }
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("it does not panic");
    }
    f64::from(answered) / seconds
}

/// Sends requests in an open loop, `rate` per second on average.
pub async fn open_loop(address: &str, requests: &[Vec<u8>], rate: f64, seconds: f64) -> Outcome {
    let mut free = Vec::new();
    for _ in 0..CONNECTIONS {
        free.push(Connection::open(address).await.expect("it listens"));
    }
    let load = Rc::new(Load {
        free: RefCell::new(free),
        late: RefCell::default(),
        latencies_ms: RefCell::default(),
        refused: Cell::new(0),
        other: Cell::new(0),
        requests: requests.to_vec(),
        next: Cell::new(0),
    });
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let begin = Instant::now();
    let mut due = begin;
    let mut sent = 0_u32;
    while due < begin + Duration::from_secs_f64(seconds) {
        tokio::time::sleep_until(due.into()).await;
        sent += 1;
        let connection = load.free.borrow_mut().pop();
        match connection {
            Some(connection) => {
                tokio::task::spawn_local(serve(Rc::clone(&load), connection, due));
            }
            None => load.late.borrow_mut().push_back(due),
        }
        due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
    }
    let seconds = begin.elapsed().as_secs_f64();
    // Requests that are still waiting do not count.
    load.late.borrow_mut().clear();
    let counted = load.latencies_ms.borrow().len();
    let mut latencies_ms = load.latencies_ms.borrow()[..counted].to_vec();
    latencies_ms.sort_by(f64::total_cmp);
    let outcome = Outcome {
        offered: f64::from(sent) / seconds,
        goodput: counted as f64 / seconds,
        refused: f64::from(load.refused.get()) / seconds,
        other: f64::from(load.other.get()) / seconds,
        p50_ms: quantile(&latencies_ms, 0.5),
        p99_ms: quantile(&latencies_ms, 0.99),
        p999_ms: quantile(&latencies_ms, 0.999),
    };
    while load.free.borrow().len() + (load.other.get() as usize) < CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    outcome
}

/// Sends a request, then the requests that became due meanwhile.
async fn serve(load: Rc<Load>, mut connection: Connection, mut due: Instant) {
    loop {
        let number = load.next.get();
        load.next.set(number + 1);
        let request = &load.requests[number % load.requests.len()];
        match connection.send(request).await {
            Ok(200) => load.latencies_ms.borrow_mut().push(due.elapsed().as_secs_f64() * 1e3),
            Ok(503) => load.refused.set(load.refused.get() + 1),
            _ => {
                // Do not use a broken connection again.
                load.other.set(load.other.get() + 1);
                return;
            }
        }
        let Some(next) = load.late.borrow_mut().pop_front() else { break };
        due = next;
    }
    load.free.borrow_mut().push(connection);
}

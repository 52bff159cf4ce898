//! Goodput and latency under more load than the server can carry.
//!
//!     cargo bench --bench overload
//!
//! Identifications arrive at random times (Poisson) at a given rate, whatever becomes of those before
//! (an open loop); latency counts from the time at which a request was to be sent. Server and
//! generator are processes of their own, each on a processor of its own where `taskset` is there.

mod server;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use server::{Connection, Line, Server, pin, plot, quantile, request, walk};
use tokio::task::LocalSet;

const PEOPLE: u64 = 20;
const CONNECTIONS: usize = 512;
const SECONDS: f64 = 6.0;

/// Offered load, in parts of what the server carries in a closed loop.
const LOADS: [f64; 9] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0];

/// What came of one load.
struct Outcome {
    offered: f64,
    goodput: f64,
    refused: f64,
    other: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// A generator's state.
struct Load {
    free: RefCell<Vec<Connection>>,
    /// Requests for which there was no free connection, by the time at which they were due.
    late: RefCell<VecDeque<Instant>>,
    latencies_ms: RefCell<Vec<f64>>,
    refused: Cell<u32>,
    other: Cell<u32>,
    requests: Vec<Vec<u8>>,
    next: Cell<usize>,
}

fn main() {
    let apart = pin(0);
    let server = Server::start(tempfile::tempdir().expect("there is a disk"));
    let apart = apart && pin(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a runtime").block_on(LocalSet::new().run_until(async {
        let mut connection = Connection::open(&server.address).await.expect("it listens");
        for person in 0..PEOPLE {
            let put = request("PUT", &format!("/v1/users/p{person}"), None);
            assert_eq!(connection.send(&put).await.ok(), Some(201));
            let path = format!("/v1/users/p{person}/enrollments");
            let enroll = request("POST", &path, Some(&walk(person, 1)));
            assert_eq!(connection.send(&enroll).await.ok(), Some(201));
        }
        let walks = (0..PEOPLE * 5).map(|number| walk(number % PEOPLE, 2 + number / PEOPLE));
        let identify = |body| request("POST", "/v1/identify", Some(&body));
        let requests: Vec<Vec<u8>> = walks.map(identify).collect();
        println!("server and generator on a processor each: {}", if apart { "yes" } else { "no" });
        closed_loop(&server, &requests, 2.0).await;
        let capacity = closed_loop(&server, &requests, 5.0).await;
        println!("closed loop, 16 clients: {capacity:.0} identifications a second\n");
        println!("| load | offered/s | answered/s | refused/s | other/s | p50 (ms) | p99 (ms) |");
        println!("|--:|--:|--:|--:|--:|--:|--:|");
        let mut outcomes = Vec::new();
        for load in LOADS {
            let outcome = open_loop(&server, &requests, capacity * load).await;
            let Outcome { offered, goodput, refused, other, p50_ms, p99_ms } = outcome;
            println!(
                "| {load} | {offered:.0} | {goodput:.0} | {refused:.0} | {other:.1} | {p50_ms:.1} | {p99_ms:.1} |"
            );
            outcomes.push(outcome);
        }
        report(&outcomes);
    }));
}

fn report(outcomes: &[Outcome]) {
    let peak = outcomes.iter().map(|outcome| outcome.goodput).fold(0.0, f64::max);
    if let Some(at) = LOADS.iter().position(|load| *load == 2.0) {
        let share = outcomes[at].goodput / peak * 100.0;
        println!("\nanswered at twice the load: {share:.0} % of the most");
    }
    let points = |value: fn(&Outcome) -> f64| -> Vec<(f64, f64)> {
        outcomes.iter().map(|outcome| (outcome.offered, value(outcome))).collect()
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let (answered, refused) = (points(|o| o.goodput), points(|o| o.refused));
    let (p50, p99) = (points(|o| o.p50_ms), points(|o| o.p99_ms));
    let line = |name, colour, points| Line { name, colour, points };
    let drawn = plot(
        &folder.join("overload.svg"),
        "Identifications under overload",
        ["offered a second", "a second"],
        &[line("answered", "#1b7837", &answered), line("refused (503)", "#b2182b", &refused)],
    )
    .and_then(|()| {
        plot(
            &folder.join("overload_latency.svg"),
            "Latency of identifications that were answered",
            ["offered a second", "ms"],
            &[line("median", "#1b7837", &p50), line("99th percentile", "#b2182b", &p99)],
        )
    });
    drawn.expect("docs/ is writable");
}

/// Identifications a second with 16 clients, each of which waits for its answer.
async fn closed_loop(server: &Server, requests: &[Vec<u8>], seconds: f64) -> f64 {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut clients = Vec::new();
    for client in 0..16 {
        let mut connection = Connection::open(&server.address).await.expect("it listens");
        let requests = requests.to_vec();
        clients.push(tokio::task::spawn_local(async move {
            let mut answered = 0;
            for request in requests.iter().cycle().skip(client * 7) {
                if Instant::now() >= end {
                    break;
                }
                answered += u32::from(connection.send(request).await.is_ok_and(|s| s == 200));
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

async fn open_loop(server: &Server, requests: &[Vec<u8>], rate: f64) -> Outcome {
    let mut free = Vec::new();
    for _ in 0..CONNECTIONS {
        free.push(Connection::open(&server.address).await.expect("it listens"));
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
    while due < begin + Duration::from_secs_f64(SECONDS) {
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
    // Those that were still due count as neither.
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
    };
    while load.free.borrow().len() + (load.other.get() as usize) < CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    outcome
}

/// Sends a request, and those that became due meanwhile.
async fn serve(load: Rc<Load>, mut connection: Connection, mut due: Instant) {
    loop {
        let number = load.next.get();
        load.next.set(number + 1);
        let request = &load.requests[number % load.requests.len()];
        match connection.send(request).await {
            Ok(200) => load.latencies_ms.borrow_mut().push(due.elapsed().as_secs_f64() * 1e3),
            Ok(503) => load.refused.set(load.refused.get() + 1),
            _ => {
                // A connection that is broken is not used again.
                load.other.set(load.other.get() + 1);
                return;
            }
        }
        let Some(next) = load.late.borrow_mut().pop_front() else { break };
        due = next;
    }
    load.free.borrow_mut().push(connection);
}

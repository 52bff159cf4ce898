//! Goodput and latency under more load than the server can carry.
//!
//!     cargo bench --bench overload
//!
//! Identifications arrive at random times (Poisson) at a given rate, without waiting for earlier
//! responses (an open loop). Latency counts from the time when a request was due. If `taskset` is
//! installed, the server and the load generator run on different processors.

mod server;

use std::path::Path;

use server::load::{Outcome, closed_loop, open_loop};
use server::{Connection, Line, Server, pin, plot, request, walk};
use tokio::task::LocalSet;

const PEOPLE: u64 = 20;
const SECONDS: f64 = 6.0;

/// Offered load, relative to the throughput of a closed loop.
const LOADS: [f64; 9] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0];

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
        println!("server and generator on different processors: {}", if apart { "yes" } else { "no" });
        closed_loop(&server.address, &requests, 2.0).await;
        let capacity = closed_loop(&server.address, &requests, 5.0).await;
        println!("closed loop, 16 clients: {capacity:.0} identifications a second\n");
        println!("| load | offered/s | answered/s | refused/s | other/s | p50 (ms) | p99 (ms) |");
        println!("|--:|--:|--:|--:|--:|--:|--:|");
        let mut outcomes = Vec::new();
        for load in LOADS {
            let outcome = open_loop(&server.address, &requests, capacity * load, SECONDS).await;
            let Outcome { offered, goodput, refused, other, p50_ms, p99_ms, .. } = outcome;
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
        println!("\ngoodput at twice the load: {share:.0} % of the maximum");
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

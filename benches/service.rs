//! Compares the service with simpler programs: identification with a handler that discards the body,
//! enrollment with bare SQLite.
//!
//!     cargo bench --bench service -- [allocations|identification|enrollment]
//!
//! Servers run alternating on one processor, the clients on another. Set `BIPEDALNET_BEFORE` to the
//! path of an earlier build to include it in each round.

mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::routing::post;
use bipedalnet::{Browsers, Config, GivenModel, Live, Service, Store, router};
use bipedalnet_core::gait::{Fingerprint, simulator::Conditions, simulator::Walker};
use clap::Parser;
use http_body_util::BodyExt;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use rusqlite::{Connection as Database, params};
use server::load::{closed_loop, open_loop};
use server::{Connection, Server, pin, processor_seconds, quantile, request, walk};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region};
use tokio::task::LocalSet;

const PEOPLE: u64 = 20;
const ROUNDS: usize = 5;
const ROUND_SECONDS: f64 = 2.0;
const LATENCY_SECONDS: f64 = 20.0;
/// Number of users who are enrolled, each once in a round: more than a server enrolls in that time.
const ENROLLED: u64 = 4000;
const ENROLLMENT_SECONDS: f64 = 1.0;
/// The template of the network that ships: a scale, and one byte for each value.
const TEMPLATE_BYTES: usize = 4 + 768;

/// Name of the server that does nothing.
const BARE: &str = "body discarded";

const SERVERS_ON: usize = 0;
const CLIENTS_ON: usize = 1;

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("bare") {
        return bare();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a runtime").block_on(LocalSet::new().run_until(async {
        let named = |part: &str| std::env::args().any(|argument| argument == part);
        let all = !["allocations", "identification", "enrollment"].into_iter().any(named);
        if all || named("allocations") {
            allocations().await;
        }
        if all || named("identification") {
            identification().await;
        }
        if all || named("enrollment") {
            enrollment().await;
        }
    }));
}

/// Runs a server that reads bodies and discards them.
fn bare() {
    let runtime = tokio::runtime::Runtime::new().expect("the system gives a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        eprintln!("bare address={address}");
        let router = Router::new().route("/v1/identify", post(|_: Bytes| async {}));
        axum::serve(listener, router).await.expect("it serves");
    });
}

fn identifications() -> Vec<Vec<u8>> {
    let walks = (0..PEOPLE * 5).map(|number| walk(number % PEOPLE, 2 + number / PEOPLE));
    walks.map(|body| request("POST", "/v1/identify", Some(&body))).collect()
}

async fn put_users(address: &str, users: u64, enrolled: bool) {
    let mut connection = Connection::open(address).await.expect("it listens");
    for person in 0..users {
        let put = request("PUT", &format!("/v1/users/p{person}"), None);
        assert_eq!(connection.send(&put).await.ok(), Some(201));
        if enrolled {
            let path = format!("/v1/users/p{person}/enrollments");
            let enroll = request("POST", &path, Some(&walk(person, 1)));
            assert_eq!(connection.send(&enroll).await.ok(), Some(201));
        }
    }
}

/// Counts the allocations of one identification, with the router in this process.
async fn allocations() {
    let folder = tempfile::tempdir().expect("there is a disk");
    let config = Settings::try_parse_from(["bench"]).expect("defaults are good").config;
    let file = include_bytes!("../models/bipedalnet-openset.safetensors").to_vec();
    let store = Store::open(&folder.path().join("bench.db"), None).await.expect("a new database");
    let given = GivenModel { file, shipped: true };
    let service = Service::start(given, store, Live::new(config.service)).await;
    let service = Arc::new(service.expect("the model that ships"));
    let router = router(service, Live::new(config.http), Browsers::default());
    let router = TowerToHyperService::new(router);
    let body = walk(1, 2);
    let bytes = Bytes::from(body.bytes);
    const REQUESTS: usize = 500;
    let mut counted = [0; 2];
    // The first half is warm-up.
    for number in 0..2 * REQUESTS {
        let mut request = Request::post("/v1/identify")
            .header("host", "localhost")
            .header("content-type", "application/cbor");
        if body.zstd {
            request = request.header("content-encoding", "zstd");
        }
        let request = request.body(Body::from(bytes.clone())).expect("it is a request");
        // The program counts what it allocates.
        let region = Region::new(&INSTRUMENTED_SYSTEM);
        let response = router.call(request).await.expect("it answers");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("it is whole");
        if number >= REQUESTS {
            let change = region.change();
            counted[0] += change.allocations + change.reallocations;
            counted[1] += change.bytes_allocated;
        }
    }
    let [allocations, bytes] = counted.map(|count| count / REQUESTS);
    println!("one identification: {allocations} allocations, {} KiB\n", bytes >> 10);
}

/// A server with its results, one a round.
struct Contender {
    name: &'static str,
    server: Server,
    a_second: Vec<f64>,
    /// Processor time per response.
    microseconds: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, server: Server) -> Self {
        Self { name, server, a_second: Vec::new(), microseconds: Vec::new() }
    }

    async fn round(&mut self, requests: &[Vec<u8>], seconds: f64) {
        let before = self.server.processor_seconds();
        let rate = closed_loop(&self.server.address, requests, seconds).await;
        let taken = self.server.processor_seconds() - before;
        self.a_second.push(rate);
        self.microseconds.push(taken * 1e6 / (rate * seconds));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// Starts the servers, each with its own database.
fn contenders(with_bare: bool) -> Vec<Contender> {
    let folder = || tempfile::tempdir().expect("there is a disk");
    let apart = pin(SERVERS_ON);
    let mut contenders = vec![Contender::new("bipedalnet", Server::start(folder()))];
    if let Ok(program) = std::env::var("BIPEDALNET_BEFORE") {
        contenders.push(Contender::new("before", Server::start_program(&program, folder(), &[])));
    }
    if with_bare {
        let mut command = Command::new(std::env::current_exe().expect("it runs"));
        command.arg("bare");
        contenders.push(Contender::new(BARE, Server::run(command, folder())));
    }
    let apart = pin(CLIENTS_ON) && apart;
    println!("server and clients on different processors: {}\n", if apart { "yes" } else { "no" });
    contenders
}

async fn take_turns(contenders: &mut [Contender], requests: &[Vec<u8>]) {
    for contender in &mut *contenders {
        closed_loop(&contender.server.address, requests, 1.0).await;
    }
    for _ in 0..ROUNDS {
        for contender in &mut *contenders {
            contender.round(requests, ROUND_SECONDS).await;
        }
    }
    println!("| | median per second | median processor time, microseconds |\n|---|--:|--:|");
    for Contender { name, a_second, microseconds, .. } in &*contenders {
        println!("| {name} | {:.0} | {:.1} |", median(a_second), median(microseconds));
    }
    println!();
}

async fn identification() {
    println!("Identification, 10 s of CBOR, {PEOPLE} users, 16 clients");
    let mut contenders = contenders(true);
    for contender in &contenders {
        if contender.name != BARE {
            put_users(&contender.server.address, PEOPLE, true).await;
        }
    }
    let requests = identifications();
    take_turns(&mut contenders, &requests).await;
    // The load generator is too slow to measure the latency of a server that does nothing.
    let measured = contenders.iter().filter(|contender| contender.name != BARE);
    for Contender { name, server, a_second, .. } in measured {
        let rate = median(a_second) / 2.0;
        let outcome = open_loop(&server.address, &requests, rate, LATENCY_SECONDS).await;
        println!(
            "{name} at half the median rate, {:.0} per second: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, {:.0} refused per second",
            outcome.offered, outcome.p50_ms, outcome.p99_ms, outcome.p999_ms, outcome.refused
        );
    }
    println!();
}

async fn enrollment() {
    println!("Enrollment, {ENROLLED} users, 16 clients");
    let mut contenders = contenders(false);
    for contender in &contenders {
        put_users(&contender.server.address, ENROLLED, false).await;
    }
    // Two databases with the same tables. One gets as many walks per transaction as the server, the
    // other one walk per transaction.
    let mut alone = Vec::new();
    for name in ["bare SQLite, transactions as large", "bare SQLite, one walk per transaction"] {
        let server = Server::start(tempfile::tempdir().expect("there is a disk"));
        put_users(&server.address, ENROLLED, false).await;
        let folder = server.stop();
        let database = open(&folder.path().join("bench.db"));
        alone.push((name, database, folder, Vec::new(), Vec::new()));
    }
    let mut groups = Vec::new();
    for round in 0..ROUNDS as u64 {
        // A walk that was enrolled before would be refused.
        let enrollment = |person| {
            let path = format!("/v1/users/p{person}/enrollments");
            request("POST", &path, Some(&walk(person, round)))
        };
        let requests: Vec<Vec<u8>> = (0..ENROLLED).map(enrollment).collect();
        let before = counts(&contenders[0].server).await;
        for contender in &mut contenders {
            contender.round(&requests, ENROLLMENT_SECONDS).await;
        }
        let after = counts(&contenders[0].server).await;
        let group = (after.0 - before.0) / (after.1 - before.1);
        groups.push(group);
        for ((_, database, _, a_second, microseconds), group) in alone.iter_mut().zip([group, 1.0])
        {
            let begin = processor_seconds(std::process::id());
            let rate = insert(database, ENROLLMENT_SECONDS, group.round() as usize);
            let seconds = processor_seconds(std::process::id()) - begin;
            a_second.push(rate);
            microseconds.push(seconds * 1e6 / (rate * ENROLLMENT_SECONDS));
        }
    }
    let ours = contenders[0].a_second.clone();
    let others = alone.iter().map(|(name, _, _, rates, times)| (*name, rates, times));
    let rows = contenders.iter().map(|c| (c.name, &c.a_second, &c.microseconds)).chain(others);
    println!("enrollments per transaction: {:.1}\n", median(&groups));
    println!(
        "| | median per second | median processor time, microseconds | median speed of bipedalnet relative to this |"
    );
    println!("|---|--:|--:|--:|");
    for (name, a_second, microseconds) in rows {
        let ratios: Vec<f64> = ours.iter().zip(a_second).map(|(ours, it)| ours / it).collect();
        println!(
            "| {name} | {:.0} | {:.1} | {:.2} |",
            median(a_second),
            median(microseconds),
            median(&ratios)
        );
    }
}

/// A server's enrollments and transactions so far.
async fn counts(server: &Server) -> (f64, f64) {
    (
        server.metric("bipedalnet_enrollments_total").await,
        server.metric("bipedalnet_database_commit_duration_seconds_count").await,
    )
}

fn open(path: &Path) -> Database {
    let database = Database::open(path).expect("the server has made it");
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
        PRAGMA secure_delete = ON; PRAGMA cache_size = -2048;";
    database.execute_batch(pragmas).expect("they are known");
    database
}

/// Writes what enrollments write, `group` of them per transaction. Returns enrollments per second.
fn insert(database: &Database, seconds: f64, group: usize) -> f64 {
    let recording = Walker::new(1).walk(1, &Conditions { seconds: 10.0, ..Conditions::default() });
    let fingerprint = Fingerprint::of(&recording).expect("it is long enough").to_bytes();
    let prepare = |sql| database.prepare(sql).expect("the tables are there");
    let [mut begin, mut commit] = ["BEGIN IMMEDIATE", "COMMIT"].map(prepare);
    let [mut enrollment, mut template, mut mark] = [
        "INSERT INTO enrollments (user_id, created_at_unix_seconds) VALUES (?, ?)",
        "INSERT INTO templates (model, enrollment_id, template, windows)
         SELECT id, ?, ?, 9 FROM models WHERE active = 1",
        "INSERT INTO fingerprints (user_id, enrollment_id, fingerprint) VALUES (?, ?, ?)",
    ]
    .map(prepare);
    let start = Instant::now();
    let mut inserted = 0_u64;
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        begin.execute([]).expect("nobody else writes");
        for _ in 0..group {
            let user = format!("p{}", inserted % ENROLLED);
            enrollment.execute(params![user, 1]).expect("the disk has room");
            let number = database.last_insert_rowid();
            template.execute(params![number, [1_u8; TEMPLATE_BYTES]]).expect("the disk has room");
            mark.execute(params![user, number, fingerprint]).expect("the disk has room");
            inserted += 1;
        }
        commit.execute([]).expect("the disk has room");
    }
    inserted as f64 / start.elapsed().as_secs_f64()
}

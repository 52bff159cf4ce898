//! Start-up time and memory: idle, with 10,000 users, and under mixed requests.
//!
//!     cargo bench --bench soak -- SECONDS

mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use bipedalnet::Store;
use bipedalnet_core::identity::Template;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use server::{Connection, Line, Server, plot, request, walk};

const USERS: u32 = 10_000;
const CLIENTS: u64 = 4;

/// Maximum number of users that each client has at a time. Clients delete the users they create.
const OWN_USERS: u64 = 50;

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a runtime").block_on(async {
        let server = Server::start(tempfile::tempdir().expect("there is a disk"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("idle, no user: {:.1} MiB resident", server.resident_mebibytes());
        let folder = server.stop();
        fill(&folder.path().join("bench.db")).await;
        let server = Server::start(folder);
        println!("start-up with {USERS} users: {:.0} ms", server.start_seconds * 1e3);
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("idle, {USERS} users: {:.1} MiB resident\n", server.resident_mebibytes());
        soak(&server, seconds).await;
    });
}

/// Enrolls `USERS` users with one walk each.
async fn fill(database: &Path) {
    let store = Store::open(database, None).await.expect("the server has made it");
    let models = store.models().await.expect("they can be read");
    let model = &models.first().expect("a model is active").id;
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut transaction = store.begin().await.expect("nobody else writes");
    for number in 0..USERS {
        let user = format!("user-{number:05}").parse().expect("it is an id");
        let mut template = Template::empty(32);
        for _ in 0..9 {
            let feature: Vec<f32> = (0..32).map(|_| random.random_range(-1.0..1.0)).collect();
            template.add_window(&feature);
        }
        let most = u64::from(USERS);
        transaction.put_user(&user, most).await.expect("there is room");
        let enrollment = transaction.add_enrollment(&user, most).await.expect("there is room");
        transaction
            .add_template(model, enrollment.id, &template)
            .await
            .expect("the model is there");
    }
    transaction.commit().await.expect("the disk has room");
    store.close().await;
}

/// Sends all kinds of requests. Prints and plots the memory over time.
async fn soak(server: &Server, seconds: u64) {
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let address = server.address.clone();
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(use_it(address.clone(), client, end))).collect();
    let pause = Duration::from_secs((seconds / 40).max(1));
    let mut points = vec![(0.0, server.resident_mebibytes())];
    while Instant::now() < end {
        tokio::time::sleep(pause).await;
        let point = (begin.elapsed().as_secs_f64(), server.resident_mebibytes());
        println!("{:6.0} s {:6.1} MiB", point.0, point.1);
        points.push(point);
    }
    let mut requests = 0;
    for client in clients {
        requests += client.await.expect("it does not panic");
    }
    let third = points.len() / 3;
    let mean = |points: &[(f64, f64)]| {
        points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64
    };
    println!(
        "\n{requests} requests in {seconds} s. Mean memory: middle third {:.1} MiB, last third {:.1} MiB",
        mean(&points[third..2 * third]),
        mean(&points[2 * third..]),
    );
    let lines = [Line { name: "resident", colour: "#1b7837", points: &points }];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/memory.svg");
    let title = format!("Memory, {USERS} users, {CLIENTS} clients without pauses");
    plot(&path, &title, ["seconds", "MiB"], &lines).expect("docs/ is writable");
}

/// Creates, enrolls, identifies, verifies and deletes users until `end`. Returns the number of requests.
async fn use_it(address: String, client: u64, end: Instant) -> u64 {
    let mut connection = Connection::open(&address).await.expect("it listens");
    let walks: Vec<_> = (0..8).map(|number| walk(client, number)).collect();
    let mut sent = 0;
    for round in 0.. {
        let user = format!("/v1/users/soak-{client}-{}", round % OWN_USERS);
        let walk = |number: u64| Some(&walks[((round + number) % 8) as usize]);
        for (method, path, body, expected) in [
            ("PUT", user.clone(), None, &[201, 200][..]),
            ("POST", format!("{user}/enrollments"), walk(0), &[201, 503]),
            ("POST", "/v1/identify".to_owned(), walk(1), &[200, 503]),
            ("POST", "/v1/identify".to_owned(), walk(2), &[200, 503]),
            ("POST", format!("{user}/verify"), walk(3), &[200, 409, 503]),
            ("GET", format!("{user}/export"), None, &[200, 503]),
            ("DELETE", user.clone(), None, &[204]),
        ] {
            if Instant::now() >= end {
                return sent;
            }
            let status = connection.send(&request(method, &path, body)).await;
            let status = status.expect("the server answers");
            assert!(expected.contains(&status), "{method} {path}: {status}");
            sent += 1;
        }
    }
    sent
}

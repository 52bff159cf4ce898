//! Enrollments that come at the same time: they are written together, and each has its own answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::models::sqlite;
use crate::support::{self, Answer, Server, simulated};

/// A process that keeps others from writing to the database until it is dropped.
struct Lock(Child);

impl Lock {
    fn new(server: &Server) -> Self {
        let mut process = Command::new("sqlite3")
            .arg(server.database())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.as_mut().unwrap();
        input.write_all(b".timeout 5000\nBEGIN IMMEDIATE; SELECT 'locked';\n").unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "locked");
        Self(process)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = support::client().get(format!("http://{}/metrics", server.metrics)).send().await;
    let text = text.unwrap().text().await.unwrap();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap()
}

/// Enrolls a walk of each user named, all at the same time; tells in how many transactions.
async fn enroll(
    server: &Arc<Server>,
    users: &[&'static str],
) -> (Vec<(&'static str, Answer)>, f64) {
    let read = "bipedalnet_request_stage_duration_seconds_count{stage=\"inference\"}";
    let commits = "bipedalnet_database_commit_duration_seconds_count";
    let before = [metric(server, read).await, metric(server, commits).await];
    let lock = Lock::new(server);
    let mut requests = JoinSet::new();
    for (number, &user) in users.iter().enumerate() {
        let server = Arc::clone(server);
        let walk = simulated(11, 2 + number as u64).part(0.0, 6.0).unwrap();
        requests.spawn(async move { (user, server.enroll(user, &walk).await) });
    }
    // Once they are read, all wait for the lock.
    while metric(server, read).await < before[0] + users.len() as f64 {
        tokio::task::yield_now().await;
    }
    drop(lock);
    (requests.join_all().await, metric(server, commits).await - before[1])
}

fn statuses(answers: &[(&str, Answer)], user: &str) -> Vec<u16> {
    let of = answers.iter().filter(|(whose, _)| *whose == user);
    let mut statuses: Vec<u16> = of.map(|(_, answer)| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

/// Walks and windows of a user by each answer of success: enrolled, accepted, and all.
fn told(answers: &[(&str, Answer)], user: &str) -> Vec<[u64; 3]> {
    let of = answers.iter().filter(|(whose, answer)| *whose == user && answer.status == 201);
    let number = |answer: &Answer, name| answer.body[name].as_u64().unwrap();
    let names = ["enrollments", "windows_accepted", "windows"];
    of.map(|(_, answer)| names.map(|name| number(answer, name))).collect()
}

async fn read(server: &Server, user: &str) -> Value {
    server.send(Method::GET, &format!("/v1/users/{user}"), "").await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn walks_enrolled_together_are_all_there_after_a_crash_and_one_refused_harms_none() {
    let limit = ["--max-enrollments-per-user", "8"];
    let server = Arc::new(Server::start_with(tempfile::tempdir().unwrap(), &limit));
    for user in ["ann", "bob"] {
        server.put_user(user).await;
    }
    let users = ["ann", "ann", "ann", "ann", "ann", "bob", "ann", "ann", "ann", "ann", "bob"];
    let (answers, commits) = enroll(&server, &users).await;
    assert!((1.0..5.0).contains(&commits), "{commits}");
    assert_eq!(statuses(&answers, "bob"), [201; 2]);
    assert_eq!(statuses(&answers, "ann"), [201, 201, 201, 201, 201, 201, 201, 201, 409]);
    // Each answer tells of the walks before it.
    let mut told = told(&answers, "ann");
    told.sort_unstable();
    let mut sum = 0;
    for (walks, [enrollments, accepted, windows]) in (1..).zip(told) {
        sum += accepted;
        assert_eq!([enrollments, windows], [walks, sum]);
    }

    let before = [read(&server, "ann").await, read(&server, "bob").await];
    let server = Server::start_in(Arc::into_inner(server).unwrap().kill());
    let [ann, bob] = [read(&server, "ann").await, read(&server, "bob").await];
    assert_eq!([&ann, &bob], [&before[0], &before[1]]);
    assert_eq!((&ann["enrollments"], &ann["windows"]), (&8.into(), &sum.into()));
    assert_eq!(bob["enrollments"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_cannot_be_written_each_is_written_by_itself() {
    let server = Arc::new(Server::start());
    for user in ["ann", "bob"] {
        server.put_user(user).await;
    }
    sqlite(
        &server.database(),
        "CREATE TRIGGER no_room BEFORE INSERT ON fingerprints WHEN NEW.user_id = 'bob'
         BEGIN SELECT RAISE(ROLLBACK, 'no room'); END",
    );
    let (answers, _) = enroll(&server, &["ann", "ann", "ann", "bob", "ann"]).await;
    assert_eq!(statuses(&answers, "ann"), [201; 4]);
    assert_eq!(statuses(&answers, "bob"), [500]);
    sqlite(&server.database(), "DROP TRIGGER no_room");
    assert_eq!(server.enroll("bob", &simulated(12, 1)).await.status, 201);
    assert_eq!(sqlite(&server.database(), "SELECT count(*) FROM enrollments"), "5");
    let windows: u64 = told(&answers, "ann").iter().map(|[_, accepted, _]| accepted).sum();
    assert_eq!(read(&server, "ann").await["windows"], windows);
}

//! Concurrent enrollments: they share a transaction, and each gets its own response.

use std::sync::Arc;

use bipedalnet_core::gait::Recording;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{Answer, Server, open_database, run_sql, simulated};

/// Enrolls a walk of each of these users, all at the same time. Returns the responses and the number
/// of transactions.
async fn enroll(
    server: &Arc<Server>,
    users: &[&'static str],
) -> (Vec<(&'static str, Answer)>, f64) {
    let inferences = "bipedalnet_request_stage_duration_seconds_count{stage=\"inference\"}";
    let commits = "bipedalnet_database_commit_duration_seconds_count";
    let walk = |number| simulated(11, 2 + number as u64).part(0.0, 6.0).unwrap();
    let walks: Vec<Recording> = (0..users.len()).map(walk).collect();
    let before = server.scrape().await;
    let lock = open_database(&server.database());
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut requests = JoinSet::new();
    for (&user, walk) in users.iter().zip(walks) {
        let server = Arc::clone(server);
        requests.spawn(async move { (user, server.enroll(user, &walk).await) });
    }
    // After inference, all of them wait for the lock.
    while server.scrape().await[inferences] < before[inferences] + users.len() as f64 {
        tokio::task::yield_now().await;
    }
    drop(lock);
    (requests.join_all().await, server.scrape().await[commits] - before[commits])
}

fn statuses(answers: &[(&str, Answer)], user: &str) -> Vec<u16> {
    let of = answers.iter().filter(|(of, _)| *of == user);
    let mut statuses: Vec<u16> = of.map(|(_, answer)| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

/// From each successful response about a user: enrollments, windows accepted, and windows in total.
fn counts(answers: &[(&str, Answer)], user: &str) -> Vec<[u64; 3]> {
    let of = answers.iter().filter(|(of, answer)| *of == user && answer.status == 201);
    let number = |answer: &Answer, name| answer.body[name].as_u64().unwrap();
    let names = ["enrollments", "windows_accepted", "windows"];
    of.map(|(_, answer)| names.map(|name| number(answer, name))).collect()
}

async fn read(server: &Server, user: &str) -> Value {
    server.get(&format!("/v1/users/{user}")).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollments_written_together_survive_a_crash_even_if_one_is_refused() {
    let limit = ["--max-enrollments-per-user", "8"];
    let server = Arc::new(Server::with_arguments(&limit));
    for user in ["ann", "bob"] {
        server.put_user(user).await;
    }
    let users = ["ann", "ann", "ann", "ann", "ann", "bob", "ann", "ann", "ann", "ann", "bob"];
    let (answers, commits) = enroll(&server, &users).await;
    assert!((1.0..5.0).contains(&commits), "{commits}");
    assert_eq!(statuses(&answers, "bob"), [201; 2]);
    assert_eq!(statuses(&answers, "ann"), [201, 201, 201, 201, 201, 201, 201, 201, 409]);
    // Each response counts the walks before it.
    let mut counted = counts(&answers, "ann");
    counted.sort_unstable();
    let mut sum = 0;
    for (walks, [enrollments, accepted, windows]) in (1..).zip(counted) {
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
async fn if_a_shared_transaction_fails_each_enrollment_is_written_alone() {
    let server = Arc::new(Server::start());
    for user in ["ann", "bob"] {
        server.put_user(user).await;
    }
    run_sql(
        &server.database(),
        "CREATE TRIGGER no_room BEFORE INSERT ON fingerprints WHEN NEW.user_id = 'bob'
         BEGIN SELECT RAISE(ROLLBACK, 'no room'); END",
    );
    let (answers, _) = enroll(&server, &["ann", "ann", "ann", "bob", "ann"]).await;
    assert_eq!(statuses(&answers, "ann"), [201; 4]);
    assert_eq!(statuses(&answers, "bob"), [500]);
    run_sql(&server.database(), "DROP TRIGGER no_room");
    assert_eq!(server.enroll("bob", &simulated(12, 1)).await.status, 201);
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM enrollments"), "5");
    let windows: u64 = counts(&answers, "ann").iter().map(|[_, accepted, _]| accepted).sum();
    assert_eq!(read(&server, "ann").await["windows"], windows);
}

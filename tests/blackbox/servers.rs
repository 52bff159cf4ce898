//! Two servers with one database of PostgreSQL.

use std::fs;

use bipedalnet_core::gait::Recording;
use futures_util::future::join;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::models::{KEEPING, with_walkers};
use crate::support::{self, Answer, Server, simulated, simulated_for};

/// Another server with the same database. `None`, with a message, if that is a file.
fn beside(server: &Server, skipped: &str) -> Option<Server> {
    let url = fs::read_to_string(server.folder.path().join("database-url"));
    let Ok(url) = url else {
        eprintln!("skipped: {skipped}. This needs PostgreSQL: see tests/postgres.sh.");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("database-url"), url).unwrap();
    Some(Server::start_with(folder, &KEEPING))
}

/// Two servers on which ann is enrolled.
async fn two(skipped: &str) -> Option<[Server; 2]> {
    let one = Server::with_users(&[], &[("ann", 11)]).await;
    let other = beside(&one, skipped)?;
    Some([one, other])
}

async fn verify(server: &Server, query: &str, recording: &Recording) -> Answer {
    let path = format!("/v1/users/ann/verify{query}");
    server.send(Method::POST, &path, support::json(recording)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_both_at_once_counts_once() {
    let Some([one, other]) = two("challenges and replays on two servers").await else { return };
    // A challenge of one server is valid on the other one, and once.
    for walk in 2..12 {
        let created = one.send(Method::POST, "/v1/users/ann/challenges", "").await.body;
        let query = format!("?challenge={}", created["challenge"].as_str().unwrap());
        let [walk, next] = [walk, walk + 100].map(|walk| simulated_for(11, walk, 10.0));
        let (first, second) =
            join(verify(&one, &query, &walk), verify(&other, &query, &next)).await;
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{first:?} {second:?}");
    }
    // A walk that was sent twice is accepted once, if at all.
    let mut accepted = 0;
    for walk in 20..40 {
        let walk = simulated_for(11, walk, 10.0);
        let (first, second) = join(verify(&one, "", &walk), verify(&other, "", &walk)).await;
        let decisions = [first, second].map(|answer| answer.body["decision"].to_string());
        let accepts = decisions.iter().filter(|decision| *decision == "\"accept\"").count();
        assert!(accepts <= 1, "{decisions:?}");
        accepted += accepts;
    }
    assert!(accepted > 9, "{accepted}");
    // The same walk in a session is a retry.
    for walk in 40..50 {
        let walk = simulated_for(11, walk, 10.0);
        let query = "?session=s";
        let (first, second) = join(verify(&one, query, &walk), verify(&other, query, &walk)).await;
        for answer in [first, second] {
            assert_ne!(answer.body["decision"], "suspected_replay", "{answer:?}");
        }
    }
}

#[tokio::test]
async fn walks_of_a_session_add_up_on_both() {
    let Some([one, other]) = two("a session on two servers").await else { return };
    for (number, server) in [(1, &one), (2, &other), (3, &one), (4, &other)] {
        let answer = verify(server, "?session=s", &simulated_for(40, number, 4.0)).await;
        assert_eq!(answer.body["windows"], 3 * number, "{answer:?}");
    }
    let again = verify(&one, "?session=s", &simulated_for(40, 2, 4.0)).await;
    assert_eq!(again.body["windows"], 12);
}

#[tokio::test]
async fn a_job_goes_on_if_its_server_dies() {
    let one = with_walkers(2).await;
    let Some(other) = beside(&one, "training on two servers") else { return };
    const JOBS: &str = "/v1/training-jobs";
    let document = json!({"epochs": 1, "seed": 3, "activate": false}).to_string();
    let job = async |server: &Server, number: u64| -> Value {
        server.get(&format!("{JOBS}/{number}")).await.body
    };
    let ended = async |server: &Server, number: u64| loop {
        let job = job(server, number).await;
        if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
            return job;
        }
    };
    assert_eq!(one.send(Method::POST, JOBS, document.clone()).await.status, 202);
    let expected = ended(&other, 1).await;
    assert_eq!(expected["state"], "succeeded", "{expected}");

    // Whichever server runs it dies.
    let mut crashing = support::program();
    crashing.env("BIPEDALNET_CRASH_AT", "checkpoint kept");
    let url = fs::read_to_string(one.folder.path().join("database-url")).unwrap();
    drop((one, other));
    let with_url = || -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("database-url"), &url).unwrap();
        folder
    };
    let dying = Server::start_as(crashing, with_url(), &KEEPING);
    assert_eq!(dying.send(Method::POST, JOBS, document).await.status, 202);
    let (status, _folder) = dying.ended();
    assert!(!status.success());
    let survivor = Server::start_with(with_url(), &KEEPING);
    assert_eq!(job(&survivor, 2).await["state"], "running");
    let taken_over = ended(&survivor, 2).await;
    assert_eq!(
        (&taken_over["state"], &taken_over["model"]),
        (&expected["state"], &expected["model"])
    );
    assert_eq!(survivor.identified(&simulated(12, 3)).await.as_deref(), Some("user-1"));
}

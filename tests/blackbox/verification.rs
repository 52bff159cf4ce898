//! Claims: sessions, challenges, and walks that are sent again.

use bipedalnet_core::gait::Recording;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use reqwest::Method;
use serde_json::Value;

use crate::server::stable;
use crate::support::{self, Answer, Server};

async fn with_ann(arguments: &[&str]) -> Server {
    let server = Server::start_with(tempfile::tempdir().unwrap(), arguments);
    server.put_user("ann").await;
    assert_eq!(server.enroll("ann", &walk(11, 1, 20.0)).await.status, 201);
    server
}

fn walk(person: u64, walk: u64, seconds: f64) -> Recording {
    let conditions = Conditions { seconds, ..Conditions::default() };
    Walker::new(person).walk(walk, &conditions)
}

async fn answer(server: &Server, query: &str, recording: &Recording) -> Answer {
    let path = format!("/v1/users/ann/verify{query}");
    server.send(Method::POST, &path, support::json(recording)).await
}

async fn verify(server: &Server, query: &str, recording: &Recording) -> Value {
    let answer = answer(server, query, recording).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_claim_is_accepted_rejected_or_left_open() {
    let server = with_ann(&[]).await;
    insta::assert_json_snapshot!(
        "verification",
        stable(verify(&server, "", &walk(11, 2, 20.0)).await)
    );
    for (number, fmr) in [(3, "0.1"), (4, "0.01")] {
        let query = format!("?fmr={fmr}");
        let decision =
            async |recording| verify(&server, &query, &recording).await["decision"].clone();
        assert_eq!(decision(walk(11, number, 20.0)).await, "accept", "{fmr}");
        assert_eq!(decision(walk(40, 1, 20.0)).await, "reject", "{fmr}");
        // What four seconds tell differs from one stranger to the next.
        let mut of_short_walks = Vec::new();
        for person in 40..50 {
            of_short_walks.push(decision(walk(person, number, 4.0)).await);
        }
        assert!(of_short_walks.iter().any(|it| it == "inconclusive"), "{fmr} {of_short_walks:?}");
        assert!(of_short_walks.iter().all(|it| it != "accept"), "{fmr} {of_short_walks:?}");
    }
}

#[tokio::test]
async fn weak_walks_of_one_session_add_up_and_a_retry_does_not() {
    let server = with_ann(&[]).await;
    let windows = async |number| verify(&server, "?session=s1", &walk(40, number, 4.0)).await;
    assert_eq!(windows(1).await["windows"], 3);
    assert_eq!(windows(1).await["windows"], 3);
    assert_eq!(windows(2).await["windows"], 6);
    let third = windows(3).await;
    assert_eq!((&third["windows"], &third["decision"]), (&9.into(), &"reject".into()));
    assert_eq!(verify(&server, "?session=s2", &walk(40, 4, 4.0)).await["windows"], 3);
}

#[tokio::test]
async fn a_walk_that_was_sent_before_is_no_match() {
    let server = with_ann(&[]).await;
    // One that was enrolled, whole and in part.
    let enrolled = walk(11, 1, 20.0);
    for replay in [enrolled.clone(), enrolled.part(3.3, 9.0).unwrap()] {
        let answer = verify(&server, "", &replay).await;
        assert_eq!(answer["decision"], "suspected_replay");
    }
    // One that was verified; after a restart too.
    let verified = walk(11, 2, 10.0);
    assert_eq!(verify(&server, "", &verified).await["decision"], "accept");
    assert_eq!(verify(&server, "", &verified).await["decision"], "suspected_replay");
    let server = Server::start_in(server.kill());
    let again = verify(&server, "", &verified).await;
    insta::assert_json_snapshot!("suspected_replay", stable(again));
    // Under a session, a retry is a retry; in another session it is a replay.
    let walk = walk(11, 3, 10.0);
    assert_eq!(verify(&server, "?session=s1", &walk).await["decision"], "accept");
    assert_eq!(verify(&server, "?session=s1", &walk).await["decision"], "accept");
    assert_eq!(verify(&server, "?session=s2", &walk).await["decision"], "suspected_replay");
}

#[tokio::test]
async fn a_retried_verification_gets_the_first_answer() {
    let server = with_ann(&["--require-challenge"]).await;
    let challenge = challenge(&server, "ann").await;
    let path = format!("/v1/users/ann/verify?challenge={challenge}");
    let send = async || {
        let request = support::client().post(server.url(&path));
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", "v1");
        let answer = request.body(support::json(&walk(11, 2, 10.0))).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        (answer.status().as_u16(), replayed, answer.text().await.unwrap())
    };
    let first = send().await;
    assert_eq!((first.0, first.1), (200, false));
    assert!(first.2.contains("\"accept\""), "{}", first.2);
    let second = send().await;
    assert_eq!(second, (200, true, first.2));
}

async fn challenge(server: &Server, user: &str) -> String {
    let answer = server.send(Method::POST, &format!("/v1/users/{user}/challenges"), "").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.body["expires_in_seconds"], 120);
    answer.body["challenge"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_challenge_is_good_once_and_for_its_user() {
    let server = with_ann(&["--require-challenge"]).await;
    server.put_user("bob").await;
    let query = |challenge: &str| format!("?challenge={challenge}");
    let without = answer(&server, "", &walk(11, 2, 10.0)).await;
    assert_eq!(without.status, 428);
    insta::assert_json_snapshot!("challenge_needed", without.body);
    let of_bob = challenge(&server, "bob").await;
    let of_ann = challenge(&server, "ann").await;
    assert_eq!(answer(&server, &query(&of_bob), &walk(11, 2, 10.0)).await.status, 409);
    // A recording that is no walk does not cost the challenge.
    assert_eq!(answer(&server, &query(&of_ann), &walk(11, 2, 1.0)).await.status, 422);
    let good = verify(&server, &query(&of_ann), &walk(11, 2, 10.0)).await;
    assert_eq!(good["decision"], "accept");
    let used = answer(&server, &query(&of_ann), &walk(11, 3, 10.0)).await;
    assert_eq!(used.status, 409);
    insta::assert_json_snapshot!("bad_challenge", used.body);
    assert_eq!(server.send(Method::POST, "/v1/users/eve/challenges", "").await.status, 404);
}

#[tokio::test]
async fn copies_within_a_batch_or_a_session_do_not_add_up() {
    let server = with_ann(&[]).await;
    let item = |recording: &Recording, session: Option<&str>| {
        let walk: Value = serde_json::from_str(&support::json(recording)).unwrap();
        serde_json::json!({"verify": {"user": "ann", "walk": walk, "session": session}})
    };
    let decisions = async |items: Vec<Value>| -> Vec<String> {
        let batch = serde_json::json!({"items": items}).to_string();
        let answer = server.send(Method::POST, "/v1/batch", batch).await;
        let outcomes = answer.body["outcomes"].as_array().unwrap().clone();
        let decision =
            |outcome: &Value| outcome["verified"]["decision"].as_str().unwrap().to_owned();
        outcomes.iter().map(decision).collect()
    };
    let same = walk(11, 2, 10.0);
    assert_eq!(
        decisions(vec![item(&same, None), item(&same, None)]).await,
        ["accept", "suspected_replay"]
    );
    // A clip of a stranger, cut a little differently each time.
    let clip = walk(40, 2, 9.0);
    let cuts = [0.0, 0.3, 0.6].map(|start| clip.part(start, 6.0).unwrap());
    let items = cuts.iter().map(|cut| item(cut, Some("s"))).collect();
    let of_cuts = decisions(items).await;
    assert_ne!(of_cuts[0], "accept");
    assert_eq!(of_cuts[1..], ["suspected_replay", "suspected_replay"]);
}

#[tokio::test]
async fn features_are_verified_against_a_challenge_alone() {
    let server = with_ann(&[]).await;
    let features =
        serde_json::json!({"model": "0123456789abcdef", "features": [[1.0]]}).to_string();
    let path = "/v1/users/ann/verify";
    assert_eq!(server.send(Method::POST, path, features.clone()).await.status, 428);
    let path = format!("{path}?challenge={}", challenge(&server, "ann").await);
    // The challenge is good; the features are of no model that serves.
    assert_eq!(server.send(Method::POST, &path, features).await.status, 409);
}

#[tokio::test]
async fn a_walk_to_verify_may_last_two_minutes() {
    let server = with_ann(&[]).await;
    assert_eq!(answer(&server, "", &walk(11, 2, 119.0)).await.status, 200);
    let long = answer(&server, "", &walk(11, 3, 130.0)).await;
    assert_eq!((long.status, &long.body["type"]), (422, &"urn:bipedalnet:problem:too-long".into()));
}

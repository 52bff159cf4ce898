//! Verification: decisions, sessions, challenges and replays.

use bipedalnet_core::gait::Recording;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::support::{self, Answer, Server, simulated_for, stable};

async fn with_ann(arguments: &[&str]) -> Server {
    Server::with_users(arguments, &[("ann", 11)]).await
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
async fn a_claim_is_accepted_rejected_or_inconclusive() {
    let server = with_ann(&[]).await;
    insta::assert_json_snapshot!(
        "verification",
        stable(verify(&server, "", &simulated_for(11, 2, 20.0)).await)
    );
    for (number, fmr) in [(3, "0.1"), (4, "0.01")] {
        let query = format!("?fmr={fmr}");
        let decision =
            async |recording| verify(&server, &query, &recording).await["decision"].clone();
        assert_eq!(decision(simulated_for(11, number, 20.0)).await, "accept", "{fmr}");
        assert_eq!(decision(simulated_for(40, 1, 20.0)).await, "reject", "{fmr}");
        // Four seconds suffice to reject some strangers, but not all.
        let mut of_short_walks = Vec::new();
        for person in 40..50 {
            of_short_walks.push(decision(simulated_for(person, number, 4.0)).await);
        }
        assert!(of_short_walks.iter().any(|it| it == "inconclusive"), "{fmr} {of_short_walks:?}");
        assert!(of_short_walks.iter().all(|it| it != "accept"), "{fmr} {of_short_walks:?}");
    }
}

#[tokio::test]
async fn short_walks_of_one_session_add_up_and_a_retry_does_not() {
    let server = with_ann(&[]).await;
    let windows =
        async |number| verify(&server, "?session=s1", &simulated_for(40, number, 4.0)).await;
    assert_eq!(windows(1).await["windows"], 3);
    assert_eq!(windows(1).await["windows"], 3);
    assert_eq!(windows(2).await["windows"], 6);
    let third = windows(3).await;
    assert_eq!((&third["windows"], &third["decision"]), (&9.into(), &"reject".into()));
    assert_eq!(verify(&server, "?session=s2", &simulated_for(40, 4, 4.0)).await["windows"], 3);
}

#[tokio::test]
async fn a_session_outlives_a_restart_and_holds_the_walks_of_a_batch() {
    let server = with_ann(&[]).await;
    let short = |number| simulated_for(40, number, 4.0);
    assert_eq!(verify(&server, "?session=s", &short(1)).await["windows"], 3);
    let server = Server::start_in(server.kill());
    let item = |number| {
        let walk: Value = serde_json::from_str(&support::json(&short(number))).unwrap();
        serde_json::json!({"verify": {"user": "ann", "walk": walk, "session": "s"}})
    };
    // One of them is a retry.
    let items = [2, 3, 2, 1].map(item).to_vec();
    let batch = serde_json::json!({"items": items}).to_string();
    let answer = server.send(Method::POST, "/v1/batch", batch).await;
    let outcomes = answer.body["outcomes"].as_array().unwrap();
    let windows: Vec<&Value> = outcomes.iter().map(|it| &it["verified"]["windows"]).collect();
    assert_eq!(windows, [6, 9, 9, 9]);
    assert_eq!(verify(&server, "?session=s", &short(4)).await["windows"], 12);
}

#[tokio::test]
async fn a_walk_sent_before_is_a_suspected_replay() {
    let server = with_ann(&[]).await;
    // An enrolled walk, and a part of it.
    let enrolled = simulated_for(11, 1, 20.0);
    for replay in [enrolled.clone(), enrolled.part(3.3, 9.0).unwrap()] {
        let answer = verify(&server, "", &replay).await;
        assert_eq!(answer["decision"], "suspected_replay");
    }
    // A verified walk, also after a restart.
    let verified = simulated_for(11, 2, 10.0);
    assert_eq!(verify(&server, "", &verified).await["decision"], "accept");
    assert_eq!(verify(&server, "", &verified).await["decision"], "suspected_replay");
    let server = Server::start_in(server.kill());
    let again = verify(&server, "", &verified).await;
    insta::assert_json_snapshot!("suspected_replay", stable(again));
    // In the same session it is a retry. In another session it is a replay.
    let walk = simulated_for(11, 3, 10.0);
    assert_eq!(verify(&server, "?session=s1", &walk).await["decision"], "accept");
    assert_eq!(verify(&server, "?session=s1", &walk).await["decision"], "accept");
    assert_eq!(verify(&server, "?session=s2", &walk).await["decision"], "suspected_replay");
}

#[tokio::test]
async fn a_retried_verification_gets_the_first_response() {
    let server = with_ann(&["--require-challenge"]).await;
    let challenge = challenge(&server, "ann").await;
    let path = format!("/v1/users/ann/verify?challenge={challenge}");
    let send = async || {
        let walk = support::json(&simulated_for(11, 2, 10.0));
        let request = server.request(Method::POST, &path, walk);
        let answer = request.header("idempotency-key", "v1").send().await.unwrap();
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
    assert_eq!(answer.body["model"].as_str().unwrap().len(), 16);
    answer.body["challenge"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_challenge_is_valid_once_and_for_its_user() {
    let server = with_ann(&["--require-challenge"]).await;
    server.put_user("bob").await;
    let query = |challenge: &str| format!("?challenge={challenge}");
    let without = answer(&server, "", &simulated_for(11, 2, 10.0)).await;
    assert_eq!(without.status, 428);
    insta::assert_json_snapshot!("challenge_needed", without.body);
    let of_bob = challenge(&server, "bob").await;
    let of_ann = challenge(&server, "ann").await;
    assert_eq!(answer(&server, &query(&of_bob), &simulated_for(11, 2, 10.0)).await.status, 409);
    // An invalid recording does not use up the challenge.
    assert_eq!(answer(&server, &query(&of_ann), &simulated_for(11, 2, 1.0)).await.status, 422);
    let good = verify(&server, &query(&of_ann), &simulated_for(11, 2, 10.0)).await;
    assert_eq!(good["decision"], "accept");
    let used = answer(&server, &query(&of_ann), &simulated_for(11, 3, 10.0)).await;
    assert_eq!(used.status, 409);
    insta::assert_json_snapshot!("bad_challenge", used.body);
    assert_eq!(server.send(Method::POST, "/v1/users/eve/challenges", "").await.status, 404);
}

#[tokio::test]
async fn a_challenge_outlives_a_restart_and_its_use_does_too() {
    let server = with_ann(&["--require-challenge"]).await;
    let query = format!("?challenge={}", challenge(&server, "ann").await);
    let server = Server::start_with(server.kill(), &["--require-challenge"]);
    assert_eq!(verify(&server, &query, &simulated_for(11, 2, 10.0)).await["decision"], "accept");
    let server = Server::start_with(server.kill(), &["--require-challenge"]);
    let again = answer(&server, &query, &simulated_for(11, 3, 10.0)).await;
    assert_eq!(again.problem(), (409, "bad-challenge"));
}

#[tokio::test]
async fn verifications_at_the_same_time_use_a_challenge_once() {
    let server = with_ann(&[]).await;
    let query = format!("?challenge={}", challenge(&server, "ann").await);
    let walks: Vec<Recording> = (2..10).map(|walk| simulated_for(11, walk, 10.0)).collect();
    let answers = walks.iter().map(|walk| answer(&server, &query, walk));
    let mut statuses: Vec<u16> = join_all(answers).await.iter().map(|it| it.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);

    // Likewise the items of a batch.
    let challenge = challenge(&server, "ann").await;
    let item = |recording: &Recording| {
        let walk: Value = serde_json::from_str(&support::json(recording)).unwrap();
        serde_json::json!({"verify": {"user": "ann", "walk": walk, "challenge": challenge}})
    };
    let items: Vec<Value> = (10..12).map(|walk| item(&simulated_for(11, walk, 10.0))).collect();
    let batch = serde_json::json!({"items": items}).to_string();
    let outcomes = server.send(Method::POST, "/v1/batch", batch).await.body["outcomes"].take();
    assert_eq!(outcomes[0]["verified"]["decision"], "accept", "{outcomes}");
    assert_eq!(
        outcomes[1]["problem"]["type"], "urn:bipedalnet:problem:bad-challenge",
        "{outcomes}"
    );
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
    let same = simulated_for(11, 2, 10.0);
    assert_eq!(
        decisions(vec![item(&same, None), item(&same, None)]).await,
        ["accept", "suspected_replay"]
    );
    // Parts of one recording of a stranger, each with another start.
    let clip = simulated_for(40, 2, 9.0);
    let cuts = [0.0, 0.3, 0.6].map(|start| clip.part(start, 6.0).unwrap());
    let items = cuts.iter().map(|cut| item(cut, Some("s"))).collect();
    let of_cuts = decisions(items).await;
    assert_ne!(of_cuts[0], "accept");
    assert_eq!(of_cuts[1..], ["suspected_replay", "suspected_replay"]);
}

#[tokio::test]
async fn features_need_a_challenge() {
    let server = with_ann(&[]).await;
    let features =
        serde_json::json!({"model": "0123456789abcdef", "features": [[1.0]]}).to_string();
    let path = "/v1/users/ann/verify";
    assert_eq!(server.send(Method::POST, path, features.clone()).await.status, 428);
    let path = format!("{path}?challenge={}", challenge(&server, "ann").await);
    // The challenge is valid, but the features come from another model.
    assert_eq!(server.send(Method::POST, &path, features).await.status, 409);
}

#[tokio::test]
async fn a_verified_walk_may_last_two_minutes() {
    let server = with_ann(&[]).await;
    assert_eq!(answer(&server, "", &simulated_for(11, 2, 119.0)).await.status, 200);
    let long = answer(&server, "", &simulated_for(11, 3, 130.0)).await;
    assert_eq!((long.status, &long.body["type"]), (422, &"urn:bipedalnet:problem:too-long".into()));
}

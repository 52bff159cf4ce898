//! Template update: what is learned from verifications, and what is not.

use bipedalnet_core::gait::Recording;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use reqwest::Method;
use serde_json::{Value, json};

use crate::models::{KEEPING, activate, id, sqlite, twin, write};
use crate::support::{self, Server};

const UPDATING: &str = "--update-templates";

/// Windows of each long walk.
const WINDOWS: u64 = 39;

fn walk_of(person: u64, number: u64, seconds: f64) -> Recording {
    let conditions = Conditions { seconds, ..Conditions::default() };
    Walker::new(person).walk(number, &conditions)
}

/// Other users, whose walks are numbered first. Numbers in these tests count from ann's first on.
const OTHERS: u64 = 12;

fn own_number(number: &Value) -> i64 {
    number.as_i64().unwrap() - OTHERS as i64
}

/// A long walk of ann's; the first is enrolled.
fn walk(number: u64) -> Recording {
    walk_of(11, number, 40.0)
}

async fn with_ann(arguments: &[&str]) -> Server {
    let server = Server::start_with(tempfile::tempdir().unwrap(), arguments);
    // Nothing is beyond doubt as long as there is nobody to compare with.
    for other in 0..OTHERS {
        let user = format!("other-{other}");
        server.put_user(&user).await;
        assert_eq!(server.enroll(&user, &walk_of(60 + other, 1, 40.0)).await.status, 201);
    }
    server.put_user("ann").await;
    assert_eq!(server.enroll("ann", &walk(1)).await.status, 201);
    server
}

async fn read(server: &Server, path: &str) -> Value {
    let answer = server.send(Method::GET, &format!("/v1/users/ann{path}"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn verify(server: &Server, query: &str, body: String) -> Value {
    let path = format!("/v1/users/ann/verify{query}");
    let answer = server.send(Method::POST, &path, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The update that came of a long walk of ann's.
async fn update(server: &Server, number: u64) -> Option<i64> {
    let answer = verify(server, "", support::json(&walk(number))).await;
    assert_eq!(answer["decision"], "accept", "{answer}");
    answer.get("enrollment").map(own_number)
}

/// Numbers of ann's walks: of the enrolled ones, and of updates.
async fn walks(server: &Server) -> (Vec<i64>, Vec<i64>) {
    let walks = read(server, "/enrollments").await["enrollments"].take();
    let of = |source: &str| {
        let walks = walks.as_array().unwrap().iter().filter(|walk| walk["source"] == source);
        walks.map(|walk| own_number(&walk["enrollment"])).collect()
    };
    (of("enrollment"), of("verification"))
}

/// Windows that ann is known by.
async fn windows(server: &Server) -> u64 {
    read(server, "").await["windows"].as_u64().unwrap()
}

fn a_day_passes(server: &Server) {
    let earlier =
        "UPDATE enrollments SET created_at_unix_seconds = created_at_unix_seconds - 86400";
    sqlite(&server.database(), earlier);
}

#[tokio::test]
async fn a_walk_that_is_accepted_beyond_doubt_is_learned_where_the_operator_wants_it() {
    let server = with_ann(&[]).await;
    assert_eq!(update(&server, 2).await, None);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![]), WINDOWS));

    let server = Server::start_with(server.kill(), &[UPDATING]);
    let probe = support::json(&walk_of(11, 9, 10.0));
    let score = async |server: &Server| {
        let answer = server.send(Method::POST, "/v1/identify", probe.clone()).await.body;
        answer["candidates"][0]["score"].clone()
    };
    assert_eq!(update(&server, 3).await, Some(2));
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![2]), 2 * WINDOWS));
    let export = read(&server, "/export").await;
    assert_eq!(export["walks"][1]["source"], "verification");
    assert_eq!(export["walks"][1]["templates"][0]["windows"], WINDOWS);
    let metrics = reqwest::get(format!("http://{}/metrics", server.metrics)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("bipedalnet_template_updates_total 1\n"), "{metrics}");
    // It counts in the gallery as in the database.
    let answer = server.enroll("ann", &walk(4)).await.body;
    assert_eq!((&answer["windows"], &answer["enrollments"]), (&json!(3 * WINDOWS), &json!(3)));
    let learned = score(&server).await;
    let server = Server::start_in(server.kill());
    assert_eq!(score(&server).await, learned);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1, 3], vec![2]), 117));
}

#[tokio::test]
async fn what_is_less_than_beyond_doubt_is_not_learned() {
    let server = with_ann(&[UPDATING]).await;
    // Strangers.
    for person in 40..50 {
        let walk = support::json(&walk_of(person, 1, 40.0));
        // One in ten may be accepted at this rate.
        let answer = verify(&server, "?fmr=0.1", walk).await;
        assert_eq!(answer.get("enrollment"), None, "{answer}");
    }
    // A walk that is long with others of its session alone, and features without a recording.
    for number in [2, 3] {
        let walk = support::json(&walk_of(11, number, 25.0));
        let answer = verify(&server, "?session=s", walk).await;
        assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    }
    let challenge = server.send(Method::POST, "/v1/users/ann/challenges", "").await.body;
    let query = format!("?challenge={}", challenge["challenge"].as_str().unwrap());
    let answer = verify(&server, &query, support::features(&walk(4)).to_string()).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    // One that was enrolled, sent again.
    let answer = verify(&server, "", support::json(&walk(1))).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("suspected_replay"), None));
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![]), WINDOWS));
    // What was missing was a recording.
    assert_eq!(update(&server, 4).await, Some(2));

    // As long as there is nobody to compare with, a match is accepted but not beyond doubt.
    let server = Server::start_with(tempfile::tempdir().unwrap(), &[UPDATING]);
    server.put_user("ann").await;
    assert_eq!(server.enroll("ann", &walk(1)).await.status, 201);
    let answer = verify(&server, "?fmr=0.1", support::json(&walk(2))).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    assert!(answer["estimated_fmr"].as_f64().unwrap() > 1e-4, "{answer}");

    // Whoever is hardly known yet learns from enrollments alone.
    let server = Server::start_with(tempfile::tempdir().unwrap(), &[UPDATING]);
    server.put_user("ann").await;
    assert_eq!(server.enroll("ann", &walk_of(11, 1, 20.0)).await.status, 201);
    assert_eq!(update(&server, 2).await, None);
}

#[tokio::test]
async fn a_walk_is_learned_once_and_one_a_day() {
    let server = with_ann(&[UPDATING]).await;
    let once = async || {
        let request = support::client().post(server.url("/v1/users/ann/verify"));
        let request = request.header("idempotency-key", "once");
        let request = request.header("content-type", "application/json");
        request.body(support::json(&walk(2))).send().await.unwrap().text().await.unwrap()
    };
    let first = once().await;
    assert!(first.contains(&format!("\"enrollment\":{}", OTHERS + 2)), "{first}");
    assert_eq!(once().await, first);
    assert_eq!(update(&server, 3).await, None);
    a_day_passes(&server);
    // Again under its session: by then there is nothing that it would have to wait for.
    let of_session = async || verify(&server, "?session=s", support::json(&walk(4))).await;
    assert_eq!(own_number(&of_session().await["enrollment"]), 3);
    a_day_passes(&server);
    let retried = of_session().await;
    assert_eq!((&retried["decision"], retried.get("enrollment")), (&json!("accept"), None));
    // Of a batch the first is taken; the walk that is enrolled with it counts, too.
    let item = |number| {
        let walk: Value = serde_json::from_str(&support::json(&walk(number))).unwrap();
        json!({"user": "ann", "walk": walk})
    };
    let items = json!({"items": [{"verify": item(5)}, {"verify": item(6)}, {"enroll": item(7)}]});
    let answer = server.send(Method::POST, "/v1/batch", items.to_string()).await.body;
    assert_eq!(own_number(&answer["outcomes"][0]["verified"]["enrollment"]), 4, "{answer}");
    assert_eq!(answer["outcomes"][1]["verified"].get("enrollment"), None);
    assert_eq!(answer["outcomes"][2]["enrolled"]["windows"], 5 * WINDOWS);
    assert_eq!(walks(&server).await, (vec![1, 5], vec![2, 3, 4]));
    assert_eq!(windows(&server).await, 5 * WINDOWS);
}

#[tokio::test]
async fn the_oldest_update_makes_room_and_enrolled_walks_stay() {
    let server = with_ann(&[UPDATING, "--max-enrollments-per-user", "2"]).await;
    for number in 2..=7 {
        assert_eq!(update(&server, number).await, Some(number as i64));
        a_day_passes(&server);
    }
    assert_eq!(walks(&server).await, (vec![1], vec![4, 5, 6, 7]));
    assert_eq!(windows(&server).await, 5 * WINDOWS);
    // A walk that made room is known all the same, should it be sent again.
    let answer = verify(&server, "", support::json(&walk(2))).await;
    assert_eq!(answer["decision"], "suspected_replay");
    // Updates do not take the place of enrollments.
    let answer = server.enroll("ann", &walk(8)).await;
    assert_eq!((answer.status, &answer.body["windows"]), (201, &json!(6 * WINDOWS)));
    assert_eq!(server.enroll("ann", &walk(9)).await.status, 409);

    let erase = async |number: i64| {
        let path = format!("/v1/users/ann/enrollments/{}", number + OTHERS as i64);
        server.send(Method::DELETE, &path, "").await.status
    };
    assert_eq!(erase(5).await, 204);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1, 8], vec![4, 6, 7]), 195));
    // What was accepted by a walk goes with it.
    assert_eq!(erase(1).await, 204);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![8], vec![]), WINDOWS));
    let answer = server.enroll("ann", &walk(10)).await.body;
    assert_eq!(answer["windows"], 2 * WINDOWS);
}

#[tokio::test]
async fn another_model_takes_over_without_updates_and_hands_back_with_them() {
    let file = twin(5);
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &file);
    let shipped = with_ann(&[&KEEPING[..], &[UPDATING]].concat()).await;
    let arguments = [&KEEPING[..], &["--model", path.to_str().unwrap(), UPDATING]].concat();
    let server = Server::start_with(shipped.kill(), &arguments);
    assert_eq!(update(&server, 2).await, Some(2));
    let old = read(&server, "/enrollments").await["enrollments"][1]["model"].take();
    // Nor is a training refused for want of the update's recording.
    server.put_user("bob").await;
    assert_eq!(server.enroll("bob", &walk_of(12, 1, 40.0)).await.status, 201);
    assert_eq!(server.enroll("ann", &walk(3)).await.status, 201);
    let job = server.send(Method::POST, "/v1/training-jobs", "{}").await;
    assert_eq!(job.status, 202, "{job:?}");
    let path = format!("/v1/training-jobs/{}", job.body["job"]);
    assert_eq!(server.send(Method::DELETE, &path, "").await.status, 204);

    let answer = activate(&server, &id(&file), false).await;
    assert_eq!((answer.status, &answer.body["walks_lost"]), (200, &json!(0)), "{answer:?}");
    assert_eq!(windows(&server).await, 2 * WINDOWS);
    let lost = read(&server, "/enrollments").await["enrollments"][1].take();
    assert_eq!((&lost["windows"], lost.get("model")), (&json!(0), None));
    a_day_passes(&server);
    assert_eq!(update(&server, 4).await, Some(5));
    assert_eq!(windows(&server).await, 3 * WINDOWS);
    assert_eq!(activate(&server, old.as_str().unwrap(), false).await.status, 200);
    assert_eq!(windows(&server).await, 3 * WINDOWS);
    assert_eq!(read(&server, "/enrollments").await["enrollments"][1]["windows"], WINDOWS);
}

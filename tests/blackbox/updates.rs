//! Template updates (`--update-templates`): which verified walks are added to a template.

use bipedalnet_core::gait::Recording;
use reqwest::Method;
use serde_json::{Value, json};

use crate::models::{KEEPING, activate, id, twin, write};
use crate::support::{self, Server, run_sql, simulated_for};

const UPDATING: &str = "--update-templates";

/// The windows of a walk of 40 s.
const WINDOWS: u64 = 39;

/// Number of other users. Each has one walk, enrolled before ann's walks.
const OTHERS: u64 = 12;

/// The number of a walk among ann's walks.
fn own_number(number: &Value) -> i64 {
    number.as_i64().unwrap() - OTHERS as i64
}

/// A walk of ann of 40 s. The first one is enrolled.
fn walk(number: u64) -> Recording {
    simulated_for(11, number, 40.0)
}

async fn with_ann_and_others(arguments: &[&str]) -> Server {
    let server = Server::with_arguments(arguments);
    // A match is beyond doubt only if there are other users to compare with.
    for other in 0..OTHERS {
        let walk = simulated_for(60 + other, 1, 40.0);
        server.add_user(&format!("other-{other}"), &[walk]).await;
    }
    server.add_user("ann", &[walk(1)]).await;
    server
}

async fn read(server: &Server, path: &str) -> Value {
    let answer = server.get(&format!("/v1/users/ann{path}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn verify(server: &Server, query: &str, body: String) -> Value {
    let path = format!("/v1/users/ann/verify{query}");
    let answer = server.send(Method::POST, &path, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Verifies a walk of ann. Returns its number if it was added to the template.
async fn update(server: &Server, number: u64) -> Option<i64> {
    let answer = verify(server, "", support::json(&walk(number))).await;
    assert_eq!(answer["decision"], "accept", "{answer}");
    answer.get("enrollment").map(own_number)
}

/// The numbers of ann's enrolled walks and of her updates.
async fn walks(server: &Server) -> (Vec<i64>, Vec<i64>) {
    let walks = read(server, "/enrollments").await["enrollments"].take();
    let of = |source: &str| {
        let walks = walks.as_array().unwrap().iter().filter(|walk| walk["source"] == source);
        walks.map(|walk| own_number(&walk["enrollment"])).collect()
    };
    (of("enrollment"), of("verification"))
}

/// Windows in ann's template.
async fn windows(server: &Server) -> u64 {
    read(server, "").await["windows"].as_u64().unwrap()
}

fn a_day_passes(server: &Server) {
    let earlier =
        "UPDATE enrollments SET created_at_unix_seconds = created_at_unix_seconds - 86400";
    run_sql(&server.database(), earlier);
}

#[tokio::test]
async fn a_walk_accepted_beyond_doubt_is_learned_if_configured() {
    let server = with_ann_and_others(&[]).await;
    assert_eq!(update(&server, 2).await, None);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![]), WINDOWS));

    let server = Server::start_with(server.kill(), &[UPDATING]);
    let probe = support::json(&simulated_for(11, 9, 10.0));
    let score = async |server: &Server| {
        let answer = server.send(Method::POST, "/v1/identify", probe.clone()).await.body;
        answer["candidates"][0]["score"].clone()
    };
    assert_eq!(update(&server, 3).await, Some(2));
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![2]), 2 * WINDOWS));
    let export = read(&server, "/export").await;
    assert_eq!(export["walks"][1]["source"], "verification");
    assert_eq!(export["walks"][1]["templates"][0]["windows"], WINDOWS);
    assert_eq!(server.scrape().await["bipedalnet_template_updates_total"], 1.0);
    // The gallery and the database agree.
    let answer = server.enroll("ann", &walk(4)).await.body;
    assert_eq!((&answer["windows"], &answer["enrollments"]), (&json!(3 * WINDOWS), &json!(3)));
    let learned = score(&server).await;
    let server = Server::start_in(server.kill());
    assert_eq!(score(&server).await, learned);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1, 3], vec![2]), 117));
}

#[tokio::test]
async fn walks_accepted_with_doubt_are_not_learned() {
    let server = with_ann_and_others(&[UPDATING]).await;
    // Strangers. One in ten may be accepted at this FMR.
    for person in 40..50 {
        let walk = support::json(&simulated_for(person, 1, 40.0));
        let answer = verify(&server, "?fmr=0.1", walk).await;
        assert_eq!(answer.get("enrollment"), None, "{answer}");
    }
    // Walks that are long enough only together with others of their session.
    for number in [2, 3] {
        let walk = support::json(&simulated_for(11, number, 25.0));
        let answer = verify(&server, "?session=s", walk).await;
        assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    }
    // Features without a recording.
    let challenge = server.send(Method::POST, "/v1/users/ann/challenges", "").await.body;
    let query = format!("?challenge={}", challenge["challenge"].as_str().unwrap());
    let answer = verify(&server, &query, support::features(&walk(4)).to_string()).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    // A replay of an enrolled walk.
    let answer = verify(&server, "", support::json(&walk(1))).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("suspected_replay"), None));
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1], vec![]), WINDOWS));
    // The same walk is learned from its recording.
    assert_eq!(update(&server, 4).await, Some(2));

    // Without other users a match is accepted, but not beyond doubt.
    let server = Server::with_arguments(&[UPDATING]);
    server.add_user("ann", &[walk(1)]).await;
    let answer = verify(&server, "?fmr=0.1", support::json(&walk(2))).await;
    assert_eq!((&answer["decision"], answer.get("enrollment")), (&json!("accept"), None));
    assert!(answer["estimated_fmr"].as_f64().unwrap() > 1e-4, "{answer}");

    // A user with a short enrollment learns only from further enrollments.
    let server = Server::with_arguments(&[UPDATING]);
    server.add_user("ann", &[simulated_for(11, 1, 20.0)]).await;
    assert_eq!(update(&server, 2).await, None);
}

#[tokio::test]
async fn a_walk_is_learned_once_and_at_most_one_a_day() {
    let server = with_ann_and_others(&[UPDATING]).await;
    let once = async || {
        let walk = support::json(&walk(2));
        let request = server.request(Method::POST, "/v1/users/ann/verify", walk);
        let response = request.header("idempotency-key", "once").send().await.unwrap();
        response.text().await.unwrap()
    };
    let first = once().await;
    assert!(first.contains(&format!("\"enrollment\":{}", OTHERS + 2)), "{first}");
    assert_eq!(once().await, first);
    assert_eq!(update(&server, 3).await, None);
    a_day_passes(&server);
    // A retry in the same session is not learned again, even a day later.
    let of_session = async || verify(&server, "?session=s", support::json(&walk(4))).await;
    assert_eq!(own_number(&of_session().await["enrollment"]), 3);
    a_day_passes(&server);
    let retried = of_session().await;
    assert_eq!((&retried["decision"], retried.get("enrollment")), (&json!("accept"), None));
    // Only the first walk of a batch is learned. The enrollment in the batch counts as usual.
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
async fn the_oldest_update_is_dropped_and_enrollments_stay() {
    let server = with_ann_and_others(&[UPDATING, "--max-enrollments-per-user", "2"]).await;
    for number in 2..=7 {
        assert_eq!(update(&server, number).await, Some(number as i64));
        a_day_passes(&server);
    }
    assert_eq!(walks(&server).await, (vec![1], vec![4, 5, 6, 7]));
    assert_eq!(windows(&server).await, 5 * WINDOWS);
    // A walk that was dropped is still recognised as a replay.
    let answer = verify(&server, "", support::json(&walk(2))).await;
    assert_eq!(answer["decision"], "suspected_replay");
    // Updates do not count towards the limit of enrollments.
    let answer = server.enroll("ann", &walk(8)).await;
    assert_eq!((answer.status, &answer.body["windows"]), (201, &json!(6 * WINDOWS)));
    assert_eq!(server.enroll("ann", &walk(9)).await.status, 409);

    let erase = async |number: i64| {
        let path = format!("/v1/users/ann/enrollments/{}", number + OTHERS as i64);
        server.send(Method::DELETE, &path, "").await.status
    };
    assert_eq!(erase(5).await, 204);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![1, 8], vec![4, 6, 7]), 195));
    // Deleting an enrollment deletes the updates that were accepted because of it.
    assert_eq!(erase(1).await, 204);
    assert_eq!((walks(&server).await, windows(&server).await), ((vec![8], vec![]), WINDOWS));
    let answer = server.enroll("ann", &walk(10)).await.body;
    assert_eq!(answer["windows"], 2 * WINDOWS);
}

#[tokio::test]
async fn updates_are_lost_to_another_model_and_kept_for_their_own() {
    let file = twin(5);
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &file);
    let shipped = with_ann_and_others(&[&KEEPING[..], &[UPDATING]].concat()).await;
    let arguments = [&KEEPING[..], &["--model", path.to_str().unwrap(), UPDATING]].concat();
    let server = Server::start_with(shipped.kill(), &arguments);
    assert_eq!(update(&server, 2).await, Some(2));
    let old = read(&server, "/enrollments").await["enrollments"][1]["model"].take();
    // Training is possible although the update has no recording.
    server.add_user("bob", &[simulated_for(12, 1, 40.0)]).await;
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

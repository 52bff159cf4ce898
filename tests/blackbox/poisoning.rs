//! Attempts to add somebody else's walk to a user, or to remove the user's own.

use std::sync::Arc;

use bipedalnet_core::gait::Recording;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{self, Answer, Server, create_key, database_in, simulated, simulated_for};

const ENROLLMENTS: &str = "/v1/users/ann/enrollments";

/// A server with keys of these scopes, and their texts.
fn with_keys<const N: usize>(scopes: [&str; N]) -> (Server, [String; N]) {
    let folder = tempfile::tempdir().unwrap();
    let keys = scopes.map(|scopes| create_key(&database_in(folder.path()), scopes));
    (Server::start_in(folder), keys)
}

async fn send(server: &Server, key: &str, method: Method, path: &str, body: String) -> Answer {
    // A connection closes if its request is refused before the body was read.
    let request = support::client().request(method, server.url(path)).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body);
    support::answer(request.send().await.unwrap()).await
}

async fn enroll(server: &Server, key: &str, walk: &Recording) -> Answer {
    send(server, key, Method::POST, ENROLLMENTS, support::json(walk)).await
}

async fn enrollments(server: &Server, key: &str) -> Value {
    send(server, key, Method::GET, "/v1/users/ann", String::new()).await.body["enrollments"].clone()
}

#[tokio::test]
async fn a_key_that_enrolls_leaves_ready_users_alone() {
    let (server, [phone, desk, admin]) =
        with_keys(["identify,enroll", "enroll,extend", "enroll,admin"]);
    send(&server, &phone, Method::PUT, "/v1/users/ann", String::new()).await;
    for number in [1, 2] {
        assert_eq!(enroll(&server, &phone, &simulated(11, number)).await.status, 201);
    }
    // Neither of somebody else's walk, nor of their own.
    for person in [11, 40] {
        let answer = enroll(&server, &phone, &simulated(person, 3)).await;
        assert_eq!(answer.problem(), (403, "missing-scope"), "{answer:?}");
    }
    let walk: Value = serde_json::from_str(&support::json(&simulated(11, 3))).unwrap();
    let batch = json!({"items": [{"enroll": {"user": "ann", "walk": walk}}]}).to_string();
    let answer = send(&server, &phone, Method::POST, "/v1/batch", batch).await;
    assert_eq!(answer.body["outcomes"][0]["status"], 403, "{answer:?}");
    let erase = async |key: &str| {
        let path = format!("{ENROLLMENTS}/1");
        send(&server, key, Method::DELETE, &path, String::new()).await.status
    };
    assert_eq!((erase(&phone).await, erase(&desk).await), (403, 403));
    assert_eq!(enrollments(&server, &phone).await, 2);
    assert_eq!(enroll(&server, &desk, &simulated(11, 3)).await.status, 201);
    assert_eq!(erase(&admin).await, 204);
}

#[tokio::test]
async fn a_walk_unlike_the_earlier_ones_needs_a_confirmation() {
    let (server, [desk, admin]) = with_keys(["identify,enroll,extend", "enroll,admin"]);
    send(&server, &desk, Method::PUT, "/v1/users/ann", String::new()).await;
    assert_eq!(enroll(&server, &desk, &simulated(11, 1)).await.status, 201);
    let stranger = &simulated_for(40, 1, 40.0);
    // While the user is collecting, and when they are ready.
    for number in [2, 3] {
        let answer = enroll(&server, &desk, stranger).await;
        assert_eq!(answer.problem(), (409, "unlike-earlier-walks"));
        assert_eq!(enroll(&server, &desk, &simulated(11, number)).await.status, 201);
    }
    let answer = enroll(&server, &desk, stranger).await;
    insta::assert_json_snapshot!("unlike_earlier_walks", answer.body);
    let items = [&simulated(11, 4), stranger, &simulated(11, 5)].map(|walk| {
        let walk: Value = serde_json::from_str(&support::json(walk)).unwrap();
        json!({"enroll": {"user": "ann", "walk": walk}})
    });
    let batch = json!({"items": items}).to_string();
    let answer = send(&server, &desk, Method::POST, "/v1/batch", batch).await.body;
    let statuses = [0, 1, 2].map(|item| answer["outcomes"][item]["status"].as_u64().unwrap());
    assert_eq!(statuses, [201, 409, 201]);

    let verify = async |walk: &Recording| {
        let path = "/v1/users/ann/verify?fmr=0.001";
        let answer = send(&server, &desk, Method::POST, path, support::json(walk)).await;
        answer.body["decision"].clone()
    };
    assert_eq!(verify(&simulated_for(11, 9, 40.0)).await, "accept");
    assert_ne!(verify(&simulated_for(40, 2, 40.0)).await, "accept");

    let confirmed = format!("{ENROLLMENTS}?confirmed=true");
    let answer = send(&server, &desk, Method::POST, &confirmed, support::json(stranger)).await;
    assert_eq!(answer.problem(), (403, "missing-scope"));
    let before = enrollments(&server, &desk).await.as_u64().unwrap();
    let answer = send(&server, &admin, Method::POST, &confirmed, support::json(stranger)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(enrollments(&server, &desk).await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_walks_sent_at_once_only_those_of_one_person_are_enrolled() {
    let (server, [phone]) = with_keys(["enroll,extend"]);
    let server = Arc::new(server);
    send(&server, &phone, Method::PUT, "/v1/users/ann", String::new()).await;
    let mut requests = JoinSet::new();
    for number in 0..6 {
        let (server, phone) = (Arc::clone(&server), phone.clone());
        let person = if number % 2 == 0 { 11 } else { 40 };
        requests.spawn(async move {
            (person, enroll(&server, &phone, &simulated(person, number)).await.status)
        });
    }
    let answers = requests.join_all().await;
    let of = |person| answers.iter().filter(move |answer| **answer == (person, 201)).count();
    assert!([(3, 0), (0, 3)].contains(&(of(11), of(40))), "{answers:?}");
}

#[tokio::test]
async fn a_copy_of_an_enrolled_walk_is_refused() {
    let server = Server::start();
    let walk = simulated_for(11, 1, 40.0);
    server.add_user("ann", std::slice::from_ref(&walk)).await;
    server.add_user("bob", &[]).await;
    let turned = {
        let mut document: Value = serde_json::from_str(&support::json(&walk)).unwrap();
        for sample in document["acceleration"].as_array_mut().unwrap() {
            sample.as_array_mut().unwrap().rotate_left(1);
        }
        document.to_string()
    };
    let part = support::json(&walk.part(7.3, 20.0).unwrap());
    for (case, body) in [("same", support::json(&walk)), ("part", part), ("turned", turned)] {
        let answer = server.send(Method::POST, ENROLLMENTS, body).await;
        assert_eq!(answer.problem(), (409, "walk-already-enrolled"), "{case}: {answer:?}");
    }
    let features = support::features(&simulated(11, 2));
    let mut shifted = features.clone();
    shifted["features"].as_array_mut().unwrap().remove(0);
    for (body, status) in [(&features, 201), (&features, 409), (&shifted, 409)] {
        let answer = server.send(Method::POST, ENROLLMENTS, body.to_string()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // Of one batch, the second copy is refused, and of requests at the same time.
    let other: Value = serde_json::from_str(&support::json(&simulated(11, 3))).unwrap();
    let item = json!({"enroll": {"user": "ann", "walk": other}});
    let batch = json!({"items": [item, item]}).to_string();
    let answer = server.send(Method::POST, "/v1/batch", batch).await.body;
    let statuses = [0, 1].map(|item| answer["outcomes"][item]["status"].as_u64().unwrap());
    assert_eq!(statuses, [201, 409]);
    let walk = simulated(11, 4);
    let (one, two) = tokio::join!(server.enroll("ann", &walk), server.enroll("ann", &walk));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    // Another user may have the walk.
    assert_eq!(server.enroll("bob", &walk).await.status, 201);
}

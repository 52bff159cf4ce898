//! Features that no walk has, and what their answers tell.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    self, FEATURE_LEN, Server, create_key, database_in, simulated, simulated_for,
};

fn direction(random: &mut Pcg64Mcg) -> Vec<f64> {
    let values: Vec<f64> = (0..FEATURE_LEN).map(|_| random.random_range(-1.0..1.0f64)).collect();
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.into_iter().map(|value| value / length).collect()
}

fn sum(a: &[f64], factor: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
}

fn windows(walk: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(walk["features"].clone()).unwrap()
}

#[tokio::test]
async fn features_that_no_walk_has_are_refused() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let real = support::features(&simulated_for(12, 1, 40.0));
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let one = direction(&mut random);
    let mut noisy = |factor: f64, count: usize| -> Vec<Vec<f64>> {
        (0..count).map(|_| sum(&one, factor, &direction(&mut random))).collect()
    };
    let window = windows(&real)[0].clone();
    let mut shuffled = windows(&real)[..30].to_vec();
    shuffled.sort_by(|a, b| a[0].total_cmp(&b[0]));
    for (case, features, problem) in [
        ("random", noisy(1e3, 29), "implausible-features"),
        ("one vector", vec![one.clone(); 29], "implausible-features"),
        ("one window", vec![window; 29], "implausible-features"),
        ("little noise", noisy(0.2, 29), "implausible-features"),
        ("much noise", noisy(1.7, 29), "implausible-features"),
        ("much noise, short", noisy(1.7, 8), "implausible-features"),
        ("out of order", shuffled, "implausible-features"),
        ("seven windows", windows(&real)[..7].to_vec(), "bad-features"),
    ] {
        let walk = json!({"model": real["model"], "features": features}).to_string();
        for path in ["/v1/identify", "/v1/users/ann/enrollments"] {
            let answer = server.send(Method::POST, path, walk.clone()).await;
            assert_eq!(answer.problem(), (422, problem), "{case}: {answer:?}");
        }
    }
    let part = json!({"model": real["model"], "features": windows(&real)[..8]}).to_string();
    assert_eq!(server.send(Method::POST, "/v1/identify", part).await.status, 200);
}

/// If the answer told whether a guess is stronger than an average impostor, a signed sum of guesses
/// would approach the template.
#[tokio::test]
async fn answers_to_made_up_features_tell_only_that_they_do_not_match() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let strangers: Vec<Value> =
        (50..54).map(|person| support::features(&simulated_for(person, 1, 40.0))).collect();
    let mut random = Pcg64Mcg::seed_from_u64(2);
    for (count, decision, reason) in
        [(8, "inconclusive", json!("too_short")), (29, "unknown", Value::Null)]
    {
        // Walks of strangers, each moved in a direction of its own.
        let guess = |number: usize| {
            let moved = direction(&mut random);
            let of = &strangers[number % strangers.len()];
            let features: Vec<Vec<f64>> =
                windows(of)[..count].iter().map(|window| sum(window, 1.5, &moved)).collect();
            json!({"model": of["model"], "features": features}).to_string()
        };
        for guess in (0..12).map(guess).collect::<Vec<String>>() {
            let answer = server.send(Method::POST, "/v1/identify", guess).await.body;
            assert_eq!((&answer["decision"], &answer["reason"]), (&json!(decision), &reason));
        }
        let walk = json!({"model": strangers[0]["model"],
            "features": windows(&strangers[0])[..count]})
        .to_string();
        let challenge = server.send(Method::POST, "/v1/users/ann/challenges", "").await.body;
        let challenge = challenge["challenge"].as_str().unwrap();
        let path = format!("/v1/users/ann/verify?fmr=0.1&challenge={challenge}");
        let answer = server.send(Method::POST, &path, walk).await.body;
        let expected = if count == 8 { "inconclusive" } else { "reject" };
        assert_eq!((&answer["decision"], &answer["fmr"]), (&json!(expected), &json!(0.001)));
    }
}

#[tokio::test]
async fn features_need_a_scope_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let database = database_in(folder.path());
    let [without, with] =
        ["identify,enroll", "identify,enroll,features"].map(|scopes| create_key(&database, scopes));
    let server = Server::start_in(folder);
    let send = async |key: &str, method: Method, path: &str, body: &Value| {
        let request = support::client().request(method, server.url(path)).bearer_auth(key);
        let request = request.header("content-type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(body);
        support::answer(request.send().await.unwrap()).await
    };
    send(&with, Method::PUT, "/v1/users/ann", &Value::Null).await;
    let walk = support::features(&simulated(11, 1));
    let challenge = send(&with, Method::POST, "/v1/users/ann/challenges", &Value::Null).await.body;
    let verify = format!("/v1/users/ann/verify?challenge={}", challenge["challenge"]);
    let verify = verify.replace('"', "");
    for path in ["/v1/identify", "/v1/users/ann/enrollments", &verify] {
        let answer = send(&without, Method::POST, path, &walk).await;
        assert_eq!(answer.problem(), (403, "missing-scope"), "{path}");
    }
    let batch = json!({"items": [
        {"identify": {"walk": walk}},
        {"enroll": {"user": "ann", "walk": walk}},
        {"verify": {"user": "ann", "walk": walk}},
    ]});
    let answer = send(&without, Method::POST, "/v1/batch", &batch).await.body;
    let outcomes = answer["outcomes"].as_array().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome["status"] == 403), "{answer}");
    assert_eq!(send(&with, Method::POST, "/v1/users/ann/enrollments", &walk).await.status, 201);
    assert_eq!(send(&with, Method::POST, "/v1/identify", &walk).await.status, 200);
}

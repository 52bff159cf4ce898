//! Batches, feature vectors instead of recordings, CBOR, ETags and deadlines.

use std::io::{Read, Write};
use std::net::TcpStream;

use bipedalnet_core::gait::{Precision, compact};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{self, FEATURE_LEN, Server, simulated, simulated_for, stable};

fn walk(person: u64, number: u64) -> Value {
    serde_json::from_str(&support::json(&simulated(person, number))).unwrap()
}

fn statuses(answer: &Value) -> Vec<u64> {
    let outcomes = answer["outcomes"].as_array().unwrap();
    outcomes.iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_item_of_a_batch_has_an_outcome_and_a_retry_changes_nothing() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12)]).await;
    let batch = json!({"items": [
        {"identify": {"walk": walk(11, 2)}},
        {"identify": {"walk": walk(11, 2), "among": ["bob"]}},
        {"verify": {"user": "bob", "walk": walk(12, 2), "fmr": 0.1}},
        {"verify": {"user": "eve", "walk": walk(12, 2)}},
        {"enroll": {"user": "ann", "walk": walk(11, 3)}},
        {"enroll": {"user": "a b", "walk": walk(11, 3)}},
        {"enroll": {"user": "eve", "walk": walk(11, 3)}},
        {"enroll": {"user": "bob", "walk": {"rate_hz": 50, "acceleration": [[0, 0, 9.8]]}}},
        {"enroll": {"user": "bob", "walk": {}}},
        {"enroll": {"user": "bob", "walk": walk(12, 4)}},
    ]})
    .to_string();
    let send = async || {
        let request = server.request(Method::POST, "/v1/batch", batch.clone());
        let request = request.header("idempotency-key", "offline-1");
        support::answer(request.send().await.unwrap()).await
    };
    let first = send().await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(statuses(&first.body), [200, 422, 200, 404, 201, 422, 404, 422, 422, 201]);
    insta::assert_json_snapshot!("batch", stable(first.body.clone()));
    assert_eq!(send().await, first);
    for (user, enrollments) in [("ann", 2), ("bob", 2)] {
        let answer = server.get(&format!("/v1/users/{user}")).await;
        assert_eq!(answer.body["enrollments"], enrollments, "{user}");
    }
    // The walks of the batch count at once.
    assert_eq!(server.identified(&simulated(12, 3)).await.as_deref(), Some("bob"));
    // Deleting a user deletes the stored response, but the server still knows that it was given.
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(send().await.status, 410);
    let answer = server.get("/v1/users/bob").await;
    assert_eq!(answer.body["enrollments"], 2);
}

#[tokio::test]
async fn feature_vectors_give_the_same_result_as_the_recording() {
    let server = Server::start();
    let features = |person, number| support::features(&simulated(person, number));
    server.put_user("ann").await;
    let path = "/v1/users/ann/enrollments";
    let answer = server.send(Method::POST, path, features(11, 1).to_string()).await;
    assert_eq!((answer.status, &answer.body["windows_accepted"]), (201, &json!(19)));
    let by_features =
        server.send(Method::POST, "/v1/identify", features(11, 2).to_string()).await.body;
    let by_recording = server.identify(&simulated(11, 2)).await.body;
    assert_eq!(by_features, by_recording);
    assert_eq!(by_features["user"], "ann");

    let good = features(11, 3);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        value.to_string()
    };
    let mut answers = Vec::new();
    for (case, body) in [
        ("another model", changed(&|v| v["model"] = json!("0123456789abcdef"))),
        ("no model", changed(&|v| drop(v.as_object_mut().unwrap().remove("model")))),
        ("no window", changed(&|v| v["features"] = json!([]))),
        (
            "too many windows",
            changed(&|v| v["features"] = json!(vec![v["features"][0].clone(); 901])),
        ),
        ("too short a vector", changed(&|v| v["features"][2] = json!([1.0, 2.0]))),
        ("a vector of nothing", changed(&|v| v["features"][1] = json!(vec![0.0; FEATURE_LEN]))),
        ("as good as nothing", changed(&|v| v["features"][1] = json!(vec![1e-40; FEATURE_LEN]))),
        ("beyond a float", changed(&|v| v["features"][1] = json!(vec![2e38; FEATURE_LEN]))),
        ("a recording as well", changed(&|v| v["acceleration"] = json!([[0, 0, 9.8]]))),
    ] {
        let enrolled = server.send(Method::POST, path, body.clone()).await;
        let identified = server.send(Method::POST, "/v1/identify", body).await;
        assert_eq!(enrolled, identified, "{case}");
        answers.push(json!({"case": case, "problem": stable(enrolled.body)}));
    }
    let text = serde_json::to_string(&answers)
        .unwrap()
        .replace(good["model"].as_str().unwrap(), "(model)");
    // Very small and very large values are accepted: the user can still be exported, and the server
    // starts again.
    server.put_user("bob").await;
    for (number, factor) in [(1, 1e-30), (2, 2e-23), (3, 1e30)] {
        let mut walk = features(12, number);
        for value in walk["features"].as_array_mut().unwrap().iter_mut() {
            for value in value.as_array_mut().unwrap() {
                *value = json!(value.as_f64().unwrap() * factor);
            }
        }
        let path = "/v1/users/bob/enrollments";
        assert_eq!(server.send(Method::POST, path, walk.to_string()).await.status, 201);
    }
    assert_eq!(server.get("/v1/users/bob/export").await.status, 200);
    let server = Server::start_in(server.kill());
    assert_eq!(server.identified(&simulated(11, 4)).await.as_deref(), Some("ann"));
    insta::assert_json_snapshot!("bad_features", serde_json::from_str::<Value>(&text).unwrap());
}

#[tokio::test]
async fn cbor_works_like_json() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let recording = simulated_for(11, 2, 10.0);
    let body = compact(&recording, &Precision::default()).unwrap();
    let json_bytes = support::json(&recording).len();
    assert!(body.len() * 4 < json_bytes, "{} {json_bytes}", body.len());
    let send = async |body: &[u8], encoding: &str| {
        support::client()
            .post(server.url("/v1/identify"))
            .header("content-type", "application/cbor")
            .header("content-encoding", encoding)
            .header("accept", "application/cbor")
            .body(body.to_vec())
            .send()
            .await
            .unwrap()
    };
    let answer = send(&body, "identity").await;
    assert_eq!(answer.headers()["content-type"], "application/cbor");
    let bytes = answer.bytes().await.unwrap();
    assert!(bytes.len() < 400, "does not fit in a packet: {}", bytes.len());
    let value: Value = bipedalnet_core::cbor::from_slice(&bytes).unwrap();
    assert_eq!((&value["decision"], &value["user"]), (&json!("identified"), &json!("ann")));

    let compressed = zstd::encode_all(&body[..], 19).unwrap();
    let answer = send(&compressed, "zstd").await;
    assert_eq!(answer.bytes().await.unwrap(), bytes);

    let stranger = compact(&simulated_for(40, 1, 10.0), &Precision::default()).unwrap();
    let bytes = send(&stranger, "identity").await.bytes().await.unwrap();
    let value: Value = bipedalnet_core::cbor::from_slice(&bytes).unwrap();
    assert_eq!((&value["decision"], &value["user"]), (&json!("unknown"), &Value::Null));

    let mut answers = Vec::new();
    // {"rate_hz": 50, "acceleration": column-major 1 x 3 of sint8, with four bytes instead of three}
    let four_bytes = b"\xa2\x67rate_hz\x18\x32\x6cacceleration\xd9\x04\x10\x82\x82\x01\x03\xd8\x48\x44\x01\x02\x03\x04";
    for (case, body) in [
        ("cut", &body[..body.len() / 2]),
        ("JSON", b"{}"),
        ("a list that is not a walk", b"\x81\x01"),
        ("more than one item", b"\xa0\xa0"),
        ("an array of another size than it says", four_bytes),
        ("nothing", b""),
    ] {
        let answer = support::answer(send(body, "identity").await).await;
        assert_eq!(answer.content_type, "application/problem+json", "{case}: {answer:?}");
        answers.push(json!({"case": case, "problem": answer.body}));
    }
    insta::assert_json_snapshot!("bad_cbor", answers);
}

#[tokio::test]
async fn a_response_that_the_client_has_is_not_sent_again() {
    let server = Server::start();
    server.put_user("ann").await;
    let client = support::client();
    let paths = ["/v1/users/ann", "/v1/users", "/v1/users/ann/enrollments", "/openapi.json"];
    for (number, path) in paths.into_iter().enumerate() {
        let first = client.get(server.url(path)).send().await.unwrap();
        let tag = first.headers()["etag"].clone();
        let again = client.get(server.url(path)).header("if-none-match", tag.clone());
        let again = again.send().await.unwrap();
        assert_eq!((again.status(), &again.headers()["etag"]), (StatusCode::NOT_MODIFIED, &tag));
        assert_eq!(again.bytes().await.unwrap().len(), 0, "{path}");
        let other = client.get(server.url(path)).header("if-none-match", "\"other\"");
        assert_eq!(other.send().await.unwrap().status(), StatusCode::OK);
        if path.starts_with("/v1") {
            server.enroll("ann", &simulated(11, number as u64)).await;
            let changed = client.get(server.url(path)).header("if-none-match", tag).send();
            assert_eq!(changed.await.unwrap().status(), StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn the_clients_deadline_is_respected() {
    let server = Server::start();
    server.put_user("ann").await;
    // The body never ends, and the client waits 50 ms.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(
            b"POST /v1/users/ann/enrollments HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\
              content-type: application/json\r\nrequest-deadline-ms: 50\r\n\
              x-request-id: mine\r\nconnection: close\r\n\r\n{",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 504 "), "{answer}");
    insta::assert_json_snapshot!("deadline_passed", serde_json::from_str::<Value>(body).unwrap());

    let send = async |deadline: &str| {
        // A request with an invalid deadline ends its connection, as its body is not read.
        let request = support::client().post(server.url("/v1/users/ann/enrollments"));
        let request = request.header("content-type", "application/json");
        let request = request.header("request-deadline-ms", deadline);
        let answer = request.body(support::json(&simulated(11, 1))).send().await.unwrap();
        support::answer(answer).await
    };
    for bad in ["0", "soon", "-1", "99999999999"] {
        let answer = send(bad).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.body["type"], "urn:bipedalnet:problem:invalid-deadline");
    }
    assert_eq!(server.get("/v1/users/ann").await.body["enrollments"], 0);
    assert_eq!(send("60000").await.status, 201);
}

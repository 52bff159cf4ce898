//! Consent, and the erasure of inactive users.

use reqwest::Method;
use serde_json::{Value, json};

use crate::audit::{acts, entries};
use crate::support::{self, Server, database_in, run_sql, simulated};

#[tokio::test]
async fn consent_is_recorded_shown_exported_and_erased() {
    let server = Server::start();
    let put = async |body: Value| server.send(Method::PUT, "/v1/users/ann", body.to_string()).await;
    let given = json!({"reference": "release 4711", "given_at_unix_seconds": 1_700_000_000});
    let answer = put(json!({"consent": given})).await;
    assert_eq!((answer.status, &answer.body["consent"]), (201, &given));
    // Without a body, or without a consent in it, the consent stays.
    assert_eq!(server.put_user("ann").await.body["consent"], given);
    assert_eq!(put(json!({})).await.body["consent"], given);
    let enrolled = server.enroll("ann", &simulated(11, 1)).await;
    assert_eq!(enrolled.body["consent"], given);
    for path in ["/v1/users/ann", "/v1/users/ann/export"] {
        assert_eq!(server.get(path).await.body["consent"], given, "{path}");
    }
    assert_eq!(server.get("/v1/users").await.body["users"][0]["consent"], given);

    // A later one replaces it. In CBOR, and without a time.
    let mut body = Vec::new();
    minicbor_serde::to_vec(json!({"consent": {"reference": "release 4712"}}))
        .map(|bytes| body = bytes)
        .unwrap();
    let request = server.request(Method::PUT, "/v1/users/ann", body);
    let headers = [("content-type", "application/cbor")].map(|(name, value)| {
        (name.parse().unwrap(), reqwest::header::HeaderValue::from_static(value))
    });
    let answer =
        support::answer(request.headers(headers.into_iter().collect()).send().await.unwrap()).await;
    assert_eq!(answer.body["consent"]["reference"], "release 4712");
    assert!(answer.body["consent"]["given_at_unix_seconds"].as_i64() > Some(1_700_000_000));

    for (consent, field) in [
        (json!({"reference": ""}), "consent.reference"),
        (json!({"reference": "x".repeat(201)}), "consent.reference"),
        (json!({"reference": "x", "given_at_unix_seconds": -1}), "consent.given_at_unix_seconds"),
        (
            json!({"reference": "x", "given_at_unix_seconds": i64::MAX}),
            "consent.given_at_unix_seconds",
        ),
        (json!({"text": "yes"}), "consent.text"),
    ] {
        let answer = put(json!({"consent": consent})).await;
        assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
        assert_eq!(answer.body["field"], field);
    }
    let recorded = entries(&server.database(), &["--user", "ann"]);
    let recorded = acts(&recorded);
    assert_eq!(recorded.iter().filter(|act| act[1] == "consent_recorded").count(), 2);
    assert!(!recorded.iter().any(|act| act[2].contains("release")), "{recorded:?}");

    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(server.put_user("ann").await.body.get("consent"), None);
}

#[tokio::test]
async fn inactive_users_are_reported_and_erased_and_active_ones_are_not() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12), ("eve", 13)]).await;
    assert_eq!(server.get("/v1/users?inactive_days=1").await.body["users"], json!([]));
    let refused = server.get("/v1/users?inactive_days=0").await;
    assert_eq!(refused.problem(), (400, "invalid-query"));
    let folder = server.kill();
    let database = database_in(folder.path());
    let ago = "UPDATE users SET last_active_at_unix_seconds = unixepoch() - 86400 * ";
    run_sql(&database, &format!("{ago} 31 WHERE id = 'ann'; {ago} 29 WHERE id = 'bob'"));

    // Until the clock has been steady for a day, nobody is erased.
    let server = Server::start_with(folder, &["--erase-inactive-days", "30"]);
    let report = server.get("/v1/users?inactive_days=30").await.body;
    assert_eq!(report["users"].as_array().unwrap().len(), 1);
    assert_eq!(report["users"][0]["user"], "ann");
    let folder = server.kill();
    run_sql(
        &database,
        "UPDATE retention_clock SET steady_since_unix_seconds = unixepoch() - 100000",
    );
    // A leap of the clock is noticed.
    run_sql(&database, "UPDATE retention_clock SET seen_at_unix_seconds = unixepoch() - 90000");
    let server = Server::start_with(folder, &["--erase-inactive-days", "30"]);
    let steady =
        "SELECT count(*) FROM retention_clock WHERE steady_since_unix_seconds > unixepoch() - 1000";
    while run_sql(&database, steady) != "1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/v1/users/ann").await.status, 200);
    let folder = server.kill();
    run_sql(
        &database,
        "UPDATE retention_clock SET steady_since_unix_seconds = unixepoch() - 100000",
    );

    let server = Server::start_with(folder, &["--erase-inactive-days", "30"]);
    while server.get("/v1/users/ann").await.status != 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/v1/users/bob").await.status, 200);
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    assert_eq!(server.identified(&simulated(13, 2)).await.as_deref(), Some("eve"));
    let about_ann = entries(&database, &["--user", "ann"]);
    assert_eq!(acts(&about_ann).last(), Some(&["server", "user_deleted", ""]));
    assert!(entries(&database, &["--user", "bob"]).len() == 2);
}

#[tokio::test]
async fn who_is_recognised_is_active() {
    let users = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14), ("eve", 15)];
    let server = Server::with_users(&[], &users).await;
    let database = server.database();
    run_sql(&database, "UPDATE users SET last_active_at_unix_seconds = 1000");
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    let verify = async |user, person, walk| {
        let path = format!("/v1/users/{user}/verify");
        let walk = support::json(&simulated(person, walk));
        server.send(Method::POST, &path, walk).await.body["decision"].clone()
    };
    assert_eq!(verify("bob", 12, 2).await, "accept");
    assert_ne!(verify("cem", 40, 2).await, "accept");
    assert_eq!(server.enroll("dan", &simulated(14, 2)).await.status, 201);
    server.terminate();
    let (_, _folder) = server.ended();
    let active = "SELECT id FROM users WHERE last_active_at_unix_seconds > 1000 ORDER BY id";
    assert_eq!(run_sql(&database, active), "ann\nbob\ndan");
}

//! The audit trail.

use std::fs;
use std::path::Path;

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{self, Server, create_key, printed, program, simulated, sqlite};

/// Runs `bipedalnet audit`.
fn audit(database: &Path, arguments: &[&str]) -> Result<String, String> {
    printed(program().arg("audit").arg("--database").arg(database).args(arguments))
}

fn entries(database: &Path, arguments: &[&str]) -> Vec<Value> {
    let lines = audit(database, arguments).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Actor, action and detail of each entry.
fn acts(entries: &[Value]) -> Vec<[&str; 3]> {
    entries
        .iter()
        .map(|entry| {
            ["actor", "action", "detail"].map(|name| entry[name].as_str().unwrap_or_default())
        })
        .collect()
}

async fn with_key(server: &Server, key: &str, method: Method, path: &str, body: String) -> u16 {
    let request = support::client().request(method, server.url(path)).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body);
    request.send().await.unwrap().status().as_u16()
}

/// Drops the triggers and runs statements, as somebody would who can write to the file.
fn tamper(database: &Path, statements: &str) {
    let connection = Connection::open(database).unwrap();
    let triggers = sqlite(database, "SELECT name FROM sqlite_master WHERE type = 'trigger'");
    for trigger in triggers.lines() {
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    connection.execute_batch(statements).unwrap();
}

#[tokio::test]
async fn a_users_life_is_recorded_with_the_key_that_did_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("test.db");
    let (enroll, admin) = (create_key(&database, "enroll"), create_key(&database, "admin"));
    let server = Server::start_in(folder);
    let walk = |walk| support::json(&simulated(11, walk));
    let steps = [
        (&enroll, Method::PUT, "/v1/users/ann-of-ancona", String::new(), 201),
        (&enroll, Method::PUT, "/v1/users/ann-of-ancona", String::new(), 200),
        (&enroll, Method::PUT, "/v1/users/bob", String::new(), 201),
        (&enroll, Method::POST, "/v1/users/ann-of-ancona/enrollments", walk(1), 201),
        (&enroll, Method::POST, "/v1/users/ann-of-ancona/enrollments", walk(2), 201),
        (&enroll, Method::DELETE, "/v1/users/ann-of-ancona/enrollments/2", String::new(), 204),
        (&enroll, Method::DELETE, "/v1/users/ann-of-ancona/enrollments/2", String::new(), 404),
        (&admin, Method::GET, "/v1/users/ann-of-ancona/export", String::new(), 200),
        (&admin, Method::DELETE, "/v1/users/ann-of-ancona", String::new(), 204),
    ];
    for (key, method, path, body, status) in steps {
        assert_eq!(with_key(&server, key, method, path, body).await, status, "{path}");
    }
    let id = |key: &str| key.split('_').nth(1).unwrap().to_owned();
    let (enroll, admin) = (id(&enroll), id(&admin));

    let about_ann = entries(&database, &["--user", "ann-of-ancona"]);
    assert_eq!(
        acts(&about_ann),
        [
            [&enroll[..], "user_created", ""],
            [&enroll, "enrolled", "1"],
            [&enroll, "enrolled", "2"],
            [&enroll, "enrollment_deleted", "2"],
            [&admin, "user_exported", ""],
            [&admin, "user_deleted", ""],
        ]
    );
    let all = entries(&database, &[]);
    let shipped = all[2]["detail"].as_str().unwrap();
    assert_eq!(
        acts(&all)[..4],
        [
            ["command_line", "key_created", &format!("{enroll} enroll")],
            ["command_line", "key_created", &format!("{admin} admin")],
            ["server", "model_registered", shipped],
            ["server", "model_activated", shipped],
        ]
    );
    let numbers: Vec<i64> = all.iter().map(|entry| entry["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as i64).collect::<Vec<_>>());
    let rest = entries(&database, &["--after", "5"]);
    assert_eq!(rest[..], all[5..]);

    // No name and nothing biometric is in the table.
    let table = sqlite(&database, "SELECT actor, action, user_digest, detail FROM audit");
    assert!(!table.contains("ann-of-ancona") && !table.contains("bob"), "{table}");
    let longest = sqlite(&database, "SELECT max(length(detail)) FROM audit");
    assert!(longest.parse::<usize>().unwrap() < 64, "{longest}");
    let whole = audit(&database, &["--verify"]).unwrap();
    let newest = all.last().unwrap();
    assert_eq!(
        whole,
        format!("whole up to entry {} {}\n", newest["number"], newest["hash"].as_str().unwrap())
    );
}

#[tokio::test]
async fn entries_that_are_changed_deleted_or_moved_are_found() {
    let server = Server::start();
    for user in ["ann", "bob", "eve"] {
        server.put_user(user).await;
    }
    assert!(audit(&server.database(), &["--verify"]).is_ok());
    let folder = server.kill();
    let database = folder.path().join("test.db");
    // The last connection to close writes the log back.
    sqlite(&database, "SELECT 1");
    let original = fs::read(&database).unwrap();
    for (statements, number) in [
        ("UPDATE audit SET actor = 'server' WHERE number = 3", 3),
        ("UPDATE audit SET user_digest = zeroblob(32) WHERE number = 4", 4),
        ("UPDATE audit SET detail = '' WHERE number = 5", 5),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 4", 4),
        ("DELETE FROM audit WHERE number = 4", 4),
        ("DELETE FROM audit WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 4; UPDATE audit SET number = 4 WHERE number = 5", 4),
        (
            "UPDATE audit SET number = -3 WHERE number = 3;
             UPDATE audit SET number = 3 WHERE number = 4;
             UPDATE audit SET number = 4 WHERE number = -3",
            3,
        ),
        // Cut off at the front, as if it was pruned.
        (
            "UPDATE audit_start SET (number, hash) = (SELECT number, hash FROM audit WHERE number = 3);
             DELETE FROM audit WHERE number <= 3",
            3,
        ),
    ] {
        fs::write(&database, &original).unwrap();
        tamper(&database, statements);
        let found = audit(&database, &["--verify"]).unwrap_err();
        assert!(found.starts_with(&format!("bipedalnet: audit entry {number}: ")), "{found}");
    }
}

#[tokio::test]
async fn the_database_refuses_to_change_the_audit_trail() {
    let server = Server::start();
    server.put_user("ann").await;
    let connection = Connection::open(server.database()).unwrap();
    for statement in [
        "UPDATE audit SET actor = 'server'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 3",
        "INSERT INTO audit SELECT 9, 0, '', '', NULL, NULL, hash FROM audit WHERE number = 1",
        "INSERT OR REPLACE INTO audit SELECT 2, 0, '', '', NULL, NULL, hash FROM audit LIMIT 1",
        "UPDATE audit_start SET number = 2",
        "UPDATE audit_start SET (number, hash) = (SELECT max(number), hash FROM audit)",
        "INSERT INTO audit_start VALUES (9, zeroblob(32))",
        "DELETE FROM audit_start",
    ] {
        let refused = connection.execute_batch(statement).unwrap_err().to_string();
        assert!(refused.contains("audit"), "{statement}: {refused}");
    }
    assert!(audit(&server.database(), &["--verify"]).is_ok());
}

#[tokio::test]
async fn after_a_crash_each_enrollment_has_its_entry_and_the_chain_is_whole() {
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    for round in 1..=3 {
        let path = "/v1/users/ann/enrollments";
        let requests = (0..16).map(|walk| {
            let body = support::json(&simulated(11, 100 * round + walk));
            server.request(Method::POST, path, body).send()
        });
        let requests: Vec<_> = requests.map(tokio::spawn).collect();
        // Some are written, others are not.
        for request in requests.into_iter().take(4) {
            request.await.unwrap().unwrap();
        }
        server = Server::start_in(server.kill());
        let count = |table| sqlite(&server.database(), &format!("SELECT count(*) FROM {table}"));
        assert_eq!(count("audit WHERE action = 'enrolled'"), count("enrollments"));
        assert!(count("enrollments").parse::<u64>().unwrap() > 4 * round);
        audit(&server.database(), &["--verify"]).unwrap();
    }
}

#[tokio::test]
async fn the_audit_trail_is_read_in_pages() {
    let server = Server::start();
    for user in ["ann", "bob", "eve"] {
        server.put_user(user).await;
    }
    let first = server.get("/v1/audit?limit=3").await.body;
    let second = server.get("/v1/audit?after=3").await.body;
    assert_eq!((&first["next"], &second["next"]), (&3.into(), &Value::Null));
    let pages = [&first, &second].map(|page| page["entries"].as_array().unwrap().clone());
    assert_eq!(pages.concat(), entries(&server.database(), &[]));
    for query in ["limit=0", "limit=1001", "after=x", "user=ann"] {
        let answer = server.get(&format!("/v1/audit?{query}")).await;
        assert_eq!(answer.problem(), (400, "invalid-query"), "{query}");
    }
}

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
    let database = folder.path().join("test.db");
    let ago = "UPDATE users SET last_active_at_unix_seconds = unixepoch() - 86400 * ";
    sqlite(&database, &format!("{ago} 31 WHERE id = 'ann'; {ago} 29 WHERE id = 'bob'"));

    // Until the clock has been steady for a day, nobody is erased.
    let server = Server::start_with(folder, &["--erase-inactive-days", "30"]);
    let report = server.get("/v1/users?inactive_days=30").await.body;
    assert_eq!(report["users"].as_array().unwrap().len(), 1);
    assert_eq!(report["users"][0]["user"], "ann");
    let folder = server.kill();
    sqlite(
        &database,
        "UPDATE retention_clock SET steady_since_unix_seconds = unixepoch() - 100000",
    );
    // A leap of the clock is noticed.
    sqlite(&database, "UPDATE retention_clock SET seen_at_unix_seconds = unixepoch() - 90000");
    let server = Server::start_with(folder, &["--erase-inactive-days", "30"]);
    let steady = "SELECT steady_since_unix_seconds > unixepoch() - 1000 FROM retention_clock";
    while sqlite(&database, steady) != "1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/v1/users/ann").await.status, 200);
    let folder = server.kill();
    sqlite(
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

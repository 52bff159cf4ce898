//! The audit trail.

use std::fs;
use std::path::Path;

use reqwest::Method;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{self, Server, create_key, database_in, printed, program, run_sql, simulated};

/// Runs `bipedalnet audit`.
pub fn audit(database: &Path, arguments: &[&str]) -> Result<String, String> {
    printed(program().arg("audit").arg("--database").arg(database).args(arguments))
}

/// All lines of `bipedalnet audit`.
pub fn entries(database: &Path, arguments: &[&str]) -> Vec<Value> {
    let lines = audit(database, arguments).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Actor, action and detail of each entry.
pub fn acts(entries: &[Value]) -> Vec<[&str; 3]> {
    entries
        .iter()
        .map(|entry| {
            ["actor", "action", "detail"].map(|name| entry[name].as_str().unwrap_or_default())
        })
        .collect()
}

fn key_id(key: &str) -> String {
    key.split('_').nth(1).unwrap().to_owned()
}

async fn with_key(server: &Server, key: &str, method: Method, path: &str, body: String) -> u16 {
    let request = support::client().request(method, server.url(path)).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body);
    request.send().await.unwrap().status().as_u16()
}

/// Drops the triggers and runs statements, as somebody would who can write to the file.
fn tamper(database: &Path, statements: &str) {
    let connection = Connection::open(database).unwrap();
    let triggers = run_sql(database, "SELECT name FROM sqlite_master WHERE type = 'trigger'");
    for trigger in triggers.lines() {
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    connection.execute_batch(statements).unwrap();
}

#[tokio::test]
async fn a_users_life_is_recorded_with_the_key_that_did_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = database_in(folder.path());
    let (enroll, admin) = (create_key(&database, "enroll"), create_key(&database, "admin"));
    let server = Server::start_in(folder);
    let walk = |walk| support::json(&simulated(11, walk));
    let steps = [
        (&enroll, Method::PUT, "/v1/users/ann-of-ancona", String::new(), 201),
        (&enroll, Method::PUT, "/v1/users/ann-of-ancona", String::new(), 200),
        (&enroll, Method::PUT, "/v1/users/bob", String::new(), 201),
        (&enroll, Method::POST, "/v1/users/ann-of-ancona/enrollments", walk(1), 201),
        (&enroll, Method::POST, "/v1/users/ann-of-ancona/enrollments", walk(2), 201),
        (&admin, Method::DELETE, "/v1/users/ann-of-ancona/enrollments/2", String::new(), 204),
        (&admin, Method::DELETE, "/v1/users/ann-of-ancona/enrollments/2", String::new(), 404),
        (&admin, Method::GET, "/v1/users/ann-of-ancona/export", String::new(), 200),
        (&admin, Method::DELETE, "/v1/users/ann-of-ancona", String::new(), 204),
    ];
    for (key, method, path, body, status) in steps {
        assert_eq!(with_key(&server, key, method, path, body).await, status, "{path}");
    }
    let (enroll, admin) = (key_id(&enroll), key_id(&admin));

    let about_ann = entries(&database, &["--user", "ann-of-ancona"]);
    assert_eq!(
        acts(&about_ann),
        [
            [&enroll[..], "user_created", ""],
            [&enroll, "enrolled", "1"],
            [&enroll, "enrolled", "2"],
            [&admin, "enrollment_deleted", "2"],
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
    let table = run_sql(&database, "SELECT actor, action, user_digest, detail FROM audit");
    assert!(!table.contains("ann-of-ancona") && !table.contains("bob"), "{table}");
    let longest = run_sql(&database, "SELECT max(length(detail)) FROM audit");
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
    let database = database_in(folder.path());
    // The last connection to close writes the log back.
    run_sql(&database, "SELECT 1");
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
        let count = |table| run_sql(&server.database(), &format!("SELECT count(*) FROM {table}"));
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
async fn verifications_a_lock_and_a_release_are_recorded() {
    let users = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14), ("eve", 15)];
    let server = Server::with_users(&[], &users).await;
    let database = server.database();
    let folder = server.kill();
    let (identify, admin) = (create_key(&database, "identify"), create_key(&database, "admin"));
    let server = Server::start_with(folder, &["--max-failed-verifications", "10"]);
    let verify = async |person, walk| {
        let walk = support::json(&simulated(person, walk));
        with_key(&server, &identify, Method::POST, "/v1/users/ann/verify", walk).await
    };
    assert_eq!(verify(11, 2).await, 200);
    // One key can use up half of the failures.
    for walk in 0..5 {
        assert_eq!(verify(40, walk).await, 200);
    }
    assert_eq!(verify(40, 5).await, 423);
    let lock = "/v1/users/ann/lock";
    assert_eq!(with_key(&server, &admin, Method::DELETE, lock, String::new()).await, 204);

    let about_ann = entries(&database, &["--user", "ann"]);
    let acts = acts(&about_ann);
    let (identify, admin) = (key_id(&identify), key_id(&admin));
    assert_eq!(acts[2], [&identify[..], "verified", "accept"]);
    for failed in &acts[3..7] {
        assert_eq!(failed[..2], [&identify[..], "verified"]);
        assert!(["reject", "inconclusive"].contains(&failed[2]), "{failed:?}");
    }
    let last = [acts[7], acts[8], acts[9]].map(|act| [act[0], act[1]]);
    assert_eq!(
        last,
        [[&identify[..], "user_locked"], [&identify, "verified"], [&admin, "user_unlocked"]]
    );
    assert_eq!(acts.len(), 10, "{acts:?}");
    audit(&database, &["--verify"]).unwrap();
}

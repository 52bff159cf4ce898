//! What is kept, for how long, and what is left when it is gone.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bipedalnet_core::gait::{Recording, RecordingDocument};
use reqwest::Method;
use serde_json::Value;

use crate::support::{self, Server, program, simulated};

fn sqlite(server: &Server, statement: &str) -> String {
    let output = Command::new("sqlite3").arg(server.database()).arg(statement).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn with_ann(arguments: &[&str]) -> Server {
    let server = Server::start_with(tempfile::tempdir().unwrap(), arguments);
    server.put_user("ann").await;
    assert_eq!(server.enroll("ann", &simulated(11, 1)).await.status, 201);
    server
}

#[tokio::test]
async fn recordings_are_kept_only_where_wanted_and_only_for_a_time() {
    let server = with_ann(&[]).await;
    assert_eq!(sqlite(&server, "SELECT count(*) FROM recordings"), "0");

    let server = with_ann(&["--keep-recordings-days", "30"]).await;
    assert_eq!(sqlite(&server, "SELECT count(*) FROM recordings"), "1");
    let export = server.send(Method::GET, "/v1/users/ann/export", "").await.body;
    let document: RecordingDocument =
        serde_json::from_value(export["walks"][0]["recording"].clone()).unwrap();
    let (kept, sent) = (Recording::try_from(document).unwrap(), simulated(11, 1));
    assert_eq!(kept.acceleration_m_s2(), sent.acceleration_m_s2());
    assert_eq!(kept.angular_rate_rad_s(), sent.angular_rate_rad_s());
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(kept.time_seconds(), sent.time_seconds()));

    // A month later. The walk itself stays enrolled.
    let folder = server.kill();
    let database = folder.path().join("test.db");
    let age = "UPDATE recordings SET created_at_unix_seconds = created_at_unix_seconds - 2592000";
    assert!(Command::new("sqlite3").arg(&database).arg(age).status().unwrap().success());
    let server = Server::start_with(folder, &["--keep-recordings-days", "30"]);
    while sqlite(&server, "SELECT count(*) FROM recordings") != "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.named(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_deletion_leaves_no_residue_in_any_table_or_file() {
    let keeping = ["--keep-recordings-days", "30"];
    let server = Server::start_with(tempfile::tempdir().unwrap(), &keeping);
    for (user, person) in [("ann-of-ancona", 11), ("bob", 12)] {
        server.put_user(user).await;
        assert_eq!(server.enroll(user, &simulated(person, 1)).await.status, 201);
    }
    let walk = support::json(&simulated(11, 2));
    let client = support::client();
    for (key, path) in
        [("k1", "/v1/users/ann-of-ancona/verify"), ("k2", "/v1/users/ann-of-ancona/enrollments")]
    {
        let request = client.post(server.url(path)).header("idempotency-key", key);
        let request = request.header("content-type", "application/json").body(walk.clone());
        assert!(request.send().await.unwrap().status().is_success());
    }
    let tables =
        sqlite(&server, "SELECT group_concat(name, ' ') FROM sqlite_schema WHERE type = 'table'");
    // Every blob of hers, and her name.
    let mut traces: Vec<Vec<u8>> = vec![b"ann-of-ancona".to_vec()];
    for statement in [
        "SELECT hex(template) FROM templates JOIN enrollments ON id = enrollment_id WHERE user_id = 'ann-of-ancona'",
        "SELECT hex(fingerprint) FROM fingerprints WHERE user_id = 'ann-of-ancona'",
        "SELECT hex(recording) FROM recordings JOIN enrollments ON id = enrollment_id WHERE user_id = 'ann-of-ancona'",
        "SELECT hex(body) FROM replies",
    ] {
        let rows = sqlite(&server, statement);
        assert!(!rows.is_empty(), "{statement}");
        traces.extend(rows.lines().map(|row| unhex(&row[..row.len().min(64)])));
    }
    assert!(traces.len() >= 9, "{}", traces.len());
    let found = |traces: &[Vec<u8>]| -> Vec<String> {
        let files = std::fs::read_dir(server.folder.path()).unwrap();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let bytes: Vec<u8> = files.flatten().collect();
        let holds = |trace: &&Vec<u8>| bytes.windows(trace.len()).any(|w| w == trace.as_slice());
        traces.iter().filter(holds).map(|trace| format!("{trace:02x?}")).collect()
    };
    assert_eq!(found(&traces).len(), traces.len(), "the search does not find all even before");

    assert_eq!(server.send(Method::DELETE, "/v1/users/ann-of-ancona", "").await.status, 204);
    assert_eq!(found(&traces), [""; 0]);
    for table in tables.split(' ') {
        let rows = sqlite(&server, &format!("SELECT * FROM {table}"));
        assert!(!rows.contains("ancona"), "{table}: {rows}");
    }
    assert_eq!(sqlite(&server, "SELECT count(*) FROM enrollments"), "1");
    assert_eq!(sqlite(&server, "SELECT count(*) FROM recordings"), "1");
    assert_eq!(server.named(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_whole_and_restores() {
    let server = Arc::new(with_ann(&[]).await);
    let before = server.send(Method::GET, "/v1/users/ann", "").await.body["enrollments"].as_u64();
    let enrolling = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            for number in 2..30 {
                assert_eq!(server.enroll("ann", &simulated(11, number)).await.status, 201);
            }
        }
    });
    let copy = server.folder.path().join("copy.db");
    let backup = |copy: &std::path::Path| {
        program().args(["backup", "--database"]).arg(server.database()).arg(copy).output().unwrap()
    };
    let output = backup(&copy);
    assert!(output.status.success(), "{output:?}");
    enrolling.await.unwrap();
    let output = backup(&copy);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("choose another name"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&copy, folder.path().join("test.db")).unwrap();
    let restored = Server::start_in(folder);
    let answer = restored.send(Method::GET, "/v1/users/ann", "").await.body;
    assert!(answer["enrollments"].as_u64() >= before, "{answer}");
    assert_eq!(restored.named(&simulated(11, 40)).await.as_deref(), Some("ann"));
}

#[test]
fn a_backup_that_cannot_be_made_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text"), "not a database at all, but long enough to look like one")
        .unwrap();
    let made = Command::new("sqlite3").arg(path("foreign.db")).arg("CREATE TABLE t (id)").status();
    assert!(made.unwrap().success());
    for (database, copy, expected) in [
        ("none.db", "copy.db", "is the folder there"),
        ("text", "copy.db", "damaged or not SQLite"),
        ("foreign.db", "copy.db", "belongs to another program"),
    ] {
        let output = program()
            .args(["backup", "--database"])
            .args([path(database), path(copy)])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(expected), "{message}");
        assert!(!path("copy.db").exists() && !path("copy.db.part").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_do_not_get_in_each_others_way() {
    let server = Arc::new(with_ann(&[]).await);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for number in 0..25 {
                    let answer = match task % 4 {
                        0 => server.enroll("ann", &simulated(11, 100 + number)).await,
                        1 => server.send(Method::GET, "/v1/users/ann/export", "").await,
                        2 => server.put_user(&format!("user-{task}-{number}")).await,
                        _ => server.send(Method::GET, "/v1/users", "").await,
                    };
                    assert!((200..300).contains(&answer.status), "{answer:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let answer: Value = server.send(Method::GET, "/v1/users/ann", "").await.body;
    assert_eq!(answer["enrollments"], 51);
}

#[tokio::test]
async fn users_are_limited() {
    let server = with_ann(&["--max-users", "2"]).await;
    assert_eq!(server.put_user("bob").await.status, 201);
    let answer = server.put_user("cem").await;
    assert_eq!((answer.status, &answer.body["field"]), (409, &"user".into()), "{answer:?}");
    assert_eq!(server.put_user("bob").await.status, 200);
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(server.put_user("cem").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_does_not_wait_for_a_reader_and_is_made_up_for() {
    let server = with_ann(&[]).await;
    server.put_user("bob").await;
    // A backup, say, that takes its time.
    let mut reader = Command::new("sqlite3")
        .arg(server.database())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = reader.stdin.take().unwrap();
    input.write_all(b"BEGIN; SELECT count(*) FROM users;\n").unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    let log = || std::fs::metadata(server.folder.path().join("test.db-wal")).unwrap().len();

    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    for number in 0..20 {
        assert_eq!(server.put_user(&format!("user-{number}")).await.status, 201);
    }
    assert!(log() > 0, "the reader did not hold the log");
    drop(input);
    reader.wait().unwrap();
    while log() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_users_walks_are_limited() {
    let server = with_ann(&["--max-enrollments-per-user", "2"]).await;
    assert_eq!(server.enroll("ann", &simulated(11, 2)).await.status, 201);
    let answer = server.enroll("ann", &simulated(11, 3)).await;
    assert_eq!((answer.status, &answer.body["field"]), (409, &"user".into()), "{answer:?}");
}

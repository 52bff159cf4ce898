//! Stored data: retention, deletion, backups, and limits.

use std::path::Path;
use std::sync::Arc;

use bipedalnet_core::gait::{Recording, RecordingDocument};
use reqwest::Method;
use serde_json::Value;

use crate::support::{
    self, Server, database_in, open_database, printed, program, run_sql, simulated,
};

async fn with_ann(arguments: &[&str]) -> Server {
    Server::with_users(arguments, &[("ann", 11)]).await
}

#[tokio::test]
async fn recordings_are_kept_only_if_configured_and_only_for_a_time() {
    let server = with_ann(&[]).await;
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM recordings"), "0");

    let server = with_ann(&["--keep-recordings-days", "30"]).await;
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM recordings"), "1");
    let export = server.get("/v1/users/ann/export").await.body;
    let document: RecordingDocument =
        serde_json::from_value(export["walks"][0]["recording"].clone()).unwrap();
    let (kept, sent) = (Recording::try_from(document).unwrap(), simulated(11, 1));
    assert_eq!(kept.acceleration_m_s2(), sent.acceleration_m_s2());
    assert_eq!(kept.angular_rate_rad_s(), sent.angular_rate_rad_s());
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(kept.time_seconds(), sent.time_seconds()));

    // After a month the recording is deleted. The template stays.
    let folder = server.kill();
    let database = database_in(folder.path());
    let age = "UPDATE recordings SET created_at_unix_seconds = created_at_unix_seconds - 2592000";
    run_sql(&database, age);
    // If the clock leapt, the month may never have passed.
    run_sql(&database, "UPDATE retention_clock SET seen_at_unix_seconds = unixepoch() - 90000");
    let server = Server::start_with(folder, &["--keep-recordings-days", "30"]);
    let noticed =
        "SELECT count(*) FROM retention_clock WHERE seen_at_unix_seconds > unixepoch() - 1000";
    while run_sql(&database, noticed) != "1" {
        tokio::task::yield_now().await;
    }
    server.terminate();
    let (_, folder) = server.ended();
    assert_eq!(run_sql(&database, "SELECT count(*) FROM recordings"), "1");
    let steady = "UPDATE retention_clock SET steady_since_unix_seconds = unixepoch() - 100000";
    run_sql(&database, steady);
    let server = Server::start_with(folder, &["--keep-recordings-days", "30"]);
    while run_sql(&server.database(), "SELECT count(*) FROM recordings") != "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_deleted_user_leaves_no_trace_in_any_table_or_file() {
    let keeping = ["--keep-recordings-days", "30"];
    let server = Server::with_users(&keeping, &[("ann-of-ancona", 11), ("bob", 12)]).await;
    let walk = support::json(&simulated(11, 2));
    for (key, path) in
        [("k1", "/v1/users/ann-of-ancona/verify"), ("k2", "/v1/users/ann-of-ancona/enrollments")]
    {
        let request = server.request(Method::POST, path, walk.clone());
        let response = request.header("idempotency-key", key).send().await.unwrap();
        assert!(response.status().is_success());
    }
    let tables = run_sql(
        &server.database(),
        "SELECT group_concat(name, ' ') FROM sqlite_schema WHERE type = 'table'",
    );
    // Her name, and the start of each of her blobs.
    let mut traces: Vec<Vec<u8>> = vec![b"ann-of-ancona".to_vec()];
    let connection = open_database(&server.database());
    for statement in [
        "SELECT template FROM templates JOIN enrollments ON id = enrollment_id WHERE user_id = 'ann-of-ancona'",
        "SELECT fingerprint FROM fingerprints WHERE user_id = 'ann-of-ancona'",
        "SELECT recording FROM recordings JOIN enrollments ON id = enrollment_id WHERE user_id = 'ann-of-ancona'",
        "SELECT body FROM replies",
    ] {
        let before = traces.len();
        let mut blobs = connection.prepare(statement).unwrap();
        let blobs = blobs.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        traces.extend(blobs.map(|blob| blob.unwrap().into_iter().take(32).collect()));
        assert!(traces.len() > before, "{statement}");
    }
    // The search below opens the files too. When it closes them, this process loses its locks on them.
    drop(connection);
    assert!(traces.len() >= 9, "{}", traces.len());
    let found = |traces: &[Vec<u8>]| -> Vec<String> {
        let files = std::fs::read_dir(server.folder.path()).unwrap();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let bytes: Vec<u8> = files.flatten().collect();
        let holds = |trace: &&Vec<u8>| bytes.windows(trace.len()).any(|w| w == trace.as_slice());
        traces.iter().filter(holds).map(|trace| format!("{trace:02x?}")).collect()
    };
    assert_eq!(found(&traces).len(), traces.len(), "the search misses traces before the deletion");

    assert_eq!(server.send(Method::DELETE, "/v1/users/ann-of-ancona", "").await.status, 204);
    support::wait_until_erased(|| found(&traces));
    for table in tables.split(' ') {
        let rows = run_sql(&server.database(), &format!("SELECT * FROM {table}"));
        assert!(!rows.contains("ancona"), "{table}: {rows}");
    }
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM enrollments"), "1");
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM recordings"), "1");
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

/// Copies a database with `bipedalnet backup`.
fn backup(database: &Path, copy: &Path) -> Result<String, String> {
    printed(program().args(["backup", "--database"]).arg(database).arg(copy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_complete_and_can_be_restored() {
    let server = Arc::new(with_ann(&[]).await);
    let before = server.get("/v1/users/ann").await.body["enrollments"].as_u64();
    let enrolling = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            for number in 2..30 {
                assert_eq!(server.enroll("ann", &simulated(11, number)).await.status, 201);
            }
        }
    });
    let copy = server.folder.path().join("copy.db");
    backup(&server.database(), &copy).unwrap();
    enrolling.await.unwrap();
    let message = backup(&server.database(), &copy).unwrap_err();
    assert!(message.contains("choose another name"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let (keyring, master) = ("test.db-keyring", "test.db-master-key");
    for (from, to) in [
        (&copy, "test.db"),
        (&server.folder.path().join("copy.db-keyring"), keyring),
        (&server.folder.path().join(master), master),
    ] {
        std::fs::copy(from, folder.path().join(to)).unwrap();
    }
    let restored = Server::start_in(folder);
    let answer = restored.send(Method::GET, "/v1/users/ann", "").await.body;
    assert!(answer["enrollments"].as_u64() >= before, "{answer}");
    assert_eq!(restored.identified(&simulated(11, 40)).await.as_deref(), Some("ann"));
}

#[test]
fn a_backup_that_fails_says_why_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text"), "not a database at all, but long enough to look like one")
        .unwrap();
    run_sql(&path("foreign.db"), "CREATE TABLE t (id)");
    for (database, copy, expected) in [
        ("none.db", "copy.db", "is the folder there"),
        ("text", "copy.db", "damaged or not SQLite"),
        ("foreign.db", "copy.db", "belongs to another program"),
    ] {
        let message = backup(&path(database), &path(copy)).unwrap_err();
        assert!(message.contains(expected), "{message}");
        assert!(!path("copy.db").exists() && !path("copy.db.part").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_do_not_disturb_each_other() {
    let server = Arc::new(with_ann(&[]).await);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for number in 0..25 {
                    let answer = match task % 4 {
                        0 => server.enroll("ann", &simulated(11, 100 * (1 + task) + number)).await,
                        1 => server.get("/v1/users/ann/export").await,
                        2 => server.put_user(&format!("user-{task}-{number}")).await,
                        _ => server.get("/v1/users").await,
                    };
                    assert!((200..300).contains(&answer.status), "{answer:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let answer: Value = server.get("/v1/users/ann").await.body;
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
async fn a_deletion_does_not_wait_for_a_reader_and_the_log_is_erased_afterwards() {
    let server = with_ann(&[]).await;
    server.put_user("bob").await;
    // A long read, as by a backup.
    let reader = open_database(&server.database());
    reader.execute_batch("BEGIN").unwrap();
    let users = reader.query_row("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0));
    assert_eq!(users.unwrap(), 2);
    let log = || std::fs::metadata(server.folder.path().join("test.db-wal")).unwrap().len();

    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    for number in 0..20 {
        assert_eq!(server.put_user(&format!("user-{number}")).await.status, 201);
    }
    assert!(log() > 0, "the reader did not keep the log");
    drop(reader);
    while log() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_log_that_grew_during_a_long_read_is_truncated_after_it() {
    let server = with_ann(&[]).await;
    let reader = open_database(&server.database());
    reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    let log = || std::fs::metadata(server.folder.path().join("test.db-wal")).unwrap().len();
    run_sql(
        &server.database(),
        "CREATE TABLE filler (bytes BLOB); INSERT INTO filler VALUES (zeroblob(20000000))",
    );
    assert_eq!(server.enroll("ann", &simulated(11, 2)).await.status, 201);
    assert!(log() > 20_000_000, "the reader did not keep the log");
    drop(reader);
    // Without another write.
    while log() > 1_000_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.enroll("ann", &simulated(11, 3)).await.status, 201);
    let server = Server::start_in(server.kill());
    assert_eq!(server.get("/v1/users/ann").await.body["enrollments"], 3);
}

#[tokio::test]
async fn enrollments_per_user_are_limited() {
    let server = with_ann(&["--max-enrollments-per-user", "2"]).await;
    assert_eq!(server.enroll("ann", &simulated(11, 2)).await.status, 201);
    let answer = server.enroll("ann", &simulated(11, 3)).await;
    assert_eq!((answer.status, &answer.body["field"]), (409, &"user".into()), "{answer:?}");
}

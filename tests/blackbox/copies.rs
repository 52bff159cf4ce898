//! `bipedalnet copy`: everything is in the other database, or nothing is.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::Method;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::Value;
use tempfile::TempDir;

use crate::audit::{acts, audit, entries};
use crate::migrations::migrate;
use crate::models::KEEPING;
use crate::support::{
    self, Answer, Server, create_key, database_in, json, postgres, printed, program, run_sql,
    simulated, text,
};

const ENROLL_ANN: &str = "/v1/users/ann/enrollments";

/// A folder with a database of SQLite, also if those of other tests are of PostgreSQL.
fn folder_of_sqlite() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("test.db");
    fs::write(folder.path().join("database-url"), database.to_str().unwrap()).unwrap();
    folder
}

/// A folder for a copy. The master key is beside it, if it is beside the old database.
fn folder_for_copy(old: &Path) -> TempDir {
    let folder = folder_of_sqlite();
    let key = "test.db-master-key";
    if old.join(key).exists() {
        fs::copy(old.join(key), folder.path().join(key)).unwrap();
    }
    folder
}

/// Whether there is a PostgreSQL to test on. If not, prints what the calling test skips.
fn has_postgres(skipped: &str) -> bool {
    if postgres().is_none() {
        eprintln!("skipped: {skipped}. This needs PostgreSQL: see tests/postgres.sh.");
    }
    postgres().is_some()
}

fn copying(from: &Path, to: &Path) -> Command {
    let mut command = program();
    command.arg("copy").arg("--from").arg(from).arg("--to").arg(to);
    command
}

fn copy(from: &Path, to: &Path) -> Result<String, String> {
    printed(&mut copying(from, to))
}

#[track_caller]
fn refuses(from: &Path, to: &Path, reason: &str) {
    let refused = copy(from, to).unwrap_err();
    assert!(refused.contains(reason), "{refused}");
}

/// A server with API keys.
struct Client {
    server: Server,
    key: String,
}

impl Client {
    async fn send(&self, method: Method, path: &str, body: String) -> Answer {
        let request = self.server.request(method, path, body).bearer_auth(&self.key);
        support::answer(request.send().await.unwrap()).await
    }

    async fn put(&self, path: &str) {
        assert_eq!(self.send(Method::PUT, path, "{}".to_owned()).await.status, 201, "{path}");
    }

    /// Returns the number of the enrollment.
    async fn enroll(&self, path: &str, person: u64, walk: u64) -> i64 {
        let answer = self.send(Method::POST, path, json(&simulated(person, walk))).await;
        answer.body["enrollment"].as_i64().unwrap_or_else(|| panic!("{answer:?}"))
    }

    async fn delete(&self, path: &str) {
        assert_eq!(self.send(Method::DELETE, path, String::new()).await.status, 204, "{path}");
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, String::new()).await
    }

    async fn identified(&self, path: &str, person: u64, walk: u64) -> Value {
        let walk = json(&simulated(person, walk));
        self.send(Method::POST, path, walk).await.body["user"].clone()
    }

    /// Enrolls a walk with an idempotency key. Returns the answer, and whether it was stored.
    async fn enroll_once(&self) -> (Answer, bool) {
        let request = self.server.request(Method::POST, ENROLL_ANN, json(&simulated(11, 2)));
        let request = request.bearer_auth(&self.key).header("idempotency-key", "retried");
        let response = request.send().await.unwrap();
        let is_stored = response.headers().contains_key("idempotency-replayed");
        let names_change = response.headers().contains_key("bipedalnet-change");
        assert!(!is_stored || !names_change, "{response:?}");
        (support::answer(response).await, is_stored)
    }
}

/// What is known of a database.
struct Known {
    folder: TempDir,
    database: PathBuf,
    key: String,
    /// The first answer to a request that is sent again later.
    answer: Answer,
    newest_enrollment: i64,
}

/// A database in which Ann, Bob and Dan are enrolled, Dan in a collection. Cem, who came last, is deleted.
async fn known(folder: TempDir) -> Known {
    let scopes = "identify,enroll,extend,erase,admin";
    let database = database_in(folder.path());
    let key = create_key(&database, scopes);
    let client = Client { server: Server::start_with(folder, &KEEPING), key };
    client.put("/v1/collections/shop").await;
    for user in ["ann", "bob", "dan?collection=shop", "cem"] {
        client.put(&format!("/v1/users/{user}")).await;
    }
    client.enroll(ENROLL_ANN, 11, 1).await;
    client.enroll("/v1/users/bob/enrollments", 12, 1).await;
    client.enroll("/v1/users/dan/enrollments?collection=shop", 14, 1).await;
    let (answer, is_stored) = client.enroll_once().await;
    assert_eq!((answer.status, is_stored), (201, false));
    let walk = json(&simulated(19, 1));
    client.send(Method::POST, "/v1/users/bob/verify?session=s", walk).await;
    let newest_enrollment = client.enroll("/v1/users/cem/enrollments", 13, 1).await;
    client.delete("/v1/users/cem").await;
    client.server.terminate();
    let key = client.key;
    let (_, folder) = client.server.ended();
    run_sql(
        &database,
        "INSERT INTO training_jobs (scope, epochs, activate, seed, state, created_at_unix_seconds)
         VALUES ('whole', 1, TRUE, 1, 'cancelled', 1);
         INSERT INTO training_events VALUES (1, 1, 'queued', 0, 1, 0.25, NULL)",
    );
    create_key(&database, "identify");
    Known { folder, database, key, answer, newest_enrollment }
}

/// Starts a server on a copy, which has everything. Each round has walks of its own.
async fn serves(known: &Known, folder: TempDir, round: u64) -> TempDir {
    let database = database_in(folder.path());
    assert!(audit(&database, &["--verify"]).unwrap().contains("whole up to"));
    let trail = entries(&database, &[]);
    let acts = acts(&trail);
    let count = |action| acts.iter().filter(|[_, it, _]| *it == action).count();
    assert_eq!((count("user_created"), count("user_deleted")), (4, 1), "{acts:?}");
    assert!(count("enrolled") >= 5 && count("database_copied") > 0, "{acts:?}");
    let mut doctor = program();
    let doctor = doctor.args(["doctor", "--database"]).arg(&database).output().unwrap();
    let shown = text(&doctor.stdout);
    let problems: Vec<&str> = shown.lines().filter(|line| line.starts_with("problem")).collect();
    assert!(problems.is_empty(), "{shown}");

    let key = known.key.clone();
    let client = Client { server: Server::start_with(folder, &KEEPING), key };
    assert_eq!(client.enroll_once().await, (known.answer.clone(), true));
    assert_eq!(client.identified("/v1/identify", 11, round).await, "ann");
    assert_eq!(client.identified("/v1/identify", 12, round).await, "bob");
    assert_eq!(client.identified("/v1/identify", 13, round).await, Value::Null);
    assert_eq!(client.identified("/v1/identify?collection=shop", 14, round).await, "dan");
    let walk = json(&simulated(12, round + 1));
    let verified = client.send(Method::POST, "/v1/users/bob/verify", walk).await;
    assert_eq!(verified.body["decision"], "accept", "{verified:?}");
    assert_eq!(client.get("/v1/users/cem").await.status, 404);
    let export = client.get("/v1/users/ann/export").await.body;
    assert!(export["walks"][1]["recording"].is_object(), "{export}");
    // A walk that was enrolled there is known here.
    let walk = json(&simulated(11, 1));
    let verified = client.send(Method::POST, "/v1/users/ann/verify", walk).await;
    assert_eq!(verified.body["decision"], "suspected_replay", "{verified:?}");
    // Numbers are not given again, not even those of walks that are deleted.
    let number = client.enroll(ENROLL_ANN, 11, round + 2).await;
    assert!(number > known.newest_enrollment, "{number}");
    let keys = printed(program().args(["keys", "list", "--database"]).arg(&database)).unwrap();
    assert_eq!(keys.matches("valid").count(), 2, "{keys}");
    let scrape = client.server.scrape().await;
    assert_eq!(scrape["bipedalnet_damaged_rows"], 0.0);
    client.server.terminate();
    client.server.ended().1
}

/// All rows of a file, except those of the audit trail, which goes on.
fn rows(database: &Path) -> Vec<(String, Vec<Vec<Cell>>)> {
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%audit%'
        AND name NOT IN ('_sqlx_migrations', 'backup_times', 'training_lease', 'retention_clock')";
    let connection = Connection::open(database).unwrap();
    let of_table = |table: &str| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
        let rows = statement.query_map([], row).unwrap();
        let mut rows: Vec<Vec<Cell>> = rows.map(Result::unwrap).collect();
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    };
    let tables = run_sql(database, tables);
    tables.lines().map(|table| (table.to_owned(), of_table(table))).collect()
}

#[tokio::test]
async fn a_copy_of_a_file_has_everything() {
    let known = known(folder_of_sqlite()).await;
    let folder = folder_for_copy(known.folder.path());
    let said = copy(&known.database, &folder.path().join("test.db")).unwrap();
    assert!(said.contains("           3  users\n") && said.contains("3  keys of users"), "{said}");
    let folder = serves(&known, folder, 10).await;
    // Its copies do, too.
    let second = folder_for_copy(known.folder.path());
    copy(&folder.path().join("test.db"), &second.path().join("test.db")).unwrap();
    serves(&known, second, 20).await;
}

#[tokio::test]
async fn a_database_moves_to_postgres_and_back() {
    if !has_postgres("copies to PostgreSQL and back") {
        return;
    }
    let known = known(folder_of_sqlite()).await;
    let shared = tempfile::tempdir().unwrap();
    let database = database_in(shared.path());
    copy(&known.database, &database).unwrap();
    let back = folder_of_sqlite();
    copy(&database, &back.path().join("test.db")).unwrap();
    for (before, after) in rows(&known.database).iter().zip(rows(&back.path().join("test.db"))) {
        assert!(*before == after, "{} differs", after.0);
    }
    serves(&known, back, 10).await;
    let shared = serves(&known, shared, 10).await;
    // What happened in PostgreSQL comes back as well.
    let back = folder_of_sqlite();
    copy(&database_in(shared.path()), &back.path().join("test.db")).unwrap();
    serves(&known, back, 20).await;
}

#[tokio::test]
async fn a_copy_of_postgres_has_everything() {
    if !has_postgres("copies from one PostgreSQL to another") {
        return;
    }
    let known = known(tempfile::tempdir().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    copy(&known.database, &database_in(folder.path())).unwrap();
    serves(&known, folder, 10).await;
}

/// Tables that are not copied, with a reason each.
const NOT_COPIED: [&str; 10] = [
    // Each database has its own.
    "_sqlx_migrations",
    "backup_times",
    "compatibility",
    "keyring",
    "sqlite_sequence",
    // Of servers that run.
    "changes",
    "keeper",
    "next_model",
    "servers",
    "training_lease",
];

const TABLES_OF_SQLITE: &str = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
const TABLES_OF_POSTGRES: &str = "SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name";

/// Copies a database. Returns the tables that were copied.
fn copied_tables(from: &Path, to: &Path) -> Vec<String> {
    let said = copy(from, to).unwrap();
    let tables = said.lines().filter_map(|line| line.split_once("  "));
    let mut tables: Vec<String> = tables
        .map(|(_, line)| line.trim())
        .filter_map(|line| {
            let (_, table) = line.split_once("  ")?;
            (!table.contains(' ')).then(|| table.to_owned())
        })
        .collect();
    tables.sort();
    tables
}

fn all_but_not_copied(tables: &str) -> Vec<String> {
    let is_copied = |table: &&str| !NOT_COPIED.contains(table);
    tables.lines().filter(is_copied).map(str::to_owned).collect()
}

#[tokio::test]
async fn each_table_and_column_is_copied_or_left_out_for_a_reason() {
    let folder = Server::start_in(folder_of_sqlite()).kill();
    let from = folder.path().join("test.db");
    let copy = folder_for_copy(folder.path());
    let copied = copied_tables(&from, &copy.path().join("test.db"));
    assert_eq!(copied, all_but_not_copied(&run_sql(&from, TABLES_OF_SQLITE)));
    let schema = "SELECT type, name, sql FROM sqlite_master ORDER BY name";
    assert_eq!(run_sql(&from, schema), run_sql(&copy.path().join("test.db"), schema));
    if !has_postgres("tables and columns of PostgreSQL") {
        return;
    }
    let other = tempfile::tempdir().unwrap();
    let to = database_in(other.path());
    assert_eq!(copied_tables(&from, &to), copied);
    assert_eq!(copied, all_but_not_copied(&run_sql(&to, TABLES_OF_POSTGRES)));
    let off = "SELECT count(*) FROM pg_trigger WHERE tgenabled <> 'O'";
    assert_eq!(run_sql(&to, off), "0");
    for table in copied {
        let columns = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY name");
        let of_postgres = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'
             AND table_name = '{table}' AND column_name NOT IN ('one', 'rowid')
             ORDER BY column_name COLLATE \"C\""
        );
        assert_eq!(run_sql(&from, &columns), run_sql(&to, &of_postgres), "{table}");
    }
}

#[tokio::test]
async fn a_copy_is_refused_if_it_could_lose_something() {
    let known = known(folder_of_sqlite()).await;
    let folder = folder_for_copy(known.folder.path());
    let to = folder.path().join("test.db");
    refuses(&known.database, &known.database, "it is the database itself");
    std::os::unix::fs::symlink(&known.database, folder.path().join("link")).unwrap();
    refuses(&known.database, &folder.path().join("link"), "it is the database itself");
    refuses(&folder.path().join("none"), &to, "does not exist");
    let other_key = folder.path().join("other-key");
    fs::write(&other_key, "8".repeat(64)).unwrap();
    fs::set_permissions(&other_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = copying(&known.database, &to);
    let refused = printed(command.arg("--master-key-file").arg(&other_key)).unwrap_err();
    assert!(refused.contains("does not open it"), "{refused}");
    assert!(!to.exists());

    fs::write(folder.path().join("test.db-keyring"), "").unwrap();
    refuses(&known.database, &to, "there is a keyring");
    fs::remove_file(folder.path().join("test.db-keyring")).unwrap();
    create_key(&to, "admin");
    refuses(&known.database, &to, "it is not empty: api_keys has 1 rows");
    assert_eq!(run_sql(&to, "SELECT count(*) FROM users"), "0");

    // A server has a model, at least.
    let server = Server::start_in(folder_of_sqlite());
    refuses(&known.database, &server.database(), "stop it first");
    refuses(&server.database(), &to, "stop it first");
    let folder = server.kill();
    refuses(&known.database, &folder.path().join("test.db"), "it is not empty: models has 1 rows");
}

#[tokio::test]
async fn a_copy_is_refused_while_servers_of_postgres_run() {
    if !has_postgres("refusals of copies from and to PostgreSQL") {
        return;
    }
    let server = Server::start();
    while run_sql(&server.database(), "SELECT count(*) FROM servers") != "1" {}
    let folder = folder_of_sqlite();
    let file = folder.path().join("test.db");
    refuses(&server.database(), &file, "running servers; stop all of them first");
    let known = known(folder_of_sqlite()).await;
    refuses(&known.database, &server.database(), "running servers; stop all of them first");
    refuses(&server.database(), &server.database(), "it is the database itself");
    server.terminate();
    let (_, stopped) = server.ended();
    refuses(&known.database, &database_in(stopped.path()), "it is not empty: models has 1 rows");
    assert_eq!(run_sql(&database_in(stopped.path()), "SELECT count(*) FROM users"), "0");
}

/// Starts a copy, and kills it when it begins with a table whose line has this text, for the `times`th time.
/// Returns whether it had ended by itself.
fn killed(from: &Path, to: &Path, line: &str, times: usize) -> bool {
    let mut command = copying(from, to);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begun = lines.filter(|it| it.contains("copying") && it.contains(line)).nth(times - 1);
    process.kill().unwrap();
    process.wait().unwrap().success() || begun.is_none()
}

#[tokio::test]
async fn a_copy_to_a_file_that_is_killed_leaves_nothing_or_everything() {
    let known = known(folder_of_sqlite()).await;
    let folder = folder_for_copy(known.folder.path());
    let to = folder.path().join("test.db");
    let count = |table| run_sql(&to, &format!("SELECT count(*) FROM {table}"));
    for times in 1.. {
        let is_done = killed(&known.database, &to, "", times);
        let counts = [count("users"), count("api_keys")];
        if counts != ["0", "0"] {
            assert_eq!(counts, ["3", "2"]);
            break;
        }
        assert!(!is_done);
        let _ = fs::remove_file(folder.path().join("test.db-keyring"));
    }
    serves(&known, folder, 10).await;
}

#[tokio::test]
async fn a_copy_to_postgres_that_is_killed_leaves_nothing() {
    if !has_postgres("a kill of a copy to PostgreSQL") {
        return;
    }
    let known = known(folder_of_sqlite()).await;
    let folder = tempfile::tempdir().unwrap();
    let to = database_in(folder.path());
    migrate(&to).unwrap();
    // The copy waits in the middle, for one who holds a table.
    let mut holder = Command::new("psql");
    let holder = holder.arg(&to).arg("-qAtX").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let hold = b"BEGIN; LOCK TABLE sessions IN SHARE MODE; SELECT 'held';\n";
    holder.stdin.as_mut().unwrap().write_all(hold).unwrap();
    let held = BufReader::new(holder.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(held, "held");
    assert!(!killed(&known.database, &to, "table=\"sessions\"", 1));
    holder.kill().unwrap();
    holder.wait().unwrap();
    for table in ["users", "templates", "api_keys", "keyring.root", "keyring.keys"] {
        assert_eq!(run_sql(&to, &format!("SELECT count(*) FROM {table}")), "0", "{table}");
    }
    copy(&known.database, &to).unwrap();
    serves(&known, folder, 10).await;
}

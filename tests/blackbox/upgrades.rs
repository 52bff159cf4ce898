//! A database that another release wrote.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::read::GzDecoder;
use reqwest::Method;
use tempfile::TempDir;

use crate::support::{Server, create_key, json, printed, program, run_sql, simulated};

/// Backups that earlier releases made of the same data: Ann is walker 11, Bob is walker 12, the API key
/// `backend` is valid, and `gone` is revoked.
const RELEASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/releases");
const API_KEY: &str =
    "bpn_ed6d99e4f118_76b572582e468220ddff4a4ff1cc9299a8e582e195af35a79feb5dfd705edb55";

/// Unpacks a backup as NAME, with its keyring and master key.
fn unpack(release: &str, folder: &Path, name: &str) {
    for suffix in ["", "-keyring"] {
        let packed = File::open(format!("{RELEASES}/{release}.db{suffix}.gz")).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        fs::write(folder.join(format!("{name}{suffix}")), bytes).unwrap();
    }
    let key = folder.join(format!("{name}-master-key"));
    fs::copy(format!("{RELEASES}/{release}.db-master-key"), &key).unwrap();
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
}

fn run(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    printed(program().args(arguments).arg("--database").arg(folder.join("test.db")))
}

async fn has_everything(folder: TempDir) {
    assert!(run(folder.path(), &["audit", "--verify"]).unwrap().contains("whole up to"));
    let keys = run(folder.path(), &["keys", "list"]).unwrap();
    assert!(keys.contains("valid") && keys.contains("revoked"), "{keys}");
    // The second start finds nothing more to do.
    let mut folder = folder;
    for _ in 0..2 {
        let server = Server::start_in(folder);
        for (person, user) in [(11, "ann"), (12, "bob")] {
            let walk = json(&simulated(person, 2));
            let request = server.request(Method::POST, "/v1/identify", walk).bearer_auth(API_KEY);
            let found: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!(found["user"], user, "{found}");
        }
        let walk = json(&simulated(11, 3));
        let path = "/v1/users/ann/enrollments";
        let request = server.request(Method::POST, path, walk).bearer_auth(API_KEY);
        assert!(request.send().await.unwrap().status().as_u16() != 500);
        folder = server.kill();
    }
}

/// Names of the backups, without their extension.
fn releases() -> Vec<String> {
    let files = fs::read_dir(RELEASES).unwrap().map(|file| file.unwrap().file_name());
    let name = |file: std::ffi::OsString| Some(file.to_str()?.strip_suffix(".db.gz")?.to_owned());
    files.filter_map(name).collect()
}

#[tokio::test]
async fn a_database_of_an_earlier_release_opens_with_everything_in_it() {
    assert!(!releases().is_empty());
    for release in releases() {
        let folder = tempfile::tempdir().unwrap();
        unpack(&release, folder.path(), "test.db");
        has_everything(folder).await;
        let folder = tempfile::tempdir().unwrap();
        unpack(&release, folder.path(), "test.db");
        let said = run(folder.path(), &["migrate"]).unwrap();
        assert!(said.contains(" to schema ") || said.contains(" already"), "{said}");
        has_everything(folder).await;
    }
}

/// How many rows each table has that holds data of users, keys or models.
fn rows(database: &Path) -> String {
    let tables = [
        "users",
        "enrollments",
        "templates",
        "recordings",
        "fingerprints",
        "replies",
        "reply_users",
        "failed_verifications",
        "erasures",
        "api_keys",
        "models",
        "keyring",
    ];
    let count = |table: &str| format!("SELECT '{table}', count(*) FROM {table}");
    run_sql(database, &tables.map(count).join(" UNION ALL "))
}

#[tokio::test]
async fn an_upgrade_loses_no_row_and_breaks_no_reference() {
    for release in releases() {
        let folder = tempfile::tempdir().unwrap();
        unpack(&release, folder.path(), "test.db");
        let database = folder.path().join("test.db");
        let users = "SELECT id, created_at_unix_seconds, hex(key_id), consent_reference,
                     consent_at_unix_seconds, last_active_at_unix_seconds FROM users ORDER BY id";
        let before = (rows(&database), run_sql(&database, users));
        assert!(before.0.contains("users|2") && before.0.contains("templates|"), "{before:?}");
        run(folder.path(), &["keys", "list"]).unwrap();
        assert_eq!((rows(&database), run_sql(&database, users)), before);
        assert_eq!(run_sql(&database, "PRAGMA foreign_key_check"), "");
        assert_eq!(run_sql(&database, "SELECT DISTINCT collection FROM users"), "default");
        // Deletions still take all that belongs to a user with them.
        let key = create_key(&database, "erase");
        let server = Server::start_in(folder);
        let path = "/v1/users/ann";
        let request = server.request(Method::DELETE, path, "").bearer_auth(key);
        assert_eq!(request.send().await.unwrap().status(), 204);
        let folder = server.kill();
        let left =
            run_sql(&folder.path().join("test.db"), "SELECT DISTINCT user_id FROM enrollments");
        assert_eq!(left, "bob");
    }
}

#[tokio::test]
async fn a_backup_of_an_earlier_release_can_be_restored() {
    for release in releases() {
        let (folder, backups) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        unpack(&release, backups.path(), "backup.db");
        let [from, to] = ["backup.db-master-key", "test.db-master-key"];
        fs::copy(backups.path().join(from), folder.path().join(to)).unwrap();
        let backup = backups.path().join("backup.db");
        let arguments = ["restore", "--accept-unknown-erasures", backup.to_str().unwrap()];
        run(folder.path(), &arguments).unwrap();
        has_everything(folder).await;
    }
}

/// Makes a database look as if the next release had written it.
fn age(database: &Path) {
    run_sql(
        database,
        "INSERT INTO _sqlx_migrations VALUES (9999, 'of the next release', 0, 1, x'00', 1);
         ALTER TABLE audit ADD COLUMN more TEXT;
         ALTER TABLE users ADD COLUMN more TEXT;
         ALTER TABLE failed_verifications ADD COLUMN more TEXT;
         CREATE TABLE more (id INTEGER);
         PRAGMA wal_checkpoint(TRUNCATE)",
    );
}

#[tokio::test]
async fn a_database_of_a_later_release_is_refused_with_the_cure_and_stays_as_it_is() {
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    server.terminate();
    server.wait();
    let folder = server.folder.path();
    age(&folder.join("test.db"));
    let files = ["test.db", "test.db-keyring"].map(|name| folder.join(name));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["keys", "list"],
        &["keys", "create", "--name", "a", "--scopes", "admin"],
        &["audit"],
        &["renew-templates"],
        &["migrate"],
    ] {
        let refused = run(folder, command).unwrap_err();
        for part in ["made by a newer version", "schema 9999", "start that version", "restore"] {
            assert!(refused.contains(part), "{command:?}: {refused}");
        }
        let after = files.each_ref().map(|file| fs::read(file).unwrap());
        assert!(after == before, "{command:?}");
    }
}

#[tokio::test]
async fn a_rollback_restores_the_backup_from_before_and_brings_nobody_back() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12)]).await;
    let folder = server.folder.path().to_owned();
    let backup = folder.join("before.db");
    run(&folder, &["backup", backup.to_str().unwrap()]).unwrap();
    // The upgrade. Then Ann is deleted.
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    let folder = server.kill();
    age(&folder.path().join("test.db"));
    fs::remove_file(folder.path().join("test.db-keyring")).unwrap();
    let said = run(folder.path(), &["restore", backup.to_str().unwrap()]).unwrap();
    assert!(said.contains("deleted again: 1 users") && !said.contains("warning"), "{said}");
    let server = Server::start_in(folder);
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

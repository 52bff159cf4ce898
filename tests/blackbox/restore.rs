//! `bipedalnet restore`: a backup comes back, and what was taken away since does not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Method;
use tempfile::TempDir;

use crate::support::{Server, create_key, printed, program, run_sql, simulated};

/// Copies a server's database to a folder of its own, with the keyring beside it, and the keyring to
/// `newest-keyring`.
fn back_up(database: &Path, backups: &Path, name: &str) -> PathBuf {
    let copy = backups.join(name);
    let mut command = program();
    printed(command.args(["backup", "--database"]).arg(database).arg(&copy)).unwrap();
    copy_keyring(database, &backups.join("newest-keyring"));
    copy
}

fn copy_keyring(database: &Path, copy: &Path) {
    let unused = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["backup", "--database"]).arg(database).arg("--keyring").arg(copy);
    printed(command.arg(unused.path().join("unused"))).unwrap();
}

fn restore<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Result<String, String> {
    let mut command = program();
    command.args(["restore", "--database"]).arg(folder.join("test.db"));
    printed(command.args(arguments))
}

/// A new disk: nothing but the master key.
fn new_disk(old: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let name = "test.db-master-key";
    fs::copy(old.join(name), folder.path().join(name)).unwrap();
    folder
}

fn remove(folder: &Path, name: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("{name}{suffix}")));
    }
}

/// All files of a folder, except those that only SQLite and the lock need.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let matters = |path: &PathBuf| !["-shm", "-lock"].iter().any(|end| ends_with(path, end));
    files.filter(matters).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn ends_with(path: &Path, suffix: &str) -> bool {
    path.to_str().unwrap().ends_with(suffix)
}

fn audit(folder: &Path) -> Vec<serde_json::Value> {
    let mut command = program();
    let lines = printed(command.args(["audit", "--database"]).arg(folder.join("test.db"))).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn audit_is_whole(folder: &Path) {
    let mut command = program();
    let said =
        printed(command.args(["audit", "--verify", "--database"]).arg(folder.join("test.db")));
    assert!(said.unwrap().contains("whole up to"));
}

/// A server whose users are walkers 11, 12 and 13.
async fn served() -> Server {
    Server::with_users(&[], &[("ann", 11), ("bob", 12), ("cem", 13)]).await
}

async fn delete(server: &Server, path: &str) {
    assert_eq!(server.send(Method::DELETE, path, "").await.status, 204, "{path}");
}

async fn names(server: &Server, person: u64) -> Option<String> {
    server.identified(&simulated(person, 2)).await
}

/// A backup with Ann, who is deleted after it. Dan comes later.
async fn backed_up() -> (TempDir, TempDir, PathBuf) {
    let backups = tempfile::tempdir().unwrap();
    let server = served().await;
    let backup = back_up(&server.database(), backups.path(), "backup.db");
    delete(&server, "/v1/users/ann").await;
    server.add_user("dan", &[simulated(14, 1)]).await;
    copy_keyring(&server.database(), &backups.path().join("newest-keyring"));
    (server.kill(), backups, backup)
}

/// Starts a server, on which Bob and Cem are as in the backup, and Ann and Dan are unknown.
async fn without_ann(folder: TempDir) -> Server {
    audit_is_whole(folder.path());
    let server = Server::start_in(folder);
    assert_eq!(names(&server, 11).await, None);
    assert_eq!(server.get("/v1/users/ann").await.status, 404);
    assert_eq!(names(&server, 12).await.as_deref(), Some("bob"));
    assert_eq!(names(&server, 13).await.as_deref(), Some("cem"));
    assert_eq!(server.get("/v1/users/dan").await.status, 404);
    assert_eq!(server.scrape().await["bipedalnet_damaged_rows"], 0.0);
    server
}

fn keys_in(folder: &Path) -> String {
    run_sql(&folder.join("test.db-keyring"), "SELECT count(*) FROM keys")
}

#[tokio::test]
async fn nobody_comes_back_whom_the_replaced_database_says_was_deleted() {
    let (folder, _backups, backup) = backed_up().await;
    // The backup's own keyring is all there is, and it has Ann's key.
    remove(folder.path(), "test.db-keyring");
    let said = restore(folder.path(), &[&backup]).unwrap();
    assert!(said.contains("deleted again: 1 users, 0 enrollments"), "{said}");
    assert!(said.contains("lost, as they were added after it: 1 users, 1 enrollments"), "{said}");
    assert!(said.contains("backup.db-keyring") && !said.contains("warning"), "{said}");
    assert_eq!(keys_in(folder.path()), "2");
    let trail = audit(folder.path());
    let actions: Vec<_> = trail.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let end = ["user_created", "enrolled", "user_deleted", "database_restored"];
    assert!(actions.ends_with(&end), "{actions:?}");
    let replaced = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let replaced = replaced.filter(|path| path.display().to_string().contains("-replaced-"));
    assert!(replaced.count() >= 1);
    let server = without_ann(folder).await;
    server.add_user("ann", &[simulated(11, 1)]).await;
    assert_eq!(names(&server, 11).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn nobody_comes_back_whose_key_is_not_in_the_keyring_in_place() {
    for damage in [
        |folder: &Path| remove(folder, "test.db"),
        |folder: &Path| fs::write(folder.join("test.db"), "not SQLite").unwrap(),
        |folder: &Path| fs::write(folder.join("test.db-wal"), vec![7; 9000]).unwrap(),
        // An earlier version recorded no destroyed keys.
        |folder: &Path| {
            remove(folder, "test.db");
            let drop = "DROP TABLE history; DROP TABLE destroyed; DROP TABLE gaps;
                        DROP TRIGGER key_made; DROP TRIGGER key_destroyed";
            run_sql(&folder.join("test.db-keyring"), drop);
        },
    ] {
        let (folder, _backups, backup) = backed_up().await;
        damage(folder.path());
        let said = restore(folder.path(), &[&backup]).unwrap();
        assert!(said.contains("deleted again: 1 users"), "{said}");
        assert!(!said.contains("the keyring is that of"), "{said}");
        without_ann(folder).await;
    }
}

#[tokio::test]
async fn a_database_with_damaged_pages_still_tells_what_can_be_read() {
    let (folder, _backups, backup) = backed_up().await;
    let database = folder.path().join("test.db");
    run_sql(&database, "PRAGMA wal_checkpoint(TRUNCATE)");
    let page = run_sql(&database, "SELECT rootpage FROM sqlite_schema WHERE name = 'templates'");
    let at = (page.parse::<usize>().unwrap() - 1) * 4096;
    let mut bytes = fs::read(&database).unwrap();
    bytes[at..at + 4096].fill(0xff);
    fs::write(&database, bytes).unwrap();
    remove(folder.path(), "test.db-keyring");
    // It does not tell everything.
    let refused = restore(folder.path(), &[&backup]).unwrap_err();
    assert!(refused.contains("--accept-unknown-erasures"), "{refused}");
    let accept = [OsStr::new("--accept-unknown-erasures"), backup.as_os_str()];
    let said = restore(folder.path(), &accept).unwrap();
    assert!(said.contains("deleted again: 1 users"), "{said}");
    assert!(said.contains("warning: not known"), "{said}");
    without_ann(folder).await;
}

#[tokio::test]
async fn nobody_comes_back_whose_key_is_not_in_the_newest_copy_of_the_keyring() {
    let (folder, backups, backup) = backed_up().await;
    let folder = new_disk(folder.path());
    let newest = backups.path().join("newest-keyring");
    let arguments = [OsStr::new("--keyring"), newest.as_os_str(), backup.as_os_str()];
    let said = restore(folder.path(), &arguments).unwrap();
    assert!(said.contains("deleted again: 1 users"), "{said}");
    assert!(
        said.contains("newest-keyring") && said.contains("users who were deleted after"),
        "{said}"
    );
    without_ann(folder).await;
}

#[tokio::test]
async fn if_nothing_tells_who_was_deleted_it_must_be_accepted() {
    let (folder, backups, backup) = backed_up().await;
    let folder = new_disk(folder.path());
    let before = contents(folder.path());
    let own = backups.path().join("backup.db-keyring");
    let named = [OsStr::new("--keyring"), own.as_os_str(), backup.as_os_str()];
    for arguments in [&named[2..], &named[..]] {
        let refused = restore(folder.path(), arguments).unwrap_err();
        assert!(refused.contains("they would come back"), "{refused}");
        assert!(refused.contains("nothing was changed"), "{refused}");
        assert_eq!(contents(folder.path()), before);
    }
    // A copy that was put in place by hand is as old.
    fs::copy(&own, folder.path().join("test.db-keyring")).unwrap();
    assert!(restore(folder.path(), &[&backup]).is_err());
    remove(folder.path(), "test.db-keyring");

    let accept = [OsStr::new("--accept-unknown-erasures"), backup.as_os_str()];
    let said = restore(folder.path(), &accept).unwrap();
    assert!(said.contains("users who were deleted after"), "{said}");
    let server = Server::start_in(folder);
    assert_eq!(names(&server, 11).await.as_deref(), Some("ann"));
    delete(&server, "/v1/users/ann").await;
    // From now on, the keyring tells.
    let folder = server.kill();
    remove(folder.path(), "test.db");
    let said = restore(folder.path(), &accept).unwrap();
    assert!(said.contains("deleted again: 1 users"), "{said}");
    without_ann(folder).await;
}

#[tokio::test]
async fn whoever_was_created_again_is_judged_by_their_newest_key() {
    let backups = tempfile::tempdir().unwrap();
    let server = served().await;
    // Before the backup: stays.
    delete(&server, "/v1/users/bob").await;
    server.add_user("bob", &[simulated(15, 1)]).await;
    let backup = back_up(&server.database(), backups.path(), "backup.db");
    // After it: neither the old nor the new one is in the restored database.
    delete(&server, "/v1/users/ann").await;
    server.add_user("ann", &[simulated(16, 1)]).await;
    let folder = server.kill();
    remove(folder.path(), "test.db-keyring");
    let said = restore(folder.path(), &[&backup]).unwrap();
    assert!(said.contains("deleted again: 1 users"), "{said}");
    assert!(said.contains("lost, as they were added after it: 1 users, 1 enrollments"), "{said}");
    let server = Server::start_in(folder);
    assert_eq!(names(&server, 15).await.as_deref(), Some("bob"));
    assert_eq!([names(&server, 11).await, names(&server, 16).await], [None, None]);
    assert_eq!(server.get("/v1/users/ann").await.status, 404);
}

#[tokio::test]
async fn a_newer_backup_brings_back_what_an_older_one_lacked() {
    let backups = tempfile::tempdir().unwrap();
    let server = served().await;
    let monday = back_up(&server.database(), backups.path(), "monday.db");
    server.add_user("dan", &[simulated(14, 1)]).await;
    let tuesday = back_up(&server.database(), backups.path(), "tuesday.db");
    let folder = server.kill();
    let lost = new_disk(folder.path());
    restore(folder.path(), &[&monday]).unwrap();
    let server = Server::start_in(folder);
    assert_eq!(names(&server, 14).await, None);
    let folder = server.kill();
    let said = restore(folder.path(), &[&tuesday]).unwrap();
    assert!(said.contains("deleted again: 0 users"), "{said}");
    assert_eq!(names(&Server::start_in(folder), 14).await.as_deref(), Some("dan"));

    // The same on a new disk. Its keyring was in use since Monday, and never had Dan's key.
    let accept = |backup| [OsStr::new("--accept-unknown-erasures"), backup];
    restore(lost.path(), &accept(monday.as_os_str())).unwrap();
    let server = Server::start_in(lost);
    server.add_user("eve", &[simulated(17, 1)]).await;
    let lost = server.kill();
    let said = restore(lost.path(), &accept(tuesday.as_os_str())).unwrap();
    assert!(said.contains("deleted again: 0 users"), "{said}");
    audit_is_whole(lost.path());
    let server = Server::start_in(lost);
    assert_eq!(names(&server, 14).await.as_deref(), Some("dan"));
    assert_eq!(names(&server, 11).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn what_else_was_taken_away_stays_away() {
    let backups = tempfile::tempdir().unwrap();
    let server = served().await;
    assert_eq!(server.enroll("bob", &simulated(12, 5)).await.status, 201);
    let database = server.database();
    let stays = create_key(&database, "identify,admin");
    let goes = create_key(&database, "admin");
    let id = |key: &str| key.split('_').rev().nth(1).unwrap().to_owned();
    let backup = back_up(&database, backups.path(), "backup.db");
    let folder = server.kill();
    let mut command = program();
    command.args(["keys", "revoke", "--database"]).arg(&database);
    printed(command.arg(id(&goes))).unwrap();
    let late = create_key(&database, "admin");

    let server = Server::start_in(folder);
    let walks = "SELECT id FROM enrollments WHERE user_id = 'bob' ORDER BY id";
    let second = run_sql(&database, walks).lines().last().unwrap().to_owned();
    let path = format!("/v1/users/bob/enrollments/{second}");
    let request = server.request(Method::DELETE, &path, "").bearer_auth(&stays);
    assert_eq!(request.send().await.unwrap().status(), 204);
    let folder = server.kill();
    run_sql(
        &database,
        "INSERT INTO failed_verifications VALUES ('cem', 'key', 60, unixepoch());
         UPDATE users SET last_active_at_unix_seconds = 4000000000 WHERE id = 'cem'",
    );
    let renew = printed(program().args(["renew-templates", "--database"]).arg(&database)).unwrap();
    assert!(renew.contains("renewed 3"), "{renew}");

    let said = restore(folder.path(), &[&backup]).unwrap();
    assert!(said.contains("deleted again: 0 users, 1 enrollments"), "{said}");
    assert!(said.contains("revoked: 2 API keys"), "{said}");
    assert!(said.contains("renewed the templates again") && !said.contains("warning"), "{said}");
    assert_eq!(run_sql(&database, "SELECT generation FROM template_generation"), "2");
    assert_eq!(run_sql(&database, walks).lines().count(), 1);
    assert_eq!(run_sql(&database, "SELECT failures FROM failed_verifications"), "60");
    let active = "SELECT last_active_at_unix_seconds FROM users WHERE id = 'cem'";
    assert_eq!(run_sql(&database, active), "4000000000");
    let listed = printed(program().args(["keys", "list", "--database"]).arg(&database)).unwrap();
    for (key, state) in [(&stays, "valid"), (&goes, "revoked"), (&late, "revoked")] {
        let line = listed.lines().find(|line| line.starts_with(&id(key))).unwrap();
        assert!(line.contains(state), "{listed}");
    }
    audit_is_whole(folder.path());
    let server = Server::start_in(folder);
    let body = crate::support::json(&simulated(12, 2));
    let request = server.request(Method::POST, "/v1/identify", body).bearer_auth(&stays);
    let found: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(found["user"], "bob");
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_nothing_is_changed() {
    let (folder, backups, backup) = backed_up().await;
    let path = |name: &str| backups.path().join(name);
    let whole = fs::read(&backup).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..8192].fill(0x5a);
    fs::write(path("damaged.db"), damaged).unwrap();
    fs::write(path("short.db"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path("text.db"), "not a database at all, but long enough to look like one").unwrap();
    fs::write(path("newer.db"), &whole).unwrap();
    run_sql(
        &path("newer.db"),
        "INSERT INTO _sqlx_migrations VALUES (9999, 'of the future', 0, 1, x'00', 1)",
    );
    run_sql(&path("foreign.db"), "CREATE TABLE t (id)");
    let other = served().await;
    back_up(&other.database(), backups.path(), "other.db");
    let other = other.kill();
    let before = contents(folder.path());
    for (name, expected) in [
        ("damaged.db", "damaged"),
        ("short.db", "damaged"),
        ("text.db", "damaged"),
        ("newer.db", "a newer version made it"),
        ("foreign.db", "belongs to another program"),
        ("none.db", "is the folder there"),
        ("other.db", "the keyring of another database"),
        ("../test.db", "is the folder there"),
    ] {
        let refused = restore(folder.path(), &[path(name)]).unwrap_err();
        assert!(refused.contains(expected), "{name}: {refused}");
        assert_eq!(contents(folder.path()), before, "{name}");
    }
    let itself = restore(folder.path(), &[folder.path().join("test.db")]).unwrap_err();
    assert!(itself.contains("the database itself"), "{itself}");
    for keyring in ["none", "other.db-keyring", "backup.db"] {
        let keyring = path(keyring);
        let arguments = [OsStr::new("--keyring"), keyring.as_os_str(), backup.as_os_str()];
        restore(folder.path(), &arguments).unwrap_err();
    }
    assert_eq!(contents(folder.path()), before);
    drop(other);

    let server = Server::start_in(folder);
    let refused = restore(server.folder.path(), &[&backup]).unwrap_err();
    assert!(refused.contains(&format!("process {}", server.process_id())), "{refused}");
    assert_eq!(names(&server, 14).await.as_deref(), Some("dan"));
}

/// Copies a folder, so that each try begins with the same.
fn copied(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap()) {
        if file.file_type().unwrap().is_dir() {
            let inner = copied(&file.path());
            fs::create_dir(copy.path().join(file.file_name())).unwrap();
            for file in fs::read_dir(inner.path()).unwrap().map(|file| file.unwrap().path()) {
                let folder = copy.path().join(inner_name(folder));
                fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
            }
        } else {
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    copy
}

fn inner_name(folder: &Path) -> PathBuf {
    let folders = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut folders = folders.filter(|file| file.file_type().unwrap().is_dir());
    folders.next().unwrap().file_name().into()
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_old_database_or_the_new_one() {
    let (folder, _backups, backup) = backed_up().await;
    // Both files are replaced.
    remove(folder.path(), "test.db-keyring");
    fs::copy(backup.with_extension("db-keyring"), folder.path().join("test.db-keyring")).unwrap();
    run_sql(
        &folder.path().join("test.db-keyring"),
        "DELETE FROM root; INSERT INTO root VALUES (zeroblob(16), x'00')",
    );
    let mut ends = BTreeMap::new();
    // It is killed as soon as one of these is there, which is sooner or later in its work.
    for seen in [
        "test.db-restore.part",
        "test.db-restore.part/database",
        "test.db-restore.part/database-keyring",
        "test.db-restore.part/suffix",
        "test.db-restore",
        "test.db-replaced",
    ] {
        for repeats in [true, false] {
            let copy = copied(folder.path());
            let mut command = program();
            command.args(["restore", "--database"]).arg(copy.path().join("test.db"));
            let mut process = command.arg(&backup).stdout(Stdio::null()).spawn().unwrap();
            let is_there = || {
                let (inner, name) = seen.split_once('/').unwrap_or((".", seen));
                let Ok(files) = fs::read_dir(copy.path().join(inner)) else { return false };
                files.flatten().any(|file| file.file_name().to_str().unwrap().starts_with(name))
            };
            while !is_there() && process.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            let _ = process.kill();
            process.wait().unwrap();
            if repeats {
                restore(copy.path(), &[&backup]).unwrap();
                without_ann(copy).await;
                continue;
            }
            // The old database cannot be used, as its keyring is damaged.
            let is_new = match Server::try_start(copy) {
                None => false,
                Some(server) => {
                    without_ann(server.kill()).await;
                    true
                }
            };
            *ends.entry(is_new).or_insert(0) += 1;
        }
    }
    assert!(ends.contains_key(&false), "{ends:?}");
}

#[tokio::test]
async fn the_next_start_finishes_a_restore_wherever_it_ended() {
    let (folder, _backups, backup) = backed_up().await;
    let old = copied(folder.path());
    remove(folder.path(), "test.db-keyring");
    restore(folder.path(), &[&backup]).unwrap();
    // What is on disk once the new files are complete, and after each step that follows.
    for steps in 0..5 {
        let crashed = copied(old.path());
        let path = |name: &str| crashed.path().join(name);
        let moved = path("test.db-restore");
        fs::create_dir(&moved).unwrap();
        fs::write(moved.join("suffix"), "-replaced-1").unwrap();
        let new = |name: &str| folder.path().join(name);
        fs::copy(new("test.db"), moved.join("database")).unwrap();
        fs::copy(new("test.db-keyring"), moved.join("database-keyring")).unwrap();
        if steps >= 1 {
            fs::hard_link(path("test.db"), path("test.db-replaced-1")).unwrap();
        }
        if steps >= 2 {
            fs::rename(path("test.db-wal"), path("test.db-replaced-1-wal")).unwrap();
        }
        if steps >= 3 {
            fs::rename(moved.join("database"), path("test.db")).unwrap();
        }
        if steps >= 4 {
            fs::rename(moved.join("database-keyring"), path("test.db-keyring")).unwrap();
            remove(crashed.path(), "test.db-keyring-wal");
        }
        // Nothing else may open what is neither the old nor the new one.
        let mut list = program();
        let refused = printed(list.args(["keys", "list", "--database"]).arg(path("test.db")));
        assert!(refused.unwrap_err().contains("restore"), "{steps}");
        let server = Server::start_in(crashed);
        assert!(!server.folder.path().join("test.db-restore").exists());
        let server = without_ann(server.kill()).await;
        let kept = server.folder.path().join("test.db-replaced-1");
        assert_eq!(run_sql(&kept, "SELECT count(*) FROM users WHERE id = 'dan'"), "1", "{steps}");
    }
}

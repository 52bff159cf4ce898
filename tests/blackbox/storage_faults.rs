//! Files that vanish, are no files, or do not fit on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Server, open_database, printed, program, run_sql, simulated};

#[tokio::test]
async fn a_database_file_that_is_deleted_or_replaced_is_noticed() {
    for name in ["test.db", "test.db-wal", "test.db-keyring"] {
        let server = Server::with_users(&[], &[("ann", 11)]).await;
        let file = server.folder.path().join(name);
        let away = server.folder.path().join("away");
        assert_eq!(server.get("/readyz").await.status, 200);
        fs::rename(&file, &away).unwrap();
        assert_eq!(server.put_user("bob").await.problem(), (503, "database-gone"), "{name}");
        let refused = server.enroll("ann", &simulated(11, 2)).await;
        assert_eq!(refused.problem(), (503, "database-gone"), "{name}");
        assert_eq!(server.get("/readyz").await.problem(), (503, "database-gone"), "{name}");
        assert_eq!(server.scrape().await["bipedalnet_database_gone"], 1.0);
        // Reading goes on.
        assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
        // Another file of the same name.
        fs::copy(&away, &file).unwrap();
        assert_eq!(server.put_user("bob").await.problem(), (503, "database-gone"), "{name}");
        fs::rename(&away, &file).unwrap();
        assert_eq!(server.put_user("bob").await.status, 201, "{name}");
        assert_eq!(server.get("/readyz").await.status, 200);
        let server = Server::start_in(server.kill());
        assert_eq!(server.get("/v1/users/bob").await.status, 200);
    }
}

#[tokio::test]
async fn a_lock_of_another_process_is_counted_logged_and_shown_by_the_probe() {
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    let scraped = async |server: &Server, name: &str| {
        server.scrape().await[&format!("bipedalnet_database_locked_{name}_total")]
    };
    assert_eq!(scraped(&server, "seconds").await, 0.0);
    assert_eq!(scraped(&server, "writes").await, 0.0);
    for file in ["test.db", "test.db-keyring"] {
        let locking = open_database(&server.folder.path().join(file));
        locking.execute_batch("BEGIN IMMEDIATE").unwrap();
        let write = async |server: &Server| match file {
            "test.db" => server.enroll("ann", &simulated(11, 2)).await,
            _ => server.put_user("bob").await,
        };
        let before = scraped(&server, "writes").await;
        let refused = write(&server).await;
        assert_eq!(refused.problem(), (503, "database-busy"), "{file}");
        let line = server.logged("locked");
        let holder = format!("process {} (", std::process::id());
        assert!(line.contains(&holder) && line.contains(&format!("{file} ")), "{line}");
        while scraped(&server, "writes").await <= before {
            tokio::task::yield_now().await;
        }
        // The lock is noticed without requests, too.
        let seconds = scraped(&server, "seconds").await;
        while scraped(&server, "seconds").await < seconds + 1.0 {
            tokio::task::yield_now().await;
        }
        let (status, text) = server.operator("/readyz").await;
        let read_only = "ready\nread-only: another process has the database locked\n";
        assert_eq!((status.as_u16(), &text[..]), (200, read_only));
        assert_eq!(server.identified(&simulated(11, 3)).await.as_deref(), Some("ann"));
        assert_eq!(write(&server).await.problem(), (503, "database-busy"), "{file}");

        locking.execute_batch("COMMIT").unwrap();
        while server.operator("/readyz").await.1 != "ready\n" {
            tokio::task::yield_now().await;
        }
        assert_eq!(write(&server).await.status, 201, "{file}");
        // Each start logs the first lock at once.
        server = Server::start_in(server.kill());
    }
}

#[tokio::test]
async fn a_server_starts_while_another_process_has_the_database_locked() {
    let folder = Server::with_users(&[], &[("ann", 11)]).await.kill();
    let locking = open_database(&folder.path().join("test.db"));
    locking.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let server = Server::start_in(folder);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(server.put_user("bob").await.problem(), (503, "database-busy"));
    locking.execute_batch("COMMIT").unwrap();
    while server.put_user("bob").await.status != 201 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_database_serves_one_server_at_a_time() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let database = server.database();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for path in [&database, &link] {
        let mut second = program();
        second.args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "", "--database"]);
        let refused = printed(second.arg(path)).unwrap_err();
        assert!(refused.contains(&format!("process {}", server.process_id())), "{refused}");
    }
    // Commands that work on its files still do.
    assert!(printed(program().args(["keys", "list", "--database"]).arg(&database)).is_ok());
    // However a server ends, it leaves nothing that keeps out the next one.
    let server = Server::start_in(server.kill());
    assert_eq!(server.get("/v1/users/ann").await.status, 200);
}

#[test]
fn a_model_must_be_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/bipedalnet-openset.safetensors");
    let database = folder.path().join("test.db");
    for file in [Path::new("/dev/zero"), &pipe] {
        let mut serve = program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--database"]).arg(&database);
        let message = printed(serve.arg("--model").arg(file)).unwrap_err();
        assert!(message.contains("not a regular file"), "{message}");
        let mut evaluate = program();
        evaluate.args(["evaluate", "--data"]).arg(folder.path()).arg("--model").arg(file);
        let message = printed(&mut evaluate).unwrap_err();
        assert!(message.contains("not a regular file"), "{message}");
    }
    assert!(Path::new(model).exists());
}

fn rotate(folder: &Path, arguments: &[&Path]) -> Result<String, String> {
    let mut command = program();
    command.args(["rotate-master-key", "--database"]).arg(folder.join("test.db"));
    printed(command.args(arguments))
}

#[tokio::test]
async fn a_rotation_leaves_the_old_or_the_new_master_key_in_force_wherever_it_ends() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12)]).await;
    let refused = rotate(server.folder.path(), &[]).unwrap_err();
    assert!(refused.contains("stop it first"), "{refused}");
    let mut server = server;
    server.terminate();
    server.wait();
    let folder = server.folder.path();
    let path = |name: &str| folder.join(name);
    let (key, next) = ("test.db-master-key", "test.db-master-key.new");
    let (old_key, old_keyring) =
        (fs::read(path(key)).unwrap(), fs::read(path("test.db-keyring")).unwrap());
    rotate(folder, &[]).unwrap();
    let (new_key, new_keyring) =
        (fs::read(path(key)).unwrap(), fs::read(path("test.db-keyring")).unwrap());
    assert_ne!(old_key, new_key);
    assert!(!path(next).exists());
    assert_eq!(fs::metadata(path(key)).unwrap().permissions().mode() & 0o777, 0o600);
    let wrapped = run_sql(&path("test.db-keyring"), "SELECT hex(wrapped) FROM keys");
    assert_eq!(wrapped.lines().count(), 2);

    // What is on disk before the keyring changed, between, and after; each can also be rotated again.
    for (keyring, key_file, next_file) in [
        (&old_keyring, &old_key, Some(&new_key)),
        (&new_keyring, &old_key, Some(&new_key)),
        (&new_keyring, &new_key, None),
    ] {
        for rotates in [false, true] {
            let crashed = tempfile::tempdir().unwrap();
            let write = |name: &str, bytes: &[u8]| {
                let path = crashed.path().join(name);
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            };
            write("test.db", &fs::read(path("test.db")).unwrap());
            write("test.db-keyring", keyring);
            write(key, key_file);
            if let Some(next_file) = next_file {
                write(next, next_file);
            }
            if rotates {
                rotate(crashed.path(), &[]).unwrap();
                assert!(!crashed.path().join(next).exists());
            }
            let server = Server::start_in(crashed);
            assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
            server.put_user("cem").await;
            let server = Server::start_in(server.kill());
            assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
        }
    }

    // To a file of the operator, and on from there.
    let (one, two) = (path("one"), path("two"));
    let [from, to] = ["--master-key-file", "--new-master-key-file"].map(Path::new);
    rotate(folder, &[to, &one]).unwrap();
    rotate(folder, &[from, &one, to, &two]).unwrap();
    let refused = rotate(folder, &[from, &one, to, &path("three")]).unwrap_err();
    assert!(refused.contains("does not open it"), "{refused}");
    assert!(!path("three").exists());
    let refused = rotate(folder, &[from, &two]).unwrap_err();
    assert!(refused.contains("--new-master-key-file"), "{refused}");
    let two = two.display().to_string();
    let folder = server.kill();
    let server = Server::start_with(folder, &["--master-key-file", &two]);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

/// Starts a server whose folder is a small file system of its own. It is filled up as soon as `control`
/// has the file `fill`, and some of it is freed once it has `free`.
const SMALL_DISK: &str = r#"
    folder=$1; control=$2; program=$3; shift 3
    mount -t tmpfs -o size=40m none "$folder" || exit 1
    wait_for() { until [ -e "$control/$1" ]; do kill -0 $$ || exit; sleep 0.05; done; }
    (
        wait_for fill
        dd if=/dev/zero bs=4096 of="$folder/filler"
        : > "$control/filled"
        wait_for free
        rm "$folder/filler"
        : > "$control/freed"
    ) > "$control/log" 2>&1 &
    exec "$program" "$@"
"#;

/// Starts the program with a copy of a folder, on a file system that has no space left. Some is freed once
/// `control` has the file `free`.
const FULL_DISK: &str = r#"
    folder=$1; control=$2; program=$3; shift 3
    mkdir "$control/copy" && cp -a "$folder/." "$control/copy" && mount -t tmpfs -o size=40m none "$folder" || exit 1
    cp -a "$control/copy/." "$folder"
    dd if=/dev/zero bs=4096 of="$folder/filler" 2> "$control/log"
    (
        until [ -e "$control/free" ]; do kill -0 $$ || exit; sleep 0.05; done
        rm "$folder/filler"
        : > "$control/freed"
    ) > "$control/log" 2>&1 &
    exec "$program" "$@"
"#;

/// Makes file systems that only one program sees. `None`, with a message, if that is not allowed here.
fn unshare() -> Option<Command> {
    let mount = "mkdir -p $0 && mount -t tmpfs none $0";
    let probe = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    let probing = command.args(["-Urm", "sh", "-c", mount]).arg(probe.path()).output();
    if !probing.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a full disk. This needs a user namespace with a tmpfs.");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c"]);
    Some(command)
}

/// A command that runs the program in `script`, with these folders.
fn in_script(mut unshare: Command, script: &str, folder: &Path, control: &Path) -> Command {
    unshare.args([script, "sh"]).arg(folder).arg(control).arg(program().get_program());
    unshare.env("BIPEDALNET_METRICS_LISTEN", "");
    unshare
}

#[tokio::test]
async fn a_server_starts_on_a_full_disk_and_stores_again_once_there_is_space() {
    let Some(unshare) = unshare() else { return };
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    server.terminate();
    server.wait();
    let folder = server.kill();
    let control = tempfile::tempdir().unwrap();
    for name in ["test.db-reserve", "test.db-shm", "test.db-keyring-shm"] {
        // The last two may be there or not.
        let _ = fs::remove_file(folder.path().join(name));
    }
    let command = in_script(unshare, FULL_DISK, folder.path(), control.path());
    let server = Server::start_as(command, folder, &[]);

    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(server.put_user("bob").await.problem(), (507, "storage-full"));
    assert_eq!(server.enroll("ann", &simulated(11, 3)).await.problem(), (507, "storage-full"));
    while server.operator("/readyz").await.1 != "ready\nread-only: the disk is full\n" {
        tokio::task::yield_now().await;
    }
    let full = "bipedalnet_read_only{reason=\"disk_full\"}";
    assert_eq!(server.scrape().await[full], 1.0);

    fs::write(control.path().join("free"), "").unwrap();
    while server.operator("/readyz").await.1 != "ready\n" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.scrape().await[full], 0.0);
    server.add_user("bob", &[simulated(12, 1)]).await;
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn a_start_that_must_write_says_that_the_disk_is_full() {
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    server.terminate();
    server.wait();
    let old = server.kill();
    fs::remove_file(old.path().join("test.db-reserve")).unwrap();
    // Plain text of an earlier version may be in free pages.
    run_sql(&old.path().join("test.db"), "PRAGMA user_version = 1");
    for folder in [tempfile::tempdir().unwrap(), old] {
        let Some(unshare) = unshare() else { return };
        let control = tempfile::tempdir().unwrap();
        let mut command = in_script(unshare, FULL_DISK, folder.path(), control.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--database"]);
        let failed = printed(command.arg(folder.path().join("test.db")));
        fs::write(control.path().join("free"), "").unwrap();
        let message = failed.unwrap_err();
        assert!(message.contains("is full") && message.contains("free some space"), "{message}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_users_can_still_be_deleted() {
    let Some(unshare) = unshare() else { return };
    let (folder, control) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let command = in_script(unshare, SMALL_DISK, folder.path(), control.path());
    let server = Server::start_as(command, folder, &["--keep-recordings-days", "9"]);
    for (user, person) in [("ann", 11), ("bob", 12), ("cem", 13)] {
        server.add_user(user, &[simulated(person, 1)]).await;
    }
    let step = async |ask: &str, done: &str| {
        fs::write(control.path().join(ask), "").unwrap();
        while !control.path().join(done).exists() {
            tokio::task::yield_now().await;
        }
    };
    step("fill", "filled").await;
    // The log has room for some changes.
    let mut number = 1;
    let refused = loop {
        number += 1;
        let answer = server.enroll("ann", &simulated(11, number)).await;
        if answer.status != 201 {
            break answer;
        }
    };
    assert_eq!(refused.problem(), (507, "storage-full"));
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    for user in ["ann", "bob"] {
        let answer = server.send(reqwest::Method::DELETE, &format!("/v1/users/{user}"), "").await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_eq!(server.identified(&simulated(12, 2)).await, None);
    step("free", "freed").await;
    server.add_user("dan", &[simulated(14, 1)]).await;
    assert_eq!(server.identified(&simulated(13, 2)).await.as_deref(), Some("cem"));
}

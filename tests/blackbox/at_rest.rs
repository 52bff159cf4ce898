//! Keys, and what the files tell to somebody who has only some of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use tempfile::TempDir;

use crate::support::{self, Server, create_key, printed, program, run_sql, simulated};

async fn with_ann() -> Server {
    Server::with_users(&[], &[("ann", 11)]).await
}

/// Why a server does not start with the database in a folder.
fn refusal(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut serve = program();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--database"]).arg(folder.join("test.db"));
    printed(serve.args(arguments).envs(variables.iter().copied())).unwrap_err()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Whether a file of the folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|file| {
        let text = fs::read(file.unwrap().path()).unwrap();
        text.windows(bytes.len()).any(|part| part == bytes)
    })
}

fn keys_in(folder: &Path) -> String {
    run_sql(&folder.join("test.db-keyring"), "SELECT count(*) FROM keys")
}

#[tokio::test]
async fn only_the_owner_can_read_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    let binary = program();
    shell.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(binary.get_program());
    shell.env("BIPEDALNET_METRICS_LISTEN", "");
    let server = Server::start_as(shell, folder, &[]);
    server.add_user("ann", &[simulated(11, 1)]).await;
    let modes = |folder: &TempDir| -> Vec<(String, u32)> {
        let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut modes: Vec<_> = files.map(|path| (name(&path), mode(&path))).collect();
        modes.sort();
        modes
    };
    let made = modes(&server.folder);
    for name in ["test.db", "test.db-keyring", "test.db-master-key", "test.db-wal", "test.db-shm"] {
        assert!(made.iter().any(|(file, _)| file == name), "{made:?}");
    }
    assert!(made.iter().all(|(_, mode)| *mode == 0o600), "{made:?}");

    // Files of an earlier version, or of an operator who copied them.
    let folder = server.kill();
    for (name, _) in made.iter().filter(|(name, _)| !name.contains("master")) {
        fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o664)).unwrap();
    }
    let server = Server::start_in(folder);
    let narrowed = modes(&server.folder);
    assert!(narrowed.iter().all(|(_, mode)| *mode == 0o600), "{narrowed:?}");
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_said_at_the_start() {
    let folder = with_ann().await.kill();
    let path = |name: &str| folder.path().join(name);
    let other = "00".repeat(32);
    fs::write(path("other"), &other).unwrap();
    fs::set_permissions(path("other"), Permissions::from_mode(0o600)).unwrap();
    let message =
        refusal(folder.path(), &["--master-key-file", path("other").to_str().unwrap()], &[]);
    assert!(message.contains("does not open it"), "{message}");
    let message = refusal(folder.path(), &[], &[("BIPEDALNET_MASTER_KEY", &other)]);
    assert!(message.contains("BIPEDALNET_MASTER_KEY does not open it"), "{message}");
    let message = refusal(folder.path(), &[], &[("BIPEDALNET_MASTER_KEY", "secret")]);
    assert!(message.contains("64 hexadecimal digits"), "{message}");

    fs::set_permissions(path("test.db-master-key"), Permissions::from_mode(0o604)).unwrap();
    let message = refusal(folder.path(), &[], &[]);
    assert!(message.contains("chmod 600"), "{message}");
    // A new key would make the data unreadable without a word.
    fs::rename(path("test.db-master-key"), path("safe")).unwrap();
    let message = refusal(folder.path(), &[], &[]);
    assert!(message.contains("master-key: No such file"), "{message}");
    assert!(!path("test.db-master-key").exists());
    fs::set_permissions(path("safe"), Permissions::from_mode(0o400)).unwrap();
    fs::rename(path("test.db-keyring"), path("keyring")).unwrap();
    let message = refusal(folder.path(), &[], &[]);
    assert!(message.contains("it is missing"), "{message}");
    fs::rename(path("keyring"), path("test.db-keyring")).unwrap();

    // The API keys need no master key.
    create_key(&path("test.db"), "identify");
    // Digits and bytes are the same key, from each place.
    let digits = fs::read_to_string(path("safe")).unwrap();
    let credentials = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = digits
        .trim()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    fs::write(credentials.path().join("master-key"), &bytes).unwrap();
    fs::set_permissions(credentials.path().join("master-key"), Permissions::from_mode(0o440))
        .unwrap();
    run_sql(&path("test.db"), "DELETE FROM api_keys");
    let given = path("safe").display().to_string();
    let server = Server::start_with(folder, &["--master-key-file", &given]);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    let mut with_variable = program();
    with_variable.env("BIPEDALNET_MASTER_KEY", digits.trim());
    let server = Server::start_as(with_variable, server.kill(), &[]);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    let mut with_credential = program();
    with_credential.env("CREDENTIALS_DIRECTORY", credentials.path());
    let server = Server::start_as(with_credential, server.kill(), &[]);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn the_keyring_of_another_database_is_refused() {
    let (one, other) = (with_ann().await.kill(), with_ann().await.kill());
    for name in ["test.db-keyring", "test.db-master-key"] {
        fs::copy(one.path().join(name), other.path().join(name)).unwrap();
        let _ = fs::remove_file(other.path().join(format!("{name}-wal")));
    }
    let message = refusal(other.path(), &[], &[]);
    assert!(message.contains("of another database"), "{message}");
}

#[tokio::test]
async fn deleting_a_user_destroys_their_key() {
    let server = with_ann().await;
    server.put_user("bob").await;
    assert_eq!(keys_in(server.folder.path()), "2");
    let ann = run_sql(&server.database(), "SELECT hex(key_id) FROM users WHERE id = 'ann'");
    let keyring = server.folder.path().join("test.db-keyring");
    let wrapped = format!("SELECT hex(wrapped) FROM keys WHERE id = x'{ann}'");
    let wrapped = run_sql(&keyring, &wrapped);
    let wrapped: Vec<u8> = (0..wrapped.len() / 2)
        .map(|byte| u8::from_str_radix(&wrapped[2 * byte..2 * byte + 2], 16).unwrap())
        .collect();
    assert!(holds(server.folder.path(), &wrapped));
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(keys_in(server.folder.path()), "1");
    let wrapped_key =
        || holds(server.folder.path(), &wrapped).then(|| "the wrapped key".to_owned());
    support::wait_until_erased(wrapped_key);
    // A user who is created again has another key.
    server.put_user("ann").await;
    let again = run_sql(&server.database(), "SELECT hex(key_id) FROM users WHERE id = 'ann'");
    assert_ne!(ann, again);

    // A server that died after the deletion and before the key was destroyed.
    let folder = server.kill();
    run_sql(
        &folder.path().join("test.db"),
        "INSERT INTO erased_keys SELECT key_id FROM users WHERE id = 'bob';
         DELETE FROM users WHERE id = 'bob'",
    );
    let server = Server::start_in(folder);
    assert_eq!(keys_in(server.folder.path()), "1");
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM erased_keys"), "0");
}

#[tokio::test]
async fn a_backup_holds_nothing_readable_of_a_user_who_was_deleted_after_it() {
    let server = with_ann().await;
    server.add_user("bob", &[simulated(12, 1)]).await;
    let folder = server.folder.path().to_owned();
    let newest = folder.join("newest-keyring");
    let backup = |copy: &str| {
        let mut command = program();
        command.args(["backup", "--database"]).arg(server.database());
        printed(command.arg("--keyring").arg(&newest).arg(folder.join(copy))).unwrap()
    };
    backup("old.db");
    assert_eq!([mode(&folder.join("old.db")), mode(&newest)], [0o600; 2]);
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    let said = backup("new.db");
    assert!(said.contains("newest-keyring"), "{said}");
    assert_eq!(run_sql(&newest, "SELECT count(*) FROM keys"), "1");

    // The old copy of the database with the keyring of now.
    let restored = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("old.db", "test.db"),
        ("newest-keyring", "test.db-keyring"),
        ("test.db-master-key", "test.db-master-key"),
    ] {
        fs::copy(folder.join(from), restored.path().join(to)).unwrap();
    }
    let server = Server::start_in(restored);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.get("/v1/users/ann").await.body["windows"], 0);
    assert!(server.scrape().await["bipedalnet_damaged_rows"] >= 1.0);
    let export = server.get("/v1/users/ann/export").await.body;
    assert_eq!(export["walks"][0]["templates"], serde_json::json!([]), "{export}");
    let refused = server.enroll("ann", &simulated(11, 3)).await;
    assert_eq!(refused.problem(), (409, "key-lost"));
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(server.scrape().await["bipedalnet_damaged_rows"], 0.0);
    server.add_user("ann", &[simulated(11, 3)]).await;
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn nothing_biometric_is_stored_as_plain_text() {
    let server = Server::with_arguments(&["--keep-recordings-days", "9"]);
    server.put_user("ann").await;
    let walk = support::json(&simulated(11, 1));
    let request = server.request(Method::POST, "/v1/users/ann/enrollments", walk);
    let response = request.header("idempotency-key", "k").send().await.unwrap();
    assert_eq!(response.status(), 201);
    let told = response.bytes().await.unwrap();
    let export = server.get("/v1/users/ann/export").await.body;
    let recording = export["walks"][0]["recording"].to_string();
    assert!(recording.len() > 1000, "{export}");
    let folder = server.folder.path();
    assert!(!holds(folder, &told));
    // Zstandard's first bytes, with which each kept recording begins.
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let stored = |sql: &str| run_sql(&server.database(), sql);
    assert_eq!(stored("SELECT count(*) FROM recordings"), "1");
    assert!(!holds(folder, &magic));
    // Two users with the same walk have nothing in common.
    server.add_user("bob", &[simulated(11, 1)]).await;
    for table in ["templates", "recordings", "fingerprints"] {
        let column = table.trim_end_matches('s');
        let distinct = format!("SELECT count(*), count(DISTINCT {column}) FROM {table}");
        let counts = stored(&distinct);
        let (all, distinct) = counts.split_once('|').unwrap();
        assert_eq!(all, distinct, "{table}");
        assert!(all.parse::<u32>().unwrap() >= 2, "{table}");
    }
}

#[tokio::test]
async fn a_template_that_was_moved_or_changed_is_set_aside_and_the_rest_serves() {
    let users = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14)];
    let folder = Server::with_users(&[], &users).await.kill();
    let database = folder.path().join("test.db");
    // Ann has Bob's, Cem's has another number of windows, and Dan's is as it was.
    run_sql(
        &database,
        "UPDATE templates SET template = (SELECT template FROM templates WHERE enrollment_id = 2)
         WHERE enrollment_id = 1;
         UPDATE templates SET windows = windows + 1 WHERE enrollment_id = 3;
         UPDATE fingerprints SET user_id = 'dan' WHERE user_id = 'bob'",
    );
    let server = Server::start_in(folder);
    assert_eq!(server.identified(&simulated(14, 2)).await.as_deref(), Some("dan"));
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.identified(&simulated(13, 2)).await, None);
    assert_eq!(server.get("/v1/users/ann").await.body["windows"], 0);
    assert_eq!(server.get("/v1/users/cem").await.body["windows"], 0);
    assert!(server.get("/v1/users/dan").await.body["windows"].as_u64() > Some(0));
    let walks = server.get("/v1/users/ann/enrollments").await.body;
    assert_eq!(walks["enrollments"][0]["windows"], 0, "{walks}");
    assert_eq!(server.scrape().await["bipedalnet_damaged_rows"], 2.0);
    // Bob's fingerprints are read when Dan is verified.
    let verify = support::json(&simulated(14, 2));
    let verified = server.send(Method::POST, "/v1/users/dan/verify", verify).await;
    assert_eq!(verified.body["decision"], "accept", "{verified:?}");
    while server.scrape().await["bipedalnet_damaged_rows"] < 3.0 {
        tokio::task::yield_now().await;
    }
    // A new walk, or a deletion, and all is well.
    assert_eq!(server.enroll("ann", &simulated(11, 3)).await.status, 201);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(server.send(Method::DELETE, "/v1/users/cem", "").await.status, 204);
    assert_eq!(server.scrape().await["bipedalnet_damaged_rows"], 2.0);
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_costs_only_what_it_is_in() {
    let users: Vec<(String, u64)> =
        (11..17).map(|person| (format!("user-{person}"), person)).collect();
    let names: Vec<(&str, u64)> = users.iter().map(|(user, person)| (&user[..], *person)).collect();
    let mut server = Server::with_users(&["--keep-recordings-days", "9"], &names).await;
    let templates = async |server: &Server, user: &str| {
        let export = server.get(&format!("/v1/users/{user}/export")).await.body;
        export["walks"].as_array().map_or(Vec::new(), |walks| {
            walks.iter().flat_map(|walk| walk["templates"].as_array().unwrap().clone()).collect()
        })
    };
    let mut all = std::collections::BTreeMap::new();
    for (user, _) in &users {
        all.insert(user.clone(), templates(&server, user).await);
    }
    server.terminate();
    assert!(server.wait().success());
    let whole: Vec<(std::path::PathBuf, Vec<u8>)> = fs::read_dir(server.folder.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
        .collect();
    let (mut served, mut refused) = (0, 0);
    let length = fs::metadata(server.database()).unwrap().len() as usize;
    // Model files are most of the database, and have a checksum of their own.
    const PLACES: usize = 40;
    for place in 0..PLACES {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &whole {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        for name in ["test.db", "test.db-keyring", "test.db-master-key"] {
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o600)).unwrap();
        }
        let database = folder.path().join("test.db");
        let mut bytes = fs::read(&database).unwrap();
        let byte = length * place / PLACES + 97 * place % 4096;
        bytes[byte.min(length - 1)] ^= 1 << (place % 8);
        fs::write(&database, bytes).unwrap();
        let Some(server) = Server::try_start(folder) else {
            refused += 1;
            continue;
        };
        served += 1;
        for (user, person) in &users {
            let found = server.identify(&simulated(*person, 2)).await;
            assert_eq!(found.status, 200, "{found:?}");
            let found = found.body["user"].as_str();
            assert!(found.is_none_or(|found| found == user), "{place}: {found:?} for {user}");
            for template in templates(&server, user).await {
                assert!(all[user].contains(&template), "{place}: another template of {user}");
            }
        }
    }
    assert!(served > PLACES / 2, "{served} served, {refused} refused");
}

//! Keys, and what the files tell to somebody who has only some of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use tempfile::TempDir;

use crate::support::{Server, create_key, printed, program, simulated, sqlite};

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
    sqlite(&folder.join("test.db-keyring"), "SELECT count(*) FROM keys")
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
    sqlite(&path("test.db"), "DELETE FROM api_keys");
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
    let ann = sqlite(&server.database(), "SELECT hex(key_id) FROM users WHERE id = 'ann'");
    let keyring = server.folder.path().join("test.db-keyring");
    let wrapped = format!("SELECT hex(wrapped) FROM keys WHERE id = x'{ann}'");
    let wrapped = sqlite(&keyring, &wrapped);
    let wrapped: Vec<u8> = (0..wrapped.len() / 2)
        .map(|byte| u8::from_str_radix(&wrapped[2 * byte..2 * byte + 2], 16).unwrap())
        .collect();
    assert!(holds(server.folder.path(), &wrapped));
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert_eq!(keys_in(server.folder.path()), "1");
    assert!(!holds(server.folder.path(), &wrapped));
    // A user who is created again has another key.
    server.put_user("ann").await;
    let again = sqlite(&server.database(), "SELECT hex(key_id) FROM users WHERE id = 'ann'");
    assert_ne!(ann, again);

    // A server that died after the deletion and before the key was destroyed.
    let folder = server.kill();
    sqlite(
        &folder.path().join("test.db"),
        "INSERT INTO erased_keys SELECT key_id FROM users WHERE id = 'bob';
         DELETE FROM users WHERE id = 'bob'",
    );
    let server = Server::start_in(folder);
    assert_eq!(keys_in(server.folder.path()), "1");
    assert_eq!(sqlite(&server.database(), "SELECT count(*) FROM erased_keys"), "0");
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
    assert_eq!(sqlite(&newest, "SELECT count(*) FROM keys"), "1");

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
}

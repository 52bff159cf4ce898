//! `bipedalnet doctor`: each finding that can be caused, and a deployment without any.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use tempfile::TempDir;

use crate::serving::Serving;
use crate::support::{certificate, open_database, printed, program, run_sql, text};

const SETTINGS: &str = "database = \"data/test.db\"\nmaster-key-file = \"master-key\"\n\
                        training-memory-mib = 32\nmetrics-listen = \"127.0.0.1:0\"\n";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder as a careful operator has it: a server has run in it, and an API key exists.
fn deployed() -> TempDir {
    running().stop_and_keep()
}

/// A folder for a server, with a master key and an API key.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    set_mode(&folder.path().join("data"), 0o700);
    fs::write(folder.path().join("master-key"), [7; 32]).unwrap();
    set_mode(&folder.path().join("master-key"), 0o600);
    create_key(folder.path(), "backend", "identify,enroll", &[]);
    // So that the clock of this machine does not matter.
    fs::create_dir(folder.path().join("programs")).unwrap();
    clock_says(folder.path(), "yes");
    folder
}

fn running() -> Serving {
    Serving::start(prepared(), SETTINGS, &[("BIPEDALNET_METRICS_LISTEN", "127.0.0.1:0")])
}

fn create_key(folder: &Path, name: &str, scopes: &str, more: &[&str]) {
    let mut command = program();
    command.args(["keys", "create", "--name", name, "--scopes", scopes]).args(more);
    command.args(["--database", "data/test.db"]).current_dir(folder);
    printed(&mut command).unwrap();
}

fn clock_says(folder: &Path, answer: &str) {
    let file = folder.join("programs/timedatectl");
    fs::write(&file, format!("#!/bin/sh\necho {answer}\n")).unwrap();
    set_mode(&file, 0o755);
}

fn copied(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut command = Command::new("cp");
    command.args(["-a", "--"]).arg(folder.join(".")).arg(copy.path());
    assert!(command.status().unwrap().success());
    copy
}

fn doctor(folder: &Path) -> Command {
    let mut command = program();
    command.args(["doctor", "--config", "b.toml"]).current_dir(folder);
    command.env_remove("BIPEDALNET_METRICS_LISTEN");
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.join("programs").display()));
    command
}

/// The lines that are not ok. How much of this machine's disk is free does not matter.
fn findings(output: &Output) -> Vec<String> {
    let lines = text(&output.stdout);
    let is_finding = |line: &&str| !line.starts_with("ok ") && !line.contains(" are free at ");
    lines.lines().filter(is_finding).map(str::to_owned).collect()
}

/// All files of a folder with their content.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn a_healthy_deployment_has_no_findings_and_is_not_changed() {
    let server = running();
    let output = doctor(server.folder.path()).args(["--listen", &server.address]).output().unwrap();
    assert_eq!((findings(&output), output.status.code()), (vec![], Some(0)), "{output:?}");
    let shown = text(&output.stdout);
    for area in [
        "database ",
        "backup",
        "master key",
        "backup",
        "model",
        "API keys",
        "server",
        "settings",
        "permissions",
        "disk",
        "clock",
        "limits",
        "certificate",
    ] {
        assert!(shown.lines().any(|line| line[9..].starts_with(area)), "{area}: {shown}");
    }
    assert!(shown.contains("process ") && shown.contains("uses the database"), "{shown}");

    let folder = server.stop_and_keep();
    let before = contents(folder.path());
    let output = doctor(folder.path()).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(contents(folder.path()) == before);
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(listed.len() >= 11 && listed.iter().all(|it| it["finding"].is_string()), "{listed:?}");
}

#[test]
fn a_database_that_does_not_exist_is_a_problem_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    let output = command.arg("doctor").current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("problem  database     bipedalnet.db does not exist: "), "{shown}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What happens to a deployment, what the doctor must say, and whether it is a problem.
type Case = (&'static str, Box<dyn Fn(&Path, &mut Command)>, &'static str, bool);

fn case(
    name: &'static str,
    cause: impl Fn(&Path, &mut Command) + 'static,
    expected: &'static str,
) -> Case {
    (name, Box::new(cause), expected, expected.starts_with("problem"))
}

fn arguments(list: &'static [&'static str]) -> impl Fn(&Path, &mut Command) {
    move |_, command| {
        command.args(list);
    }
}

fn statement(sql: &'static str) -> impl Fn(&Path, &mut Command) {
    move |folder, _| drop(run_sql(&folder.join("data/test.db"), sql))
}

/// A database with a user, of long ago.
fn old(sql: &'static str) -> impl Fn(&Path, &mut Command) {
    let aged = "INSERT INTO users (id, created_at_unix_seconds) VALUES ('ann', 1);
                UPDATE _sqlx_migrations SET installed_on = '2020-01-01 00:00:00'";
    move |folder, _| drop(run_sql(&folder.join("data/test.db"), &format!("{aged};{sql}")))
}

fn key(name: &'static str, scopes: &'static str) -> impl Fn(&Path, &mut Command) {
    move |folder, _| create_key(folder, name, scopes, &[])
}

fn mode(file: &'static str, mode: u32) -> impl Fn(&Path, &mut Command) {
    move |folder, _| set_mode(&folder.join(file), mode)
}

fn cases() -> Vec<Case> {
    let mut cases = settings_and_keys();
    cases.extend(files_and_clock());
    cases.extend(database_and_model());
    cases
}

fn settings_and_keys() -> Vec<Case> {
    let unused = "UPDATE api_keys SET created_at_unix_seconds = unixepoch() - 100 * 86400";
    vec![
        case(
            "an unknown variable",
            |_, command| {
                command.env("BIPEDALNET_MAX_USER", "5");
            },
            "warning  settings     unknown variable BIPEDALNET_MAX_USER",
        ),
        case(
            "half of TLS",
            arguments(&["--tls-key", "key"]),
            "problem  certificate  --tls-certificate and --tls-key must be given together",
        ),
        case(
            "a public address",
            arguments(&["--listen", "0.0.0.0:1"]),
            "warning  settings     0.0.0.0:1 is reachable without TLS",
        ),
        case(
            "everything is open",
            arguments(&["--allow-anonymous", "--cors-origins", "*"]),
            "problem  settings     with allow-anonymous and cors-origins",
        ),
        case(
            "public metrics",
            arguments(&["--metrics-listen", "0.0.0.0:9464"]),
            "warning  settings     everybody who reaches 0.0.0.0:9464 can read the metrics",
        ),
        case(
            "no metrics",
            arguments(&["--metrics-listen", ""]),
            "warning  settings     there are no metrics",
        ),
        case(
            "one port twice",
            arguments(&["--metrics-listen", "127.0.0.1:8080"]),
            "problem  settings     listen and metrics-listen are both 127.0.0.1:8080",
        ),
        case(
            "more of one address than of all",
            arguments(&["--max-connections", "100"]),
            "warning  settings     connections-per-address (512) is more than max-connections (100)",
        ),
        case(
            "too few files",
            |folder, command| {
                let program = doctor(folder);
                let mut limited = Command::new("sh");
                limited.args(["-c", "ulimit -n 256; exec \"$@\"", "sh"]).arg(program.get_program());
                limited.args(program.get_args()).current_dir(folder);
                *command = limited;
            },
            "warning  limits       this shell may open 256 files",
        ),
        case("no key", statement("DELETE FROM api_keys"), "warning  API keys     there is none"),
        case(
            "no key on a public address",
            |folder, command| {
                run_sql(&folder.join("data/test.db"), "DELETE FROM api_keys");
                command.args(["--listen", "0.0.0.0:1"]);
            },
            "problem  API keys     there is none, so the server does not start",
        ),
        case(
            "only a revoked key",
            statement("UPDATE api_keys SET revoked = 1"),
            "problem  API keys     all are revoked or expired",
        ),
        case(
            "a key that expires soon",
            |folder, _| create_key(folder, "b", "identify", &["--expires-days", "9"]),
            "(b) expires in",
        ),
        case("an unused key", statement(unused), "(backend) was not used for 100 days"),
        case(
            "features and scores",
            key("lab", "identify,features,scores"),
            "(lab) has features and scores",
        ),
        case(
            "a phone's key",
            key("Phones 2", "identify,admin"),
            "(Phones 2) seems to be on phones, and has admin",
        ),
        case(
            "admin beside identify",
            key("office", "identify,admin"),
            "(office) has admin beside identify",
        ),
        case(
            "every scope",
            key("x", "identify,enroll,extend,features,template,train,erase,admin,scores"),
            "(x) has every scope",
        ),
    ]
}

fn files_and_clock() -> Vec<Case> {
    let certified = |days: i64| {
        move |folder: &Path, command: &mut Command| {
            let key = KeyPair::generate().unwrap();
            let mut parameters = CertificateParams::new(["gait.example".to_owned()]).unwrap();
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
            let end = now.as_secs().checked_add_signed(days * 86_400 + 3600).unwrap();
            parameters.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
            let made = parameters.self_signed(&key).unwrap();
            fs::write(folder.join("tls.crt"), made.pem()).unwrap();
            fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
            set_mode(&folder.join("tls.key"), 0o600);
            command.args(["--tls-certificate", "tls.crt", "--tls-key", "tls.key"]);
        }
    };
    vec![
        case(
            "readable for all",
            mode("data/test.db", 0o644),
            "warning  permissions  others can read data/test.db (mode 644)",
        ),
        case(
            "a folder for all",
            mode("data", 0o777),
            "problem  permissions  others can replace the files in data",
        ),
        case(
            "a key for all",
            mode("master-key", 0o644),
            "problem  permissions  others can read master-key (mode 644)",
        ),
        case(
            "a TLS key for all",
            move |folder, command| {
                certified(60)(folder, command);
                set_mode(&folder.join("tls.key"), 0o644);
            },
            "warning  permissions  others can read tls.key",
        ),
        case(
            "a certificate that ends soon",
            certified(9),
            "warning  certificate  it expires in 9 days (gait.example)",
        ),
        case(
            "an expired certificate",
            certified(-1),
            "problem  certificate  it is valid only from",
        ),
        case(
            "a key of another certificate",
            |folder, command| {
                let [one, _] = certificate(folder, "one");
                let [_, other] = certificate(folder, "other");
                command.args(["--tls-certificate", &one, "--tls-key", &other]);
            },
            "does not belong to the first certificate",
        ),
        case(
            "a clock that is behind",
            |folder, _| {
                let file = File::options().write(true).open(folder.join("data/test.db")).unwrap();
                file.set_modified(SystemTime::now() + Duration::from_secs(9000)).unwrap();
            },
            "problem  clock        it is ",
        ),
        case(
            "a clock that leapt",
            statement("UPDATE retention_clock SET seen_at_unix_seconds = unixepoch() - 9 * 86400"),
            "warning  clock        the server last saw it 9 days ago",
        ),
        case(
            "a leap that nobody confirmed",
            statement("UPDATE retention_clock SET leapt_from_unix_seconds = 1"),
            "warning  clock        it leapt while the server ran",
        ),
        case(
            "no NTP",
            |folder, _| clock_says(folder, "no"),
            "warning  clock        NTP does not set it",
        ),
        case(
            "a long log",
            |folder, _| {
                let log = File::create(folder.join("data/test.db-wal")).unwrap();
                log.set_len(65 << 20).unwrap();
            },
            "warning  disk         the write-ahead log has 65 MiB",
        ),
        case(
            "no folder for temporary files",
            |_, command| {
                command.env("SQLITE_TMPDIR", "/no/such/folder");
            },
            "problem  disk         temporary files cannot be written to /no/such/folder",
        ),
    ]
}

fn database_and_model() -> Vec<Case> {
    vec![
        case(
            "another program's database",
            |folder, _| {
                fs::remove_file(folder.join("data/test.db")).unwrap();
                run_sql(&folder.join("data/test.db"), "CREATE TABLE invoices (id)");
            },
            "belongs to another program",
        ),
        case(
            "no database",
            |folder, _| fs::write(folder.join("data/test.db"), "not a database").unwrap(),
            "is damaged or not SQLite",
        ),
        case(
            "a damaged index",
            |folder, _| {
                let database = open_database(&folder.join("data/test.db"));
                let hide = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = \
                            (SELECT rootpage FROM sqlite_schema WHERE name = 'users') \
                            WHERE name = 'replies_by_age'";
                database.execute_batch(hide).unwrap();
            },
            "problem  database     data/test.db is damaged",
        ),
        case(
            "a newer database",
            statement("INSERT INTO _sqlx_migrations VALUES (9999, 'later', '', 1, x'00', 0)"),
            "problem  database     a newer version wrote data/test.db (schema 9999",
        ),
        case(
            "an earlier database",
            statement("DELETE FROM _sqlx_migrations WHERE version > 11"),
            "warning  database     an earlier version wrote data/test.db (schema 11 of",
        ),
        case(
            "damaged rows",
            statement(
                "INSERT INTO users (id, created_at_unix_seconds) VALUES ('ann', 1);
                 INSERT INTO enrollments (id, user_id, created_at_unix_seconds) VALUES (1, 'ann', 1);
                 INSERT INTO fingerprints (user_id, enrollment_id, fingerprint, damaged) \
                 VALUES ('ann', 1, x'00', 1)",
            ),
            "problem  database     1 rows cannot be decrypted",
        ),
        case("no backup", old("UPDATE backup_times SET failed_at_unix_seconds = 0"), "warning  backup       there is none"),
        case(
            "an old backup",
            old("UPDATE backup_times SET succeeded_at_unix_seconds = unixepoch() - 50 * 3600"),
            "warning  backup       the newest is 50 hours old",
        ),
        case(
            "a backup that failed",
            old("UPDATE backup_times SET failed_at_unix_seconds = unixepoch() - 2 * 3600"),
            "problem  backup       the last one failed, 2 hours ago",
        ),
        case(
            "a damaged model",
            statement("UPDATE models SET file = x'00'"),
            "problem  model        ",
        ),
        case("no active model", statement("UPDATE models SET active = 0"), "warning  model        none is active"),
        case(
            "a model that is none",
            arguments(&["--model", "b.toml"]),
            "problem  model        ",
        ),
        case(
            "a wrong master key",
            |folder, _| fs::write(folder.join("master-key"), [8; 32]).unwrap(),
            "problem  master key   keyring",
        ),
        case(
            "no keyring",
            |folder, _| fs::remove_file(folder.join("data/test.db-keyring")).unwrap(),
            "problem  master key   keyring",
        ),
        case(
            "no master key to see",
            |folder, _| {
                let settings = SETTINGS.replace("master-key-file = \"master-key\"\n", "");
                fs::write(folder.join("b.toml"), settings).unwrap();
            },
            "warning  master key   it is not visible here",
        ),
        case(
            "the master key beside the database",
            |folder, _| {
                let settings = SETTINGS.replace("master-key-file = \"master-key\"\n", "");
                fs::write(folder.join("b.toml"), settings).unwrap();
                fs::copy(folder.join("master-key"), folder.join("data/test.db-master-key")).unwrap();
            },
            "warning  master key   data/test.db-master-key is beside the database",
        ),
    ]
}

#[test]
fn each_fault_is_found_with_its_cure() {
    let healthy = deployed();
    let mut failures = Vec::new();
    for (name, cause, expected, is_problem) in cases() {
        let folder = copied(healthy.path());
        let mut command = doctor(folder.path());
        cause(folder.path(), &mut command);
        let output = command.output().unwrap();
        let found = findings(&output);
        let line = found.iter().find(|line| line.contains(expected));
        // What to do comes last.
        let has_cure =
            line.is_some_and(|line| line.rsplit_once(": ").is_some_and(|(_, cure)| cure.len() > 8));
        let has_problem = found.iter().any(|line| line.starts_with("problem"));
        let status = output.status.code();
        if !has_cure || status != Some(i32::from(has_problem)) || (is_problem && !has_problem) {
            failures.push(format!("{name}: {expected:?}: {output:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_file_of_another_user_is_a_problem() {
    let folder = deployed();
    if chown(folder.path().join("data/test.db-keyring"), Some(1), None).is_err() {
        eprintln!("skipped: a file of another user. This needs root.");
        return;
    }
    let output = doctor(folder.path()).output().unwrap();
    let [finding] = &findings(&output)[..] else { panic!("{output:?}") };
    assert!(finding.contains("test.db-keyring belongs to user 1, and its folder to"), "{finding}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_disk_that_is_nearly_full_is_a_problem() {
    let folder = deployed();
    let mounted = "mount -t tmpfs -o size=40m none data2 && cp data/* data2 && exec \"$@\"";
    fs::create_dir(folder.path().join("data2")).unwrap();
    let own = doctor(folder.path());
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", mounted, "sh"]).arg(own.get_program());
    command.args(own.get_args()).args(["--database", "data2/test.db"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    let shown = text(&output.stdout);
    if shown.is_empty() {
        eprintln!("skipped: a full disk. This needs a user namespace with a tmpfs.");
        return;
    }
    let line = shown.lines().find(|line| line.contains(" disk ")).unwrap();
    assert!(line.starts_with("problem") && line.contains("of 40 MiB are free at data2"), "{shown}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_running_server_with_other_settings_is_found() {
    let folder = prepared();
    let [one, key] = certificate(folder.path(), "one");
    let [other, other_key] = certificate(folder.path(), "other");
    for key in [&key, &other_key] {
        set_mode(Path::new(key), 0o600);
    }
    let tls = format!("{SETTINGS}tls-certificate = {one:?}\ntls-key = {key:?}\n");
    let server = Serving::start(folder, &tls, &[]);
    let ask = |listen: &str, more: &[&str]| {
        let mut command = doctor(server.folder.path());
        command.args(["--listen", listen]).args(more);
        let output = command.output().unwrap();
        (findings(&output).join("\n"), output.status.code())
    };
    let listen = &server.address[..];
    assert_eq!(ask(listen, &[]), (String::new(), Some(0)));
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (found, status) = ask(listen, &["--metrics-listen", &free]);
    assert!(found.contains("nothing answers on metrics-listen") && status == Some(0), "{found}");
    let (found, status) = ask(&free, &[]);
    assert!(
        found.contains("uses the database, but does not answer") && status == Some(1),
        "{found}"
    );
    let (found, status) = ask(listen, &["--tls-certificate", &other, "--tls-key", &other_key]);
    assert!(
        found.contains("answers, but with another certificate") && status == Some(0),
        "{found}"
    );
    // Its own limits count, not those of the shell.
    let (found, _) =
        ask(listen, &["--max-connections", "900000000", "--connections-per-address", "1"]);
    assert!(found.contains("limits       the server may open"), "{found}");
    server.stop();
}

//! Settings from flags, environment variables and a file, at startup and after SIGHUP.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Output;

use tempfile::TempDir;

use crate::serving::Serving;
use crate::support::{self, printed, program, text};

/// Runs `bipedalnet config` with this text as the settings file.
fn config(file: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.toml"), file).unwrap();
    let mut command = program();
    command.args(["config", "--config", "b.toml"]).args(arguments).current_dir(folder.path());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    (folder, output)
}

/// The printed line of a setting, with single spaces.
fn line_of(shown: &str, key: &str) -> String {
    let line = shown.lines().find(|line| line.trim_start_matches("# ").starts_with(key));
    line.unwrap_or_else(|| panic!("no {key} in {shown}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file = "max-users = 1_000\nmax-models = 7\nmax-batch = 0x10\nrequire-challenge = true\n\
                allow-anonymous = true\nlisten = \"127.0.0.1:1\"\nmax-body-bytes = 4096\n";
    let (_folder, output) = config(
        file,
        &["--max-models", "5", "--allow-anonymous=false", "--max-connections", "9"],
        &[
            ("BIPEDALNET_MAX_USERS", "11"),
            ("BIPEDALNET_MAX_MODELS", "6"),
            ("BIPEDALNET_REQUIRE_CHALLENGE", "false"),
            ("BIPEDALNET_MODEL", "m \"1\".safetensors"),
        ],
    );
    let shown = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for line in [
        "max-models = 5 # flag",
        "allow-anonymous = false # flag",
        "max-connections = 9 # flag",
        "max-users = 11 # variable",
        "require-challenge = false # variable",
        r#"model = "m \"1\".safetensors" # variable"#,
        "max-batch = 16 # file",
        r#"listen = "127.0.0.1:1" # file"#,
        "max-body-bytes = 4096 # file",
        "max-recording-seconds = 900 # default",
        r#"log-level = "info" # default"#,
        "# tls-key is not set # default",
    ] {
        let key = line.trim_start_matches("# ").split(' ').next().unwrap();
        assert_eq!(line_of(&shown, key), line);
    }

    // The output is itself a file with the same settings.
    let (_folder, again) = config(&shown, &[], &[]);
    let values = |shown: &str| -> Vec<String> {
        let lines = shown.lines();
        lines.map(|line| line.rsplit_once('#').unwrap().0.trim_end().to_owned()).collect()
    };
    assert_eq!(values(&text(&again.stdout)), values(&shown), "{again:?}");
}

#[test]
fn a_mistake_in_the_file_is_reported_with_its_line_and_the_remedy() {
    for (file, expected) in [
        (
            "max-users = 5\n\nrequest-timeout-ms = 500\n",
            "b.toml:3: unknown setting `request-timeout-ms`; did you mean \
             `request-timeout-seconds`?",
        ),
        ("max_users = 5", "b.toml:1: unknown setting `max_users`; did you mean `max-users`?"),
        ("[http]\nmax-users = 5", "b.toml:1: unknown setting `http`; did you mean `"),
        ("config = \"x\"", "b.toml:1: unknown setting `config`; did you mean `"),
        (
            "request-timeout-seconds = \"30s\"",
            "b.toml:1: `request-timeout-seconds` is the string \"30s\"; expected a whole number of \
             seconds",
        ),
        (
            "max-body-bytes = 1.5",
            "b.toml:1: `max-body-bytes` is the number 1.5; expected a whole number of bytes",
        ),
        ("database = 5", "b.toml:1: `database` is the number 5; expected a string (FILE|URL)"),
        (
            "require-challenge = \"yes\"",
            "b.toml:1: `require-challenge` is the string \"yes\"; expected true or false",
        ),
        (
            "max-users = [1]",
            "b.toml:1: `max-users` is of type array; expected a whole number of users",
        ),
        ("\nmax-models = 2", "b.toml:2: `max-models` cannot be `2`: 2 is not in 3.."),
        ("max-users = -1", "b.toml:1: `max-users` cannot be `-1`: "),
        ("listen = \"here\"", "b.toml:1: `listen` cannot be `here`: invalid socket address"),
        (
            "log-level = \"inof\"",
            "b.toml:1: `log-level` cannot be `inof`: \"inof\" is none of off, error, warn, info",
        ),
        ("model = \"\"", "b.toml:1: `model` cannot be ``: the value is invalid"),
        ("max-users = 5\nmax-users = 6", "b.toml:2: duplicate key"),
        ("max-users 5", "b.toml:1: "),
    ] {
        let (_folder, output) = config(file, &[], &[]);
        let shown = text(&output.stderr);
        assert!(shown.starts_with(&format!("bipedalnet: {expected}")), "{file}: {shown}");
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{file}: {output:?}");
    }
    let message = printed(program().args(["serve", "--config", "none.toml"])).unwrap_err();
    assert!(message.starts_with("bipedalnet: none.toml: "), "{message}");
}

#[test]
fn commands_find_the_database_through_the_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b.toml"), "database = \"of_file.db\"\nmax-users = 5\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).current_dir(folder.path()).env("BIPEDALNET_CONFIG", "b.toml");
        printed(&mut command).unwrap();
    };
    run(&["keys", "create", "--name", "x", "--scopes", "admin"]);
    run(&["keys", "list"]);
    run(&["backup", "copy.db"]);
    for file in ["of_file.db", "copy.db"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
}

#[test]
fn an_unknown_variable_is_reported() {
    let warning = "unknown variable BIPEDALNET_MAX_USER; did you mean BIPEDALNET_MAX_USERS?";
    let good = ("BIPEDALNET_KERNELS", "portable");
    let (_folder, output) = config("", &[], &[("BIPEDALNET_MAX_USER", "5"), good]);
    assert_eq!(text(&output.stderr), format!("bipedalnet: {warning}\n"));
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(folder, "", &[("BIPEDALNET_MAX_USER", "5"), good]);
    assert!(server.seen.iter().any(|line| line.contains(warning)), "{:?}", server.seen);
    server.stop();
}

#[tokio::test]
async fn sighup_changes_limits_and_the_log_level_and_names_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = "address-requests-per-second = 3\nmax-users = 1\n";
    let mut server = Serving::start(folder, file, &[]);
    let start = server.seen.last().unwrap();
    for part in ["version=", "model=", "database=bipedalnet.db", "config=", "max_users=1 "] {
        assert!(start.contains(part), "{part}: {start}");
    }
    let policy = async |server: &Serving| {
        let answer = server.answer("/livez").await;
        let policy = answer.headers().get("ratelimit-policy");
        policy.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(policy(&server).await.as_deref(), Some("\"address\";q=30;w=10"));
    assert_eq!([server.put_user("ann").await, server.put_user("bob").await], [201, 409]);

    let file = "address-requests-per-second = 1\nmax-users = 2\nmax-connections = 5\n\
                database = \"other.db\"\n";
    let line = server.reload(file, "settings reloaded");
    assert!(line.contains("changed=\"max-users,address-requests-per-second\""), "{line}");
    let line = server.until("restart the server to change these settings", &mut Vec::new());
    assert!(line.contains("database,max-connections"), "{line}");
    assert_eq!(policy(&server).await.as_deref(), Some("\"address\";q=10;w=10"));
    assert_eq!(server.put_user("bob").await, 201);
    while server.answer("/livez").await.status() != 429 {}

    // A mistake changes nothing.
    let line = server.reload("max-user = 9\n", "settings not reloaded");
    assert!(line.contains("b.toml:1: unknown setting `max-user`"), "{line}");

    let debug = "address-requests-per-second = 0\nlog-level = \"warn,bipedalnet=debug\"\n";
    server.reload(debug, "settings reloaded");
    assert_eq!(policy(&server).await, None);
    server.answer("/livez").await;
    // A cut request makes the server log at level debug.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /livez HT").unwrap();
    drop(stream);
    server.until("DEBUG", &mut Vec::new());
    server.stop();
}

/// What the server tells systemd next.
fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    text(&buffer[..length])
}

#[test]
fn systemd_learns_when_the_server_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let server = Serving::start(folder, "", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(receive(&socket), "READY=1\n");
    server.stop();
    assert_eq!(receive(&socket), "STOPPING=1\n");
}

#[tokio::test]
async fn the_watchdog_hears_from_the_server_also_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let notify = ("NOTIFY_SOCKET", path.to_str().unwrap());
    let quota = ("BIPEDALNET_ADDRESS_REQUESTS_PER_SECOND", "0");
    let server = Serving::start(folder, "", &[notify, quota, ("WATCHDOG_USEC", "200000")]);
    assert_eq!(receive(&socket), "READY=1\n");
    assert_eq!([receive(&socket), receive(&socket)], ["WATCHDOG=1\n", "WATCHDOG=1\n"]);

    let url = format!("http://{}/v1/identify", server.address);
    let walk = support::json(&support::simulated_for(1, 1, 60.0));
    let client = support::client();
    let busy = (0..64).map(|_| {
        let (client, url, walk) = (client.clone(), url.clone(), walk.clone());
        tokio::spawn(async move {
            loop {
                let request = client.post(&url).header("content-type", "application/json");
                // It may be refused.
                let _ = request.body(walk.clone()).send().await;
            }
        })
    });
    let busy: Vec<_> = busy.collect();
    server.answer("/livez").await;
    let hear = move || {
        // What came before the load does not count.
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 64]).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        [(); 5].map(|()| receive(&socket))
    };
    assert_eq!(tokio::task::spawn_blocking(hear).await.unwrap(), ["WATCHDOG=1\n"; 5]);
    busy.iter().for_each(tokio::task::JoinHandle::abort);
    server.stop();
}

#[tokio::test]
async fn a_watchdog_of_another_process_hears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let notify = ("NOTIFY_SOCKET", path.to_str().unwrap());
    let watchdog = [notify, ("WATCHDOG_USEC", "4000"), ("WATCHDOG_PID", "1")];
    let server = Serving::start(folder, "", &watchdog);
    for _ in 0..20 {
        assert_eq!(server.answer("/livez").await.status(), 200);
    }
    server.stop();
    assert_eq!([receive(&socket), receive(&socket)], ["READY=1\n", "STOPPING=1\n"]);
}

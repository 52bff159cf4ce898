//! A clock that leaps while the server runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use reqwest::Method;
use tempfile::TempDir;

use crate::audit::{acts, entries};
use crate::support::{
    self, Server, database_in, printed, program, run_sql, simulated, simulated_for,
};

const DAY: i64 = 24 * 60 * 60;

/// A clock for programs that tests start.
struct LeapingClock {
    folder: TempDir,
    library: PathBuf,
}

impl LeapingClock {
    /// `None`, with a message, if there is no C compiler.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("leaping_clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/leaping_clock.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", source, "-o"])
            .arg(&library)
            .status();
        if !cfg!(target_os = "linux") || !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: a leap of the clock. This needs Linux and a C compiler.");
            return None;
        }
        let clock = Self { folder, library };
        clock.leap_to(0);
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    /// Shows the right time and these seconds.
    fn leap_to(&self, seconds: i64) {
        let next = self.folder.path().join("next");
        fs::write(&next, seconds.to_string()).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    /// The program under test with this clock.
    fn program(&self) -> Command {
        let mut command = program();
        command.env("LD_PRELOAD", &self.library).env("LEAPING_CLOCK", self.file());
        command
    }

    /// Starts a server with a database whose clock has been steady for long.
    fn start(&self, folder: TempDir, arguments: &[&str]) -> Server {
        let steady = "UPDATE retention_clock SET steady_since_unix_seconds = unixepoch() - 200000";
        run_sql(&database_in(folder.path()), steady);
        Server::start_as(self.program(), folder, arguments)
    }
}

async fn until_paused(server: &Server, paused: bool) {
    while server.scrape().await["bipedalnet_retention_paused"] != f64::from(u8::from(paused)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_leap_deletes_nothing_until_the_clock_is_confirmed() {
    let Some(clock) = LeapingClock::new() else { return };
    let retention = ["--keep-recordings-days", "30", "--erase-inactive-days", "90"];
    let server = Server::with_users(&retention, &[("ann", 11)]).await;
    let server = clock.start(server.kill(), &retention);
    let database = server.database();
    let count = || run_sql(&database, "SELECT count(*) FROM users, recordings");
    let enroll = async || {
        let walk = support::json(&simulated(11, 2));
        let request = server.request(Method::POST, "/v1/users/ann/enrollments", walk);
        support::answer(request.header("idempotency-key", "k").send().await.unwrap()).await
    };
    let enrolled = enroll().await;
    assert_eq!((enrolled.status, &count()[..]), (201, "2"));
    assert_eq!(server.scrape().await["bipedalnet_retention_paused"], 0.0);
    let confirm = |date: Option<&str>| {
        let mut command = clock.program();
        command.args(["confirm-clock", "--database"]).arg(&database);
        printed(command.args(date.map(|date| format!("--date={date}"))))
    };
    assert!(confirm(None).unwrap().contains("nothing to confirm"));

    clock.leap_to(400 * DAY);
    until_paused(&server, true).await;
    assert!(server.logged("the clock moved").contains("confirm-clock"));
    // Nobody got older by this: a retry gets its response, and a new user is of today.
    assert_eq!(enroll().await, enrolled);
    assert_eq!(server.put_user("bob").await.status, 201);
    let new = "SELECT created_at_unix_seconds - unixepoch() < 1000 FROM users WHERE id = 'bob'";
    assert_eq!(run_sql(&database, new), "1");

    let refused = confirm(None).unwrap_err();
    let (_, date) = refused.split_once("--date ").unwrap();
    let today = run_sql(&database, "SELECT date(unixepoch() + 400 * 86400, 'unixepoch')");
    assert!(date.starts_with(&today), "{refused}");
    let wrong = confirm(Some(&run_sql(&database, "SELECT date()"))).unwrap_err();
    assert!(wrong.contains("not confirmed"), "{wrong}");

    // The clock is put right.
    clock.leap_to(5);
    until_paused(&server, false).await;
    assert_eq!(count(), "4");
    assert!(confirm(None).unwrap().contains("nothing to confirm"));

    // It was wrong before, and is right now.
    clock.leap_to(400 * DAY);
    until_paused(&server, true).await;
    let confirmed = confirm(Some(&today)).unwrap();
    assert!(confirmed.contains("+400.0 days"), "{confirmed}");
    until_paused(&server, false).await;
    while count() != "0" {
        tokio::task::yield_now().await;
    }
    // Both would destroy the keys of the users who were erased.
    server.terminate();
    let (_, _folder) = server.ended();
    let audited = entries(&database, &[]);
    assert!(acts(&audited).iter().any(|act| act[..2] == ["command_line", "clock_confirmed"]));
}

#[tokio::test]
async fn what_has_expired_stays_expired_if_the_clock_is_set_back() {
    let Some(clock) = LeapingClock::new() else { return };
    let folder = Server::start().kill();
    let database = database_in(folder.path());
    let [live, expired] = ["identify", "admin"].map(|scope| support::create_key(&database, scope));
    run_sql(
        &database,
        "UPDATE api_keys SET expires_at_unix_seconds = unixepoch() - 10 WHERE scopes = 'admin'",
    );
    let server = clock.start(folder, &[]);
    let status = async |key: &str| {
        let walk = support::json(&simulated(11, 1));
        let request = server.request(Method::POST, "/v1/identify", walk);
        request.bearer_auth(key).send().await.unwrap().status().as_u16()
    };
    for days in [0, -400] {
        clock.leap_to(days * DAY);
        until_paused(&server, days != 0).await;
        assert_eq!((status(&live).await, status(&expired).await), (200, 401), "{days}");
    }
    // A restart does not help.
    let server = Server::start_as(clock.program(), server.kill(), &[]);
    until_paused(&server, true).await;
    let request = server.request(Method::GET, "/v1/users", "").bearer_auth(&expired);
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_challenge_expires_after_two_minutes() {
    let Some(clock) = LeapingClock::new() else { return };
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let server = clock.start(server.kill(), &[]);
    let created = server.send(Method::POST, "/v1/users/ann/challenges", "").await.body;
    let path = format!("/v1/users/ann/verify?challenge={}", created["challenge"].as_str().unwrap());
    let status = async |walk| {
        server.send(Method::POST, &path, support::json(&simulated(11, walk))).await.status
    };
    clock.leap_to(122);
    assert_eq!(status(2).await, 409);
    clock.leap_to(0);
    assert_eq!(status(3).await, 200);
    assert_eq!(status(4).await, 409);
}

#[tokio::test]
async fn a_session_ends_after_five_quiet_minutes() {
    let Some(clock) = LeapingClock::new() else { return };
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let server = clock.start(server.kill(), &[]);
    let windows = async |walk| {
        let walk = support::json(&simulated_for(40, walk, 4.0));
        let answer = server.send(Method::POST, "/v1/users/ann/verify?session=s", walk).await;
        answer.body["windows"].as_u64().unwrap()
    };
    assert_eq!(windows(1).await, 3);
    clock.leap_to(250);
    assert_eq!(windows(2).await, 6);
    clock.leap_to(500);
    assert_eq!(windows(1).await, 6, "a retry keeps it open");
    clock.leap_to(750);
    assert_eq!(windows(3).await, 9);
    clock.leap_to(1100);
    assert_eq!(windows(4).await, 3);
    // A start deletes the walks of what has ended.
    clock.leap_to(1500);
    let server = Server::start_as(clock.program(), server.kill(), &[]);
    while run_sql(&server.database(), "SELECT count(*) FROM session_walks") != "0" {
        tokio::task::yield_now().await;
    }
}

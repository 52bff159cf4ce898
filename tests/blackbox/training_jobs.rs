//! Training jobs: creation, events, cancellation, and crashes. The shipped model is refitted in one
//! pass, so tests that need a longer job use the `bipedalnet` model.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::models::{KEEPING, activate, models, with_walkers, with_walkers_and_classes};
use crate::support::{
    self, Answer, Server, create_key, database_in, program, run_sql, simulated, simulated_for,
};

const JOBS: &str = "/v1/training-jobs";

async fn train(server: &Server, document: Value) -> Answer {
    server.send(Method::POST, JOBS, document.to_string()).await
}

/// A job that ends soon.
fn short() -> Value {
    json!({"scope": "last_layers", "epochs": 1})
}

/// A job that does not end during a test if the model has classes.
fn long() -> Value {
    json!({"epochs": 200})
}

fn path(job: u64) -> String {
    format!("{JOBS}/{job}")
}

async fn job(server: &Server, job: u64) -> Value {
    let answer = server.get(&path(job)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Opens the event stream of a job, after an event.
async fn follow(server: &Server, job: u64, after: Option<u64>) -> reqwest::Response {
    let request = support::client().get(server.url(&format!("{}/events", path(job))));
    let request = match after {
        Some(after) => request.header("last-event-id", after),
        None => request,
    };
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

async fn events(
    server: &Server,
    job: u64,
    after: Option<u64>,
    is_last: impl Fn(&Value) -> bool,
) -> (Vec<(u64, Value)>, bool) {
    read_events(follow(server, job, after).await, is_last).await
}

/// Reads the events with an id, up to a last one or the end of the stream. Also returns whether the
/// stream ended.
async fn read_events(
    mut response: reqwest::Response,
    is_last: impl Fn(&Value) -> bool,
) -> (Vec<(u64, Value)>, bool) {
    let (mut text, mut events) = (String::new(), Vec::new());
    while let Ok(Some(part)) = response.chunk().await {
        text += std::str::from_utf8(&part).unwrap();
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let data = field("data: ").map(|data| serde_json::from_str(data).unwrap());
            let id: Option<u64> = field("id: ").map(|id| id.parse().unwrap());
            text = rest.to_owned();
            let (Some(id), Some(data)) = (id, data) else { continue };
            let done = is_last(&data);
            events.push((id, data));
            if done {
                return (events, false);
            }
        }
    }
    (events, true)
}

#[tokio::test]
async fn events_end_when_their_key_is_revoked() {
    let server = with_walkers_and_classes(1).await;
    assert_eq!(train(&server, long()).await.status, 202);
    let admin = create_key(&server.database(), "train");
    let key = create_key(&server.database(), "train");
    let events = format!("{}/events", path(1));
    // The server notices the first key.
    while server.get(&events).await.status != 401 {}
    let open =
        |key: &str, path: &str| support::client().get(server.url(path)).bearer_auth(key).send();
    let mut followed = open(&key, &events).await.unwrap();
    assert_eq!(followed.status(), StatusCode::OK);
    assert!(followed.chunk().await.unwrap().is_some());
    let id = key.split('_').nth(1).unwrap();
    let mut revoke = program();
    revoke.args(["keys", "revoke", id, "--database"]).arg(server.database());
    support::printed(&mut revoke).unwrap();
    let rest = async { while let Some(_event) = followed.chunk().await.unwrap() {} };
    tokio::time::timeout(Duration::from_secs(60), rest).await.expect("the events go on");
    let job: Value = open(&admin, &path(1)).await.unwrap().json().await.unwrap();
    assert!(job["state"] == "queued" || job["state"] == "running", "{job}");
}

/// The program, set to crash at a step.
fn crashing(step: &str) -> Command {
    let mut program = program();
    program.env("BIPEDALNET_CRASH_AT", step);
    program
}

/// Waits for a job's end and returns the job.
async fn over(server: &Server, number: u64) -> Value {
    let last = all_events(server, number).await.pop().unwrap().1;
    assert_eq!(last, job(server, number).await);
    last
}

/// Waits for a job's end and returns its events. A connection ends after ten minutes, which a job may take
/// on a busy machine.
async fn all_events(server: &Server, number: u64) -> Vec<(u64, Value)> {
    let mut all: Vec<(u64, Value)> = Vec::new();
    loop {
        let after = all.last().map(|(number, _)| *number);
        let begin = Instant::now();
        all.extend(events(server, number, after, |_| false).await.0);
        let state = all.last().map(|(_, job)| job["state"].clone());
        if state.is_some_and(|state| state != "queued" && state != "running") {
            return all;
        }
        assert!(begin.elapsed() > Duration::from_secs(500), "the stream ended too early: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_activates_a_new_model_without_disturbing_identification() {
    let server = Arc::new(with_walkers(3).await);
    let old = models(&server).await[0]["model"].clone();
    let done = Arc::new(AtomicBool::new(false));
    let identifying = tokio::spawn({
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        async move {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(server.identified(&simulated(12, 3)).await.as_deref(), Some("user-1"));
                answers += 1;
            }
            answers
        }
    });
    let once = async || {
        let request = server.request(Method::POST, JOBS, r#"{"epochs": 2, "seed": 7}"#);
        let response = request.header("idempotency-key", "train").send().await.unwrap();
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        (support::answer(response).await, location)
    };
    let (answer, location) = once().await;
    assert_eq!((answer.status, &location[..]), (202, &path(1)[..]), "{answer:?}");
    let mut queued = answer.body.clone();
    queued["created_at_unix_seconds"] = json!("some time");
    insta::assert_json_snapshot!("training_job_queued", queued);

    let seen = all_events(&server, 1).await;
    let told: Vec<_> = seen
        .iter()
        .map(|(number, job)| {
            (*number, job["state"].as_str().unwrap(), job["epoch"].as_u64().unwrap())
        })
        .collect();
    let expected = [(1, "queued", 0), (2, "running", 0), (3, "running", 1), (4, "succeeded", 1)];
    assert_eq!(told, expected);
    // After the only pass there is a validation result. The model appears only at the end.
    assert!(seen[2].1["validation_accuracy"].is_number() && seen[2].1["epochs"] == 1);
    assert!(seen[2].1.get("model").is_none() && seen[2].1.get("loss").is_none());
    let (again, ended) = events(&server, 1, Some(2), |_| false).await;
    assert_eq!((&again[..], ended), (&seen[2..], true));
    let request = support::client().get(server.url(&format!("{}/events", path(1))));
    let response = request.header("last-event-id", "4").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);

    let last = over(&server, 1).await;
    assert_eq!(
        (&last["activated"], &last["users"], &last["users_left_out"]),
        (&json!(true), &json!(3), &json!(0))
    );
    assert_eq!(last["parent"], old);
    // A retry starts no second job and gets the same response.
    let (replayed, location) = once().await;
    assert_eq!((replayed, location), (answer, path(1)));
    let all = server.get(JOBS).await.body;
    assert_eq!(all, json!({"jobs": [last]}));

    let all = models(&server).await;
    let new = &all[1];
    assert_eq!(
        (&new["model"], &new["active"], &new["parent"]),
        (&last["model"], &json!(true), &old)
    );
    assert_eq!(
        (&new["comparison"]["recordings"], &new["comparison"]["old_model"]),
        (&json!(3), &old)
    );
    let training_data = new["training_data"].as_str().unwrap();
    assert!(training_data.contains("; refitted to 3 users, recordings of SHA-256 "));
    assert!(new["size_bytes"].as_u64().unwrap() <= 44_000);
    let answer = server.identify(&simulated(12, 4)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&last["model"], &json!("user-1")));
    // One request activates the old model again.
    assert_eq!(activate(&server, old.as_str().unwrap(), false).await.status, 200);
    assert_eq!(server.identify(&simulated(12, 4)).await.body["model"], old);
    done.store(true, Ordering::Relaxed);
    assert!(identifying.await.unwrap() > 0);
}

#[tokio::test]
async fn jobs_that_cannot_run_are_refused_at_once() {
    let server = Server::with_arguments(&KEEPING);
    assert_eq!(train(&server, json!({})).await.problem(), (409, "nobody-to-train-on"));
    server.add_user("ann", &[simulated_for(11, 1, 30.0)]).await;
    server.add_user("bob", &[simulated_for(12, 1, 2.5)]).await;
    let answer = train(&server, json!({})).await;
    assert_eq!(answer.problem(), (409, "too-little-data"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("bob has 1 in 1 recordings, 7 are missing"), "{detail}");
    // Without bob there is too little data.
    let skipping = json!({"skip_users_with_too_little": true, "scope": "last_layers", "epochs": 1});
    assert_eq!(train(&server, skipping.clone()).await.problem(), (409, "too-little-data"));
    server.enroll("ann", &simulated(11, 2)).await;
    assert_eq!(train(&server, json!({})).await.problem(), (409, "too-little-data"));
    assert_eq!(train(&server, skipping).await.status, 202);
    let done = over(&server, 1).await;
    assert_eq!((&done["users"], &done["users_left_out"]), (&json!(1), &json!(1)), "{done}");
    assert_eq!(done["state"], "succeeded", "{done}");
    // A comparison needs two recordings of a user.
    assert_eq!(done["activated"], false);
    assert!(done["reason"].as_str().unwrap().contains("two kept recordings"), "{done}");
    // The new model would lose a walk without a recording.
    server.enroll("ann", &simulated(11, 3)).await;
    run_sql(&server.database(), "DELETE FROM recordings WHERE enrollment_id = 3");
    let answer = train(&server, json!({"skip_users_with_too_little": true})).await;
    assert_eq!(answer.problem(), (409, "walks-lost"));

    for (document, field) in [
        (json!({"epochs": 0}), "epochs"),
        (json!({"epochs": 201}), "epochs"),
        (json!({"budget_seconds": 0}), "budget_seconds"),
        (json!({"epochs": 2, "budget_seconds": 9}), "budget_seconds"),
        (json!({"scope": "half"}), "scope"),
        (json!({"epoch": 2}), "epoch"),
    ] {
        let answer = train(&server, document).await;
        assert_eq!(
            (answer.problem(), &answer.body["field"]),
            ((422, "invalid-field"), &json!(field))
        );
    }
    for (method, path, expected) in [
        (Method::GET, path(2), (404, "unknown-training-job")),
        (Method::DELETE, path(2), (404, "unknown-training-job")),
        (Method::GET, path(2) + "/events", (404, "unknown-training-job")),
        (Method::GET, format!("{JOBS}/first"), (404, "no-such-resource")),
        (Method::DELETE, path(1), (409, "training-job-over")),
    ] {
        assert_eq!(server.send(method, &path, "").await.problem(), expected, "{path}");
    }
    // This server keeps no recordings.
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let answer = train(&server, json!({})).await;
    assert!(
        answer.body["detail"].as_str().unwrap().contains("--keep-recordings-days"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn jobs_wait_in_a_bounded_queue_and_can_be_cancelled() {
    let server = with_walkers_and_classes(2).await;
    assert_eq!(train(&server, long()).await.status, 202);
    events(&server, 1, None, |job| job["state"] == "running").await;
    const PROGRESS: &str = "bipedalnet_training_last_progress_timestamp_seconds";
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((now - server.scrape().await[PROGRESS]).abs() < 3600.0);
    for number in 2..=9 {
        let answer = train(&server, long()).await;
        assert_eq!((answer.status, &answer.body["job"]), (202, &json!(number)));
    }
    let response = server.request(Method::POST, JOBS, "{}").send().await.unwrap();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait > 0);
    assert_eq!(support::answer(response).await.problem(), (429, "too-many-training-jobs"));

    let cancel = async |number| server.send(Method::DELETE, &path(number), "").await.status;
    // Cancel one that waits and the one that runs. The next one starts at once.
    assert_eq!([cancel(2).await, cancel(1).await], [204, 204]);
    assert_eq!(job(&server, 2).await["state"], "cancelled");
    assert_eq!(over(&server, 1).await["state"], "cancelled");
    events(&server, 3, None, |job| job["state"] == "running").await;
    // Cancelling again changes nothing.
    assert_eq!(cancel(1).await, 204);
    for number in 3..=9 {
        assert_eq!(cancel(number).await, 204);
    }
    over(&server, 9).await;
    while server.scrape().await[PROGRESS] != 0.0 {
        tokio::task::yield_now().await;
    }
    let checkpoints = run_sql(&server.database(), "SELECT count(*) FROM training_checkpoints");
    assert_eq!((checkpoints.as_str(), models(&server).await.len()), ("0", 1));
}

#[tokio::test]
async fn an_interrupted_job_makes_the_same_model_as_an_undisturbed_one() {
    let document = || json!({"epochs": 3, "seed": 5, "activate": false});
    let undisturbed = with_walkers_and_classes(2).await;
    train(&undisturbed, document()).await;
    let disturbed = with_walkers_and_classes(2).await;
    train(&disturbed, document()).await;
    events(&disturbed, 1, None, |job| job["epoch"] == 1).await;
    let disturbed = Server::start_with(disturbed.kill(), &KEEPING);
    // A stop of the server ends open event streams, but not the job.
    let following = follow(&disturbed, 1, Some(100)).await;
    let (_, ended) = events(&disturbed, 1, None, |job| job["epoch"] == 2).await;
    assert!(!ended);
    disturbed.terminate();
    assert_eq!(read_events(following, |_| false).await, (vec![], true));
    let (status, folder) = disturbed.ended();
    assert!(status.success(), "{status}");
    let disturbed = Server::start_with(folder, &KEEPING);
    let [expected, model] =
        [over(&undisturbed, 1).await, over(&disturbed, 1).await].map(|job| job["model"].clone());
    assert!(model.is_string() && model == expected, "{model} and {expected}");
}

#[tokio::test]
async fn a_job_ends_as_usual_wherever_the_program_crashed() {
    const BEFORE: [&str; 8] = [
        "job begun",
        "checkpoint kept",
        "network trained",
        "model registered",
        "page of walks read",
        "walks read",
        "models compared",
        "switch not committed",
    ];
    if !cfg!(debug_assertions) {
        eprintln!("skipped: only a debug build crashes where it is told to");
        return;
    }
    let undisturbed = with_walkers(2).await;
    let old = models(&undisturbed).await[0]["model"].as_str().unwrap().to_owned();
    train(&undisturbed, short()).await;
    let expected = over(&undisturbed, 1).await;
    let new = expected["model"].as_str().unwrap();

    let mut folder = with_walkers(2).await.kill();
    for (number, step) in BEFORE.iter().chain(&["switch committed"]).enumerate() {
        let server = Server::start_as(crashing(step), folder, &KEEPING);
        if number == 0 {
            assert_eq!(train(&server, short()).await.status, 202);
        }
        let status;
        (status, folder) = server.ended();
        assert!(!status.success(), "{step}: {status}");
        let database = database_in(folder.path());
        assert_eq!(run_sql(&database, "PRAGMA integrity_check"), "ok");
        let serves = run_sql(&database, "SELECT id FROM models WHERE active = 1");
        assert_eq!(serves, if BEFORE.contains(step) { &old } else { new }, "{step}");
        let state = run_sql(&database, "SELECT state FROM training_jobs");
        assert_eq!(state, if BEFORE.contains(step) { "running" } else { "succeeded" }, "{step}");
    }
    let server = Server::start_with(folder, &KEEPING);
    let mut job = over(&server, 1).await;
    for time in ["created_at_unix_seconds", "started_at_unix_seconds", "ended_at_unix_seconds"] {
        job[time] = expected[time].clone();
    }
    assert_eq!(job, expected);
    let answer = server.identify(&simulated(12, 3)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(new), &json!("user-1")));
}

#[tokio::test]
async fn a_job_that_crashes_the_program_again_and_again_is_given_up() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: only a debug build crashes where it is told to");
        return;
    }
    let mut folder = with_walkers(2).await.kill();
    for number in 0..10 {
        let step = if number == 0 { "model registered" } else { "models compared" };
        let server = Server::start_as(crashing(step), folder, &KEEPING);
        if number == 0 {
            assert_eq!(train(&server, short()).await.status, 202);
        }
        if number == 9 {
            let job = over(&server, 1).await;
            assert_eq!(job["state"], "failed", "{job}");
            assert!(job["reason"].as_str().unwrap().contains("8 restarts"), "{job}");
            return;
        }
        folder = server.ended().1;
    }
}

#[tokio::test]
async fn a_user_deleted_during_training_is_in_no_model() {
    let server = with_walkers_and_classes(3).await;
    train(&server, json!({"epochs": 20, "activate": false, "scope": "last_layers"})).await;
    events(&server, 1, None, |job| job["epoch"] == 1).await;
    assert_eq!(server.send(Method::DELETE, "/v1/users/user-2", "").await.status, 204);
    let done = over(&server, 1).await;
    assert_eq!((&done["state"], &done["users"]), (&json!("succeeded"), &json!(2)), "{done}");
    // The job started again at once, not after the last epoch.
    let events = all_events(&server, 1).await;
    let last_epoch = events.iter().filter(|(_, job)| job["epoch"] == 20).count();
    assert_eq!(last_epoch, 2, "{events:?}");
}

#[tokio::test]
async fn a_full_disk_fails_only_the_job() {
    let folder = with_walkers_and_classes(2).await.kill();
    let files = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    // The reserve for deletions does not grow.
    let growing = files.filter(|file| !file.file_name().to_string_lossy().ends_with("-reserve"));
    let largest = growing.map(|file| file.metadata().unwrap().len()).max().unwrap();
    // As on a full disk, no file can grow by more than 300 KiB. A checkpoint is larger. The unit of
    // `ulimit -f` is 512 bytes.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", (largest / 1024 + 300) * 2))
        .arg(program().get_program());
    let server = Server::start_as(shell, folder, &KEEPING);
    let before = models(&server).await;
    assert_eq!(train(&server, short()).await.status, 202);
    let failed = over(&server, 1).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("a checkpoint could not be stored"), "{reason}");
    assert_eq!(server.identify(&simulated(12, 3)).await.status, 200);
    assert_eq!(server.enroll("user-1", &simulated(12, 4)).await.status, 201);
    assert_eq!(models(&server).await, before);
}

#[tokio::test]
async fn a_damaged_parent_model_fails_a_job() {
    let server = with_walkers_and_classes(2).await;
    train(&server, long()).await;
    events(&server, 1, None, |job| job["state"] == "running").await;
    train(&server, short()).await;
    run_sql(&server.database(), "UPDATE models SET file = CAST('x' AS BLOB)");
    assert_eq!(server.send(Method::DELETE, &path(1), "").await.status, 204);
    let failed = over(&server, 2).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(server.identify(&simulated(12, 3)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retrain_command_starts_and_watches_a_job() {
    let server = with_walkers(2).await;
    let retrain = |arguments: &[&str]| {
        let mut command = program();
        command.args(["retrain", "--url", &server.url("")]).args(arguments);
        command.output().unwrap()
    };
    let arguments = ["--watch", "--scope", "last-layers", "--epochs", "2"];
    let output = tokio::task::block_in_place(|| retrain(&arguments));
    assert!(output.status.success(), "{output:?}");
    let model = job(&server, 1).await["model"].as_str().unwrap().to_owned();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown, format!("job 1: model {model} is active\n"));
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("job 1: epoch 1 of 1, validation "), "{progress}");
}

#[tokio::test]
async fn a_model_with_classes_reports_each_epoch() {
    let server = with_walkers_and_classes(2).await;
    train(&server, json!({"scope": "last_layers", "epochs": 2, "activate": false})).await;
    let done = over(&server, 1).await;
    assert_eq!((&done["state"], &done["epochs"]), (&json!("succeeded"), &json!(2)), "{done}");
    let seen = all_events(&server, 1).await;
    let epochs: Vec<&Value> = seen.iter().map(|(_, job)| &job["epoch"]).collect();
    assert_eq!(epochs, [0, 0, 1, 2, 2]);
    assert!(seen[2].1["loss"].is_number() && seen[2].1["validation_accuracy"].is_number());
    let training_data = models(&server).await.pop().unwrap()["training_data"].clone();
    assert!(training_data.as_str().unwrap().starts_with("2 users, recordings of SHA-256 "));
}

#[tokio::test]
async fn a_second_refit_starts_from_the_shipped_model_and_forgets_deleted_users() {
    let server = with_walkers(3).await;
    let shipped = models(&server).await[0]["model"].clone();
    train(&server, short()).await;
    let first = over(&server, 1).await;
    assert_eq!(first["activated"], true, "{first}");
    // The same walks give the same model, as no walk counts twice.
    train(&server, short()).await;
    let second = over(&server, 2).await;
    assert_eq!((&second["model"], &second["parent"]), (&first["model"], &first["model"]));
    assert_eq!(server.send(Method::DELETE, "/v1/users/user-2", "").await.status, 204);
    train(&server, json!({"activate": false})).await;
    let third = over(&server, 3).await;
    let all = models(&server).await;
    let made = all.iter().find(|model| model["model"] == third["model"]).unwrap();
    assert_eq!((&made["parent"], all.len()), (&shipped, 3), "{third}");

    let never = with_walkers(2).await;
    train(&never, json!({"activate": false})).await;
    assert_eq!(over(&never, 1).await["model"], third["model"]);
}

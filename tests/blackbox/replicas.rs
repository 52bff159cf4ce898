//! Several servers that share a PostgreSQL database answer as one.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};

use crate::models::{self, twin};
use crate::support::{
    self, Answer, READ_TIMEOUT, Server, create_key, printed, program, run_sql, simulated,
};

/// Two servers of one database. `None` without PostgreSQL, which the tests then say.
fn two(arguments: &[&str]) -> Option<[Server; 2]> {
    let one = Server::with_arguments(arguments);
    let Some(other) = one.beside(arguments) else {
        eprintln!("skipped: several servers need PostgreSQL; run this with tests/postgres.sh");
        return None;
    };
    Some([one, other])
}

/// The change that an answer names.
fn change(response: &Response) -> String {
    response.headers()["bipedalnet-change"].to_str().unwrap().to_owned()
}

/// Enrolls a walk, and returns the change.
async fn enroll(server: &Server, user: &str, person: u64, walk: u64) -> String {
    let path = format!("/v1/users/{user}/enrollments");
    let sent = server.request(Method::POST, &path, support::json(&simulated(person, walk)));
    let response = sent.send().await.unwrap();
    let named = change(&response);
    let answer = support::answer(response).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    named
}

/// Sends a request that needs a change. A server that is slow to learn of it says so, and is asked again.
async fn after(server: &Server, change: &str, path: &str, body: String) -> Answer {
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = once_after(server, change, path, body.clone()).await;
        let is_late = answer.body["type"] == "urn:bipedalnet:problem:change-not-here";
        if !is_late || begin.elapsed() > READ_TIMEOUT {
            return answer;
        }
        assert!(
            asked.elapsed() > Duration::from_millis(900),
            "the server did not wait: {answer:?}"
        );
    }
}

async fn once_after(server: &Server, change: &str, path: &str, body: String) -> Answer {
    let request = server.request(Method::POST, path, body).header("bipedalnet-after", change);
    support::answer(request.send().await.unwrap()).await
}

async fn identify_after(server: &Server, change: &str, person: u64) -> Option<String> {
    let answer = after(server, change, "/v1/identify", support::json(&simulated(person, 9))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["user"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_change_shows_on_another_server_to_those_who_name_it() {
    let Some([one, other]) = two(&[]) else { return };
    one.put_user("ann").await;
    other.put_user("bob").await;
    let ann = enroll(&one, "ann", 11, 1).await;
    assert_eq!(identify_after(&other, &ann, 11).await.as_deref(), Some("ann"));
    let bob = enroll(&other, "bob", 12, 1).await;
    assert_eq!(identify_after(&one, &bob, 12).await.as_deref(), Some("bob"));

    let deleted = one.request(Method::DELETE, "/v1/users/bob", "").send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let deleted = change(&deleted);
    assert_eq!(identify_after(&other, &deleted, 12).await, None);
    assert_eq!(other.get("/v1/users/bob").await.status, 404);

    for wrong in ["soon", "1", "1-x"] {
        let body = support::json(&simulated(11, 9));
        let refused = after(&other, wrong, "/v1/identify", body).await;
        assert_eq!(refused.problem(), (400, "invalid-change"), "{wrong}");
    }
    // A change that no server has made yet.
    let (timeline, _) = ann.split_once('-').unwrap();
    let body = support::json(&simulated(11, 9));
    let change = format!("{timeline}-99999999");
    let refused = once_after(&other, &change, "/v1/identify", body).await;
    assert_eq!(refused.problem(), (409, "change-not-here"));
}

#[tokio::test]
async fn walks_of_one_user_that_two_servers_enroll_at_once_add_up() {
    let Some([one, other]) = two(&[]) else { return };
    one.put_user("ann").await;
    let enroll = async |server: &Server, walk| {
        let answer = server.enroll("ann", &simulated(11, walk)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["enrollments"].as_u64().unwrap()
    };
    for round in 0..4 {
        let walk = 2 * round + 1;
        let (first, second) = tokio::join!(enroll(&one, walk), enroll(&other, walk + 1));
        let mut counted = [first, second];
        counted.sort_unstable();
        assert_eq!(counted, [walk, walk + 1]);
    }
    // The same walk, sent to both: one of them refuses it.
    let walk = simulated(11, 20);
    let (first, second) = tokio::join!(one.enroll("ann", &walk), other.enroll("ann", &walk));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let [one, other] = [one.get("/v1/users/ann").await.body, other.get("/v1/users/ann").await.body];
    assert_eq!(one, other);
    assert_eq!(one["enrollments"], 9);
}

#[tokio::test]
async fn a_request_that_is_sent_to_two_servers_is_carried_out_once() {
    let Some([one, other]) = two(&[]) else { return };
    one.put_user("ann").await;
    for walk in 1..5 {
        let body = support::json(&simulated(11, walk));
        let send = async |server: &Server| {
            let request = server.request(Method::POST, "/v1/users/ann/enrollments", body.clone());
            let key = format!("walk-{walk}");
            support::answer(request.header("idempotency-key", key).send().await.unwrap()).await
        };
        let (first, second) = tokio::join!(send(&one), send(&other));
        assert_eq!((first.status, second.status), (201, 201), "{first:?} {second:?}");
        assert_eq!(first.body, second.body);
        assert_eq!(send(&one).await.body, first.body);
        assert_eq!(send(&other).await.body, first.body);
    }
    assert_eq!(other.get("/v1/users/ann").await.body["enrollments"], 4);
}

#[tokio::test]
async fn a_user_whom_two_servers_create_is_one() {
    let Some([one, other]) = two(&[]) else { return };
    for user in ["ann", "bob", "cem", "dan"] {
        let (first, second) = tokio::join!(one.put_user(user), other.put_user(user));
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "{user}");
    }
    assert_eq!(run_sql(&one.database(), "SELECT count(*) FROM users"), "4");
}

#[tokio::test]
async fn a_challenge_of_one_server_is_used_once_on_another() {
    let Some([one, other]) = two(&[]) else { return };
    one.put_user("ann").await;
    let ann = enroll(&one, "ann", 11, 1).await;
    let challenge = one.send(Method::POST, "/v1/users/ann/challenges", "").await;
    let nonce = challenge.body["challenge"].as_str().unwrap().to_owned();
    let path = format!("/v1/users/ann/verify?challenge={nonce}");
    let verify = async |server: &Server, walk| {
        after(server, &ann, &path, support::json(&simulated(11, walk))).await
    };
    let (first, second) = tokio::join!(verify(&other, 2), verify(&one, 3));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{first:?} {second:?}");
    assert_eq!(verify(&other, 4).await.problem(), (409, "bad-challenge"));
}

#[tokio::test]
async fn a_model_that_one_server_activates_answers_on_the_other() {
    let keeping = ["--keep-recordings-days", "1"];
    let Some([one, other]) = two(&keeping) else { return };
    one.put_user("ann").await;
    enroll(&one, "ann", 11, 1).await;
    let file = twin(1);
    let folder = tempfile::tempdir().unwrap();
    let path = models::write(&folder, &file);
    // It registers the model, and is the third that has to load it.
    let third = one.beside(&[&keeping[..], &["--model", path.to_str().unwrap()]].concat()).unwrap();
    let shipped = one.identify(&simulated(11, 9)).await.body["model"].clone();
    let activate = async |server: &Server, model: &str| {
        let path = format!("/v1/models/{model}/activate");
        let sent = server.request(Method::POST, &path, "{\"force\": true}").send().await.unwrap();
        assert_eq!(sent.status(), 200);
        change(&sent)
    };
    let mut active = shipped.as_str().unwrap().to_owned();
    for (round, server) in [&one, &other, &third, &one].into_iter().enumerate() {
        let next =
            if round % 2 == 0 { models::id(&file) } else { shipped.as_str().unwrap().into() };
        assert_ne!(active, next);
        let change = activate(server, &next).await;
        for server in [&one, &other, &third] {
            let body = support::json(&simulated(11, 9));
            let answer = after(server, &change, "/v1/identify", body).await;
            assert_eq!(answer.body["model"], next, "{answer:?}");
            assert_eq!(answer.body["user"], "ann", "{answer:?}");
        }
        // A walk that is enrolled elsewhere is read by the new model.
        let user = format!("user{round}");
        other.put_user(&user).await;
        let enrolled = enroll(&other, &user, 20 + round as u64, 1).await;
        assert_eq!(identify_after(&third, &enrolled, 20 + round as u64).await, Some(user));
        active = next;
    }
}

#[tokio::test]
async fn keys_and_collections_of_one_server_count_on_the_other() {
    let Some([one, other]) = two(&[]) else { return };
    assert_eq!(one.send(Method::PUT, "/v1/collections/shop", "{}").await.status, 201);
    let until = async |server: &Server, path: &str, status: u16| {
        let begin = Instant::now();
        while server.get(path).await.status != status {
            assert!(begin.elapsed() < READ_TIMEOUT, "{path}: not {status}");
        }
    };
    until(&other, "/v1/users?collection=shop", 200).await;
    create_key(&one.database(), "admin");
    until(&other, "/v1/users", 401).await;
    until(&one, "/v1/users", 401).await;
}

#[tokio::test]
async fn a_server_that_was_off_goes_by_the_same_time_as_the_others() {
    let Some([one, other]) = two(&[]) else { return };
    // As if no server had run for ten hours.
    let earlier = "UPDATE retention_clock SET seen_at_unix_seconds = seen_at_unix_seconds - 36000";
    run_sql(&one.database(), earlier);
    let put_user = async |server: &Server, user: &str, key: &str| {
        let request = server.request(Method::PUT, &format!("/v1/users/{user}"), "");
        support::answer(request.bearer_auth(key).send().await.unwrap()).await
    };
    let mut keys = Vec::new();
    let third = other.beside(&[]).unwrap();
    // It reads keys each time before it looks at the clock. So once it knows the second, it has looked.
    for _ in 0..2 {
        let key = create_key(&one.database(), "enroll");
        for server in [&third, &other] {
            let begin = Instant::now();
            while put_user(server, "cem", &key).await.status >= 400 {
                assert!(begin.elapsed() < READ_TIMEOUT);
            }
        }
        keys.push(key);
    }
    let mut created = Vec::new();
    for (server, user) in [(&other, "ann"), (&third, "bob")] {
        let made = put_user(server, user, &keys[0]).await.body;
        created.push(made["created_at_unix_seconds"].as_i64().unwrap());
    }
    assert!(created[0].abs_diff(created[1]) < 600, "{created:?}");
}

#[tokio::test]
async fn templates_are_not_renewed_while_a_server_runs() {
    let Some([one, other]) = two(&[]) else { return };
    one.put_user("ann").await;
    let ann = enroll(&one, "ann", 11, 1).await;
    assert_eq!(identify_after(&other, &ann, 11).await.as_deref(), Some("ann"));
    let renew = || {
        let mut command = program();
        printed(command.arg("renew-templates").arg("--database").arg(one.database()))
    };
    let doctor = || printed(program().arg("doctor").arg("--database").arg(one.database())).unwrap();
    // A server that is stalled for three seconds does not count.
    let both = format!("2 of version {} run on ", env!("CARGO_PKG_VERSION"));
    while !doctor().contains(&both) {}
    let refused = renew().unwrap_err();
    assert!(refused.contains("running servers; stop all of them first"), "{refused}");
    assert_eq!(identify_after(&other, &ann, 11).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_rotated_master_key_opens_the_keyring_and_the_old_one_does_not() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let database = server.database();
    if database.is_absolute() {
        eprintln!("skipped: storage_faults.rs rotates the master key of SQLite");
        return;
    }
    let key = server.folder.path().join("new-key");
    let rotate = |arguments: &[&Path]| {
        let mut command = program();
        command.arg("rotate-master-key").arg("--database").arg(&database);
        printed(command.args(arguments))
    };
    let named = [Path::new("--new-master-key-file"), &key];
    let refused = rotate(&named).unwrap_err();
    assert!(refused.contains("running servers; stop all of them first"), "{refused}");
    let folder = server.kill();
    let refused = rotate(&[]).unwrap_err();
    assert!(refused.contains("name a file with --new-master-key-file"), "{refused}");
    rotate(&named).unwrap();
    let refused = rotate(&named).unwrap_err();
    assert!(refused.contains("does not open it"), "{refused}");
    let server = Server::start_with(folder, &["--master-key-file", key.to_str().unwrap()]);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(server.enroll("ann", &simulated(11, 3)).await.status, 201);
}

//! API keys, scopes and quotas.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    self, Answer, Server, Signal, create_key, database_in, printed, program, simulated,
};

fn keys(server: &Server, arguments: &[&str]) -> String {
    let mut command = program();
    command.args(["keys", "--database"]).arg(server.database()).args(arguments);
    printed(&mut command).unwrap()
}

async fn with_key(server: &Server, key: &str, method: Method, path: &str, body: String) -> Answer {
    // The server closes a connection if it refuses a request before it has read the body, so each
    // request needs its own.
    let request = support::client().request(method, server.url(path)).bearer_auth(key);
    let request = request.header("content-type", "application/json").body(body);
    support::answer(request.send().await.unwrap()).await
}

/// Repeats a request until the server has noticed what `keys` changed.
async fn wait_for(server: &Server, key: &str, status: StatusCode) {
    while with_key(server, key, Method::GET, "/v1/users/ann", String::new()).await.status != status
    {
        tokio::task::yield_now().await;
    }
}

/// Repeats a request without a key until the server asks for one.
pub async fn wait_until_keys_are_required(server: &Server) {
    while server.get("/v1/users/ann").await.status != 401 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_the_first_key_each_request_needs_a_key_with_its_scope() {
    let server = Server::start();
    let walk = support::json(&simulated(11, 1));
    let other_walk = support::json(&simulated(11, 2));
    assert_eq!(server.put_user("ann").await.status, 201);

    let all = create_key(&server.database(), "identify,enroll,admin,scores");
    wait_until_keys_are_required(&server).await;
    assert_eq!(server.put_user("bob").await.status, 401);
    let identify = create_key(&server.database(), "identify");
    let enroll = create_key(&server.database(), "enroll");
    wait_for(&server, &identify, StatusCode::FORBIDDEN).await;
    wait_for(&server, &enroll, StatusCode::OK).await;

    let enrollments = "/v1/users/ann/enrollments";
    let verify = "/v1/users/ann/verify";
    for (method, path, body, by_all, by_identify, by_enroll) in [
        (Method::PUT, "/v1/users/ann", "", 200, 403, 200),
        // The second time the walk is enrolled already.
        (Method::POST, enrollments, &walk[..], 201, 403, 409),
        (Method::DELETE, "/v1/users/ann/enrollments/9", "", 404, 403, 403),
        (Method::GET, enrollments, "", 200, 403, 200),
        (Method::GET, "/v1/users", "", 200, 403, 403),
        (Method::GET, "/v1/users/ann/export", "", 200, 403, 403),
        (Method::POST, "/v1/identify", &other_walk, 200, 200, 403),
        (Method::POST, verify, &other_walk, 200, 200, 403),
        (Method::POST, "/v1/users/ann/challenges", "", 201, 201, 403),
        (Method::GET, "/livez", "", 200, 200, 200),
        (Method::GET, "/openapi.json", "", 200, 200, 200),
        (Method::GET, "/nowhere", "", 404, 404, 404),
    ] {
        for (key, expected) in [(&all, by_all), (&identify, by_identify), (&enroll, by_enroll)] {
            let answer = with_key(&server, key, method.clone(), path, body.to_owned()).await;
            assert_eq!(answer.status, expected, "{method} {path} {answer:?}");
        }
    }

    // Only a key with the scope `scores` sees scores.
    let decision = async |key: &str| {
        with_key(&server, key, Method::POST, "/v1/identify", other_walk.clone()).await.body
    };
    let (full, bare) = (decision(&all).await, decision(&identify).await);
    assert_eq!((&full["user"], &bare["user"]), (&json!("ann"), &json!("ann")));
    assert!(full["candidates"][0]["score"].is_number());
    assert!(full["candidates"][0]["estimated_fmr"].as_f64().unwrap() < 0.01, "{full}");
    assert_eq!(bare.get("candidates"), None);
    let third = support::json(&simulated(11, 3));
    let answer = with_key(&server, &identify, Method::POST, verify, third).await;
    assert_eq!(answer.body["decision"], "accept");
    assert_eq!((answer.body.get("score"), answer.body.get("estimated_fmr")), (None, None));

    // Each item of a batch needs its scope too.
    let batch = json!({"items": [
        {"identify": {"walk": serde_json::from_str::<Value>(&other_walk).unwrap()}},
        {"enroll": {"user": "ann", "walk": serde_json::from_str::<Value>(&walk).unwrap()}},
    ]});
    let answer =
        with_key(&server, &identify, Method::POST, "/v1/batch", batch.to_string()).await.body;
    let statuses = [0, 1].map(|item| answer["outcomes"][item]["status"].as_i64());
    assert_eq!(statuses, [Some(200), Some(403)]);

    // Invalid keys.
    let last = if all.ends_with('0') { '1' } else { '0' };
    let wrong_secret = format!("{}{last}", &all[..all.len() - 1]);
    let unknown = all.replace(&all[4..16], "000000000000");
    for bad in [&wrong_secret, &unknown, "bpn_", "x", ""] {
        let answer = with_key(&server, bad, Method::GET, "/v1/users", String::new()).await;
        assert_eq!(answer.status, 401, "{bad}: {answer:?}");
    }
    let answer = support::client().get(server.url("/v1/users")).send().await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let answer = support::answer(answer).await;
    insta::assert_json_snapshot!("no_api_key", answer.body);
    let answer = with_key(&server, &enroll, Method::GET, "/v1/users", String::new()).await;
    insta::assert_json_snapshot!("missing_scope", answer.body);

    // A revoked key is invalid, and the service still asks for keys when all are revoked.
    let list = keys(&server, &["list"]);
    assert!(list.contains(&all[4..16]) && !list.contains(&all[17..]), "{list}");
    for key in [&all, &identify, &enroll] {
        keys(&server, &["revoke", &key[4..16]]);
    }
    wait_for(&server, &all, StatusCode::UNAUTHORIZED).await;
    assert_eq!(server.put_user("bob").await.status, 401);
    let server = Server::start_in(server.kill());
    assert_eq!(server.put_user("bob").await.status, 401);
    // The database holds only digests.
    let bytes = std::fs::read(server.database()).unwrap();
    let secret = &all.as_bytes()[17..];
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test]
async fn clients_with_different_keys_can_use_the_same_idempotency_key() {
    let server = Server::start();
    let [one, other] = ["one", "other"].map(|_| create_key(&server.database(), "enroll"));
    wait_until_keys_are_required(&server).await;
    for key in [&one, &other] {
        wait_for(&server, key, StatusCode::NOT_FOUND).await;
    }
    for (key, user) in [(&one, "ann"), (&other, "bob")] {
        let request = server.request(Method::PUT, &format!("/v1/users/{user}"), "");
        let request = request.bearer_auth(key).header("idempotency-key", "first");
        assert_eq!(request.send().await.unwrap().status(), 201);
    }
}

#[test]
fn without_a_key_the_server_listens_only_on_loopback_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let database = database_in(folder.path());
    let serve = || {
        let mut command = program();
        command.args(["serve", "--listen", "0.0.0.0:0", "--database"]).arg(&database);
        command
    };
    let message = printed(&mut serve()).unwrap_err();
    for part in ["bipedalnet keys create", "127.0.0.1", "--allow-anonymous"] {
        assert!(message.contains(part), "{message}");
    }
    let mut allowed = serve().arg("--allow-anonymous").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(allowed.stderr.take().unwrap()).lines();
    let serves = lines.any(|line| line.unwrap().contains("address=0.0.0.0:"));
    allowed.kill().unwrap();
    allowed.wait().unwrap();
    assert!(serves);
}

#[tokio::test]
async fn quotas_are_announced_and_enforced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["--address-requests-per-second", "1"]);
    let client = support::client();
    let get = async || client.get(server.url("/v1/users/ann")).send().await.unwrap();
    let first = get().await;
    assert_eq!(first.headers()["ratelimit-policy"], "\"address\";q=10;w=10");
    assert_eq!(first.headers()["ratelimit"], "\"address\";r=9;t=1");
    let limited = loop {
        let answer = get().await;
        if answer.status() != 404 {
            break answer;
        }
    };
    assert_eq!(limited.headers()["retry-after"], "1");
    assert_eq!(limited.headers()["ratelimit"], "\"address\";r=0;t=10");
    let answer = support::answer(limited).await;
    assert_eq!(answer.status, 429);
    insta::assert_json_snapshot!("too_many_requests", answer.body);
}

#[tokio::test]
async fn each_key_has_its_own_quota() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["--key-requests-per-second", "1"]);
    let [one, other] = ["one", "other"].map(|_| create_key(&server.database(), "enroll"));
    wait_until_keys_are_required(&server).await;
    wait_for(&server, &one, StatusCode::TOO_MANY_REQUESTS).await;
    wait_for(&server, &other, StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn the_log_has_no_keys_users_or_walks() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(database_in(folder.path()))
        .env("BIPEDALNET_LOG_LEVEL", "trace")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let address = loop {
        let line = lines.next().unwrap().unwrap();
        log.push(line.clone());
        if let Some(address) = support::field(&line, "address=") {
            break address;
        }
    };
    let url = |path: &str| format!("http://{address}{path}");
    let walk = support::json(&simulated(11, 1));
    let client = support::client();
    let secret = "bpn_0123456789ab_secretsecret";
    for (method, path) in [
        (Method::PUT, "/v1/users/ann-of-ancona"),
        (Method::POST, "/v1/users/ann-of-ancona/enrollments"),
        (Method::POST, "/v1/identify"),
        (Method::POST, "/v1/users/ann-of-ancona/verify"),
        (Method::POST, "/v1/users/ann-of-ancona/verify?fmr=7"),
        (Method::DELETE, "/v1/users/ann-of-ancona"),
    ] {
        let request = client.request(method, url(path)).bearer_auth(secret);
        let request = request.header("content-type", "application/json").body(walk.clone());
        assert_ne!(request.send().await.unwrap().status(), 500);
    }
    support::signal(&process, Signal::TERM);
    log.extend(lines.map(Result::unwrap));
    process.wait().unwrap();
    let log = log.join("\n");
    assert!(log.contains("/v1/users/{user}/enrollments"), "the log has too little to check: {log}");
    let sample = walk.split(['[', ',']).filter(|part| part.len() > 6).nth(300).unwrap();
    for word in ["ancona", "secretsecret", sample] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn bodies_of_unauthorized_requests_are_not_buffered() {
    let server = Server::start();
    create_key(&server.database(), "enroll");
    wait_until_keys_are_required(&server).await;
    let resident_kib = || -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = resident_kib();
    let part = vec![b' '; 1 << 20];
    // Each body lacks its last byte, so that all requests are open at the same time.
    let mut connections = Vec::new();
    for _ in 0..60 {
        let mut stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
        let head = format!(
            "POST /v1/identify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            part.len() + 1
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&part).await.unwrap();
        connections.push(stream);
    }
    assert!(resident_kib() < before + 30 * 1024, "{before} {}", resident_kib());
    for mut stream in connections {
        stream.write_all(b" ").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 401");
    }
}

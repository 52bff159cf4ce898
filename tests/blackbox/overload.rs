//! Requests that try to take more memory or compute than they should.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bipedalnet_client::api::{ExportAnswer, ExportedWalk};
use bipedalnet_core::cbor;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Precision, compact, exact};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json as document;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::wait_until_keys_are_required;
use crate::support::{self, Answer, Server, create_key, json, simulated, simulated_for};

/// Most resident memory of a server so far, in MiB.
#[cfg(target_os = "linux")]
fn peak_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Sends CBOR that is compressed with zstd.
async fn send_cbor(server: &Server, path: &str, cbor: &[u8]) -> Answer {
    send_cbor_as(server, "", path, cbor).await
}

async fn send_cbor_as(server: &Server, key: &str, path: &str, cbor: &[u8]) -> Answer {
    let body = zstd::encode_all(cbor, 3).unwrap();
    let mut request = support::client().post(server.url(path));
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    let request = request.header("content-type", "application/cbor");
    let request = request.header("content-encoding", "zstd").body(body);
    support::answer(request.send().await.unwrap()).await
}

/// The CBOR of a list with this many times the same items.
fn list(count: u32, item: &[u8]) -> Vec<u8> {
    [&[0x9a], &count.to_be_bytes()[..], &item.repeat(count as usize)].concat()
}

/// The CBOR of a map with one entry.
fn map(key: &str, value: &[u8]) -> Vec<u8> {
    maps(&[(key, value)])
}

/// The CBOR of a map.
fn maps(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let entry =
        |(key, value): &(&str, &[u8])| [&[0x60 + key.len() as u8], key.as_bytes(), value].concat();
    let mut map = vec![0xa0 + entries.len() as u8];
    map.extend(entries.iter().flat_map(entry));
    map
}

#[cfg(target_os = "linux")]
/// Repeats a request until the server knows a key, and those that were created before it.
async fn wait_until_it_counts(server: &Server, key: &str) {
    let models = async || {
        let request = server.request(Method::GET, "/v1/models", "").bearer_auth(key);
        request.send().await.unwrap().status()
    };
    // Without any key, the server answers everybody.
    while server.get("/v1/models").await.status != 401 || models().await != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_short_body_does_not_become_a_large_document() {
    let server = Server::start();
    server.put_user("ann").await;
    let path = "/v1/users/ann/enrollments";
    let features = map("features", &list(2_000_000, &[0x80]));
    let requests = (0..60).map(|_| send_cbor(&server, path, &features));
    for answer in join_all(requests).await {
        assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
        assert_eq!(answer.body["field"], "features");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("too many values; at most 3660 are allowed"), "{detail}");
    }
    // Two million lists take 46 MiB.
    assert!(peak_mib(&server) < 200, "{}", peak_mib(&server));
}

#[tokio::test]
async fn each_list_of_a_document_is_bounded() {
    let server = Server::start();
    server.put_user("ann").await;
    let walk = |field: &str, count, item: &[u8]| map(field, &list(count, item));
    let samples = walk("acceleration", 732_001, &[0x83, 0, 0, 0]);
    for (cbor, field) in [
        (walk("time_seconds", 732_001, &[0]), "time_seconds"),
        (walk("features", 1, &list(8_193, &[0])), "features[0]"),
    ] {
        let answer = send_cbor(&server, "/v1/users/ann/enrollments", &cbor).await;
        assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
        assert_eq!(answer.body["field"].as_str().unwrap_or_default(), field, "{answer:?}");
    }
    assert_eq!(send_cbor(&server, "/v1/identify", &samples).await.status, 413);
    let users: Vec<String> = (0..1_001).map(|user| format!("u{user}")).collect();
    let item = document!({"identify": {"walk": {}, "among": users}});
    let answer =
        server.send(Method::POST, "/v1/batch", document!({"items": [item]}).to_string()).await;
    assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
    assert_eq!(answer.body["field"], "items[0].identify.among");
    let query = format!("/v1/identify?among={}", users.join(","));
    let answer = server.send(Method::POST, &query, json(&simulated(11, 1))).await;
    assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
    assert_eq!(answer.body["field"], "among");
}

#[tokio::test]
async fn one_sender_does_not_take_all_memory_for_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["--request-timeout-seconds", "600"]);
    let [greedy, other] = [(); 2].map(|()| create_key(&server.database(), "identify"));
    wait_until_it_counts(&server, &other).await;
    const BODIES: usize = 33;
    const BODY_BYTES: usize = 2_000_000;
    let part = vec![b' '; BODY_BYTES - 1];
    // Each body lacks its last byte, so that all are in memory at the same time.
    let mut connections = Vec::new();
    for _ in 0..BODIES {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        let head = format!(
            "POST /v1/identify HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {greedy}\r\n\
             content-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&part).await.unwrap();
        connections.push(stream);
    }
    while server.scrape().await["bipedalnet_http_request_bodies_bytes"]
        < (BODIES * part.len()) as f64
    {
        tokio::task::yield_now().await;
    }
    let walk = json(&simulated(11, 1));
    let send = async |key: &str, body: Vec<u8>| {
        let request = server.request(Method::POST, "/v1/identify", body).bearer_auth(key);
        support::answer(request.send().await.unwrap()).await
    };
    // Half of 128 MiB is taken, and no sender may hold more than is left.
    let padded = [walk.as_bytes(), &part[..BODY_BYTES - walk.len()]].concat();
    let refused = send(&greedy, padded.clone()).await;
    assert_eq!(refused.problem(), (503, "overloaded"), "{refused:?}");
    assert_eq!(send(&other, padded).await.status, StatusCode::OK);
    for mut stream in connections {
        stream.write_all(b" ").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 400");
    }
}

#[tokio::test]
async fn long_batches_of_one_key_do_not_delay_another() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["--request-timeout-seconds", "600"]);
    let [busy, other] = [(); 2].map(|()| create_key(&server.database(), "identify,enroll,extend"));
    wait_until_it_counts(&server, &other).await;
    let request = server.request(Method::PUT, "/v1/users/ann", "").bearer_auth(&busy);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    let compact =
        |walk, seconds| compact(&simulated_for(11, walk, seconds), &Precision::default()).unwrap();
    for walk in 0..2 {
        let path = "/v1/users/ann/enrollments";
        let answer = send_cbor_as(&server, &busy, path, &compact(walk, 600.0)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let verify = maps(&[("user", b"\x63ann"), ("walk", &compact(5, 119.0))]);
    let batch = map("items", &list(8, &map("verify", &verify)));
    let ended = AtomicUsize::new(0);
    let batches = join_all((0..8).map(|_| async {
        let answer = send_cbor_as(&server, &busy, "/v1/batch", &batch).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ended.fetch_add(1, Ordering::SeqCst);
    }));
    let identifications = async {
        while server.scrape().await["bipedalnet_pool_jobs_running"] == 0.0 {}
        let walk = compact(6, 10.0);
        for _ in 0..9 {
            let answer = send_cbor_as(&server, &other, "/v1/identify", &walk).await;
            assert_eq!(answer.body["user"], "ann", "{answer:?}");
        }
        // In one queue, each would wait for a verification of each batch: together for more than all.
        assert_eq!(ended.load(Ordering::SeqCst), 0);
    };
    tokio::join!(batches, identifications);
}

#[tokio::test]
async fn each_item_of_a_batch_counts_in_quotas() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder, &["--key-requests-per-second", "1"]);
    let key = create_key(&server.database(), "identify,enroll");
    wait_until_keys_are_required(&server).await;
    let begin = Instant::now();
    let send = async |items: usize| {
        let body = document!({"items": vec![document!({"identify": {"walk": {}}}); items]});
        let request = server.request(Method::POST, "/v1/batch", body.to_string()).bearer_auth(&key);
        let response = request.send().await.unwrap();
        let left = response.headers()["ratelimit"].to_str().unwrap().to_owned();
        (support::answer(response).await, left)
    };
    let (answer, left) = send(7).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let possible = 3.0..=3.0 + begin.elapsed().as_secs_f64();
    assert!(possible.contains(&support::requests_left(&left)), "{left}");
    let (answer, left) = send(9).await;
    assert_eq!(answer.problem(), (429, "too-many-requests"), "{answer:?}");
    assert!(left.starts_with("\"key\";r=0;"), "{left}");
    let detail =
        "this key may send 1 requests a second; wait; each item counts as a request: 8 more";
    assert_eq!(answer.body["detail"], detail);
    let (answer, _) = send(12).await;
    assert_eq!(answer.problem(), (422, "batch-size"), "{answer:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_export_takes_the_memory_of_one_walk() {
    let server = Server::start_with(
        tempfile::tempdir().unwrap(),
        &["--keep-recordings-days", "1", "--max-body-bytes", "8388608"],
    );
    server.put_user("ann").await;
    const WALKS: usize = 10;
    let conditions = Conditions { seconds: 400.0, rate_hz: 200.0, ..Conditions::default() };
    for walk in 0..WALKS {
        let walk = exact(&Walker::new(11).walk(walk as u64, &conditions));
        let answer = send_cbor(&server, "/v1/users/ann/enrollments", &walk).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let get = async |accept| {
        let request = support::client().get(server.url("/v1/users/ann/export"));
        request.header("accept", accept).send().await.unwrap()
    };
    let before = peak_mib(&server);
    let text = get("application/json").await.bytes().await.unwrap();
    assert!(text.len() > 60 << 20, "{}", text.len());
    let taken = peak_mib(&server) - before;
    assert!(taken < 60, "{before} {taken}");
    let export: ExportAnswer = serde_json::from_slice(&text).unwrap();
    assert_eq!(export.walks.len(), WALKS);
    assert!(export.walks.iter().all(|walk| walk.recording.is_some()));
    let same = get("application/cbor").await.bytes().await.unwrap();
    let same: ExportAnswer = cbor::from_slice(&same).unwrap();
    // Numbers are rounded differently.
    assert_eq!((&same.user, &same.fingerprints), (&export.user, &export.fingerprints));
    for (walk, other) in same.walks.iter().zip(&export.walks) {
        let samples = |walk: &ExportedWalk| walk.recording.as_ref().unwrap().acceleration.len();
        assert_eq!((&walk.enrollment, samples(walk)), (&other.enrollment, samples(other)));
    }
    assert_eq!(same.walks.len(), WALKS);

    // An export that fails does not look as if it were whole.
    let mut broken = get("application/json").await;
    assert!(broken.chunk().await.unwrap().is_some());
    assert_eq!(server.send(Method::DELETE, "/v1/users/ann", "").await.status, 204);
    assert!(broken.bytes().await.is_err());
}

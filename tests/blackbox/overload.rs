//! Requests that try to take more memory than they should.

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json as document;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::wait_until_keys_are_required;
use crate::support::{self, Answer, Server, create_key, json, simulated};

/// Most resident memory of a server so far, in MiB.
#[cfg(target_os = "linux")]
fn peak_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Sends CBOR that is compressed with zstd.
async fn send_cbor(server: &Server, path: &str, cbor: &[u8]) -> Answer {
    let body = zstd::encode_all(cbor, 3).unwrap();
    let request = support::client().post(server.url(path));
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
    [&[0xa1, 0x60 + key.len() as u8], key.as_bytes(), value].concat()
}

#[cfg(target_os = "linux")]
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
        (list(65, &[0xa0]), ""),
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
    let server = Server::start();
    let [greedy, other] = [(); 2].map(|()| create_key(&server.database(), "identify"));
    wait_until_keys_are_required(&server).await;
    const BODIES: usize = 33;
    const BODY_BYTES: usize = 2_000_000;
    let part = vec![b' '; BODY_BYTES - 1];
    // Each body lacks its last byte, so that all are in memory at the same time.
    let mut connections = Vec::new();
    for _ in 0..BODIES {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        let head = format!(
            "POST /v1/identify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {greedy}\r\n\
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

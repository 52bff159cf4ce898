//! Retries, duplicates and broken connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, Server, json, simulated, simulated_for};

/// Status, whether it is a stored response, and the body.
type Raw = (u16, bool, Vec<u8>);

async fn raw(request: RequestBuilder) -> reqwest::Result<Raw> {
    let response = request.send().await?;
    let replayed = response.headers().contains_key("idempotency-replayed");
    let status = response.status().as_u16();
    if status == 409 {
        assert_eq!(response.headers()["retry-after"], "1");
    }
    Ok((status, replayed, response.bytes().await?.to_vec()))
}

async fn send(server: &Server, method: Method, path: &str, key: &str, body: &str) -> Raw {
    let request = server.request(method, path, body.to_owned());
    raw(request.header("idempotency-key", key)).await.unwrap()
}

fn problem(answer: &Raw) -> Value {
    serde_json::from_slice::<Value>(&answer.2).unwrap()["type"].clone()
}

#[tokio::test]
async fn a_retry_gets_the_first_response_and_changes_nothing() {
    let mut server = Server::start();
    let walk = json(&simulated(11, 1));
    let put = async |server: &Server| send(server, Method::PUT, "/v1/users/ann", "k1", "").await;
    let path = "/v1/users/ann/enrollments";
    let enroll = async |server: &Server| send(server, Method::POST, path, "k2", &walk).await;
    let first = [put(&server).await, enroll(&server).await];
    assert_eq!(first.each_ref().map(|answer| (answer.0, answer.1)), [(201, false), (201, false)]);
    for restarted in [false, true] {
        if restarted {
            server = Server::start_in(server.kill());
        }
        let again = [put(&server).await, enroll(&server).await];
        for (first, again) in first.iter().zip(again) {
            assert_eq!(again, (first.0, true, first.2.clone()));
        }
        assert_eq!(server.get("/v1/users/ann").await.body["enrollments"], 1);
    }

    // Another body, path or method with the same key.
    for (method, path, body) in [
        (Method::POST, path, &json(&simulated(11, 2))[..]),
        (Method::POST, "/v1/users/bob/enrollments", &walk),
        (Method::DELETE, "/v1/users/ann", ""),
    ] {
        let answer = send(&server, method, path, "k2", body).await;
        assert_eq!(answer.0, 422);
        assert_eq!(problem(&answer), "urn:bipedalnet:problem:idempotency-key-reused");
    }
    let answer = send(&server, Method::PUT, "/v1/users/ann", &"k".repeat(256), "").await;
    assert_eq!(problem(&answer), "urn:bipedalnet:problem:invalid-idempotency-key");

    // A request that failed changed nothing, so its key can be used again.
    let short = "{\"rate_hz\":50,\"acceleration\":[[0,0,9.8]]}";
    assert_eq!(send(&server, Method::POST, path, "k3", short).await.0, 422);
    assert_eq!(send(&server, Method::POST, path, "k3", &json(&simulated(11, 3))).await.0, 201);

    // A retried deletion gets its stored response too. Deleting the user deletes the other responses,
    // but the keys stay known: a late duplicate does not bring the user back.
    let erase = async || send(&server, Method::DELETE, "/v1/users/ann", "k4", "").await;
    assert_eq!(erase().await, (204, false, Vec::new()));
    assert_eq!(erase().await, (204, true, Vec::new()));
    for answer in [enroll(&server).await, put(&server).await] {
        assert_eq!(
            (answer.0, problem(&answer)),
            (410, "urn:bipedalnet:problem:answer-erased".into())
        );
    }
    assert_eq!(server.get("/v1/users/ann").await.status, 404);
}

#[tokio::test]
async fn a_retry_may_use_another_version_of_http_and_another_host_name() {
    let server = Server::start();
    let port = server.address.rsplit(':').next().unwrap();
    let http1 = support::client_builder().http1_only().build().unwrap();
    let http2 = support::client_builder().http2_prior_knowledge().build().unwrap();
    let put = async |client: &Client, host: &str| {
        let request = client.put(format!("http://{host}:{port}/v1/users/ann"));
        raw(request.header("idempotency-key", "k")).await.unwrap()
    };
    let first = put(&http1, "127.0.0.1").await;
    assert_eq!((first.0, first.1), (201, false));
    for (client, host) in [(&http2, "127.0.0.1"), (&http2, "localhost"), (&http1, "localhost")] {
        assert_eq!(put(client, host).await, (201, true, first.2.clone()));
    }
}

#[tokio::test]
async fn concurrent_duplicates_count_once() {
    let server = Arc::new(Server::start());
    server.put_user("ann").await;
    let walk = Arc::new(json(&simulated(11, 1)));
    let requests: Vec<_> = (0..24)
        .map(|_| {
            let (server, walk) = (Arc::clone(&server), Arc::clone(&walk));
            tokio::spawn(async move {
                send(&server, Method::POST, "/v1/users/ann/enrollments", "once", &walk).await
            })
        })
        .collect();
    let mut first = 0;
    for request in requests {
        let answer = request.await.unwrap();
        match answer.0 {
            201 => first += usize::from(!answer.1),
            409 => assert_eq!(problem(&answer), "urn:bipedalnet:problem:request-in-flight"),
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(first, 1);
    assert_eq!(server.get("/v1/users/ann").await.body["enrollments"], 1);
}

/// Reads one HTTP message with a content-length, or as much as arrives before the connection breaks.
async fn message(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut needed = None;
    while needed.is_none_or(|needed| bytes.len() < needed) {
        let mut part = [0; 16384];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
        if needed.is_none()
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split("content-length:").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
            needed = Some(end + 4 + length.unwrap_or(0));
        }
    }
    bytes
}

/// A proxy that delays, breaks or repeats connections at random.
async fn bad_network(listener: TcpListener, server: String, broken: Arc<AtomicUsize>) {
    for number in 0.. {
        let (mut client, _) = listener.accept().await.unwrap();
        let (server, broken) = (server.clone(), Arc::clone(&broken));
        tokio::spawn(async move {
            let mut random = Pcg64Mcg::seed_from_u64(number);
            let request = message(&mut client).await;
            let fate = random.random_range(0..10);
            // Other connections may overtake this one.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..8))).await;
            let mut upstream = TcpStream::connect(&server).await.unwrap();
            if fate == 0 {
                // The request is cut.
                broken.fetch_add(1, Ordering::Relaxed);
                let part = random.random_range(0..request.len().max(1));
                let _ = upstream.write_all(&request[..part]).await;
                return;
            }
            let _ = upstream.write_all(&request).await;
            if fate == 1 {
                // The request arrives, but the client gets no response.
                broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let mut answer = message(&mut upstream).await;
            if fate == 2 {
                // The response is cut.
                broken.fetch_add(1, Ordering::Relaxed);
                answer.truncate(random.random_range(0..answer.len().max(1)));
            }
            if fate == 3 {
                // The request arrives twice, and the client gets the second response.
                broken.fetch_add(1, Ordering::Relaxed);
                let mut again = TcpStream::connect(&server).await.unwrap();
                let _ = again.write_all(&request).await;
                answer = message(&mut again).await;
            }
            let _ = client.write_all(&answer).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_enrollments_over_a_bad_network_are_stored_once_each() {
    const ENROLLMENTS: usize = 1000;
    const CLIENTS: usize = 16;
    let server = Server::start();
    server.put_user("ann").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broken = Arc::new(AtomicUsize::new(0));
    let network = bad_network(listener, server.address.clone(), Arc::clone(&broken));
    let network = tokio::spawn(network);
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let client = support::client_builder().pool_max_idle_per_host(0).build().unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= ENROLLMENTS {
                        return;
                    }
                    let walk = json(&simulated_for(11, number as u64, 3.0));
                    loop {
                        let request = client
                            .post(format!("http://{address}/v1/users/ann/enrollments"))
                            .header("content-type", "application/json")
                            .header("idempotency-key", format!("walk-{number}"))
                            .body(walk.clone());
                        match raw(request).await {
                            Ok((201, ..)) => break,
                            Ok((409 | 503, ..)) | Err(_) => {}
                            Ok(answer) => panic!("{answer:?}"),
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    network.abort();
    let broken = broken.load(Ordering::Relaxed);
    eprintln!("{broken} broken connections");
    assert!(broken > ENROLLMENTS / 5);
    let count =
        async |server: &Server| server.get("/v1/users/ann").await.body["enrollments"].clone();
    assert_eq!(count(&server).await, ENROLLMENTS);
    let server = Server::start_in(server.kill());
    assert_eq!(count(&server).await, ENROLLMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_enrollments_survive_kill_9_under_load() {
    const ROUNDS: usize = 20;
    const CLIENTS: usize = 8;
    let walk = |key: &str| {
        let number = key.split('-').fold(0, |sum, part| 1000 * sum + part.parse::<u64>().unwrap());
        json(&simulated_for(11, number, 3.0))
    };
    let mut server = Server::start();
    server.put_user("ann").await;
    let mut acknowledged: Vec<(String, Raw)> = Vec::new();
    for round in 0..ROUNDS {
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for client in 0..CLIENTS {
            let sender = sender.clone();
            let address = server.url("/v1/users/ann/enrollments");
            tokio::spawn(async move {
                for number in 0.. {
                    let key = format!("{round}-{client}-{number}");
                    let request = support::client()
                        .post(&address)
                        .header("content-type", "application/json")
                        .header("idempotency-key", &key)
                        .body(walk(&key));
                    // The server was killed.
                    let Ok(answer) = raw(request).await else { return };
                    assert_eq!(answer.0, 201);
                    if sender.send((key, answer)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Kill the server a little later in every round.
        for _ in 0..10 + 3 * round {
            acknowledged.push(answers.recv().await.unwrap());
        }
        let folder = server.kill();
        while let Some(answer) = answers.recv().await {
            acknowledged.push(answer);
        }
        server = Server::start_in(folder);
        let kept = server.get("/v1/users/ann").await.body["enrollments"].clone();
        let kept = kept.as_u64().unwrap() as usize;
        // Each client may have missed the response to its last request.
        let most = acknowledged.len() + (round + 1) * CLIENTS;
        assert!((acknowledged.len()..=most).contains(&kept), "{} {kept}", acknowledged.len());
    }
    eprintln!("{} acknowledged enrollments over {ROUNDS} kills", acknowledged.len());
    for (key, (status, _, body)) in acknowledged {
        let again =
            send(&server, Method::POST, "/v1/users/ann/enrollments", &key, &walk(&key)).await;
        assert_eq!(again, (status, true, body), "{key}");
    }
}

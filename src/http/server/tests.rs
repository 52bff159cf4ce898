use std::net::SocketAddr;
use std::path::Path;

use axum::routing::get;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::config::Config;

proptest! {
    #[test]
    fn only_the_whole_preface_is_http2_and_no_more_than_it_is_read(
        sent in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            (0..=PREFACE.len(), prop::collection::vec(any::<u8>(), 0..64))
                .prop_map(|(length, rest)| [&PREFACE[..length], &rest].concat()),
        ],
        piece in 1..30_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (first, rest) = runtime.block_on(async {
            let (mut client, mut server) = tokio::io::duplex(piece);
            let write = async {
                client.write_all(&sent).await.unwrap();
                drop(client);
            };
            let read = async {
                let first = first_bytes(&mut server).await.unwrap();
                let mut rest = Vec::new();
                server.read_to_end(&mut rest).await.unwrap();
                (first, rest)
            };
            tokio::join!(write, read).1
        });
        prop_assert_eq!(first == PREFACE, sent.starts_with(PREFACE));
        prop_assert_eq!([first, rest].concat(), sent);
    }
}

/// Long enough to fail a test that waits for it.
const NEVER: Duration = Duration::from_secs(3600);

const PATIENCE: Duration = Duration::from_secs(60);

const SOON: Duration = Duration::from_millis(100);

/// Without any limit in time, and with room for large responses.
pub(super) fn patient() -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: NEVER,
        idle_timeout: NEVER,
        stall_timeout: NEVER,
        unread_bytes: 4 * LARGE_BYTES,
        all_unread_bytes: 4 * LARGE_BYTES,
        ping_interval: NEVER,
        ping_timeout: NEVER,
        longest_life: NEVER,
        notice: NEVER,
        drain_timeout: NEVER,
        ..ConnectionLimits::from(&Config::throwaway(Path::new("none")).connections)
    }
}

/// More than the buffers of a connection hold.
const LARGE_BYTES: usize = 64 << 20;

async fn start(limits: ConnectionLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/small", get(|| async { "small" }))
        .route("/large", get(|| async { vec![0_u8; LARGE_BYTES] }));
    serve_on(listener, router, limits);
    address
}

fn serve_on(listener: TcpListener, router: Router, limits: ConnectionLimits) -> ConnectionMetrics {
    let metrics = ConnectionMetrics::unregistered();
    let stop = std::future::pending();
    tokio::spawn(serve(listener, router, limits, None, metrics.clone(), stop));
    metrics
}

async fn send(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that the server sends before it closes the connection.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let read = stream.read_to_end(&mut received);
    match tokio::time::timeout(PATIENCE, read).await.expect("still open") {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    received
}

/// A request after which the server closes the connection.
const LAST_REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn is_served(server: SocketAddr) -> bool {
    until_closed(send(server, LAST_REQUEST).await).await.ends_with(b"small")
}

#[tokio::test]
async fn an_http2_client_that_shows_no_sign_of_life_is_closed() {
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Of a block of 16 bytes, and without the end of the headers.
    let half_a_header: &[u8] = &[0, 0, 16, 1, 0, 0, 0, 0, 1, 0x82];
    let server =
        start(ConnectionLimits { ping_interval: SOON, ping_timeout: SOON, ..patient() }).await;
    for sent in [vec![], settings.to_vec(), [settings, half_a_header].concat()] {
        let received = until_closed(send(server, &[PREFACE, &sent].concat()).await).await;
        // The server's own settings.
        assert!(received.len() > 9 && received[3] == 4, "{received:?}");
    }
    assert!(is_served(server).await);
}

#[tokio::test]
async fn old_connections_are_closed() {
    let server =
        start(ConnectionLimits { longest_life: SOON, drain_timeout: SOON, ..patient() }).await;
    let http1 = send(server, b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let http2 = send(server, PREFACE).await;
    assert!(until_closed(http1).await.ends_with(b"small"));
    until_closed(http2).await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_loses_its_place() {
    let limits =
        ConnectionLimits { connections: 1, longest_life: SOON, drain_timeout: SOON, ..patient() };
    let server = start(limits).await;
    let deaf = send(server, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let waiting = async { while !is_served(server).await {} };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the place was never left");
    assert!(until_closed(deaf).await.len() < LARGE_BYTES);
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The start of an HTTP/2 connection. The client takes so many bytes of each response.
fn http2_start(window: u8) -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, window])].concat()
}

/// A GET request in HPACK, without Huffman coding.
fn http2_get(stream: u8, path: &str) -> Vec<u8> {
    let path_length = u8::try_from(path.len()).unwrap();
    let block = [&[0x82, 0x86, 0x04, path_length], path.as_bytes(), &[0x01, 1, b'x']].concat();
    frame(1, 5, stream, &block)
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed_whatever_it_pings() {
    let finish = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&finish);
    let router = Router::new().route("/wait", get(|| async move { wait.notified().await }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    // Long enough for the task of the busy connection to read its request.
    let idle_timeout = 10 * SOON;
    let limits = ConnectionLimits { idle_timeout, drain_timeout: SOON, ..patient() };
    serve_on(listener, router, limits);
    let mut busy = send(server, &[http2_start(100), http2_get(1, "/wait")].concat()).await;
    let mut idle = send(server, &http2_start(100)).await;
    let mut received = [0; 1024];
    let pings = async {
        let acknowledged = frame(4, 1, 0, &[]);
        idle.write_all(&acknowledged).await.unwrap();
        loop {
            if idle.write_all(&frame(6, 0, 0, b"12345678")).await.is_err() {
                break;
            }
            match idle.read(&mut received).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, pings).await.expect("still open");
    // The other connection is older. Its request is still answered.
    finish.notify_one();
    let mut answer = Vec::new();
    let headers = &frame(1, 5, 1, &[])[3..];
    while !answer.windows(headers.len()).any(|part| part == headers) {
        assert!(busy.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_response_that_the_client_does_not_read_is_given_up_and_a_quiet_one_is_not() {
    let (next, wait) = tokio::sync::mpsc::unbounded_channel::<&str>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let events = move || {
        let wait = Arc::clone(&wait);
        let events = futures_util::stream::unfold(wait, |wait| async {
            let event = wait.lock().await.recv().await?;
            Some((Ok::<_, Infallible>(event), wait))
        });
        async { axum::body::Body::from_stream(events) }
    };
    let router = Router::new()
        .route("/events", get(events))
        .route("/large", get(|| async { vec![0_u8; LARGE_BYTES] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let limits = ConnectionLimits { stall_timeout: SOON, ..patient() };
    let metrics = serve_on(listener, router, limits);
    let mut quiet =
        send(server, b"GET /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let mut heard = Vec::new();
    next.send("first").unwrap();
    while !heard.ends_with(b"first\r\n") {
        assert!(quiet.read_buf(&mut heard).await.unwrap() > 0);
    }
    for (given_up, request) in [
        (1, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        (2, [http2_start(0), http2_get(1, "/large")].concat()),
        (3, [http2_start(1), http2_get(1, "/large")].concat()),
    ] {
        let deaf = send(server, &request).await;
        let waiting = async {
            while metrics.stalled.get() < given_up {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the response is still held");
        assert!(until_closed(deaf).await.len() < LARGE_BYTES);
    }
    next.send("second").unwrap();
    drop(next);
    quiet.read_to_end(&mut heard).await.unwrap_or_default();
    assert!(heard.windows(6).any(|part| part == b"second"));
}

#[tokio::test]
async fn unread_responses_are_bounded_and_the_longest_held_is_given_up() {
    let all_unread_bytes = LARGE_BYTES + LARGE_BYTES / 2;
    let limits = ConnectionLimits { unread_bytes: 2 * LARGE_BYTES, all_unread_bytes, ..patient() };
    let server = start(limits.clone()).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut deaf = send(server, request).await;
    deaf.read_exact(&mut [0; 100]).await.unwrap();
    assert!(until_closed(send(server, request).await).await.len() > LARGE_BYTES);
    assert!(until_closed(deaf).await.len() < LARGE_BYTES);
    // One connection may not hold so much by itself.
    let server = start(ConnectionLimits { unread_bytes: LARGE_BYTES / 2, ..limits }).await;
    assert!(until_closed(send(server, request).await).await.len() < LARGE_BYTES);
    assert!(is_served(server).await);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = start(ConnectionLimits { connections: 2, ..patient() }).await;
    let mut held = send(server, b"").await;
    let other = send(server, b"").await;
    assert!(until_closed(send(server, b"").await).await.is_empty());
    held.write_all(LAST_REQUEST).await.unwrap();
    assert!(until_closed(held).await.ends_with(b"small"));
    drop(other);
}

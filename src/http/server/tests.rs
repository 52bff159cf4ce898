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

/// Without any limit in time.
fn patient() -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: NEVER,
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
    tokio::spawn(serve(listener, router, limits, None, std::future::pending()));
    address
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

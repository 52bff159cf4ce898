//! Connections to the real router: request heads, pipelined requests, chunked bodies, HTTP/2 frames.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use bipedalnet_fuzz::Server;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The default of the server.
const HEADER_BYTES: u32 = 16 << 10;

/// The first bytes from an HTTP/2 client (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

fuzz_target!(|bytes: &[u8]| {
    let received = SERVER.run(async { tokio::time::timeout(PATIENCE, exchange(bytes)).await });
    let received = received.expect("a connection ends when the client has sent everything");
    if !bytes.starts_with(PREFACE) {
        assert!(received.is_empty() || received.starts_with(b"HTTP/1."), "{received:?}");
    }
});

/// Sends bytes and returns what the server sent until it closed the connection.
async fn exchange(bytes: &[u8]) -> Vec<u8> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let service = service_fn(async |mut request: Request<Incoming>| {
        // In debug builds, `headers` asserts that there is no space in these tags.
        for name in [header::IF_NONE_MATCH, header::IF_RANGE] {
            request.headers_mut().remove(name);
        }
        let answer = SERVER.answer(request.map(Body::new)).await;
        Ok::<_, Infallible>(answer.into_response())
    });
    let serve = async {
        let stream = TokioIo::new(server);
        // Errors are those of the client, and close the connection.
        let _ = match bytes.starts_with(PREFACE) {
            true => {
                let mut http2 = http2::Builder::new(TokioExecutor::new());
                http2.max_header_list_size(HEADER_BYTES);
                http2.serve_connection(stream, service).await
            }
            false => {
                let mut http1 = http1::Builder::new();
                http1.max_header_size(HEADER_BYTES as usize).half_close(true);
                http1.serve_connection(stream, service).await
            }
        };
    };
    let (mut read, mut write) = tokio::io::split(client);
    let send = async {
        // The server may close the connection before it has read everything.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let receive = async {
        let mut received = Vec::new();
        let _ = read.read_to_end(&mut received).await;
        received
    };
    tokio::join!(serve, send, receive).2
}

//! Attacks on connections, cut down to what the server must bound.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::{READ_TIMEOUT, Server};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;
const ACKNOWLEDGED: u8 = 1;

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Opens an HTTP/2 connection on which the client takes so many bytes of each response.
fn connect_http2(server: &Server, window: u8) -> TcpStream {
    let mut stream = server.connect();
    let window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, window]);
    stream.write_all(&[PREFACE, &window].concat()).unwrap();
    stream
}

/// A GET request in HPACK, without Huffman coding.
fn get(stream: u8, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // The static table has the method GET and the scheme http.
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(":path", path), (":authority", "localhost")].iter().chain(headers) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    frame(HEADERS, WHOLE, stream, &block)
}

/// Reads a frame and returns its kind, flags and payload. `None` if the connection is closed.
fn read_frame(mut stream: &TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    let mut fill = |buffer: &mut [u8]| match stream.read_exact(buffer) {
        Ok(()) => Some(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("still open"),
        Err(_) => None,
    };
    fill(&mut head)?;
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    fill(&mut payload)?;
    Some((head[3], head[4], payload))
}

/// Reads frames until the server closes the connection. Answers its pings.
fn until_closed(mut stream: &TcpStream) {
    let mut pings = 0;
    while let Some((kind, flags, payload)) = read_frame(stream) {
        if kind == PING && flags & ACKNOWLEDGED == 0 {
            // One of them may belong to an orderly end.
            pings += 1;
            assert!(pings < 3, "still open");
            // The server may be gone already.
            let _ = stream.write_all(&frame(PING, ACKNOWLEDGED, 0, &payload));
        }
    }
}

/// The largest resident memory that the server ever had, in MiB.
fn peak_mib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Whether the server answers a request on a connection of its own.
fn is_served(server: &Server) -> bool {
    let mut stream = server.connect();
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut received = Vec::new();
    let sent = stream.write_all(request).and_then(|()| stream.read_to_end(&mut received));
    sent.is_ok() && received.ends_with(b"live\n")
}

#[test]
fn compressed_responses_that_nobody_reads_take_little_memory() {
    let server = Server::start();
    let connections: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = connect_http2(&server, 1);
            for request in 0..32 {
                let encoding = [("accept-encoding", "zstd")];
                stream.write_all(&get(1 + 2 * request, "/openapi.json", &encoding)).unwrap();
            }
            stream
        })
        .collect();
    for stream in &connections {
        // The first byte of each response.
        let mut begun = 0;
        while begun < 32 {
            let (kind, _, payload) = read_frame(stream).unwrap();
            begun += usize::from(kind == DATA && payload.len() == 1);
        }
    }
    assert!(is_served(&server));
    // A compressor for each of these 512 responses would take about a megabyte.
    let peak = peak_mib(&server);
    assert!(peak < 150, "{peak} MiB");
}

#[tokio::test]
async fn responses_that_clients_do_not_read_are_bounded() {
    let server = Server::start();
    // All of them together would hold more than the server allows.
    let _connections: Vec<TcpStream> = (0..96)
        .map(|_| {
            let mut stream = connect_http2(&server, 0);
            for request in 0..32 {
                // The server may have closed the connection already.
                let _ = stream.write_all(&get(1 + 2 * request, "/docs", &[]));
            }
            stream
        })
        .collect();
    let closed = "bipedalnet_connections_closed_total{reason=\"unread\"}";
    while server.scrape().await[closed] == 0.0 {}
    assert!(is_served(&server));
}

#[test]
fn a_stalled_http2_stream_ends_although_its_client_answers_pings() {
    let server = Server::with_arguments(&["--header-timeout-seconds", "1"]);
    let mut stream = connect_http2(&server, 1);
    stream.write_all(&get(1, "/openapi.json", &[])).unwrap();
    until_closed(&stream);
    assert!(is_served(&server));
}

#[test]
fn a_client_that_stops_reading_is_disconnected() {
    let server = Server::with_arguments(&["--header-timeout-seconds", "1"]);
    let mut deaf = server.connect();
    // More responses than the buffers on the way hold. After some of them, the server stops reading.
    let request = b"GET /docs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    deaf.set_write_timeout(Some(READ_TIMEOUT)).unwrap();
    let written = (0..1_000_000).try_for_each(|_| deaf.write_all(request));
    let error = written.expect_err("the server reads requests without end");
    assert!(error.kind() != ErrorKind::WouldBlock, "still open");
    assert!(is_served(&server));
}

#[tokio::test]
async fn idle_http2_connections_shut_nobody_out() {
    let server = Server::with_arguments(&["--max-connections", "8"]);
    let mut idle = Vec::new();
    for number in 0..8 {
        let address = ["127.0.0.2", "127.0.0.3"][number / 4];
        let stream = connect_http2_from(&server, address).await;
        assert_eq!(read_frame(&stream).unwrap().0, SETTINGS);
        idle.push(stream);
    }
    // A third address takes the place of one of them, long before the idle time-out.
    assert!(is_served(&server));
    // Until it has left, it may still answer.
    while server.scrape().await["bipedalnet_connections_open"] != 7.0 {}
    let still_open = idle.iter().filter(|stream| {
        let mut stream = *stream;
        // The server may be gone already.
        let _ = stream.write_all(&frame(PING, 0, 0, b"12345678"));
        loop {
            match read_frame(stream) {
                Some((PING, flags, _)) if flags & ACKNOWLEDGED != 0 => break true,
                Some(_) => {}
                None => break false,
            }
        }
    });
    assert_eq!(still_open.count(), 7);
}

/// Opens an HTTP/2 connection from another loopback address.
async fn connect_http2_from(server: &Server, address: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(server.address.parse().unwrap()).await.unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

#[test]
fn http2_connections_without_requests_are_closed_although_they_answer_pings() {
    let server = Server::with_arguments(&["--idle-timeout-seconds", "1"]);
    let idle = connect_http2(&server, 100);
    let used = connect_http2(&server, 100);
    (&used).write_all(&get(1, "/livez", &[])).unwrap();
    until_closed(&idle);
    until_closed(&used);
    assert!(is_served(&server));
}

/// Status line, headers and body of a response on an HTTP/1.1 connection.
fn answer(mut stream: &TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length =
        head.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn an_unread_body_hides_no_answer() {
    let server = Server::with_arguments(&["--max-body-bytes", "65536"]);
    let key = crate::support::create_key(&server.database(), "identify");
    // The server notices the key.
    while get_status(&server, "GET /v1/models HTTP/1.1") != "401" {}
    let with_key = format!("authorization: Bearer {key}\r\n");
    let json = format!("{with_key}content-type: application/json\r\n");
    for (request, headers, expected) in [
        ("POST /nothing", "", "404"),
        ("POST /livez", "", "405"),
        ("POST /v1/identify", "", "401"),
        ("POST /v1/users/ann/enrollments", &with_key, "403"),
        ("POST /v1/identify", &json, "413"),
    ] {
        // Twice as much as the server takes, and far more than it reads to keep the connection.
        for (length, is_kept) in [(128 << 10, true), (1 << 20, false)] {
            let stream = server.connect();
            let body = vec![b' '; length];
            let head = format!(
                "{request} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n"
            );
            (&stream).write_all(&[head.as_bytes(), &body].concat()).unwrap();
            let (head, body) = answer(&stream);
            assert!(head.contains(&format!(" {expected} ")), "{request}: {head} {body}");
            assert_eq!(head.contains("connection: close"), !is_kept, "{request}: {head}");
            if is_kept {
                (&stream).write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
                assert_eq!(answer(&stream).1, "live\n");
            }
        }
    }
    // Nobody wants this body, so the client is not asked to send it.
    let stream = server.connect();
    (&stream)
        .write_all(
            b"POST /nothing HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
              content-length: 1000\r\n\r\n",
        )
        .unwrap();
    let (head, _) = answer(&stream);
    assert!(head.starts_with("http/1.1 404 ") && head.contains("connection: close"), "{head}");
}

/// The status of a request without headers, on a connection of its own.
fn get_status(server: &Server, request: &str) -> String {
    let stream = server.connect();
    write!(&stream, "{request}\r\nhost: localhost\r\n\r\n").unwrap();
    answer(&stream).0.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn transfer_codings_that_the_server_does_not_know_are_refused() {
    let server = Server::start();
    for codings in [
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
    ] {
        let stream = server.connect();
        let request =
            format!("PUT /v1/users/ann HTTP/1.1\r\nhost: localhost\r\n{codings}\r\n\r\n0\r\n\r\n");
        (&stream).write_all(request.as_bytes()).unwrap();
        let (head, body) = answer(&stream);
        // The HTTP library itself refuses some.
        let is_refused = head.starts_with("http/1.1 501 ") && body.contains("transfer-encoding")
            || head.starts_with("http/1.1 400 ");
        assert!(is_refused && head.contains("connection: close"), "{codings}: {head} {body}");
    }
    let stream = server.connect();
    let chunked =
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n";
    (&stream).write_all(chunked).unwrap();
    assert!(answer(&stream).0.starts_with("http/1.1 200 "));
}

#[test]
fn limits_that_would_admit_nobody_are_refused() {
    for limit in ["--max-connections", "--connections-per-address"] {
        let mut serve = crate::support::program();
        serve.args(["serve", limit, "0", "--database", "/nonexistent/test.db"]);
        let message = crate::support::printed(&mut serve).unwrap_err();
        assert!(message.contains(limit) && !message.contains("nonexistent"), "{message}");
    }
}

/// Starts a server that may open so many files: at first, and at most.
fn start_with_files(soft: u32, hard: u32) -> Server {
    let limits = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$@\"");
    let mut shell = std::process::Command::new("sh");
    let program = crate::support::program();
    shell.args(["-c", &limits, "sh"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let arguments = ["--max-connections", "200", "--header-timeout-seconds", "600"];
    Server::start_as(shell, tempfile::tempdir().unwrap(), &arguments)
}

#[tokio::test]
async fn connections_leave_files_for_metrics_and_database() {
    let server = start_with_files(150, 150);
    // The client of these requests keeps its connection.
    assert_eq!(server.put_user("ann").await.status, 201);
    let held: Vec<TcpStream> = (0..250).map(|_| server.connect()).collect();
    // The last one is refused.
    let mut byte = [0];
    assert!(matches!((&held[249]).read(&mut byte), Ok(0) | Err(_)));
    for _ in 0..10 {
        let response =
            crate::support::client().get(format!("http://{}/metrics", server.metrics)).send();
        assert_eq!(response.await.unwrap().status(), 200);
    }
    assert_eq!(server.put_user("bob").await.status, 201);
}

#[test]
fn the_limit_of_open_files_is_raised_if_that_is_allowed() {
    let server = start_with_files(100, 400);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process_id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("400"), "{files}");
}

//! HTTP/1.1, HTTP/2 and TLS connections, including those of hostile clients.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::process::{Command, Output};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Bytes, Frame};
use reqwest::{Method, StatusCode, Version};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{
    self, READ_TIMEOUT, Server, certificate, database_in, has_curl, printed, program, simulated,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until the server closes the connection.
fn until_closed(mut stream: &TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("still open: {error}"),
    }
    received
}

/// Requests `/livez` on an HTTP/1.1 connection and leaves it open.
fn live(mut stream: &TcpStream) {
    write!(stream, "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"live\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
    assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received));
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["-sS", "-w", "\n%{http_version} %{http_code}"])
        .args(arguments)
        .output()
        .unwrap()
}

/// The body, and HTTP version and status in the form `2 200`.
fn curl_answer(arguments: &[&str]) -> (String, String) {
    let output = curl(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let (body, version_and_status) = shown.rsplit_once('\n').unwrap();
    (body.to_owned(), version_and_status.to_owned())
}

/// Enrolls and identifies a user with curl, which gets these options.
fn walk_over(url: &str, user: &str, person: u64, version: &str, client: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let send = |path: &str, walk: u64, expected: &str| {
        let file = folder.path().join("walk.json");
        fs::write(&file, support::json(&simulated(person, walk))).unwrap();
        let (url, body) = (format!("{url}{path}"), format!("@{}", file.display()));
        let json = ["-H", "content-type: application/json", "--data-binary", &body, &url];
        let (body, seen) = curl_answer(&[client, &json].concat());
        assert_eq!(seen, format!("{version} {expected}"), "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let put = ["-X", "PUT", &format!("{url}/v1/users/{user}")];
    assert_eq!(curl_answer(&[client, &put].concat()).1, format!("{version} 201"));
    send(&format!("/v1/users/{user}/enrollments"), 1, "201");
    assert_eq!(send("/v1/identify", 2, "200")["user"], user);
}

/// Starts a server that speaks TLS. Returns it and the path of its certificate.
fn start_tls(arguments: &[&str]) -> (Server, String) {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path(), "server");
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    (Server::start_with(folder, &[&tls, arguments].concat()), certificate)
}

#[test]
fn one_port_speaks_http_1_and_http_2() {
    if !has_curl("HTTP/1.1 and HTTP/2 on one port") {
        return;
    }
    let server = Server::start();
    walk_over(&server.url(""), "ann", 11, "2", &["--http2-prior-knowledge"]);
    walk_over(&server.url(""), "bob", 12, "1.1", &["--http1.1"]);
}

#[test]
fn tls_speaks_the_versions_that_the_client_asks_for() {
    if !has_curl("versions of TLS and HTTP over it") {
        return;
    }
    let (server, certificate) = start_tls(&[]);
    let url = format!("https://{}", server.address);
    let trust = ["--cacert", &certificate];
    walk_over(&url, "ann", 11, "2", &[&trust[..], &["--http2"]].concat());
    walk_over(&url, "bob", 12, "1.1", &[&trust[..], &["--http1.1"]].concat());
    let livez = format!("{url}/livez");
    for versions in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        assert_eq!(curl_answer(&[&trust[..], &versions, &[&livez]].concat()).1, "2 200");
    }
    let unprotected = curl(&[&server.url("/livez")]);
    assert!(!unprotected.status.success(), "{unprotected:?}");
    assert_eq!(curl_answer(&[&trust[..], &[&livez]].concat()).1, "2 200");
}

#[test]
fn a_server_that_cannot_speak_tls_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path(), "mine");
    let [_, other_key] = support::certificate(folder.path(), "other");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, text).unwrap();
        path
    };
    let missing = folder.path().join("missing").display().to_string();
    let locked = file(
        "locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let cut = fs::read_to_string(&certificate).unwrap();
    let cut = file("cut", &cut[..cut.len() / 2]);
    let empty = file("empty", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (certificate, key, named, remedy) in [
        (&missing, &key, &missing, "No such file"),
        (&certificate, &missing, &missing, "No such file"),
        (&key, &key, &key, "BEGIN CERTIFICATE"),
        (&cut, &key, &cut, "is damaged"),
        (&empty, &key, &empty, "an X.509 certificate with"),
        (&certificate, &certificate, &certificate, "openssl pkey"),
        (&certificate, &locked, &locked, "openssl pkey"),
        (&certificate, &other_key, &other_key, "give the certificate's key"),
    ] {
        let mut serve = program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--tls-certificate", certificate]);
        serve.args(["--tls-key", key, "--database"]).arg(database_in(folder.path()));
        let message = printed(&mut serve).unwrap_err();
        assert!(message.contains(named) && message.contains(remedy), "{message}");
    }
    let message = printed(program().args(["serve", "--tls-key", &key])).unwrap_err();
    assert!(message.contains("--tls-certificate"), "{message}");
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_refused_and_the_server_goes_on() {
    let server = Server::start();
    let http1 = support::client_builder().http1_only().build().unwrap();
    let http2 = support::client_builder().http2_prior_knowledge().build().unwrap();
    let large = vec![("x-large".to_owned(), "a".repeat(20_000))];
    let many: Vec<_> = (0..120).map(|at| (format!("x-{at}"), "1".to_owned())).collect();
    for (client, version, headers) in [
        (&http1, Version::HTTP_11, &large),
        (&http2, Version::HTTP_2, &large),
        (&http1, Version::HTTP_11, &many),
    ] {
        let request = client.get(server.url("/livez"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send().await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (version, 431));
    }
    // No buffer takes so much. The server may answer or not, but must close the connection.
    let mut endless = server.connect();
    endless.write_all(b"GET /livez HTTP/1.1\r\nx-endless: ").unwrap();
    let piece = [b'a'; 4096];
    while endless.write_all(&piece).is_ok() {}
    until_closed(&endless);
    live(&server.connect());
}

#[tokio::test]
async fn connections_of_clients_that_send_too_slowly_are_closed() {
    let limits = ["--header-timeout-seconds", "1", "--idle-timeout-seconds", "1"];
    let server = Server::with_arguments(&limits);
    let (tls_server, certificate) = start_tls(&limits);
    let waiting: Vec<(&str, &Server, &[u8])> = vec![
        ("nothing", &server, b""),
        ("half a header", &server, b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: 1"),
        ("what may become HTTP/2", &server, b"P"),
        ("half a preface", &server, &PREFACE[..12]),
        ("nothing of a handshake", &tls_server, b""),
        // The record has 512 bytes; this is the start of a ClientHello.
        ("half a handshake", &tls_server, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
    ];
    let streams: Vec<_> = waiting
        .iter()
        .map(|&(case, server, sent)| {
            let mut stream = server.connect();
            stream.write_all(sent).unwrap();
            (case, stream)
        })
        .collect();
    let idle = server.connect();
    live(&idle);
    for (case, stream) in &streams {
        let received = until_closed(stream);
        assert!(!received.starts_with(b"HTTP/1.1 2"), "{case}");
    }
    assert!(until_closed(&idle).is_empty());
    live(&server.connect());
    let certificate = reqwest::Certificate::from_pem(&fs::read(&certificate).unwrap()).unwrap();
    let client = support::client_builder().tls_certs_only([certificate]).build().unwrap();
    let begin = Instant::now();
    let livez = loop {
        // On a stalled machine, this client may be too slow as well.
        match client.get(format!("https://{}/livez", tls_server.address)).send().await {
            Ok(livez) => break livez,
            Err(error) => assert!(begin.elapsed() < READ_TIMEOUT, "{error:?}"),
        }
    };
    assert_eq!((livez.version(), livez.status()), (Version::HTTP_2, StatusCode::OK));
}

#[test]
fn an_idle_connection_outlives_the_limit_for_headers() {
    let server = Server::with_arguments(&["--header-timeout-seconds", "1"]);
    let idle = server.connect();
    live(&idle);
    let (mut slow, mut slow_again) = (server.connect(), server.connect());
    live(&slow_again);
    for stream in [&mut slow, &mut slow_again] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: 1").unwrap();
    }
    for stream in [&slow, &slow_again] {
        assert!(until_closed(stream).is_empty());
    }
    live(&idle);
}

#[test]
fn connections_per_address_are_limited() {
    let server = Server::with_arguments(&["--connections-per-address", "3"]);
    let held: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    held.iter().for_each(live);
    for _ in 0..5 {
        assert!(until_closed(&server.connect()).is_empty());
    }
    held.iter().for_each(live);
    // As soon as the server notices that one connection is closed, it accepts another.
    held[0].shutdown(std::net::Shutdown::Write).unwrap();
    until_closed(&held[0]);
    let served = |mut stream: TcpStream| {
        write!(stream, "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .is_ok()
            && until_closed(&stream).starts_with(b"HTTP/1.1 200")
    };
    while !served(server.connect()) {}
    held[1..].iter().for_each(live);
}

/// A request body that the test sends piece by piece.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_closes_idle_connections_and_answers_open_requests() {
    let mut server = Server::with_users(&[], &[("ann", 11)]).await;
    let http2 = || support::client_builder().http2_prior_knowledge().build().unwrap();
    let livez = server.url("/livez");
    let (idle_http1, silent, idle_http2, busy) =
        (server.connect(), server.connect(), http2(), http2());
    live(&idle_http1);
    // Both connections exist from here on, so that the requests below share one.
    for client in [&idle_http2, &busy] {
        assert_eq!(client.get(&livez).send().await.unwrap().status(), 200);
    }
    let walk = Bytes::from(support::json(&simulated(11, 2)));
    let (pieces, body) = mpsc::channel(1);
    let request = busy
        .request(Method::POST, server.url("/v1/identify"))
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap(Pieces(body)))
        .send();
    let request = tokio::spawn(request);
    pieces.send(walk.slice(..walk.len() / 2)).await.unwrap();
    // This response proves that the server has received the request before it on the connection.
    let after = busy.get(&livez).send().await.unwrap();
    assert_eq!(after.version(), Version::HTTP_2);

    server.terminate();
    assert!(until_closed(&idle_http1).is_empty());
    assert!(until_closed(&silent).is_empty());
    while idle_http2.get(&livez).send().await.is_ok() {}
    pieces.send(walk.slice(walk.len() / 2..)).await.unwrap();
    drop(pieces);
    let answer = support::answer(request.await.unwrap().unwrap()).await;
    assert_eq!(answer.body["user"], "ann", "{answer:?}");
    assert!(server.wait().success());
}

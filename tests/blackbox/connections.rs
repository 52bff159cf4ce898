//! Connections of all kinds, those of clients that mean no good among them.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Output};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{self, Server, program, simulated};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Beyond all that these tests wait for: what does not come until then fails them.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(arguments: &[&str]) -> Server {
    Server::start_with(tempfile::tempdir().unwrap(), arguments)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that the server sends until it closes the connection.
fn until_closed(mut stream: &TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("still open: {error}"),
    }
    received
}

/// The answer to a request for `/livez` on an HTTP/1.1 connection that stays open.
fn live(mut stream: &TcpStream) {
    write!(stream, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
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

/// Body, and version and status as `2 200`.
fn answer(arguments: &[&str]) -> (String, String) {
    let output = curl(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let (body, version_and_status) = shown.rsplit_once('\n').unwrap();
    (body.to_owned(), version_and_status.to_owned())
}

/// Enrolls and identifies a user over one protocol.
fn walk_over(url: &str, user: &str, person: u64, version: &str, client: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let send = |path: &str, walk: u64, expected: &str| {
        let file = folder.path().join("walk.json");
        fs::write(&file, support::json(&simulated(person, walk))).unwrap();
        let (url, body) = (format!("{url}{path}"), format!("@{}", file.display()));
        let json = ["-H", "content-type: application/json", "--data-binary", &body, &url];
        let (body, seen) = answer(&[client, &json].concat());
        assert_eq!(seen, format!("{version} {expected}"), "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let put = ["-X", "PUT", &format!("{url}/v1/users/{user}")];
    assert_eq!(answer(&[client, &put].concat()).1, format!("{version} 201"));
    send(&format!("/v1/users/{user}/enrollments"), 1, "201");
    assert_eq!(send("/v1/identify", 2, "200")["user"], user);
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate(folder: &Path, name: &str) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = |end: &str, text: String| {
        let path = folder.join(format!("{name}.{end}"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    [file("crt", made.cert.pem()), file("key", made.signing_key.serialize_pem())]
}

fn start_tls(arguments: &[&str]) -> (Server, String) {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path(), "server");
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    (Server::start_with(folder, &[&tls, arguments].concat()), certificate)
}

#[test]
fn one_port_speaks_http_1_and_http_2() {
    let server = start(&[]);
    walk_over(&server.url(""), "ann", 11, "2", &["--http2-prior-knowledge"]);
    walk_over(&server.url(""), "bob", 12, "1.1", &["--http1.1"]);
}

#[test]
fn tls_speaks_the_version_that_the_client_asks_for() {
    let (server, certificate) = start_tls(&[]);
    let url = format!("https://{}", server.address);
    let trust = ["--cacert", &certificate];
    walk_over(&url, "ann", 11, "2", &[&trust[..], &["--http2"]].concat());
    walk_over(&url, "bob", 12, "1.1", &[&trust[..], &["--http1.1"]].concat());
    let livez = format!("{url}/livez");
    for versions in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        assert_eq!(answer(&[&trust[..], &versions, &[&livez]].concat()).1, "2 200");
    }
    let unprotected = curl(&[&server.url("/livez")]);
    assert!(!unprotected.status.success(), "{unprotected:?}");
    assert_eq!(answer(&[&trust[..], &[&livez]].concat()).1, "2 200");
}

#[test]
fn a_server_that_cannot_speak_tls_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path(), "mine");
    let [_, other_key] = self::certificate(folder.path(), "other");
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
        (&certificate, &other_key, &other_key, "give the key that the certificate was made with"),
    ] {
        let output = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--database"])
            .arg(folder.path().join("test.db"))
            .args(["--tls-certificate", certificate, "--tls-key", key])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(message.contains(named) && message.contains(remedy), "{message}");
    }
    let alone = program().args(["serve", "--tls-key", &key]).output().unwrap();
    assert!(!alone.status.success());
    assert!(String::from_utf8(alone.stderr).unwrap().contains("--tls-certificate"));
}

#[test]
fn headers_too_many_or_too_large_are_refused_and_the_server_serves_on() {
    let server = start(&[]);
    let livez = server.url("/livez");
    let large = format!("x-large: {}", "a".repeat(20_000));
    let many: Vec<String> = (0..120).flat_map(|at| ["-H".into(), format!("x-{at}: 1")]).collect();
    let many: Vec<&str> = many.iter().map(|argument| &argument[..]).collect();
    for (arguments, status) in [
        (&["--http1.1", "-H", &large][..], "1.1 431"),
        (&["--http2-prior-knowledge", "-H", &large], "2 431"),
        (&[&["--http1.1"], &many[..]].concat(), "1.1 431"),
    ] {
        assert_eq!(answer(&[arguments, &[&livez]].concat()).1, status);
    }
    // Far beyond what any buffer takes: an answer or none, but an end.
    let mut endless = connect(&server);
    endless.write_all(b"GET /livez HTTP/1.1\r\nx-endless: ").unwrap();
    let piece = [b'a'; 4096];
    while endless.write_all(&piece).is_ok() {}
    until_closed(&endless);
    live(&connect(&server));
}

#[test]
fn clients_that_keep_the_server_waiting_are_closed() {
    let server = start(&["--header-timeout-seconds", "1"]);
    let (tls_server, certificate) = start_tls(&["--header-timeout-seconds", "1"]);
    let waiting: Vec<(&str, &Server, &[u8])> = vec![
        ("nothing", &server, b""),
        ("half a header", &server, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: 1"),
        ("what may become HTTP/2", &server, b"P"),
        ("half a preface", &server, &PREFACE[..12]),
        ("nothing of a handshake", &tls_server, b""),
        // A record of 512 bytes, of which the first few of a ClientHello are there.
        ("half a handshake", &tls_server, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
    ];
    let streams: Vec<_> = waiting
        .iter()
        .map(|&(case, server, sent)| {
            let mut stream = connect(server);
            stream.write_all(sent).unwrap();
            (case, stream)
        })
        .collect();
    let idle = connect(&server);
    live(&idle);
    for (case, stream) in &streams {
        let received = until_closed(stream);
        assert!(!received.starts_with(b"HTTP/1.1 2"), "{case}");
    }
    assert!(until_closed(&idle).is_empty());
    live(&connect(&server));
    let livez = format!("https://{}/livez", tls_server.address);
    assert_eq!(answer(&["--cacert", &certificate, &livez]).1, "2 200");
}

#[test]
fn one_address_gets_its_share_of_connections_and_no_more() {
    let server = start(&["--connections-per-address", "3"]);
    let held: Vec<TcpStream> = (0..3).map(|_| connect(&server)).collect();
    held.iter().for_each(live);
    for _ in 0..5 {
        assert!(until_closed(&connect(&server)).is_empty());
    }
    held.iter().for_each(live);
    // One leaves, and another takes its place as soon as the server has seen that.
    held[0].shutdown(std::net::Shutdown::Write).unwrap();
    until_closed(&held[0]);
    let served = |mut stream: TcpStream| {
        write!(stream, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").is_ok()
            && until_closed(&stream).starts_with(b"HTTP/1.1 200")
    };
    while !served(connect(&server)) {}
    held[1..].iter().for_each(live);
}

/// A body sent piece by piece as the test goes on.
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
    let mut server = start(&[]);
    assert_eq!(server.put_user("ann").await.status, 201);
    assert_eq!(server.enroll("ann", &simulated(11, 1)).await.status, 201);
    let http2 = || support::client_builder().http2_prior_knowledge().build().unwrap();
    let livez = server.url("/livez");
    let (idle_http1, silent, idle_http2, busy) =
        (connect(&server), connect(&server), http2(), http2());
    live(&idle_http1);
    assert_eq!(idle_http2.get(&livez).send().await.unwrap().status(), 200);
    let walk = Bytes::from(support::json(&simulated(11, 2)));
    let (pieces, body) = mpsc::channel(1);
    let request = busy
        .request(Method::POST, server.url("/v1/identify"))
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap(Pieces(body)))
        .send();
    let request = tokio::spawn(request);
    pieces.send(walk.slice(..walk.len() / 2)).await.unwrap();
    // Taken after the request on the same connection, so that the server knows of both.
    let after = busy.get(&livez).send().await.unwrap();
    assert_eq!(after.version(), reqwest::Version::HTTP_2);

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

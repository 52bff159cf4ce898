//! Metrics, logs, request ids, and requests while the server stops or is overloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bipedalnet_core::gait::RecordingDocument;
use reqwest::Method;
use serde_json::Value;

use crate::support::{self, Server, database_in, printed, program, simulated};

/// Starts a server and sends it some requests of each kind.
async fn used() -> Server {
    let server = Server::with_users(&[], &[("ann-of-ancona", 11)]).await;
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann-of-ancona"));
    assert_eq!(server.identified(&simulated(40, 1)).await, None);
    let verify = "/v1/users/ann-of-ancona/verify";
    let walk = support::json(&simulated(11, 3));
    let answer = server.send(Method::POST, verify, walk.clone()).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
    let answer = server.send(Method::POST, verify, walk).await;
    assert_eq!(answer.body["decision"], "suspected_replay", "{answer:?}");
    // The person stops walking in the middle.
    let mut pause = RecordingDocument::from(&simulated(11, 4));
    let half = pause.acceleration.len() / 2;
    for (at, sample) in pause.acceleration[half..].iter_mut().enumerate() {
        *sample = [7, 11, 13].map(|cycle| (at % cycle) as f32 * 1e-3);
        sample[2] += 9.81;
    }
    let answer = server.send(Method::POST, verify, serde_json::to_string(&pause).unwrap()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let standing = r#"{"rate_hz": 50, "acceleration": [[0, 0, 9.8]]}"#;
    assert_eq!(server.send(Method::POST, "/v1/identify", standing).await.status, 422);
    assert_eq!(server.get("/v1/users/eve-of-essen").await.status, 404);
    assert_eq!(server.get("/eve-of-essen").await.status, 404);
    server
}

#[tokio::test]
async fn metrics_count_requests() {
    let server = used().await;
    let before = server.scrape().await;
    let value = |name: &str| *before.get(name).unwrap_or_else(|| panic!("{name}: {before:#?}"));
    for (name, expected) in [
        ("decisions_total{decision=\"identified\",operation=\"identify\"}", 1.0),
        ("decisions_total{decision=\"unknown\",operation=\"identify\"}", 1.0),
        ("decisions_total{decision=\"accept\",operation=\"verify\"}", 1.0),
        ("decisions_total{decision=\"inconclusive\",operation=\"verify\"}", 1.0),
        ("decisions_total{decision=\"suspected_replay\",operation=\"verify\"}", 1.0),
        ("decisions_total{decision=\"reject\",operation=\"verify\"}", 0.0),
        ("decision_score_count{operation=\"identify\"}", 2.0),
        ("enrollments_total", 1.0),
        ("users", 1.0),
        ("gallery_users", 1.0),
        ("http_request_bodies_bytes", 0.0),
        ("http_requests_in_flight", 0.0),
        ("pool_jobs_waiting", 0.0),
        ("requests_shed_total{reason=\"queue_full\"}", 0.0),
        ("recordings_refused_total{reason=\"too-short\"}", 1.0),
        ("request_stage_duration_seconds_count{stage=\"decode\"}", 7.0),
        ("request_stage_duration_seconds_count{stage=\"inference\"}", 6.0),
    ] {
        assert_eq!(value(&format!("bipedalnet_{name}")), expected, "{name}");
    }
    let objective = |slo: &str, result: &str| {
        value(&format!("bipedalnet_slo_requests_total{{result=\"{result}\",slo=\"{slo}\"}}"))
    };
    assert_eq!(objective("availability", "bad"), 0.0);
    // Probes and unknown paths do not count.
    let of_api = |name: &&String| {
        name.starts_with("bipedalnet_http_request_duration_seconds_count") && name.contains("/v1/")
    };
    let requests: f64 = before.keys().filter(of_api).map(|name| before[name]).sum();
    assert_eq!(objective("availability", "good"), requests);
    assert_eq!(objective("latency", "good") + objective("latency", "bad"), 5.0);
    assert_eq!(value("bipedalnet_http_errors_total{problem=\"internal\"}"), 0.0);
    let free = value("bipedalnet_database_disk_free_bytes");
    assert!(free > 0.0 && free < value("bipedalnet_database_disk_bytes"), "{free}");
    for (route, method, status, expected) in [
        ("/v1/identify", "POST", 200, 2.0),
        ("/v1/identify", "POST", 422, 1.0),
        ("/v1/users/{user}", "GET", 404, 1.0),
        ("none", "GET", 404, 1.0),
    ] {
        let labels = format!("{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}");
        let name = format!("bipedalnet_http_request_duration_seconds_count{labels}");
        assert_eq!(value(&name), expected, "{name}");
    }
    assert!(value("bipedalnet_windows_refused_total{reason=\"standing-still\"}") > 3.0);
    let windows = value("bipedalnet_windows_accepted_total");
    assert!(windows > 5.0);
    let measured = value("bipedalnet_window_inference_duration_seconds_count");
    assert!(measured >= windows, "{measured} of {windows}");
    for name in [
        "bipedalnet_database_bytes",
        "bipedalnet_database_commit_duration_seconds_count",
        "bipedalnet_gallery_bytes",
        "bipedalnet_sqlite_cache_limit_bytes",
        "bipedalnet_model_bytes",
        "bipedalnet_model_created_timestamp_seconds",
        "bipedalnet_model_validation_accuracy_ratio",
        "bipedalnet_pool_busy_seconds_total",
        "bipedalnet_pool_threads",
    ] {
        assert!(value(name) > 0.0, "{name}");
    }
    // It is there, although the log may just have been emptied.
    value("bipedalnet_database_wal_bytes");

    assert_eq!(server.identified(&simulated(11, 4)).await.as_deref(), Some("ann-of-ancona"));
    server.send(Method::DELETE, "/v1/users/ann-of-ancona", "").await;
    let after = server.scrape().await;
    let change = |name: &str| after[name] - before[name];
    let identified = "bipedalnet_decisions_total{decision=\"identified\",operation=\"identify\"}";
    assert_eq!(change(identified), 1.0);
    assert_eq!(change("bipedalnet_users"), -1.0);
    assert_eq!(change("bipedalnet_gallery_users"), -1.0);
    assert!(change("bipedalnet_windows_accepted_total") > 0.0);
}

#[tokio::test]
async fn metrics_have_stable_names_and_labels() {
    let server = used().await;
    let (_, text) = server.operator("/metrics").await;
    for user in ["ann-of-ancona", "eve-of-essen"] {
        assert!(!text.contains(user));
    }
    let mut families: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            families.insert(name, (kind, BTreeSet::new()));
        } else if let Some((name, rest)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|name| families.contains_key(name))
                .unwrap_or(name);
            let (labels, _) = rest.rsplit_once('}').unwrap();
            // Label values are in quotes, so the text before an equals sign is a label name.
            let names = labels.split(",").map(|label| label.split_once('=').unwrap().0);
            families.get_mut(name).unwrap().1.extend(names.filter(|name| *name != "le"));
        }
    }
    let list: Vec<String> = families
        .into_iter()
        .map(|(name, (kind, labels))| {
            let labels: Vec<&str> = labels.into_iter().collect();
            format!("{name} {kind} {}", labels.join(" ")).trim_end().to_owned()
        })
        .collect();
    insta::assert_snapshot!("metrics", list.join("\n"));
}

#[tokio::test]
async fn metrics_can_require_a_key_and_probes_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.key").display().to_string();
    let mut serve = program();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--metrics-key-file", &file, "--database"])
        .arg(folder.path().join("a.db"));
    for bad in [None, Some(""), Some("too short"), Some("with a space in the middle")] {
        if let Some(text) = bad {
            fs::write(&file, text).unwrap();
        }
        let message = printed(&mut serve).unwrap_err();
        assert!(message.contains(&file), "{message}");
    }
    fs::write(&file, "0123456789abcdef\n").unwrap();
    let server = Server::start_with(folder, &["--metrics-key-file", &file]);
    let scrape = async |key: Option<&str>| {
        let request = support::client().get(format!("http://{}/metrics", server.metrics));
        let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
        request.send().await.unwrap().status()
    };
    assert_eq!(scrape(None).await, 401);
    assert_eq!(scrape(Some("0123456789abcdee")).await, 401);
    assert_eq!(scrape(Some("0123456789abcdef")).await, 200);
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.operator(path).await.0, 200);
    }
}

#[tokio::test]
async fn metrics_are_served_on_their_own_port() {
    let server = Server::start();
    assert_eq!(server.get("/metrics").await.status, 404);
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
        assert_eq!(server.operator(path).await.0, 200, "{path}");
    }
    assert_eq!(server.operator("/v1/users").await.0, 404);
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let server = Server::start();
    let client = support::client();
    let ask = async |id: &str| {
        let request = client.get(server.url("/v1/users/eve")).header("x-request-id", id);
        let response = request.send().await.unwrap();
        let said = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(body["request_id"], said.as_str());
        said
    };
    assert_eq!(ask("order-66.b_c").await, "order-66.b_c");
    let made = ask("not a good one").await;
    assert_ne!(made, ask("").await);

    // A retry gets the same bytes as the first request, but has its own request id.
    let put = async |id: &str| {
        let request = client.put(server.url("/v1/users/ann"));
        let request = request.header("idempotency-key", "one").header("x-request-id", id);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], id);
        response.bytes().await.unwrap()
    };
    assert_eq!(put("first").await, put("second").await);
}

#[test]
fn logs_can_be_json_and_have_a_line_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .args(["--log-level", "info,bipedalnet::access=debug", "--database"])
        .arg(database_in(folder.path()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let serving = lines.find(|line| line["message"] == "serving").unwrap();
    let address = serving["address"].as_str().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET /v1/users/ann HTTP/1.1\r\nhost: localhost\r\nx-request-id: mine\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let answered = lines.find(|line| line["message"] == "answered").unwrap();
    assert_eq!(answered["status"], 404);
    let span = &answered["span"];
    assert_eq!((&span["request_id"], &span["method"]), (&"mine".into(), &"GET".into()));
    assert_eq!(span["route"], "/v1/users/{user}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn an_unknown_log_level_is_refused() {
    let mut serve = program();
    let message = printed(serve.args(["serve", "--log-level", "bipedalnet=loud"])).unwrap_err();
    assert!(message.contains("bipedalnet=loud"), "{message}");
}

/// Status and headers of the next response on a connection, or `None` if it is closed.
fn next_answer(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut status = String::new();
    match stream.read_line(&mut status) {
        Ok(0) => return None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
        read => drop(read.unwrap()),
    }
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut headers).unwrap() > 0, "{headers}");
    }
    let headers = headers.to_ascii_lowercase();
    let (_, length) = headers.split_once("content-length: ").unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    Some((status, headers))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_when_the_server_stops() {
    // A stopping server takes requests for a second. On a stalled machine, a client may miss that.
    const IN_TIME: Duration = Duration::from_millis(500);
    let mut server = used().await;
    let body = support::json(&simulated(11, 2));
    let request = format!(
        "POST /v1/identify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (answered, answers) = mpsc::channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, request) = (server.address.clone(), request.clone());
            let answered = answered.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(address).unwrap());
                let mut answered_at = Instant::now();
                for sent in 1.. {
                    let written = stream.get_mut().write_all(request.as_bytes());
                    let is_late = answered_at.elapsed() > IN_TIME;
                    let Some((status, headers)) =
                        written.ok().and_then(|()| next_answer(&mut stream))
                    else {
                        assert!(is_late, "a request was lost");
                        return sent - 1;
                    };
                    answered_at = Instant::now();
                    assert_eq!(status, "HTTP/1.1 200 OK\r\n");
                    let _ = answered.send(());
                    if headers.contains("connection: close") {
                        assert_eq!(next_answer(&mut stream), None);
                        return sent;
                    }
                }
                unreachable!()
            })
        })
        .collect();
    drop(answered);
    // Wait until all of them are busy.
    (0..40).for_each(|_| answers.recv().unwrap());
    let mut late = BufReader::new(TcpStream::connect(&server.address).unwrap());
    let begin = Instant::now();
    server.terminate();
    while server.operator("/readyz").await.0 == 200 {}
    // A client that does not know yet still gets a response, with `connection: close`.
    let written = late.get_mut().write_all(request.as_bytes());
    let is_late = begin.elapsed() > IN_TIME;
    match written.ok().and_then(|()| next_answer(&mut late)) {
        Some((status, headers)) => {
            assert!(status.contains("200") && headers.contains("connection: close"), "{headers}");
        }
        None => assert!(is_late, "the request was lost"),
    }
    let sent: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(sent >= 40);
    assert!(server.wait().success());
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut server = Server::start();
    let mut open = TcpStream::connect(&server.address).unwrap();
    let head = "POST /v1/identify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n";
    open.write_all(head.as_bytes()).unwrap();
    while server.scrape().await["bipedalnet_http_requests_in_flight"] == 0.0 {}
    server.terminate();
    while server.operator("/readyz").await.0 == 200 {}
    assert_eq!(server.operator("/livez").await.0, 200);
    server.terminate();
    assert_eq!(server.wait().code(), Some(130));
}

#[tokio::test]
async fn requests_past_their_deadline_are_dropped_and_counted() {
    let server = used().await;
    let walk = support::json(&simulated(11, 2));
    let mut shed = 0.0;
    while shed == 0.0 {
        let ask = || {
            let request = server.request(Method::POST, "/v1/identify", walk.clone());
            request.header("request-deadline-ms", "1").send()
        };
        let answers: Vec<_> = (0..16).map(|_| tokio::spawn(ask())).collect();
        for answer in answers {
            let answer = answer.await.unwrap().unwrap();
            match answer.status().as_u16() {
                200 | 504 => {}
                503 => {
                    let wait: u64 =
                        answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                    assert!((1..=60).contains(&wait), "{wait}");
                }
                status => panic!("{status}"),
            }
        }
        let now = server.scrape().await;
        let of =
            |reason: &str| now[&format!("bipedalnet_requests_shed_total{{reason=\"{reason}\"}}")];
        shed = of("deadline") + of("client_gone");
    }
}

//! Spans, as a collector gets them, and `/debug`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::{self, READ_TIMEOUT, Server, simulated};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps all spans.
struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        type Spans = Arc<Mutex<Vec<Span>>>;
        async fn receive(State(spans): State<Spans>, body: Bytes) {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let received = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
            spans.lock().unwrap().extend(received.flat_map(|it| it.spans));
        }
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, spans }
    }

    /// The span of the only request to a route, and its stages.
    fn request(&self, name: &str) -> (Span, Vec<Span>) {
        let spans = self.spans.lock().unwrap();
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        let [request] = found[..] else { panic!("{name}: {spans:#?}") };
        let is_stage = |span: &&Span| span.parent_span_id == request.span_id;
        (request.clone(), spans.iter().filter(is_stage).cloned().collect())
    }
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let attribute = span.attributes.iter().filter_map(|it| {
        let value = match it.value.as_ref()?.value.as_ref()? {
            Attribute::StringValue(text) => text.clone(),
            Attribute::IntValue(number) => number.to_string(),
            _ => return None,
        };
        Some((it.key.as_str(), value))
    });
    attribute.collect()
}

fn stages(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

async fn stopped(mut server: Server) {
    server.terminate();
    // The server waits for its last spans to be received, which takes this runtime.
    let status = tokio::task::spawn_blocking(move || server.wait()).await.unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_each_request_and_stage() {
    let collector = Collector::start().await;
    // A quiet log does not silence the traces.
    let arguments = ["--otlp-endpoint", &collector.endpoint, "--log-level", "bipedalnet::cli=info"];
    let server = Server::with_arguments(&arguments);
    server.add_user("ann-of-ancona", &[simulated(11, 1)]).await;
    let walk = support::json(&simulated(11, 2));
    let identify = server.request(Method::POST, "/v1/identify", walk);
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let sent = identify.header("traceparent", traceparent).header("x-request-id", "walk-7").send();
    assert_eq!(sent.await.unwrap().status(), 200);
    stopped(server).await;

    let (request, parts) = collector.request("POST /v1/identify");
    assert_eq!(const_hex::encode(&request.trace_id), TRACE);
    assert_eq!(const_hex::encode(&request.parent_span_id), PARENT);
    assert_eq!(request.kind, SpanKind::Server as i32);
    let attributes = attributes(&request);
    for (name, value) in
        [("route", "/v1/identify"), ("method", "POST"), ("status", "200"), ("request_id", "walk-7")]
    {
        assert_eq!(attributes.get(name).map(String::as_str), Some(value), "{attributes:?}");
    }
    assert_eq!(stages(&parts), ["decode", "gallery", "inference", "queue", "receive", "signal"]);
    for part in &parts {
        assert_eq!(part.trace_id, request.trace_id);
        assert!(request.start_time_unix_nano <= part.start_time_unix_nano, "{part:?}");
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano, "{part:?}");
        assert!(part.end_time_unix_nano <= request.end_time_unix_nano, "{part:?}");
    }
    let (_, parts) = collector.request("POST /v1/users/{user}/enrollments");
    let enrollment = ["decode", "inference", "queue", "receive", "signal", "store", "turn"];
    assert_eq!(stages(&parts), enrollment);
    let (created, _) = collector.request("PUT /v1/users/{user}");
    assert_ne!(created.trace_id, request.trace_id);
    assert!(!format!("{:?}", collector.spans.lock().unwrap()).contains("ancona"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_decides_whether_its_trace_is_recorded() {
    let collector = Collector::start().await;
    let server = Server::with_arguments(&["--otlp-endpoint", &collector.endpoint]);
    for (id, traceparent) in [
        ("ignored", format!("00-{TRACE}-{PARENT}-00")),
        ("broken", "00-not-hexadecimal-01".to_owned()),
        ("recorded", format!("00-{TRACE}-{PARENT}-01")),
    ] {
        let request = server.request(Method::GET, &format!("/v1/users/{id}"), "");
        request.header("x-request-id", id).header("traceparent", traceparent).send().await.unwrap();
    }
    stopped(server).await;
    let spans = collector.spans.lock().unwrap();
    let mut seen: Vec<String> =
        spans.iter().map(|span| attributes(span)["request_id"].clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["broken", "recorded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_works_without_its_collector() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}/v1/traces");
    let server = Server::with_arguments(&["--otlp-endpoint", &endpoint]);
    server.add_user("ann", &[simulated(11, 1)]).await;
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    stopped(server).await;
}

#[tokio::test]
async fn debug_shows_what_the_server_is_doing() {
    let server = Server::with_users(&[], &[("ann-of-ancona", 11)]).await;
    // A body that does not come.
    let mut stream = server.connect();
    let head = "POST /v1/users/ann-of-ancona/verify HTTP/1.1\r\nhost: localhost\r\n\
                x-request-id: slow-one\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let begin = std::time::Instant::now();
    let document = loop {
        let (status, text) = server.operator("/debug").await;
        assert_eq!(status, 200, "{text}");
        assert!(!text.contains("ancona"), "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        if document["requests"]["open"] == 1 {
            break document;
        }
        assert!(begin.elapsed() < READ_TIMEOUT, "{text}");
        tokio::task::yield_now().await;
    };
    let open = &document["requests"]["longest_open"][0];
    assert_eq!(open["request_id"], "slow-one", "{document:#}");
    assert_eq!(open["route"], "/v1/users/{user}/verify");
    assert!(document["memory"]["allocated_bytes"].as_u64().unwrap() > 100_000, "{document:#}");
    assert!(document["runtime"]["workers"].as_u64().unwrap() > 0);
    assert_eq!(document["database"]["writer"]["open"], 1);
    assert_eq!(document["database"]["writes_waiting"], 0);
    assert!(document["connections"]["open"].as_u64().unwrap() > 0);
    drop(stream);
    let status = server.get("/debug").await.status;
    assert_eq!(status, 404, "only the operator's port has it");
}

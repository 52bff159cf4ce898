//! Web pages: which may call the API, and which host a request may name.

use std::io::{Read, Write};

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};

use crate::access::wait_until_keys_are_required;
use crate::support::{self, Server, create_key, printed, program};

const PAGE: &str = "https://app.example";

async fn send(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = support::client().request(method, server.url(path));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

async fn preflight(server: &Server, origin: &str) -> Response {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,idempotency-key"),
    ];
    send(server, Method::OPTIONS, "/v1/identify", &headers).await
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// What a server answers to bytes on a connection of their own.
fn exchange(server: &Server, request: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn by_default_no_page_of_another_origin_may_call() {
    let server = Server::start();
    let answer = support::answer(preflight(&server, PAGE).await).await;
    assert_eq!(answer.problem(), (403, "origin-not-allowed"));
    assert!(answer.body["detail"].as_str().unwrap().contains("--cors-origins"));
    let answer = send(&server, Method::GET, "/v1/models", &[("origin", PAGE)]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(text(answer.headers(), "access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_preflight_from_a_listed_page_needs_no_key() {
    let origins = "https://app.example, http://localhost:3000";
    let server = Server::with_arguments(&["--cors-origins", origins]);
    create_key(&server.database(), "identify");
    wait_until_keys_are_required(&server).await;
    for origin in [PAGE, "http://localhost:3000"] {
        let answer = preflight(&server, origin).await;
        assert_eq!(answer.status(), 204);
        let headers = answer.headers();
        assert_eq!(text(headers, "access-control-allow-origin"), Some(origin));
        let allowed = text(headers, "access-control-allow-headers").unwrap();
        assert_eq!(allowed, "authorization,content-type,idempotency-key");
        let methods = text(headers, "access-control-allow-methods").unwrap();
        assert!(["GET", "POST", "PUT", "DELETE"].iter().all(|name| methods.contains(name)));
        assert!(text(headers, "vary").unwrap().contains("origin"));
        assert_eq!(text(headers, "access-control-allow-credentials"), None);
    }
    for origin in ["https://other.example", "http://app.example", "https://app.example:444", "null"]
    {
        let answer = preflight(&server, origin).await;
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), None);
        assert_eq!(support::answer(answer).await.problem(), (403, "origin-not-allowed"));
    }
}

#[tokio::test]
async fn answers_and_errors_can_be_read_by_a_listed_page() {
    let arguments =
        ["--cors-origins", PAGE, "--key-requests-per-second", "1", "--max-body-bytes", "1024"];
    let server = Server::with_arguments(&arguments);
    let key = create_key(&server.database(), "identify");
    wait_until_keys_are_required(&server).await;
    let bearer = format!("Bearer {key}");
    let origin = ("origin", PAGE);
    let authorized = [origin, ("authorization", &bearer[..])];
    let json = [origin, ("authorization", &bearer[..]), ("content-type", "application/json")];
    let check = |answer: &Response, status: u16| {
        assert_eq!(answer.status(), status);
        let headers = answer.headers();
        assert_eq!(text(headers, "access-control-allow-origin"), Some(PAGE), "{status}");
        let exposed = text(headers, "access-control-expose-headers").unwrap();
        for name in ["retry-after", "etag", "ratelimit", "x-request-id", "idempotency-replayed"] {
            assert!(exposed.contains(name), "{exposed}");
        }
    };
    check(&send(&server, Method::GET, "/v1/models", &authorized).await, 200);
    check(&send(&server, Method::GET, "/v1/models", &[origin]).await, 401);
    check(&send(&server, Method::GET, "/v1/users", &authorized).await, 403);
    check(&send(&server, Method::GET, "/nowhere", &authorized).await, 404);
    check(&send(&server, Method::PATCH, "/v1/models", &authorized).await, 405);
    check(&send(&server, Method::POST, "/v1/identify", &authorized).await, 415);
    check(&send(&server, Method::POST, "/v1/identify", &json).await, 400);
    let large = server.request(Method::POST, "/v1/identify", vec![b' '; 2000]);
    let large = large.bearer_auth(&key).header("origin", PAGE).send().await.unwrap();
    check(&large, 413);
    let limited = loop {
        let answer = send(&server, Method::GET, "/v1/models", &authorized).await;
        if answer.status() != 200 {
            break answer;
        }
    };
    check(&limited, 429);
}

#[tokio::test]
async fn all_pages_may_call_if_the_operator_says_so() {
    let server = Server::with_arguments(&["--cors-origins", "*"]);
    for origin in [PAGE, "null"] {
        let answer = preflight(&server, origin).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), Some("*"));
    }
}

#[test]
fn an_origin_that_no_browser_sends_is_a_mistake() {
    for wrong in ["https://app.example/", "app.example", "https://*.example"] {
        let mut serve = program();
        let message = printed(serve.args(["serve", "--cors-origins", wrong])).unwrap_err();
        assert!(message.contains(wrong) && message.contains("https://app.example"), "{message}");
    }
}

#[tokio::test]
async fn a_page_cannot_reach_a_local_server_by_another_name() {
    let server = Server::start();
    assert_eq!(server.put_user("ann").await.status, 201);
    let port = server.address.rsplit(':').next().unwrap();
    for (host, expected) in [
        ("localhost", 200),
        (&format!("LocalHost:{port}")[..], 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("rebind.example", 421),
        (&format!("rebind.example:{port}"), 421),
        ("localhost.rebind.example", 421),
        ("192.168.1.2", 421),
    ] {
        let answer = send(&server, Method::GET, "/v1/users/ann", &[("host", host)]).await;
        assert_eq!(answer.status(), expected, "{host}");
    }
    let headers = [("host", "rebind.example")];
    let answer = send(&server, Method::DELETE, "/v1/users/ann", &headers).await;
    assert_eq!(support::answer(answer).await.problem(), (421, "wrong-host"));
    assert_eq!(server.get("/v1/users/ann").await.status, 200);
    // The target counts, not the header.
    let request = "GET http://rebind.example/livez HTTP/1.1\r\nhost: localhost\r\n\
                   connection: close\r\n\r\n";
    assert!(exchange(&server, request).starts_with("HTTP/1.1 421 "));
    // With a key, names do no harm: a page does not know it.
    create_key(&server.database(), "enroll");
    wait_until_keys_are_required(&server).await;
    let answer = send(&server, Method::GET, "/v1/users/ann", &headers).await;
    assert_eq!(answer.status(), 401);
    let open = Server::with_arguments(&["--allow-anonymous"]);
    let answer = send(&open, Method::GET, "/v1/users", &headers).await;
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_request_names_one_host() {
    let server = Server::start();
    for (hosts, expected) in [
        ("", "HTTP/1.1 400 "),
        ("host: localhost\r\nhost: localhost\r\n", "HTTP/1.1 400 "),
        ("host: localhost\r\nHost: rebind.example\r\n", "HTTP/1.1 400 "),
        ("host: a b\r\n", "HTTP/1.1 400 "),
        ("host: localhost\r\n", "HTTP/1.1 200 "),
    ] {
        let request = format!("GET /livez HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        let answer = exchange(&server, &request);
        assert!(answer.starts_with(expected), "{hosts} {answer}");
        assert_eq!(answer.contains("bad-host"), expected.contains("400"), "{answer}");
    }
    // Before HTTP/1.1 there was no such header.
    assert!(exchange(&server, "GET /livez HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
}

//! What clients and proxies expect of any HTTP service.

use std::io::{BufRead, BufReader, Write};

use reqwest::Method;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use crate::access::wait_until_keys_are_required;
use crate::support::{self, Server, create_key, simulated, simulated_for};

fn walk(person: u64, number: u64) -> String {
    support::json(&simulated(person, number))
}

/// Sends the headers of a request whose client waits for `100 Continue`. Returns the first line that
/// comes.
fn first_line(server: &Server, headers: &str) -> String {
    let mut stream = server.connect();
    let request = format!(
        "POST /v1/identify HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_an_error_at_once() {
    let server = Server::start();
    let json = "content-type: application/json\r\n";
    for (headers, expected) in [
        (format!("{json}content-length: 3000000\r\n"), "HTTP/1.1 413 Payload Too Large"),
        ("content-length: 3000\r\n".to_owned(), "HTTP/1.1 415 Unsupported Media Type"),
        (
            format!("{json}content-encoding: lzma\r\ncontent-length: 3000\r\n"),
            "HTTP/1.1 415 Unsupported Media Type",
        ),
        (format!("{json}content-length: 3000\r\n"), "HTTP/1.1 100 Continue"),
    ] {
        assert_eq!(first_line(&server, &headers), expected, "{headers}");
    }
    create_key(&server.database(), "identify");
    wait_until_keys_are_required(&server).await;
    let headers = format!("{json}content-length: 3000\r\n");
    assert_eq!(first_line(&server, &headers), "HTTP/1.1 401 Unauthorized");
}

#[tokio::test]
async fn a_tag_is_known_with_what_proxies_append() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    let model = server.get("/v1/models").await.body["models"][0]["model"].clone();
    let file = format!("/v1/models/{}/file", model.as_str().unwrap());
    for path in ["/docs", "/v1/users/ann", &file] {
        let get = server.request(Method::GET, path, "").send().await.unwrap();
        let tag = get.headers()["etag"].to_str().unwrap().to_owned();
        let opaque = tag.trim_start_matches("W/").trim_matches('"');
        for (known, expected) in [
            (tag.clone(), 304),
            (format!("\"{opaque}-gzip\""), 304),
            (format!("W/\"{opaque}-br\""), 304),
            (format!("\"other\", W/\"{opaque}--gzip\""), 304),
            (format!("\"{opaque}-other\""), 200),
            ("\"other-gzip\"".to_owned(), 200),
        ] {
            let request = server.request(Method::GET, path, "").header("if-none-match", &known);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), expected, "{path} {known}");
        }
    }
}

#[tokio::test]
async fn a_response_says_where_the_created_resource_is() {
    let server = Server::start();
    let send = async |method: Method, path: &str, body: String| {
        let request = server.request(method, path, body).header("idempotency-key", path.len());
        let response = request.send().await.unwrap();
        let location = response.headers().get("location");
        let location = location.map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    };
    let put = async || send(Method::PUT, "/v1/users/ann", String::new()).await;
    let created = (201, Some("/v1/users/ann".to_owned()));
    assert_eq!(put().await, created);
    assert_eq!(put().await, created, "a retry gets the same response");
    let enrollments = "/v1/users/ann/enrollments";
    let (status, location) = send(Method::POST, enrollments, walk(11, 1)).await;
    assert_eq!((status, location.as_deref()), (201, Some("/v1/users/ann/enrollments/1")));
    let again = server.request(Method::PUT, "/v1/users/ann", "").send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers().get("location")), (200, None));
    assert_eq!(send(Method::DELETE, &location.unwrap(), String::new()).await.0, 204);
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let server = Server::start();
    let client = support::client_builder().redirect(Policy::none()).build().unwrap();
    let answer = client.get(server.url("/")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (307, &"/docs".parse().unwrap())
    );
    let followed = support::client().get(server.url("/")).send().await.unwrap();
    assert_eq!((followed.status().as_u16(), followed.url().path()), (200, "/docs"));
}

#[tokio::test]
async fn a_body_that_says_nothing_about_a_user_is_refused() {
    let server = Server::start();
    let put = async |content_type: &str, body: &'static str| {
        let request = support::client().put(server.url("/v1/users/ann")).body(body);
        let request = request.header("content-type", content_type);
        support::answer(request.send().await.unwrap()).await
    };
    let answer = put("application/json", r#"{"name": "Ann"}"#).await;
    assert_eq!(answer.problem(), (422, "invalid-field"));
    let answer = put("text/plain", "Ann").await;
    assert_eq!(answer.problem(), (415, "unsupported-media-type"));
    assert_eq!(server.get("/v1/users/ann").await.status, 404);
}

#[tokio::test]
async fn an_identification_among_unknown_users_says_so() {
    let users = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14), ("eve", 15)];
    let server = Server::with_users(&[], &users).await;
    assert_eq!(server.put_user("new").await.status, 201);
    let among = async |users: &str| {
        server.send(Method::POST, &format!("/v1/identify?among={users}"), walk(11, 2)).await
    };
    for unknown in ["nobody", "ann,bob,cem,dan,eve,nobody"] {
        let answer = among(unknown).await;
        assert_eq!(answer.problem(), (404, "unknown-user"));
        assert_eq!(answer.body["field"], "among");
        assert!(answer.body["detail"].as_str().unwrap().contains("nobody"), "{answer:?}");
    }
    // A user without a walk is known.
    assert_eq!(among("ann,bob,cem,dan,new").await.problem(), (422, "too-few-users"));
    assert_eq!(among("ann,bob,cem,dan,eve,new").await.body["user"], "ann");
    let item = json!({"identify": {
        "among": ["ann", "bob", "cem", "dan", "nobody"],
        "walk": serde_json::from_str::<Value>(&walk(11, 2)).unwrap(),
    }});
    let batch = json!({"items": [item]}).to_string();
    let outcomes = server.send(Method::POST, "/v1/batch", batch).await.body;
    assert_eq!(outcomes["outcomes"][0]["status"], 404, "{outcomes}");
}

#[tokio::test]
async fn progress_runs_from_zero_to_one() {
    let server = Server::start();
    assert_eq!(server.put_user("ann").await.body["progress"], 0.0);
    let first = server.enroll("ann", &simulated_for(11, 1, 10.0)).await.body;
    let progress = first["progress"].as_f64().unwrap();
    let expected = first["windows"].as_f64().unwrap() / 29.0;
    assert!((progress - expected).abs() < 0.01 && progress < 1.0, "{first}");
    assert_eq!(first["status"], "collecting");
    server.enroll("ann", &simulated_for(11, 2, 30.0)).await;
    let user = server.get("/v1/users/ann").await.body;
    assert_eq!((&user["status"], &user["progress"]), (&json!("ready"), &json!(1.0)));
}

#[tokio::test]
async fn the_first_enrollment_creates_the_user_if_asked_to() {
    let server = Server::with_arguments(&["--max-users", "2"]);
    let enroll = async |user: &str, query: &str, body: String| {
        server.send(Method::POST, &format!("/v1/users/{user}/enrollments{query}"), body).await
    };
    let create = "?create_user=true";
    assert_eq!(enroll("ann", "", walk(11, 1)).await.problem(), (404, "unknown-user"));
    let still = json!({"rate_hz": 50, "acceleration": vec![[0.0, 9.81, 0.0]; 500]}).to_string();
    assert_eq!(enroll("ann", create, still).await.status, 422);
    assert_eq!(server.get("/v1/users/ann").await.status, 404, "a refused walk creates nobody");

    let created = enroll("ann", create, walk(11, 1)).await;
    assert_eq!((created.status, &created.body["enrollments"]), (201, &json!(1)), "{created:?}");
    let known = enroll("ann", create, walk(11, 2)).await;
    assert_eq!((known.status, &known.body["enrollments"]), (201, &json!(2)), "{known:?}");
    for number in [1, 2] {
        assert_eq!(enroll("bob", create, walk(12, number)).await.status, 201);
    }

    assert_eq!(enroll("cem", create, walk(13, 1)).await.problem(), (409, "too-many-users"));
    assert_eq!(server.get("/v1/users/cem").await.status, 404);
    assert_eq!(server.identified(&simulated(12, 3)).await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn an_idempotency_key_has_no_space() {
    let server = Server::start();
    let request = server.request(Method::PUT, "/v1/users/ann", "");
    let answer = request.header("idempotency-key", "a b").send().await.unwrap();
    assert_eq!(support::answer(answer).await.problem(), (400, "invalid-idempotency-key"));
}

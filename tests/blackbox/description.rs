//! The OpenAPI description and the documentation page.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Server, create_key, database_in, has_curl, program, text};

/// If this variable is set, the test updates the golden copy.
const RENEW: &str = "RENEW_OPENAPI";

async fn get(server: &Server, path: &str) -> String {
    let response = crate::support::client().get(server.url(path)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

async fn openapi(server: &Server) -> Value {
    serde_json::from_str(&get(server, "/openapi.json").await).unwrap()
}

/// The path, method and description of each operation.
fn operations(openapi: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    openapi["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

#[tokio::test]
async fn the_api_is_as_in_its_golden_copy() {
    let server = Server::start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let served = format!("{:#}\n", openapi(&server).await);
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let difference =
        golden.lines().zip(served.lines()).position(|(golden, served)| golden != served);
    assert!(
        golden == served,
        "the API differs from docs/openapi.json, first at line {:?}. To accept the change, run \
         {RENEW}=1 cargo test --test blackbox golden_copy",
        difference.map(|line| line + 1),
    );
}

#[tokio::test]
async fn every_operation_is_described() {
    let server = Server::start();
    let openapi = openapi(&server).await;
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&openapi) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "two operations have the id {id}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
        assert!(!operation["tags"].as_array().unwrap().is_empty(), "{id}");
        assert!(operation["responses"]["default"].is_object(), "{id} has no problem response");
        let scopes = &operation["security"][0]["api_key"];
        assert_eq!(scopes.is_array(), path.starts_with("/v1/"), "{method} {path} needs {scopes}");
    }
    assert!(ids.len() > 10, "{ids:?}");
}

#[tokio::test]
async fn the_page_shows_the_whole_description() {
    let server = Server::start();
    let (openapi, page) = (openapi(&server).await, get(&server, "/docs").await);
    for (path, method, operation) in operations(&openapi) {
        let id = operation["operationId"].as_str().unwrap();
        let (_, section) = page.split_once(&format!("<section id=\"{id}\">")).unwrap();
        let section = section.split("</section>").next().unwrap();
        assert!(section.contains(&format!("<code>{path}</code>")), "{path}");
        assert!(section.contains(&format!(">{method}</b>")), "{method} {path}");
        if let Some(scope) = operation["security"][0]["api_key"][0].as_str() {
            assert!(section.contains(&format!("scope <code>{scope}</code>")), "{method} {path}");
        }
    }
    for kind in openapi["components"]["schemas"]["Problem"]["x-types"].as_array().unwrap() {
        let code = kind["type"].as_str().unwrap().rsplit(':').next().unwrap();
        assert!(page.contains(&format!("<code>{code}</code>")), "{code}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_can_be_cached() {
    let server = Server::start();
    let client = crate::support::client();
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/monday.json", "application/json"),
        ("/openapi.json", "application/json"),
    ] {
        let response = client.get(server.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], content_type);
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        let sources =
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';";
        assert!(policy.starts_with(sources), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = response.headers()["etag"].clone();
        let body = response.text().await.unwrap();
        if path == "/docs" {
            let own = "<script type=\"module\" src=\"/docs/docs.js\"></script>";
            let rest = body.replacen(own, "", 1);
            assert_ne!(rest, body);
            let sources = ["<script", "src=", "style=", "url(", "//cdn", "onclick"];
            assert!(sources.iter().all(|source| !rest.contains(source)));
        }
        let again = client.get(server.url(path)).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), 304);
        assert!(again.text().await.unwrap().is_empty());
    }
}

/// The blocks of commands on the page.
fn commands(page: &str) -> impl Iterator<Item = String> {
    page.split("<div class=\"shell\"><pre><code>").skip(1).map(|block| {
        let html = block.split("</code></pre>").next().unwrap();
        let html = html.replace("<span class=\"server\">", "").replace("</span>", "");
        let marks =
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
        marks.iter().fold(html, |text, (mark, letter)| text.replace(mark, letter))
    })
}

#[tokio::test]
async fn each_operation_has_a_curl_line() {
    let server = Server::start();
    let (openapi, page) = (openapi(&server).await, get(&server, "/docs").await);
    let ids = operations(&openapi).map(|(_, _, operation)| operation["operationId"].as_str());
    for id in ids.map(Option::unwrap) {
        let (_, section) = page.split_once(&format!("<section id=\"{id}\">")).unwrap();
        let section = section.split("</section>").next().unwrap();
        let lines: Vec<String> = commands(section).collect();
        let [line] = &lines[..] else { panic!("{id}: {lines:?}") };
        assert!(line.contains("curl http://localhost:8080/"), "{line}");
        assert!(!line.contains('{') || line.contains("--data-binary '{"), "{line}");
        let needs_key = !["livez", "readyz"].contains(&id);
        assert_eq!(line.contains("-H \"authorization: Bearer $key\""), needs_key, "{line}");
        let file = line.split_once("--data-binary @").map(|(_, name)| name);
        if let Some(file) = file {
            assert!(line.starts_with(&format!("curl -O http://localhost:8080/docs/{file}\n")));
            let body = get(&server, &format!("/docs/{file}")).await;
            assert!(serde_json::from_str::<Value>(&body).unwrap().is_object(), "{file}");
        }
    }
    let batch = get(&server, "/docs/batch.json").await;
    assert_eq!(
        serde_json::from_str::<Value>(&batch).unwrap()["items"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn the_first_steps_work_as_printed() {
    if !has_curl("the first steps of the documentation page") {
        return;
    }
    let server = Server::start();
    let page = get(&server, "/docs").await;
    let steps = commands(&page).next().unwrap();
    assert!(steps.starts_with("server=http://localhost:8080\n"), "{steps}");
    let steps = steps.replace("http://localhost:8080", &server.url(""));
    let programs = Path::new(program().get_program()).parent().unwrap().to_owned();
    let search = std::env::var_os("PATH").unwrap();
    let search = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&search)));
    let output = Command::new("sh")
        .args(["-euc", &steps])
        .env("PATH", search.unwrap())
        .env("BIPEDALNET_DATABASE", server.database())
        .current_dir(server.folder.path())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    assert!(said.contains("\"windows_accepted\":"), "{said}");
    assert!(said.contains("\"decision\":\"identified\",\"user\":\"ann\""), "{said}");
}

#[tokio::test]
async fn head_requires_the_same_scope_as_get() {
    let folder = tempfile::tempdir().unwrap();
    let key = create_key(&database_in(folder.path()), "identify");
    let server = Server::start_in(folder);
    let head = async |key: Option<&str>| {
        let request = server.request(Method::HEAD, "/v1/users", "");
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        request.send().await.unwrap().status()
    };
    assert_eq!(head(None).await, 401);
    assert_eq!(head(Some(&key)).await, 403);
}

#[tokio::test]
async fn a_field_with_a_wrong_value_is_named() {
    let server = Server::start();
    let body = r#"{"rate_hz": 50, "acceleration": [[0.1, 9.6, 1.2], [0.1, 9.6, 1.2, 3.4]]}"#;
    let answer = server.send(Method::POST, "/v1/identify", body).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.body["type"], "urn:bipedalnet:problem:invalid-field");
    assert_eq!(answer.body["field"], "acceleration[1]");
    let answer =
        server.send(Method::POST, "/v1/identify", r#"{"acceleration": [[1, 2, 3 4]]}"#).await;
    assert_eq!(answer.body["type"], "urn:bipedalnet:problem:malformed-json");
    let answer = server.get("/v1/users?limit=101").await;
    assert_eq!((answer.status, &answer.body["field"]), (400, &Value::from("limit")));
}

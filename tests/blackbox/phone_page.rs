//! The page for phones, `/phone`. `clients/js/test/phone.test.js` uses it in a browser.

use reqwest::Response;

use crate::support::{self, Server};

async fn get(server: &Server, path: &str) -> Response {
    support::client().get(server.url(path)).send().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

/// The addresses in a page.
fn addresses(html: &str) -> Vec<&str> {
    let starts = ["href=\"", "src=\""];
    let mut found = Vec::new();
    for start in starts {
        found.extend(html.split(start).skip(1).filter_map(|rest| rest.split('"').next()));
    }
    found
}

#[tokio::test]
async fn there_is_no_page_unless_a_setting_allows_it() {
    let server = Server::start();
    for path in ["/phone", "/phone/page.js", "/phone/worker.js"] {
        assert_eq!(get(&server, path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let server = Server::with_arguments(&["--phone-page"]);
    let page = get(&server, "/phone").await;
    assert_eq!(page.status(), 200);
    let policy = header(&page, "content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe-inline") && !policy.contains("http"), "{policy}");
    let html = page.text().await.unwrap();
    let addresses = addresses(&html);
    assert!(addresses.len() >= 4, "{addresses:?}");
    for address in addresses {
        let file = get(&server, address).await;
        assert_eq!(file.status(), 200, "{address}");
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        assert_eq!(header(&file, "content-security-policy"), policy);
        // So that a browser asks for a new version, and need not load what it has.
        assert_eq!(header(&file, "cache-control"), "no-cache");
        assert!(file.headers().contains_key("etag"));
    }
    assert!(!html.contains(" style=") && !html.contains(" onclick="));
}

#[tokio::test]
async fn the_worker_serves_the_page_above_its_folder_and_has_a_version() {
    let server = Server::with_arguments(&["--phone-page"]);
    let worker = get(&server, "/phone/worker.js").await;
    assert_eq!(header(&worker, "service-worker-allowed"), "/phone");
    let script = worker.text().await.unwrap();
    let (_, rest) = script.split_once("\"bipedalnet-phone-").unwrap();
    let (version, _) = rest.split_once('"').unwrap();
    assert!(version.len() == 16 && version.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    let (_, files) = script.split_once("FILES = [").unwrap();
    let (files, _) = files.split_once(']').unwrap();
    for file in files.split(',') {
        let path = file.trim().trim_matches('"');
        assert_eq!(get(&server, path).await.status(), 200, "{path}");
    }
}

//! Templates for devices, which verify their own user offline.

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::identity::{DeviceTemplate, Verdict};
use reqwest::Method;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::json;

use crate::audit::{acts, entries};
use crate::support::{self, Answer, Server, create_key, simulated, simulated_for};

const ALLOWED: [&str; 2] = ["--device-template-days", "30"];
const PATH: &str = "/v1/users/ann/template";

struct Keys {
    /// May give tokens to devices.
    backend: String,
    admin: String,
}

async fn server(arguments: &[&str]) -> (Server, Keys) {
    let users = [("ann", 11), ("bob", 12), ("cem", 13)];
    let server = Server::with_users(&[], &users).await;
    let database = server.database();
    let folder = server.kill();
    let backend = create_key(&database, "identify,enroll,extend,template,erase");
    let admin = create_key(&database, "admin");
    (Server::start_with(folder, arguments), Keys { backend, admin })
}

async fn send(server: &Server, key: &str, method: Method, path: &str, body: String) -> Answer {
    let request = server.request(method, path, body).bearer_auth(key);
    support::answer(request.send().await.unwrap()).await
}

async fn token(server: &Server, key: &str, scopes: &[&str]) -> String {
    let body = json!({"scopes": scopes}).to_string();
    let answer = send(server, key, Method::POST, "/v1/users/ann/tokens", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_device_decides_with_its_template_as_the_server_does() {
    let (server, keys) = server(&ALLOWED).await;
    let token = token(&server, &keys.backend, &["template"]).await;
    let answer = send(&server, &token, Method::GET, PATH, String::new()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["valid_days"], 30);
    // With the same token, the device gets the model that computed the templates.
    let model = answer.body["model"].as_str().unwrap();
    let file = server.request(Method::GET, &format!("/v1/models/{model}/file"), "");
    let file = file.bearer_auth(&token).send().await.unwrap().bytes().await.unwrap();
    let model = GaitModel::new(Model::from_bytes(&file).unwrap()).unwrap();
    let template: DeviceTemplate = serde_json::from_value(answer.body.clone()).unwrap();
    let mut scratch = Scratch::default();
    for person in 11..31 {
        let walk = simulated_for(person, 9, 30.0);
        let probe = model.read(&walk, &mut scratch, |_| ()).unwrap().template;
        let found = template.verify(model.id(), &model.calibration, &probe, 0.01, false).unwrap();
        let path = "/v1/users/ann/verify?fmr=0.01";
        let of_server = server.request(Method::POST, path, support::json(&walk));
        let of_server = of_server.bearer_auth(&keys.backend).send().await.unwrap();
        let decision = match found.verdict {
            Verdict::Accept => "accept",
            Verdict::Reject => "reject",
            Verdict::Inconclusive(_) | Verdict::SuspectedReplay => "inconclusive",
        };
        let of_server = support::answer(of_server).await;
        if of_server.status == 429 {
            // Too many of these strangers failed.
            assert!(person > 15, "{of_server:?}");
            assert_eq!(decision, "reject");
            continue;
        }
        assert_eq!(of_server.body["decision"], decision, "{person}: {of_server:?}");
        assert_eq!(decision == "accept", person == 11);
    }
}

#[tokio::test]
async fn a_template_leaves_the_server_only_if_operator_and_key_allow_it() {
    let (server, keys) = server(&[]).await;
    let wanted = token(&server, &keys.backend, &["template"]).await;
    let answer = send(&server, &wanted, Method::GET, PATH, String::new()).await;
    assert_eq!(answer.problem(), (403, "no-device-templates"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("--device-template-days"), "{detail}");

    let server = Server::start_with(server.kill(), &ALLOWED);
    let usual = token(&server, &keys.backend, &["identify", "enroll"]).await;
    for (key, path, expected) in [
        (&wanted, PATH, None),
        (&keys.backend, PATH, None),
        (&wanted, "/v1/users/bob/template", Some((403, "beyond-token"))),
        (&usual, PATH, Some((403, "missing-scope"))),
        (&keys.admin, PATH, Some((403, "missing-scope"))),
        (&keys.backend, "/v1/users/nobody/template", Some((404, "unknown-user"))),
    ] {
        let answer = send(&server, key, Method::GET, path, String::new()).await;
        match expected {
            None => assert_eq!(answer.status, 200, "{answer:?}"),
            Some(expected) => assert_eq!(answer.problem(), expected, "{path}"),
        }
    }
    let put = send(&server, &keys.backend, Method::PUT, "/v1/users/dora", String::new()).await;
    assert_eq!(put.status, 201);
    let path = "/v1/users/dora/template";
    let answer = send(&server, &keys.backend, Method::GET, path, String::new()).await;
    assert_eq!(answer.problem(), (409, "not-enrolled"), "{answer:?}");
    let entries = entries(&server.database(), &[]);
    let reads = acts(&entries).iter().filter(|[_, action, _]| *action == "template_read").count();
    assert_eq!(reads, 2);
}

#[tokio::test]
async fn a_device_learns_that_its_template_changed_or_ended() {
    let (server, keys) = server(&ALLOWED).await;
    let token = token(&server, &keys.backend, &["template", "enroll", "extend", "erase"]).await;
    let get = async |tag: Option<String>| {
        let mut request = server.request(Method::GET, PATH, "").bearer_auth(&token);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        request.send().await.unwrap()
    };
    let first = get(None).await;
    let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(get(Some(tag.clone())).await.status(), 304);
    let walk = support::json(&simulated(11, 2));
    let answer = send(&server, &token, Method::POST, "/v1/users/ann/enrollments", walk).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(get(Some(tag.clone())).await.status(), 200);

    let erased = send(&server, &token, Method::DELETE, "/v1/users/bob", String::new()).await;
    assert_eq!(erased.problem(), (403, "beyond-token"));
    let erased = send(&server, &token, Method::DELETE, "/v1/users/ann", String::new()).await;
    assert_eq!(erased.status, 204, "{erased:?}");
    assert_eq!(get(Some(tag)).await.status(), 401);
}

//! Collections: groups of users that do not see one another.

use std::collections::BTreeSet;
use std::path::Path;

use bipedalnet_core::gait::Recording;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::models::{KEEPING, activate, id, restart_with_model, twin};
use crate::support::{
    self, Answer, Server, database_in, printed, program, run_sql, simulated, simulated_for,
};

const SHOP: &str = "?collection=shop";

fn walk(person: u64, number: u64) -> String {
    support::json(&simulated(person, number))
}

/// Creates a key that is bound to these comma-separated collections.
fn bound_key(database: &Path, scopes: &str, collections: &str) -> String {
    let mut command = program();
    command.args(["keys", "create", "--name", "test", "--scopes", scopes]);
    command.args(["--collections", collections, "--database"]);
    printed(command.arg(database)).unwrap().trim().to_owned()
}

async fn send(server: &Server, key: &str, method: Method, path: &str, body: String) -> Answer {
    let request = server.request(method, path, body).bearer_auth(key);
    support::answer(request.send().await.unwrap()).await
}

async fn put_collection(server: &Server, id: &str, limits: Value) -> Answer {
    server.send(Method::PUT, &format!("/v1/collections/{id}"), limits.to_string()).await
}

/// Creates a user of a collection, with one walk of a simulated person.
async fn add(server: &Server, query: &str, user: &str, person: u64) -> Answer {
    let path = format!("/v1/users/{user}{query}");
    assert_eq!(server.send(Method::PUT, &path, "").await.status, 201);
    let path = format!("/v1/users/{user}/enrollments{query}");
    let answer = server.send(Method::POST, &path, walk(person, 1)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

async fn identified(server: &Server, query: &str, recording: &Recording) -> Option<String> {
    let path = format!("/v1/identify{query}");
    let answer = server.send(Method::POST, &path, support::json(recording)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["user"].as_str().map(str::to_owned)
}

/// Ann is walker 11 in `default` and walker 12 in `shop`; Bob is walker 13 in `shop`.
async fn two_anns() -> Server {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    assert_eq!(put_collection(&server, "shop", json!({})).await.status, 201);
    add(&server, SHOP, "ann", 12).await;
    add(&server, SHOP, "bob", 13).await;
    server
}

async fn has_two_anns(server: &Server) {
    let found = async |query: &str| {
        let mut found = Vec::new();
        for person in [11, 12, 13] {
            found.push(identified(server, query, &simulated(person, 2)).await);
        }
        found
    };
    let [ann, bob] = ["ann", "bob"].map(|name| Some(name.to_owned()));
    assert_eq!(found("").await, [ann.clone(), None, None]);
    assert_eq!(found("?collection=default").await, [ann.clone(), None, None]);
    assert_eq!(found(SHOP).await, [None, ann, bob]);
}

#[tokio::test]
async fn one_name_in_two_collections_is_two_people() {
    let server = two_anns().await;
    has_two_anns(&server).await;
    for (query, person, decision) in
        [("", 11, "accept"), ("", 12, "reject"), (SHOP, 12, "accept"), (SHOP, 11, "reject")]
    {
        let path = format!("/v1/users/ann/verify{query}");
        let answer = server.send(Method::POST, &path, walk(person, 3)).await;
        assert_eq!(answer.body["decision"], decision, "{query} {person} {answer:?}");
        assert_eq!(answer.body["user"], "ann");
    }
    // A walk of one is no copy in the other collection.
    let answer = server.send(Method::POST, "/v1/users/ann/enrollments", walk(11, 1)).await;
    assert_eq!(answer.problem(), (409, "walk-already-enrolled"));
    assert_eq!(server.send(Method::PUT, &format!("/v1/users/eve{SHOP}"), "").await.status, 201);
    let path = format!("/v1/users/eve/enrollments{SHOP}");
    assert_eq!(server.send(Method::POST, &path, walk(11, 1)).await.status, 201);
    assert_eq!(server.get("/v1/users/eve").await.problem(), (404, "unknown-user"));
    assert_eq!(server.send(Method::DELETE, &format!("/v1/users/eve{SHOP}"), "").await.status, 204);

    let names = async |query: &str| {
        let users = server.get(&format!("/v1/users{query}")).await.body["users"].clone();
        let users = users.as_array().unwrap().clone();
        users.iter().map(|user| user["user"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["ann"]);
    assert_eq!(names(SHOP).await, ["ann", "bob"]);
    let page = server.get(&format!("/v1/users{SHOP}&limit=1")).await.body;
    assert_eq!((&page["next"], &page["users"][0]["user"]), (&json!("ann"), &json!("ann")));
    assert_eq!(names(&format!("{SHOP}&after=ann")).await, ["bob"]);
    let export = server.get(&format!("/v1/users/ann/export{SHOP}")).await.body;
    assert_eq!((&export["user"], &export["collection"]), (&json!("ann"), &json!("shop")));
    assert_eq!(server.get("/v1/users/ann").await.body.get("collection"), None);

    // Those who share a name are found, changed and deleted apart, also after a restart.
    let server = Server::start_in(server.kill());
    has_two_anns(&server).await;
    assert_eq!(server.send(Method::DELETE, &format!("/v1/users/ann{SHOP}"), "").await.status, 204);
    assert_eq!(identified(&server, SHOP, &simulated(12, 2)).await, None);
    let path = format!("/v1/users/bob/verify{SHOP}");
    let answer = server.send(Method::POST, &path, walk(13, 2)).await;
    assert_eq!((answer.status, &answer.body["user"]), (200, &json!("bob")), "{answer:?}");
    assert_eq!(identified(&server, "", &simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(server.get("/v1/users/ann").await.status, 200);
}

#[tokio::test]
async fn responses_tell_where_a_user_is_and_never_the_internal_id() {
    let server = Server::start();
    put_collection(&server, "shop", json!({})).await;
    let path = format!("/v1/users/ann{SHOP}");
    let response = server.request(Method::PUT, &path, "").send().await.unwrap();
    assert_eq!(response.headers()["location"], path);
    let path = format!("/v1/users/ann/enrollments{SHOP}");
    let response = server.request(Method::POST, &path, walk(12, 1)).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("/v1/users/ann/enrollments/"), "{location}");
    assert!(location.ends_with(SHOP), "{location}");
    let batch = json!({"items": [
        {"enroll": {"user": "ann", "walk": serde_json::from_str::<Value>(&walk(12, 1)).unwrap()}},
        {"enroll": {"user": "bob", "walk": serde_json::from_str::<Value>(&walk(12, 1)).unwrap()}},
        {"verify": {"user": "ann", "walk": serde_json::from_str::<Value>(&walk(12, 2)).unwrap()}},
        {"identify": {"walk": serde_json::from_str::<Value>(&walk(12, 3)).unwrap()}},
    ]});
    let named = (0..5).map(|number| format!("u{number}")).collect::<Vec<_>>().join(",");
    let mut seen = Vec::new();
    for (method, path, body) in [
        (Method::GET, format!("/v1/users{SHOP}"), String::new()),
        (Method::GET, format!("/v1/users/ann{SHOP}"), String::new()),
        (Method::GET, format!("/v1/users/ann/export{SHOP}"), String::new()),
        (Method::GET, format!("/v1/users/ann/enrollments{SHOP}"), String::new()),
        (Method::GET, format!("/v1/users/ann/template{SHOP}"), String::new()),
        (Method::GET, format!("/v1/users/bob{SHOP}"), String::new()),
        (Method::GET, format!("/v1/locks{SHOP}"), String::new()),
        (Method::POST, format!("/v1/users/ann/enrollments{SHOP}"), walk(12, 1)),
        (Method::POST, format!("/v1/users/bob/verify{SHOP}"), walk(12, 1)),
        (Method::DELETE, format!("/v1/users/ann/enrollments/99{SHOP}"), String::new()),
        (Method::POST, format!("/v1/identify{SHOP}"), walk(12, 2)),
        (Method::POST, format!("/v1/identify{SHOP}&among={named}"), walk(12, 2)),
        (Method::POST, format!("/v1/batch{SHOP}"), batch.to_string()),
        (Method::POST, "/v1/training-jobs".to_owned(), "{}".to_owned()),
        (Method::GET, "/v1/audit".to_owned(), String::new()),
    ] {
        let answer = server.send(method, &path, body).await;
        assert!(answer.status < 500, "{path} {answer:?}");
        seen.push(answer.body.to_string());
    }
    assert!(seen.iter().all(|body| !body.contains("shop/")), "{seen:#?}");
    let of_batch: Value = serde_json::from_str(&seen[12]).unwrap();
    let of_item = |item: usize, pointer: &str| of_batch["outcomes"][item].pointer(pointer).cloned();
    assert_eq!(of_item(0, "/status"), Some(json!(409)));
    assert_eq!(of_item(1, "/problem/type"), Some(json!("urn:bipedalnet:problem:unknown-user")));
    assert_eq!(of_item(2, "/verified/decision"), Some(json!("accept")));
    assert_eq!(of_item(3, "/identified/user"), Some(json!("ann")));
}

#[tokio::test]
async fn each_collection_has_its_own_thresholds() {
    let server = two_anns().await;
    for person in 20..26 {
        add(&server, SHOP, &format!("u{person}"), person).await;
    }
    put_collection(&server, "empty", json!({})).await;
    let calibration = async |query: &str| {
        let path = format!("/v1/users/ann/verify{query}");
        server.send(Method::POST, &path, walk(12, 3)).await.body["calibration"].clone()
    };
    while calibration(SHOP).await != "gallery" {
        tokio::task::yield_now().await;
    }
    // Nobody else is there to learn from.
    assert_eq!(calibration("").await, "model");
    let path = "/v1/identify?collection=empty";
    let answer = server.send(Method::POST, path, walk(12, 2)).await.body;
    assert_eq!((&answer["decision"], &answer["calibration"]), (&json!("unknown"), &json!("model")));
}

#[tokio::test]
async fn a_collection_limits_its_users_and_their_enrollments() {
    let server = Server::start();
    for bad in [json!({"max_users": 0}), json!({"most": 1}), json!({"max_users": -1})] {
        let answer = put_collection(&server, "shop", bad).await;
        assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
    }
    let limits = json!({"max_users": 2, "max_enrollments_per_user": 1});
    let answer = put_collection(&server, "shop", limits).await;
    assert_eq!((answer.status, &answer.body["max_users"]), (201, &json!(2)));
    for (user, person) in [("ann", 12), ("bob", 13)] {
        add(&server, SHOP, user, person).await;
    }
    let answer = server.send(Method::PUT, &format!("/v1/users/cem{SHOP}"), "").await;
    assert_eq!(answer.problem(), (409, "too-many-users"), "{answer:?}");
    let path = format!("/v1/users/cem/enrollments{SHOP}&create_user=true");
    let answer = server.send(Method::POST, &path, walk(14, 1)).await;
    assert_eq!(answer.problem(), (409, "too-many-users"), "{answer:?}");
    let path = format!("/v1/users/ann/enrollments{SHOP}");
    let answer = server.send(Method::POST, &path, walk(12, 2)).await;
    assert_eq!(answer.problem(), (409, "too-many-enrollments"), "{answer:?}");
    // Others have no such limits.
    for user in ["ann", "bob", "cem"] {
        assert_eq!(server.put_user(user).await.status, 201);
    }
    for number in [1, 2] {
        assert_eq!(server.enroll("ann", &simulated(12, number)).await.status, 201);
    }
    // PUT sets all limits.
    let answer = put_collection(&server, "shop", json!({"max_users": 3})).await;
    assert_eq!((answer.status, answer.body.get("max_enrollments_per_user")), (200, None));
    assert_eq!(server.send(Method::PUT, &format!("/v1/users/cem{SHOP}"), "").await.status, 201);
    assert_eq!(server.send(Method::POST, &path, walk(12, 2)).await.status, 201);
    let answer = server.get("/v1/collections/shop").await.body;
    assert_eq!((&answer["users"], &answer["max_users"]), (&json!(3), &json!(3)));
}

#[tokio::test]
async fn collections_are_listed_in_pages_and_deleted_only_if_they_are_empty() {
    let server = two_anns().await;
    for id in ["lab", "zoo"] {
        put_collection(&server, id, json!({})).await;
    }
    let page = server.get("/v1/collections?limit=3").await.body;
    let ids = |page: &Value| {
        let found = page["collections"].as_array().unwrap().clone();
        found.iter().map(|it| it["collection"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&page), ["default", "lab", "shop"]);
    assert_eq!(page["collections"][2]["users"], 2);
    let next = format!("/v1/collections?after={}", page["next"].as_str().unwrap());
    assert_eq!(ids(&server.get(&next).await.body), ["zoo"]);

    let delete =
        async |id: &str| server.send(Method::DELETE, &format!("/v1/collections/{id}"), "").await;
    for id in ["default", "shop"] {
        assert_eq!(delete(id).await.problem(), (409, "collection-in-use"));
    }
    assert_eq!(delete("nowhere").await.problem(), (404, "unknown-collection"));
    assert_eq!(delete("a%20b").await.problem(), (422, "invalid-id"));
    for user in ["ann", "bob"] {
        let path = format!("/v1/users/{user}{SHOP}");
        assert_eq!(server.send(Method::DELETE, &path, "").await.status, 204);
    }
    assert_eq!(delete("shop").await.status, 204);
    assert_eq!(server.get(&format!("/v1/users{SHOP}")).await.problem().1, "unknown-collection");
    // A new one of the same name has nothing of the old.
    put_collection(&server, "shop", json!({})).await;
    assert_eq!(identified(&server, SHOP, &simulated(12, 2)).await, None);
    let actions: Vec<String> = crate::audit::entries(&server.database(), &[])
        .iter()
        .filter_map(|entry| entry["action"].as_str().map(str::to_owned))
        .filter(|action| action.starts_with("collection_"))
        .collect();
    assert_eq!(actions.len(), 5, "{actions:?}");
}

/// Method and path of each operation that is about the users of one collection, of the others that only
/// a key for all collections may send, and of the rest.
async fn operations(server: &Server) -> [Vec<(Method, String)>; 3] {
    let description = server.get("/openapi.json").await.body;
    let mut found = <[Vec<(Method, String)>; 3]>::default();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let takes_collection = operation["parameters"].as_array().into_iter().flatten();
            let takes_collection = takes_collection
                .filter_map(|parameter| parameter["$ref"].as_str())
                .any(|name| name.ends_with("/collection"));
            let kind = match id {
                _ if takes_collection => 0,
                "livez" | "readyz" | "list_models" | "get_model" | "get_model_file" => 2,
                "list_collections" | "get_collection" => 2,
                _ => 1,
            };
            let path = path
                .replace("{user}", "ann")
                .replace("{enrollment}", "1")
                .replace("{collection}", "shop")
                .replace("{job}", "1")
                .replace("{model}", "724ae4ec6180104f");
            found[kind].push((method.to_uppercase().parse().unwrap(), path));
        }
    }
    found
}

/// A server with the users of [`two_anns`], the collection `lab`, and a key for `shop` with all scopes.
async fn with_bound_key() -> (Server, String) {
    let server = two_anns().await;
    put_collection(&server, "lab", json!({})).await;
    let database = server.database();
    let folder = server.kill();
    let scopes = "identify,enroll,extend,features,template,train,erase,admin,scores";
    let key = bound_key(&database, scopes, "shop");
    (Server::start_with(folder, &["--device-template-days", "7"]), key)
}

#[tokio::test]
async fn a_bound_key_can_do_nothing_in_other_collections() {
    let (server, key) = with_bound_key().await;
    let [of_users, of_all, _] = operations(&server).await;
    assert!(of_users.len() >= 16 && of_all.len() >= 9, "{of_users:?} {of_all:?}");
    for (method, path) in of_users {
        for other in ["default", "lab", "nowhere"] {
            let path = format!("{path}?collection={other}");
            let answer = send(&server, &key, method.clone(), &path, walk(11, 2)).await;
            assert_eq!(answer.problem(), (403, "wrong-collection"), "{method} {path} {answer:?}");
            assert_eq!(answer.body["field"], "collection");
        }
    }
    for (method, path) in of_all {
        let answer = send(&server, &key, method.clone(), &path, "{}".to_owned()).await;
        assert_eq!(answer.problem(), (403, "wrong-collection"), "{method} {path} {answer:?}");
    }
    // It does everything in its own, which it need not name.
    for query in ["", SHOP] {
        let get = async |path: &str| {
            send(&server, &key, Method::GET, &format!("{path}{query}"), String::new()).await.body
        };
        let users = get("/v1/users").await["users"].clone();
        assert_eq!(users.as_array().unwrap().len(), 2, "{users}");
        assert_eq!(get("/v1/users/ann/export").await["collection"], "shop");
        assert_eq!(get("/v1/users/ann/template").await["user"], "ann");
        let path = format!("/v1/identify{query}");
        let answer = send(&server, &key, Method::POST, &path, walk(12, 2)).await.body;
        assert_eq!(answer["user"], "ann");
        let answer = send(&server, &key, Method::POST, &path, walk(11, 2)).await.body;
        assert_eq!(answer["user"], Value::Null);
        let candidates = answer["candidates"].as_array().unwrap().len();
        assert_eq!(candidates, 2, "{answer}");
    }
    let all = send(&server, &key, Method::GET, "/v1/collections", String::new()).await.body;
    assert_eq!(all["collections"].as_array().unwrap().len(), 1);
    assert_eq!(all["collections"][0]["collection"], "shop");
    let get = async |id: &str| {
        let path = format!("/v1/collections/{id}");
        send(&server, &key, Method::GET, &path, String::new()).await
    };
    assert_eq!(get("shop").await.status, 200);
    for other in ["default", "lab", "nowhere"] {
        assert_eq!(get(other).await.problem(), (403, "wrong-collection"));
    }
    let mut list = program();
    let list = printed(list.args(["keys", "list", "--database"]).arg(server.database())).unwrap();
    assert!(list.contains("collections") && list.contains(" shop "), "{list}");
}

#[tokio::test]
async fn a_key_for_several_collections_must_name_one() {
    let server = two_anns().await;
    put_collection(&server, "lab", json!({})).await;
    let database = server.database();
    let folder = server.kill();
    let key = bound_key(&database, "admin,enroll", "shop,lab");
    let with_default = bound_key(&database, "admin,enroll", "shop,default");
    let server = Server::start_in(folder);
    let get =
        async |key: &str, path: &str| send(&server, key, Method::GET, path, String::new()).await;
    let answer = get(&key, "/v1/users").await;
    assert_eq!(answer.problem(), (403, "wrong-collection"));
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("lab, shop") && detail.contains("?collection="), "{detail}");
    assert_eq!(get(&key, "/v1/users?collection=lab").await.body["users"], json!([]));
    let users = get(&with_default, "/v1/users").await.body["users"].clone();
    assert_eq!(users[0].get("collection"), None);
    let listed = get(&key, "/v1/collections?limit=1").await.body;
    assert_eq!(
        (&listed["next"], listed["collections"].as_array().unwrap().len()),
        (&json!("lab"), 1)
    );
    let listed = get(&key, "/v1/collections?after=lab").await.body;
    assert_eq!(listed["collections"][0]["collection"], "shop");
    assert_eq!(listed.get("next"), None);
}

#[tokio::test]
async fn a_collection_exists_before_it_is_used() {
    let server = Server::start();
    let [of_users, ..] = operations(&server).await;
    for (method, path) in &of_users {
        for (query, expected) in [
            ("collection=shpo", (404, "unknown-collection")),
            ("collection=", (422, "invalid-id")),
            ("collection=a%2Fb", (422, "invalid-id")),
            ("collection=default&collection=shop", (400, "invalid-query")),
            ("colection=shop", (400, "invalid-query")),
            ("%63ollection=shop", (400, "invalid-query")),
        ] {
            let path = format!("{path}?{query}");
            let answer = server.send(method.clone(), &path, walk(11, 1)).await;
            assert_eq!(answer.problem(), expected, "{method} {path} {answer:?}");
        }
    }
    let found = server.get("/v1/collections").await.body["collections"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(server.get("/v1/users").await.body["users"], json!([]));
}

#[tokio::test]
async fn a_retry_in_another_collection_is_another_request() {
    let server = two_anns().await;
    let put = async |path: &str, key: &str| {
        let request = server.request(Method::PUT, path, "").header("idempotency-key", key);
        support::answer(request.send().await.unwrap()).await
    };
    assert_eq!(put("/v1/users/cem", "a").await.status, 201);
    assert_eq!(put("/v1/users/cem", "a").await.status, 201, "the stored response");
    let answer = put(&format!("/v1/users/cem{SHOP}"), "a").await;
    assert_eq!(answer.problem(), (422, "idempotency-key-reused"));
    assert_eq!(server.get(&format!("/v1/users/cem{SHOP}")).await.status, 404);
    assert_eq!(put(&format!("/v1/users/cem{SHOP}"), "b").await.status, 201);
    // What was answered about one is not deleted with the other.
    assert_eq!(server.send(Method::DELETE, &format!("/v1/users/cem{SHOP}"), "").await.status, 204);
    assert_eq!(put("/v1/users/cem", "a").await.status, 201);
    let answer = put(&format!("/v1/users/cem{SHOP}"), "b").await;
    assert_eq!(answer.problem(), (410, "answer-erased"));
}

#[tokio::test]
async fn a_token_is_for_a_user_of_one_collection() {
    let (server, _) = with_bound_key().await;
    let database = server.database();
    let folder = server.kill();
    let backend = support::create_key(&database, "identify,enroll,erase");
    let server = Server::start_in(folder);
    let token = async |query: &str| {
        let path = format!("/v1/users/ann/tokens{query}");
        let document = json!({"scopes": ["identify", "enroll", "erase"]}).to_string();
        let answer = send(&server, &backend, Method::POST, &path, document).await;
        assert_eq!((answer.status, &answer.body["user"]), (201, &json!("ann")), "{answer:?}");
        answer.body["token"].as_str().unwrap().to_owned()
    };
    let [of_default, of_shop] = [token("").await, token(SHOP).await];
    for (token, person, other, own) in [
        (&of_default, 11, SHOP, "?collection=default"),
        (&of_shop, 12, "?collection=default", SHOP),
    ] {
        for query in ["", own] {
            let path = format!("/v1/users/ann/verify{query}");
            let number = 4 + u64::from(query.is_empty());
            let answer = send(&server, token, Method::POST, &path, walk(person, number)).await;
            assert_eq!(answer.body["decision"], "accept", "{answer:?}");
        }
        for (method, path) in [
            (Method::GET, "/v1/users/ann"),
            (Method::DELETE, "/v1/users/ann"),
            (Method::POST, "/v1/users/ann/verify"),
            (Method::POST, "/v1/users/ann/enrollments"),
            (Method::POST, "/v1/batch"),
        ] {
            let path = format!("{path}{other}");
            let answer = send(&server, token, method, &path, walk(person, 9)).await;
            assert_eq!(answer.problem(), (403, "beyond-token"), "{path} {answer:?}");
        }
    }
    // A token cannot be moved to the other.
    let moved = of_shop.replace("shop/ann", "ann");
    assert_ne!(moved, of_shop);
    let answer = send(&server, &moved, Method::GET, "/v1/users/ann", String::new()).await;
    assert_eq!(answer.problem(), (401, "bad-api-key"));
    let answer = send(&server, &of_shop, Method::DELETE, "/v1/users/ann", String::new()).await;
    assert_eq!(answer.status, 204);
    let answer = send(&server, &of_default, Method::GET, "/v1/users/ann", String::new()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn challenges_and_sessions_are_of_one_collection() {
    let server = two_anns().await;
    let answer = server.send(Method::POST, "/v1/users/ann/challenges", "").await;
    let challenge = answer.body["challenge"].as_str().unwrap().to_owned();
    let verify = async |query: &str, person: u64, number: u64| {
        let path = format!("/v1/users/ann/verify{query}");
        let short = support::json(&simulated_for(person, number, 8.0));
        server.send(Method::POST, &path, short).await
    };
    let answer = verify(&format!("{SHOP}&challenge={challenge}"), 12, 4).await;
    assert_eq!(answer.problem(), (409, "bad-challenge"));
    assert_eq!(verify(&format!("?challenge={challenge}"), 11, 4).await.status, 200);
    // Walks of two users do not add up, though their names and their session are the same.
    let first = verify("?session=s", 11, 5).await.body["windows"].as_u64().unwrap();
    let other = verify(&format!("{SHOP}&session=s"), 12, 5).await.body["windows"].as_u64().unwrap();
    let both = verify("?session=s", 11, 6).await.body["windows"].as_u64().unwrap();
    assert!(first > 0 && other > 0 && other < first + 3 && both > first, "{first} {other} {both}");
}

#[tokio::test]
async fn locks_are_listed_and_released_by_collection() {
    let (server, bound) = with_bound_key().await;
    let database = server.database();
    let folder = server.kill();
    let all = support::create_key(&database, "identify,enroll,admin");
    let server = Server::start_with(folder, &["--max-failed-verifications", "10"]);
    let guess = async |query: &str, number: u64| {
        let path = format!("/v1/users/ann/verify{query}");
        let walk = support::json(&simulated_for(40, number, 20.0));
        send(&server, &all, Method::POST, &path, walk).await.status
    };
    let mut number = 0;
    while guess(SHOP, number).await != 423 {
        number += 1;
    }
    assert_eq!(guess("", 90).await, 200, "the other is not locked");
    let locked = async |key: &str, query: &str| {
        let path = format!("/v1/locks{query}");
        let answer = send(&server, key, Method::GET, &path, String::new()).await;
        answer.body["locks"].as_array().unwrap().len()
    };
    assert_eq!((locked(&all, "").await, locked(&all, SHOP).await), (0, 1));
    assert_eq!(locked(&bound, "").await, 1);
    assert_eq!(server.scrape().await["bipedalnet_locked_users"], 1.0);
    let release = async |query: &str| {
        let path = format!("/v1/users/ann/lock{query}");
        send(&server, &all, Method::DELETE, &path, String::new()).await.status
    };
    assert_eq!((release("").await, locked(&all, SHOP).await), (204, 1));
    assert_eq!((release(SHOP).await, locked(&all, SHOP).await), (204, 0));
}

#[tokio::test]
async fn metrics_by_collection_are_bounded() {
    let server = two_anns().await;
    for number in 0..60 {
        let answer = put_collection(&server, &format!("c{number:02}"), json!({})).await;
        assert_eq!(answer.status, 201);
    }
    add(&server, "?collection=c59", "ann", 20).await;
    has_two_anns(&server).await;
    assert_eq!(identified(&server, "?collection=c59", &simulated(11, 2)).await, None);
    let metrics = server.scrape().await;
    let labels: BTreeSet<&str> = metrics
        .keys()
        .filter_map(|name| Some(name.split_once("collection=\"")?.1.split_once('"')?.0))
        .collect();
    assert_eq!(labels.len(), 51, "{labels:?}");
    let of = |name: &str, collection: &str| {
        metrics[&format!("bipedalnet_collection_{name}{{collection=\"{collection}\"}}")]
    };
    assert_eq!(
        (of("users", "default"), of("users", "shop"), of("users", "(other)")),
        (1.0, 2.0, 1.0)
    );
    assert_eq!(of("templates", "shop"), 2.0);
    let decided = |collection: &str, decision: &str| {
        metrics[&format!(
            "bipedalnet_collection_decisions_total{{collection=\"{collection}\",\
             decision=\"{decision}\",operation=\"identify\"}}"
        )]
    };
    assert_eq!((decided("default", "identified"), decided("shop", "identified")), (2.0, 2.0));
    let missed = decided("(other)", "unknown") + decided("(other)", "inconclusive");
    assert_eq!(missed, 1.0);
    // The totals are as before there were collections.
    assert_eq!((metrics["bipedalnet_users"], metrics["bipedalnet_gallery_users"]), (4.0, 4.0));
    assert_eq!(
        metrics["bipedalnet_decisions_total{decision=\"identified\",operation=\"identify\"}"],
        4.0
    );
}

#[tokio::test]
async fn a_change_of_the_model_changes_all_collections() {
    let server = Server::with_arguments(&KEEPING);
    put_collection(&server, "shop", json!({})).await;
    for (query, person) in [("", 11), (SHOP, 12)] {
        add(&server, query, "ann", person).await;
        let path = format!("/v1/users/ann/enrollments{query}");
        assert_eq!(server.send(Method::POST, &path, walk(person, 2)).await.status, 201);
    }
    let file = twin(5);
    let server = restart_with_model(server, &file, &KEEPING);
    let answer = activate(&server, &id(&file), false).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Each probe is compared within its collection, where nobody else is.
    assert_eq!(answer.body["comparison"]["recordings"], 2);
    assert_eq!(answer.body["comparison"]["new"]["identified_wrong"], 0.0);
    let knows_both = async |server: &Server| {
        for (query, person, other) in [("", 11, 12), (SHOP, 12, 11)] {
            let path = format!("/v1/users/ann/verify{query}");
            let answer = server.send(Method::POST, &path, walk(person, 3)).await.body;
            assert_eq!(
                (&answer["decision"], &answer["model"]),
                (&json!("accept"), &json!(id(&file)))
            );
            let found = identified(server, query, &simulated(other, 4)).await;
            assert_eq!(found, None, "{query}");
        }
    };
    knows_both(&server).await;
    // The secret of templates is renewed for all, too.
    let folder = server.kill();
    run(&folder, &["renew-templates"]);
    let server = Server::start_with(folder, &KEEPING);
    for (query, person) in [("", 11), (SHOP, 12)] {
        let path = format!("/v1/users/ann/verify{query}");
        let answer = server.send(Method::POST, &path, walk(person, 5)).await.body;
        assert_eq!(answer["decision"], "accept", "{answer}");
    }
}

#[tokio::test]
async fn servers_of_one_database_know_each_others_collections() {
    let one = Server::start();
    if one.database().is_absolute() {
        eprintln!("skipped: a database of SQLite serves one server");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = "database-url";
    std::fs::copy(one.folder.path().join(url), folder.path().join(url)).unwrap();
    let other = Server::start_in(folder);
    assert_eq!(put_collection(&one, "shop", json!({"max_users": 1})).await.status, 201);
    // At once, and within its limits.
    let put = async |server: &Server, user: &str| {
        server.send(Method::PUT, &format!("/v1/users/{user}{SHOP}"), "").await
    };
    assert_eq!(put(&other, "ann").await.status, 201);
    assert_eq!(put(&one, "bob").await.problem(), (409, "too-many-users"));
    let label = "bipedalnet_collection_users{collection=\"shop\"}";
    while other.scrape().await.get(label) != Some(&1.0) {
        tokio::task::yield_now().await;
    }
    let path = format!("/v1/users/ann{SHOP}");
    assert_eq!(one.send(Method::DELETE, &path, "").await.status, 204);
    assert_eq!(one.send(Method::DELETE, "/v1/collections/shop", "").await.status, 204);
    assert_eq!(put(&other, "ann").await.problem(), (404, "unknown-collection"));
    while other.get(&format!("/v1/users{SHOP}")).await.status != 404 {
        tokio::task::yield_now().await;
    }
    // Either the user comes first or the deletion.
    for round in 0..20 {
        put_collection(&one, "shop", json!({})).await;
        let user = format!("u{round}");
        let delete = one.send(Method::DELETE, "/v1/collections/shop", "");
        let (created, deleted) = tokio::join!(put(&other, &user), delete);
        let statuses = (created.status, deleted.status);
        assert!([(201, 409), (404, 204)].contains(&statuses), "{created:?} {deleted:?}");
        one.send(Method::DELETE, &format!("/v1/users/{user}{SHOP}"), "").await;
    }
}

fn run(folder: &TempDir, arguments: &[&str]) -> String {
    let database = database_in(folder.path());
    printed(program().args(arguments).arg("--database").arg(database)).unwrap()
}

#[tokio::test]
async fn a_restored_backup_brings_nobody_back_who_was_deleted_from_a_collection() {
    let server = two_anns().await;
    if !server.database().is_absolute() {
        eprintln!("skipped: PostgreSQL has backups of its own");
        return;
    }
    let backup = server.folder.path().join("before.db");
    run(&server.folder, &["backup", backup.to_str().unwrap()]);
    let enrollments = server.get(&format!("/v1/users/bob/enrollments{SHOP}")).await.body;
    let walk = &enrollments["enrollments"][0]["enrollment"];
    for path in [format!("/v1/users/ann{SHOP}"), format!("/v1/users/bob/enrollments/{walk}{SHOP}")]
    {
        assert_eq!(server.send(Method::DELETE, &path, "").await.status, 204);
    }
    let folder = server.kill();
    // Then only the records in the replaced database tell.
    std::fs::remove_file(folder.path().join("test.db-keyring")).unwrap();
    let said = run(&folder, &["restore", backup.to_str().unwrap()]);
    assert!(said.contains("deleted again: 1 users") && !said.contains("warning"), "{said}");
    let server = Server::start_in(folder);
    assert_eq!(server.get(&format!("/v1/users/ann{SHOP}")).await.status, 404);
    let bob = server.get(&format!("/v1/users/bob{SHOP}")).await;
    assert_eq!((bob.status, &bob.body["enrollments"]), (200, &json!(0)));
    assert_eq!(identified(&server, "", &simulated(11, 2)).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn the_command_line_names_users_in_collections() {
    let server = two_anns().await;
    let walks = [1, 2].map(|number| {
        let path = server.folder.path().join(format!("{number}.json"));
        std::fs::write(&path, walk(14, number)).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let client = |arguments: &[&str]| {
        let url = server.url("");
        printed(program().args(arguments).args(["--url", &url, "--collection", "shop"]))
    };
    assert!(client(&["enroll", "cem", &walks[0]]).unwrap().contains("cem"));
    assert!(client(&["identify", &walks[1]]).unwrap().contains("cem"));
    assert!(client(&["verify", "cem", &walks[1]]).unwrap().contains("this is cem"));
    assert_eq!(server.get("/v1/users/cem").await.status, 404);
    let folder = server.kill();
    let entries = |arguments: &[&str]| run(&folder, arguments).lines().count();
    let of_default = entries(&["audit", "--user", "cem"]);
    let of_shop = entries(&["audit", "--user", "cem", "--collection", "shop"]);
    assert!(of_default == 0 && of_shop >= 2, "{of_default} {of_shop}");
}

#[tokio::test]
async fn a_name_and_a_collection_may_be_as_long_as_they_can() {
    let server = Server::start();
    let (collection, name) = ("c".repeat(64), "n".repeat(64));
    assert_eq!(put_collection(&server, &collection, json!({})).await.status, 201);
    add(&server, &format!("?collection={collection}"), &name, 11).await;
    let folder = server.kill();
    let database = database_in(folder.path());
    assert_eq!(run_sql(&database, "SELECT max(length(id)) FROM users"), "129");
    let server = Server::start_in(folder);
    let found = identified(&server, &format!("?collection={collection}"), &simulated(11, 2)).await;
    assert_eq!(found, Some(name));
}

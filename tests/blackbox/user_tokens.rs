//! Tokens: what a phone sends instead of an API key.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::audit::{acts, entries};
use crate::support::{
    self, Answer, Server, create_key, printed, program, simulated, simulated_for,
};

/// A server with the users ann and bob, and a key of a backend.
struct House {
    server: Server,
    backend: String,
    admin: String,
}

impl House {
    async fn new(arguments: &[&str]) -> Self {
        let server = Server::with_users(&[], &[("ann", 11), ("bob", 12)]).await;
        let database = server.database();
        let folder = server.kill();
        let backend = create_key(&database, "identify,enroll");
        let admin = create_key(&database, "admin,enroll");
        Self { server: Server::start_with(folder, arguments), backend, admin }
    }

    async fn send(&self, key: &str, method: Method, path: &str, body: &str) -> Answer {
        let request = self.server.request(method, path, body.to_owned()).bearer_auth(key);
        support::answer(request.send().await.unwrap()).await
    }

    async fn create(&self, key: &str, user: &str, document: Value) -> Answer {
        let path = format!("/v1/users/{user}/tokens");
        self.send(key, Method::POST, &path, &document.to_string()).await
    }

    async fn token(&self, user: &str, document: Value) -> String {
        let answer = self.create(&self.backend, user, document).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// Repeats a request with a token until it has another status.
    async fn refusal(&self, token: &str, before: u16) -> Answer {
        loop {
            let answer = self.send(token, Method::GET, "/v1/users/ann", "").await;
            if answer.status != before {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn walk(person: u64, number: u64) -> String {
    support::json(&simulated(person, number))
}

#[tokio::test]
async fn a_token_is_for_one_user_and_for_their_walks_only() {
    let house = House::new(&[]).await;
    let token = house.token("ann", json!({})).await;
    let verify = walk(11, 2);
    let enroll = walk(11, 3);
    for (method, path, body, expected) in [
        (Method::GET, "/v1/users/ann", "", None),
        (Method::GET, "/v1/users/%61nn", "", None),
        (Method::POST, "/v1/users/ann/verify", &verify[..], None),
        (Method::POST, "/v1/users/ann/challenges", "", None),
        (Method::POST, "/v1/users/ann/enrollments", &enroll, None),
        (Method::GET, "/v1/users/ann/enrollments", "", None),
        (Method::POST, "/v1/users/ann/enrollments?create_user=true", &enroll, Some("beyond-token")),
        (Method::GET, "/v1/users/bob", "", Some("beyond-token")),
        (Method::GET, "/v1/users/nobody", "", Some("beyond-token")),
        (Method::POST, "/v1/users/bob/verify", &verify, Some("beyond-token")),
        (Method::POST, "/v1/users/bob/challenges", "", Some("beyond-token")),
        (Method::POST, "/v1/users/bob/enrollments", &enroll, Some("beyond-token")),
        (Method::GET, "/v1/users/bob/enrollments", "", Some("beyond-token")),
        (Method::PUT, "/v1/users/ann", "", Some("beyond-token")),
        (Method::PUT, "/v1/users/carol", "", Some("beyond-token")),
        (Method::DELETE, "/v1/users/ann", "", Some("missing-scope")),
        (Method::DELETE, "/v1/users/bob", "", Some("beyond-token")),
        (Method::GET, "/v1/users/ann/template", "", Some("missing-scope")),
        (Method::DELETE, "/v1/users/ann/enrollments/1", "", Some("beyond-token")),
        (Method::DELETE, "/v1/users/ann/lock", "", Some("beyond-token")),
        (Method::GET, "/v1/users/ann/export", "", Some("beyond-token")),
        (Method::POST, "/v1/users/ann/tokens", "{}", Some("beyond-token")),
        (Method::GET, "/v1/users", "", Some("beyond-token")),
        (Method::POST, "/v1/identify", &verify, Some("beyond-token")),
        (Method::POST, "/v1/identify?among=ann", &verify, Some("beyond-token")),
        (Method::GET, "/v1/models", "", Some("beyond-token")),
        (Method::GET, "/v1/audit", "", Some("beyond-token")),
        (Method::POST, "/v1/training-jobs", "{}", Some("beyond-token")),
    ] {
        let answer = house.send(&token, method.clone(), path, body).await;
        match expected {
            None => assert!(answer.status < 300, "{method} {path} {answer:?}"),
            Some(kind) => assert_eq!(answer.problem(), (403, kind), "{method} {path}"),
        }
    }
    let item = |kind: &str, user: Option<&str>, walk: &str| {
        let mut item = json!({"walk": serde_json::from_str::<Value>(walk).unwrap()});
        if let Some(user) = user {
            item["user"] = user.into();
        }
        json!({kind: item})
    };
    let batch = json!({"items": [
        item("verify", Some("ann"), &walk(11, 4)),
        item("verify", Some("bob"), &walk(11, 4)),
        item("enroll", Some("bob"), &walk(11, 4)),
        item("identify", None, &walk(11, 4)),
    ]});
    let answer = house.send(&token, Method::POST, "/v1/batch", &batch.to_string()).await.body;
    let statuses = [0, 1, 2, 3].map(|at| answer["outcomes"][at]["status"].as_u64().unwrap());
    assert_eq!(statuses, [200, 403, 403, 403], "{answer}");
}

#[tokio::test]
async fn a_token_allows_no_more_than_its_key() {
    let house = House::new(&[]).await;
    let answer = house.create(&house.backend, "ann", json!({"expires_in_seconds": 60})).await;
    assert_eq!(answer.body["scopes"], json!(["identify", "enroll"]));
    assert_eq!(answer.body["expires_in_seconds"], 60);
    for (document, expected) in [
        (json!({"scopes": ["extend"]}), (403, "missing-scope")),
        (json!({"scopes": ["admin"]}), (422, "invalid-field")),
        (json!({"scopes": ["features"]}), (403, "missing-scope")),
        (json!({"scopes": ["template"]}), (403, "missing-scope")),
        (json!({"scopes": ["erase"]}), (403, "missing-scope")),
        (json!({"scopes": ["scores"]}), (422, "invalid-field")),
        (json!({"scopes": []}), (422, "invalid-field")),
        (json!({"expires_in_seconds": 0}), (422, "invalid-field")),
        (json!({"expires_in_seconds": 3601}), (422, "invalid-field")),
    ] {
        let answer = house.create(&house.backend, "ann", document.clone()).await;
        assert_eq!(answer.problem(), expected, "{document}");
    }
    let unknown = house.create(&house.backend, "nobody", json!({})).await;
    assert_eq!(unknown.problem(), (404, "unknown-user"));
    // The admin's key has no `identify`, so neither have its tokens.
    let answer = house.create(&house.admin, "ann", json!({})).await;
    assert_eq!(answer.body["scopes"], json!(["enroll"]));
    let narrow = house.token("ann", json!({"scopes": ["enroll"]})).await;
    let answer = house.send(&narrow, Method::POST, "/v1/users/ann/verify", &walk(11, 2)).await;
    assert_eq!(answer.problem(), (403, "missing-scope"));
    let open = Server::with_users(&[], &[("ann", 11)]).await;
    let answer = open.send(Method::POST, "/v1/users/ann/tokens", "{}").await;
    assert_eq!(answer.problem(), (409, "tokens-need-keys"));
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_user_and_its_key() {
    let no_quota = ["--key-requests-per-second", "0"];
    let house = House::new(&no_quota).await;
    let short = house.token("ann", json!({"expires_in_seconds": 1})).await;
    assert_eq!(house.refusal(&short, 200).await.problem(), (401, "expired-token"));

    let token = house.token("ann", json!({})).await;
    // A token survives a restart, since nothing but the keyring is needed to check it.
    let House { server, backend, admin } = house;
    let server = Server::start_with(server.kill(), &no_quota);
    let house = House { server, backend, admin };
    assert_eq!(house.send(&token, Method::GET, "/v1/users/ann", "").await.status, 200);
    let changed = token.replace("identify.enroll", "identify.enroll.extend");
    let answer = house.send(&changed, Method::GET, "/v1/users/ann", "").await;
    assert_eq!(answer.problem(), (401, "bad-api-key"));
    let of_bob = token.replace("_ann", "_bob");
    let answer = house.send(&of_bob, Method::GET, "/v1/users/bob", "").await;
    assert_eq!(answer.problem(), (401, "bad-api-key"));

    // Nor does it open a later user with the same id.
    let erased = house.send(&house.admin, Method::DELETE, "/v1/users/ann", "").await;
    assert_eq!(erased.status, 204);
    let answer = house.send(&token, Method::GET, "/v1/users/ann", "").await;
    assert_eq!(answer.problem(), (401, "bad-api-key"));
    assert_eq!(house.send(&house.admin, Method::PUT, "/v1/users/ann", "").await.status, 201);
    let answer = house.send(&token, Method::GET, "/v1/users/ann", "").await;
    assert_eq!(answer.problem(), (401, "bad-api-key"));

    let token = house.token("ann", json!({})).await;
    assert_eq!(house.send(&token, Method::GET, "/v1/users/ann", "").await.status, 200);
    let mut revoke = program();
    revoke.args(["keys", "revoke", &house.backend[4..16], "--database"]);
    printed(revoke.arg(house.server.database())).unwrap();
    assert_eq!(house.refusal(&token, 200).await.problem(), (401, "bad-api-key"));
}

#[tokio::test]
async fn failures_with_tokens_lock_the_user_for_their_key() {
    let house = House::new(&["--max-failed-verifications", "10"]).await;
    for number in 0..5 {
        // A new token is no new attempt.
        let token = house.token("ann", json!({})).await;
        let guess = support::json(&simulated_for(40, number, 20.0));
        let answer = house.send(&token, Method::POST, "/v1/users/ann/verify", &guess).await;
        assert_eq!(answer.body["decision"], "reject", "{answer:?}");
    }
    let token = house.token("ann", json!({})).await;
    for key in [&token, &house.backend] {
        let answer = house.send(key, Method::POST, "/v1/users/ann/verify", &walk(11, 2)).await;
        assert_eq!(answer.problem(), (423, "user-locked"));
    }
    let locks = house.send(&house.admin, Method::GET, "/v1/locks", "").await.body;
    assert_eq!(locks["locks"][0]["for_keys"], json!([&house.backend[4..16]]), "{locks}");
}

#[tokio::test]
async fn a_token_has_a_tenth_of_its_keys_quota_and_spends_it() {
    let house = House::new(&["--key-requests-per-second", "20"]).await;
    let begin = Instant::now();
    let token = house.token("ann", json!({})).await;
    let first = house.server.request(Method::GET, "/v1/users/ann", "").bearer_auth(&token);
    let first = first.send().await.unwrap();
    assert_eq!(first.headers()["ratelimit-policy"], "\"token\";q=20;w=10");
    // Another token of the same user does not help. One of another user does.
    let same = house.token("ann", json!({})).await;
    let mut spent = 1;
    let regained = |per_second| begin.elapsed().as_secs_f64() * per_second;
    for token in [&token, &same] {
        let refused = loop {
            let answer = house.send(token, Method::GET, "/v1/users/ann", "").await;
            if answer.status != 200 {
                break answer;
            }
            spent += 1;
            assert!(f64::from(spent) <= 20.0 + regained(2.0), "{spent}");
        };
        assert_eq!(refused.problem(), (429, "too-many-requests"));
    }
    let other = house.token("bob", json!({})).await;
    assert_eq!(house.send(&other, Method::GET, "/v1/users/bob", "").await.status, 200);
    // They count as requests of the key, beside its own.
    let key = house.server.request(Method::GET, "/v1/users/ann", "").bearer_auth(&house.backend);
    let key = key.send().await.unwrap();
    assert_eq!(key.status(), 200);
    let limit = key.headers()["ratelimit"].to_str().unwrap();
    let left = support::requests_left(limit);
    assert!(left <= 200.0 - f64::from(spent) + regained(20.0), "{limit} after {spent}");
}

#[tokio::test]
async fn the_audit_trail_tells_tokens_from_their_key() {
    let house = House::new(&[]).await;
    let token = house.token("ann", json!({})).await;
    let answer = house.send(&token, Method::POST, "/v1/users/ann/verify", &walk(11, 2)).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
    let entries = entries(&house.server.database(), &["--user", "ann"]);
    let acts = acts(&entries);
    let [.., [maker, "token_created", detail], [actor, "verified", "accept"]] = acts[..] else {
        panic!("{acts:?}");
    };
    assert_eq!(maker, &house.backend[4..16]);
    assert_eq!(detail, format!("{actor} identify enroll"));
    assert!(actor.starts_with(&format!("{maker}.")) && !actor.contains("ann"), "{actor}");
}

#[tokio::test]
async fn a_backend_creates_the_challenge_and_the_phone_verifies() {
    let house = House::new(&["--require-challenge"]).await;
    let token = house.token("ann", json!({})).await;
    let challenge = house.send(&house.backend, Method::POST, "/v1/users/ann/challenges", "").await;
    let path =
        format!("/v1/users/ann/verify?challenge={}", challenge.body["challenge"].as_str().unwrap());
    let answer = house.send(&token, Method::POST, &path, &walk(11, 2)).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
    let answer = house.send(&token, Method::POST, &path, &walk(11, 3)).await;
    assert_eq!(answer.problem(), (409, "bad-challenge"));
}

#[tokio::test]
async fn tokens_of_two_users_may_use_the_same_idempotency_key() {
    let house = House::new(&[]).await;
    for (user, person) in [("ann", 11), ("bob", 12)] {
        let verify = async |token: String, number| {
            let path = format!("/v1/users/{user}/verify");
            let request = house.server.request(Method::POST, &path, walk(person, number));
            let request = request.bearer_auth(token).header("idempotency-key", "1");
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{user}");
            response.headers().contains_key("idempotency-replayed")
        };
        assert!(!verify(house.token(user, json!({})).await, 2).await);
        // A phone may get a new token between a request and its retry.
        assert!(verify(house.token(user, json!({"scopes": ["identify"]})).await, 2).await);
    }
}

#[tokio::test]
async fn keys_and_tokens_are_accepted_in_x_api_key_too() {
    let house = House::new(&[]).await;
    let token = house.token("ann", json!({})).await;
    let status = async |headers: &[(&str, &str)]| {
        let request = support::client().get(house.server.url("/v1/users/ann"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap().status().as_u16()
    };
    let bearer = format!("Bearer {}", house.backend);
    for (headers, expected) in [
        (vec![("x-api-key", &house.backend[..])], 200),
        (vec![("X-Api-Key", &token)], 200),
        (vec![("x-api-key", "bpn_0123456789ab_00")], 401),
        (vec![("x-api-key", &bearer)], 401),
        // For a proxy in between.
        (vec![("authorization", "Basic YTpi"), ("x-api-key", &house.backend)], 200),
        (vec![("authorization", &bearer), ("x-api-key", "other")], 200),
        (vec![("authorization", "Bearer other"), ("x-api-key", &house.backend)], 401),
    ] {
        assert_eq!(status(&headers).await, expected, "{headers:?}");
    }
}

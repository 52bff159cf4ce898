//! Limits on guessing: failed verifications delay the next one, and lock the user at last.

use bipedalnet_core::gait::Recording;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Answer, Server, create_key, run_sql, simulated, simulated_for};

/// Ann and four others, and two keys that may verify.
struct House {
    server: Server,
    key: String,
    other_key: String,
    admin: String,
}

impl House {
    async fn new(arguments: &[&str]) -> Self {
        let users = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14), ("eve", 15)];
        let server = Server::with_users(&[], &users).await;
        let database = server.database();
        let folder = server.kill();
        let key = create_key(&database, "identify");
        let other_key = create_key(&database, "identify");
        let admin = create_key(&database, "admin,enroll");
        let server = Server::start_with(folder, arguments);
        Self { server, key, other_key, admin }
    }

    fn restarted(self, arguments: &[&str]) -> Self {
        let Self { server, key, other_key, admin } = self;
        Self { server: Server::start_with(server.kill(), arguments), key, other_key, admin }
    }

    async fn send(&self, key: &str, method: Method, path: &str, body: String) -> Answer {
        let request = self.server.request(method, path, body).bearer_auth(key);
        support::answer(request.send().await.unwrap()).await
    }

    async fn verify(&self, key: &str, user: &str, walk: &Recording) -> Answer {
        let path = format!("/v1/users/{user}/verify");
        self.send(key, Method::POST, &path, support::json(walk)).await
    }

    /// A walk of a stranger, a new one each time, in the name of a user.
    async fn guess(&self, key: &str, user: &str, number: u64) -> Answer {
        self.verify(key, user, &simulated_for(40, number, 20.0)).await
    }

    async fn locks(&self) -> Value {
        let answer = self.send(&self.admin, Method::GET, "/v1/locks", String::new()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["locks"].clone()
    }
}

fn decisions(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn failed_verifications_delay_the_next_one_over_a_restart() {
    let house = House::new(&[]).await;
    for number in 0..5 {
        assert_eq!(house.guess(&house.key, "ann", number).await.status, 200);
    }
    assert_eq!(house.guess(&house.key, "ann", 5).await.problem(), (429, "too-many-failures"));
    let house = house.restarted(&[]);
    // The genuine walk has to wait too, but not with another key, and not for another user.
    let refused = house.verify(&house.key, "ann", &simulated(11, 2)).await;
    assert_eq!(refused.problem(), (429, "too-many-failures"));
    let accepted = house.verify(&house.other_key, "ann", &simulated(11, 2)).await;
    assert_eq!(accepted.body["decision"], "accept");
    // A genuine accept resets the count, whichever key it came by.
    assert_eq!(house.guess(&house.key, "ann", 6).await.status, 200);
    assert_eq!(house.verify(&house.key, "bob", &simulated(12, 2)).await.body["decision"], "accept");
    let refused = house.server.scrape().await;
    assert_eq!(refused["bipedalnet_guesses_refused_total{limit=\"delay\"}"], 1.0);
}

#[tokio::test]
async fn a_delay_has_a_retry_after_and_ends() {
    let house = House::new(&[]).await;
    for number in 0..5 {
        house.guess(&house.key, "ann", number).await;
    }
    let walk = support::json(&simulated(11, 2));
    let request = house.server.request(Method::POST, "/v1/users/ann/verify", walk);
    let refused = request.bearer_auth(&house.key).send().await.unwrap();
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    run_sql(
        &house.server.database(),
        "UPDATE failed_verifications SET last_at_unix_seconds = last_at_unix_seconds - 30",
    );
    let answer = house.verify(&house.key, "ann", &simulated(11, 2)).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
}

#[tokio::test]
async fn verifications_at_the_same_time_and_in_batches_get_no_more_guesses() {
    let house = House::new(&[]).await;
    let mut tasks = Vec::new();
    for number in 0..16 {
        let walk = support::json(&simulated_for(40, number, 20.0));
        let request = house.server.request(Method::POST, "/v1/users/ann/verify", walk);
        let request = request.bearer_auth(&house.key);
        tasks.push(tokio::spawn(async { support::answer(request.send().await.unwrap()).await }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(decisions(&answers), 5, "{answers:?}");
    let item = |number| {
        let walk: Value =
            serde_json::from_str(&support::json(&simulated_for(40, number, 20.0))).unwrap();
        json!({"verify": {"user": "bob", "walk": walk}})
    };
    let batch = json!({"items": (0..12).map(item).collect::<Vec<_>>()}).to_string();
    let answer = house.send(&house.key, Method::POST, "/v1/batch", batch).await;
    let outcomes = answer.body["outcomes"].as_array().unwrap();
    let verified = outcomes.iter().filter(|outcome| outcome["status"] == 200).count();
    assert_eq!(verified, 5, "{outcomes:?}");
    assert_eq!(outcomes[11]["status"], 429);
}

#[tokio::test]
async fn a_user_is_locked_until_an_admin_releases_them() {
    let house = House::new(&["--max-failed-verifications", "12"]).await;
    let fail = async |key: &str, first: u64, failures: u64| {
        for number in first..first + failures {
            assert_eq!(house.guess(key, "ann", number).await.status, 200, "{number}");
            run_sql(
                &house.server.database(),
                "UPDATE failed_verifications SET last_at_unix_seconds = 0",
            );
        }
    };
    fail(&house.key, 0, 6).await;
    // One key can lock the user only for itself.
    assert_eq!(house.guess(&house.key, "ann", 20).await.problem(), (423, "user-locked"));
    let locks = house.locks().await;
    assert_eq!(locks.as_array().unwrap().len(), 1);
    assert_eq!(locks[0]["user"], "ann");
    assert_eq!(locks[0]["for_all_keys"], false);
    assert_eq!(locks[0]["for_keys"], json!([&house.key[4..16]]));
    fail(&house.other_key, 20, 6).await;
    for key in [&house.key, &house.other_key] {
        let answer = house.verify(key, "ann", &simulated(11, 2)).await;
        assert_eq!(answer.problem(), (423, "user-locked"));
    }
    assert_eq!(house.locks().await[0]["for_all_keys"], true);
    assert_eq!(house.server.scrape().await["bipedalnet_locked_users"], 1.0);
    let release = "/v1/users/ann/lock";
    let refused = house.send(&house.key, Method::DELETE, release, String::new()).await;
    assert_eq!(refused.problem(), (403, "missing-scope"));
    let released = house.send(&house.admin, Method::DELETE, release, String::new()).await;
    assert_eq!(released.status, 204);
    assert_eq!(house.locks().await, json!([]));
    let answer = house.verify(&house.key, "ann", &simulated(11, 2)).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
}

#[tokio::test]
async fn one_key_or_address_cannot_try_a_guess_on_each_user() {
    let house = House::new(&["--failed-verifications-per-hour", "3"]).await;
    for (number, user) in [(0, "ann"), (1, "bob"), (2, "cem")] {
        assert_eq!(house.guess(&house.key, user, number).await.status, 200);
    }
    for (key, cause) in [(&house.key, "API key"), (&house.other_key, "address")] {
        let refused = house.guess(key, "dan", 3).await;
        assert_eq!(refused.problem(), (429, "too-many-failures"));
        assert!(refused.body["detail"].as_str().unwrap().contains(cause), "{refused:?}");
    }
    run_sql(
        &house.server.database(),
        "UPDATE failing_clients SET since_unix_seconds = since_unix_seconds - 3600",
    );
    assert_eq!(house.guess(&house.key, "dan", 4).await.status, 200);
}

#[tokio::test]
async fn walks_that_are_refused_at_enrollment_count_as_guesses() {
    let house = House::new(&[]).await;
    let key = create_key(&house.server.database(), "enroll,extend");
    let house = house.restarted(&[]);
    let enroll = async |number: u64| {
        let walk = support::json(&simulated_for(40 + number, 1, 20.0));
        house.send(&key, Method::POST, "/v1/users/ann/enrollments", walk).await
    };
    for number in 0..5 {
        assert_eq!(enroll(number).await.problem(), (409, "unlike-earlier-walks"), "{number}");
    }
    assert_eq!(enroll(5).await.problem(), (429, "too-many-failures"));
}

#[tokio::test]
async fn what_tells_a_guesser_nothing_does_not_count() {
    let house = House::new(&[]).await;
    let walk = simulated(11, 2);
    assert_eq!(house.verify(&house.key, "ann", &walk).await.body["decision"], "accept");
    for number in 0..6 {
        // Duplicates of a bad network, and walks that are too short to decide.
        let again = house.verify(&house.key, "ann", &walk).await;
        assert_eq!(again.body["decision"], "suspected_replay");
        let short = house.verify(&house.key, "ann", &simulated_for(40, number, 4.0)).await;
        assert_eq!(short.body["windows"], 3);
    }
    assert_eq!(house.guess(&house.key, "ann", 9).await.status, 200);
}

#[tokio::test]
async fn a_challenge_belongs_to_the_key_that_created_it() {
    let house = House::new(&["--require-challenge"]).await;
    let challenge = async |key: &str| {
        let path = "/v1/users/ann/challenges";
        let answer = house.send(key, Method::POST, path, String::new()).await;
        answer.body["challenge"].as_str().unwrap().to_owned()
    };
    let of_key = challenge(&house.key).await;
    for _ in 0..9 {
        challenge(&house.other_key).await;
    }
    let path = format!("/v1/users/ann/verify?challenge={of_key}");
    let walk = support::json(&simulated(11, 2));
    let stolen = house.send(&house.other_key, Method::POST, &path, walk.clone()).await;
    assert_eq!(stolen.problem(), (409, "bad-challenge"));
    let answer = house.send(&house.key, Method::POST, &path, walk).await;
    assert_eq!(answer.body["decision"], "accept", "{answer:?}");
}

#[tokio::test]
async fn an_identification_among_few_users_is_refused() {
    let house = House::new(&[]).await;
    let walk = support::json(&simulated(11, 2));
    for path in ["/v1/users/new", "/v1/users/new2"] {
        let put = house.send(&house.admin, Method::PUT, path, String::new()).await;
        assert_eq!(put.status, 201);
    }
    for few in ["ann", "ann,bob,cem,dan", "ann,bob,cem,dan,new", "ann,bob,cem,dan,new,new2"] {
        let path = format!("/v1/identify?among={few}");
        let refused = house.send(&house.key, Method::POST, &path, walk.clone()).await;
        assert_eq!(refused.problem(), (422, "too-few-users"), "{few}");
    }
    let item = json!({"identify": {"among": ["ann"], "walk": serde_json::from_str::<Value>(&walk).unwrap()}});
    let batch = json!({"items": [item]}).to_string();
    let answer = house.send(&house.key, Method::POST, "/v1/batch", batch).await;
    assert_eq!(answer.body["outcomes"][0]["status"], 422);
    let path = "/v1/identify?among=ann,bob,cem,dan,eve";
    assert_eq!(house.send(&house.key, Method::POST, path, walk).await.body["user"], "ann");
}

#[tokio::test]
async fn a_server_without_keys_has_no_limits_on_guessing() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    for number in 0..8 {
        let walk = support::json(&simulated_for(40, number, 20.0));
        assert_eq!(server.send(Method::POST, "/v1/users/ann/verify", walk).await.status, 200);
    }
}

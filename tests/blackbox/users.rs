//! Users and their enrollments over the API.

use std::fs;

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use reqwest::Method;

use crate::support::{Server, run_sql, simulated, stable, wait_until_erased};

async fn delete(server: &Server, path: &str) -> u16 {
    server.send(Method::DELETE, path, "").await.status
}

/// A walk with a stop in the middle.
fn with_a_stop() -> bipedalnet_core::gait::Recording {
    let conditions = Conditions { seconds: 10.0, ..Conditions::default() };
    let walk = Walker::new(11).walk(1, &conditions);
    let still = bipedalnet_core::gait::simulator::standing(1, &conditions);
    let times = walk.time_seconds().iter().copied();
    let later = still.time_seconds().iter().map(|time| time + 10.03);
    let joined = |a: &[[f32; 3]], b: &[[f32; 3]]| [a, b].concat();
    bipedalnet_core::gait::Recording::new(
        times.chain(later).collect(),
        joined(walk.acceleration_m_s2(), still.acceleration_m_s2()),
        None,
    )
    .unwrap()
}

#[tokio::test]
async fn a_user_collects_windows_until_ready_and_refused_windows_are_listed() {
    let server = Server::start();
    server.put_user("ann").await;
    let answer = server.enroll("ann", &with_a_stop()).await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!("collecting", stable(answer.body));
    let answer = server.enroll("ann", &simulated(11, 2)).await;
    insta::assert_json_snapshot!("ready", stable(answer.body));
    insta::assert_json_snapshot!("user", stable(server.get("/v1/users/ann").await.body));
    let path = "/v1/users/ann/enrollments";
    insta::assert_json_snapshot!("enrollments", stable(server.get(path).await.body));
    let path = "/v1/users/ann/export";
    insta::assert_json_snapshot!("export", stable(server.get(path).await.body));
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    let server = Server::start();
    let names: Vec<String> = (0..7).map(|number| format!("user-{number}")).collect();
    for name in names.iter().rev() {
        server.put_user(name).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/users?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get(&path).await.body;
        let users = page["users"].as_array().unwrap();
        seen.extend(users.iter().map(|user| user["user"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/users?limit=3&after={next}");
    }
    assert_eq!((seen, pages), (names, 3));
}

#[tokio::test]
async fn a_deleted_user_leaves_no_trace_and_is_not_identified() {
    let server = Server::with_users(&[], &[("ann-of-ancona", 11), ("bob", 12)]).await;
    let export = server.get("/v1/users/ann-of-ancona/export").await.body;
    let template: Vec<u8> = export["walks"][0]["templates"][0]["template"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|value| (value.as_f64().unwrap() as f32).to_le_bytes())
        .collect();
    let traces = || -> Vec<String> {
        let files = fs::read_dir(server.folder.path()).unwrap();
        let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
        files
            .map(|file| file.unwrap().path())
            .filter(|path| {
                let bytes = fs::read(path).unwrap();
                holds(&bytes, &template[..16]) || holds(&bytes, b"ann-of-ancona")
            })
            .map(|path| path.display().to_string())
            .collect()
    };
    assert!(!traces().is_empty(), "the search misses traces before the deletion");

    assert_eq!(delete(&server, "/v1/users/ann-of-ancona").await, 204);
    wait_until_erased(traces);
    assert_eq!(server.get("/v1/users/ann-of-ancona").await.status, 404);
    assert_eq!(server.get("/v1/users/ann-of-ancona/export").await.status, 404);
    assert_eq!(delete(&server, "/v1/users/ann-of-ancona").await, 404);
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
    let database = server.database();
    assert_eq!(run_sql(&database, "SELECT count(*), sum(enrollments) FROM erasures"), "1|1");
    assert_eq!(run_sql(&database, "SELECT user_id FROM enrollments"), "bob");

    // The same after a restart.
    let server = Server::start_in(server.kill());
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn a_deleted_enrollment_no_longer_counts() {
    // Another person's walk was enrolled for ann by mistake.
    let server = Server::with_users(&[], &[("ann", 12)]).await;
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("ann"));
    server.enroll("ann", &simulated(11, 1)).await;
    server.put_user("bob").await;
    assert_eq!(delete(&server, "/v1/users/bob/enrollments/1").await, 404);
    assert_eq!(delete(&server, "/v1/users/ann/enrollments/x").await, 404);
    assert_eq!(delete(&server, "/v1/users/ann/enrollments/1").await, 204);
    assert_eq!(delete(&server, "/v1/users/ann/enrollments/1").await, 404);
    assert_eq!(server.identified(&simulated(12, 2)).await, None);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
    assert_eq!(delete(&server, "/v1/users/ann/enrollments/2").await, 204);
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(server.get("/v1/users/ann").await.body["enrollments"], 0);
}

#[tokio::test]
async fn identification_can_be_limited_to_some_users() {
    let names = [("ann", 11), ("bob", 12), ("cem", 13), ("dan", 14), ("eve", 15), ("fay", 16)];
    let server = Server::with_users(&[], &names).await;
    let body = crate::support::json(&simulated(11, 2));
    let identify = async |query: &str| {
        let path = format!("/v1/identify{query}");
        server.send(Method::POST, &path, body.clone()).await.body
    };
    assert_eq!(identify("").await["user"], "ann");
    assert_eq!(identify("?among=ann,bob,cem,dan,eve").await["user"], "ann");
    let among_others = identify("?among=bob,cem,dan,eve,fay").await;
    assert_eq!(among_others["decision"], "unknown");
    let candidates = among_others["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 5);
    assert!(candidates.iter().all(|candidate| candidate["user"] != "ann"));
}

#[tokio::test]
async fn bad_requests_about_users_are_explained() {
    let server = Server::with_users(&[], &[("ann", 11)]).await;
    server.put_user("bob").await;
    let walk = crate::support::json(&simulated(11, 2));
    let mut answers = Vec::new();
    for (method, path) in [
        (Method::GET, "/v1/users/eve"),
        (Method::GET, "/v1/users/eve/export"),
        (Method::GET, "/v1/users/eve/enrollments"),
        (Method::DELETE, "/v1/users/eve"),
        (Method::DELETE, "/v1/users/ann/enrollments/99"),
        (Method::GET, "/v1/users?limit=many"),
        (Method::GET, "/v1/users?page=2"),
        (Method::GET, "/v1/users?after=a%20b"),
        (Method::POST, "/v1/users/eve/verify"),
        (Method::POST, "/v1/users/bob/verify"),
        (Method::POST, "/v1/users/ann/verify?fmr=0.05"),
        (Method::POST, "/v1/users/ann/verify?fmr=often"),
        (Method::POST, "/v1/users/ann/verify?session=a%20b"),
        (Method::POST, "/v1/identify?among=ann,,bob"),
    ] {
        let request = format!("{method} {path}");
        // If the server does not read the body, it may close the connection before all is sent.
        let body = if method == Method::POST { walk.clone() } else { String::new() };
        let answer = server.send(method, path, body).await;
        assert_eq!(answer.content_type, "application/problem+json", "{request}: {answer:?}");
        answers.push(serde_json::json!({"request": request, "problem": answer.body}));
    }
    insta::assert_json_snapshot!("bad_requests_about_users", answers);
}

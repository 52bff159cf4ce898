//! Changes of the active model: templates, load, and crashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use reqwest::Method;
use serde_json::{Value, json};

use crate::models::{KEEPING, activate, id, restart_with_model, twin, with_walkers, write};
use crate::support::{self, Server, database_in, run_sql, simulated};

async fn read(server: &Server, path: &str) -> Value {
    server.get(path).await.body
}

#[tokio::test]
async fn another_model_knows_all_users_and_so_does_the_first_again() {
    let file = twin(5);
    let server = restart_with_model(with_walkers(3).await, &file, &KEEPING);
    let before = server.identify(&simulated(12, 3)).await.body;
    let (old, new) = (before["model"].as_str().unwrap().to_owned(), id(&file));
    assert_ne!(old, new);
    let known = read(&server, "/v1/users/user-1").await;

    let path = format!("/v1/models/{new}/activate");
    let once = async || {
        let request = server.request(Method::POST, &path, "{}");
        let response = request.header("idempotency-key", "once").send().await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        (support::answer(response).await, replayed)
    };
    let (answer, replayed) = once().await;
    assert_eq!((answer.status, replayed), (200, false), "{answer:?}");
    assert_eq!((&answer.body["model"], &answer.body["previous_model"]), (&json!(new), &json!(old)));
    let shares =
        json!({"identified_right": 1.0, "identified_wrong": 0.0, "strangers_identified": 0.0});
    let comparison = json!({"recordings": 3, "old_model": old, "old": shares, "new": shares});
    assert_eq!(answer.body["comparison"], comparison);
    assert_eq!(answer.body["walks_lost"], 0);
    assert_eq!(once().await, (answer, true));

    // All results are as before, except for the model's id.
    let as_before = |mut answer: Value| {
        answer["model"] = before["model"].clone();
        // The thresholds follow the gallery within a second.
        answer["calibration"] = before["calibration"].clone();
        assert_eq!(answer, before);
    };
    let answer = server.identify(&simulated(12, 3)).await.body;
    assert_eq!(answer["model"], new);
    as_before(answer);
    assert_eq!(read(&server, "/v1/users/user-1").await, known);
    let walks = read(&server, "/v1/users/user-1/enrollments").await;
    assert_eq!(walks["enrollments"][1]["model"], new, "{walks}");
    let export = read(&server, "/v1/users/user-1/export").await;
    assert_eq!(export["walks"][0]["templates"].as_array().unwrap().len(), 2);
    let answer = activate(&server, &new, false).await;
    assert_eq!(
        (answer.status, &answer.body["not_compared"]),
        (200, &json!("the model was already active"))
    );

    // The same after a restart. The first model also knows a user enrolled with the second one.
    let server = Server::start_with(server.kill(), &KEEPING);
    as_before(server.identify(&simulated(12, 3)).await.body);
    server.add_user("dora", &[simulated(31, 1)]).await;
    assert_eq!(activate(&server, &old, false).await.status, 200);
    let answer = server.identify(&simulated(31, 2)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(old), &json!("dora")));
    assert_eq!(server.identified(&simulated(12, 3)).await.as_deref(), Some("user-1"));
}

#[tokio::test]
async fn a_session_does_not_continue_with_another_model() {
    let file = twin(5);
    let server = restart_with_model(with_walkers(2).await, &file, &KEEPING);
    let windows = async |walk| {
        let body = support::json(&simulated(11, walk));
        let path = "/v1/users/user-0/verify?session=door";
        let answer = server.send(Method::POST, path, body).await.body;
        assert_eq!(answer["decision"], "accept", "{answer}");
        answer["windows"].as_u64().unwrap()
    };
    let alone = windows(5).await;
    assert!(windows(6).await > alone);
    assert_eq!(activate(&server, &id(&file), false).await.status, 200);
    assert_eq!(windows(7).await, alone);
}

#[tokio::test]
async fn an_activation_that_loses_walks_needs_force() {
    // The recordings of these walks are not kept.
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12)]).await;
    let file = twin(5);
    let server = restart_with_model(server, &file, &KEEPING);
    let old = server.identify(&simulated(11, 3)).await.body["model"].as_str().unwrap().to_owned();
    let shipped = read(&server, "/v1/models").await["models"][0]["model"].take();
    assert_eq!(shipped, old);
    for walk in [2, 3] {
        assert_eq!(server.enroll("ann", &simulated(11, walk)).await.status, 201);
    }
    let features = support::features(&simulated(12, 2)).to_string();
    let path = "/v1/users/bob/enrollments";
    assert_eq!(server.send(Method::POST, path, features.clone()).await.status, 201);
    let [ann, bob] = ["/v1/users/ann", "/v1/users/bob"];
    let (ann_before, bob_before) = (read(&server, ann).await, read(&server, bob).await);
    assert_eq!(bob_before["status"], "ready");

    let answer = activate(&server, &id(&file), false).await;
    assert_eq!(answer.body["type"], "urn:bipedalnet:problem:walks-lost");
    assert!(answer.body["detail"].as_str().unwrap().contains("3 walks of 2 users"), "{answer:?}");
    assert_eq!(server.identify(&simulated(12, 3)).await.body["user"], "bob");

    let answer = activate(&server, &id(&file), true).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!([&answer.body["walks_lost"], &answer.body["users_with_walks_lost"]], [3, 2]);
    assert_eq!(answer.body["not_compared"], "fewer than two users have two kept recordings each");
    assert_eq!(server.identified(&simulated(11, 4)).await.as_deref(), Some("ann"));
    assert_eq!(server.identified(&simulated(12, 3)).await, None);
    let now = read(&server, bob).await;
    let figures = ["status", "windows", "enrollments"].map(|name| now[name].clone());
    assert_eq!(figures, [json!("collecting"), json!(0), json!(2)]);
    let walks = read(&server, path).await;
    assert_eq!(
        (&walks["enrollments"][0]["windows"], walks["enrollments"][0].get("model")),
        (&json!(0), None)
    );
    let verify = support::json(&simulated(12, 3));
    let answer = server.send(Method::POST, "/v1/users/bob/verify", verify).await;
    assert_eq!(answer.body["type"], "urn:bipedalnet:problem:not-enrolled");
    // The features come from the other model.
    let answer = server.send(Method::POST, path, features).await;
    assert_eq!(answer.body["type"], "urn:bipedalnet:problem:other-model");

    assert_eq!(activate(&server, &old, false).await.status, 200);
    assert_eq!([read(&server, ann).await, read(&server, bob).await], [ann_before, bob_before]);
    assert_eq!(server.identified(&simulated(12, 3)).await.as_deref(), Some("bob"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_or_mixes_models_during_changes_under_load() {
    let file = twin(5);
    let server = Arc::new(restart_with_model(with_walkers(4).await, &file, &KEEPING));
    let old = server.identify(&simulated(11, 3)).await.body["model"].as_str().unwrap().to_owned();
    let models = Arc::new([old, id(&file)]);
    let done = Arc::new(AtomicBool::new(false));
    let answers = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let swaps = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..6_u64)
        .map(|task| {
            let (server, models) = (Arc::clone(&server), Arc::clone(&models));
            let (done, answers) = (Arc::clone(&done), Arc::clone(&answers));
            let swaps = Arc::clone(&swaps);
            tokio::spawn(async move {
                let mut enrolled = 0;
                for number in 0.. {
                    // Only a few for each change: the replay detector mixes up some of many simulated walks.
                    let may_go_on = || task > 1 || number < 4 * (1 + swaps.load(Ordering::Relaxed));
                    while !may_go_on() && !done.load(Ordering::Relaxed) {
                        tokio::task::yield_now().await;
                    }
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let walk = 10 + 1000 * task + number as u64 % 64;
                    let person = walk % 4;
                    let (user, recording) =
                        (format!("user-{person}"), simulated(11 + person, walk));
                    if task == 0 {
                        let answer = server.enroll(&user, &recording).await;
                        assert_eq!(answer.status, 201, "{answer:?}");
                        enrolled += 1;
                        continue;
                    }
                    let answer = if task == 1 {
                        let path = format!("/v1/users/{user}/verify?fmr=0.1");
                        server.send(Method::POST, &path, support::json(&recording)).await
                    } else {
                        server.identify(&recording).await
                    };
                    // If the probe and the template came from two models, they would not match.
                    assert_eq!(
                        (answer.status, &answer.body["user"]),
                        (200, &json!(user)),
                        "{answer:?}"
                    );
                    if task == 1 {
                        assert_eq!(answer.body["decision"], "accept", "{answer:?}");
                    }
                    let model = answer.body["model"].as_str().unwrap();
                    let model = models.iter().position(|known| known == model).unwrap();
                    answers[model].fetch_add(1, Ordering::Relaxed);
                }
                enrolled
            })
        })
        .collect();
    for swap in 0..12 {
        // Wait until the active model has been used since the last change.
        let seen = answers[swap % 2].load(Ordering::Relaxed);
        while answers[swap % 2].load(Ordering::Relaxed) < seen + 5
            && !tasks.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::task::yield_now().await;
        }
        let answer = activate(&server, &models[1 - swap % 2], true).await;
        assert_eq!((answer.status, &answer.body["walks_lost"]), (200, &json!(0)), "{answer:?}");
        swaps.fetch_add(1, Ordering::Relaxed);
    }
    done.store(true, Ordering::Relaxed);
    let mut enrolled = 8;
    for task in tasks {
        enrolled += task.await.unwrap();
    }
    assert!(answers.iter().all(|answers| answers.load(Ordering::Relaxed) > 20), "{answers:?}");
    assert!(enrolled > 8);
    // Every walk has a template of the active model.
    let mut counted = 0;
    for person in 0..4 {
        let walks = read(&server, &format!("/v1/users/user-{person}/enrollments")).await;
        let walks = walks["enrollments"].as_array().unwrap();
        assert!(walks.iter().all(|walk| walk["model"] == models[0]), "{walks:?}");
        counted += walks.len();
    }
    assert_eq!(counted, enrolled);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_during_a_change_one_of_the_models_is_fully_active() {
    const PEOPLE: u64 = 10;
    const KILLS: usize = 30;
    let mut random = Pcg64Mcg::seed_from_u64(20_210_331);
    let file = twin(5);
    let server = restart_with_model(with_walkers(PEOPLE).await, &file, &KEEPING);
    let old = server.identify(&simulated(11, 3)).await.body["model"].as_str().unwrap().to_owned();
    let models = [old, id(&file)];
    let mut active = models[0].clone();
    let mut folder = server.kill();
    let model_file = write(&folder, &file);
    // Upper bound of the requests before the kill. It adapts so that kills fall around the change.
    let mut most = 8;
    let [mut untouched, mut partly, mut ready, mut changed] = [0; 4];
    for _ in 0..KILLS {
        let database = database_in(folder.path());
        let next = models.iter().find(|model| **model != active).unwrap().clone();
        if random.random() {
            // Then the next activation has more to do, and more to interrupt.
            run_sql(&database, &format!("DELETE FROM templates WHERE model = '{next}'"));
        }
        let arguments = [&["--model", model_file.to_str().unwrap()], &KEEPING[..]].concat();
        let server = Arc::new(Server::start_with(folder, &arguments));
        let changing = tokio::spawn({
            let url = server.url(&format!("/v1/models/{next}/activate"));
            let request = support::client().post(url).header("content-type", "application/json");
            request.body("{}").send()
        });
        for _ in 0..random.random_range(0..=most) {
            let person = random.random_range(0..PEOPLE);
            let user = server.identified(&simulated(11 + person, 3)).await;
            assert_eq!(user, Some(format!("user-{person}")));
        }
        folder = Arc::into_inner(server).unwrap().kill();
        let answered = changing.await.unwrap().is_ok_and(|answer| answer.status() == 200);

        assert_eq!(run_sql(&database, "PRAGMA integrity_check"), "ok");
        let serves = run_sql(&database, "SELECT id FROM models WHERE active = 1");
        assert!(models.contains(&serves), "{serves}");
        assert!(!answered || serves == next, "an activation was acknowledged and lost");
        let read = format!("SELECT count(*) FROM templates WHERE model = '{next}'");
        *match run_sql(&database, &read).parse::<u64>().unwrap() {
            _ if serves == next => &mut changed,
            0 => &mut untouched,
            read if read < 2 * PEOPLE => &mut partly,
            _ => &mut ready,
        } += 1;
        most = if serves == next { most * 2 / 3 } else { most * 3 / 2 + 1 };
        active = serves;
        let server = Server::start_with(folder, &arguments);
        for person in 0..PEOPLE {
            let answer = server.identify(&simulated(11 + person, 3)).await.body;
            assert_eq!(
                (&answer["user"], &answer["model"]),
                (&json!(format!("user-{person}")), &json!(active))
            );
        }
        folder = server.kill();
    }
    eprintln!(
        "{KILLS} kills. Templates of the next model: none in {untouched} kills, some in {partly}, all in \
         {ready}. It was active in {changed}."
    );
    assert!(changed > 0 && changed < KILLS, "{changed}");
}

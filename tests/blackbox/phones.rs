//! Recordings as phones and clients really send them: what is mended, what is refused, and what is said.

use std::io::Write;

use bipedalnet_core::gait::Recording;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{self, Answer, Server, simulated, simulated_for};

const STANDARD_GRAVITY_M_S2: f64 = 9.80665;

/// A simulated walk of ten seconds as a document, after a change.
fn walk(change: impl FnOnce(&mut Value)) -> Value {
    walk_number(2, change)
}

fn walk_number(number: u64, change: impl FnOnce(&mut Value)) -> Value {
    let recording = simulated_for(11, number, 10.0);
    let mut walk = serde_json::from_str(&support::json(&recording)).unwrap();
    change(&mut walk);
    walk
}

/// Multiplies all values of a list.
fn scale(walk: &mut Value, list: &str, factor: f64) {
    for value in walk[list].as_array_mut().unwrap().iter_mut().flat_map(axes_mut) {
        *value = json!(value.as_f64().unwrap() * factor);
    }
}

fn axes_mut(sample: &mut Value) -> std::slice::IterMut<'_, Value> {
    sample.as_array_mut().unwrap().iter_mut()
}

fn times(walk: &mut Value, change: impl Fn(usize, f64) -> f64) {
    for (at, time) in walk["time_seconds"].as_array_mut().unwrap().iter_mut().enumerate() {
        *time = json!(change(at, time.as_f64().unwrap()));
    }
}

async fn identify(server: &Server, walk: &Value) -> Answer {
    server.send(Method::POST, "/v1/identify", walk.to_string()).await
}

async fn with_ann() -> Server {
    Server::with_users(&[], &[("ann", 11)]).await
}

#[tokio::test]
async fn wrong_units_and_clocks_are_refused_with_the_reason() {
    let server = with_ann().await;
    let g = STANDARD_GRAVITY_M_S2;
    let rate = "implausible-angular-rate";
    let cases: Vec<(&str, Value, &str, &str, &str)> = vec![
        ("deg/s", walk(|w| scale(w, "angular_rate", 57.3)), rate, "angular_rate", "\"deg/s\""),
        (
            "rad/s as deg/s",
            walk(|w| w["angular_rate_unit"] = json!("deg/s")),
            rate,
            "angular_rate",
            "As if in rad/s",
        ),
        (
            "noise",
            walk(|w| scale(w, "angular_rate", 0.01)),
            rate,
            "angular_rate",
            "leave angular_rate out",
        ),
        (
            "g",
            walk(|w| scale(w, "acceleration", 1.0 / g)),
            "gravity-units",
            "acceleration_unit",
            "acceleration_unit to \"g\"",
        ),
        (
            "milli-g",
            walk(|w| scale(w, "acceleration", 1000.0 / g)),
            "gravity-units",
            "acceleration_unit",
            "acceleration_scale to 0.001",
        ),
        (
            "counts",
            walk(|w| scale(w, "acceleration", 4096.0 / g)),
            "gravity-units",
            "acceleration_unit",
            "4096 for 1 g",
        ),
        (
            "a wrong scale",
            walk(|w| scale(w, "acceleration", 0.7)),
            "gravity-units",
            "acceleration_unit",
            "reads 9.81",
        ),
        ("ms", walk(|w| times(w, |_, t| t * 1e3)), "time-units", "time_seconds", "milliseconds"),
        ("us", walk(|w| times(w, |_, t| t * 1e6)), "time-units", "time_seconds", "microseconds"),
        (
            "ns since 1970",
            walk(|w| times(w, |_, t| 1.7e18 + t * 1e9)),
            "time-units",
            "time_seconds",
            "nanoseconds",
        ),
        (
            "rounded by a spreadsheet",
            walk(|w| times(w, |_, t| (t * 10.0).round() / 10.0)),
            "rounded-times",
            "time_seconds",
            "set rate_hz to 50.",
        ),
        (
            "times of arrival",
            walk(|w| times(w, |at, _| (at / 10) as f64 * 0.2 + (at % 10) as f64 * 0.001)),
            "batched-times",
            "time_seconds",
            "batches of about 10 every 0.19 s",
        ),
        (
            "five values a second",
            walk(|w| {
                let samples = w["acceleration"].as_array().unwrap().clone();
                let held = (0..samples.len()).map(|at| samples[at - at % 10].clone());
                w["acceleration"] = held.collect();
            }),
            "slow-sensor",
            "acceleration",
            "5.0 times a second",
        ),
        (
            "clipped by one byte",
            walk(|w| {
                for value in w["angular_rate"].as_array_mut().unwrap().iter_mut().flat_map(axes_mut)
                {
                    *value = json!((value.as_f64().unwrap() * 100.0).round().clamp(-127.0, 127.0));
                }
                w["angular_rate_scale"] = json!(0.01);
            }),
            "clipped-sensor",
            "angular_rate",
            "larger angular_rate_scale",
        ),
        (
            "a period as the rate",
            walk(|w| {
                w.as_object_mut().unwrap().remove("time_seconds");
                w["rate_hz"] = json!(0.02);
            }),
            "invalid-rate",
            "rate_hz",
            "samples per second",
        ),
    ];
    for (case, walk, kind, field, expected) in cases {
        let enrolled =
            server.send(Method::POST, "/v1/users/ann/enrollments", walk.to_string()).await;
        assert_eq!(enrolled.problem(), (422, kind), "{case}: {enrolled:?}");
        assert_eq!(identify(&server, &walk).await, enrolled, "{case}");
        assert_eq!(enrolled.body["field"], field, "{case}: {enrolled:?}");
        let detail = enrolled.body["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{case}: {detail}");
    }
}

#[tokio::test]
async fn linear_acceleration_is_refused_however_strong() {
    let server = with_ann().await;
    for factor in [0.3, 1.0, 2.5] {
        let walk = walk(|w| {
            let samples = w["acceleration"].as_array().unwrap();
            let mean = [0, 1, 2].map(|axis| {
                let values = samples.iter().map(|sample| sample[axis].as_f64().unwrap());
                values.sum::<f64>() / samples.len() as f64
            });
            for sample in w["acceleration"].as_array_mut().unwrap() {
                for (value, mean) in axes_mut(sample).zip(mean) {
                    *value = json!(factor * (value.as_f64().unwrap() - mean));
                }
            }
        });
        let answer = identify(&server, &walk).await;
        assert_eq!(answer.problem(), (422, "implausible-gravity"), "{factor}: {answer:?}");
    }
}

#[tokio::test]
async fn small_faults_of_the_clock_are_mended_and_said() {
    let server = with_ann().await;
    let plain = identify(&server, &walk(|_| ())).await;
    assert_eq!((&plain.body["user"], &plain.body["mended"]), (&json!("ann"), &json!(null)));
    let cases: [(&str, Value, &str); 4] = [
        (
            "stale-samples",
            walk_number(3, |w| times(w, |at, t| if at == 0 { t } else { 5000.0 + t })),
            "the first sample was dropped",
        ),
        (
            "stale-samples",
            walk_number(4, |w| times(w, |at, t| if at == 0 { 5000.0 } else { t })),
            "the first sample was dropped",
        ),
        (
            "repeated-times",
            walk_number(5, |w| w["time_seconds"][200] = w["time_seconds"][199].clone()),
            "1 sample was left out",
        ),
        (
            "pauses",
            walk_number(6, |w| times(w, |at, t| if at < 250 { t } else { 120.0 + t })),
            "1 pause without samples; the longest lasts 120.0 s",
        ),
    ];
    for (fault, walk, expected) in cases {
        let verified = server.send(Method::POST, "/v1/users/ann/verify", walk.to_string()).await;
        let answer = identify(&server, &walk).await;
        for answer in [answer, verified] {
            assert_eq!(answer.status, 200, "{fault}: {answer:?}");
            assert!(answer.body["windows"].as_u64() >= Some(6), "{fault}: {answer:?}");
            let mended = &answer.body["mended"];
            assert_eq!(mended.as_array().map(Vec::len), Some(1), "{mended}");
            assert_eq!(mended[0]["fault"], fault);
            let detail = mended[0]["detail"].as_str().unwrap();
            assert!(detail.contains(expected), "{detail}");
        }
        let enrolled =
            server.send(Method::POST, "/v1/users/ann/enrollments", walk.to_string()).await;
        assert_eq!(enrolled.status, 201, "{fault}: {enrolled:?}");
        assert_eq!(enrolled.body["mended"][0]["fault"], fault);
    }
}

#[tokio::test]
async fn a_negated_recording_that_says_so_is_read_as_the_plain_one() {
    let server = Server::with_users(&[], &[("ann", 11), ("bob", 12), ("cem", 13)]).await;
    let negated = walk(|w| {
        scale(w, "acceleration", -1.0);
        w["acceleration_at_rest"] = json!("down");
    });
    let plain = walk(|w| w["acceleration_at_rest"] = json!("up"));
    let answers = [identify(&server, &plain).await, identify(&server, &negated).await];
    assert_eq!(answers[0].body["user"], "ann");
    assert_eq!(answers[0], answers[1]);
    // Without a word, a wrong sign or another order of the axes is told from an unknown walker.
    let silent = walk(|w| scale(w, "acceleration", -1.0));
    let turned = walk(|w| {
        for sample in w["acceleration"].as_array_mut().unwrap() {
            sample.as_array_mut().unwrap().reverse();
        }
    });
    for walk in [silent, turned] {
        let answer = identify(&server, &walk).await.body;
        let decided = [&answer["decision"], &answer["reason"], &answer["user"]];
        assert_eq!(decided, [&json!("inconclusive"), &json!("mirrored"), &Value::Null], "{answer}");
        // A verification tells it too, and only of the user who walks.
        for (user, decision, reason) in
            [("ann", "inconclusive", json!("mirrored")), ("bob", "reject", Value::Null)]
        {
            let path = format!("/v1/users/{user}/verify?fmr=0.001");
            let answer = server.send(Method::POST, &path, walk.to_string()).await.body;
            assert_eq!([&answer["decision"], &answer["reason"]], [&json!(decision), &reason]);
        }
    }
    let unsure = walk(|w| w["acceleration_at_rest"] = json!("sideways"));
    let answer = identify(&server, &unsure).await;
    assert_eq!(answer.problem(), (422, "invalid-field"));
    assert_eq!(answer.body["field"], "acceleration_at_rest");
}

#[tokio::test]
async fn a_recording_counts_once_under_any_key_however_short_it_is() {
    let server = Server::start();
    let enroll = async |user: &str, recording: &Recording, key: &str| {
        let request = support::client()
            .post(server.url(&format!("/v1/users/{user}/enrollments")))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{user}-{key}"))
            .body(support::json(recording));
        support::answer(request.send().await.unwrap()).await
    };
    for (user, seconds) in [("ann", 3.0), ("bob", 30.0)] {
        server.put_user(user).await;
        let walk = simulated_for(11, 1, seconds);
        assert_eq!(enroll(user, &walk, "one").await.status, 201);
        assert_eq!(enroll(user, &walk, "one").await.status, 201);
        let again = enroll(user, &walk, "two").await;
        assert_eq!(again.problem(), (409, "walk-already-enrolled"), "{user}: {again:?}");
        let status = server.get(&format!("/v1/users/{user}")).await;
        assert_eq!(status.body["enrollments"], 1);
        // Another walk of the same length counts.
        let other = enroll(user, &simulated_for(11, 2, seconds), "three").await;
        assert_eq!(other.status, 201, "{user}: {other:?}");
    }
}

#[tokio::test]
async fn what_a_body_is_instead_of_json_is_named() {
    let server = with_ann().await;
    let json = support::json(&simulated(11, 2));
    let post = async |body: Vec<u8>| server.send(Method::POST, "/v1/identify", body).await;
    let marked = post([b"\xef\xbb\xbf", json.as_bytes()].concat()).await;
    assert_eq!(marked.body["user"], "ann", "{marked:?}");

    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(json.as_bytes()).unwrap();
    let wide = |mark: &str| -> Vec<u8> {
        format!("{mark}{json}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    for (body, expected) in [
        (gzip.finish().unwrap(), "Content-Encoding: gzip"),
        (zstd::encode_all(json.as_bytes(), 1).unwrap(), "Content-Encoding: zstd"),
        (wide("\u{feff}"), "UTF-16"),
        (wide(""), "UTF-16"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.problem(), (400, "malformed-json"), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{detail}");
    }
    let columns = walk(|w| {
        let column = |axis: usize| -> Value {
            w["acceleration"].as_array().unwrap().iter().map(|s| s[axis].clone()).collect()
        };
        w["acceleration"] = json!([column(0), column(1), column(2)]);
    });
    let answer = identify(&server, &columns).await;
    assert_eq!(answer.problem(), (422, "invalid-field"), "{answer:?}");
    assert_eq!(answer.body["field"], "acceleration[0]");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("one list for each axis"), "{detail}");
}

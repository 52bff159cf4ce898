//! The REST API: users, enrollment, identification, and invalid requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{self, Server, database_in, printed, program, run_sql, simulated, stable};

const WALKERS: [(&str, u64); 3] = [("ann", 11), ("bob", 12), ("cem", 13)];

async fn with_walkers() -> Server {
    Server::with_users(&[], &WALKERS).await
}

#[tokio::test]
async fn an_enrolled_user_is_identified_and_a_stranger_is_not() {
    let server = Server::start();
    insta::assert_json_snapshot!("new_user", stable(server.put_user("ann").await.body));
    assert_eq!(server.put_user("ann").await.status, 200);
    let answer = server.enroll("ann", &simulated(11, 1)).await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!("enrollment", stable(answer.body));
    let answer = server.identify(&simulated(11, 2)).await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!("identified", stable(answer.body));
    let answer = server.identify(&simulated(40, 1)).await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!("unknown", stable(answer.body));
}

#[tokio::test]
async fn nobody_is_identified_in_an_empty_gallery() {
    let server = Server::start();
    assert_eq!(server.put_user("ann").await.status, 201);
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
}

#[tokio::test]
async fn acknowledged_enrollments_survive_kill_9() {
    let folder = with_walkers().await.kill();
    let server = Server::start_in(folder);
    for (user, person) in WALKERS {
        assert_eq!(server.identified(&simulated(person, 2)).await.as_deref(), Some(user));
        assert_eq!(server.put_user(user).await.status, 200);
    }
}

#[tokio::test]
async fn a_termination_signal_ends_the_server_cleanly() {
    let mut server = with_walkers().await;
    server.terminate();
    assert!(server.wait().success());
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    assert!(!folder.path().join("test.db-wal").exists(), "the log was not written back");
    let server = Server::start_in(folder);
    assert_eq!(server.identified(&simulated(11, 2)).await.as_deref(), Some("ann"));
}

/// A description and a request body for each way in which a recording can be invalid.
fn bad_recordings() -> Vec<(&'static str, String)> {
    let document = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&support::json(&simulated(11, 1))).unwrap();
        change(&mut value);
        value.to_string()
    };
    let each = |list: &mut Value, change: &dyn Fn(usize, &mut Value)| {
        list.as_array_mut().unwrap().iter_mut().enumerate().for_each(|(at, v)| change(at, v));
    };
    let acceleration = |change: &dyn Fn(usize, [f64; 3]) -> [f64; 3]| {
        document(&|value| {
            each(&mut value["acceleration"], &|at, sample| {
                let axes = [0, 1, 2].map(|axis| sample[axis].as_f64().unwrap());
                *sample = json!(change(at, axes));
            });
        })
    };
    let cut = |samples: usize| {
        document(&|value| {
            for list in ["time_seconds", "acceleration", "angular_rate"] {
                value[list].as_array_mut().unwrap().truncate(samples);
            }
        })
    };
    let noise = |at: usize, axis: usize| {
        // A hash (SplitMix64), so that nothing repeats.
        let mut mixed = (at as u64 * 3 + axis as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from((mixed >> 40) as u32) / f64::from(1 << 24) - 0.5
    };
    let good = document(&|_| ());
    vec![
        ("empty body", String::new()),
        ("not JSON", "walk".to_owned()),
        ("cut JSON", good[..1000].to_owned()),
        ("two documents", format!("{good}{good}")),
        ("NaN", good.replacen("\"acceleration\":[[", "\"acceleration\":[[NaN,1,1],[", 1)),
        ("no acceleration", document(&|v| drop(v.as_object_mut().unwrap().remove("acceleration")))),
        ("a text among numbers", document(&|v| v["acceleration"][3][1] = json!("fast"))),
        ("null among numbers", document(&|v| v["acceleration"][3][1] = json!(null))),
        ("two axes", document(&|v| v["acceleration"][3] = json!([1, 2]))),
        ("an unknown field", document(&|v| v["speed"] = json!(3))),
        ("an unknown unit", document(&|v| v["acceleration_unit"] = json!("ft/s^2"))),
        ("beyond a float", document(&|v| v["acceleration"][3][1] = json!(1e39))),
        ("no sample", cut(0)),
        (
            "lists of different lengths",
            document(&|v| {
                v["angular_rate"].as_array_mut().unwrap().truncate(5);
            }),
        ),
        ("times and a rate", document(&|v| v["rate_hz"] = json!(50))),
        (
            "rate zero",
            document(&|v| {
                v["rate_hz"] = json!(0);
                v["time_seconds"] = json!(null);
            }),
        ),
        (
            "rate too low",
            document(&|v| {
                v["rate_hz"] = json!(10);
                v["time_seconds"] = json!(null);
            }),
        ),
        ("time runs backward", document(&|v| v["time_seconds"][7] = json!(0.0))),
        ("too short", cut(60)),
        ("too long", {
            let samples = vec![[0, 0, 9]; 46_000];
            json!({"rate_hz": 50, "acceleration": samples}).to_string()
        }),
        (
            "samples missing",
            document(&|v| {
                each(&mut v["time_seconds"], &|at, time| {
                    *time = json!(time.as_f64().unwrap() + (at / 50) as f64);
                });
            }),
        ),
        ("in g", acceleration(&|_, axes| axes.map(|value| value / 9.81))),
        ("without gravity", acceleration(&|at, _| [0, 1, 2].map(|axis| noise(at, axis) * 0.4))),
        ("a stuck axis", acceleration(&|_, [x, y, _]| [x, y, 9.81])),
        (
            "a clipped sensor",
            acceleration(&|at, _| {
                let step = (at as f64 / 50.0 * 2.0 * std::f64::consts::TAU).sin();
                [noise(at, 0), noise(at, 1), (9.81 + 14.0 * step).min(19.6)]
            }),
        ),
        (
            "standing still",
            acceleration(&|at, _| {
                [noise(at, 0) * 0.1, noise(at, 1) * 0.1, 9.81 + noise(at, 2) * 0.1]
            }),
        ),
        (
            "shaken",
            acceleration(&|at, _| {
                let swing = (at as f64 / 50.0 * 6.0 * std::f64::consts::TAU).sin();
                [12.0 * swing, 3.0 * swing + noise(at, 1), 9.81 + noise(at, 2)]
            }),
        ),
        (
            "no steps",
            acceleration(&|at, _| {
                [noise(at, 0) * 6.0, noise(at, 1) * 6.0, 9.81 + noise(at, 2) * 6.0]
            }),
        ),
    ]
}

#[tokio::test]
async fn every_bad_recording_gets_a_problem_and_is_not_stored() {
    let server = Server::start();
    assert_eq!(server.put_user("ann").await.status, 201);
    let mut answers = Vec::new();
    for (case, body) in bad_recordings() {
        let enrolled = server.send(Method::POST, "/v1/users/ann/enrollments", body.clone()).await;
        let identified = server.send(Method::POST, "/v1/identify", body).await;
        assert_eq!(enrolled, identified, "{case}");
        assert_eq!(enrolled.content_type, "application/problem+json", "{case}: {enrolled:?}");
        assert_eq!(enrolled.body["status"], enrolled.status, "{case}");
        answers.push(json!({"case": case, "problem": enrolled.body}));
    }
    insta::assert_json_snapshot!("bad_recordings", answers);

    // The server still works, and has stored nothing.
    assert_eq!(server.identified(&simulated(11, 2)).await, None);
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM enrollments"), "0");
    assert_eq!(server.enroll("ann", &simulated(11, 1)).await.status, 201);
}

#[tokio::test]
async fn every_bad_request_gets_a_problem() {
    let server = Server::start();
    let walk = support::json(&simulated(11, 1));
    let client = support::client();
    let mut answers = Vec::new();
    let text = |path| client.post(server.url(path)).header("content-type", "text/plain");
    let post = |path| client.post(server.url(path)).header("content-type", "application/json");
    for (case, request) in [
        ("an unknown user", post("/v1/users/eve/enrollments").body(walk.clone())),
        ("a bad user id", client.put(server.url("/v1/users/a%20b"))),
        ("a long user id", client.put(server.url(&format!("/v1/users/{}", "x".repeat(65))))),
        ("a path that is no text", client.put(server.url("/v1/users/%ff"))),
        ("an unknown path", client.get(server.url("/v2/identify"))),
        ("a wrong method", client.get(server.url("/v1/identify"))),
        ("no media type", client.post(server.url("/v1/identify")).body(walk.clone())),
        ("another media type", text("/v1/identify").body(walk.clone())),
        ("an oversized body", post("/v1/identify").body(vec![b' '; 12 << 20])),
    ] {
        let answer = support::answer(request.send().await.unwrap()).await;
        assert_eq!(answer.content_type, "application/problem+json", "{case}: {answer:?}");
        assert_eq!(answer.body["status"], answer.status, "{case}");
        answers.push(json!({"case": case, "problem": answer.body}));
    }
    insta::assert_json_snapshot!("bad_requests", answers);
    let wrong_method = client.get(server.url("/v1/identify")).send().await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
}

#[tokio::test]
async fn a_cut_body_changes_nothing() {
    let server = Server::start();
    assert_eq!(server.put_user("ann").await.status, 201);
    let body = support::json(&simulated(11, 1));
    for sent in [0, 1, body.len() / 2, body.len() - 1] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(
            stream,
            "POST /v1/users/ann/enrollments HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{}",
            body.len(),
            &body[..sent]
        )
        .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The server may answer or not, but never with success.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(run_sql(&server.database(), "SELECT count(*) FROM enrollments"), "0");
    assert_eq!(server.enroll("ann", &simulated(11, 1)).await.status, 201);
}

#[tokio::test]
async fn under_overload_every_request_gets_a_response() {
    let server = Arc::new(with_walkers().await);
    let requests: Vec<_> = (0..400)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.identify(&simulated(11, 2)).await })
        })
        .collect();
    let mut served = 0;
    for request in requests {
        let answer = request.await.unwrap();
        match answer.status {
            200 => served += 1,
            503 => assert_eq!(answer.body["type"], "urn:bipedalnet:problem:overloaded"),
            _ => panic!("{answer:?}"),
        }
    }
    assert!(served > 0);
    assert_eq!(server.identified(&simulated(12, 2)).await.as_deref(), Some("bob"));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/bipedalnet-openset.safetensors");
    let mut flipped = std::fs::read(shipped).unwrap();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(path("flipped"), &flipped).unwrap();
    std::fs::write(path("cut"), &flipped[..last / 2]).unwrap();
    std::fs::write(path("text"), "not a database and not a model").unwrap();
    std::fs::File::create(path("huge")).unwrap().set_len(1 << 30).unwrap();
    run_sql(&folder.path().join("foreign.db"), "CREATE TABLE invoices (id)");

    let run = |arguments: &[&str]| printed(program().arg("serve").args(arguments)).unwrap_err();
    let database = path("new.db");
    for (arguments, expected) in [
        (["--model", &path("none")], "No such file"),
        (["--model", &path("text")], "not a safetensors file"),
        (["--model", &path("cut")], "not a safetensors file"),
        (["--model", &path("flipped")], "checksum"),
        (["--model", &path("huge")], "at most"),
        (["--model", &path("")], "directory"),
    ] {
        let message = run(&[&arguments[..], &["--database", &database]].concat());
        assert!(message.contains(expected) && message.contains("model "), "{message}");
    }
    for (file, expected) in [
        ("text", "damaged or not SQLite"),
        ("foreign.db", "belongs to another program"),
        ("no/such/folder.db", "is the folder there and writable"),
    ] {
        let message = run(&["--database", &path(file)]);
        assert!(message.contains(expected), "{message}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = run(&["--listen", &address, "--database", &database]);
    assert!(message.contains("choose another address with --listen"), "{message}");
}

#[tokio::test]
async fn a_database_of_another_version_or_model_is_refused() {
    for (statement, expected) in [
        (
            "DELETE FROM models; UPDATE templates SET model = 'fedcba9876543210'",
            "templates of model fedcba9876543210",
        ),
        (
            "INSERT INTO _sqlx_migrations VALUES (9999, 'later', '', 1, x'00', 0)",
            "start that version, or restore a backup",
        ),
    ] {
        let folder = with_walkers().await.kill();
        let database = database_in(folder.path());
        run_sql(&database, statement);
        let mut serve = program();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--database"]).arg(&database);
        let message = printed(&mut serve).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn request_and_response_bodies_can_be_compressed() {
    let server = with_walkers().await;
    let walk = support::json(&simulated(11, 2)).into_bytes();
    let gzip = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let brotli = |plain: &[u8]| {
        let mut encoded = Vec::new();
        brotli::CompressorWriter::new(&mut encoded, 4096, 5, 20).write_all(plain).unwrap();
        encoded
    };
    let identify = async |encoding: &str, body: Vec<u8>| {
        let request = server.request(Method::POST, "/v1/identify", body);
        let response = request.header("content-encoding", encoding).send().await.unwrap();
        support::answer(response).await
    };
    for (encoding, body) in [
        ("identity", walk.clone()),
        ("gzip", gzip(&walk)),
        ("zstd", zstd::encode_all(&walk[..], 3).unwrap()),
        ("br", brotli(&walk)),
    ] {
        assert_eq!(identify(encoding, body).await.body["user"], "ann", "{encoding}");
    }
    let mut answers = Vec::new();
    for (case, encoding, body) in [
        ("an unknown compression", "deflate", walk.clone()),
        ("not compressed as it says", "gzip", walk.clone()),
        ("cut", "zstd", zstd::encode_all(&walk[..], 3).unwrap()[..5000].to_vec()),
        ("a bomb", "br", brotli(&vec![b' '; 256 << 20])),
    ] {
        let answer = identify(encoding, body).await;
        assert_eq!(answer.content_type, "application/problem+json", "{case}: {answer:?}");
        answers.push(json!({"case": case, "problem": answer.body}));
    }
    insta::assert_json_snapshot!("bad_compression", answers);

    let client = support::client();
    let fetch = async |method: Method, path: &str, header: (&str, &str)| {
        let request = client.request(method, server.url(path)).header(header.0, header.1);
        let response = request.send().await.unwrap();
        (response.status(), response.headers().clone(), response.bytes().await.unwrap())
    };
    type Decompress = fn(&[u8]) -> Box<dyn Read + '_>;
    let decompress: [(&str, Decompress); 3] = [
        ("gzip", |bytes| Box::new(flate2::read::GzDecoder::new(bytes))),
        ("br", |bytes| Box::new(brotli::Decompressor::new(bytes, 4096))),
        ("zstd", |bytes| Box::new(zstd::Decoder::new(bytes).unwrap())),
    ];
    for number in 0..20 {
        server.put_user(&format!("user-{number}")).await;
    }
    for path in ["/openapi.json", "/v1/users"] {
        let (_, headers, plain) = fetch(Method::GET, path, ("accept", "*/*")).await;
        assert_eq!(headers.get("content-encoding"), None);
        let varies = |headers: &HeaderMap| {
            headers.get_all("vary").iter().filter(|name| *name == "accept-encoding").count() == 1
        };
        assert!(varies(&headers), "{headers:?}");
        let tag = headers["etag"].to_str().unwrap();
        for (encoding, decompress) in &decompress {
            let accept = ("accept-encoding", *encoding);
            let (_, headers, bytes) = fetch(Method::GET, path, accept).await;
            assert_eq!(headers["content-encoding"], encoding);
            assert!(
                bytes.len() < plain.len() / 2,
                "{encoding}: {} of {}",
                bytes.len(),
                plain.len()
            );
            let mut decompressed = Vec::new();
            decompress(&bytes).read_to_end(&mut decompressed).unwrap();
            assert!(decompressed == plain, "{encoding}");
            assert!(varies(&headers) && headers["etag"] == tag, "{headers:?}");
            let (_, headers, body) = fetch(Method::HEAD, path, accept).await;
            assert_eq!(headers["content-encoding"], encoding);
            assert!(varies(&headers) && body.is_empty(), "{headers:?}");
        }
        let (status, headers, _) = fetch(Method::GET, path, ("if-none-match", tag)).await;
        assert!(status == StatusCode::NOT_MODIFIED && varies(&headers), "{headers:?}");
    }
    // A small answer is not worth it.
    let (_, headers, _) = fetch(Method::GET, "/v1/users/ann", ("accept-encoding", "gzip")).await;
    assert_eq!(headers.get("content-encoding"), None);
}

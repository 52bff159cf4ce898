//! The registry of models: what is told of them, which may serve, and what may go.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bipedalnet_core::bnn::{self, LayerParameters, Metadata};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Answer, Server, program, simulated};

pub const KEEPING: [&str; 2] = ["--keep-recordings-days", "30"];

const SHIPPED: &[u8] = include_bytes!("../../models/bipedalnet-openset.safetensors");

const BIPEDALNET: &[u8] = include_bytes!("../../models/bipedalnet.safetensors");

/// The shipped network with its features in another order: as good, but its templates and the shipped
/// one's have nothing in common.
pub fn twin(turn: usize) -> Vec<u8> {
    other(turn, |metadata| metadata.seed += turn as u64)
}

/// Position of the last convolution in the shipped network, and its channels.
const LAST_CONVOLUTION: usize = 4;
const CHANNELS: usize = 64;

/// The shipped network, its channels turned by some places, with other metadata.
fn other(turn: usize, change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let (mut metadata, mut parameters) = bnn::decode(SHIPPED).unwrap();
    change(&mut metadata);
    // The channels of the last convolution in another order, all the way to the feature.
    let turned = |values: &mut [f32]| {
        values.chunks_mut(CHANNELS).for_each(|channels| channels.rotate_left(turn));
    };
    for layer in parameters.layers[LAST_CONVOLUTION..].iter_mut().flatten() {
        match layer {
            LayerParameters::Weights { weights, .. } => {
                let taps = weights.len() / CHANNELS;
                weights.rotate_left(turn * taps);
            }
            LayerParameters::BatchNorm { beta, mean, variance } => {
                [beta, mean, variance].into_iter().for_each(|values| turned(values));
            }
            LayerParameters::Deflation { centre, directions } => {
                turned(centre);
                turned(directions);
            }
        }
    }
    bnn::encode(&metadata, &parameters).unwrap()
}

pub fn id(file: &[u8]) -> String {
    bnn::Model::from_bytes(file).unwrap().id().to_owned()
}

pub fn write(folder: &TempDir, file: &[u8]) -> PathBuf {
    let path = folder.path().join(id(file));
    fs::write(&path, file).unwrap();
    path
}

/// Starts again with another model, which is registered thereby.
pub fn given(server: Server, file: &[u8], arguments: &[&str]) -> Server {
    let folder = server.kill();
    let path = write(&folder, file);
    let arguments = [&["--model", path.to_str().unwrap()], arguments].concat();
    Server::start_with(folder, &arguments)
}

/// Two walks each of some people, whose recordings are kept.
pub async fn with_walkers(people: u64) -> Server {
    enrolled(Server::start_with(tempfile::tempdir().unwrap(), &KEEPING), people).await
}

/// The same with BiPedalNet, which has classes and learns epoch by epoch. What its scores tell is not
/// true: it is the shipped network's.
pub async fn with_walkers_and_classes(people: u64) -> Server {
    let (of_shipped, _) = bnn::decode(SHIPPED).unwrap();
    let (metadata, parameters) = bnn::decode(BIPEDALNET).unwrap();
    let metadata = Metadata { metrics: of_shipped.metrics, ..metadata };
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &bnn::encode(&metadata, &parameters).unwrap());
    let arguments = [&KEEPING[..], &["--model", path.to_str().unwrap()]].concat();
    enrolled(Server::start_with(folder, &arguments), people).await
}

async fn enrolled(server: Server, people: u64) -> Server {
    for person in 0..people {
        let user = format!("user-{person}");
        server.put_user(&user).await;
        for walk in [1, 2] {
            assert_eq!(server.enroll(&user, &simulated(11 + person, walk)).await.status, 201);
        }
    }
    server
}

pub async fn activate(server: &Server, model: &str, force: bool) -> Answer {
    let path = format!("/v1/models/{model}/activate");
    server.send(Method::POST, &path, json!({"force": force}).to_string()).await
}

pub fn sqlite(database: &std::path::Path, statement: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-cmd", ".timeout 5000"])
        .arg(database)
        .arg(statement)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub async fn models(server: &Server) -> Vec<Value> {
    let answer = server.send(Method::GET, "/v1/models", "").await.body;
    answer["models"].as_array().unwrap().clone()
}

fn ids(models: &[Value]) -> Vec<&str> {
    models.iter().map(|model| model["model"].as_str().unwrap()).collect()
}

pub fn problem(answer: &Answer) -> (u16, &str) {
    let kind = answer.body["type"].as_str().unwrap();
    (answer.status, kind.strip_prefix("urn:bipedalnet:problem:").unwrap())
}

#[tokio::test]
async fn models_are_described_and_their_files_fetched_in_whole_and_in_part() {
    let server = Server::start();
    let all = models(&server).await;
    let [model] = &all[..] else { panic!("{all:?}") };
    let digest: String = Sha256::digest(SHIPPED).iter().map(|b| format!("{b:02x}")).collect();
    let read = server.send(Method::GET, &format!("/v1/models/{}", id(SHIPPED)), "").await.body;
    assert_eq!(&read, model);
    assert_eq!((&read["model"], &read["sha256"]), (&json!(id(SHIPPED)), &json!(digest)));
    assert_eq!((&read["active"], &read["shipped"]), (&json!(true), &json!(true)));
    assert_eq!(read["size_bytes"], SHIPPED.len());
    assert!(read["metrics"]["single_strength_at_fmr_0.01"].is_number(), "{read}");

    let url = server.url(&format!("/v1/models/{}/file", id(SHIPPED)));
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sSi"]).args(arguments).arg(&url).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(output.stdout[..end].to_vec()).unwrap().to_lowercase();
        (head, output.stdout[end + 4..].to_vec())
    };
    let tag = format!("etag: \"{digest}\"");
    for arguments in [&[][..], &["--compressed"]] {
        let (head, body) = curl(arguments);
        assert!(head.starts_with("http/1.1 200") && body == SHIPPED, "{head}");
        for line in [
            &tag,
            "cache-control: private, max-age=31536000, immutable",
            "accept-ranges: bytes",
            "content-type: application/octet-stream",
        ] {
            assert!(head.contains(line), "{head}");
        }
        assert!(!head.contains("content-encoding"), "{head}");
    }
    let length = SHIPPED.len();
    let (good, bad) = (format!("If-Range: \"{digest}\""), format!("If-Range: W/\"{digest}\""));
    let rest = format!("content-range: bytes 30000-{}/{length}", length - 1);
    for arguments in [&["-r", "30000-"][..], &["-r", "30000-", "-H", &good]] {
        let (head, body) = curl(arguments);
        assert!(head.starts_with("http/1.1 206") && body == SHIPPED[30000..], "{head}");
        assert!(head.contains(&tag) && head.contains(&rest), "{head}");
    }
    // Of another file, several parts, and HEAD.
    for arguments in [&["-r", "30000-", "-H", &bad][..], &["-r", "0-1,4-5"]] {
        let (head, body) = curl(arguments);
        assert!(head.starts_with("http/1.1 200") && body == SHIPPED, "{head}");
    }
    let (head, body) = curl(&["-I", "-r", "0-9"]);
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    assert!(head.contains(&format!("content-length: {length}")), "{head}");
    let (head, _) = curl(&["-r", "900000-"]);
    assert!(head.starts_with("http/1.1 416"), "{head}");
    assert!(head.contains(&format!("content-range: bytes */{length}")), "{head}");
    for known in [format!("\"x\", \"{digest}\""), format!("W/\"{digest}\""), "*".to_owned()] {
        let (head, body) = curl(&["-r", "0-9", "-H", &format!("If-None-Match: {known}")]);
        assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
        assert!(head.contains(&tag) && head.contains("immutable"), "{head}");
    }
    for path in ["/v1/models/0123456789abcdef", "/v1/models/x/file"] {
        let answer = server.send(Method::GET, path, "").await;
        assert_eq!(problem(&answer), (404, "unknown-model"));
    }
}

#[tokio::test]
async fn any_key_reads_models_and_one_with_its_scope_lets_them_serve() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("test.db");
    let key = |scopes: &str| {
        let mut command = program();
        command.args(["keys", "--database"]).arg(&database);
        let output = command.args(["create", "--name", "x", "--scopes", scopes]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (phone, trainer) = (key("identify"), key("train"));
    let server = Server::start_in(folder);
    let path = format!("/v1/models/{}", id(SHIPPED));
    let ask = async |key: Option<&str>, method: Method, path: &str| {
        let request = crate::support::client().request(method, server.url(path));
        let request = request.header("content-type", "application/json").body("{}");
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/v1/models", &path, &format!("{path}/file")] {
        assert_eq!(ask(None, Method::GET, path).await, 401);
        assert_eq!(ask(Some(&phone), Method::GET, path).await, 200);
    }
    for (method, path, status) in
        [(Method::POST, format!("{path}/activate"), 200), (Method::DELETE, path.clone(), 409)]
    {
        assert_eq!(ask(Some(&phone), method.clone(), &path).await, 403);
        assert_eq!(ask(Some(&trainer), method, &path).await, status);
    }
}

#[tokio::test]
async fn a_model_that_is_needed_stays_and_others_can_go() {
    let (two, three) = (twin(2), twin(3));
    let server = given(with_walkers(1).await, &two, &KEEPING);
    let all = models(&server).await;
    // That it is given does not make it serve where another does.
    assert_eq!(ids(&all), [id(SHIPPED), id(&two)]);
    assert_eq!([0, 1].map(|at| all[at]["active"] == true), [true, false]);
    let delete = async |server: &Server, file: &[u8]| {
        server.send(Method::DELETE, &format!("/v1/models/{}", id(file)), "").await
    };
    assert_eq!(problem(&delete(&server, SHIPPED).await), (409, "model-in-use"));
    assert_eq!(activate(&server, &id(&two), false).await.status, 200);
    // It ships with the program.
    assert_eq!(problem(&delete(&server, SHIPPED).await), (409, "model-in-use"));
    assert_eq!(problem(&delete(&server, &two).await), (409, "model-in-use"));
    assert_eq!(activate(&server, &id(SHIPPED), false).await.status, 200);
    assert_eq!(delete(&server, &two).await.status, 204);
    assert_eq!(problem(&delete(&server, &two).await), (404, "unknown-model"));
    let left = format!("SELECT count(*) FROM templates WHERE model <> '{}'", id(SHIPPED));
    assert_eq!(sqlite(&server.database(), &left), "0");
    assert_eq!(problem(&activate(&server, &id(&two), true).await), (404, "unknown-model"));

    // One more than may be drops the oldest that nobody needs.
    let most = ["--max-models", "3"];
    let server = given(server, &two, &most);
    let server = given(server, &three, &most);
    let four = twin(4);
    let server = given(server, &four, &most);
    assert_eq!(ids(&models(&server).await), [id(SHIPPED), id(&three), id(&four)]);
    assert_eq!(activate(&server, &id(&three), true).await.status, 200);
    let server = given(server, &two, &most);
    assert_eq!(ids(&models(&server).await), [id(SHIPPED), id(&three), id(&two)]);
    // A database with a model that serves needs no file of it.
    let server = Server::start_in(server.kill());
    assert_eq!(server.identify(&simulated(11, 3)).await.body["model"], id(&three));
}

#[tokio::test]
async fn a_model_that_was_altered_is_refused_and_mended_by_its_file() {
    let two = twin(2);
    let server = given(with_walkers(2).await, &two, &KEEPING);
    let alter = format!(
        "UPDATE models SET file = CAST(substr(file, 1, 9999) || x'ff' || substr(file, 10001) AS BLOB)
         WHERE id = '{}'",
        id(&two)
    );
    sqlite(&server.database(), &alter);
    let answer = activate(&server, &id(&two), true).await;
    assert_eq!(problem(&answer), (409, "unusable-model"), "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("checksum"), "{answer:?}");
    let fetched = server.send(Method::GET, &format!("/v1/models/{}/file", id(&two)), "").await;
    assert_eq!(problem(&fetched), (409, "unusable-model"), "{fetched:?}");
    assert_eq!(server.named(&simulated(11, 3)).await.as_deref(), Some("user-0"));

    // The file of another model in its place.
    let place = format!(
        "UPDATE models SET file = (SELECT file FROM models WHERE id = '{}') WHERE id = '{}'",
        id(SHIPPED),
        id(&two)
    );
    sqlite(&server.database(), &place);
    let answer = activate(&server, &id(&two), true).await;
    assert_eq!(problem(&answer), (409, "unusable-model"), "{answer:?}");

    let server = given(server, &two, &KEEPING);
    assert_eq!(activate(&server, &id(&two), false).await.status, 200);
    sqlite(&server.database(), &alter);
    let folder = server.kill();
    let output = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(folder.path().join("test.db"))
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("checksum"), "{message}");
    assert!(message.contains(&id(&two)) && message.contains("`--model`"), "{message}");
    let path = write(&folder, &two);
    let server = Server::start_with(folder, &["--model", path.to_str().unwrap()]);
    let answer = server.identify(&simulated(11, 3)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(id(&two)), &json!("user-0")));
}

#[tokio::test]
async fn a_worse_model_serves_only_if_it_is_forced() {
    // To one nobody matches. To the other everybody does, so that it names nobody either.
    let sure = |shift: f32| {
        other(0, |metadata| {
            let names = ["single_strength", "session_strength"];
            let decides = |name: &str| names.iter().any(|start| name.starts_with(start));
            let thresholds = metadata.metrics.iter_mut().filter(|(name, _)| decides(name));
            thresholds.for_each(|(_, threshold)| *threshold += shift);
        })
    };
    let (silent, eager) = (sure(90.0), sure(-90.0));
    let server = given(with_walkers(4).await, &silent, &KEEPING);
    let server = given(server, &eager, &KEEPING);
    for file in [&silent, &eager] {
        let answer = activate(&server, &id(file), false).await;
        assert_eq!(problem(&answer), (409, "worse-model"), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("of 4 recordings it names"), "{detail}");
        assert_eq!(server.identify(&simulated(11, 3)).await.body["model"], id(SHIPPED));
        // It is kept beside the model.
        let path = format!("/v1/models/{}", id(file));
        let comparison = server.send(Method::GET, &path, "").await.body["comparison"].take();
        assert_eq!(comparison["old_model"], id(SHIPPED));
        assert_eq!(comparison["old"]["identified_right"], 1.0, "{comparison}");
        assert_eq!(comparison["new"]["identified_right"], 0.0, "{comparison}");
        assert_eq!(comparison["new"]["strangers_identified"], 0.0, "{comparison}");
    }
    let answer = activate(&server, &id(&silent), true).await;
    assert_eq!((answer.status, &answer.body["comparison"]["recordings"]), (200, &json!(4)));
    assert_eq!(server.named(&simulated(11, 3)).await, None);
    // The way back is no worse.
    assert_eq!(activate(&server, &id(SHIPPED), false).await.status, 200);
    assert_eq!(server.named(&simulated(11, 3)).await.as_deref(), Some("user-0"));
}

#[tokio::test]
async fn a_database_of_an_older_model_goes_on_serving() {
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/bipedalnet-pooled.safetensors");
    let of_older = id(&std::fs::read(older).unwrap());
    let server = Server::start_with(tempfile::tempdir().unwrap(), &["--model", older]);
    for person in 11..19 {
        let user = format!("user-{person}");
        server.put_user(&user).await;
        for walk in [1, 2] {
            assert_eq!(server.enroll(&user, &simulated(person, walk)).await.status, 201);
        }
    }
    let server = Server::start_in(server.kill());
    let answer = server.identify(&simulated(12, 3)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(of_older), &json!("user-12")));
    assert_eq!(server.named(&simulated(40, 1)).await, None);
    // The model that ships is there, and says what it would lose.
    let answer = activate(&server, &id(SHIPPED), false).await;
    assert_eq!(problem(&answer), (409, "walks-lost"), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("16 walks of 8 users"), "{detail}");
}

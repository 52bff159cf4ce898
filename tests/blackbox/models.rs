//! The model registry: descriptions, files, activation and deletion.

use std::fs;
use std::path::PathBuf;

use bipedalnet_core::bnn::{self, LayerParameters, Metadata};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{
    self, Answer, Server, create_key, database_in, printed, program, run_sql, simulated,
};

pub const KEEPING: [&str; 2] = ["--keep-recordings-days", "30"];

const SHIPPED: &[u8] = include_bytes!("../../models/bipedalnet-openset.safetensors");

const BIPEDALNET: &[u8] = include_bytes!("../../models/bipedalnet.safetensors");

/// The shipped model with its features in another order. It is as good, but its templates cannot be
/// compared with those of the shipped model.
pub fn twin(turn: usize) -> Vec<u8> {
    other(turn, |metadata| metadata.seed += turn as u64)
}

/// Position of the last convolution in the shipped model, and its channels.
const LAST_CONVOLUTION: usize = 4;
const CHANNELS: usize = 64;

/// The shipped model with its channels rotated by `turn` places and with other metadata.
fn other(turn: usize, change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let (mut metadata, mut parameters) = bnn::decode(SHIPPED).unwrap();
    change(&mut metadata);
    // Rotate the channels of the last convolution, and of all layers after it.
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

/// Restarts the server with `--model`, which registers the model.
pub fn restart_with_model(server: Server, file: &[u8], arguments: &[&str]) -> Server {
    let folder = server.kill();
    let path = write(&folder, file);
    let arguments = [&["--model", path.to_str().unwrap()], arguments].concat();
    Server::start_with(folder, &arguments)
}

/// Starts a server with users who have two walks each, and keeps their recordings.
pub async fn with_walkers(people: u64) -> Server {
    enrolled(Server::with_arguments(&KEEPING), people).await
}

/// The same with the `bipedalnet` model, which has classes and is trained epoch by epoch. It gets the
/// shipped model's calibration, which is wrong for it.
pub async fn with_walkers_and_classes(people: u64) -> Server {
    let (shipped, _) = bnn::decode(SHIPPED).unwrap();
    let (metadata, parameters) = bnn::decode(BIPEDALNET).unwrap();
    let metadata = Metadata { metrics: shipped.metrics, ..metadata };
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &bnn::encode(&metadata, &parameters).unwrap());
    let arguments = [&KEEPING[..], &["--model", path.to_str().unwrap()]].concat();
    enrolled(Server::start_with(folder, &arguments), people).await
}

async fn enrolled(server: Server, people: u64) -> Server {
    for person in 0..people {
        let walks = [1, 2].map(|walk| simulated(11 + person, walk));
        server.add_user(&format!("user-{person}"), &walks).await;
    }
    server
}

pub async fn activate(server: &Server, model: &str, force: bool) -> Answer {
    let path = format!("/v1/models/{model}/activate");
    server.send(Method::POST, &path, json!({"force": force}).to_string()).await
}

pub async fn models(server: &Server) -> Vec<Value> {
    let answer = server.get("/v1/models").await.body;
    answer["models"].as_array().unwrap().clone()
}

fn ids(models: &[Value]) -> Vec<&str> {
    models.iter().map(|model| model["model"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn models_are_described_and_their_files_can_be_fetched_in_whole_and_in_part() {
    let server = Server::start();
    let all = models(&server).await;
    let [model] = &all[..] else { panic!("{all:?}") };
    let digest: String = Sha256::digest(SHIPPED).iter().map(|b| format!("{b:02x}")).collect();
    let read = server.get(&format!("/v1/models/{}", id(SHIPPED))).await.body;
    assert_eq!(&read, model);
    assert_eq!((&read["model"], &read["sha256"]), (&json!(id(SHIPPED)), &json!(digest)));
    assert_eq!((&read["active"], &read["shipped"]), (&json!(true), &json!(true)));
    assert_eq!(read["size_bytes"], SHIPPED.len());
    assert!(read["metrics"]["single_strength_at_fmr_0.01"].is_number(), "{read}");

    let path = format!("/v1/models/{}/file", id(SHIPPED));
    let fetch = async |method: Method, headers: &[(&str, &str)]| {
        let request = support::client().request(method, server.url(&path));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap())
    };
    let get = async |headers: &[(&str, &str)]| fetch(Method::GET, headers).await;
    let tag = format!("\"{digest}\"");
    for accepted in [&[][..], &[("accept-encoding", "gzip, br, zstd")]] {
        let (status, headers, body) = get(accepted).await;
        assert!(status == 200 && body == SHIPPED, "{headers:?}");
        for (name, value) in [
            ("etag", &tag[..]),
            ("cache-control", "private, max-age=31536000, immutable"),
            ("accept-ranges", "bytes"),
            ("content-type", "application/octet-stream"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("content-encoding"), "{headers:?}");
    }
    let length = SHIPPED.len();
    let from_30000 = ("range", "bytes=30000-");
    for requested in [&[from_30000][..], &[from_30000, ("if-range", &tag)]] {
        let (status, headers, body) = get(requested).await;
        assert!(status == 206 && body == SHIPPED[30000..], "{headers:?}");
        let range = format!("bytes 30000-{}/{length}", length - 1);
        assert_eq!(headers["etag"], tag);
        assert_eq!(headers["content-range"], range);
    }
    // The whole file is sent if the tag is weak, for several ranges, and for HEAD.
    let weak = format!("W/{tag}");
    for requested in [&[from_30000, ("if-range", &weak)][..], &[("range", "bytes=0-1,4-5")]] {
        let (status, headers, body) = get(requested).await;
        assert!(status == 200 && body == SHIPPED, "{headers:?}");
    }
    let (status, headers, body) = fetch(Method::HEAD, &[("range", "bytes=0-9")]).await;
    assert!(status == 200 && body.is_empty(), "{headers:?}");
    assert_eq!(headers["content-length"], length.to_string());
    let (status, headers, _) = get(&[("range", "bytes=900000-")]).await;
    assert_eq!(status, 416);
    assert_eq!(headers["content-range"], format!("bytes */{length}"));
    for known in [&format!("\"x\", {tag}"), &weak, "*"] {
        let (status, headers, body) =
            get(&[("range", "bytes=0-9"), ("if-none-match", known)]).await;
        assert!(status == 304 && body.is_empty(), "{headers:?}");
        assert_eq!(headers["etag"], tag);
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"), "{headers:?}");
    }
    for path in ["/v1/models/0123456789abcdef", "/v1/models/x/file"] {
        assert_eq!(server.get(path).await.problem(), (404, "unknown-model"));
    }
}

#[tokio::test]
async fn any_key_reads_models_and_one_with_scope_train_activates_them() {
    let folder = tempfile::tempdir().unwrap();
    let database = database_in(folder.path());
    let [phone, trainer] = ["identify", "train"].map(|scopes| create_key(&database, scopes));
    let server = Server::start_in(folder);
    let path = format!("/v1/models/{}", id(SHIPPED));
    let ask = async |key: Option<&str>, method: Method, path: &str| {
        let request = server.request(method, path, "{}");
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
async fn models_in_use_stay_and_others_can_be_deleted() {
    let (two, three) = (twin(2), twin(3));
    let server = restart_with_model(with_walkers(1).await, &two, &KEEPING);
    let all = models(&server).await;
    // `--model` does not activate a model if the database has an active one.
    assert_eq!(ids(&all), [id(SHIPPED), id(&two)]);
    assert_eq!([0, 1].map(|at| all[at]["active"] == true), [true, false]);
    let delete = async |server: &Server, file: &[u8]| {
        server.send(Method::DELETE, &format!("/v1/models/{}", id(file)), "").await
    };
    assert_eq!(delete(&server, SHIPPED).await.problem(), (409, "model-in-use"));
    assert_eq!(activate(&server, &id(&two), false).await.status, 200);
    // The shipped model stays even if another is active.
    assert_eq!(delete(&server, SHIPPED).await.problem(), (409, "model-in-use"));
    assert_eq!(delete(&server, &two).await.problem(), (409, "model-in-use"));
    assert_eq!(activate(&server, &id(SHIPPED), false).await.status, 200);
    assert_eq!(delete(&server, &two).await.status, 204);
    assert_eq!(delete(&server, &two).await.problem(), (404, "unknown-model"));
    let left = format!("SELECT count(*) FROM templates WHERE model <> '{}'", id(SHIPPED));
    assert_eq!(run_sql(&server.database(), &left), "0");
    assert_eq!(activate(&server, &id(&two), true).await.problem(), (404, "unknown-model"));

    // Above the limit, the oldest model that is not in use is dropped.
    let most = ["--max-models", "3"];
    let server = restart_with_model(server, &two, &most);
    let server = restart_with_model(server, &three, &most);
    let four = twin(4);
    let server = restart_with_model(server, &four, &most);
    assert_eq!(ids(&models(&server).await), [id(SHIPPED), id(&three), id(&four)]);
    assert_eq!(activate(&server, &id(&three), true).await.status, 200);
    let server = restart_with_model(server, &two, &most);
    assert_eq!(ids(&models(&server).await), [id(SHIPPED), id(&three), id(&two)]);
    // The database holds the active model, so the server starts without its file.
    let server = Server::start_in(server.kill());
    assert_eq!(server.identify(&simulated(11, 3)).await.body["model"], id(&three));
}

#[tokio::test]
async fn a_damaged_model_is_refused_and_repaired_from_its_file() {
    let two = twin(2);
    let server = restart_with_model(with_walkers(2).await, &two, &KEEPING);
    let alter = format!(
        "UPDATE models SET file = CAST(substr(file, 1, 9999) || x'ff' || substr(file, 10001) AS BLOB)
         WHERE id = '{}'",
        id(&two)
    );
    run_sql(&server.database(), &alter);
    let answer = activate(&server, &id(&two), true).await;
    assert_eq!(answer.problem(), (409, "unusable-model"), "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("checksum"), "{answer:?}");
    let fetched = server.get(&format!("/v1/models/{}/file", id(&two))).await;
    assert_eq!(fetched.problem(), (409, "unusable-model"), "{fetched:?}");
    assert_eq!(server.identified(&simulated(11, 3)).await.as_deref(), Some("user-0"));

    // The same with the file of another model.
    let place = format!(
        "UPDATE models SET file = (SELECT file FROM models WHERE id = '{}') WHERE id = '{}'",
        id(SHIPPED),
        id(&two)
    );
    run_sql(&server.database(), &place);
    let answer = activate(&server, &id(&two), true).await;
    assert_eq!(answer.problem(), (409, "unusable-model"), "{answer:?}");

    let server = restart_with_model(server, &two, &KEEPING);
    assert_eq!(activate(&server, &id(&two), false).await.status, 200);
    run_sql(&server.database(), &alter);
    let folder = server.kill();
    let mut serve = program();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--database"]);
    let message = printed(serve.arg(database_in(folder.path()))).unwrap_err();
    for part in ["checksum", &id(&two), "`--model`"] {
        assert!(message.contains(part), "{message}");
    }
    let path = write(&folder, &two);
    let server = Server::start_with(folder, &["--model", path.to_str().unwrap()]);
    let answer = server.identify(&simulated(11, 3)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(id(&two)), &json!("user-0")));
}

#[tokio::test]
async fn a_worse_model_is_activated_only_by_force() {
    // `silent` accepts nobody. `eager` accepts everybody, so it cannot tell users apart.
    let shifted = |shift: f32| {
        other(0, |metadata| {
            let names = ["single_strength", "session_strength"];
            let decides = |name: &str| names.iter().any(|start| name.starts_with(start));
            let thresholds = metadata.metrics.iter_mut().filter(|(name, _)| decides(name));
            thresholds.for_each(|(_, threshold)| *threshold += shift);
        })
    };
    let (silent, eager) = (shifted(90.0), shifted(-90.0));
    let server = restart_with_model(with_walkers(4).await, &silent, &KEEPING);
    let server = restart_with_model(server, &eager, &KEEPING);
    for file in [&silent, &eager] {
        let answer = activate(&server, &id(file), false).await;
        assert_eq!(answer.problem(), (409, "worse-model"), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("of 4 recordings correctly"), "{detail}");
        assert_eq!(server.identify(&simulated(11, 3)).await.body["model"], id(SHIPPED));
        // The comparison is stored with the model.
        let path = format!("/v1/models/{}", id(file));
        let comparison = server.get(&path).await.body["comparison"].take();
        assert_eq!(comparison["old_model"], id(SHIPPED));
        assert_eq!(comparison["old"]["identified_right"], 1.0, "{comparison}");
        assert_eq!(comparison["new"]["identified_right"], 0.0, "{comparison}");
        assert_eq!(comparison["new"]["strangers_identified"], 0.0, "{comparison}");
    }
    let answer = activate(&server, &id(&silent), true).await;
    assert_eq!((answer.status, &answer.body["comparison"]["recordings"]), (200, &json!(4)));
    assert_eq!(server.identified(&simulated(11, 3)).await, None);
    // The shipped model is not worse, so this needs no force.
    assert_eq!(activate(&server, &id(SHIPPED), false).await.status, 200);
    assert_eq!(server.identified(&simulated(11, 3)).await.as_deref(), Some("user-0"));
}

#[tokio::test]
async fn a_database_with_an_older_model_keeps_working() {
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/bipedalnet-pooled.safetensors");
    let of_older = id(&std::fs::read(older).unwrap());
    let server = Server::with_arguments(&["--model", older]);
    for person in 11..19 {
        let walks = [1, 2].map(|walk| simulated(person, walk));
        server.add_user(&format!("user-{person}"), &walks).await;
    }
    let server = Server::start_in(server.kill());
    let answer = server.identify(&simulated(12, 3)).await.body;
    assert_eq!((&answer["model"], &answer["user"]), (&json!(of_older), &json!("user-12")));
    assert_eq!(server.identified(&simulated(40, 1)).await, None);
    // The shipped model is registered. The problem says what its activation would lose.
    let answer = activate(&server, &id(SHIPPED), false).await;
    assert_eq!(answer.problem(), (409, "walks-lost"), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("16 walks of 8 users"), "{detail}");
}

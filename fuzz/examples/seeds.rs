//! Writes the first inputs of each target to `fuzz/corpus`, from simulated walkers:
//!
//!     cargo run -p bipedalnet-fuzz --example seeds

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bipedalnet_client::api::WalkDocument;
use bipedalnet_core::bnn::{Architecture, Layer, LayerParameters, Metadata, Parameters, encode};
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Precision, Recording, RecordingDocument, compact, exact};
use bipedalnet_core::{GaitModel, bnn, cbor};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

fn main() {
    documents();
    compact_form();
    tables();
    models();
    bodies();
    connections();
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("there is a disk");
    fs::write(folder.join(name), bytes).expect("there is a disk");
}

/// A few seconds of a walker.
fn walk(seconds: f64, rate_hz: f64, gyroscope: bool) -> Recording {
    Walker::new(1).walk(1, &Conditions { seconds, rate_hz, gyroscope })
}

fn small(recording: &Recording) -> Vec<u8> {
    compact(recording, &Precision::default()).expect("it has no gaps")
}

/// Documents by name.
fn examples() -> Vec<(&'static str, Value)> {
    let even = |recording: &Recording| {
        let walk: WalkDocument = cbor::from_slice(&small(recording)).expect("it was encoded");
        let mut walk = serde_json::to_value(walk).expect("keys are text");
        // Whole numbers, as phones send them.
        for sample in walk["acceleration"].as_array_mut().into_iter().flatten() {
            for value in sample.as_array_mut().into_iter().flatten() {
                *value = json!(value.as_f64().unwrap_or_default() as i64);
            }
        }
        walk
    };
    let timed = RecordingDocument::from(&walk(0.3, 50.0, true));
    let short = even(&walk(0.2, 20.0, false));
    let batch = json!({"items": [
        {"enroll": {"user": "bob", "walk": short}},
        {"identify": {"among": ["ann", "bob"], "walk": short}},
        {"verify": {"user": "ann", "fmr": 0.01, "session": "s", "challenge": "c", "walk": short}},
    ]});
    vec![
        ("even", even(&walk(2.2, 50.0, false))),
        ("timed", serde_json::to_value(timed).expect("keys are text")),
        ("features", json!({"model": "724ae4ec6180104f", "features": [[0.5, -1, 2], [1, 0, 3]]})),
        ("batch", batch),
        ("job", json!({"name": "night", "epochs": 3, "seconds": 60})),
    ]
}

fn documents() {
    for (name, document) in examples() {
        save("json", name, document.to_string().as_bytes());
        save("cbor", name, &cbor_of(&document));
    }
    save("cbor", "compact", &small(&walk(2.2, 50.0, true)));
    save("cbor", "exact", &exact(&walk(0.3, 50.0, true)));
}

fn cbor_of(document: &Value) -> Vec<u8> {
    minicbor_serde::to_vec(document).expect("memory is all that is written to")
}

fn compact_form() {
    for (choice, seconds, rate_hz, gyroscope) in
        [(0, 2.5, 50.0, false), (0x40, 2.5, 25.0, true), (0x54, 2.2, 30.0, false)]
    {
        let recording = walk(seconds, rate_hz, gyroscope);
        save("compact", &format!("{rate_hz}-exact"), &[&[choice], &exact(&recording)[..]].concat());
        save("compact", &format!("{rate_hz}"), &[&[choice], &small(&recording)[..]].concat());
    }
}

fn tables() {
    for gyroscope in [false, true] {
        let recording = walk(2.2, 25.0, gyroscope);
        let mut table = if gyroscope { "t,ax,ay,az,gx,gy,gz\n" } else { "t,ax,ay,az\n" }.to_owned();
        for (index, time) in recording.time_seconds().iter().enumerate() {
            let _ = write!(table, "{time:.3}");
            let rates = recording.angular_rate_rad_s().map(|rates| rates[index]);
            for value in
                recording.acceleration_m_s2()[index].into_iter().chain(rates.into_iter().flatten())
            {
                let _ = write!(table, ",{value:.2}");
            }
            table.push('\n');
        }
        save("csv", if gyroscope { "gyroscope" } else { "acceleration" }, table.as_bytes());
    }
}

fn models() {
    for (name, architecture) in [
        ("plain", "binary 4x9 conv3/2x2+ bn sign dense2"),
        ("feature", "binary 4x12 conv5/3x3/same pool2x2 bn sign mean bn project4 norm dense3"),
        ("open-set", "binary 8x100 conv4/3x3 pool2x2 bn sign acf3,6,12 deflate2"),
        ("float", "float 4x9 conv2/2x2 tanh dense3+"),
    ] {
        let architecture: Architecture = architecture.parse().expect("it is one");
        let shipped = include_bytes!("../../models/bipedalnet-openset.safetensors");
        let (shipped, _) = bnn::decode(shipped).expect("it ships");
        let metadata = Metadata {
            name: name.to_owned(),
            classes: (0..architecture.classes()).map(|class| class.to_string()).collect(),
            training_data: "simulated".to_owned(),
            architecture: architecture.clone(),
            ..shipped
        };
        let file = encode(&metadata, &parameters(&architecture)).expect("they fit");
        if name == "open-set" {
            let model = bnn::Model::from_bytes(&file).expect("it was encoded");
            GaitModel::new(model).expect("it has a calibration");
        }
        save("model", name, &file);
    }
}

fn parameters(architecture: &Architecture) -> Parameters {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let shapes = architecture.shapes().expect("layers fit");
    let counts = architecture.weight_counts().expect("layers fit");
    let mut signs = |count: usize| -> Vec<f32> {
        (0..count).map(|_| if random.random() { 1.0 } else { -1.0 }).collect()
    };
    let layers = architecture.layers.iter().enumerate().map(|(index, layer)| {
        let channels = shapes[index + 1].channels;
        Some(match layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                LayerParameters::Weights {
                    weights: signs(counts[index]),
                    bias: bias.then(|| signs(channels)),
                }
            }
            Layer::Projection { .. } => LayerParameters::Weights {
                weights: signs(counts[index]),
                bias: Some(signs(channels)),
            },
            Layer::Deflation { .. } => LayerParameters::Deflation {
                centre: signs(channels),
                directions: signs(counts[index]),
            },
            Layer::BatchNorm => LayerParameters::BatchNorm {
                beta: signs(channels),
                mean: signs(channels),
                variance: vec![1.0; channels],
            },
            _ => return None,
        })
    });
    Parameters { layers: layers.collect() }
}

fn bodies() {
    let compact = small(&walk(2.2, 50.0, false));
    let mut zstd = vec![0b011];
    zstd.extend(zstd::encode_all(&compact[..], 3).expect("memory is all that is written to"));
    save("bodies", "zstd", &zstd);
    save("bodies", "compact", &[&[0b0100_0001], &compact[..]].concat());
    for (name, document) in examples() {
        let kind = match name {
            "batch" => 16,
            "features" => 20,
            "timed" => 24,
            "job" => 28,
            _ => 8,
        };
        save("bodies", name, &[&[kind << 3], document.to_string().as_bytes()].concat());
        save(
            "bodies",
            &format!("{name}-cbor"),
            &[&[kind << 3 | 1], &cbor_of(&document)[..]].concat(),
        );
    }
}

fn connections() {
    let body = r#"{"rate_hz":50,"acceleration":[[0,0,9.8],[0,1,9.8]]}"#;
    let posts = [
        ("identify", "/v1/identify?among=ann,bob"),
        ("verify", "/v1/users/ann/verify?fmr=0.01&session=s"),
        ("enroll", "/v1/users/bob/enrollments"),
        ("batch", "/v1/batch"),
    ];
    for (name, path) in posts {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\naccept: application/cbor\r\n\
             idempotency-key: k\r\nrequest-deadline-ms: 1000\r\n"
        );
        let length = body.len();
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        save("http", name, request.as_bytes());
        let chunked = format!(
            "{head}transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        save("http", &format!("{name}-chunked"), chunked.as_bytes());
    }
    let reads = [
        "GET /v1/models/724ae4ec6180104f/file HTTP/1.1\r\nhost: x\r\nrange: bytes=0-9\r\nif-range: \"a\"\r\n\r\n",
        "GET /v1/users?after=ann&limit=2 HTTP/1.1\r\nhost: x\r\nif-none-match: \"a\", W/\"b\"\r\n\r\nHEAD /docs HTTP/1.1\r\nhost: x\r\naccept-encoding: br;q=0.5, gzip\r\n\r\n",
        "GET /v1/users/ann/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer bpn_0123456789ab_00\r\n\r\n",
        "DELETE /v1/users/ann/enrollments/1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        "PUT /v1/users/carol%2F HTTP/1.1\r\nhost: x\r\nx-request-id: a\r\n\r\nPOST /v1/users/ann/challenges HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /v1/training-jobs/1/events HTTP/1.1\r\nhost: x\r\nlast-event-id: 1\r\n\r\n",
    ];
    for (index, request) in reads.iter().enumerate() {
        save("http", &format!("read-{index}"), request.as_bytes());
    }
    // A preface, empty settings, and one stream with GET / as static entries of HPACK.
    let mut http2 =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    http2.extend(b"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x01x");
    save("http", "http2", &http2);
}

//! Recordings to try the API with: walks of one simulated person.

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use serde_json::{Value, json};

use super::layout::layout;

const PERSON: u64 = 7;

/// A sample rate of cheap phones. It keeps the files small.
const RATE_HZ: f64 = 25.0;

/// Enough for a user to be ready, and for the example of a training job.
const SECONDS: f64 = 40.0;

/// The file that an operation sends. The first steps enroll Monday's walk and identify Tuesday's; no
/// walk may be enrolled or verified twice.
pub(super) fn file_for(operation_id: &str) -> Option<&'static str> {
    Some(match operation_id {
        "enroll" => "wednesday.json",
        "identify" => "tuesday.json",
        "verify" => "thursday.json",
        "batch" => "batch.json",
        _ => return None,
    })
}

/// Names and texts of all files.
pub(super) fn files() -> Vec<(&'static str, String)> {
    let friday = walk(5);
    let batch = json!({"items": [
        {"verify": {"user": "ann", "walk": friday}},
        {"identify": {"walk": friday}},
    ]});
    let files = [
        ("monday.json", walk(1)),
        ("tuesday.json", walk(2)),
        ("wednesday.json", walk(3)),
        ("thursday.json", walk(4)),
        ("batch.json", batch),
    ];
    files.into_iter().map(|(name, document)| (name, layout(&document) + "\n")).collect()
}

fn walk(seed: u64) -> Value {
    let conditions = Conditions { seconds: SECONDS, rate_hz: RATE_HZ, gyroscope: false };
    let recording = Walker::new(PERSON).walk(seed, &conditions);
    let rounded = |value: f32| (f64::from(value) * 10.0).round() / 10.0;
    let samples: Vec<[f64; 3]> =
        recording.acceleration_m_s2().iter().map(|sample| sample.map(rounded)).collect();
    json!({"rate_hz": RATE_HZ, "acceleration": samples})
}

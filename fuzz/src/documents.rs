//! Documents mean the same in JSON and in CBOR.

use bipedalnet_client::api::{BatchDocument, WalkDocument};
use bipedalnet_core::cbor;
use bipedalnet_core::gait::RecordingDocument;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads bytes as the JSON of each document.
///
/// # Panics
/// If a document changes when it is encoded, or if its CBOR is read differently.
pub fn check_json(bytes: &[u8]) {
    check_json_of::<RecordingDocument>(bytes);
    check_json_of::<WalkDocument>(bytes);
    check_json_of::<BatchDocument>(bytes);
}

/// Reads bytes as the CBOR of each document.
///
/// # Panics
/// If a document changes when it is encoded, or if its JSON is read differently.
pub fn check_cbor(bytes: &[u8]) {
    check_cbor_of::<RecordingDocument>(bytes);
    check_cbor_of::<WalkDocument>(bytes);
    check_cbor_of::<BatchDocument>(bytes);
}

fn check_json_of<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<T>(bytes) {
        check_round_trips(&document);
    }
    // `minicbor_serde` writes the null of a `Value` as an empty list.
    let value = serde_json::from_slice::<Value>(bytes).ok().filter(|value| !has_null(value));
    let Some(value) = value else { return };
    let from_cbor = cbor::from_slice::<T>(&encoded(&value));
    match (serde_json::from_value::<T>(value), from_cbor) {
        (Ok(json), Ok(cbor)) => assert_eq!(encoded(&json), encoded(&cbor)),
        (Err(_), Err(_)) => {}
        (json, cbor) => panic!("JSON: {:?}, CBOR: {:?}", json.err(), cbor.err()),
    }
}

fn check_cbor_of<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let document = cbor::from_slice::<T>(bytes);
    let value = cbor::from_slice::<Value>(bytes);
    if let Ok(document) = &document {
        check_round_trips(document);
    }
    // A byte string has no JSON value, but it is taken for a text. JSON has null for NaN and infinity.
    let Some(value) = value.ok().filter(|value| !has_null(value)) else { return };
    // The value has only the last of repeated keys.
    let unique = cbor::from_slice::<T>(&encoded(&value));
    match (serde_json::from_value::<T>(value), document, unique) {
        (Ok(json), Ok(cbor), _) | (Ok(json), Err(_), Ok(cbor)) => {
            assert_eq!(encoded(&json), encoded(&cbor));
        }
        (Err(_), Err(_), Err(_)) => {}
        (json, cbor, _) => panic!("JSON: {:?}, CBOR: {:?}", json.err(), cbor.err()),
    }
}

fn check_round_trips<T: Serialize + DeserializeOwned>(document: &T) {
    let bytes = encoded(document);
    let again: T = cbor::from_slice(&bytes).expect("an encoded document can be decoded");
    // Not the documents themselves: NaN differs from itself.
    assert_eq!(encoded(&again), bytes);
    let value = serde_json::to_value(document).expect("keys are text");
    if !has_null(&value) {
        let text = serde_json::to_string(document).expect("keys are text");
        let again: T = serde_json::from_str(&text).expect("an encoded document can be decoded");
        assert_close(&serde_json::to_value(&again).expect("keys are text"), &value);
    }
}

fn encoded(document: &impl Serialize) -> Vec<u8> {
    minicbor_serde::to_vec(document).expect("memory is all that is written to")
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}

/// serde_json may read the last bit of a number wrongly.
fn assert_close(found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let [a, b] = [a, b].map(|number| number.as_f64().expect("numbers are finite"));
            // Subnormal numbers have fewer bits.
            let allowed = (2.0 * f64::EPSILON * b.abs()).max(f64::MIN_POSITIVE);
            assert!((a - b).abs() <= allowed, "{a} {b}");
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| assert_close(a, b));
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.values().zip(b.values()).for_each(|(a, b)| assert_close(a, b));
        }
        (a, b) => assert_eq!(a, b),
    }
}

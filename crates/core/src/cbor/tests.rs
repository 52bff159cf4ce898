use std::collections::BTreeMap;

use minicbor::Encoder;
use minicbor::data::Tag;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::gait::RecordingDocument;

/// The CBOR of a JSON value, with containers and texts of definite or indefinite length.
fn encode(value: &Value, indefinite: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match value {
        Value::Null => encoder.null(),
        Value::Bool(value) => encoder.bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => encoder.u64(value),
            (_, Some(value)) => encoder.i64(value),
            _ => encoder.f64(number.as_f64().unwrap()),
        },
        Value::String(text) if indefinite => {
            encoder.begin_str().unwrap();
            text.chars().for_each(|char| drop(encoder.str(&char.to_string())));
            encoder.end()
        }
        Value::String(text) => encoder.str(text),
        Value::Array(items) => {
            if indefinite { encoder.begin_array() } else { encoder.array(items.len() as u64) }
                .unwrap();
            let items = items.iter().flat_map(|item| encode(item, indefinite));
            encoder.writer_mut().extend(items);
            if indefinite { encoder.end() } else { Ok(&mut encoder) }
        }
        Value::Object(fields) => {
            if indefinite { encoder.begin_map() } else { encoder.map(fields.len() as u64) }
                .unwrap();
            for (key, value) in fields {
                encoder.writer_mut().extend(encode(&json!(key), indefinite));
                encoder.writer_mut().extend(encode(value, indefinite));
            }
            if indefinite { encoder.end() } else { Ok(&mut encoder) }
        }
    }
    .unwrap();
    encoder.into_writer()
}

fn tagged(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.tag(Tag::new(tag)).unwrap().bytes(bytes).unwrap();
    encoder.into_writer()
}

fn matrix(tag: u64, rows: usize, columns: usize, elements: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.tag(Tag::new(tag)).unwrap().array(2).unwrap();
    encoder.encode([rows as u64, columns as u64]).unwrap();
    [encoder.into_writer(), elements.to_vec()].concat()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..][..2], 16).unwrap())
        .collect()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |v| v.is_finite())
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    recordings: Vec<RecordingDocument>,
    mode: Mode,
    note: Option<String>,
    weights: Vec<Weight>,
    #[serde(default)]
    counts: BTreeMap<String, u8>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    AllOrNothing,
    Best { of: u32 },
    First(i8),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Weight(f32);

#[derive(Debug, PartialEq, Deserialize)]
struct Labelled {
    label: char,
    #[serde(flatten)]
    recording: RecordingDocument,
}

#[test]
fn the_same_types_read_json_and_cbor() {
    for mode in [json!("all-or-nothing"), json!({"best": {"of": 3}}), json!({"first": -3})] {
        let batch = json!({
            "recordings": [
                {"rate_hz": 50, "acceleration": [[1, 2.5, 9.8]], "acceleration_unit": "g"},
                {"time_seconds": [0, 1], "acceleration": [], "angular_rate": null},
            ],
            "mode": mode,
            "weights": [1, 2.5],
            "counts": {"a": 7},
        });
        let from_json: Batch = serde_json::from_value(batch.clone()).unwrap();
        for indefinite in [false, true] {
            assert_eq!(from_slice::<Batch>(&encode(&batch, indefinite)).as_ref(), Ok(&from_json));
        }
    }
    let labelled = json!({"label": "x", "rate_hz": 2.0, "acceleration": [[1, 2, 3]]});
    let mut cbor = encode(&labelled, false);
    let from_json: Labelled = serde_json::from_value(labelled).unwrap();
    assert_eq!(from_slice::<Labelled>(&cbor).unwrap(), from_json);
    // The list as three columns of bytes.
    let list = encode(&json!([[1, 2, 3]]), false);
    let at = cbor.windows(list.len()).position(|part| part == list).unwrap();
    cbor.splice(at..at + list.len(), matrix(TAG_COLUMN_MAJOR, 1, 3, &tagged(72, &[1, 2, 3])));
    assert_eq!(from_slice::<Labelled>(&cbor).unwrap(), from_json);
}

/// The example of RFC 8746, section 3.1, in each form.
#[test]
fn the_matrix_of_the_rfc() {
    for item in [
        "d828 82 820203 d841 4c 000200040008000400100100",
        "d828 82 820203 86 020408 0410190100",
        "d90410 82 820203 86 020404 1008190100",
        "d90410 82 820203 d841 4c 000200040004001000080100",
        "d828 82 820203 d829 86 020408 0410190100",
        "d828 9f 9f0203ff 9f 020408 0410190100 ff ff",
    ] {
        let rows: Result<Vec<[u32; 3]>, _> = from_slice(&hex(item));
        assert_eq!(rows, Ok(vec![[2, 4, 8], [4, 16, 256]]), "{item}");
    }
}

#[test]
fn half_floats_and_small_numbers() {
    for (item, expected) in [
        ("d850 48 3c00 c000 0001 7c00", [1.0, -2.0, 2f32.powi(-24), f32::INFINITY]),
        ("d854 48 003c 00c0 0100 007c", [1.0, -2.0, 2f32.powi(-24), f32::INFINITY]),
        ("84 f93c00 f9c000 f90001 f97c00", [1.0, -2.0, 2f32.powi(-24), f32::INFINITY]),
        ("d844 5f 41 00 43 01 7f ff ff", [0.0, 1.0, 127.0, 255.0]),
        ("84 00 20 fa3f800000 3bffffffffffffffff", [0.0, -1.0, 1.0, -18446744073709551616.0]),
        ("d9d9f7 d829 84 00 01 02 03", [0.0, 1.0, 2.0, 3.0]),
    ] {
        assert_eq!(from_slice::<[f32; 4]>(&hex(item)), Ok(expected), "{item}");
    }
    let optional: Vec<Option<Weight>> = from_slice(&hex("d848 42 01ff")).unwrap();
    assert_eq!(optional, [Some(Weight(1.0)), Some(Weight(-1.0))]);
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    for (item, expected) in [
        ("", "ends at byte 0"),
        ("82 01", "ends at byte 2"),
        ("82 01 19", "ends at byte 3"),
        ("82 01 1c", "starts at byte 2"),
        ("82 01 ff", "starts at byte 2"),
        ("81 62 ff00", "starts at byte 1"),
        ("01 02", "ends at byte 1, but more"),
        ("81 f7", "a simple value at byte 1"),
        ("81 c1 01", "tag 1 at byte 1"),
        ("81 d84c 41 01", "tag 76 at byte 1"),
        ("81 d857 50 00000000000000000000000000000000", "tag 87 at byte 1"),
        ("a1 01 02", "a key that is not text at byte 1"),
        ("81 d841 43 010203", "array at byte 1 has 3 bytes, but elements of 2"),
        ("81 d841 82 01 02", "array at byte 1 is typed, so it needs a byte string"),
        ("81 d828 82 820203 85 0102030405", "array at byte 1 claims 2 x 3 elements, but has 5"),
        ("81 d828 82 820003 80", "claims 0 x 3 elements, but has 0"),
        ("d828 82 82 1b7fffffffffffffff 00 80", "has 0"),
        ("d828 82 82 1b8000000000000000 02 80", "has 0"),
        ("d828 82 81 04 84 01020304", "invalid length 1"),
        ("d828 82 83 010204 84 01020304", "more items than expected, at byte 3"),
        ("d828 81 820203", "has no elements"),
        ("d828 83 820102 820102 01", "more items than expected"),
        ("d828 80", "has no dimensions"),
        ("d828 41 00", "needs a list of its dimensions"),
        ("d828 82 820102 41 00", "needs a list or a typed array"),
        ("d828 82 820102 82 01 6161", "found string, expected a number, at byte 8"),
        ("9b ffffffffffffffff 01", "ends at byte 10"),
        ("5b ffffffffffffffff 01", "ends at byte 10"),
        ("bb ffffffffffffffff 6161 01", "ends at byte 12"),
    ] {
        let message = from_slice::<Value>(&hex(item)).unwrap_err().to_string();
        assert!(message.contains(expected), "{item}: {message}");
    }
    let wrong = |item: &str| {
        let bytes = hex(item);
        let mut deserializer = Deserializer::from_slice(&bytes);
        let error = serde_path_to_error::deserialize::<_, BTreeMap<String, Vec<[i8; 2]>>>(
            &mut deserializer,
        );
        error.unwrap_err().to_string()
    };
    for (item, expected) in [
        (
            "a1 6161 82 82 0102 82 01 6162",
            "a[1][1]: invalid type: string \"b\", expected i8, at byte 9",
        ),
        ("a1 6161 d828 82 820202 d840 44 010203ff", "a[1][1]: invalid value"),
        ("a1 6161 82 82 0102 83 010203", "a[1]: the list has more items than expected, at byte 7"),
        ("a1 6161 d828 82 820103 d840 43 010203", "a[0]: invalid length 3"),
        ("a1 6161 d828 82 820201 d840 42 0102", "a[0]: invalid length 1"),
        ("a1 6161 81 d840 41 01", "a[0]: invalid length 1"),
    ] {
        let message = wrong(item);
        assert!(message.contains(expected), "{item}: {message}");
    }
    let unknown = from_slice::<RecordingDocument>(&hex("a1 6161 01")).unwrap_err().to_string();
    assert!(unknown.starts_with("unknown field `a`"), "{unknown}");
}

#[test]
fn depth_is_bounded() {
    let nested = |head: &[u8], depth: usize| [head.repeat(depth), vec![0]].concat();
    assert!(from_slice::<Value>(&nested(&[0x81], MAX_DEPTH)).is_ok());
    let at = MAX_DEPTH + 1;
    assert_eq!(from_slice::<Value>(&nested(&[0x81], at)), Err(CborError::TooDeep { at }));
    for head in [&[0x81][..], &[0x9f], &[0xa1, 0x60], &[0xd9, 0xd9, 0xf7], &[0xd8, 0x29]] {
        let bytes = nested(head, 200_000);
        assert!(matches!(from_slice::<Value>(&bytes), Err(CborError::TooDeep { .. })));
        let ignored = from_slice::<serde::de::IgnoredAny>(&bytes);
        assert!(matches!(ignored, Err(CborError::TooDeep { .. })));
    }
}

/// A typed array, in either byte order, is read as the list of its numbers.
macro_rules! assert_typed {
    ($type:ty, $big_endian:expr, $little_endian:expr, $bits:expr) => {
        let values: Vec<$type> = $bits
            .iter()
            .map(|bits| {
                <$type>::from_le_bytes(bits.to_le_bytes()[..size_of::<$type>()].try_into().unwrap())
            })
            .filter(|value| (*value as f64).is_finite())
            .collect();
        let mut list = Encoder::new(Vec::new());
        list.encode(&values).unwrap();
        let list = list.into_writer();
        let big: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        let little: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for array in [tagged($big_endian, &big), tagged($little_endian, &little)] {
            prop_assert_eq!(&from_slice::<Vec<$type>>(&array).unwrap(), &values);
            prop_assert_eq!(from_slice::<Value>(&array), from_slice::<Value>(&list));
            prop_assert_eq!(
                from_slice::<Vec<f64>>(&array).unwrap(),
                from_slice::<Vec<f64>>(&list).unwrap()
            );
        }
    };
}

proptest! {
    #[test]
    fn any_json_value_is_read_from_cbor(value in values(), indefinite: bool) {
        let bytes = encode(&value, indefinite);
        prop_assert_eq!(from_slice::<Value>(&bytes), Ok(value));
    }

    #[test]
    fn truncated_bytes_are_errors(value in values(), indefinite: bool, matrix_too: bool) {
        let mut bytes = encode(&json!([value]), indefinite);
        if matrix_too {
            bytes = matrix(TAG_COLUMN_MAJOR, 2, 3, &tagged(77, &bytes.repeat(12)[..12]));
        }
        for length in 0..bytes.len() {
            let error = from_slice::<Value>(&bytes[..length]);
            prop_assert_eq!(error, Err(CborError::End { at: length }));
        }
    }

    #[test]
    fn typed_arrays_are_lists(bits: Vec<u64>) {
        assert_typed!(u8, 64, 68, bits);
        assert_typed!(u16, 65, 69, bits);
        assert_typed!(u32, 66, 70, bits);
        assert_typed!(u64, 67, 71, bits);
        assert_typed!(i8, 72, 72, bits);
        assert_typed!(i16, 73, 77, bits);
        assert_typed!(i32, 74, 78, bits);
        assert_typed!(i64, 75, 79, bits);
        assert_typed!(f32, 81, 85, bits);
        assert_typed!(f64, 82, 86, bits);
    }

    #[test]
    fn matrices_are_lists_of_lists(
        rows in 1..9usize,
        columns in 1..9usize,
        bytes in prop::collection::vec(any::<i8>(), 64),
    ) {
        let nested: Vec<Vec<i8>> = (0..rows).map(|row| bytes[row * 8..][..columns].to_vec()).collect();
        let by_row = nested.concat();
        let by_column: Vec<i8> =
            (0..columns).flat_map(|column| nested.iter().map(move |row| row[column])).collect();
        for (tag, elements) in [(TAG_ROW_MAJOR, by_row), (TAG_COLUMN_MAJOR, by_column)] {
            let raw: Vec<u8> = elements.iter().map(|&value| value as u8).collect();
            for elements in [tagged(72, &raw), encode(&json!(elements), false)] {
                let array = matrix(tag, rows, columns, &elements);
                prop_assert_eq!(&from_slice::<Vec<Vec<i8>>>(&array).unwrap(), &nested);
                prop_assert_eq!(from_slice::<Value>(&array), Ok(json!(nested)));
            }
        }
    }

    #[test]
    fn no_bytes_panic(
        head in prop::sample::select(vec![&[][..], &[0x82], &[0xd8, 0x28, 0x82], &[0xd9, 4, 0x10]]),
        bytes: Vec<u8>,
        valid in values(),
        at: prop::sample::Index,
    ) {
        let bytes = [head, &bytes[..]].concat();
        let _ = from_slice::<Value>(&bytes);
        let _ = from_slice::<Batch>(&bytes);
        let _ = from_slice::<RecordingDocument>(&bytes);
        let _ = from_slice::<serde::de::IgnoredAny>(&bytes);
        let mut damaged = encode(&valid, false);
        let at = at.index(damaged.len());
        damaged[at] ^= bytes.first().copied().unwrap_or(0xff);
        let _ = from_slice::<Value>(&damaged);
    }
}

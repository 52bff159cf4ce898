use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::*;
use crate::bnn::Weights;
use crate::bnn::arbitrary::{architectures, parameters};

fn metadata(architecture: Architecture) -> Metadata {
    Metadata {
        name: "bipedalnet".to_owned(),
        rate_hz: 50.0,
        rows: "acceleration-and-rotation-turned-fixed-scale-1".to_owned(),
        classes: (1..=architecture.classes()).map(|at| format!("subject-{at:02}")).collect(),
        training_data: "motionsense: sessions wlk_7, wlk_8; a tail of every recording held out"
            .to_owned(),
        seed: u64::MAX,
        metrics: ["top1", "top1_of_5", "validation_top1", "eer"]
            .map(|name| (name.to_owned(), 0.987_654_3))
            .into(),
        architecture,
    }
}

fn file_of(architecture: &Architecture) -> Vec<u8> {
    encode(&metadata(architecture.clone()), &parameters(architecture, 1)).unwrap()
}

/// A small network with one tensor of each kind, and weights that do not fill their bytes.
fn small() -> Vec<u8> {
    file_of(&"binary 4x9 conv3/2x2+ bn sign dense2".parse().unwrap())
}

fn header_and_data(file: &[u8]) -> (Value, Vec<u8>) {
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&file[8..end]).unwrap(), file[end..].to_vec())
}

/// A file with a correct checksum, if its header has one.
fn assemble(json: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend(data);
    if let (Some(at), Some(digits)) = (checksum_position(&file), checksum(&file)) {
        file[at..at + CHECKSUM_DIGITS].copy_from_slice(digits.as_bytes());
    }
    file
}

/// The error of the small file after changes, with a checksum that fits them.
fn forged(change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> ModelFileError {
    let (mut header, mut data) = header_and_data(&small());
    change(&mut header, &mut data);
    Model::from_bytes(&assemble(&header.to_string(), &data)).unwrap_err()
}

fn with_entry(key: &str, value: &str) -> ModelFileError {
    forged(|header, _| header["__metadata__"][key] = value.into())
}

#[test]
fn a_forgery_without_changes_is_read() {
    // Without this, the tests of forgeries could not fail.
    let (header, data) = header_and_data(&small());
    Model::from_bytes(&assemble(&header.to_string(), &data)).unwrap();
}

#[test]
fn files_are_as_small_as_published() {
    let bipedalnet = file_of(&Architecture::bipedalnet(100, 38));
    assert!(bipedalnet.len() <= 41_943, "{} bytes", bipedalnet.len());
    let pooled = file_of(&Architecture::pooled(100, 38));
    assert!(pooled.len() <= 43_000, "{} bytes", pooled.len());
    let openset = file_of(&Architecture::openset(100));
    assert!(openset.len() <= 41_000, "{} bytes", openset.len());
    let idnet = file_of(&Architecture::binarized_idnet(38));
    assert!(idnet.len() < 50_000, "{} bytes", idnet.len());
    assert!(file_of(&Architecture::idnet(38)).len() < MAX_FILE_BYTES);
}

#[test]
fn other_programs_can_read_the_file() {
    let file = small();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut names = tensors.names();
    names.sort();
    assert_eq!(names, ["0.bias", "0.weights", "1.batch_norm", "3.weights"]);
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    assert_eq!(end % 8, 0);
}

#[test]
fn the_id_is_the_start_of_the_checksum() {
    let file = small();
    let (header, _) = header_and_data(&file);
    let checksum = header["__metadata__"]["sha256"].as_str().unwrap();
    assert_eq!(Model::from_bytes(&file).unwrap().id(), &checksum[..16]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_written_file_reads_back(
        mut architecture in architectures(),
        float in any::<bool>(),
        seed in any::<u64>(),
        millihertz in 1..1_000_000u32,
        texts in prop::array::uniform4(".*"),
        metrics in prop::collection::btree_map(
            ".*",
            prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
            0..4,
        ),
    ) {
        if float {
            architecture.weights = Weights::Float;
            // Larger files are rejected.
            prop_assume!(architecture.parameter_count().unwrap() < MAX_FILE_BYTES / 8);
        }
        let rate_hz = f64::from(millihertz) / 1e3;
        let [name, rows, training_data, class] = texts;
        let classes = (0..architecture.classes()).map(|at| format!("{class}{at}")).collect();
        let parameters = parameters(&architecture, seed);
        let metadata =
            Metadata { name, rate_hz, rows, classes, training_data, seed, metrics, architecture };
        let file = encode(&metadata, &parameters).unwrap();
        prop_assert_eq!(&encode(&metadata, &parameters).unwrap(), &file);
        let model = Model::from_bytes(&file);
        prop_assert_eq!(model.is_err(), float);
        if let Ok(model) = model {
            prop_assert_eq!(&model.metadata, &metadata);
        }
        prop_assert_eq!(decode(&file).unwrap(), (metadata, parameters));
    }

    #[test]
    fn garbage_is_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in r#"[\[\]{}":,0-9a-z_ ]{0,80}"#,
    ) {
        prop_assert!(decode(&bytes).is_err());
        prop_assert!(decode(&assemble(&json, &bytes)).is_err());
    }

    #[test]
    fn a_header_changed_anywhere_does_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), b' '..b'~'), 1..4),
    ) {
        // With a correct checksum, so that the code behind the check sees the change too.
        let (header, data) = header_and_data(&small());
        let mut json = header.to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        let _ = Model::from_bytes(&assemble(&String::from_utf8(json).unwrap(), &data));
    }
}

#[test]
fn the_published_networks_read_back() {
    for architecture in [
        Architecture::bipedalnet(100, 38),
        Architecture::pooled(100, 38),
        Architecture::openset(100),
        Architecture::binarized_idnet(38),
        Architecture::idnet(38),
    ] {
        let (metadata, parameters) = (metadata(architecture.clone()), parameters(&architecture, 7));
        let file = encode(&metadata, &parameters).unwrap();
        assert_eq!(decode(&file).unwrap(), (metadata, parameters));
    }
}

#[test]
fn an_unreadable_file_is_not_written() {
    let architecture = Architecture::bipedalnet(100, 3);
    let parameters = parameters(&architecture, 1);
    let error = |change: fn(&mut Metadata)| {
        let mut metadata = metadata(architecture.clone());
        change(&mut metadata);
        encode(&metadata, &parameters).unwrap_err().to_string()
    };
    assert_eq!(
        error(|metadata| metadata.classes.truncate(2)),
        "the model file names 2 classes, but its network has 3"
    );
    assert_eq!(
        error(|metadata| metadata.rate_hz = f64::NAN),
        r#"the model file's rate_hz is "NaN"; it must be finite and above zero"#
    );
    assert_eq!(
        error(|metadata| {
            metadata.metrics.insert("eer".to_owned(), f32::NAN);
        }),
        r#"the model file's metrics is "eer: NaN"; it must be finite"#
    );
    assert_eq!(
        error(|metadata| metadata.architecture.layers.truncate(0)),
        "the model file: architecture: the last layer must be dense or a deflation"
    );
    let huge = |metadata: &mut Metadata| metadata.name = "n".repeat(MAX_FILE_BYTES);
    assert!(error(huge).starts_with("the model file has "));
}

#[test]
fn a_network_without_classes_names_its_training_people() {
    let architecture = Architecture::openset(100);
    let parameters = parameters(&architecture, 1);
    let classes = ["ann", "bob", "eve"].map(str::to_owned).to_vec();
    let metadata = Metadata { classes, ..metadata(architecture) };
    let file = encode(&metadata, &parameters).unwrap();
    assert_eq!(Model::from_bytes(&file).unwrap().metadata, metadata);
}

#[test]
fn every_truncation_is_an_error() {
    let file = small();
    for length in 0..file.len() {
        assert!(decode(&file[..length]).is_err(), "{length} of {} bytes", file.len());
    }
    let file = file_of(&Architecture::bipedalnet(100, 38));
    for length in (0..file.len()).step_by(331).chain(file.len() - 9..file.len()) {
        let error = decode(&file[..length]).unwrap_err();
        assert!(matches!(error, ModelFileError::Length { bytes, .. } if bytes == length));
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut file = small();
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&file).is_err(), "bit {bit} of {} bytes", file.len());
        file[bit / 8] ^= 1 << (bit % 8);
    }
    let mut file = file_of(&Architecture::bipedalnet(100, 38));
    for bit in (8 * 4096..file.len() * 8).step_by(1499) {
        file[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&file).unwrap_err();
        assert!(matches!(error, ModelFileError::Checksum { .. }), "bit {bit}: {error}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn other_sizes_are_errors() {
    let oversized = vec![0; MAX_FILE_BYTES + 1];
    assert!(
        matches!(decode(&oversized), Err(ModelFileError::TooLarge { bytes }) if bytes == oversized.len())
    );
    let mut continued = small();
    continued.push(0);
    let error = decode(&continued).unwrap_err();
    assert!(
        matches!(error, ModelFileError::Length { bytes, needed } if bytes as u64 == needed + 1)
    );
    for header_bytes in [1 << 20, 1 << 40, u64::MAX - 8, u64::MAX] {
        let mut file = small();
        file[..8].copy_from_slice(&header_bytes.to_le_bytes());
        let error = decode(&file).unwrap_err();
        assert!(matches!(error, ModelFileError::Length { needed, .. } if needed >= header_bytes));
    }
}

#[test]
fn foreign_files_are_errors() {
    let tensor = || TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    let write = |entries| safetensors::serialize([("weight", tensor())], entries).unwrap();
    let other = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    for (file, message) in [
        (write(None), "the file is a safetensors file, but not a model of this program"),
        (write(Some(other)), "the file is a safetensors file, but not a model of this program"),
        (Vec::new(), "the model file has 0 bytes, but its header needs 8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "the model file has 16 bytes"),
        (b"PK\x03\x04\0\0\0\0archive".to_vec(), "the model file has 15 bytes"),
        (b"\x09\0\0\0\0\0\0\0plaintext".to_vec(), "the model file has no safetensors header"),
    ] {
        let error = decode(&file).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn missing_or_wrong_entries_are_named() {
    let (header, _) = header_and_data(&small());
    for key in header["__metadata__"].as_object().unwrap().keys() {
        let error = forged(|header, _| {
            header["__metadata__"].as_object_mut().unwrap().remove(key);
        });
        assert!(matches!(error, ModelFileError::Foreign(missing) if missing == key), "{error}");
    }
    for (key, value, message) in [
        ("format_version", "2", r#"the model file has format version "2"; this program reads "1""#),
        ("rate_hz", "NaN", r#"the model file's rate_hz is "NaN"; it must be a number"#),
        (
            "rate_hz",
            "-50",
            r#"the model file's rate_hz is "-50"; it must be finite and above zero"#,
        ),
        ("rate_hz", "fast", r#"the model file's rate_hz is "fast"; it must be a number"#),
        ("seed", "-1", r#"the model file's seed is "-1"; it must be a whole number"#),
        (
            "classes",
            "[1,2]",
            r#"the model file's classes is "[1,2]"; it must be a JSON array of names"#,
        ),
        ("classes", r#"["a"]"#, "the model file names 1 classes, but its network has 2"),
        (
            "metrics",
            r#"{"eer":1e39}"#,
            r#"the model file's metrics is "eer: inf"; it must be finite"#,
        ),
        (
            "metrics",
            "[]",
            r#"the model file's metrics is "[]"; it must be a JSON object of numbers"#,
        ),
        (
            "architecture",
            "float 4x9 dense2",
            r#"the model file's tensor "0.weights" is U8 [2]; it must be F32 [72]"#,
        ),
        (
            "architecture",
            "binary 4x9 lstm2",
            r#"the model file: architecture: "lstm2" is not a layer"#,
        ),
    ] {
        assert_eq!(with_entry(key, value).to_string(), message);
    }
    for recorded in ["0", &"g".repeat(64)] {
        let (mut header, data) = header_and_data(&small());
        header["__metadata__"]["sha256"] = recorded.into();
        let json = header.to_string();
        let file = [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &data].concat();
        let error = decode(&file).unwrap_err();
        assert!(matches!(error, ModelFileError::Checksum { .. }), "{error}");
    }
}

#[test]
fn absurd_architectures_are_errors() {
    let huge = "18446744073709551615";
    for architecture in [
        format!("binary {huge}x{huge} dense2"),
        format!("binary 4x9 conv{huge}/2x2 sign dense2"),
        format!("binary 4x9 conv1/{huge}x{huge}/same sign dense2"),
        format!("binary 4x9 dense{huge}"),
        format!("binary 4x9 pool0x{huge} dense2"),
        format!("binary 4x9 pool{huge}x1 dense2"),
        "binary 4096x4096 conv1/1x1 sign dense2".to_owned(),
        "binary 4x9 dense16777216 sign dense2".to_owned(),
        "binary 0x0 dense2".to_owned(),
        "binary 4x9 conv3/5x2+ bn sign dense2".to_owned(),
        format!("binary 4x9 {}dense2", "sign ".repeat(100_000)),
        format!("binary 4x9 {}", "dense2 ".repeat(100_000)),
    ] {
        let error = with_entry("architecture", &architecture);
        let typed =
            matches!(error, ModelFileError::Architecture(_) | ModelFileError::Tensor { .. });
        assert!(typed, "{:.60}: {error:.200}", architecture);
    }
}

#[test]
fn tensors_that_do_not_fit_the_network_are_named() {
    let move_by = |header: &mut Value, name: &str, bytes: i64| {
        for at in 0..2 {
            let offset = header[name]["data_offsets"][at].as_i64().unwrap();
            header[name]["data_offsets"][at] = (offset + bytes).into();
        }
    };
    // Offsets in the small file: bias 0, BatchNorm 12, weights 48 and 50, end 68.
    let superfluous = forged(|header, data| {
        header["4.weights"] = json!({"dtype": "U8", "shape": [1], "data_offsets": [68, 69]});
        data.push(0);
    });
    assert_eq!(
        superfluous.to_string(),
        r#"the model file's tensor "4.weights" belongs to no layer"#
    );
    let missing = forged(|header, data| {
        header.as_object_mut().unwrap().remove("3.weights");
        data.truncate(50);
    });
    assert_eq!(
        missing.to_string(),
        r#"the model file's tensor "3.weights" is missing; it must be U8 [18]"#
    );
    let short = forged(|header, data| {
        header["3.weights"] = json!({"dtype": "U8", "shape": [17], "data_offsets": [50, 67]});
        data.truncate(67);
    });
    assert_eq!(
        short.to_string(),
        r#"the model file's tensor "3.weights" is U8 [17]; it must be U8 [18]"#
    );
    let other_type = forged(|header, _| header["0.bias"]["dtype"] = "I32".into());
    assert_eq!(
        other_type.to_string(),
        r#"the model file's tensor "0.bias" is I32 [3]; it must be F32 [3]"#
    );
    let other_shape = forged(|header, _| header["1.batch_norm"]["shape"] = json!([3, 3]));
    assert_eq!(
        other_shape.to_string(),
        r#"the model file's tensor "1.batch_norm" is F32 [3, 3]; it must be F32 [9]"#
    );
    let gap = forged(|header, data| {
        move_by(header, "3.weights", 1);
        data.push(0);
    });
    assert!(matches!(gap, ModelFileError::Header(_)), "{gap}");
    let empty = forged(|header, data| {
        header["3.weights"]["data_offsets"] = json!([50, 50]);
        data.truncate(50);
    });
    assert_eq!(
        empty.to_string(),
        r#"the model file's tensor "3.weights" is 0 bytes; it must be U8 [18]"#
    );
    let overlap = forged(|header, data| {
        move_by(header, "3.weights", -1);
        data.truncate(67);
    });
    assert!(matches!(overlap, ModelFileError::Header(_)), "{overlap}");
}

#[test]
fn headers_with_repeated_keys_are_errors() {
    let (header, mut data) = header_and_data(&small());
    let json = header.to_string();
    let again = r#"{"0.bias":{"data_offsets":[0,12],"dtype":"F32","shape":[3]},"#;
    let twice = json.replacen('{', again, 1);
    let error = decode(&assemble(&twice, &data)).unwrap_err().to_string();
    assert!(error.contains("a key is repeated"), "{error}");
    let entry_twice = json.replacen(r#""seed":"#, r#""seed":"1","seed":"#, 1);
    let error = decode(&assemble(&entry_twice, &data)).unwrap_err().to_string();
    assert!(error.contains("a key is repeated"), "{error}");
    let metadata_twice = json.replacen('{', r#"{"__metadata__":{},"#, 1);
    assert!(matches!(decode(&assemble(&metadata_twice, &data)), Err(ModelFileError::Header(_))));
    // A second tensor of the same name, with its own bytes, leaves those of the first unnamed.
    let moved = again.replace("[0,12]", "[68,80]");
    data.extend([0; 12]);
    assert!(decode(&assemble(&json.replacen('{', &moved, 1), &data)).is_err());
}

#[test]
fn hostile_headers_are_errors() {
    for json in [
        "[".repeat(1 << 20),
        r#"{"a":"#.repeat(1 << 16),
        format!(r#"{{"a":{}"#, "[".repeat(1 << 16)),
        r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#.to_owned(),
        r#"{"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#.to_owned(),
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#.to_owned(),
        r#"{"__metadata__":{"format_version":1}}"#.to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        assert!(decode(&assemble(&json, &[0; 8])).is_err(), "{json:.80}");
    }
    let deep = with_entry("classes", &"[".repeat(1 << 20)).to_string();
    assert!(deep.len() < 200, "{deep}");
}

#[test]
fn impossible_parameters_are_errors() {
    let bias = forged(|_, data| data[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert_eq!(bias.to_string(), "the model file: layer 0: bias[1] is NaN, which is not allowed");
    let variance = forged(|_, data| data[40..44].copy_from_slice(&(-1f32).to_le_bytes()));
    assert_eq!(
        variance.to_string(),
        "the model file: layer 1: variance[1] is -1, which is not allowed"
    );
    let padding = forged(|_, data| data[49] |= 0x80);
    assert_eq!(
        padding.to_string(),
        r#"the model file's tensor "0.weights" is not zero after its last weight; it must be 12 bits, then zeros"#
    );
}

#[test]
fn float_networks_are_read_but_do_not_run_packed() {
    let file = file_of(&Architecture::idnet(3));
    assert!(decode(&file).is_ok());
    assert_eq!(
        Model::from_bytes(&file).unwrap_err().to_string(),
        "the model file: layer 0: float weights cannot be packed"
    );
}

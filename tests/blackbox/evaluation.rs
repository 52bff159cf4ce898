//! What `evaluate` measures, and people that `train` leaves out.

use std::fs;
use std::path::{Path, PathBuf};

use bipedalnet::bnn;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{data_set, program};

const SHIPPED: &str = "models/bipedalnet-pooled.safetensors";

/// Folders called `home` and `away` with simulated people of two sessions, all of them strangers to
/// the shipped model.
fn two_folders(seconds: f64) -> (TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["home", "away"].map(|name| folder.path().join(name));
    for (path, people) in paths.iter().zip([0..9, 9..14]) {
        fs::create_dir(path).unwrap();
        data_set(path, people, seconds);
    }
    (folder, paths)
}

/// Status 0, and what was printed; or not, and why.
fn evaluate(model: &Path, data: &[&Path], more: &[&str]) -> Result<String, String> {
    let mut command = program();
    command.arg("evaluate").arg("--model").arg(model).arg("--data").args(data).args(more);
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    if output.status.success() { Ok(out) } else { Err(err) }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The value of a figure, which lies in its interval.
fn figure(value: &Value) -> f64 {
    let [low, middle, high] = ["low", "value", "high"].map(|name| number(&value[name]));
    assert!(0.0 <= low && low <= middle && middle <= high && high <= 1.0, "{value}");
    middle
}

#[test]
fn strangers_are_measured_in_numbers_and_pictures() {
    let (folder, [home, away]) = two_folders(43.0);
    let measured = |threads: &str, seed: &str| -> Value {
        let json = folder.path().join("figures.json");
        let mut command = program();
        command.args(["evaluate", "--model", SHIPPED, "--seed", seed, "--data"]);
        command.args([&home, &away]).arg("--json").arg(&json);
        command.arg("--plots").arg(folder.path().join("plots"));
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
    };
    let figures = measured("1", "1");
    assert_eq!(figures, measured("3", "1"), "the same seed measured otherwise");
    assert_ne!(figures, measured("3", "2"), "another seed measured the same");

    let model = &figures["models"][0];
    assert_eq!((number(&model["known"]), number(&model["strangers"])), (0.0, 14.0), "{model}");
    assert_eq!(figures["closed_set"].as_array().unwrap().len(), 0);
    let rows = figures["strangers"].as_array().unwrap();
    let named: Vec<(&str, f64)> = rows
        .iter()
        .map(|row| (row["data_set"].as_str().unwrap(), number(&row["probe_seconds"])))
        .collect();
    let expected = ["home", "away", "across data sets", "all"]
        .map(|name| [2.0, 5.0, 10.0, 20.0].map(|seconds| (name, seconds)));
    assert_eq!(named, expected.as_flattened());
    for row in rows {
        let whole = 14.0 * (43.0 / number(&row["probe_seconds"])).floor();
        if row["data_set"] == "all" {
            assert_eq!(number(&row["probes"]) + number(&row["refused"]), whole, "{row}");
        }
        assert_eq!(number(&row["people_of_one_session"]), 0.0, "{row}");
        assert!(figure(&row["eer"]) < 0.2, "genuine scores are no higher than impostors': {row}");
        let points = row["operating_points"].as_array().unwrap();
        let fmrs: Vec<f64> = points.iter().map(|point| number(&point["fmr"])).collect();
        assert_eq!(fmrs, [0.1, 0.01, 0.001]);
        let fnmrs: Vec<f64> = points.iter().map(|point| figure(&point["fnmr"])).collect();
        assert!(fnmrs.is_sorted() && fnmrs[0] < 0.3, "{row}");
    }

    let galleries = figures["identification"].as_array().unwrap();
    let sizes: Vec<f64> = galleries.iter().map(|row| number(&row["gallery_size"])).collect();
    assert_eq!(sizes, [1.0, 2.0, 4.0, 8.0]);
    let rates = |threshold: &str, rate: &str| -> Vec<f64> {
        galleries.iter().map(|row| number(&row[threshold][rate])).collect()
    };
    let (fixed, following) = (rates("fixed", "fpir"), rates("following", "fpir"));
    assert!(fixed[3] > fixed[0] && fixed[3] > following[3], "{fixed:?} {following:?}");
    assert!(fixed.iter().chain(&following).all(|rate| *rate < 0.2), "{fixed:?} {following:?}");
    assert!((number(&galleries[3]["fpir_of_independent"]) - 0.0773).abs() < 1e-4);

    let conditions = figures["robustness"].as_array().unwrap();
    assert_eq!(conditions.len(), 11);
    let unchanged = &conditions[0];
    assert_eq!(
        (&unchanged["condition"], number(&unchanged["refused_share"])),
        (&"as recorded".into(), 0.0)
    );
    let usual = &rows[14];
    assert_eq!(number(&unchanged["eer"]), figure(&usual["eer"]));
    assert_eq!(unchanged["threshold"], usual["operating_points"][1]["threshold"]);
    assert!(number(&unchanged["fmr"]) <= 0.01, "{unchanged}");
    let turned = &conditions[1];
    for rate in ["eer", "fnmr"] {
        assert!((number(&turned[rate]) - number(&unchanged[rate])).abs() < 0.1, "{turned}");
    }
    assert!(conditions.iter().skip(1).any(|row| row["eer"] != unchanged["eer"]), "{conditions:?}");

    let decided = figures["verification"].as_array().unwrap();
    let identified = &figures["sequential_identification"];
    let asked: Vec<f64> =
        decided.iter().chain([identified]).map(|it| number(&it["asked"])).collect();
    assert_eq!(asked, [0.1, 0.01, 0.001, 0.03]);
    for decided in decided.iter().chain([identified]) {
        let measured = number(&decided["false_positive"]);
        assert!(measured <= 3.0 * number(&decided["asked"]), "{decided}");
        assert!(number(&decided["false_negative"]) < 0.6, "{decided}");
        let windows = number(&decided["genuine_windows"]);
        assert!((1.0..=29.0).contains(&windows), "{decided}");
    }
    let of_verification =
        |name: &str| -> Vec<f64> { decided.iter().map(|decided| number(&decided[name])).collect() };
    assert!(of_verification("false_positive").iter().rev().is_sorted(), "{decided:?}");
    assert!(of_verification("genuine_windows").is_sorted(), "{decided:?}");

    for (name, axis) in [
        ("det.svg", "false match rate, %"),
        ("scores.svg", "score (cosine)"),
        ("fpir.svg", "people in the gallery, N"),
    ] {
        let svg = fs::read_to_string(folder.path().join("plots").join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(svg.contains(axis) && !svg.contains("NaN"), "{name}");
    }
}

#[test]
fn people_left_out_of_training_are_strangers() {
    let (folder, [home, _]) = two_folders(43.0);
    let model = folder.path().join("model.safetensors");
    let mut train = program();
    train.args(["train", "--epochs", "1", "--leave-out", "2/3", "--train-sessions", "day_1"]);
    let output = train.arg("--data").arg(&home).arg("--out").arg(&model).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = bnn::Model::from_bytes(&fs::read(&model).unwrap()).unwrap().metadata;
    assert_eq!(metadata.classes, ["p0", "p2", "p3", "p5", "p6", "p8"]);
    assert_eq!(metadata.metrics["strangers_people"], 6.0);
    assert_eq!(metadata.training_data, "home; sessions day_1; without people 2/3");

    let json = folder.path().join("figures.json");
    let more = ["--test-sessions", "day_2", "--json", json.to_str().unwrap()];
    let shown = evaluate(&model, &[&home], &more).unwrap();
    assert!(shown.contains("| 6 | 3 |") && !shown.contains("warning"), "{shown}");
    let figures: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let known = &figures["closed_set"][0];
    assert_eq!((number(&known["people"]), number(&known["windows"])), (6.0, 6.0 * 42.0), "{known}");
    figure(&known["top1"]);
    figure(&known["top1_of_5"]);
    assert_eq!(figures["strangers"][3]["people"], 3, "{figures}");

    let shown = evaluate(&model, &[&home], &["--test-sessions", "day_1"]).unwrap();
    assert!(shown.contains("session day_1 was trained on, too"), "{shown}");
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&home, &elsewhere).unwrap();
    let shown = evaluate(&model, &[&elsewhere], &[]).unwrap();
    assert!(shown.contains("call the folder home"), "{shown}");
}

#[test]
fn what_cannot_be_evaluated_is_explained() {
    let (folder, [home, away]) = two_folders(31.0);
    let inner = home.join("home");
    fs::create_dir(&inner).unwrap();
    data_set(&inner, 0..1, 31.0);
    let knowing = folder.path().join("knowing.safetensors");
    let (mut metadata, parameters) = bnn::decode(&fs::read(SHIPPED).unwrap()).unwrap();
    metadata.classes[0] = "home/p0".to_owned();
    fs::write(&knowing, bnn::encode(&metadata, &parameters).unwrap()).unwrap();
    let shipped = Path::new(SHIPPED);

    let fails = |model: &Path, data: &[&Path], more: &[&str], expected: &str| {
        let message = evaluate(model, data, more).unwrap_err();
        assert!(message.contains(expected), "{data:?} {more:?}: {message}");
    };
    let missing = folder.path().join("none");
    fails(shipped, &[&missing], &[], "none");
    fails(&missing, &[&home], &[], "none: No such file");
    fails(&home.join("manifest.csv"), &[&home], &[], "manifest.csv: the model file has");
    fails(shipped, &[&home, &inner], &[], "two folders are called \"home\"");
    fails(shipped, &[&home], &["--test-sessions", "day_3"], "there are day_1, day_2");
    fails(shipped, &[&home], &["--test-sessions", "day_1"], "no model was trained on anybody");
    fails(&knowing, &[&inner], &[], "trained on everybody in these folders");
    fails(shipped, &[&inner], &[], "no two strangers can be compared, of whom there are 1:");
    let nowhere = missing.join("figures.json");
    fails(shipped, &[&away], &["--json", nowhere.to_str().unwrap()], "figures.json: No such file");
    for part in ["0/3", "4/3", "1/1", "1", "a/b"] {
        let output = program()
            .args(["train", "--out", "x", "--data", ".", "--leave-out", part])
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("K/N is needed"), "{part}: {message}");
    }
}

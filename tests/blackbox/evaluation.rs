//! `evaluate`, and people that `train` leaves out.

use std::fs;
use std::path::{Path, PathBuf};

use bipedalnet_core::bnn;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{data_set, printed, program};

const SHIPPED: &str = "models/bipedalnet-openset.safetensors";

/// Makes the folders `home` and `away` with simulated people. The shipped model has not seen any of
/// them.
fn two_folders(seconds: f64) -> (TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["home", "away"].map(|name| folder.path().join(name));
    for (path, people) in paths.iter().zip([0..9, 9..14]) {
        fs::create_dir(path).unwrap();
        data_set(path, people, seconds);
    }
    (folder, paths)
}

fn evaluate(model: &Path, data: &[&Path], more: &[&str]) -> Result<String, String> {
    let mut command = program();
    command.arg("evaluate").arg("--model").arg(model).arg("--data").args(data).args(more);
    printed(&mut command)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The value of a figure, after checking that it lies in its interval.
fn figure(value: &Value) -> f64 {
    let [low, middle, high] = ["low", "value", "high"].map(|name| number(&value[name]));
    assert!(0.0 <= low && low <= middle && middle <= high && high <= 1.0, "{value}");
    middle
}

#[test]
fn strangers_are_evaluated_by_data_set_and_sessions() {
    let (folder, [home, away]) = two_folders(43.0);
    let measured = |threads: &str, seed: &str| -> Value {
        let json = folder.path().join("figures.json");
        let mut command = program();
        command.args(["evaluate", "--model", SHIPPED, "--seed", seed, "--data"]);
        command.args([&home, &away]).arg("--json").arg(&json);
        printed(command.env("RAYON_NUM_THREADS", threads)).unwrap();
        serde_json::from_slice(&fs::read(json).unwrap()).unwrap()
    };
    let figures = measured("1", "1");
    assert_eq!(figures, measured("3", "1"), "the same seed gave other figures");

    let model = &figures[0];
    assert_eq!((number(&model["known"]), number(&model["strangers"])), (0.0, 14.0), "{model}");
    assert!(model["closed_set"].is_null(), "{model}");
    let rows = model["trials"].as_array().unwrap();
    let recorded: Vec<&Value> =
        rows.iter().filter(|row| row["condition"] == "as recorded").collect();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let protocols: Vec<[String; 3]> = recorded
        .iter()
        .map(|row| ["data_set", "enrolled", "probed"].map(|name| text(row, name)))
        .collect();
    let pairs = [["day_1", "day_2"], ["day_2", "day_1"]];
    let expected = ["home", "away"].map(|set| pairs.map(|[a, b]| [set, a, b].map(str::to_owned)));
    assert_eq!(protocols, expected.as_flattened());
    for row in &recorded {
        assert_eq!(number(&row["people"]), if row["data_set"] == "home" { 9.0 } else { 5.0 });
        assert!(figure(&row["eer"]) < 0.2, "{row}");
        assert!(figure(&row["fnmr_at_fmr_1_percent"]) < 0.5, "{row}");
        let named = &row["identification"];
        let [right, wrong] = ["right", "wrong"].map(|name| figure(&named[name]));
        assert!(right > 0.5 && right + wrong <= 1.0, "{row}");
        figure(&named["strangers_named"]);
        let rates = row["verification"].as_array().unwrap();
        let asked: Vec<f64> = rates.iter().map(|rate| number(&rate["asked"])).collect();
        assert_eq!(asked, [0.1, 0.01, 0.001]);
        let accepted = |of: &str| rates.iter().map(|rate| figure(&rate[of])).collect::<Vec<f64>>();
        let (own, others) = (accepted("own_accepted"), accepted("others_accepted"));
        assert!(own.iter().rev().is_sorted() && own[1] > 0.5, "{row}");
        assert!(others.iter().rev().is_sorted() && others[1] <= 0.05, "{row}");
    }
    let conditions: Vec<String> = rows
        .iter()
        .filter(|row| row["data_set"] == "home" && row["condition"] != "as recorded")
        .map(|row| text(row, "condition"))
        .collect();
    assert_eq!(conditions.len(), 8, "{conditions:?}");
    // The model does not use the gyroscope.
    let of = |condition: &str| rows.iter().find(|row| row["condition"] == condition).unwrap();
    assert_eq!(of("without gyroscope")["eer"], of("as recorded")["eer"]);
}

#[test]
fn plots_are_drawn() {
    let (folder, [home, away]) = two_folders(76.0);
    let plots = folder.path().join("plots");
    let more = ["--plots", plots.to_str().unwrap()];
    evaluate(Path::new(SHIPPED), &[&home, &away], &more).unwrap();
    for (name, axis) in [("det.svg", "false match rate, %"), ("scores.svg", "strength, in")] {
        let svg = fs::read_to_string(plots.join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(svg.contains(axis) && svg.contains("home") == (name == "det.svg"), "{name}");
        assert!(!svg.contains("NaN"), "{name}");
    }
}

#[test]
fn people_left_out_of_training_are_strangers() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    data_set(&home, 0..14, 96.0);
    let model = folder.path().join("model.safetensors");
    let mut train = program();
    train.args(["train", "--epochs", "1", "--leave-out", "2/3", "--train-sessions", "day_1"]);
    printed(train.arg("--data").arg(&home).arg("--out").arg(&model)).unwrap();
    let metadata = bnn::Model::from_bytes(&fs::read(&model).unwrap()).unwrap().metadata;
    // Names are sorted as text: p0, p1, p10, p11 and so on.
    let learned = ["p0", "p10", "p11", "p13", "p2", "p4", "p5", "p7", "p8"];
    assert_eq!(metadata.classes, learned);
    assert_eq!(metadata.metrics["strangers_people"], 9.0);
    assert_eq!(metadata.training_data, "home; sessions day_1; without people 2/3");

    let json = folder.path().join("figures.json");
    let more = ["--test-sessions", "day_2", "--json", json.to_str().unwrap()];
    let shown = evaluate(&model, &[&home], &more).unwrap();
    assert!(shown.contains("9 known people, 5 strangers"), "{shown}");
    assert!(!shown.contains("warning"), "{shown}");
    let figures: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let known = &figures[0]["closed_set"];
    assert_eq!((number(&known["people"]), number(&known["windows"])), (9.0, 9.0 * 95.0), "{known}");
    figure(&known["top1"]);
    figure(&known["top1_of_5"]);
    assert_eq!(figures[0]["trials"][0]["people"], 5, "{figures}");

    let shown = evaluate(&model, &[&home], &["--test-sessions", "day_1"]).unwrap();
    assert!(shown.contains("session day_1 was trained on, too"), "{shown}");
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&home, &elsewhere).unwrap();
    let shown = evaluate(&model, &[&elsewhere], &[]).unwrap();
    assert!(shown.contains("call the folder home"), "{shown}");
}

#[test]
fn errors_of_evaluate_are_explained() {
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
    fails(shipped, &[&home], &["--test-sessions", "day_1"], "was not trained on anybody");
    fails(&knowing, &[&inner], &[], "trained on everybody in these folders");
    fails(shipped, &[&inner], &[], "of 1 strangers fewer than 3");
    let nowhere = missing.join("figures.json");
    fails(shipped, &[&away], &["--json", nowhere.to_str().unwrap()], "figures.json: No such file");
    for part in ["0/3", "4/3", "1/1", "1", "a/b"] {
        let mut train = program();
        train.args(["train", "--out", "x", "--data", ".", "--leave-out", part]);
        let message = printed(&mut train).unwrap_err();
        assert!(message.contains("K/N is needed"), "{part}: {message}");
    }
}

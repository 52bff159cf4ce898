//! Subcommands as a shell runs them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bipedalnet::bnn;
use bipedalnet::gait::simulator::{Conditions, Walker};
use serde_json::Value;

use crate::support::{json, program};

/// A data set of simulated people with two sessions each.
fn data_set(folder: &Path, people: u64, seconds: f64) {
    let mut manifest = String::from("subject,session,file\n");
    for person in 0..people {
        for session in ["day_1", "day_2"] {
            let file = format!("p{person}-{session}.json");
            let seed = u64::from(session == "day_2");
            let conditions = Conditions { seconds, ..Conditions::default() };
            let walk = Walker::new(person).walk(seed, &conditions);
            fs::write(folder.join(&file), json(&walk)).unwrap();
            manifest += &format!("p{person},{session},{file}\n");
        }
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = program().arg("demo").env("TMPDIR", temporary.path()).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert_eq!(shown.lines().filter(|line| line.starts_with("walker-")).count(), 10, "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(last.contains("of 8 enrolled walkers named, 0 of 2 strangers"), "{last}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn train_makes_a_model_that_serve_takes_and_the_same_seed_makes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 6, 24.0);
    let data = folder.path().to_str().unwrap();
    let train = |out: &str, threads: &str, seed: &str| {
        let out = folder.path().join(out);
        let output = program()
            .args(["train", "--data", data, "--train-sessions", "day_1", "--test-sessions"])
            .args(["day_2", "--epochs", "2", "--seed", seed, "--out"])
            .arg(&out)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(out).unwrap()
    };
    let first = train("a.safetensors", "1", "5");
    assert!(first == train("b.safetensors", "3", "5"), "the same seed made another model");
    assert!(first != train("c.safetensors", "3", "6"), "another seed made the same model");
    let model = bnn::Model::from_bytes(&first).unwrap();
    assert_eq!(model.metadata.classes, ["p0", "p1", "p2", "p3", "p4", "p5"]);
    assert!(model.metadata.metrics.contains_key("identification_threshold"));
    assert!(model.metadata.metrics["test_top1"] > 0.0);
    assert!(first.len() <= 41_943);

    let out = folder.path().join("a.safetensors");
    let mut server = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(folder.path().join("test.db"))
        .arg("--model")
        .arg(out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stderr.take().unwrap()));
    let serving = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("serving")));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(serving.unwrap().unwrap().contains(model.id()));
}

#[test]
fn ctrl_c_keeps_the_best_network_so_far() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 3, 24.0);
    let out = folder.path().join("model.safetensors");
    let mut training = program()
        .args(["train", "--epochs", "100", "--data"])
        .arg(folder.path())
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first report comes after a tenth of the epochs.
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(training.stderr.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("validation"));
    let id = training.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    lines.for_each(drop);
    let output = training.wait_with_output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("stopped early"), "{shown}");
    assert!(bnn::Model::from_bytes(&fs::read(out).unwrap()).is_ok());
}

#[test]
fn reproduce_prints_the_table_and_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 3, 14.0);
    let data = folder.path().to_str().unwrap();
    let table = folder.path().join("table.json");
    for split in [
        &["--train-sessions", "day_1", "--test-sessions", "day_2"][..],
        &["--test-tail", "0.3"],
        &["--random-split", "0.2"],
    ] {
        let output = program()
            .args(["reproduce", "--epochs", "1", "--data", data, "--json"])
            .arg(&table)
            .args(split)
            .output()
            .unwrap();
        let shown = text(&output.stdout);
        assert!(output.status.success(), "{split:?} {shown}{}", text(&output.stderr));
        let random = split[0] == "--random-split";
        assert_eq!(shown.contains("warning: windows overlap"), random, "{shown}");
        let rows: Vec<Value> = serde_json::from_slice(&fs::read(&table).unwrap()).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row["model"].as_str().unwrap()).collect();
        assert_eq!(names, ["idnet", "binarized-idnet", "bipedalnet"]);
        for row in rows {
            for share in ["top1", "top1_of_5"] {
                assert!((0.0..=1.0).contains(&row[share].as_f64().unwrap()), "{row}");
            }
            for figure in ["parameters", "size_bytes", "train_seconds", "inference_microseconds"] {
                assert!(row[figure].as_f64().unwrap() > 0.0, "{row}");
            }
        }
    }
}

#[test]
fn wrong_arguments_and_data_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let fails = |arguments: &[&str], expected: &str| {
        let output = run(arguments);
        let shown = text(&output.stderr);
        assert!(!output.status.success() && shown.contains(expected), "{arguments:?}: {shown}");
    };
    fails(&["reproduce", "--data", data], "--test-tail");
    fails(&["reproduce", "--data", data, "--test-tail", "1.5"], "between 0.01 and 0.9");
    fails(&["reproduce", "--data", data, "--train-sessions", "a"], "--test-sessions");
    fails(&["train", "--data", data, "--out", "x"], "no recordings");
    fails(&["train", "--data", "/no/such", "--out", "x"], "No such file");
    fails(&["demo", "--data", data], "no recordings");
    data_set(folder.path(), 2, 14.0);
    fails(&["demo", "--data", data], "2 people; 10 are needed");
    fails(
        &["train", "--data", data, "--train-sessions", "day_3", "--out", "x"],
        "there are day_1, day_2",
    );
    fails(
        &["train", "--data", data, "--epochs", "1", "--out", "/no/such/folder/model"],
        "/no/such/folder/model",
    );
    let mut manifest = fs::OpenOptions::new();
    let mut manifest = manifest.append(true).open(folder.path().join("manifest.csv")).unwrap();
    writeln!(manifest, "eve,day_1,../eve.csv").unwrap();
    fails(&["train", "--data", data, "--out", "x"], "leads out of the folder");
}

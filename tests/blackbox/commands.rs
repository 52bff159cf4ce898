//! The subcommands, run as in a shell.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use bipedalnet_client::api::{EnrolledAnswer, Identified, IdentifyAnswer, Verified, VerifyAnswer};
use bipedalnet_core::bnn;
use bipedalnet_core::gait::exact;
use serde_json::Value;

use crate::support::{
    Server, Signal, certificate, create_key, data_set, database_in, json, printed, program, signal,
    simulated, simulated_for, text,
};

#[test]
fn the_demo_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let shown = printed(program().arg("demo").env("TMPDIR", temporary.path())).unwrap();
    assert_eq!(shown.lines().filter(|line| line.starts_with("walker-")).count(), 10, "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(last.contains("of 8 enrolled walkers identified, 0 of 2 strangers"), "{last}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn train_makes_a_model_that_serve_accepts_and_a_seed_makes_it_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 0..9, 96.0);
    let data = folder.path().to_str().unwrap();
    let train = |out: &str, threads: &str, seed: &str| {
        let out = folder.path().join(out);
        let mut train = program();
        train.args(["train", "--data", data, "--train-sessions", "day_1", "--test-sessions"]);
        train.args(["day_2", "--epochs", "2", "--seed", seed, "--out"]).arg(&out);
        printed(train.env("RAYON_NUM_THREADS", threads)).unwrap();
        fs::read(out).unwrap()
    };
    let first = train("a.safetensors", "1", "5");
    assert!(first == train("b.safetensors", "3", "5"), "the same seed made another model");
    assert!(first != train("c.safetensors", "3", "6"), "another seed made the same model");
    let model = bnn::Model::from_bytes(&first).unwrap();
    assert_eq!(model.metadata.classes, ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8"]);
    assert!(model.metadata.metrics.contains_key("single_strength_at_fmr_0.01"));
    assert!(model.metadata.metrics["test_top1"] > 0.0);
    assert!(first.len() <= 41_943);

    let out = folder.path().join("a.safetensors");
    let mut server = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(database_in(folder.path()))
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
fn train_offers_two_networks() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 0..3, 14.0);
    let out = folder.path().join("model.safetensors");
    for (network, end) in [
        ("bipedalnet", "conv64/1x3 bn sign dense32 bn norm dense3"),
        ("bipedalnet-openset", "conv64/1x3 bn sign acf3,6,12 deflate40"),
    ] {
        let mut train = program();
        train.args(["train", "--epochs", "1", "--network", network, "--data"]).arg(folder.path());
        printed(train.arg("--out").arg(&out)).unwrap();
        let model = bnn::Model::from_bytes(&fs::read(&out).unwrap()).unwrap();
        let layers = model.metadata.architecture.to_string();
        assert!(model.metadata.name == network && layers.ends_with(end), "{layers}");
    }
}

#[test]
fn the_people_of_a_data_set_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let sets = ["home", "away"].map(|set| folder.path().join(set));
    for (set, people) in sets.iter().zip([0..3, 3..5]) {
        fs::create_dir(set).unwrap();
        data_set(set, people, 14.0);
    }
    let out = folder.path().join("model.safetensors");
    let mut train = program();
    train.args(["train", "--epochs", "1", "--leave-out-data", "away", "--data"]).args(&sets);
    printed(train.arg("--out").arg(&out)).unwrap();
    let model = bnn::Model::from_bytes(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(model.metadata.classes, ["home/p0", "home/p1", "home/p2"]);
    assert_eq!(model.metadata.training_data, "home; without away");
}

#[test]
fn ctrl_c_keeps_the_best_network_so_far() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 0..3, 24.0);
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
    signal(&training, Signal::INT);
    lines.for_each(drop);
    let output = training.wait_with_output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("stopped early"), "{shown}");
    assert!(bnn::Model::from_bytes(&fs::read(out).unwrap()).is_ok());
}

#[test]
fn reproduce_prints_the_table_and_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    data_set(folder.path(), 0..3, 14.0);
    let data = folder.path().to_str().unwrap();
    let table = folder.path().join("table.json");
    for split in [
        &["--train-sessions", "day_1", "--test-sessions", "day_2"][..],
        &["--test-tail", "0.3"],
        &["--random-split", "0.2"],
    ] {
        let mut reproduce = program();
        reproduce.args(["reproduce", "--epochs", "1", "--data", data, "--json"]).arg(&table);
        let shown = printed(reproduce.args(split)).unwrap();
        let random = split[0] == "--random-split";
        assert_eq!(shown.contains("warning: these figures are optimistic"), random, "{shown}");
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
fn errors_in_arguments_and_data_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let fails = |arguments: &[&str], expected: &str| {
        let shown = printed(program().args(arguments)).unwrap_err();
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
    };
    fails(&["reproduce", "--data", data], "--test-tail");
    fails(&["reproduce", "--data", data, "--test-tail", "1.5"], "between 0.01 and 0.9");
    fails(&["reproduce", "--data", data, "--train-sessions", "a"], "--test-sessions");
    fails(&["train", "--data", data, "--out", "x"], "no recordings");
    fails(&["train", "--data", "/no/such", "--out", "x"], "No such file");
    fails(
        &["train", "--network", "idnet", "--data", data, "--out", "x"],
        "bipedalnet-openset or bipedalnet is needed",
    );
    fails(&["demo", "--data", data], "no recordings");
    data_set(folder.path(), 0..2, 14.0);
    fails(
        &["train", "--data", data, "--leave-out-data", "elsewhere", "--out", "x"],
        "no folder has this name",
    );
    fails(&["demo", "--data", data], "2 people; at least 10 are needed");
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

/// Runs a command against a server. Returns its exit status and all that it printed.
fn ask(server: &Server, arguments: &[&str]) -> (i32, String) {
    let output = program().args(arguments).env("BIPEDALNET_URL", server.url("")).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_shell_enrolls_identifies_and_verifies() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let walk = |person: u64, number: u64| {
        file(&format!("{person}-{number}.cbor"), &exact(&simulated(person, number)))
    };
    let short = |person: u64, number: u64| {
        let walk = json(&simulated_for(person, number, 4.0));
        file(&format!("short-{person}-{number}.json"), walk.as_bytes())
    };
    let asked = |arguments: &[&str], expected_status: i32, expected: &str| {
        let (status, shown) = ask(&server, arguments);
        assert_eq!(status, expected_status, "{arguments:?}: {shown}");
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
        shown
    };

    asked(&["enroll", "ann", &short(11, 6)], 0, "ann has 3, 26 more are needed");
    let shown = asked(&["enroll", "ann", &walk(11, 1), &walk(11, 2)], 0, "ann is ready with");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let shown = asked(&["enroll", "bob", &walk(12, 1), &walk(12, 2), "--json"], 0, "");
    let answers: Vec<EnrolledAnswer> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.iter().map(|answer| answer.user.enrollments).collect::<Vec<_>>(), [1, 2]);

    asked(&["identify", &walk(11, 3)], 0, "ann (");
    asked(&["identify", &walk(31, 1)], 3, "unknown (");
    asked(&["identify", &short(31, 1)], 3, "inconclusive: 3 windows");
    let shown = asked(&["identify", &walk(31, 1), "--json"], 3, "");
    let answer: IdentifyAnswer = serde_json::from_str(&shown).unwrap();
    assert_eq!(answer.decision, Identified::Unknown);

    asked(&["verify", "ann", &walk(11, 4), "--fmr", "0.1"], 0, "accept: this is ann (");
    asked(&["verify", "ann", &walk(12, 3)], 3, "reject: this is not ann (");
    asked(&["verify", "ann", &walk(11, 1)], 3, "suspected replay");
    asked(&["verify", "ann", &short(17, 3)], 3, "inconclusive: 3 windows");
    // Each has three windows.
    let shown =
        asked(&["verify", "ann", &short(11, 7), &short(11, 8), &short(11, 9), "--json"], 0, "");
    let answer: VerifyAnswer = serde_json::from_str(&shown).unwrap();
    assert_eq!((answer.decision, answer.windows), (Verified::Accept, 9));

    asked(&["verify", "carl", &walk(11, 5)], 1, "The user does not exist");
    asked(&["verify", "ann", &walk(11, 5), "--fmr", "0.5"], 1, "false match rate");
    asked(&["verify", "ann"], 2, "FILE");
    asked(&["identify", "/no/such.csv"], 1, "/no/such.csv: cannot be read");
    // If one of the files is broken, the command sends none of them.
    let broken = file("broken.csv", b"t,ax,ay,az\n0,a,b,c\n");
    asked(&["enroll", "dora", &walk(13, 1), &broken], 1, "broken.csv: line 2");
    asked(&["verify", "dora", &walk(13, 1)], 1, "The user does not exist");
    // The message names the file that the server refuses.
    let still = file("still.csv", b"t,ax,ay,az\n0,0,0,9.8\n0.1,0,0,9.8\n0.2,0,0,9.8\n");
    asked(&["enroll", "ann", &still], 1, "still.csv: The recording cannot be used");
}

#[test]
fn a_shell_uses_a_key_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let [trusted, key] = certificate(folder.path(), "server");
    let [untrusted, _] = certificate(folder.path(), "other");
    let walk = folder.path().join("walk.cbor");
    fs::write(&walk, exact(&simulated(11, 1))).unwrap();
    let secret = create_key(&database_in(folder.path()), "enroll");
    let server = Server::start_with(folder, &["--tls-certificate", &trusted, "--tls-key", &key]);
    let enroll = |trusted: &str, secret: Option<&str>| {
        let mut command = program();
        command.args(["enroll", "ann", "--url", &format!("https://{}", server.address)]);
        command.arg(&walk).env("SSL_CERT_FILE", trusted);
        command.envs(secret.map(|secret| ("BIPEDALNET_KEY", secret)));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (status, shown) = enroll(&trusted, Some(&secret));
    assert_eq!(status, 0, "{shown}");
    let (status, shown) = enroll(&trusted, None);
    assert!(status == 1 && shown.contains("A valid API key is required"), "{shown}");
    let (status, shown) = enroll(&untrusted, Some(&secret));
    assert!(status == 1 && shown.contains("certificate"), "{shown}");

    let mut help = program();
    let shown = printed(help.args(["enroll", "--help"]).env("BIPEDALNET_KEY", &secret)).unwrap();
    assert!(shown.contains("BIPEDALNET_KEY") && !shown.contains(&secret), "{shown}");
}

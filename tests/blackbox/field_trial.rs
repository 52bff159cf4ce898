//! The `trial` subcommand.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{data_set, printed, program};

fn trial(data: &Path, more: &[&str]) -> Result<String, String> {
    let mut command = program();
    command.arg("trial").arg("--data").arg(data).args(more);
    printed(&mut command)
}

fn measured(data: &Path, more: &[&str]) -> (String, Value) {
    let json = data.join("figures.json");
    let shown = trial(data, &[more, &["--json", json.to_str().unwrap()]].concat()).unwrap();
    (shown, serde_json::from_slice(&fs::read(json).unwrap()).unwrap())
}

/// The share of an outcome, after checking that it lies in its interval.
fn share(rates: &Value, outcome: &str) -> f64 {
    let figure = &rates[outcome];
    let [low, value, high] = ["low", "value", "high"].map(|end| figure[end].as_f64().unwrap());
    assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "{outcome}: {rates}");
    value
}

/// Checks the number of requests, and that these outcomes and no others add up to it.
fn check(rates: &Value, asked: u64, outcomes: &[&str]) {
    assert_eq!(rates["asked"], asked, "{rates}");
    assert_eq!(rates.as_object().unwrap().len(), outcomes.len() + 1, "{rates}");
    let sum: f64 = outcomes.iter().map(|outcome| share(rates, outcome)).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{rates}");
}

/// Checks that the same requests were sent. A walk at a threshold may be decided either way, as each
/// server has its own transform of templates, and rounds afterwards.
fn assert_same_requests(one: &Value, other: &Value) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{one} {other}");
            a.values().zip(b.values()).for_each(|(a, b)| assert_same_requests(a, b));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_same_requests(a, b));
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() < 0.1, "the same seed gave {a} and {b}: {one} {other}");
        }
        _ => assert_eq!(one, other),
    }
}

#[test]
fn own_walks_are_accepted_and_walks_of_others_rejected() {
    let folder = tempfile::tempdir().unwrap();
    // Each session has four pieces of 10 s. They are enrolled, or verified in two sessions.
    data_set(folder.path(), 0..10, 43.0);
    let days = ["--enroll", "day_1", "--probe", "day_2"];
    let (shown, figures) = measured(folder.path(), &days);
    assert_eq!((&figures["enrolled"], &figures["probed"]), (&"day_1".into(), &"day_2".into()));
    assert_eq!((&figures["people"], &figures["participants"]), (&10.into(), &10.into()));
    for nobody in ["never_ready", "without_probes"] {
        assert_eq!(figures[nobody], Value::Array(Vec::new()));
    }
    for nothing in ["refused_enrollments", "refused_probes"] {
        assert_eq!(figures[nothing], Value::Object(serde_json::Map::new()));
    }

    let identified = ["right", "wrong", "unknown", "inconclusive", "refused"];
    check(&figures["identification"], 40, &identified);
    assert!(share(&figures["identification"], "right") > 0.6, "{figures}");
    assert!(share(&figures["identification"], "wrong") < 0.1, "{figures}");
    check(&figures["strangers"], 40, &["named", "unknown", "inconclusive", "refused"]);
    assert!(share(&figures["strangers"], "named") < 0.2, "{figures}");
    let verified = ["accepted", "rejected", "inconclusive", "suspected_replay", "refused"];
    let rates = figures["verification"].as_array().unwrap();
    assert_eq!([&rates[0]["fmr"], &rates[1]["fmr"]], [&0.01, &0.001]);
    for rates in rates {
        check(&rates["own"], 20, &verified);
        check(&rates["others"], 20 * 8, &verified);
        assert!(share(&rates["own"], "accepted") > 0.7, "{rates}");
        assert!(share(&rates["others"], "accepted") < 0.05, "{rates}");
    }
    assert_eq!(shown.lines().filter(|line| line.starts_with("| 1:")).count(), 6, "{shown}");
    assert!(shown.contains("| 1:1 at FMR 0.1 %, others' claims | 160 |"), "{shown}");

    let (_, again) = measured(folder.path(), &days);
    assert_same_requests(&figures, &again);
    let (_, without) =
        measured(folder.path(), &[&days[..], &["--without-gyroscope", "both"]].concat());
    assert_eq!(without["without_gyroscope"], "both");
    check(&without["identification"], 40, &identified);
}

#[test]
fn several_sessions_can_be_enrolled_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    data_set(path, 0..5, 75.0);
    // p3 has too little of the second session, and p4 has none of it.
    let short = tempfile::tempdir().unwrap();
    data_set(short.path(), 3..4, 24.0);
    fs::copy(short.path().join("p3-day_2.json"), path.join("p3-day_2.json")).unwrap();
    let manifest = fs::read_to_string(path.join("manifest.csv")).unwrap();
    fs::write(path.join("manifest.csv"), manifest.replace("p4,day_2,p4-day_2.json\n", "")).unwrap();
    for probe in ["day_1", "day_2"] {
        let (shown, figures) = measured(path, &["--enroll", "day_1,day_2", "--probe", probe]);
        assert_eq!(figures["enrolled"], "day_1+day_2");
        assert!(
            shown.starts_with(&format!("day_1+day_2 > {probe}: 4 people, 3 took part")),
            "{shown}"
        );
        assert_eq!(figures["never_ready"], Value::from(vec!["p3"]));
        // 40 s of both sessions are enrolled. Walks at 50, 60 and 70 s are left.
        assert_eq!(figures["identification"]["asked"], 3 * 3);
    }
    let twice = trial(path, &["--enroll", "day_1,day_1", "--probe", "day_2"]).unwrap_err();
    assert!(twice.contains("session day_1 is to be enrolled twice"), "{twice}");
}

#[test]
fn people_and_data_that_do_not_suffice_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    data_set(path, 0..4, 75.0);
    let manifest = fs::read_to_string(path.join("manifest.csv")).unwrap();
    // The phone of p3 lies on a table.
    let still: String =
        (0..4000).map(|index| format!("{},0,0,9.81\n", f64::from(index) * 0.01)).collect();
    fs::write(path.join("still.csv"), format!("t,ax,ay,az\n{still}")).unwrap();
    let (kept, _) = manifest.split_once("p3,").unwrap();
    fs::write(path.join("manifest.csv"), format!("{kept}p3,day_1,still.csv\n")).unwrap();
    let (shown, figures) = measured(path, &["--enroll", "day_1", "--probe", "day_1"]);
    assert_eq!(figures["never_ready"], Value::from(vec!["p3"]));
    assert_eq!(figures["refused_enrollments"]["flat-sensor"], 4, "{figures}");
    assert!(shown.contains("never ready: p3\n"), "{shown}");
    assert!(shown.contains("refused to enroll: flat-sensor 4\n"), "{shown}");
    // The first 40 s are enrolled. Walks at 50, 60 and 70 s are left.
    assert_eq!(figures["identification"]["asked"], 3 * 3);

    let fails = |more: &[&str], expected: &str| {
        let message = trial(path, more).unwrap_err();
        assert!(message.contains(expected), "{more:?}: {message}");
    };
    let missing = ["--enroll", "day_1", "--probe", "day_3"];
    fails(&missing, "no recording is of session \"day_3\"; there are day_1, day_2");
    let days = ["--enroll", "day_1", "--probe", "day_2"];
    fails(&[&days[..], &["--model", "none"]].concat(), "model none: No such file");
    fails(&[&days[..], &["--json", "none/figures.json"]].concat(), "none/figures.json: No such");
    let (two, _) = manifest.split_once("p2,").unwrap();
    fs::write(path.join("manifest.csv"), two).unwrap();
    fails(&days, "people with recordings of day_1 and day_2: 2; at least 3 are needed");
    fs::write(path.join("manifest.csv"), &manifest).unwrap();
    data_set(path, 0..4, 24.0);
    fails(&days, "0 of 4 people became ready");
}

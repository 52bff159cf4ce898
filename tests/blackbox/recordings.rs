//! Checks on real recordings. Skipped with a message if they are missing.

use std::collections::BTreeMap;

use bipedalnet_core::gait::simulator::Replay;
use bipedalnet_core::gait::{Fingerprint, Recipe, Recording, cut_windows};
use bipedalnet_training::{TableOptions, read_data};

use crate::support;

/// Share of windows that pass the walking check, not counting gaps in the recordings.
fn share_of_walking(set: &str) -> Option<f64> {
    let data = read_data(&[support::real_data(set)?], &TableOptions::default()).unwrap();
    let recipe = Recipe::BIPEDALNET;
    let (mut accepted, mut all) = (0, 0);
    for walk in data.recordings.iter().filter(|walk| walk.recording.duration_seconds() > 10.0) {
        let seconds = walk.recording.duration_seconds();
        all += ((seconds - recipe.window_seconds()) * recipe.rate_hz / 50.0) as usize + 1;
        accepted += cut_windows(&walk.recording, &recipe, 50).map_or(0, |cut| cut.windows.len());
    }
    Some(accepted as f64 / all as f64)
}

#[test]
fn real_walks_pass_the_walking_check() {
    // In the last set people stop on their way.
    for (set, least) in [("motionsense", 0.99), ("wisdm", 0.98), ("uci-walking", 0.75)] {
        if let Some(share) = share_of_walking(set) {
            assert!(share >= least, "{set}: {share:.4}");
            eprintln!("{set}: {:.1} % of windows pass the walking check", share * 100.0);
        }
    }
}

fn ten_second_parts(recording: &Recording) -> impl Iterator<Item = Recording> {
    let parts = (recording.duration_seconds() / 10.0) as usize;
    (0..parts).filter_map(|part| recording.part(part as f64 * 10.0, 10.0))
}

#[test]
fn new_walks_of_the_same_person_are_no_replays() {
    for (set, people) in [("motionsense", 24), ("uci-walking", 11)] {
        let Some(folder) = support::real_data(set) else { continue };
        let walks = read_data(&[folder], &TableOptions::default()).unwrap().recordings;
        let kept: Vec<_> = walks.iter().map(|walk| Fingerprint::of(&walk.recording)).collect();
        let (mut compared, mut alarms) = (BTreeMap::new(), 0);
        for (index, walk) in walks.iter().enumerate() {
            let others: Vec<&Fingerprint> = walks
                .iter()
                .zip(&kept)
                .enumerate()
                .filter(|&(other, (earlier, _))| other != index && earlier.subject == walk.subject)
                .filter_map(|(_, (_, kept))| kept.as_ref())
                .collect();
            for probe in ten_second_parts(&walk.recording).filter_map(|p| Fingerprint::of(&p)) {
                *compared.entry(&walk.subject).or_insert(0) += others.len();
                alarms += others.iter().filter(|other| probe.is_replay_of(other)).count();
            }
        }
        compared.retain(|_, comparisons| *comparisons > 0);
        assert!(compared.len() >= people, "{set}: {compared:?}");
        assert_eq!(
            alarms,
            0,
            "{set}: {alarms} of {} comparisons",
            compared.values().sum::<usize>()
        );
    }
}

#[test]
fn replays_of_real_walks_are_found() {
    let everything = Replay {
        rate_hz: Some(25.0),
        jitter_periods: 0.2,
        noise: 0.05,
        turned: true,
        scale: 1.08,
        step_m_s2: 0.3,
        ..Replay::default()
    };
    let changes = [
        (0.99, Replay::default()),
        (0.98, Replay { turned: true, scale: 1.1, ..Replay::default() }),
        (0.98, Replay { rate_hz: Some(100.0), ..Replay::default() }),
        (0.98, Replay { rate_hz: Some(25.0), ..Replay::default() }),
        (0.98, Replay { jitter_periods: 0.3, ..Replay::default() }),
        (0.97, Replay { noise: 0.05, ..Replay::default() }),
        (0.96, Replay { speed: 0.99, ..Replay::default() }),
        (0.92, everything),
    ];
    let sets = ["motionsense", "wisdm", "uci-walking"];
    let folders: Vec<_> = sets.iter().filter_map(|set| support::real_data(set)).collect();
    if folders.is_empty() {
        return;
    }
    let mut walks = read_data(&folders, &TableOptions::default()).unwrap().recordings;
    walks.retain(|walk| walk.recording.duration_seconds() > 30.0);
    for (least, change) in changes {
        let found = walks.iter().zip(0..).filter(|(walk, seed)| {
            let earlier = Fingerprint::of(&walk.recording).unwrap();
            let part = walk.recording.part(8.3, 10.0).unwrap();
            let copy = change.copy(&part, *seed).unwrap();
            Fingerprint::of(&copy).is_some_and(|copy| copy.is_replay_of(&earlier))
        });
        let share = found.count() as f64 / walks.len() as f64;
        assert!(share >= least, "{change:?}: {share:.3}");
    }
}

/// In some of the runs each person is enrolled, in some a stranger.
#[test]
fn the_demo_identifies_real_walkers() {
    let Some(folder) = support::real_data("motionsense") else { return };
    let mut named = 0;
    for seed in 1..=12 {
        let output = support::program()
            .args(["demo", "--seed", &seed.to_string(), "--data"])
            .arg(&folder)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(["7 of 8", "8 of 8"].iter().any(|it| text.contains(it)), "seed {seed}: {text}");
        named += (1..=2).find(|it| text.contains(&format!(" {it} of 2 strangers"))).unwrap_or(0);
    }
    // At a rate of 3 %, more than three of 24 occur in one run of 200.
    assert!(named <= 3, "{named} of 24 strangers are identified");
}

//! What must hold on real walks. Skipped, and said so, where the recordings are not.

use bipedalnet::gait::{Recipe, cut_windows};
use bipedalnet::training::read_data;

use crate::support;

/// Share of windows that the walking check lets through, recording gaps aside.
fn share_of_walking(set: &str) -> Option<f64> {
    let data = read_data(&[support::real_data(set)?]).unwrap();
    let recipe = Recipe::BIPEDALNET;
    let (mut accepted, mut all) = (0, 0);
    for walk in data.walks.iter().filter(|walk| walk.recording.duration_seconds() > 10.0) {
        let seconds = walk.recording.duration_seconds();
        all += ((seconds - recipe.window_seconds()) * recipe.rate_hz / 50.0) as usize + 1;
        accepted += cut_windows(&walk.recording, &recipe, 50).map_or(0, |cut| cut.windows.len());
    }
    Some(accepted as f64 / all as f64)
}

#[test]
fn the_walking_check_lets_real_walks_through() {
    // In the last set people stop and stand on their way.
    for (set, least) in [("motionsense", 0.99), ("wisdm", 0.98), ("uci-walking", 0.75)] {
        if let Some(share) = share_of_walking(set) {
            assert!(share >= least, "{set}: {share:.4}");
            eprintln!("{set}: {:.1} % of windows are walking", share * 100.0);
        }
    }
}

/// Every person enrolled and every person a stranger in some pick.
#[test]
fn the_demo_names_real_walkers_whoever_they_are() {
    let Some(folder) = support::real_data("motionsense") else { return };
    for seed in 1..=12 {
        let output = support::program()
            .args(["demo", "--seed", &seed.to_string(), "--data"])
            .arg(&folder)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {text}");
        assert!(text.contains(" 0 of 2 strangers"), "seed {seed}: {text}");
    }
}

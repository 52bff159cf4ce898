use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64Mcg;

use super::*;

/// Three folds of five people each, whose scores move with each window around a mean that is the
/// person's or pair's own, less and less.
fn simulated() -> StrangerScores {
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let normal = Normal::new(0.0f32, 1.0).unwrap();
    let people = 5;
    let mut fold = || {
        let probes = (0..people * 20).map(|number| {
            let owner = number % people;
            let means: Vec<f32> = (0..people)
                .map(|person| {
                    let mean = if person == owner { 1.8 } else { 0.0 };
                    mean + 0.35 * normal.sample(&mut random)
                })
                .collect();
            let mut sums = vec![0.0; people];
            let mut after = |windows: usize| -> Vec<f32> {
                let scores = sums.iter_mut().zip(&means).map(|(sum, mean)| {
                    *sum += mean + 0.5 * normal.sample(&mut random);
                    (*sum / windows as f32).tanh()
                });
                scores.collect()
            };
            Probe { owner, scores: (1..=LONGEST_PROBE).map(&mut after).collect() }
        });
        Fold { people, probes: probes.collect(), likelihood: None }
    };
    StrangerScores { folds: vec![fold(), fold(), fold()] }
}

#[test]
fn rates_that_were_asked_for_are_kept_on_others() {
    let scores = simulated();
    for fmr in FALSE_MATCH_RATES {
        let rates = scores.verification_rates(fmr).unwrap();
        assert!(f64::from(rates.false_positive) <= 1.2 * fmr, "{fmr}: {rates:?}");
        assert!(rates.false_negative < 0.2, "{fmr}: {rates:?}");
        let windows = rates.genuine_windows.max(rates.impostor_windows);
        assert!((1.0..15.0).contains(&windows), "{fmr}: {rates:?}");
    }
    let rates = scores.identification_rates().unwrap();
    assert!(rates.false_positive <= 0.04 && rates.false_negative < 0.2, "{rates:?}");
    let one = StrangerScores { folds: scores.folds[..1].to_vec() };
    assert_eq!((one.verification_rates(0.1), one.identification_rates()), (None, None));
    let calibration = scores.calibrate().unwrap();
    assert_eq!((calibration.people, calibration.probes), (15, 300));
    assert!(calibration.eer < 0.02 && calibration.fnmr[0] < 0.01, "{calibration:?}");
}

#[test]
fn walks_that_are_too_short_tell_as_much_as_fewer_windows() {
    let mut scores = simulated();
    for probe in scores.folds.iter_mut().flat_map(|fold| &mut fold.probes) {
        probe.scores.truncate(10);
    }
    let lines = *scores.calibrate().unwrap().likelihood.lines();
    assert!(lines[3] == lines[4] && lines[2] != lines[3], "{lines:?}");
    assert_eq!(scores.verification_rates(0.1), None);
    assert_eq!(StrangerScores::default().calibrate(), None);
}

#[test]
fn a_likelihood_ratio_is_carried_over_to_other_scores() {
    let before = simulated();
    let mut after = before.clone();
    let move_it = |score: f32| (0.5 * unfold(score) + 0.2).tanh();
    for probe in after.folds.iter_mut().flat_map(|fold| &mut fold.probes) {
        probe.scores.iter_mut().flatten().for_each(|score| *score = move_it(*score));
    }
    let old = before.calibrate().unwrap().likelihood;
    let new = after.carry_over(&old, &before);
    for (score, windows) in [(0.9, 1), (0.5, 7), (-0.3, 16)] {
        let (expected, found) = (old.llr(score, windows), new.llr(move_it(score), windows));
        assert!((expected - found).abs() < 0.05, "{score}: {expected}, {found}");
    }
    // One that takes all for alike knows nobody.
    let mut blind = before.clone();
    for probe in blind.folds.iter_mut().flat_map(|fold| &mut fold.probes) {
        probe.scores.iter_mut().flatten().for_each(|score| *score = 1.0);
    }
    assert!(blind.carry_over(&old, &before).llr(1.0, 16) < 0.0);
}

use super::*;
use crate::gait::{Recipe, SignalError, Window, cut_windows};

const RECIPE: Recipe = Recipe::BIPEDALNET;

fn windows(recording: &Recording) -> Vec<Window> {
    cut_windows(recording, &RECIPE, 50).unwrap().windows
}

#[test]
fn a_walk_depends_on_its_seeds_alone() {
    let conditions = Conditions::default();
    let walk = Walker::new(1).walk(2, &conditions);
    assert_eq!(walk, Walker::new(1).walk(2, &conditions));
    assert_ne!(walk, Walker::new(1).walk(3, &conditions));
    assert_ne!(walk, Walker::new(3).walk(2, &conditions));
    let without = Conditions { gyroscope: false, ..conditions };
    assert_eq!(walk.without_angular_rate(), Walker::new(1).walk(2, &without));
}

#[test]
fn walks_pass_the_walking_check_at_any_rate() {
    for rate_hz in [20.0, 33.0, 50.0, 100.0, 200.0] {
        let conditions = Conditions { rate_hz, ..Conditions::default() };
        let passed: usize =
            (0..50).map(|seed| windows(&Walker::new(seed).walk(seed, &conditions)).len()).sum();
        // 19 windows of two seconds start within 20 s, one each second.
        assert!(passed >= 50 * 19 * 98 / 100, "{passed} at {rate_hz} Hz");
    }
}

#[test]
fn standing_still_is_not_walking() {
    let recording = standing(1, &Conditions::default());
    let error = cut_windows(&recording, &RECIPE, 50).unwrap_err();
    assert!(matches!(error, SignalError::StandingStill { .. }), "{error}");
}

#[test]
fn unusual_conditions_still_make_a_recording() {
    for value in [f64::NAN, f64::NEG_INFINITY, 0.0, 1e-300] {
        let conditions = Conditions { seconds: value, rate_hz: value, gyroscope: true };
        assert!(!Walker::new(1).walk(1, &conditions).time_seconds().is_empty());
    }
}

/// Mean autocovariance of each row, up to one stride.
fn signature(recording: &Recording) -> Vec<f64> {
    let windows = windows(recording);
    let mut sums = vec![0.0; 8 * 50];
    for window in &windows {
        for (row, values) in window.values.chunks_exact(RECIPE.samples).enumerate() {
            for lag in 0..50 {
                let products = values.iter().zip(&values[lag..]);
                let sum: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                sums[row * 50 + lag] += sum / windows.len() as f64;
            }
        }
    }
    sums
}

#[test]
fn a_second_walk_is_nearest_to_the_first_of_the_same_person() {
    let signatures = |walk: u64| -> Vec<Vec<f64>> {
        let conditions = Conditions::default();
        (0..12).map(|person| signature(&Walker::new(person).walk(walk, &conditions))).collect()
    };
    let (first, second) = (signatures(1), signatures(2));
    let distance =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let named = (0..12).filter(|&person| {
        let distances = first.iter().map(|other| distance(other, &second[person]));
        distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at) == Some(person)
    });
    let named = named.count();
    assert!(named >= 10, "{named} of 12");
}

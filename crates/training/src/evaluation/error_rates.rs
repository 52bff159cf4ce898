//! Error rates of comparisons, with intervals. Terms are those of ISO/IEC 19795-1.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use serde::Serialize;

/// People that an interval needs.
const FEWEST_PEOPLE: usize = 5;

/// Draws of people for an interval.
const RESAMPLES: usize = 500;

/// Scores of comparisons, in rising order.
#[derive(Clone, Debug, Default)]
pub struct Scores(Vec<f32>);

impl Scores {
    /// Sorts scores.
    pub fn new(mut scores: Vec<f32>) -> Self {
        scores.sort_by(f32::total_cmp);
        Self(scores)
    }

    /// The scores in rising order.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The score that this share of all scores are below. `None` if there are no scores.
    pub fn quantile(&self, share: f64) -> Option<f32> {
        let last = self.0.len().checked_sub(1)?;
        Some(self.0[(share * last as f64).round() as usize])
    }

    /// The share of the scores that reach `threshold`.
    pub fn share_from(&self, threshold: f32) -> f32 {
        let below = self.0.partition_point(|&score| score < threshold);
        (self.0.len() - below) as f32 / self.0.len() as f32
    }

    /// The lowest threshold that at most `share` of the scores reach.
    ///
    /// # Panics
    /// If there is no score.
    pub fn threshold_at(&self, share: f64) -> f32 {
        let position = (self.0.len() as f64 * (1.0 - share)).ceil() as usize;
        self.0[position.clamp(1, self.0.len()) - 1].next_up()
    }
}

/// The error rate at the threshold at which false non-matches are as frequent as false matches.
///
/// # Panics
/// If there is no genuine or no impostor score.
pub fn equal_error_rate(genuine: &Scores, impostors: &Scores) -> f32 {
    // False non-matches rise with the threshold and false matches fall, so bisection finds the
    // crossing.
    let crossing = |thresholds: &[f32]| {
        let position = thresholds.partition_point(|&threshold| {
            1.0 - genuine.share_from(threshold) < impostors.share_from(threshold)
        });
        thresholds.get(position).copied()
    };
    let crossings = [crossing(&genuine.0), crossing(&impostors.0)];
    let largest = genuine.0[genuine.0.len() - 1].max(impostors.0[impostors.0.len() - 1]);
    let threshold = crossings.into_iter().flatten().reduce(f32::min).unwrap_or(largest);
    f32::midpoint(1.0 - genuine.share_from(threshold), impostors.share_from(threshold))
}

/// A measured rate with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The measured rate.
    pub value: f32,
    /// The lower end.
    pub low: f32,
    /// The upper end.
    pub high: f32,
}

/// Computes rates with intervals that show how far they depend on the people measured.
///
/// This is the percentile bootstrap: people are drawn at random with replacement. `estimate` computes
/// the rates, given how often each person was drawn. With fewer than five people, intervals go from
/// 0 to 1. `None` if `estimate` gives nothing for each person once.
pub fn bootstrap<const N: usize>(
    people: usize,
    seed: u64,
    estimate: impl Fn(&[usize]) -> Option<[f32; N]> + Sync,
) -> Option<[Figure; N]> {
    let values = estimate(&vec![1; people])?;
    if people < FEWEST_PEOPLE {
        return Some(values.map(|value| Figure { value, low: 0.0, high: 1.0 }));
    }
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let draws: Vec<Vec<usize>> = (0..RESAMPLES)
        .map(|_| {
            let mut times = vec![0; people];
            (0..people).for_each(|_| times[random.random_range(0..people)] += 1);
            times
        })
        .collect();
    let resampled: Vec<[f32; N]> = draws.par_iter().filter_map(|times| estimate(times)).collect();
    Some(std::array::from_fn(|index| {
        let value = values[index];
        let mut drawn: Vec<f32> = resampled.iter().map(|values| values[index]).collect();
        drawn.sort_by(f32::total_cmp);
        let at = |share: f32| drawn.get((drawn.len() as f32 * share) as usize).unwrap_or(&value);
        // With few people, all draws can lie on one side.
        Figure { value, low: value.min(*at(0.025)), high: value.max(*at(0.975)) }
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_threshold_lets_through_no_more_than_its_share() {
        let scores = Scores::new((0..200).map(|score| score as f32 / 200.0).collect());
        assert_eq!(scores.share_from(scores.threshold_at(0.01)), 0.01);
        assert_eq!(scores.share_from(scores.threshold_at(0.0)), 0.0);
        let single = Scores::new(vec![0.5]);
        assert_eq!(single.share_from(single.threshold_at(0.01)), 0.0);
    }

    #[test]
    fn the_equal_error_rate_is_where_the_errors_cross() {
        let rate = |genuine: &[f32], impostors: &[f32]| {
            equal_error_rate(&Scores::new(genuine.to_vec()), &Scores::new(impostors.to_vec()))
        };
        assert_eq!(rate(&[0.8, 0.9], &[0.1, 0.2]), 0.0);
        assert_eq!(rate(&[0.1, 0.2], &[0.8, 0.9]), 1.0);
        assert_eq!(rate(&[0.9, 0.5], &[0.5, 0.1]), 0.25);
        let genuine: Vec<f32> = (20..120).map(|score| score as f32).collect();
        let impostors: Vec<f32> = (0..40).map(|score| score as f32).collect();
        // At 34 they are 14 and 15 %, at 35 15 and 12.5 %.
        let rate = rate(&genuine, &impostors);
        assert!((rate - 0.14).abs() < 0.006, "{rate}");
    }

    #[test]
    fn an_interval_follows_from_its_seed_and_narrows_with_people() {
        let mean = |people: usize, seed: u64| {
            let estimate = |times: &[usize]| {
                let sum: usize = times.iter().enumerate().map(|(who, n)| n * (who % 2)).sum();
                Some([sum as f32 / people as f32])
            };
            let [figure] = bootstrap(people, seed, estimate).unwrap();
            figure
        };
        let few = mean(10, 1);
        assert_eq!(few, mean(10, 1));
        // A binomial's: 0.5 and 1.96 times 0.158, then 0.0158.
        assert!((few.low - 0.2).abs() < 0.11 && (few.high - 0.8).abs() < 0.11, "{few:?}");
        let many = mean(1000, 1);
        assert_ne!(many, mean(1000, 2));
        assert!((many.high - many.low - 0.062).abs() < 0.01, "{many:?}");
        let of_four = mean(4, 1);
        assert_eq!((of_four.low, of_four.value, of_four.high), (0.0, 0.5, 1.0));
        assert_eq!(bootstrap(3, 1, |_: &[usize]| None::<[f32; 1]>), None);
    }

    proptest! {
        #[test]
        fn rates_are_shares_that_move_with_the_threshold(
            genuine in prop::collection::vec(-1.0..1.0f32, 1..60),
            impostors in prop::collection::vec(-1.0..1.0f32, 1..60),
            shares in prop::array::uniform2(0.0..1.0f64),
        ) {
            let (genuine, impostors) = (Scores::new(genuine), Scores::new(impostors));
            let rate = equal_error_rate(&genuine, &impostors);
            prop_assert!((0.0..=1.0).contains(&rate));
            let [strict, lax] = [shares[0].min(shares[1]), shares[0].max(shares[1])];
            let fnmr = |fmr| 1.0 - genuine.share_from(impostors.threshold_at(fmr));
            prop_assert!(fnmr(strict) >= fnmr(lax));
            prop_assert!(f64::from(impostors.share_from(impostors.threshold_at(lax))) <= lax + 1e-6);
        }

        #[test]
        fn an_interval_holds_its_figure(values in prop::collection::vec(0.0..1.0f32, 1..20)) {
            let largest = |times: &[usize]| {
                let drawn = values.iter().zip(times).filter(|(_, times)| **times > 0);
                drawn.map(|(value, _)| *value).reduce(f32::max).map(|value| [value])
            };
            let [figure] = bootstrap(values.len(), 1, largest).unwrap();
            prop_assert!(figure.low <= figure.value && figure.value <= figure.high);
        }
    }
}

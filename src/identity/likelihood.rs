//! What a score tells: calibrated log-likelihood ratios.

use std::collections::BTreeMap;

/// Windows of walking for which a line is fitted. Windows of one walk are much alike, so that a score
/// over twice as many does not tell twice as much: how much more is measured.
pub const WINDOW_COUNTS: [u32; 5] = [1, 2, 4, 8, 16];

/// Scores nearer to 1 or -1 than this count as this: their inverse hyperbolic tangent is finite.
const LARGEST_SCORE: f32 = 0.9999;

/// Share of genuine comparisons that a fit goes out from, whatever their share in the data. With half
/// a false match rate of 0.1 % was not kept; with a hundredth more genuine walks failed.
const GENUINE_SHARE: f64 = 0.1;

/// Pulls a fit to 0, hardly: where no score is on the wrong side the slope would have no end.
const RIDGE: f64 = 1e-6;

/// At most; a dozen are usual.
const NEWTON_STEPS: usize = 50;

/// Newton's method overshoots where it starts far off.
const LONGEST_STEP: f64 = 4.0;

/// The log-likelihood ratio (LLR) of a score: the natural logarithm of how much more probable it is
/// where probe and template are of one person than where they are of two.
///
/// Linear in the inverse hyperbolic tangent of the score, which spreads out what lies near 1 (linear
/// score calibration, as of speaker verification).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LikelihoodRatio {
    lines: [Line; WINDOW_COUNTS.len()],
}

/// The LLR of probes of one number of windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// LLR for each unit of the inverse hyperbolic tangent; above 0.
    pub slope: f32,
    /// LLR of a score of 0.
    pub offset: f32,
}

/// The inverse hyperbolic tangent of a score, finite for every score.
pub fn unfold(score: f32) -> f32 {
    score.clamp(-LARGEST_SCORE, LARGEST_SCORE).atanh()
}

impl LikelihoodRatio {
    /// With a line for each of [`WINDOW_COUNTS`].
    pub fn new(lines: [Line; WINDOW_COUNTS.len()]) -> Self {
        Self { lines }
    }

    /// The line of each of [`WINDOW_COUNTS`].
    pub fn lines(&self) -> &[Line; WINDOW_COUNTS.len()] {
        &self.lines
    }

    /// The LLR of a score over so many windows. Between [`WINDOW_COUNTS`] it is interpolated over the
    /// logarithm of the windows; beyond, more windows tell no more.
    pub fn llr(&self, score: f32, windows: u32) -> f32 {
        let last = WINDOW_COUNTS.len() - 1;
        let position = (windows.max(1) as f32).log2().min(last as f32);
        let below = (position as usize).min(last - 1);
        let part = position - below as f32;
        let z = unfold(score);
        let [from, to] =
            [below, below + 1].map(|at| self.lines[at].slope * z + self.lines[at].offset);
        from + (to - from) * part
    }

    /// An upper bound of the false match rate (FMR) at a score: of two people, at most this share
    /// reaches its likelihood ratio (Markov's inequality).
    pub fn fmr_bound(&self, score: f32, windows: u32) -> f64 {
        (-f64::from(self.llr(score, windows))).exp().min(1.0)
    }

    /// As a model file's metrics: `llr_slope_1` and `llr_offset_1`, and so on for each of
    /// [`WINDOW_COUNTS`], rounded.
    pub fn to_metrics(&self) -> BTreeMap<String, f32> {
        let metrics = WINDOW_COUNTS.iter().zip(&self.lines).flat_map(|(&windows, line)| {
            let [slope, offset] = names(windows);
            [(slope, rounded(line.slope)), (offset, rounded(line.offset))]
        });
        metrics.collect()
    }

    /// Of a model file's metrics, or of what files had before there were likelihood ratios in them:
    /// thresholds.
    ///
    /// # Errors
    /// The name of a metric that is missing or that cannot be used.
    pub fn from_metrics(metrics: &BTreeMap<String, f32>) -> Result<Self, String> {
        if !metrics.contains_key(&names(1)[0])
            && let Some(line) = Line::from_thresholds(metrics)
        {
            return Ok(Self { lines: [line; WINDOW_COUNTS.len()] });
        }
        let mut lines = [Line { slope: 1.0, offset: 0.0 }; WINDOW_COUNTS.len()];
        for (line, windows) in lines.iter_mut().zip(WINDOW_COUNTS) {
            let read = |name: String, is_good: fn(f32) -> bool| match metrics.get(&name) {
                Some(&value) if value.is_finite() && is_good(value) => Ok(value),
                _ => Err(name),
            };
            let [slope, offset] = names(windows);
            *line =
                Line { slope: read(slope, |slope| slope > 0.0)?, offset: read(offset, |_| true)? };
        }
        Ok(Self { lines })
    }
}

fn names(windows: u32) -> [String; 2] {
    [format!("llr_slope_{windows}"), format!("llr_offset_{windows}")]
}

impl Line {
    /// Says nothing, for scores that tell nothing: where genuine ones are no higher than others.
    const MUTE: Self = Self { slope: 1e-3, offset: 0.0 };

    /// The line on which the thresholds for false match rates of 1 and 0.1 % bound just these.
    fn from_thresholds(metrics: &BTreeMap<String, f32>) -> Option<Self> {
        let [(z, llr), (other_z, other_llr)] = [0.01f32, 0.001].map(|fmr| {
            let threshold = metrics.get(&format!("verification_threshold_at_fmr_{fmr}"));
            (threshold.copied().map_or(f32::NAN, unfold), -fmr.ln())
        });
        let slope = (other_llr - llr) / (other_z - z);
        let line = Self { slope, offset: llr - slope * z };
        (slope > 0.0 && slope.is_finite()).then_some(line)
    }

    /// Fits scores of one person's walks and of two people's: logistic regression by Newton's method.
    /// `None` where there are none of either.
    pub fn fit(genuine: &[f32], impostors: &[f32]) -> Option<Self> {
        if genuine.is_empty() || impostors.is_empty() {
            return None;
        }
        let prior = (GENUINE_SHARE / (1.0 - GENUINE_SHARE)).ln();
        let classes = [(genuine, GENUINE_SHARE, 1.0), (impostors, 1.0 - GENUINE_SHARE, 0.0)];
        let (mut slope, mut offset) = (0.0, 0.0);
        for _ in 0..NEWTON_STEPS {
            // Of the cross-entropy: its gradient, and the three values of its Hessian matrix.
            let (mut by_slope, mut by_offset) = (RIDGE * slope, 0.0);
            let (mut both_slope, mut mixed, mut both_offset) = (RIDGE, 0.0, RIDGE);
            for (scores, share, label) in classes {
                let weight = share / scores.len() as f64;
                for &score in scores {
                    let z = f64::from(unfold(score));
                    let probability = 1.0 / (1.0 + (-(slope * z + offset + prior)).exp());
                    let error = weight * (probability - label);
                    let curvature = weight * probability * (1.0 - probability);
                    by_slope += error * z;
                    by_offset += error;
                    both_slope += curvature * z * z;
                    mixed += curvature * z;
                    both_offset += curvature;
                }
            }
            let determinant = both_slope * both_offset - mixed * mixed;
            let step = |size: f64| (size / determinant).clamp(-LONGEST_STEP, LONGEST_STEP);
            let of_slope = step(both_offset * by_slope - mixed * by_offset);
            let of_offset = step(both_slope * by_offset - mixed * by_slope);
            slope -= of_slope;
            offset -= of_offset;
            if of_slope.abs().max(of_offset.abs()) < 1e-6 {
                break;
            }
        }
        let line = Self { slope: slope as f32, offset: offset as f32 };
        Some(if line.slope > Self::MUTE.slope { line } else { Self::MUTE })
    }
}

/// To five digits, as many as are worth their place in a model file.
fn rounded(value: f32) -> f32 {
    format!("{value:.4e}").parse().expect("a number as it is written can be read")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, Normal};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    fn lines() -> impl Strategy<Value = LikelihoodRatio> {
        let line =
            (0.1..20.0f32, -20.0..20.0f32).prop_map(|(slope, offset)| Line { slope, offset });
        prop::array::uniform5(line).prop_map(LikelihoodRatio::new)
    }

    /// Scores whose unfolded values have a mean and the standard deviation 0.4.
    fn scores(mean: f32, seed: u64) -> Vec<f32> {
        let random = Pcg64Mcg::seed_from_u64(seed);
        let values = Normal::new(mean, 0.4).unwrap().sample_iter(random);
        values.take(20_000).map(f32::tanh).collect()
    }

    proptest! {
        #[test]
        fn a_higher_score_tells_more(
            likelihood in lines(),
            scores in (-1.0..=1.0f32, -1.0..=1.0f32),
            windows in 0..100u32,
        ) {
            let (low, high) = (scores.0.min(scores.1), scores.0.max(scores.1));
            let llr = |score| likelihood.llr(score, windows);
            prop_assert!(llr(low) <= llr(high) && llr(high).is_finite());
            let (unlikely, likely) =
                (likelihood.fmr_bound(high, windows), likelihood.fmr_bound(low, windows));
            prop_assert!(0.0 <= unlikely && unlikely <= likely && likely <= 1.0);
        }

        #[test]
        fn a_model_file_keeps_it(likelihood in lines(), score in -1.0..=1.0f32) {
            let metrics = likelihood.to_metrics();
            let read = LikelihoodRatio::from_metrics(&metrics).unwrap();
            for windows in WINDOW_COUNTS {
                let (before, after) = (likelihood.llr(score, windows), read.llr(score, windows));
                prop_assert!((before - after).abs() < 0.02, "{} {}", before, after);
            }
            for name in metrics.keys() {
                for bad in [None, Some(f32::NAN), name.contains("slope").then_some(0.0)] {
                    let mut metrics = metrics.clone();
                    metrics.remove(name);
                    metrics.extend(bad.map(|bad| (name.clone(), bad)));
                    prop_assert_eq!(LikelihoodRatio::from_metrics(&metrics), Err(name.clone()));
                }
            }
        }
    }

    #[test]
    fn between_two_numbers_of_windows_it_is_interpolated() {
        let line = |offset| Line { slope: 1.0, offset };
        let likelihood = LikelihoodRatio::new([0.0, 1.0, 2.0, 4.0, 6.0].map(line));
        let llr = |windows| likelihood.llr(0.0, windows);
        assert_eq!([1, 2, 4, 8, 16, 17, 9999].map(llr), [0.0, 1.0, 2.0, 4.0, 6.0, 6.0, 6.0]);
        assert!(
            (llr(3) - 3f32.log2()).abs() < 1e-5
                && (llr(11) - (4.0 + 2.0 * (11f32 / 8.0).log2())).abs() < 1e-5
        );
    }

    #[test]
    fn a_fit_finds_the_ratio_of_two_normal_distributions() {
        // Of equal variance: the ratio is (z - middle) * distance / variance.
        let line = Line::fit(&scores(1.2, 1), &scores(0.0, 2)).unwrap();
        assert!((line.slope - 7.5).abs() < 0.4, "{line:?}");
        assert!((line.offset + 4.5).abs() < 0.3, "{line:?}");
    }

    #[test]
    fn a_fit_has_an_end_and_a_sign() {
        let line = Line::fit(&[0.9, 0.95], &[0.1, 0.2]).unwrap();
        assert!(line.slope.is_finite() && line.slope > 5.0, "{line:?}");
        assert!(line.slope * unfold(0.9) + line.offset > 2.0, "{line:?}");
        assert!(line.slope * unfold(0.2) + line.offset < -2.0, "{line:?}");
        for useless in [Line::fit(&scores(0.0, 1), &scores(0.5, 2)), Line::fit(&[0.5], &[0.5])] {
            let line = useless.unwrap();
            assert!(line.slope > 0.0 && line.offset.abs() < 0.5, "{line:?}");
        }
        assert_eq!(Line::fit(&[], &[0.1]), None);
        assert_eq!(Line::fit(&[0.1], &[]), None);
    }

    #[test]
    fn thresholds_of_older_files_bound_the_rates_that_they_were_set_for() {
        let named = |fmr: f64| format!("verification_threshold_at_fmr_{fmr}");
        let mut metrics = BTreeMap::from([(named(0.01), 0.78), (named(0.001), 0.88)]);
        let likelihood = LikelihoodRatio::from_metrics(&metrics).unwrap();
        for (score, fmr) in [(0.78, 0.01), (0.88, 0.001)] {
            for windows in [1, 9, 40] {
                let bound = likelihood.fmr_bound(score, windows);
                assert!((bound / fmr - 1.0).abs() < 1e-3, "{bound}");
            }
        }
        for unfit in [0.78, 0.5, f32::NAN] {
            metrics.insert(named(0.001), unfit);
            assert_eq!(LikelihoodRatio::from_metrics(&metrics), Err("llr_slope_1".to_owned()));
        }
    }
}

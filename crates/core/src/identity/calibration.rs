//! What a similarity means: from cosines to false match rates.
//!
//! How alike two strangers look depends on phone, pocket and pace, so a fixed threshold on cosines
//! keeps no false match rate. A [`Calibration`] compares a similarity with two references from the
//! gallery itself: how much the claimed template resembles other users, and how much the probe does.
//! This is symmetric score normalisation (S-norm) with the nearest part of a cohort (adaptive S-norm,
//! Matějka et al., Interspeech 2017). With few users, a prior from the model file stands in for them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// False match rates that a caller of a verification can ask for.
pub const FALSE_MATCH_RATES: [f64; 3] = [0.1, 0.01, 0.001];

/// The nearest users of a cohort that a reference is made of. In a mixed gallery, these are the ones
/// with a similar phone and pace.
const NEAREST: usize = 16;

/// The prior counts as many users in the mean of a reference, and in its variance: galleries differ in
/// how alike users are more than in how much that varies.
const PRIOR_USERS: (f32, f32) = (2.0, 8.0);

/// The prior counts as many users when the gallery refines the thresholds.
const PRIOR_GALLERY_USERS: f32 = 20.0;

/// Fewer comparisons among users say nothing of a tail.
const FEWEST_PAIRS: usize = 15;

/// A gallery moves a threshold by this at most: one person under two ids is no reason to refuse all
/// others.
const MOST_CHANGE: f32 = 1.0;

/// By how much thresholds are higher without a gallery than with one of the size of a data set: a
/// reference of few users is uncertain. Among 5 and 10 users of left-out data sets, strengths of
/// strangers reached 0.3 to 0.4 more than among all.
const FEW_USERS_MARGIN: f32 = 0.5;

/// By how much a strength may be above the lower of its two parts. Genuine walks hardly reach this; a
/// probe that resembles everybody does, and so does a template.
const MOST_DISAGREEMENT: f32 = 1.0;

/// Strengths at each of [`FALSE_MATCH_RATES`]: the upper tail of a distribution of impostors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail([f32; FALSE_MATCH_RATES.len()]);

impl Tail {
    /// A tail with these strengths, which must rise.
    pub fn new(strengths: [f32; FALSE_MATCH_RATES.len()]) -> Option<Self> {
        let rises = strengths.array_windows().all(|[a, b]| a < b);
        (rises && strengths.iter().all(|strength| strength.is_finite())).then_some(Self(strengths))
    }

    /// Fits a tail to many strengths. Beyond the last percent it is exponential.
    pub fn fit(strengths: &[f32]) -> Option<Self> {
        let [tenth, hundredth] = upper_quantiles(strengths, [0.1, 0.01])?;
        let thousandth = hundredth + mean_excess(strengths, hundredth) * 10f32.ln();
        Self::new([tenth, hundredth, thousandth])
    }

    /// Fits a tail to few strengths: exponential from the upper tenth on.
    pub fn fit_few(strengths: &[f32]) -> Option<Self> {
        let [tenth] = upper_quantiles(strengths, [0.1])?;
        let decade = mean_excess(strengths, tenth) * 10f32.ln();
        Self::new([tenth, tenth + decade, tenth + 2.0 * decade])
    }

    /// The higher strength of two tails at each rate.
    pub fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }

    /// The mean strength at each rate; `None` without tails.
    pub fn mean(tails: &[Self]) -> Option<Self> {
        let mean =
            |at: usize| tails.iter().map(|tail| tail.0[at]).sum::<f32>() / tails.len() as f32;
        Self::new(std::array::from_fn(mean))
    }

    /// The share of impostors that are at least as strong. Its logarithm is linear in the strength
    /// between the fitted rates, and beyond them.
    pub fn fmr(&self, strength: f32) -> f64 {
        let below = usize::from(strength >= self.0[1]);
        let [from, to] = [self.0[below], self.0[below + 1]];
        let [log_from, log_to] = [below, below + 1].map(|at| FALSE_MATCH_RATES[at].ln());
        let part = f64::from((strength - from) / (to - from));
        (log_from + (log_to - log_from) * part).exp().min(1.0)
    }

    /// This tail moved by a share of the difference between two others.
    fn moved(self, share: f32, from: Self, to: Self) -> Self {
        let change = |at: usize| (to.0[at] - from.0[at]).clamp(-MOST_CHANGE, MOST_CHANGE);
        let moved = std::array::from_fn(|at| self.0[at] + share * change(at));
        Self::new(moved).unwrap_or(self)
    }
}

/// Mean and standard deviation of the highest of some similarities; zeros without any.
pub(super) fn nearest_spread(similarities: &mut [f32]) -> (f32, f32) {
    let nearest = match similarities.len() {
        0..=NEAREST => similarities,
        _ => similarities.select_nth_unstable_by(NEAREST, |a, b| b.total_cmp(a)).0,
    };
    let count = nearest.len().max(1) as f32;
    let mean = nearest.iter().sum::<f32>() / count;
    let squares: f32 = nearest.iter().map(|similarity| (similarity - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

/// The least strengths that these shares of all reach. `None` without strengths.
fn upper_quantiles<const N: usize>(strengths: &[f32], shares: [f32; N]) -> Option<[f32; N]> {
    let mut sorted = strengths.to_vec();
    sorted.sort_by(f32::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(shares.map(|share| sorted[((1.0 - share) * last as f32).round() as usize]))
}

/// By how much the strengths above a threshold exceed it, in the mean.
fn mean_excess(strengths: &[f32], threshold: f32) -> f32 {
    const LEAST: f32 = 0.1;
    let above = strengths.iter().filter(|&&strength| strength > threshold);
    let (count, sum) =
        above.fold((0u32, 0.0), |(count, sum), strength| (count + 1, sum + strength - threshold));
    (sum / count.max(1) as f32).max(LEAST)
}

/// The thresholds that decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tails {
    /// The tail for one look at one probe.
    pub single: Tail,
    /// The tail for the strongest of all looks at a session that grows to 30 s.
    pub session: Tail,
    /// Users of the gallery that refined them; 0 for the model file's prior.
    pub users: usize,
}

/// What `train` found on people whom the network had not seen, the worst of all left-out data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Cosine between a window and its walker's mean direction: windows are noisy, and the fewer
    /// there are, the lower all similarities.
    pub coherence: f32,
    /// Mean and standard deviation of the similarity between strangers.
    pub impostor_mean: f32,
    /// See `impostor_mean`.
    pub impostor_deviation: f32,
    /// Variance of a strength that one window adds, in units of the variance between people.
    pub window_noise: f32,
    /// Thresholds without a gallery.
    pub prior: Tails,
    /// The tail of users compared with one another's templates, in the mean of all data sets: a gallery
    /// like these keeps the prior.
    pub pairs: Tail,
    /// Coherence of probes that are like walks of the training.
    pub familiar_coherence: RangeInclusive<f32>,
}

/// How similar strangers are to one template or probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reference {
    mean: f32,
    deviation: f32,
}

impl Calibration {
    /// How much lower cosines are because of a walk's number of windows, from 0 to 1 (correction for
    /// attenuation, Spearman 1904).
    pub(super) fn attenuation(&self, windows: u32) -> f32 {
        let square = self.coherence * self.coherence;
        (1.0 + (1.0 - square) / (square * windows.max(1) as f32)).sqrt().recip()
    }

    /// The reference of similarities to users of a cohort.
    pub(super) fn reference(&self, similarities: &mut [f32]) -> Reference {
        let users = similarities.len().min(NEAREST) as f32;
        let (mean, deviation) = nearest_spread(similarities);
        let (of_mean, of_variance) = PRIOR_USERS;
        let sum_of_squares =
            users * deviation.powi(2) + of_variance * self.impostor_deviation.powi(2);
        Reference {
            mean: (users * mean + of_mean * self.impostor_mean) / (users + of_mean),
            deviation: (sum_of_squares / (users + of_variance)).sqrt(),
        }
    }

    /// By how many standard deviations a similarity is above those of strangers.
    pub(super) fn strength(
        &self,
        similarity: f32,
        template: Reference,
        probe: Reference,
        windows: u32,
    ) -> f32 {
        let [a, b] =
            [template, probe].map(|reference| (similarity - reference.mean) / reference.deviation);
        let noise = (1.0 + self.window_noise / windows.max(1) as f32).sqrt();
        f32::midpoint(a, b).min(a.min(b) + MOST_DISAGREEMENT) / noise
    }

    /// The thresholds for a gallery whose users have these strengths among one another.
    pub fn refine(&self, pairs: &[f32], users: usize) -> Tails {
        let found = Tail::fit_few(pairs).filter(|_| pairs.len() >= FEWEST_PAIRS);
        let users = if found.is_some() { users } else { 0 };
        let share = users as f32 / (users as f32 + PRIOR_GALLERY_USERS);
        let margin = FEW_USERS_MARGIN * (1.0 - share).powi(2);
        let refined = |tail: Tail| {
            let moved = tail.moved(share, self.pairs, found.unwrap_or(self.pairs));
            Tail(moved.0.map(|strength| strength + margin))
        };
        let Tails { single, session, .. } = self.prior;
        Tails { single: refined(single), session: refined(session), users }
    }

    /// As a model file's metrics, rounded.
    pub fn to_metrics(&self) -> BTreeMap<String, f32> {
        let (low, high) = self.familiar_coherence.clone().into_inner();
        let singles = [
            (COHERENCE, self.coherence),
            (IMPOSTOR_MEAN, self.impostor_mean),
            (IMPOSTOR_DEVIATION, self.impostor_deviation),
            (WINDOW_NOISE, self.window_noise),
            (LEAST_COHERENCE, low),
            (LARGEST_COHERENCE, high),
        ];
        let singles = singles.map(|(name, value)| (name.to_owned(), value));
        let tails =
            [(SINGLE, self.prior.single), (SESSION, self.prior.session), (PAIRS, self.pairs)];
        let tails = tails.into_iter().flat_map(|(name, Tail(strengths))| {
            FALSE_MATCH_RATES
                .iter()
                .zip(strengths)
                .map(move |(fmr, it)| (tail_metric(name, *fmr), it))
        });
        singles.into_iter().chain(tails).map(|(name, value)| (name, rounded(value))).collect()
    }

    /// From a model file's metrics.
    ///
    /// Files from before there were calibrations have lines of log-likelihood ratios or thresholds
    /// instead; what these say of strangers becomes the prior.
    ///
    /// # Errors
    /// The name of a metric that is missing or that cannot be used.
    pub fn from_metrics(metrics: &BTreeMap<String, f32>) -> Result<Self, String> {
        if !metrics.contains_key(COHERENCE)
            && let Some(calibration) = Self::from_older_metrics(metrics)
        {
            return Ok(calibration);
        }
        let read = |name: &str, range: RangeInclusive<f32>| match metrics.get(name) {
            Some(value) if range.contains(value) => Ok(*value),
            _ => Err(name.to_owned()),
        };
        let tail = |name| {
            let mut strengths = [0.0; FALSE_MATCH_RATES.len()];
            for (strength, fmr) in strengths.iter_mut().zip(FALSE_MATCH_RATES) {
                *strength = read(&tail_metric(name, fmr), -100.0..=100.0)?;
            }
            Tail::new(strengths).ok_or_else(|| tail_metric(name, FALSE_MATCH_RATES[0]))
        };
        let least_coherence = read(LEAST_COHERENCE, 0.0..=1.0)?;
        Ok(Self {
            coherence: read(COHERENCE, 0.05..=1.0)?,
            impostor_mean: read(IMPOSTOR_MEAN, -1.0..=1.0)?,
            impostor_deviation: read(IMPOSTOR_DEVIATION, 0.01..=1.0)?,
            window_noise: read(WINDOW_NOISE, 0.0..=100.0)?,
            prior: Tails { single: tail(SINGLE)?, session: tail(SESSION)?, users: 0 },
            pairs: tail(PAIRS)?,
            familiar_coherence: least_coherence..=read(LARGEST_COHERENCE, least_coherence..=1.0)?,
        })
    }

    /// Strangers' scores as normal, with the quantiles that the older metrics name for ten seconds.
    fn from_older_metrics(metrics: &BTreeMap<String, f32>) -> Option<Self> {
        const FMRS: [f32; 2] = [0.01, 0.001];
        /// The normal distribution's quantiles at these rates.
        const QUANTILES: [f32; 2] = [2.326, 3.090];
        let metric = |name: &str| metrics.get(name).copied().filter(|value| value.is_finite());
        let score = |fmr: f32| match (metric("llr_slope_8"), metric("llr_offset_8")) {
            (Some(slope), Some(offset)) if slope > 0.0 => {
                Some(((-fmr.ln() - offset) / slope).tanh())
            }
            _ => metric(&format!("verification_threshold_at_fmr_{fmr}")),
        };
        let [low, high] = FMRS.map(score);
        let deviation = (high? - low?) / (QUANTILES[1] - QUANTILES[0]);
        let deviation = deviation.clamp(0.02, 0.5);
        let tail = |strengths| Tail::new(strengths).expect("rises");
        Some(Self {
            coherence: 1.0,
            impostor_mean: (low? - QUANTILES[0] * deviation).clamp(-1.0, 1.0),
            impostor_deviation: deviation,
            window_noise: 0.0,
            prior: Tails {
                single: tail([1.3, 2.7, 4.1]),
                session: tail([1.7, 3.0, 4.4]),
                users: 0,
            },
            pairs: tail([1.4, 2.7, 4.0]),
            familiar_coherence: 0.0..=1.0,
        })
    }
}

const COHERENCE: &str = "coherence";
const IMPOSTOR_MEAN: &str = "impostor_mean";
const IMPOSTOR_DEVIATION: &str = "impostor_deviation";
const WINDOW_NOISE: &str = "window_noise";
const LEAST_COHERENCE: &str = "least_coherence";
const LARGEST_COHERENCE: &str = "largest_coherence";
const SINGLE: &str = "single";
const SESSION: &str = "session";
const PAIRS: &str = "pairs";

fn tail_metric(name: &str, fmr: f64) -> String {
    format!("{name}_strength_at_fmr_{fmr}")
}

/// To five digits, as many as are worth their place in a model file.
fn rounded(value: f32) -> f32 {
    format!("{value:.4e}").parse().expect("a number as it is written can be read")
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    use rand_pcg::Pcg64Mcg;

    use super::*;

    /// Strangers have a similarity of about 0.
    pub fn calibration() -> Calibration {
        let tail = |strengths| Tail::new(strengths).unwrap();
        Calibration {
            coherence: 0.9,
            impostor_mean: 0.0,
            impostor_deviation: 0.1,
            window_noise: 0.5,
            prior: Tails {
                single: tail([1.3, 2.4, 3.2]),
                session: tail([1.5, 2.7, 3.6]),
                users: 0,
            },
            pairs: tail([1.3, 2.4, 3.2]),
            familiar_coherence: 0.0..=1.0,
        }
    }

    fn normal(seed: u64, count: usize) -> Vec<f32> {
        StandardNormal.sample_iter(Pcg64Mcg::seed_from_u64(seed)).take(count).collect()
    }

    #[test]
    fn a_fitted_tail_tells_the_rates_of_a_normal_distribution() {
        let tail = Tail::fit(&normal(1, 100_000)).unwrap();
        for (strength, fmr) in [(1.282, 0.1), (2.326, 0.01), (3.09, 0.001)] {
            let told = tail.fmr(strength);
            assert!((told / fmr).ln().abs() < 0.35, "{strength}: {told}");
        }
        let few = Tail::fit_few(&normal(2, 500)).unwrap();
        assert!((few.fmr(2.326) / 0.01).ln().abs() < 0.8, "{few:?}");
        assert_eq!(Tail::fit(&[]), None);
        assert_eq!(Tail::new([1.0, 1.0, 2.0]), None);
        assert_eq!(Tail::new([1.0, f32::NAN, 2.0]), None);
    }

    #[test]
    fn a_gallery_moves_the_thresholds_by_its_size() {
        let calibration = calibration();
        let stronger: Vec<f32> = normal(3, 5000).iter().map(|value| value + 1.0).collect();
        let fmr = |tails: Tails| tails.single.fmr(3.0);
        let [few, more, many] =
            [3, 30, 1000].map(|users| fmr(calibration.refine(&stronger, users)));
        assert!(few < more && more < many, "{few} {more} {many}");
        assert!((many / 0.023).ln().abs() < 0.5, "{many}");
        // As long as nothing is known, a strength says less.
        let none = calibration.refine(&[], 0);
        assert!(none.users == 0 && fmr(none) > fmr(calibration.prior));
    }

    #[test]
    fn one_person_under_two_ids_does_not_shut_others_out() {
        let calibration = calibration();
        // Six users, two of whom match one another beyond doubt.
        let mut pairs = normal(4, 28);
        pairs.extend([9.0, 9.0]);
        let tails = calibration.refine(&pairs, 6);
        assert!(tails.users == 6 && tails.single.fmr(3.2 + 1.0) < 0.001, "{tails:?}");
        assert_eq!(calibration.refine(&pairs[..12], 4).users, 0);
    }

    #[test]
    fn fewer_windows_are_less_alike_and_say_less() {
        let calibration = calibration();
        let attenuation = [1, 2, 9, 1000].map(|windows| calibration.attenuation(windows));
        assert!((attenuation[0] - 0.9).abs() < 1e-6 && attenuation[3] > 0.999);
        assert!(attenuation.is_sorted());
        let reference = calibration.reference(&mut []);
        let strength = |windows| calibration.strength(0.5, reference, reference, windows);
        assert!(strength(1) < strength(9) && (strength(10_000) - 5.0).abs() < 0.01);
    }

    #[test]
    fn a_probe_that_resembles_everybody_is_weak() {
        let calibration = calibration();
        let template = calibration.reference(&mut [0.0; 30]);
        let strength = |mut others: Vec<f32>| {
            calibration.strength(0.6, template, calibration.reference(&mut others), 20)
        };
        assert!(strength(vec![0.0; 30]) > 5.0 && strength(vec![0.6; 30]) < 2.3);
        // Only the nearest count.
        let nearest = [vec![0.5; NEAREST], vec![0.0; 100]].concat();
        assert_eq!(strength(nearest), strength(vec![0.5; NEAREST]));
    }

    proptest! {
        #[test]
        fn the_rate_falls_with_the_strength(
            first in -3.0..3.0f32,
            steps in prop::array::uniform2(0.1..3.0f32),
            strengths in (-9.0..9.0f32, -9.0..9.0f32),
        ) {
            let tail = Tail::new([first, first + steps[0], first + steps[0] + steps[1]]).unwrap();
            let (low, high) = (strengths.0.min(strengths.1), strengths.0.max(strengths.1));
            prop_assert!(tail.fmr(low) >= tail.fmr(high) && tail.fmr(low) <= 1.0);
            for (strength, fmr) in tail.0.into_iter().zip(FALSE_MATCH_RATES) {
                prop_assert!((tail.fmr(strength) / fmr).ln().abs() < 1e-3);
            }
        }
    }

    #[test]
    fn a_model_file_keeps_it() {
        let calibration = calibration();
        let metrics = calibration.to_metrics();
        assert_eq!(Calibration::from_metrics(&metrics), Ok(calibration));
        for name in metrics.keys() {
            for bad in [None, Some(f32::NAN)] {
                let mut metrics = metrics.clone();
                metrics.remove(name);
                metrics.extend(bad.map(|bad| (name.clone(), bad)));
                assert!(Calibration::from_metrics(&metrics).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn older_files_say_how_alike_strangers_are() {
        let thresholds = BTreeMap::from([
            ("verification_threshold_at_fmr_0.01".to_owned(), 0.5),
            ("verification_threshold_at_fmr_0.001".to_owned(), 0.5 + 0.0764),
        ]);
        let calibration = Calibration::from_metrics(&thresholds).unwrap();
        assert!((calibration.impostor_deviation - 0.1).abs() < 1e-3);
        assert!((calibration.impostor_mean - 0.2674).abs() < 1e-3);
        let lines =
            BTreeMap::from([("llr_slope_8".to_owned(), 10.0), ("llr_offset_8".to_owned(), -4.0)]);
        assert!(Calibration::from_metrics(&lines).is_ok());
        assert!(Calibration::from_metrics(&BTreeMap::new()).is_err());
    }
}

//! A calibration as metrics of a model file.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Calibration, FALSE_MATCH_RATES, Tail, Tails};

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

/// Rounds to five digits.
fn rounded(value: f32) -> f32 {
    format!("{value:.4e}").parse().expect("a formatted number can be parsed")
}

impl Calibration {
    /// The metrics for a model file, rounded.
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

    /// Reads the metrics of a model file.
    ///
    /// Older files have no calibration, but log-likelihood ratios or thresholds. These give a prior.
    ///
    /// # Errors
    /// The name of a metric that is missing or out of range.
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

    /// Takes impostor scores as normally distributed, with the older metrics for ten seconds as
    /// quantiles.
    fn from_older_metrics(metrics: &BTreeMap<String, f32>) -> Option<Self> {
        const FMRS: [f32; 2] = [0.01, 0.001];
        /// Quantiles of the normal distribution at these rates.
        const QUANTILES: [f32; 2] = [2.326, 3.090];
        let metric = |name: &str| metrics.get(name).copied().filter(|value| value.is_finite());
        let score = |fmr: f32| match (metric("llr_slope_8"), metric("llr_offset_8")) {
            (Some(slope), Some(offset)) if slope > 0.0 => {
                Some(libm::tanhf((-libm::logf(fmr) - offset) / slope))
            }
            _ => metric(&format!("verification_threshold_at_fmr_{fmr}")),
        };
        let [low, high] = FMRS.map(score);
        let deviation = (high? - low?) / (QUANTILES[1] - QUANTILES[0]);
        let deviation = deviation.clamp(0.02, 0.5);
        let tail = |strengths| Tail::new(strengths).expect("the strengths rise");
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

#[cfg(test)]
mod tests {
    use super::super::tests::calibration;
    use super::*;

    #[test]
    fn metrics_keep_a_calibration() {
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
    fn older_metrics_give_the_similarity_of_impostors() {
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

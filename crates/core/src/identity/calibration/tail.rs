//! From strengths to false match rates.

/// False match rates that a caller of a verification can choose.
pub const FALSE_MATCH_RATES: [f64; 3] = [0.1, 0.01, 0.001];

/// The lowest of [`FALSE_MATCH_RATES`].
pub const STRICTEST_FMR: f64 = FALSE_MATCH_RATES[2];

/// A gallery moves a threshold by at most this. One person with two ids must not shut out everyone
/// else.
const MOST_CHANGE: f32 = 1.0;

/// The upper tail of a distribution of impostor strengths: one strength for each of
/// [`FALSE_MATCH_RATES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail(pub(super) [f32; FALSE_MATCH_RATES.len()]);

impl Tail {
    /// A tail with these strengths. `None` unless they are finite and rise.
    pub fn new(strengths: [f32; FALSE_MATCH_RATES.len()]) -> Option<Self> {
        let rises = strengths.array_windows().all(|[a, b]| a < b);
        (rises && strengths.iter().all(|strength| strength.is_finite())).then_some(Self(strengths))
    }

    /// The strengths, one for each of [`FALSE_MATCH_RATES`].
    pub fn strengths(self) -> [f32; FALSE_MATCH_RATES.len()] {
        self.0
    }

    /// Fits a tail to many strengths. The last percent is taken as exponential.
    pub fn fit(strengths: &[f32]) -> Option<Self> {
        let [tenth, hundredth] = upper_quantiles(strengths, [0.1, 0.01])?;
        let thousandth = hundredth + mean_excess(strengths, hundredth) * 10f32.ln();
        Self::new([tenth, hundredth, thousandth])
    }

    /// Fits a tail to few strengths. The upper tenth is taken as exponential.
    pub fn fit_few(strengths: &[f32]) -> Option<Self> {
        let [tenth] = upper_quantiles(strengths, [0.1])?;
        let decade = mean_excess(strengths, tenth) * 10f32.ln();
        Self::new([tenth, tenth + decade, tenth + 2.0 * decade])
    }

    /// The larger strength of two tails at each rate.
    pub fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }

    /// The mean strength at each rate; `None` without tails.
    pub fn mean(tails: &[Self]) -> Option<Self> {
        let mean =
            |at: usize| tails.iter().map(|tail| tail.0[at]).sum::<f32>() / tails.len() as f32;
        Self::new(std::array::from_fn(mean))
    }

    /// The share of impostors with at least this strength.
    ///
    /// Its logarithm is linear in the strength, between the fitted rates and beyond them.
    pub fn fmr(&self, strength: f32) -> f64 {
        let below = usize::from(strength >= self.0[1]);
        let [from, to] = [self.0[below], self.0[below + 1]];
        let [log_from, log_to] = [below, below + 1].map(|at| libm::log(FALSE_MATCH_RATES[at]));
        let part = f64::from((strength - from) / (to - from));
        libm::exp(log_from + (log_to - log_from) * part).min(1.0)
    }

    /// This tail moved by a share of the difference between two others.
    pub(super) fn moved(self, share: f32, from: Self, to: Self) -> Self {
        let change = |at: usize| (to.0[at] - from.0[at]).clamp(-MOST_CHANGE, MOST_CHANGE);
        let moved = std::array::from_fn(|at| self.0[at] + share * change(at));
        Self::new(moved).unwrap_or(self)
    }
}

/// The lowest strengths that these shares of all strengths reach. `None` without strengths.
fn upper_quantiles<const N: usize>(strengths: &[f32], shares: [f32; N]) -> Option<[f32; N]> {
    let mut sorted = strengths.to_vec();
    sorted.sort_by(f32::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(shares.map(|share| sorted[((1.0 - share) * last as f32).round() as usize]))
}

/// Mean excess of the strengths above a threshold.
fn mean_excess(strengths: &[f32], threshold: f32) -> f32 {
    const LEAST: f32 = 0.1;
    let above = strengths.iter().filter(|&&strength| strength > threshold);
    let (count, sum) =
        above.fold((0u32, 0.0), |(count, sum), strength| (count + 1, sum + strength - threshold));
    (sum / count.max(1) as f32).max(LEAST)
}

/// The thresholds in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tails {
    /// The tail for one comparison with one probe.
    pub single: Tail,
    /// The tail for the strongest comparison of a session that grows to 30 s.
    pub session: Tail,
    /// Number of users that refined the thresholds; 0 for the prior from the model file.
    pub users: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::normal;
    use super::*;

    #[test]
    fn a_fitted_tail_has_the_rates_of_a_normal_distribution() {
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
}

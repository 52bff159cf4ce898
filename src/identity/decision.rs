//! From scores to answers: Wald's sequential probability ratio test (1945) over windows of walking.

use super::{Candidate, LikelihoodRatio, UserId};

/// Windows of walking from which on what is not accepted is rejected: thirty seconds of one walk,
/// which tell about as much as it will tell.
pub const LAST_WINDOWS: u32 = 29;

/// The false non-match rate that tests are planned for: evidence that rejects is as strong.
const FNMR: f64 = 0.01;

/// Share of strangers who may be identified as somebody: false-positive identification rate.
pub const FPIR: f64 = 0.03;

/// Windows of walking, over all enrollments, from which on a user is well enough known: thirty
/// seconds in one walk.
pub const READY_WINDOWS: u64 = 29;

/// Who a probe is (1:N).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// An enrolled user.
    Identified(UserId),
    /// Nobody who is enrolled, as far as can be told.
    Unknown,
    /// Too short a walk to tell.
    Inconclusive,
}

impl Decision {
    /// Of the nearest candidate, if any, of so many users that a probe was `compared` with. The more
    /// there are, the more alike the nearest must be.
    pub fn new(
        nearest: Option<&Candidate>,
        likelihood: &LikelihoodRatio,
        compared: usize,
        windows: u32,
    ) -> Self {
        let Some(Candidate { user, score }) = nearest else { return Self::Unknown };
        match Verdict::new(*score, likelihood, fmr_among(compared), windows) {
            Verdict::Accept => Self::Identified(user.clone()),
            Verdict::Inconclusive => Self::Inconclusive,
            Verdict::Reject | Verdict::SuspectedReplay => Self::Unknown,
        }
    }
}

/// The false match rate of one comparison at which strangers are identified among so many users at a
/// rate of [`FPIR`]: `1 - (1 - FMR)^N = FPIR`.
pub fn fmr_among(users: usize) -> f64 {
    -((-FPIR).ln_1p() / users.max(1) as f64).exp_m1()
}

/// Whether a probe is the user that it claims to be (1:1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Accept,
    /// It is not.
    Reject,
    /// Too short a walk to tell.
    Inconclusive,
    /// It is a walk that was sent before.
    SuspectedReplay,
}

impl Verdict {
    /// Of the score against the user's template after so many windows, at a false match rate.
    pub fn new(score: f32, likelihood: &LikelihoodRatio, fmr: f64, windows: u32) -> Self {
        let llr = f64::from(likelihood.llr(score, windows));
        if llr >= ((1.0 - FNMR) / fmr).ln() {
            Self::Accept
        } else if llr <= (FNMR / (1.0 - fmr)).ln() || windows >= LAST_WINDOWS {
            Self::Reject
        } else {
            Self::Inconclusive
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, Normal};
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::identity::{Line, WINDOW_COUNTS};

    fn likelihood(slope: f32, offset: f32) -> LikelihoodRatio {
        LikelihoodRatio::new([Line { slope, offset }; 5])
    }

    #[test]
    fn an_answer_waits_for_evidence_but_not_for_ever() {
        let candidate = |score| Candidate { user: "ann".parse().unwrap(), score };
        let likelihood = likelihood(10.0, -5.0);
        let decide = |score, users, windows| {
            Decision::new(Some(&candidate(score)), &likelihood, users, windows)
        };
        let ann = Decision::Identified("ann".parse().unwrap());
        assert_eq!(decide(0.8, 1, 1), ann);
        assert_eq!(decide(0.8, 100, 1), Decision::Inconclusive);
        assert_eq!(decide(0.9, 100, 1), ann);
        assert_eq!(decide(0.8, 100, LAST_WINDOWS - 1), Decision::Inconclusive);
        assert_eq!(decide(0.8, 100, LAST_WINDOWS), Decision::Unknown);
        assert_eq!(decide(0.0, 100, 1), Decision::Unknown);
        assert_eq!(Decision::new(None, &likelihood, 0, 1), Decision::Unknown);
        let verdict = |score, fmr, windows| Verdict::new(score, &likelihood, fmr, windows);
        assert_eq!(verdict(0.8, 0.01, 1), Verdict::Accept);
        assert_eq!(verdict(0.8, 0.001, 1), Verdict::Inconclusive);
        assert_eq!(verdict(0.8, 0.001, LAST_WINDOWS), Verdict::Reject);
        assert_eq!(verdict(0.0, 0.1, 1), Verdict::Reject);
    }

    proptest! {
        #[test]
        fn more_users_ask_for_more_likeness(users in 1..1_000_000usize, more in 1..1000usize) {
            let fmr = fmr_among(users);
            prop_assert!(fmr_among(users + more) < fmr && fmr < 1.0);
            let fpir = 1.0 - (1.0 - fmr).powf(users as f64);
            prop_assert!((fpir - FPIR).abs() < 1e-6, "{}", fpir);
        }

        #[test]
        fn a_higher_score_is_never_a_worse_answer(
            line in (0.1..20.0f32, -20.0..20.0f32),
            scores in (-1.0..=1.0f32, -1.0..=1.0f32),
            fmr in 1e-9..0.1f64,
            windows in 1..40u32,
        ) {
            let rank = |score| match Verdict::new(score, &likelihood(line.0, line.1), fmr, windows) {
                Verdict::Reject | Verdict::SuspectedReplay => 0,
                Verdict::Inconclusive => 1,
                Verdict::Accept => 2,
            };
            prop_assert!(rank(scores.0.min(scores.1)) <= rank(scores.0.max(scores.1)));
        }
    }

    /// Of walks whose windows' values are normal, the mean as their score: shares that are accepted
    /// at a false match rate, of other people's walks and of the own.
    fn accepted(fmr: f64) -> (f64, f64) {
        const WALKS: usize = 20_000;
        let (mean, deviation) = (0.6f32, 0.6f32);
        // The ratio of the mean of n values: n * mean / variance * (z - mean / 2).
        let lines = WINDOW_COUNTS.map(|windows| {
            let slope = windows as f32 * mean / deviation.powi(2);
            Line { slope, offset: -slope * mean / 2.0 }
        });
        let likelihood = LikelihoodRatio::new(lines);
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut share = |mean: f32| {
            let values = Normal::new(mean, deviation).unwrap();
            let accepted = (0..WALKS).filter(|_| {
                let mut sum = 0.0;
                // As often as the ratio is exact.
                let verdicts = (1..=16u32).map(|windows| {
                    sum += values.sample(&mut random);
                    let score = (sum / windows as f32).tanh();
                    (windows, Verdict::new(score, &likelihood, fmr, windows))
                });
                let of_counts = verdicts.filter(|(windows, _)| WINDOW_COUNTS.contains(windows));
                let mut verdicts = of_counts.map(|(_, verdict)| verdict);
                verdicts.find(|verdict| *verdict != Verdict::Inconclusive) == Some(Verdict::Accept)
            });
            accepted.count() as f64 / WALKS as f64
        };
        (share(0.0), share(mean))
    }

    #[test]
    fn a_sequence_of_looks_keeps_the_false_match_rate() {
        for fmr in [0.1, 0.01, 0.001] {
            let (others, own) = accepted(fmr);
            assert!(others <= fmr && others > 0.0, "{fmr}: {others}");
            assert!(own > 0.5, "{fmr}: {own}");
        }
    }
}

//! From strengths to decisions.

use super::calibration::{Calibration, Tail};
use super::{Candidate, Template, UserId};

/// A probe with this many windows is accepted or rejected: thirty seconds of one walk. A longer walk
/// adds little.
pub const LAST_WINDOWS: u32 = 29;

/// A probe with fewer windows is inconclusive. Four windows are five seconds of one walk.
pub const FIRST_WINDOWS: u32 = 4;

/// A probe below this strength, that of an average impostor, is rejected before thirty seconds.
/// Genuine walks that start this weak rarely end in a match.
const REJECT_BELOW: f32 = 0.0;

/// False-positive identification rate (FPIR): the share of strangers who are identified as a user.
const FPIR: f64 = 0.03;

/// The loosest false match rate at which features are decided. Made-up features that are accepted at
/// a looser rate would show the way to a stricter one.
pub const FEATURES_FMR: f64 = 0.001;

/// Windows, over all enrollments, that a user needs to be ready: thirty seconds in one walk.
pub const READY_WINDOWS: u64 = 29;

/// Why a result is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The walk is too short.
    TooShort,
    /// The movement is unlike the walks of the training, so its error rate is unknown.
    Unfamiliar,
    /// Several users match.
    Ambiguous,
    /// The mirror image of the walk matches a user: axes or signs are wrong.
    Mirrored,
}

/// The result of an identification (1:N).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The walker is this user.
    Identified(UserId),
    /// The walker is probably not enrolled.
    Unknown,
    /// There is no decision yet.
    Inconclusive(Doubt),
}

/// If this many users match, the result is ambiguous.
const AMBIGUOUS: usize = 3;

impl Decision {
    /// Decides from the strongest candidates, strongest first.
    ///
    /// `compared` is the number of users that the probe was compared with. With more users, the first
    /// candidate must be stronger.
    pub fn new(
        candidates: &[Candidate],
        compared: usize,
        probe: &Template,
        calibration: &Calibration,
        tail: &Tail,
    ) -> Self {
        let Some(Candidate { user, strength, .. }) = candidates.first() else {
            return Self::Unknown;
        };
        let fmr = fmr_among(compared);
        match Verdict::new(*strength, probe, fmr, calibration, tail) {
            Verdict::Accept => {
                let matches = |candidate: &&Candidate| tail.fmr(candidate.strength) <= fmr;
                match candidates.iter().filter(matches).count() {
                    AMBIGUOUS.. => Self::Inconclusive(Doubt::Ambiguous),
                    _ => Self::Identified(user.clone()),
                }
            }
            Verdict::Inconclusive(doubt) => Self::Inconclusive(doubt),
            Verdict::Reject | Verdict::SuspectedReplay => Self::Unknown,
        }
    }
}

impl Decision {
    /// The decision about features, given the false match rate at the strength of the nearest user.
    ///
    /// Unless a user is identified, it depends on the number of windows alone: anything else would
    /// tell somebody who makes up features whether they come closer.
    pub fn of_features(self, nearest_fmr: f64, windows: u32) -> Self {
        match self {
            Self::Identified(user) if nearest_fmr <= FEATURES_FMR => Self::Identified(user),
            _ if windows < LAST_WINDOWS => Self::Inconclusive(Doubt::TooShort),
            _ => Self::Unknown,
        }
    }
}

/// The false match rate of one comparison that gives [`FPIR`] among N users:
/// `1 - (1 - FMR)^N = FPIR`.
fn fmr_among(users: usize) -> f64 {
    -((-FPIR).ln_1p() / users.max(1) as f64).exp_m1()
}

/// The result of a verification (1:1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The walker is the claimed user.
    Accept,
    /// The walker is not the claimed user.
    Reject,
    /// There is no decision yet.
    Inconclusive(Doubt),
    /// The recording was sent before.
    SuspectedReplay,
}

impl Verdict {
    /// The verdict about features. See [`Decision::of_features`].
    pub fn of_features(self, windows: u32) -> Self {
        match self {
            Self::Accept | Self::SuspectedReplay => self,
            _ if windows < LAST_WINDOWS => Self::Inconclusive(Doubt::TooShort),
            _ => Self::Reject,
        }
    }

    /// Decides from the strength of a probe at a false match rate.
    pub fn new(
        strength: f32,
        probe: &Template,
        fmr: f64,
        calibration: &Calibration,
        tail: &Tail,
    ) -> Self {
        let windows = probe.windows();
        if windows < FIRST_WINDOWS {
            return Self::Inconclusive(Doubt::TooShort);
        }
        let matches = tail.fmr(strength) <= fmr;
        let coherence = probe.coherence();
        let familiar =
            coherence.is_some_and(|coherence| calibration.familiar_coherence.contains(&coherence));
        if matches && familiar {
            Self::Accept
        } else if strength < REJECT_BELOW || (windows >= LAST_WINDOWS && !matches) {
            Self::Reject
        } else if matches {
            Self::Inconclusive(Doubt::Unfamiliar)
        } else {
            Self::Inconclusive(Doubt::TooShort)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::calibration::tests::calibration;
    use super::*;

    fn probe(windows: u32) -> Template {
        let mut probe = Template::empty(2);
        (0..windows).for_each(|_| probe.add_window(&[1.0, 0.0]));
        probe
    }

    fn verdict(strength: f32, fmr: f64, windows: u32) -> Verdict {
        let calibration = calibration();
        Verdict::new(strength, &probe(windows), fmr, &calibration, &calibration.prior.single)
    }

    #[test]
    fn a_verdict_is_inconclusive_for_at_most_thirty_seconds() {
        let short = Verdict::Inconclusive(Doubt::TooShort);
        assert_eq!(verdict(2.5, 0.01, 4), Verdict::Accept);
        assert_eq!(verdict(9.0, 0.1, 3), short);
        assert_eq!(verdict(-9.0, 0.1, 3), short);
        assert_eq!(verdict(2.5, 0.001, 4), short);
        assert_eq!(verdict(2.5, 0.001, LAST_WINDOWS - 1), short);
        assert_eq!(verdict(2.5, 0.001, LAST_WINDOWS), Verdict::Reject);
        assert_eq!(verdict(-0.1, 0.1, 4), Verdict::Reject);
    }

    #[test]
    fn an_unfamiliar_movement_is_never_accepted() {
        let calibration = Calibration { familiar_coherence: 0.2..=0.9, ..calibration() };
        for windows in [4, LAST_WINDOWS, 99] {
            let tail = &calibration.prior.single;
            let verdict =
                |strength| Verdict::new(strength, &probe(windows), 0.1, &calibration, tail);
            assert_eq!(verdict(9.0), Verdict::Inconclusive(Doubt::Unfamiliar));
            assert_eq!(verdict(-0.1), Verdict::Reject);
        }
    }

    #[test]
    fn a_decision_about_features_tells_no_more_than_their_number() {
        let ann: UserId = "ann".parse().unwrap();
        let doubts = [Doubt::TooShort, Doubt::Unfamiliar, Doubt::Ambiguous];
        for (windows, short) in [(8, true), (LAST_WINDOWS - 1, true), (LAST_WINDOWS, false)] {
            let verdict =
                if short { Verdict::Inconclusive(Doubt::TooShort) } else { Verdict::Reject };
            let verdicts = doubts.map(Verdict::Inconclusive);
            for other in verdicts.into_iter().chain([Verdict::Reject]) {
                assert_eq!(other.of_features(windows), verdict);
            }
            let decision =
                if short { Decision::Inconclusive(Doubt::TooShort) } else { Decision::Unknown };
            let decisions = doubts.map(Decision::Inconclusive);
            let weak = Decision::Identified(ann.clone());
            for other in decisions.into_iter().chain([Decision::Unknown, weak]) {
                assert_eq!(other.of_features(0.002, windows), decision);
            }
            let strong = Decision::Identified(ann.clone());
            assert_eq!(strong.clone().of_features(0.001, windows), strong);
            assert_eq!(Verdict::Accept.of_features(windows), Verdict::Accept);
        }
    }

    #[test]
    fn a_probe_that_matches_many_users_is_ambiguous() {
        let calibration = calibration();
        let decide = |strengths: &[f32], users, windows| {
            let candidates: Vec<Candidate> = strengths
                .iter()
                .zip(["ann", "bob", "cem"])
                .map(|(&strength, user)| Candidate {
                    user: user.parse().unwrap(),
                    score: 0.5,
                    strength,
                })
                .collect();
            let tail = &calibration.prior.single;
            Decision::new(&candidates, users, &probe(windows), &calibration, tail)
        };
        let ann = Decision::Identified("ann".parse().unwrap());
        assert_eq!(decide(&[3.0, 1.0, 0.0], 3, 9), ann);
        assert_eq!(decide(&[3.0, 3.0, 0.0], 3, 9), ann);
        assert_eq!(decide(&[3.0, 3.0, 3.0], 3, 9), Decision::Inconclusive(Doubt::Ambiguous));
        assert_eq!(decide(&[3.0, 1.0, 0.0], 1000, 9), Decision::Inconclusive(Doubt::TooShort));
        assert_eq!(decide(&[3.0, 1.0, 0.0], 1000, LAST_WINDOWS), Decision::Unknown);
        assert_eq!(decide(&[-0.1], 1, 9), Decision::Unknown);
        assert_eq!(decide(&[], 0, 9), Decision::Unknown);
    }

    proptest! {
        #[test]
        fn more_users_need_a_lower_match_rate(users in 1..1_000_000usize, more in 1..1000usize) {
            let fmr = fmr_among(users);
            prop_assert!(fmr_among(users + more) < fmr && fmr < 1.0);
            let fpir = 1.0 - (1.0 - fmr).powf(users as f64);
            prop_assert!((fpir - FPIR).abs() < 1e-6, "{}", fpir);
        }

        #[test]
        fn a_stronger_match_never_gives_a_worse_verdict(
            strengths in (-9.0..9.0f32, -9.0..9.0f32),
            fmr in 1e-9..0.1f64,
            windows in 1..40u32,
        ) {
            let rank = |strength| match verdict(strength, fmr, windows) {
                Verdict::Reject | Verdict::SuspectedReplay => 0,
                Verdict::Inconclusive(_) => 1,
                Verdict::Accept => 2,
            };
            prop_assert!(rank(strengths.0.min(strengths.1)) <= rank(strengths.0.max(strengths.1)));
        }
    }
}

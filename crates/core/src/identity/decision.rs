//! From strengths to answers.

use super::calibration::{Calibration, Tail};
use super::{Candidate, Template, UserId};

/// Windows of walking from which on what is not accepted is rejected: thirty seconds of one walk,
/// which tell about as much as it will tell.
pub const LAST_WINDOWS: u32 = 29;

/// Windows of walking before which nothing is decided: five seconds of one walk.
pub const FIRST_WINDOWS: u32 = 4;

/// Strength below which a walker is rejected before thirty seconds: as little alike as the average
/// stranger. Genuine walks that weak hardly ever end in a match.
const REJECT_BELOW: f32 = 0.0;

/// Share of strangers who may be identified as somebody: false-positive identification rate.
pub const FPIR: f64 = 0.03;

/// Windows of walking, over all enrollments, from which on a user is well enough known: thirty
/// seconds in one walk.
pub const READY_WINDOWS: u64 = 29;

/// Why there is no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Too short a walk to tell.
    TooShort,
    /// A movement that is unlike walks of the training, so that no error rate is known for it.
    Unfamiliar,
    /// Several users match about equally.
    Ambiguous,
}

/// Who a probe is (1:N).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// An enrolled user.
    Identified(UserId),
    /// Nobody who is enrolled, as far as can be told.
    Unknown,
    /// It cannot be told.
    Inconclusive(Doubt),
}

/// Users who match at the rate asked for, from which on none of them is named.
const AMBIGUOUS: usize = 3;

impl Decision {
    /// Decides by the strongest candidates, strongest first, of the users that a probe was `compared`
    /// with. The more there are, the stronger the first must be.
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
    /// It cannot be told.
    Inconclusive(Doubt),
    /// It is a walk that was sent before.
    SuspectedReplay,
}

impl Verdict {
    /// Decides by the strength of a probe at a false match rate.
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
    fn an_answer_waits_for_evidence_but_not_for_ever() {
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
    fn whoever_matches_many_is_nobody() {
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
        fn more_users_ask_for_more_likeness(users in 1..1_000_000usize, more in 1..1000usize) {
            let fmr = fmr_among(users);
            prop_assert!(fmr_among(users + more) < fmr && fmr < 1.0);
            let fpir = 1.0 - (1.0 - fmr).powf(users as f64);
            prop_assert!((fpir - FPIR).abs() < 1e-6, "{}", fpir);
        }

        #[test]
        fn a_stronger_match_is_never_a_worse_answer(
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

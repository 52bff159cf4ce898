//! From scores to answers.

use super::{Candidate, UserId};

/// Windows of walking from which on a low score means another person, not too little evidence:
/// about ten seconds, as long as the walks that thresholds are set on.
pub const ENOUGH_WINDOWS: u32 = 8;

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
    /// Of the nearest candidate, if any, after so many windows.
    pub fn new(nearest: Option<&Candidate>, threshold: f32, windows: u32) -> Self {
        match nearest {
            Some(candidate) if candidate.score >= threshold => {
                Self::Identified(candidate.user.clone())
            }
            Some(_) if windows < ENOUGH_WINDOWS => Self::Inconclusive,
            _ => Self::Unknown,
        }
    }
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
    /// Of the score against the user's template after so many windows.
    pub fn new(score: f32, threshold: f32, windows: u32) -> Self {
        if score >= threshold {
            Self::Accept
        } else if windows < ENOUGH_WINDOWS {
            Self::Inconclusive
        } else {
            Self::Reject
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_score_counts_only_with_enough_evidence() {
        let candidate = |score| Candidate { user: "ann".parse().unwrap(), score };
        let decide = |score, windows| Decision::new(Some(&candidate(score)), 0.8, windows);
        assert_eq!(decide(0.8, 1), Decision::Identified("ann".parse().unwrap()));
        assert_eq!(decide(0.79, ENOUGH_WINDOWS - 1), Decision::Inconclusive);
        assert_eq!(decide(0.79, ENOUGH_WINDOWS), Decision::Unknown);
        assert_eq!(Decision::new(None, 0.8, 1), Decision::Unknown);
        assert_eq!(Verdict::new(0.8, 0.8, 1), Verdict::Accept);
        assert_eq!(Verdict::new(0.79, 0.8, ENOUGH_WINDOWS - 1), Verdict::Inconclusive);
        assert_eq!(Verdict::new(0.79, 0.8, ENOUGH_WINDOWS), Verdict::Reject);
    }
}

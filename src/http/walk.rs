//! Converts between documents about walks and the types of the service.

use bipedalnet_client::api;
use bipedalnet_core::gait::{Mend, RecordingDocument};
use bipedalnet_core::identity::{Decision, Doubt, READY_WINDOWS, Tails, Verdict};

use super::problem::{Problem, ProblemType};
use crate::access::{Principal, Scope};
use crate::service::{Enrolled, Evidence, Identification, UserStatus, Verification};

/// The walk in a document, if its sender may send walks in this form.
pub(super) fn evidence(
    document: api::WalkDocument,
    principal: &Principal,
) -> Result<Evidence, Problem> {
    if document.features.is_some() && !principal.scopes.contains(Scope::Features) {
        return Err(Problem::missing_scope(Scope::Features));
    }
    let missing = |field: &'static str, detail: &'static str| {
        Problem::new(ProblemType::InvalidField, detail).at(field)
    };
    match (document.acceleration, document.features) {
        (Some(_), Some(_)) => {
            Err(missing("features", "send either a recording or features, not both"))
        }
        (None, None) => Err(missing(
            "acceleration",
            "there is no walk; send acceleration, or features and the id of their model",
        )),
        (None, Some(windows)) => {
            let needed = "send the id of the model that computed the features";
            let model = document.model.ok_or_else(|| missing("model", needed))?;
            Ok(Evidence::Features { model, windows })
        }
        (Some(acceleration), None) => Ok(Evidence::Recording(RecordingDocument {
            time_seconds: document.time_seconds,
            rate_hz: document.rate_hz,
            acceleration_unit: document.acceleration_unit.unwrap_or_default(),
            acceleration_scale: document.acceleration_scale,
            acceleration_at_rest: document.acceleration_at_rest.unwrap_or_default(),
            acceleration,
            angular_rate_unit: document.angular_rate_unit.unwrap_or_default(),
            angular_rate_scale: document.angular_rate_scale,
            angular_rate: document.angular_rate,
        })),
    }
}

/// Rounds a score. More digits would only help an attacker who searches for a match step by step.
fn shown(score: f32) -> f64 {
    (f64::from(score) * 100.0).round() / 100.0
}

/// Rounds a rate to two digits. Rates below one in a million were not measured.
fn shown_rate(rate: f64) -> f64 {
    format!("{:.1e}", rate.max(1e-6)).parse().expect("a formatted number can be parsed")
}

/// The share of the windows that make a user ready. Rounded down, so that only a ready user has 1.
fn progress(windows_missing: u64) -> f64 {
    let windows = READY_WINDOWS.saturating_sub(windows_missing);
    (windows * 100 / READY_WINDOWS) as f64 / 100.0
}

pub(super) fn user_answer(UserStatus { user, windows_missing }: UserStatus) -> api::UserAnswer {
    api::UserAnswer {
        user: user.id.to_string(),
        collection: Some(user.id.collection())
            .filter(|collection| !collection.is_default())
            .map(|collection| collection.to_string()),
        status: match windows_missing {
            0 => api::UserState::Ready,
            _ => api::UserState::Collecting,
        },
        windows: user.windows,
        windows_missing,
        progress: progress(windows_missing),
        enrollments: user.enrollments,
        occasions: user.occasions,
        next_step: match (windows_missing, user.occasions) {
            (1.., _) => Some(api::NextStep::WalkMore),
            (0, ..2) => Some(api::NextStep::WalkAnotherTime),
            (0, _) => None,
        },
        created_at_unix_seconds: user.created_at_unix_seconds,
        last_active_at_unix_seconds: user.last_active_at_unix_seconds,
        consent: user.consent.map(|consent| api::Consent {
            reference: consent.reference,
            given_at_unix_seconds: Some(consent.given_at_unix_seconds),
        }),
    }
}

pub(super) fn enrolled_answer(enrolled: Enrolled) -> api::EnrolledAnswer {
    let refused = enrolled.refused.iter().map(|(error, windows)| api::RefusedAnswer {
        r#type: ProblemType::of_signal(error).uri(),
        windows: *windows as u64,
        detail: error.to_string(),
    });
    api::EnrolledAnswer {
        enrollment: enrolled.enrollment,
        windows_accepted: enrolled.windows,
        windows_refused: refused.collect(),
        mended: mended(&enrolled.mends),
        user: user_answer(enrolled.status),
    }
}

fn mended(mends: &[Mend]) -> Vec<api::MendedAnswer> {
    let answer =
        |mend: &Mend| api::MendedAnswer { fault: mend.code().to_owned(), detail: mend.to_string() };
    mends.iter().map(answer).collect()
}

fn reason(doubt: Doubt) -> api::Doubt {
    match doubt {
        Doubt::TooShort => api::Doubt::TooShort,
        Doubt::Unfamiliar => api::Doubt::Unfamiliar,
        Doubt::Ambiguous => api::Doubt::Ambiguous,
        Doubt::Mirrored => api::Doubt::Mirrored,
    }
}

fn calibration(tails: Tails) -> api::CalibrationSource {
    match tails.users {
        0 => api::CalibrationSource::Model,
        _ => api::CalibrationSource::Gallery,
    }
}

pub(super) fn identify_answer(
    answer: Identification,
    principal: &Principal,
) -> api::IdentifyAnswer {
    use api::Identified::{Identified, Inconclusive, Unknown};
    let (decision, user, reason) = match answer.decision {
        Decision::Identified(user) => (Identified, Some(user.to_string()), None),
        Decision::Unknown => (Unknown, None, None),
        Decision::Inconclusive(doubt) => (Inconclusive, None, Some(reason(doubt))),
    };
    let candidates = answer.candidates.into_iter().map(|candidate| api::CandidateAnswer {
        user: candidate.user.to_string(),
        score: shown(candidate.score),
        estimated_fmr: shown_rate(candidate.estimated_fmr),
    });
    api::IdentifyAnswer {
        decision,
        user,
        candidates: principal.scopes.contains(Scope::Scores).then(|| candidates.collect()),
        reason,
        windows: answer.windows,
        mended: mended(&answer.mends),
        calibration: calibration(answer.tails),
        model: answer.model,
    }
}

pub(super) fn verify_answer(answer: &Verification, principal: &Principal) -> api::VerifyAnswer {
    let sees_scores = principal.scopes.contains(Scope::Scores);
    api::VerifyAnswer {
        decision: match answer.verdict {
            Verdict::Accept => api::Verified::Accept,
            Verdict::Reject => api::Verified::Reject,
            Verdict::Inconclusive(_) => api::Verified::Inconclusive,
            Verdict::SuspectedReplay => api::Verified::SuspectedReplay,
        },
        user: answer.user.to_string(),
        reason: match answer.verdict {
            Verdict::Inconclusive(doubt) => Some(reason(doubt)),
            _ => None,
        },
        score: sees_scores.then(|| shown(answer.score)),
        estimated_fmr: sees_scores.then(|| shown_rate(answer.estimated_fmr)),
        fmr: answer.fmr,
        windows: answer.windows,
        mended: mended(&answer.mends),
        calibration: calibration(answer.tails),
        model: answer.model.clone(),
        enrollment: answer.enrollment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_two_digits_and_an_end() {
        let shown = [1.0, 0.098_76, 1.26e-4, 1e-9].map(shown_rate);
        assert_eq!(shown, [1.0, 0.099, 1.3e-4, 1e-6]);
    }
}

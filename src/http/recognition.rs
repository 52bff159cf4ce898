//! Identification (1:N) and verification (1:1).

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Json;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Parameters, UserPath, Walk};
use crate::identity::{Decision, UserId, Verdict};
use crate::service::{Service, SessionId};

/// The false match rate of a verification that asks for none.
const USUAL_FMR: f64 = 0.01;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentifyParameters {
    /// Users to choose from, separated by commas; all where not given.
    among: Option<String>,
}

#[derive(Serialize)]
pub(super) struct IdentifyAnswer {
    decision: &'static str,
    user: Option<String>,
    candidates: Vec<CandidateAnswer>,
    windows: u32,
    model: String,
}

#[derive(Serialize)]
struct CandidateAnswer {
    user: String,
    score: f64,
}

pub(super) async fn identify(
    State(service): State<Service>,
    Parameters(parameters): Parameters<IdentifyParameters>,
    walk: Walk,
) -> Result<Json<IdentifyAnswer>, Problem> {
    let among: Option<Result<BTreeSet<UserId>, _>> =
        parameters.among.map(|users| users.split(',').map(str::parse).collect());
    let among = among.transpose().map_err(|error| Problem::from(error).at("among"))?;
    let answer = service.identify(walk.recording, among).await?;
    let (decision, user) = match answer.decision {
        Decision::Identified(user) => ("identified", Some(user.to_string())),
        Decision::Unknown => ("unknown", None),
        Decision::Inconclusive => ("inconclusive", None),
    };
    let candidates = answer.candidates.into_iter().map(|candidate| CandidateAnswer {
        user: candidate.user.to_string(),
        score: shown(candidate.score),
    });
    Ok(Json(IdentifyAnswer {
        decision,
        user,
        candidates: candidates.collect(),
        windows: answer.windows,
        model: answer.model,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyParameters {
    fmr: Option<f64>,
    session: Option<String>,
}

#[derive(Serialize)]
pub(super) struct VerifyAnswer {
    decision: &'static str,
    user: String,
    score: f64,
    fmr: f64,
    windows: u32,
    model: String,
}

pub(super) async fn verify(
    State(service): State<Service>,
    UserPath(user): UserPath,
    Parameters(parameters): Parameters<VerifyParameters>,
    walk: Walk,
) -> Result<Json<VerifyAnswer>, Problem> {
    let fmr = parameters.fmr.unwrap_or(USUAL_FMR);
    let session: Option<SessionId> = parameters
        .session
        .map(|session| session.parse())
        .transpose()
        .map_err(|error| Problem::from(error).at("session"))?;
    let answer = service.verify(user.clone(), walk.recording, fmr, session).await?;
    let decision = match answer.verdict {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Inconclusive => "inconclusive",
    };
    Ok(Json(VerifyAnswer {
        decision,
        user: user.to_string(),
        score: shown(answer.score),
        fmr,
        windows: answer.windows,
        model: answer.model,
    }))
}

/// Two digits: more would help only someone who climbs toward a match.
fn shown(score: f32) -> f64 {
    (f64::from(score) * 100.0).round() / 100.0
}

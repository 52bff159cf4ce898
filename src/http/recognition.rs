//! Identification (1:N) and verification (1:1).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api::{self, WalkDocument};
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::identity::{CollectionId, UserId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Document, Format, Received, invalid_field};
use super::idempotency::IdempotencyKey;
use super::path::{InCollection, UserPath};
use super::problem::{Problem, ProblemType};
use super::walk::{evidence, identify_answer, verify_answer};
use crate::access::Principal;
use crate::service::{Admission, Claim, Evidence, Service, SessionId};

/// The false match rate of a verification that requests none.
const USUAL_FMR: f64 = 0.01;

/// For the description: serde reads no repeated parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code)]
struct IdentifyParameters {
    /// Ids of the users to compare the walk with: at least 5 enrolled ones. Repeat the parameter, or
    /// separate ids by commas. Defaults to all users. To check a claim, verify it.
    #[param(value_type = Option<Vec<String>>, min_items = 5)]
    among: Vec<String>,
}

/// Identify a walker (1:N)
///
/// The walk is compared with the users of one collection. If no user matches well enough, the decision is `unknown`. If a walk of less than 30 s is
/// `inconclusive` with the reason `too_short`, send a longer one. The threshold rises with the
/// number of users, so that at most about 3 % of strangers are identified as a user.
#[utoipa::path(post, path = "/v1/identify",
    operation_id = "identify", tag = "recognition", params(IdentifyParameters),
    request_body = WalkDocument,
    responses((status = 200, description = "The decision", body = api::IdentifyAnswer)))]
pub(super) async fn identify(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    format: Format,
    InCollection { collection, parameters }: InCollection<Vec<(String, String)>>,
    body: Received,
) -> Result<Response, Problem> {
    if let Some((name, _)) = parameters.iter().find(|(name, _)| name != "among") {
        let detail = format!("unknown parameter `{name}`, expected `among` or `collection`");
        return Err(Problem::new(ProblemType::InvalidQuery, detail).at("query"));
    }
    let users = parameters.iter().flat_map(|(_, users)| users.split(','));
    let among = (!parameters.is_empty()).then(|| among(&collection, users)).transpose()?;
    service.identify.check_named(&collection, among.as_ref()).await?;
    let (identify, sender, cost) = (Arc::clone(&service), principal.clone(), body.cost());
    let job = move |scratch: &mut Scratch| {
        let (document, _held): (WalkDocument, _) = body.decode()?;
        Ok::<_, Problem>(identify.identify.run(
            &collection,
            evidence(document, &sender)?,
            among.as_ref(),
            scratch,
        )?)
    };
    let answer = service.pool.run(Admission::Costing(cost), job).await??;
    Ok(format.answer(&identify_answer(answer, &principal)))
}

/// Parses the ids of users to compare with.
pub(super) fn among<'a>(
    collection: &CollectionId,
    users: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<UserId>, Problem> {
    let users = users.take(api::MOST_NAMED_USERS + 1).map(|name| collection.user(name));
    let users: Result<BTreeSet<UserId>, _> = users.collect();
    let users = users.map_err(|error| Problem::from(error).at("among"))?;
    if users.len() > api::MOST_NAMED_USERS {
        return Err(invalid_field(
            "among",
            format!("too many users; at most {} are allowed", api::MOST_NAMED_USERS),
        ));
    }
    Ok(users)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyParameters {
    /// The false match rate to decide at: 0.1, 0.01 or 0.001. Defaults to 0.01.
    fmr: Option<f64>,
    /// Name of a session, in the characters of a user id. Walks of one session count together, each
    /// once. The client chooses the name.
    session: Option<String>,
    /// A nonce from `POST /v1/users/{user}/challenges`. Features always need one; the service may
    /// require one for recordings too.
    challenge: Option<String>,
}

/// Verify a user (1:1)
///
/// The service decides as soon as there is enough walking for the requested false match rate. It
/// decides after 29 windows (30 s) at the latest, unless the movement is `unfamiliar`. If the
/// decision is `inconclusive` with the reason `too_short`, send more walking in the same `session`.
/// A walk that was sent before gets `suspected_replay`, unless it is a retry with the same
/// `Idempotency-Key` or `session`.
///
/// A verification that is decided and not accepted counts as failed. After 5 failures the next one
/// must wait 30 s, then 60 s and so on (429). After too many the user is locked (423) until an admin
/// releases them. A walk that matches at a false match rate of 0.001 resets the count.
#[utoipa::path(post, path = "/v1/users/{user}/verify", operation_id = "verify", tag = "recognition",
    params(("user" = String, Path, description = "Id of the user"), VerifyParameters),
    request_body = WalkDocument,
    responses((status = 200, description = "The decision", body = api::VerifyAnswer)))]
pub(super) async fn verify(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    UserPath { user, parameters }: UserPath<VerifyParameters>,
    format: Format,
    key: IdempotencyKey,
    body: Document<WalkDocument>,
) -> Result<Response, Problem> {
    let claim = claim(&principal, user, evidence(body.value, &principal)?, parameters)?;
    key.once(&service, &body.digest, async |reservation| {
        let (verification, write) = service.verify.run(reservation, claim).await?;
        let response = format.stored(StatusCode::OK, &verify_answer(&verification, &principal));
        Ok(write.commit_with(response).await?)
    })
    .await
}

fn claim(
    principal: &Principal,
    user: UserId,
    evidence: Evidence,
    parameters: VerifyParameters,
) -> Result<Claim, Problem> {
    let session: Option<SessionId> = parameters
        .session
        .map(|session| session.parse())
        .transpose()
        .map_err(|error| Problem::from(error).at("session"))?;
    Ok(Claim {
        principal: principal.clone(),
        user,
        evidence,
        fmr: parameters.fmr.unwrap_or(USUAL_FMR),
        session,
        challenge: parameters.challenge,
    })
}

/// The claim of a batch item.
pub(super) fn claim_of(
    principal: &Principal,
    collection: &CollectionId,
    item: api::VerifyItem,
) -> Result<Claim, Problem> {
    let api::VerifyItem { user, fmr, session, challenge, walk } = item;
    claim(
        principal,
        collection.user(&user)?,
        evidence(walk, principal)?,
        VerifyParameters { fmr, session, challenge },
    )
}

/// Create a challenge
///
/// A challenge is a nonce for one verification of this user with the same API key, and expires soon.
/// Pass it to the phone, which sends it with the walk. An earlier request that was intercepted has no
/// valid challenge.
#[utoipa::path(post, path = "/v1/users/{user}/challenges",
    operation_id = "create_challenge", tag = "recognition",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 201, description = "The challenge", body = api::ChallengeAnswer)))]
pub(super) async fn challenge(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    UserPath { user, .. }: UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let challenge = service.challenges.create(user, &principal).await?;
    let answer = format.answer(&api::ChallengeAnswer {
        challenge: challenge.nonce,
        expires_in_seconds: challenge.valid_seconds.into(),
        model: challenge.model,
    });
    Ok((StatusCode::CREATED, answer).into_response())
}

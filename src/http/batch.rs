//! Several items in one request, each with its own outcome.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bipedalnet_client::api::{
    BatchDocument, BatchItem, EnrollItem, OutcomeAnswer, OutcomesAnswer, VerifyItem,
};
use bipedalnet_core::identity::CollectionId;

use super::App;
use super::body::{Document, Format};
use super::guard::announce;
use super::idempotency::IdempotencyKey;
use super::path::InCollection;
use super::problem::{Problem, ProblemType};
use super::recognition::{among, claim_of};
use super::walk::{enrolled_answer, evidence, identify_answer, verify_answer};
use crate::access::{Principal, Scope};
use crate::service::{Item, Outcome, Permit, Service};

/// Send a batch
///
/// Sends up to 64 walks in one request, for phones that were offline. Each item has the outcome
/// that a single request would have, and the API key needs the scope for it. Each item counts as a
/// request in quotas. All items are about one collection. The `Idempotency-Key` covers the whole batch. The batch fails as a whole only
/// if the server lacks compute or disk space, or a quota is used up. Nothing is changed then.
#[utoipa::path(post, path = "/v1/batch", operation_id = "batch", tag = "recognition",
    request_body = BatchDocument,
    responses((status = 200, description = "Outcome of each item", body = OutcomesAnswer)))]
pub(super) async fn batch(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    InCollection { collection, .. }: InCollection,
    format: Format,
    key: IdempotencyKey,
    body: Document<BatchDocument>,
) -> Result<Response, Problem> {
    let (items, most) = (body.value.items, app.http.get().max_batch);
    if items.is_empty() || items.len() > most {
        let problem = Problem::new(
            ProblemType::BatchSize,
            format!("there are {} items; expected 1 to {most}", items.len()),
        );
        return Err(problem.at("items"));
    }
    let items: Vec<_> = items.into_iter().map(|item| work(item, &collection, &principal)).collect();
    let allowance = app.guard.count_items(&principal, items.len())?;
    let outcomes = outcomes(&app.service, items, key, &body.digest, format, principal).await?;
    Ok(announce(allowance, outcomes))
}

/// The item of the service, or its problem.
fn work(
    item: BatchItem,
    collection: &CollectionId,
    principal: &Principal,
) -> Result<Item, Problem> {
    let scope = match &item {
        BatchItem::Enroll(_) => Scope::Enroll,
        BatchItem::Identify(_) | BatchItem::Verify(_) => Scope::Identify,
    };
    let user = match &item {
        BatchItem::Enroll(EnrollItem { user, .. }) | BatchItem::Verify(VerifyItem { user, .. }) => {
            Some(user.as_str())
        }
        BatchItem::Identify(_) => None,
    };
    if principal.user.as_ref().is_some_and(|own| user != Some(own.name())) {
        return Err(Problem::beyond_token());
    }
    if !principal.scopes.contains(scope) {
        return Err(Problem::missing_scope(scope));
    }
    Ok(match item {
        BatchItem::Enroll(item) => {
            let permit = Permit::new(principal, false, false)?;
            Item::Enroll {
                user: collection.user(&item.user)?,
                evidence: evidence(item.walk, principal)?,
                permit,
            }
        }
        BatchItem::Identify(item) => {
            let named = |users: &Vec<String>| among(collection, users.iter().map(String::as_str));
            Item::Identify {
                collection: collection.clone(),
                among: item.among.as_ref().map(named).transpose()?,
                evidence: evidence(item.walk, principal)?,
            }
        }
        BatchItem::Verify(item) => Item::Verify(claim_of(principal, collection, item)?),
    })
}

/// Runs the valid items. The response has an outcome for each item.
async fn outcomes(
    service: &Service,
    items: Vec<Result<Item, Problem>>,
    key: IdempotencyKey,
    body_digest: &[u8],
    format: Format,
    principal: Principal,
) -> Result<Response, Problem> {
    let mut good = Vec::new();
    let slots: Vec<Result<(), Problem>> =
        items.into_iter().map(|item| item.map(|item| good.push(item))).collect();
    let mut failed = None;
    let mut response = key
        .once(service, body_digest, async |reservation| {
            let (done, write) = service.batch.run(reservation, good).await?;
            let mut done = done.into_iter();
            let mut problem_of_server = None;
            let mut outcome = |slot: Result<(), Problem>| {
                let result = slot.and_then(|()| {
                    let done = done.next().expect("the service answers each item");
                    done.map_err(Problem::from)
                });
                let problem = result.as_ref().err().map(Problem::kind);
                let problem = problem.filter(|problem| problem.is_server_error());
                problem_of_server = problem_of_server.or(problem);
                outcome_answer(result, &principal)
            };
            let outcomes = slots.into_iter().map(&mut outcome).collect();
            let answer = format.stored(StatusCode::OK, &OutcomesAnswer { outcomes });
            let stored = write.commit_with(answer).await?;
            failed = problem_of_server;
            Ok(stored)
        })
        .await?;
    if let Some(problem) = failed {
        // For the metrics.
        response.extensions_mut().insert(problem);
    }
    Ok(response)
}

fn outcome_answer(result: Result<Outcome, Problem>, principal: &Principal) -> OutcomeAnswer {
    let ok = OutcomeAnswer { status: StatusCode::OK.as_u16(), ..OutcomeAnswer::default() };
    match result {
        Ok(Outcome::Enrolled(enrolled)) => OutcomeAnswer {
            status: StatusCode::CREATED.as_u16(),
            enrolled: Some(enrolled_answer(enrolled)),
            ..ok
        },
        Ok(Outcome::Identified(answer)) => {
            OutcomeAnswer { identified: Some(identify_answer(answer, principal)), ..ok }
        }
        Ok(Outcome::Verified(answer)) => {
            OutcomeAnswer { verified: Some(verify_answer(&answer, principal)), ..ok }
        }
        Err(problem) => {
            let problem = problem.document();
            OutcomeAnswer { status: problem.status, problem: Some(problem), ..ok }
        }
    }
}

//! Training jobs: new models from the recordings of enrolled users.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api::{self, TrainDocument};
use futures_util::{StreamExt, stream};

use super::body::{Document, Format, invalid_field};
use super::idempotency::{IdempotencyKey, no_content};
use super::path::JobPath;
use super::problem::Problem;
use crate::access::Principal;
use crate::service::{Follower, JobLength, JobRequest, JobStatus, Service, StoredResponse};

const DEFAULT_EPOCHS: u16 = 20;
const MOST_EPOCHS: u16 = 200;
const LONGEST_BUDGET_SECONDS: u32 = 24 * 60 * 60;

/// Resumes a broken event stream (HTML standard, server-sent events).
const LAST_EVENT_ID: &str = "last-event-id";

/// An event of a running job.
const EXAMPLE_EVENT: &str = r#"data: {"job":1,"state":"running","scope":"whole","epoch":3,"epochs":10,"activate":true,"seed":1,"parent":"724ae4ec6180104f","users":12,"loss":0.8,"activated":false,"created_at_unix_seconds":1795814831,"started_at_unix_seconds":1795814831}
id: 3

"#;

/// Train a new model
///
/// The job trains on users' kept recordings, in the background. If a user has several recordings,
/// the last one is left out of training and measures the accuracy. One user is enough. The response
/// comes at once, with the job's path in `Location`.
#[utoipa::path(post, path = "/v1/training-jobs",
    operation_id = "post_training_job", tag = "training",
    request_body = TrainDocument,
    responses((status = 202, description = "The job is waiting", body = api::TrainingJobAnswer,
        headers(("Location" = String, description = "Path of the job.")))))]
pub(super) async fn post(
    State(service): State<Arc<Service>>,
    format: Format,
    key: IdempotencyKey,
    body: Document<TrainDocument>,
) -> Result<Response, Problem> {
    let skip = body.value.skip_users_with_too_little;
    let asked = asked(&body.value)?;
    key.once(&service, &body.digest, async |reservation| {
        let (status, write) = service.training_jobs.add(reservation, asked, skip).await?;
        let location = Some(format!("/v1/training-jobs/{}", status.job.id));
        let response = format.stored(StatusCode::ACCEPTED, &job_answer(status));
        Ok(write.commit_with(StoredResponse { location, ..response }).await?)
    })
    .await
}

/// List training jobs
#[utoipa::path(get, path = "/v1/training-jobs",
    operation_id = "list_training_jobs", tag = "training",
    responses((status = 200, description = "The training jobs", body = api::TrainingJobsAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    format: Format,
) -> Result<Response, Problem> {
    let jobs = service.training_jobs.list().await?.into_iter().map(job_answer).collect();
    Ok(format.answer(&api::TrainingJobsAnswer { jobs }))
}

/// Get a training job
#[utoipa::path(get, path = "/v1/training-jobs/{job}",
    operation_id = "get_training_job", tag = "training",
    params(("job" = i64, Path, description = "Number of the job")),
    responses((status = 200, description = "The job", body = api::TrainingJobAnswer)))]
pub(super) async fn read(
    State(service): State<Arc<Service>>,
    JobPath(id): JobPath,
    format: Format,
) -> Result<Response, Problem> {
    Ok(format.answer(&job_answer(service.training_jobs.get(id).await?)))
}

/// Cancel a training job
///
/// A waiting or running job ends at once. Its model is not activated.
#[utoipa::path(delete, path = "/v1/training-jobs/{job}",
    operation_id = "cancel_training_job", tag = "training",
    params(("job" = i64, Path, description = "Number of the job")),
    responses((status = 204, description = "The job is cancelled")))]
pub(super) async fn cancel(
    State(service): State<Arc<Service>>,
    JobPath(id): JobPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let write = service.training_jobs.cancel(reservation, id).await?;
        Ok(write.commit_with(no_content()).await?)
    })
    .await
}

/// Follow a training job
///
/// Sends server-sent events, each with the job in JSON. There is a numbered event for each change
/// of state and each epoch. During training, events without a number come a few times a second. To
/// resume a broken stream, send `Last-Event-ID`. The stream ends with the job, or if the API key
/// expires or is revoked.
#[utoipa::path(get, path = "/v1/training-jobs/{job}/events",
    operation_id = "follow_training_job", tag = "training",
    params(
        ("job" = i64, Path, description = "Number of the job"),
        ("Last-Event-ID" = Option<String>, Header,
            description = "Number of the last event received. Without it, all events are sent."),
    ),
    responses(
        (status = 200, description = "The events",
            body = String, content_type = "text/event-stream", example = json!(EXAMPLE_EVENT)),
        (status = 204,
            description = "The job has ended and all events were sent: do not reconnect"),
    ))]
pub(super) async fn events(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    JobPath(id): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // If it is not a number, all events are sent.
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let after = last.unwrap_or(0);
    let follower = service.training_jobs.follow(id, after).await?;
    if follower.is_over() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = stream::unfold(follower, |mut follower| async {
        Some((Ok::<_, Infallible>(next(&mut follower).await?), follower))
    });
    let revoked = async move { service.keys.revoked(&principal).await };
    let events = events.take_until(Box::pin(revoked));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

async fn next(follower: &mut Follower) -> Option<Event> {
    let (number, status) = follower.next().await.unwrap_or_else(|error| {
        // The client resumes the stream.
        tracing::warn!(%error, "the event stream of a training job broke");
        None
    })?;
    let event = Event::default().json_data(job_answer(status)).ok()?;
    Some(match number {
        Some(number) => event.id(number.to_string()),
        None => event,
    })
}

fn asked(document: &TrainDocument) -> Result<JobRequest, Problem> {
    let length = match (document.epochs, document.budget_seconds) {
        (Some(_), Some(_)) => {
            return Err(invalid_field(
                "budget_seconds",
                "set either epochs or budget_seconds, not both".to_owned(),
            ));
        }
        (None, Some(seconds)) if (1..=LONGEST_BUDGET_SECONDS).contains(&seconds) => {
            JobLength::BudgetSeconds(seconds)
        }
        (None, Some(seconds)) => {
            let detail = format!("{seconds} s; expected 1 to {LONGEST_BUDGET_SECONDS} s");
            return Err(invalid_field("budget_seconds", detail));
        }
        (epochs, None) => match epochs.unwrap_or(DEFAULT_EPOCHS) {
            epochs @ 1..=MOST_EPOCHS => JobLength::Epochs(epochs),
            epochs => {
                let detail = format!("{epochs} epochs; expected 1 to {MOST_EPOCHS}");
                return Err(invalid_field("epochs", detail));
            }
        },
    };
    let activate = document.activate.unwrap_or(true);
    Ok(JobRequest { scope: document.scope, length, activate, seed: document.seed.unwrap_or(1) })
}

fn job_answer(JobStatus { job, progress }: JobStatus) -> api::TrainingJobAnswer {
    let budget_seconds = match job.request.length {
        JobLength::Epochs(_) => None,
        JobLength::BudgetSeconds(seconds) => Some(seconds),
    };
    api::TrainingJobAnswer {
        job: job.id,
        state: job.state,
        scope: job.request.scope,
        epoch: job.event.epoch,
        epochs: job.event.epochs,
        budget_seconds,
        activate: job.request.activate,
        seed: job.request.seed,
        parent: job.parent,
        users: job.users,
        users_left_out: job.users_left_out,
        loss: progress.and_then(|progress| progress.loss).or(job.event.loss),
        validation_accuracy: job.event.validation_accuracy,
        share_done: progress.map(|progress| progress.step as f32 / progress.steps as f32),
        samples_per_second: progress.map(|progress| progress.samples_per_second),
        seconds_left: progress.map(|progress| progress.seconds_left),
        model: job.model,
        activated: job.activated,
        reason: job.reason,
        created_at_unix_seconds: job.created_at_unix_seconds,
        started_at_unix_seconds: job.started_at_unix_seconds,
        ended_at_unix_seconds: job.ended_at_unix_seconds,
    }
}

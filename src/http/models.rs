//! Models: the list, their files, and activation.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api::{self, ActivateDocument};
use headers::{AcceptRanges, ETag, HeaderMapExt, IfNoneMatch, IfRange};

use super::body::{Document, Format};
use super::idempotency::{IdempotencyKey, no_content, to_the_end};
use super::path::ModelPath;
use super::problem::{Problem, ProblemType};
use super::range::Wanted;
use crate::service::{Activation, Comparison, Outcomes, Service, StoredModel};

/// A model file never changes. It is `private`, because the response requires an API key.
const FOR_EVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// List models
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "models",
    responses((status = 200, description = "All models", body = api::ModelsAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    format: Format,
) -> Result<Response, Problem> {
    let models = service.models.list().await?.into_iter().map(model_answer).collect();
    Ok(format.answer(&api::ModelsAnswer { models }))
}

/// Get a model
///
/// The response describes the training data, and has metrics and a comparison with an older model.
#[utoipa::path(get, path = "/v1/models/{model}", operation_id = "get_model", tag = "models",
    params(("model" = String, Path, description = "Id of the model")),
    responses((status = 200, description = "The model", body = api::ModelAnswer)))]
pub(super) async fn read(
    State(service): State<Arc<Service>>,
    ModelPath(id): ModelPath,
    format: Format,
) -> Result<Response, Problem> {
    Ok(format.answer(&model_answer(service.models.get(&id).await?)))
}

/// Download a model file
///
/// For phones that run the network themselves and send features. The format is safetensors. The
/// file never changes, so clients can keep it. To resume a broken download, use `Range`.
#[utoipa::path(get, path = "/v1/models/{model}/file",
    operation_id = "get_model_file", tag = "models",
    params(
        ("model" = String, Path, description = "Id of the model"),
        ("Range" = Option<String>, Header,
            description = "One range of bytes, such as `bytes=1000-`."),
        ("If-Range" = Option<String>, Header,
            description = "`ETag` of the partial file. If it differs, the whole file is sent."),
    ),
    responses(
        (status = 200, description = "The file",
            body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The requested part",
            body = Vec<u8>, content_type = "application/octet-stream"),
    ))]
pub(super) async fn file(
    State(service): State<Arc<Service>>,
    ModelPath(id): ModelPath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let digest = const_hex::encode(service.models.get(&id).await?.sha256);
    let tag: ETag = format!("\"{digest}\"").parse().expect("hexadecimal digits in quotes");
    let mut common = HeaderMap::from_iter([(header::CACHE_CONTROL, FOR_EVER)]);
    common.typed_insert(AcceptRanges::bytes());
    common.typed_insert(tag.clone());
    let known = headers.typed_get::<IfNoneMatch>();
    if known.is_some_and(|known| !known.precondition_passes(&tag)) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let file = service.models.file(&id).await?;
    let is_unchanged = match headers.typed_try_get::<IfRange>() {
        Ok(condition) => condition.is_none_or(|known| !known.is_modified(Some(&tag), None)),
        Err(_) => false,
    };
    // Ranges are for GET alone (section 14.2).
    let range = headers.get(header::RANGE).filter(|_| method == Method::GET && is_unchanged);
    let range = range.and_then(|range| range.to_str().ok());
    let length = file.len();
    let (status, place, bytes) =
        match range.map_or(Wanted::Whole, |range| Wanted::of(range, length)) {
            Wanted::Whole => (StatusCode::OK, None, file),
            Wanted::Part(part) => {
                let place = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                (StatusCode::PARTIAL_CONTENT, Some(place), file[part].to_vec())
            }
            Wanted::Beyond => return Err(beyond(length)),
        };
    let place = place.and_then(|place| HeaderValue::try_from(place).ok());
    let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
    let mut response = (status, media_type, common, bytes).into_response();
    response.headers_mut().extend(place.map(|place| (header::CONTENT_RANGE, place)));
    Ok(response)
}

fn beyond(length: usize) -> Problem {
    let problem = Problem::new(ProblemType::RangeBeyondEnd, format!("the file has {length} bytes"));
    match HeaderValue::try_from(format!("bytes */{length}")) {
        Ok(length) => problem.at("range").with(header::CONTENT_RANGE, length),
        Err(_) => problem,
    }
}

/// Activate a model
///
/// Later requests use the model. Requests do not fail meanwhile. The service first reads the kept
/// recordings of all users, which can take minutes. It continues if the client disconnects, and a
/// retry with the same `Idempotency-Key` gets the response.
///
/// The service refuses a model that is less accurate than the active one on users' last recordings.
/// It also refuses if enrollments would be lost because their recordings are not kept. `force`
/// overrides both. An earlier model can be activated again at any time.
#[utoipa::path(post, path = "/v1/models/{model}/activate",
    operation_id = "activate_model", tag = "models",
    params(("model" = String, Path, description = "Id of the model")),
    request_body = ActivateDocument,
    responses((status = 200, description = "The model is active", body = api::ActivatedAnswer)))]
pub(super) async fn activate(
    State(service): State<Arc<Service>>,
    ModelPath(id): ModelPath,
    format: Format,
    key: IdempotencyKey,
    body: Document<ActivateDocument>,
) -> Result<Response, Problem> {
    key.once(&service, &body.digest, async |reservation| {
        let service = Arc::clone(&service);
        to_the_end(async move {
            let force = body.value.force;
            let (activation, write) = service.models.activate(reservation, id, force).await?;
            let response = format.stored(StatusCode::OK, &activated_answer(&activation));
            Ok(write.commit_with(response).await?)
        })
        .await
    })
    .await
}

/// Delete a model
///
/// Deletes the model and the templates that it computed. The active model and the shipped model
/// cannot be deleted.
#[utoipa::path(delete, path = "/v1/models/{model}", operation_id = "delete_model", tag = "models",
    params(("model" = String, Path, description = "Id of the model")),
    responses((status = 204, description = "The model is deleted")))]
pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    ModelPath(id): ModelPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let service = Arc::clone(&service);
        to_the_end(async move {
            let write = service.models.delete(reservation, &id).await?;
            Ok(write.commit_with(no_content()).await?)
        })
        .await
    })
    .await
}

fn model_answer(model: StoredModel) -> api::ModelAnswer {
    api::ModelAnswer {
        model: model.id,
        active: model.active,
        shipped: model.shipped,
        name: model.name,
        parent: model.parent,
        training_data: model.training_data,
        metrics: model.metrics,
        comparison: model.comparison.as_ref().map(comparison_answer),
        size_bytes: model.size_bytes,
        sha256: const_hex::encode(model.sha256),
        created_at_unix_seconds: model.created_at_unix_seconds,
    }
}

fn comparison_answer(comparison: &Comparison) -> api::ComparisonAnswer {
    let shares = |outcomes: Outcomes| {
        let share = |count| f64::from(count) / f64::from(comparison.recordings);
        api::SharesAnswer {
            identified_right: share(outcomes.right),
            identified_wrong: share(outcomes.wrong),
            strangers_identified: share(outcomes.strangers),
        }
    };
    api::ComparisonAnswer {
        recordings: comparison.recordings,
        old_model: comparison.served.clone(),
        old: shares(comparison.old),
        new: shares(comparison.new),
    }
}

fn activated_answer(activation: &Activation) -> api::ActivatedAnswer {
    let not_compared = match &activation.comparison {
        Some(_) => None,
        None if activation.model == activation.previous => Some("the model was already active"),
        None => Some("fewer than two users have two kept recordings each"),
    };
    api::ActivatedAnswer {
        model: activation.model.clone(),
        previous_model: activation.previous.clone(),
        comparison: activation.comparison.as_ref().map(comparison_answer),
        not_compared: not_compared.map(str::to_owned),
        walks_lost: activation.lost_walks,
        users_with_walks_lost: activation.lost_users,
    }
}

//! Users and their enrollments.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api::{self, UserDocument, WalkDocument};
use bipedalnet_core::identity::{DeviceTemplate, PackedTemplate, UserId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::body::{Document, Format, invalid_field};
use super::export;
use super::idempotency::{IdempotencyKey, no_content, to_the_end};
use super::page;
use super::path::{EnrollmentPath, InCollection, UserPath, user_location};
use super::problem::{Problem, ProblemType};
use super::walk::{enrolled_answer, evidence, user_answer};
use crate::access::Principal;
use crate::service::{Consent, Enrolled, Enrollment, Permit, Service, StoredResponse};
use crate::store::unix_seconds;

/// Most users on a page, and the default.
const PAGE: u32 = 100;

const MAX_DAYS: u32 = 36_500;

/// Most characters of a reference to a consent.
const MAX_REFERENCE: usize = 200;

/// How far a client's clock may be ahead of the server's.
const MAX_AHEAD_SECONDS: i64 = 24 * 60 * 60;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParameters {
    /// `next` of the previous page.
    after: Option<String>,
    /// Most users on the page. Defaults to 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// Only users who have neither enrolled a walk nor been recognised for so many days.
    #[param(minimum = 1, maximum = 36500)]
    inactive_days: Option<u32>,
}

/// List users
///
/// The users of a collection, in the order of their ids. For the next page, send `next` as `after`.
#[utoipa::path(get, path = "/v1/users",
    operation_id = "list_users", tag = "users", params(PageParameters),
    responses((status = 200, description = "A page of users", body = api::UsersAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    format: Format,
    InCollection { collection, parameters: page }: InCollection<PageParameters>,
) -> Result<Response, Problem> {
    let after: Option<UserId> = page
        .after
        .map(|name| collection.user(&name))
        .transpose()
        .map_err(|error| Problem::from(error).at("after"))?;
    let limit = page::limit(page.limit, PAGE)?;
    if let Some(days) = page.inactive_days.filter(|days| !(1..=MAX_DAYS).contains(days)) {
        let detail = format!("inactive_days is {days}; expected 1 to {MAX_DAYS}");
        return Err(Problem::new(ProblemType::InvalidQuery, detail).at("inactive_days"));
    }
    // One more shows whether there is a next page.
    let mut users =
        service.users.list(&collection, after.as_ref(), page.inactive_days, limit + 1).await?;
    let more = users.len() > limit as usize;
    users.truncate(limit as usize);
    let next = users.last().filter(|_| more).map(|last| last.user.id.to_string());
    let users = users.into_iter().map(user_answer).collect();
    Ok(format.answer(&api::UsersAnswer { users, next }))
}

/// Create a user
///
/// The caller chooses the id. Prefer a pseudonym. The body can record the person's consent, for a
/// user who exists as well.
#[utoipa::path(put, path = "/v1/users/{user}", operation_id = "put_user", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    request_body = Option<UserDocument>,
    responses(
        (status = 201, description = "The user was created", body = api::UserAnswer),
        (status = 200, description = "The user already existed", body = api::UserAnswer),
    ))]
pub(super) async fn put(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    format: Format,
    key: IdempotencyKey,
    body: Option<Document<UserDocument>>,
) -> Result<Response, Problem> {
    let (digest, consent) = match body {
        Some(body) => (body.digest.to_vec(), body.value.consent.map(consent).transpose()?),
        None => (Vec::new(), None),
    };
    key.once(&service, &digest, async |reservation| {
        let (is_new, status, write) = service.users.put(reservation, user, consent).await?;
        let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        let location = is_new.then(|| user_location(&status.user.id, ""));
        let response = format.stored(code, &user_answer(status));
        Ok(write.commit_with(StoredResponse { location, ..response }).await?)
    })
    .await
}

fn consent(document: api::Consent) -> Result<Consent, Problem> {
    let api::Consent { reference, given_at_unix_seconds } = document;
    let characters = reference.chars().count();
    if !(1..=MAX_REFERENCE).contains(&characters) {
        let detail = format!("it has {characters} characters; expected 1 to {MAX_REFERENCE}");
        return Err(invalid_field("consent.reference", detail));
    }
    let now = unix_seconds();
    let given_at_unix_seconds = given_at_unix_seconds.unwrap_or(now);
    // Clocks differ.
    if !(0..=now + MAX_AHEAD_SECONDS).contains(&given_at_unix_seconds) {
        let detail = format!("it is {given_at_unix_seconds}; expected a time of the past");
        return Err(invalid_field("consent.given_at_unix_seconds", detail));
    }
    Ok(Consent { reference, given_at_unix_seconds })
}

/// Get a user
///
/// The response says whether enough walking is enrolled to recognise the user, and what is missing.
#[utoipa::path(get, path = "/v1/users/{user}", operation_id = "get_user", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 200, description = "The user", body = api::UserAnswer)))]
pub(super) async fn read(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    format: Format,
) -> Result<Response, Problem> {
    Ok(format.answer(&user_answer(service.users.get(&user).await?)))
}

/// Delete a user
///
/// Deletes everything stored about the user: enrollments, templates, fingerprints, recordings and
/// stored responses. A keyed digest of the id and the time of the deletion are kept as proof.
#[utoipa::path(delete, path = "/v1/users/{user}", operation_id = "erase_user", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 204, description = "The user is deleted")))]
pub(super) async fn erase(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let service = Arc::clone(&service);
        to_the_end(async move {
            let write = service.users.delete(reservation, user).await?;
            Ok(write.commit_with(no_content()).await?)
        })
        .await
    })
    .await
}

/// Get a template for a device
///
/// With it and the model, a device verifies its user without the server. It is a biometric secret: what
/// holds it can pass for the user by features. The server's operator must allow it, and the audit trail
/// gets an entry. Ask again with the `ETag` each time that the device is online, and delete it after
/// `valid_days` or a 401, 403 or 404.
#[utoipa::path(get, path = "/v1/users/{user}/template", operation_id = "get_template", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 200, description = "The user's templates and thresholds",
        body = api::DeviceTemplateAnswer)))]
pub(super) async fn template(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    UserPath { user, .. }: UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let (template, valid_days) = service.users.device_template(principal, &user).await?;
    let DeviceTemplate { model, user, templates, strangers, thresholds } = template;
    let packed =
        |PackedTemplate { windows, scale, values }| api::PackedTemplate { windows, scale, values };
    let answer = format.answer(&api::DeviceTemplateAnswer {
        model,
        user,
        templates: templates.into_iter().map(packed).collect(),
        strangers: api::Strangers { mean: strangers.mean, deviation: strangers.deviation },
        thresholds: api::Thresholds {
            single: thresholds.single,
            session: thresholds.session,
            users: thresholds.users,
        },
        valid_days,
    });
    // The device keeps it, not the cache of a browser.
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

pub(super) fn enrollment_answer(walk: Enrollment) -> api::EnrollmentAnswer {
    api::EnrollmentAnswer {
        enrollment: walk.id,
        windows: walk.windows,
        model: walk.model,
        source: walk.source,
        created_at_unix_seconds: walk.created_at_unix_seconds,
    }
}

/// Export a user
///
/// The response has everything stored about the user. It is sent walk by walk. If that fails, the
/// connection breaks. The audit trail gets an entry.
#[utoipa::path(get, path = "/v1/users/{user}/export", operation_id = "export_user", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 200, description = "Everything stored about the user",
        body = api::ExportAnswer)))]
pub(super) async fn export(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    UserPath { user, .. }: UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let export = service.users.export(principal, &user).await?;
    let body = export::body(export, format, Arc::clone(&service));
    Ok(([(header::CACHE_CONTROL, "no-store")], format.streamed(body)).into_response())
}

/// List a user's enrollments
#[utoipa::path(get, path = "/v1/users/{user}/enrollments",
    operation_id = "list_enrollments", tag = "enrollments",
    params(("user" = String, Path, description = "Id of the user")),
    responses((status = 200, description = "The user's enrollments",
        body = api::EnrollmentsAnswer)))]
pub(super) async fn enrollments(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let walks = service.users.enrollments(&user).await?;
    let enrollments = walks.into_iter().map(enrollment_answer).collect();
    Ok(format.answer(&api::EnrollmentsAnswer { enrollments }))
}

#[derive(Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EnrollParameters {
    /// Whether the person has proven who they are in another way. Then the walk need not resemble the
    /// earlier ones. Needs the scope `admin`. Defaults to false.
    #[serde(default)]
    pub confirmed: bool,
    /// Whether to create the user if they do not exist. Not with a token. Defaults to false.
    #[serde(default)]
    pub create_user: bool,
}

/// Enroll a walk
///
/// The walk counts from the next request on. Several walks can be sent in a batch.
///
/// A walk that is enrolled already is refused, and so is a walk that is unlike the earlier ones. If
/// the user is `ready`, the API key needs the scope `extend` too.
#[utoipa::path(post, path = "/v1/users/{user}/enrollments",
    operation_id = "enroll", tag = "enrollments",
    params(("user" = String, Path, description = "Id of the user"), EnrollParameters),
    request_body = WalkDocument,
    responses((status = 201, description = "The walk is enrolled", body = api::EnrolledAnswer)))]
pub(super) async fn enroll(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    UserPath { user, parameters }: UserPath<EnrollParameters>,
    format: Format,
    key: IdempotencyKey,
    body: Document<WalkDocument>,
) -> Result<Response, Problem> {
    let EnrollParameters { confirmed, create_user } = parameters;
    if create_user && principal.user.is_some() {
        return Err(Problem::beyond_token());
    }
    let evidence = evidence(body.value, &principal)?;
    let permit = Permit::new(&principal, confirmed, create_user)?;
    let encode = move |enrolled: Enrolled| {
        let Enrolled { enrollment, status, .. } = &enrolled;
        let location = user_location(&status.user.id, &format!("/enrollments/{enrollment}"));
        let response = format.stored(StatusCode::CREATED, &enrolled_answer(enrolled));
        StoredResponse { location: Some(location), ..response }
    };
    key.once(&app.service, &body.digest, async |reservation| {
        Ok(app.service.enroll.run(reservation, user, evidence, permit, encode).await?)
    })
    .await
}

/// Delete an enrollment
///
/// If it came from a request to enroll, the enrollments from verifications are deleted too: it
/// helped to accept them.
#[utoipa::path(delete, path = "/v1/users/{user}/enrollments/{enrollment}",
    operation_id = "erase_enrollment", tag = "enrollments",
    params(
        ("user" = String, Path, description = "Id of the user"),
        ("enrollment" = i64, Path, minimum = 1, description = "Number of the enrollment"),
    ),
    responses((status = 204, description = "The enrollment is deleted")))]
pub(super) async fn erase_enrollment(
    State(service): State<Arc<Service>>,
    UserPath { user, .. }: UserPath,
    EnrollmentPath(enrollment): EnrollmentPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let service = Arc::clone(&service);
        to_the_end(async move {
            let write = service.users.delete_enrollment(reservation, user, enrollment).await?;
            Ok(write.commit_with(no_content()).await?)
        })
        .await
    })
    .await
}

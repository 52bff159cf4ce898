//! Users and their walks.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::batch::{batch_of, outcomes};
use super::body::{Document, Format};
use super::idempotency::{IdempotencyKey, no_content};
use super::path::{EnrollmentPath, Parameters, UserPath};
use super::problem::{Problem, ProblemType};
use super::walk::{enrolled_answer, evidence, user_answer};
use crate::access::Principal;
use crate::service::{Admission, Enrollment, ExportedTemplate, Service};
use bipedalnet_client::api::{self, BatchItem, EnrollItem, Walks};
use bipedalnet_core::identity::UserId;

/// Users on one page.
const PAGE: u32 = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParameters {
    /// The last user of the page before: its `next`.
    after: Option<String>,
    /// Users on the page, 100 at most.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// List users
///
/// In pages, in the order of their ids.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", tag = "users", params(PageParameters),
    responses((status = 200, description = "A page", body = api::UsersAnswer)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    format: Format,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Response, Problem> {
    let after: Option<UserId> = page
        .after
        .map(|user| user.parse())
        .transpose()
        .map_err(|error| Problem::from(error).at("after"))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        let problem = Problem::new(
            ProblemType::InvalidQuery,
            format!("{limit} users do not go on a page; ask for 1 to {PAGE}"),
        );
        return Err(problem.at("limit"));
    }
    // One more tells whether there is a next page.
    let mut users = service.users.list(after.as_ref(), limit + 1).await?;
    let more = users.len() > limit as usize;
    users.truncate(limit as usize);
    let next = users.last().filter(|_| more).map(|last| last.user.id.to_string());
    let users = users.into_iter().map(user_answer).collect();
    Ok(format.answer(&api::UsersAnswer { users, next }))
}

/// Make a user
///
/// Of an id that the caller chooses: a pseudonym serves best.
#[utoipa::path(put, path = "/v1/users/{user}", operation_id = "put_user", tag = "users",
    params(("user" = String, Path, description = "The user")),
    responses(
        (status = 201, description = "The user was made", body = api::UserAnswer),
        (status = 200, description = "The user was there", body = api::UserAnswer),
    ))]
pub(super) async fn put(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    format: Format,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let (is_new, status, write) = service.users.put(reservation, user).await?;
        let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(write.commit_with(format.stored(code, &user_answer(status))).await?)
    })
    .await
}

/// Read a user
///
/// Tells whether enough is known of them to be recognised, and what is missing.
#[utoipa::path(get, path = "/v1/users/{user}", operation_id = "get_user", tag = "users",
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, description = "The user", body = api::UserAnswer)))]
pub(super) async fn read(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    format: Format,
) -> Result<Response, Problem> {
    Ok(format.answer(&user_answer(service.users.get(&user).await?)))
}

/// Erase a user
///
/// With all that is held about them: walks, templates, fingerprints, recordings and stored answers. A
/// salted digest of the id and the time stay, to show that it was done.
#[utoipa::path(delete, path = "/v1/users/{user}", operation_id = "erase_user", tag = "users",
    params(("user" = String, Path, description = "The user")),
    responses((status = 204, description = "Nothing is left of them")))]
pub(super) async fn erase(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let write = service.users.delete(reservation, user).await?;
        Ok(write.commit_with(no_content()).await?)
    })
    .await
}

fn enrollment_answer(walk: Enrollment) -> api::EnrollmentAnswer {
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
/// All that is held about them.
#[utoipa::path(get, path = "/v1/users/{user}/export", operation_id = "export_user", tag = "users",
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, description = "All of it", body = api::ExportAnswer)))]
pub(super) async fn export(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let export = service.users.export(&user).await?;
    let encode = move |_: &mut _| {
        let template = |template: ExportedTemplate| api::ExportedTemplate {
            model: template.model,
            windows: template.windows,
            template: template.values,
        };
        let walks = export.walks.into_iter().map(|walk| api::ExportedWalk {
            enrollment: enrollment_answer(walk.enrollment),
            templates: walk.templates.into_iter().map(template).collect(),
            recording: walk.recording,
        });
        let marks = export.fingerprints.iter();
        let fingerprints = marks.map(|mark| const_hex::encode(mark.to_bytes()));
        format.answer(&api::ExportAnswer {
            user: user_answer(export.status),
            walks: walks.collect(),
            fingerprints: fingerprints.collect(),
        })
    };
    let answer = service.pool.run(Admission::FirstOfTwo, encode).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// List a user's walks
#[utoipa::path(get, path = "/v1/users/{user}/enrollments", operation_id = "list_enrollments", tag = "enrollments",
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, description = "Their walks", body = api::EnrollmentsAnswer)))]
pub(super) async fn enrollments(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    format: Format,
) -> Result<Response, Problem> {
    let walks = service.users.enrollments(&user).await?;
    let enrollments = walks.into_iter().map(enrollment_answer).collect();
    Ok(format.answer(&api::EnrollmentsAnswer { enrollments }))
}

/// Enroll a walk, or several
///
/// The user is recognised from then on. One walk is enrolled or refused; of a list, each has an
/// outcome of its own, as in a batch.
#[utoipa::path(post, path = "/v1/users/{user}/enrollments", operation_id = "enroll", tag = "enrollments",
    params(("user" = String, Path, description = "The user")),
    request_body = Walks,
    responses(
        (status = 201, description = "The walk was enrolled", body = api::EnrolledAnswer),
        (status = 200, description = "What came of each walk of a list", body = api::OutcomesAnswer),
    ))]
pub(super) async fn enroll(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    UserPath(user): UserPath,
    format: Format,
    key: IdempotencyKey,
    body: Document<Walks>,
) -> Result<Response, Problem> {
    match body.value {
        Walks::One(walk) => {
            let evidence = evidence(*walk)?;
            let encode =
                move |enrolled| format.stored(StatusCode::CREATED, &enrolled_answer(enrolled));
            key.once(&app.service, &body.digest, async |reservation| {
                Ok(app.service.enroll.run(reservation, user, evidence, encode).await?)
            })
            .await
        }
        Walks::Many(walks) => {
            let item = |walk| BatchItem::Enroll(EnrollItem { user: user.to_string(), walk });
            let items =
                batch_of(walks.into_iter().map(item).collect(), &app.http.get(), &principal)?;
            outcomes(&app.service, items, key, &body.digest, format, principal).await
        }
    }
}

/// Erase a walk
///
/// With an enrolled one, those that verifications added go, too: they were accepted by what it was.
#[utoipa::path(delete, path = "/v1/users/{user}/enrollments/{enrollment}", operation_id = "erase_enrollment", tag = "enrollments",
    params(
        ("user" = String, Path, description = "The user"),
        ("enrollment" = i64, Path, minimum = 1, description = "Number of the walk"),
    ),
    responses((status = 204, description = "Nothing is left of it")))]
pub(super) async fn erase_enrollment(
    State(service): State<Arc<Service>>,
    UserPath(user): UserPath,
    EnrollmentPath(enrollment): EnrollmentPath,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    key.once(&service, &[], async |reservation| {
        let write = service.users.delete_enrollment(reservation, user, enrollment).await?;
        Ok(write.commit_with(no_content()).await?)
    })
    .await
}

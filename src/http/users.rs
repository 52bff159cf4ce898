//! Users and their walks.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Json, Response};
use serde::{Deserialize, Serialize};

use super::once::{Once, nothing, reply, sent};
use super::problem::Problem;
use super::{EnrollmentPath, Parameters, UserPath, Walk};
use crate::identity::UserId;
use crate::service::{Enrollment, Service, UserStatus};

/// Users on one page.
const PAGE: u32 = 100;

#[derive(Serialize)]
pub(super) struct UserAnswer {
    user: String,
    /// `ready` once enough walking is known, `collecting` before.
    status: &'static str,
    windows: u64,
    /// What is missing until the user is ready.
    windows_missing: u64,
    enrollments: u64,
    created_at_unix_seconds: i64,
}

impl From<UserStatus> for UserAnswer {
    fn from(UserStatus { user, windows_missing }: UserStatus) -> Self {
        Self {
            user: user.id.to_string(),
            status: if windows_missing == 0 { "ready" } else { "collecting" },
            windows: user.windows,
            windows_missing,
            enrollments: user.enrollments,
            created_at_unix_seconds: user.created_at_unix_seconds,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParameters {
    after: Option<String>,
    limit: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct UsersAnswer {
    users: Vec<UserAnswer>,
    /// The `after` of the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(
    State(service): State<Service>,
    Parameters(page): Parameters<PageParameters>,
) -> Result<Json<UsersAnswer>, Problem> {
    let after: Option<UserId> = page
        .after
        .map(|user| user.parse())
        .transpose()
        .map_err(|error| Problem::from(error).at("after"))?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    // One more tells whether there is a next page.
    let mut users = service.users(after.as_ref(), limit + 1).await?;
    let more = users.len() > limit as usize;
    users.truncate(limit as usize);
    let next = users.last().filter(|_| more).map(|last| last.user.id.to_string());
    Ok(Json(UsersAnswer { users: users.into_iter().map(UserAnswer::from).collect(), next }))
}

pub(super) async fn put(
    State(service): State<Service>,
    UserPath(user): UserPath,
    once: Once,
) -> Result<Response, Problem> {
    let answer = service.put_user(user, once.request(&[]), |new, status| {
        let code = if new { StatusCode::CREATED } else { StatusCode::OK };
        reply(code, &UserAnswer::from(status))
    });
    Ok(sent(answer.await?))
}

pub(super) async fn read(
    State(service): State<Service>,
    UserPath(user): UserPath,
) -> Result<Json<UserAnswer>, Problem> {
    Ok(Json(service.user(&user).await?.into()))
}

pub(super) async fn erase(
    State(service): State<Service>,
    UserPath(user): UserPath,
    once: Once,
) -> Result<Response, Problem> {
    Ok(sent(service.erase_user(user, once.request(&[]), nothing()).await?))
}

#[derive(Serialize)]
pub(super) struct WalkAnswer {
    enrollment: i64,
    windows: u32,
    model: String,
    created_at_unix_seconds: i64,
    /// Sum of the windows' unit feature vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Vec<f32>>,
}

impl WalkAnswer {
    fn new(walk: Enrollment, template: Option<Vec<f32>>) -> Self {
        Self {
            enrollment: walk.id,
            windows: walk.windows,
            model: walk.model,
            created_at_unix_seconds: walk.created_at_unix_seconds,
            template,
        }
    }
}

#[derive(Serialize)]
pub(super) struct ExportAnswer {
    #[serde(flatten)]
    user: UserAnswer,
    walks: Vec<WalkAnswer>,
}

pub(super) async fn export(
    State(service): State<Service>,
    UserPath(user): UserPath,
) -> Result<Json<ExportAnswer>, Problem> {
    let export = service.export(&user).await?;
    let walks = export.walks.into_iter().map(|walk| {
        let template = walk.template.values().to_vec();
        WalkAnswer::new(walk.enrollment, Some(template))
    });
    Ok(Json(ExportAnswer { user: export.status.into(), walks: walks.collect() }))
}

#[derive(Serialize)]
pub(super) struct EnrollmentsAnswer {
    enrollments: Vec<WalkAnswer>,
}

pub(super) async fn enrollments(
    State(service): State<Service>,
    UserPath(user): UserPath,
) -> Result<Json<EnrollmentsAnswer>, Problem> {
    let walks = service.enrollments(&user).await?;
    let enrollments = walks.into_iter().map(|walk| WalkAnswer::new(walk, None)).collect();
    Ok(Json(EnrollmentsAnswer { enrollments }))
}

#[derive(Serialize)]
pub(super) struct EnrolledAnswer {
    enrollment: i64,
    /// Windows of walking that were taken.
    windows_accepted: u32,
    /// Windows that were not, by reason.
    windows_refused: Vec<RefusedAnswer>,
    #[serde(flatten)]
    user: UserAnswer,
}

#[derive(Serialize)]
struct RefusedAnswer {
    r#type: String,
    windows: usize,
    /// Of one of these windows.
    detail: String,
}

pub(super) async fn enroll(
    State(service): State<Service>,
    UserPath(user): UserPath,
    once: Once,
    walk: Walk,
) -> Result<Response, Problem> {
    let request = once.request(&walk.digest);
    let answer = service.enroll(user, walk.recording, request, |enrolled| {
        let refused = enrolled.refused.iter().map(|(error, windows)| RefusedAnswer {
            r#type: Problem::type_of(error.code()),
            windows: *windows,
            detail: error.to_string(),
        });
        let answer = EnrolledAnswer {
            enrollment: enrolled.enrollment,
            windows_accepted: enrolled.windows,
            windows_refused: refused.collect(),
            user: enrolled.status.into(),
        };
        reply(StatusCode::CREATED, &answer)
    });
    Ok(sent(answer.await?))
}

pub(super) async fn erase_enrollment(
    State(service): State<Service>,
    UserPath(user): UserPath,
    EnrollmentPath(enrollment): EnrollmentPath,
    once: Once,
) -> Result<Response, Problem> {
    let answer = service.erase_enrollment(user, enrollment, once.request(&[]), nothing());
    Ok(sent(answer.await?))
}

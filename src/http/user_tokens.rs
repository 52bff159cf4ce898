//! Tokens for users' phones.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bipedalnet_client::api::{self, TokenDocument, TokenScope};

use super::body::{Document, Format, invalid_field};
use super::path::UserPath;
use super::problem::Problem;
use crate::access::{Principal, Scope, Scopes, UserToken};
use crate::service::Service;

/// Create a token
///
/// A phone sends the token instead of an API key, as `Authorization: Bearer` or `X-API-Key`. By default, it
/// may verify and enroll walks of this user, and read the user. If the request asks for it, it may also
/// send features, download templates or delete the user. The token expires after at most an hour. It ends
/// sooner if the user is deleted, or the API key that made it expires or is revoked. The service does not
/// store it.
#[utoipa::path(post, path = "/v1/users/{user}/tokens",
    operation_id = "create_token", tag = "users",
    params(("user" = String, Path, description = "Id of the user")),
    request_body = Option<TokenDocument>,
    responses((status = 201, description = "The token", body = api::TokenAnswer)))]
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    UserPath { user, .. }: UserPath,
    format: Format,
    body: Option<Document<TokenDocument>>,
) -> Result<Response, Problem> {
    let TokenDocument { scopes, expires_in_seconds } =
        body.map(|body| body.value).unwrap_or_default();
    let scopes: Scopes = match scopes {
        Some(scopes) => scopes.into_iter().map(wanted).collect(),
        None => usual(&principal),
    };
    if scopes.is_empty() {
        return Err(invalid_field(
            "scopes",
            "it is empty; expected identify, enroll, extend, features, template or erase".into(),
        ));
    }
    let longest = UserToken::LONGEST_SECONDS;
    let lifetime_seconds = expires_in_seconds.unwrap_or(longest);
    if !(1..=longest).contains(&lifetime_seconds) {
        let detail = format!("it is {lifetime_seconds}; expected 1 to {longest}");
        return Err(invalid_field("expires_in_seconds", detail));
    }
    let created = service.user_tokens.create(principal, user, scopes, lifetime_seconds).await;
    let (text, token) = created?;
    let answer = format.answer(&api::TokenAnswer {
        token: text,
        user: token.user.to_string(),
        scopes: token.scopes.iter().filter_map(given).collect(),
        expires_in_seconds: lifetime_seconds,
        expires_at_unix_seconds: token.expires_at_unix_seconds,
    });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], answer).into_response())
}

/// What a token allows if the request does not say it. Without either scope, the refusal names one.
fn usual(maker: &Principal) -> Scopes {
    let has = |scope: &Scope| maker.scopes.contains(*scope);
    let usual: Scopes = [Scope::Identify, Scope::Enroll].into_iter().filter(has).collect();
    if usual.is_empty() { Scopes::from_iter([Scope::Identify]) } else { usual }
}

fn wanted(scope: TokenScope) -> Scope {
    match scope {
        TokenScope::Identify => Scope::Identify,
        TokenScope::Enroll => Scope::Enroll,
        TokenScope::Extend => Scope::Extend,
        TokenScope::Features => Scope::Features,
        TokenScope::Template => Scope::Template,
        TokenScope::Erase => Scope::Erase,
    }
}

fn given(scope: Scope) -> Option<TokenScope> {
    match scope {
        Scope::Identify => Some(TokenScope::Identify),
        Scope::Enroll => Some(TokenScope::Enroll),
        Scope::Extend => Some(TokenScope::Extend),
        Scope::Features => Some(TokenScope::Features),
        Scope::Template => Some(TokenScope::Template),
        Scope::Erase => Some(TokenScope::Erase),
        Scope::Train | Scope::Admin | Scope::Scores => None,
    }
}

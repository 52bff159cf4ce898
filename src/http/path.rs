//! Extractors for paths and queries. Their errors are problems that name the field.
//!
//! [`UserPath`] and [`InCollection`] are the only way from a request to a user or a collection. They check
//! that the sender may use the collection, and that it exists.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use bipedalnet_core::identity::{CollectionId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::App;
use super::problem::{Problem, ProblemType};
use crate::access::Principal;

/// The query parameter that names a collection.
const COLLECTION: &str = "collection";

/// For requests whose query may only name a collection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoMore {}

#[derive(Deserialize)]
struct NamedCollection {
    collection: String,
}

/// The collection that a request is about, and its other query parameters.
pub(super) struct InCollection<T = NoMore> {
    pub collection: CollectionId,
    pub parameters: T,
}

/// The user in the path, in the collection that the request is about, and its other query parameters.
pub(super) struct UserPath<T = NoMore> {
    pub user: UserId,
    pub parameters: T,
}

/// The collection in the path.
pub(super) struct CollectionPath(pub CollectionId);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for InCollection<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let is_collection = |part: &&str| part.split('=').next() == Some(COLLECTION);
        let named = query.split('&').filter(is_collection);
        let named = match named.collect::<Vec<&str>>()[..] {
            [] => None,
            [one] => {
                let NamedCollection { collection } = parsed(one)?;
                let id = collection.parse().map_err(|error| Problem::from(error).at(COLLECTION))?;
                Some(id)
            }
            _ => {
                let detail = "the request names several collections; name one";
                return Err(Problem::new(ProblemType::InvalidQuery, detail).at(COLLECTION));
            }
        };
        // Most requests name none, and then nothing is copied.
        let others: Cow<'_, str> = match named {
            None => query.into(),
            Some(_) => {
                let others = query.split('&').filter(|part| !is_collection(part));
                others.collect::<Vec<&str>>().join("&").into()
            }
        };
        let collection = principal(parts).collection(named)?;
        app.service.collections.check(&collection).await?;
        Ok(Self { collection, parameters: parsed(&others)? })
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<App> for UserPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let name = text_part(parts, app, "user").await?;
        // First, so that a wrong name has its own problem.
        CollectionId::default().user(&name)?;
        let InCollection { collection, parameters } =
            InCollection::from_request_parts(parts, app).await?;
        Ok(Self { user: collection.user(&name)?, parameters })
    }
}

impl FromRequestParts<App> for CollectionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let id = text_part(parts, app, COLLECTION).await?;
        let id = id.parse().map_err(|error| Problem::from(error).at(COLLECTION))?;
        Ok(Self(principal(parts).collection(Some(id))?))
    }
}

/// The path of a user, with what follows it.
pub(super) fn user_location(user: &UserId, rest: &str) -> String {
    let collection = user.collection();
    let query = match collection.is_default() {
        true => String::new(),
        false => format!("?{COLLECTION}={collection}"),
    };
    format!("/v1/users/{user}{rest}{query}")
}

fn principal(parts: &Parts) -> &Principal {
    parts.extensions.get().expect("the guard of all these routes names the sender")
}

/// Parses a query.
fn parsed<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let uri = if query.is_empty() { Ok(Uri::default()) } else { format!("/?{query}").parse() };
    let invalid = |detail: String| Problem::new(ProblemType::InvalidQuery, detail).at("query");
    let uri = uri.map_err(|error| invalid(error.to_string()))?;
    let Query(parameters) =
        Query::try_from_uri(&uri).map_err(|error| invalid(error.body_text()))?;
    Ok(parameters)
}

/// A part of the path that the client chose.
async fn text_part(parts: &mut Parts, app: &App, name: &str) -> Result<String, Problem> {
    let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, app).await;
    let Path(mut path) = path.map_err(|error| {
        Problem::new(ProblemType::MalformedPath, error.body_text()).at(name.to_owned())
    })?;
    path.remove(name).ok_or_else(Problem::no_such_resource)
}

/// A part of the path. If it has the wrong type, the path does not exist.
async fn part<T: FromStr>(
    parts: &mut Parts,
    state: &(impl Send + Sync),
    name: &str,
) -> Result<T, Problem> {
    let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
    let part = path.ok().and_then(|Path(path)| path.get(name)?.parse().ok());
    part.ok_or_else(Problem::no_such_resource)
}

pub(super) struct EnrollmentPath(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for EnrollmentPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        part(parts, state, "enrollment").await.map(Self)
    }
}

pub(super) struct ModelPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        part(parts, state, "model").await.map(Self)
    }
}

pub(super) struct JobPath(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        part(parts, state, "job").await.map(Self)
    }
}

pub(super) struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parsed(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

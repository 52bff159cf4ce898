//! Extractors for paths and queries. Their errors are problems that name the field.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use bipedalnet_core::identity::UserId;
use serde::de::DeserializeOwned;

use super::problem::{Problem, ProblemType};

pub(super) struct UserPath(pub UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|error| {
            Problem::new(ProblemType::MalformedPath, error.body_text()).at("user")
        })?;
        Ok(Self(path["user"].parse()?))
    }
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

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(parameters) = query.map_err(|error| {
            Problem::new(ProblemType::InvalidQuery, error.body_text()).at("query")
        })?;
        Ok(Self(parameters))
    }
}

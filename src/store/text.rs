//! Enums of the API in columns: stored under the names that the API gives them.

use serde::de::IntoDeserializer;
use serde::de::value::{Error, StringDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Type};

use super::sql::Value;

/// A column with the name of one of `T`'s variants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<T>(pub T);

impl<T, D: Database> Type<D> for Text<T>
where
    String: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        String::type_info()
    }

    fn compatible(found: &D::TypeInfo) -> bool {
        String::compatible(found)
    }
}

impl<'r, T: for<'de> Deserialize<'de>, D: Database> Decode<'r, D> for Text<T>
where
    String: Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let name: StringDeserializer<Error> = String::decode(value)?.into_deserializer();
        Ok(Self(T::deserialize(name)?))
    }
}

impl<T: Serialize> From<Text<T>> for Value<'_> {
    fn from(Text(value): Text<T>) -> Self {
        match serde_json::to_value(value) {
            Ok(serde_json::Value::String(name)) => name.into(),
            // Not a name, so the database refuses it.
            other => other.map(|it| it.to_string()).unwrap_or_default().into(),
        }
    }
}

impl<T: Serialize> From<Option<Text<T>>> for Value<'_> {
    fn from(value: Option<Text<T>>) -> Self {
        value.map_or(Value::Text(None), Value::from)
    }
}

/// A column whose text may be missing, or damaged so that it is no UTF-8.
pub(super) struct MaybeText(Option<String>);

impl<D: Database> Type<D> for MaybeText
where
    String: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        String::type_info()
    }

    fn compatible(_: &D::TypeInfo) -> bool {
        true
    }
}

impl<'r, D: Database> Decode<'r, D> for MaybeText
where
    Option<String>: Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(Option::decode(value).ok().flatten()))
    }
}

impl From<MaybeText> for Option<String> {
    fn from(MaybeText(text): MaybeText) -> Self {
        text
    }
}

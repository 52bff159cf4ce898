//! Enums of the API in columns: stored under the names that the API gives them.

use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{Sqlite, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Type};

/// A column with the name of one of `T`'s variants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<T>(pub T);

impl<T> Type<Sqlite> for Text<T> {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl<'r, T: Deserialize<'r>> Decode<'r, Sqlite> for Text<T> {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let name: StrDeserializer<'r, Error> =
            <&'r str as Decode<'r, Sqlite>>::decode(value)?.into_deserializer();
        Ok(Self(T::deserialize(name)?))
    }
}

impl<'q, T: Serialize> Encode<'q, Sqlite> for Text<T> {
    fn encode_by_ref(
        &self,
        buffer: &mut <Sqlite as sqlx::Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        let name = match serde_json::to_value(&self.0)? {
            serde_json::Value::String(name) => name,
            other => other.to_string(),
        };
        <String as Encode<'q, Sqlite>>::encode(name, buffer)
    }
}

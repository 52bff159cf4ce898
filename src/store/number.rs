//! Numbers that may be missing and are never negative. PostgreSQL has no unsigned types.

use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Type};

/// A column with such a number.
pub struct Number(Option<i64>);

impl<D: Database> Type<D> for Number
where
    i64: Type<D>,
{
    fn type_info() -> D::TypeInfo {
        i64::type_info()
    }

    fn compatible(found: &D::TypeInfo) -> bool {
        i64::compatible(found)
    }
}

impl<'r, D: Database> Decode<'r, D> for Number
where
    Option<i64>: Decode<'r, D>,
{
    fn decode(value: D::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Option::decode(value).map(Self)
    }
}

impl TryFrom<Number> for Option<u32> {
    type Error = std::num::TryFromIntError;

    fn try_from(Number(value): Number) -> Result<Self, Self::Error> {
        value.map(u32::try_from).transpose()
    }
}

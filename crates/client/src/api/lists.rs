//! Lists whose length is bounded while they are read: their values can take much more memory than the
//! body that they come from.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most items in a batch or in a list of walks.
pub(super) const MOST_ITEMS: usize = 64;
/// Most samples in a recording: the longest that a server can be set to accept, an hour, at 200 Hz,
/// and a minute more.
pub(super) const MOST_SAMPLES: usize = 3_660 * 200;
/// Most windows of features: one a second.
pub(super) const MOST_WINDOWS: usize = 3_660;
/// Most values in a window's features.
pub(super) const MOST_VALUES: usize = 8_192;
/// Most users to compare a walk with, if they are named.
pub const MOST_NAMED_USERS: usize = 1_000;
/// Most scopes in a token.
pub(super) const MOST_TOKEN_SCOPES: usize = 6;

/// Memory for a list before its first value is read.
const RESERVED_BYTES: usize = 64 << 10;

/// A list of at most `MOST` values.
struct Bounded<const MOST: usize, T>(Vec<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Deserialize<'de> for Bounded<MOST, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<const MOST: usize, T>(PhantomData<T>);

        impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for Values<MOST, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let expected = list.size_hint().unwrap_or(0).min(MOST);
                let mut values = Vec::with_capacity(expected.min(RESERVED_BYTES / size_of::<T>()));
                while let Some(value) = list.next_element()? {
                    if values.len() == MOST {
                        return Err(A::Error::custom(format_args!(
                            "too many values; at most {MOST} are allowed"
                        )));
                    }
                    values.push(value);
                }
                Ok(values)
            }
        }

        deserializer.deserialize_seq(Values::<MOST, T>(PhantomData)).map(Self)
    }
}

/// Reads a list of at most `MOST` values.
pub(super) fn at_most<'de, const MOST: usize, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Bounded::<MOST, T>::deserialize(deserializer).map(|list| list.0)
}

/// Like [`at_most`], for a list that may be missing.
pub(super) fn optional<'de, const MOST: usize, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Option::<Bounded<MOST, T>>::deserialize(deserializer)?.map(|list| list.0))
}

/// Reads features.
pub(super) fn features<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Vec<f32>>>, D::Error> {
    let windows = optional::<MOST_WINDOWS, D, Bounded<MOST_VALUES, f32>>(deserializer)?;
    Ok(windows.map(|windows| windows.into_iter().map(|window| window.0).collect()))
}

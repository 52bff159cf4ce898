//! What clients send.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use bipedalnet_core::gait::{AccelerationUnit, AngularRateUnit};

/// A walk: a recording, or the features that the phone's own copy of the network made of it.
///
/// A recording is `acceleration`, in the phone's own axes and with gravity, at `time_seconds` or at an
/// even `rate_hz`, and `angular_rate` where the phone has a gyroscope. Ten seconds make a good walk.
/// Features are `features` and the `model` that made them: the raw walk never leaves the phone then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkDocument {
    /// Time of each sample, in seconds from any origin. Uneven sampling is welcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_seconds: Option<Vec<f64>>,
    /// Samples a second, for even sampling: 20 to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Unit of `acceleration`: `m/s^2` or `g`; `m/s^2` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub acceleration_unit: Option<AccelerationUnit>,
    /// Units that each step of `acceleration` is worth, for integers; 1 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub acceleration_scale: Option<f32>,
    /// x, y and z of each sample, gravity included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<Vec<[f32; 3]>>,
    /// Unit of `angular_rate`: `rad/s` or `deg/s`; `rad/s` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub angular_rate_unit: Option<AngularRateUnit>,
    /// Units that each step of `angular_rate` is worth, for integers; 1 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub angular_rate_scale: Option<f32>,
    /// x, y and z of each sample, where the phone has a gyroscope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub angular_rate: Option<Vec<[f32; 3]>>,
    /// Id of the model that `features` come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The feature layer's output for each window of walking, before the sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<Vec<f32>>>,
}

/// One walk, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Walks {
    /// One.
    One(Box<WalkDocument>),
    /// Several, each with an outcome of its own.
    Many(Vec<WalkDocument>),
}

impl<'de> Deserialize<'de> for Walks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Walks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a walk or a list of walks")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Walks, A::Error> {
                WalkDocument::deserialize(MapAccessDeserializer::new(map))
                    .map(|walk| Walks::One(Box::new(walk)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Walks, A::Error> {
                at_most_64(SeqAccessDeserializer::new(list)).map(Walks::Many)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl PartialSchema for Walks {
    fn schema() -> RefOr<Schema> {
        let walk = || RefOr::Ref(Ref::from_schema_name(WalkDocument::name()));
        let list = ArrayBuilder::new().items(walk()).min_items(Some(1)).max_items(Some(MOST_ITEMS));
        OneOfBuilder::new().item(walk()).item(list).into()
    }
}

impl ToSchema for Walks {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((WalkDocument::name().into_owned(), WalkDocument::schema()));
    }
}

/// Items that a list may have.
const MOST_ITEMS: usize = 64;

/// A list that is given up on as soon as it is too long: its items may take much more memory than the
/// body that they come in.
fn at_most_64<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST_ITEMS} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MOST_ITEMS {
                    return Err(A::Error::invalid_length(MOST_ITEMS + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(List(PhantomData))
}

/// Work that a phone did not get rid of while it was offline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchDocument {
    /// 1 to 64 items. Enrollments among them take effect together, after everything else.
    #[serde(deserialize_with = "at_most_64")]
    #[schema(min_items = 1, max_items = 64)]
    pub items: Vec<BatchItem>,
}

/// A part of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchItem {
    /// As `POST /v1/users/{user}/enrollments`.
    Enroll(EnrollItem),
    /// As `POST /v1/identify`.
    Identify(IdentifyItem),
    /// As `POST /v1/users/{user}/verify`.
    Verify(VerifyItem),
}

/// A walk to enroll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollItem {
    /// Whose walk it is.
    pub user: String,
    /// The walk.
    pub walk: WalkDocument,
}

/// A walk of somebody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentifyItem {
    /// Users to choose from; all where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<Vec<String>>,
    /// The walk.
    pub walk: WalkDocument,
}

/// A walk of somebody who claims to be a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyItem {
    /// Whose walk it is said to be.
    pub user: String,
    /// The false match rate that decides: 0.1, 0.01 or 0.001; 0.01 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmr: Option<f64>,
    /// Walks of one session count together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The answer to `POST /v1/users/{user}/challenges`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The walk.
    pub walk: WalkDocument,
}

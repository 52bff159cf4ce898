//! Requests about walks.

use bipedalnet_core::gait::{AccelerationUnit, AngularRateUnit, AtRest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lists::{
    MOST_ITEMS, MOST_NAMED_USERS, MOST_SAMPLES, MOST_TOKEN_SCOPES, at_most, features, optional,
};

/// A walk: either a recording, or features that the phone computed with its own copy of the model.
///
/// A recording has `acceleration` in the phone's axes with gravity included, and either `time_seconds`
/// or `rate_hz`. It has `angular_rate` if the phone has a gyroscope. Ten seconds of walking are enough.
///
/// Features are `features` and `model`. The recording then never leaves the phone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkDocument {
    /// Time of each sample, in seconds since any point in time. The samples may be uneven.
    #[serde(
        default,
        deserialize_with = "optional::<MOST_SAMPLES, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_items = 732000)]
    pub time_seconds: Option<Vec<f64>>,
    /// Sample rate of even samples, from 20 to 200 Hz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Unit of `acceleration`: `m/s^2` (the default) or `g`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub acceleration_unit: Option<AccelerationUnit>,
    /// Factor that turns the values of `acceleration` into its unit, for integer values. The default is
    /// 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub acceleration_scale: Option<f32>,
    /// Where the acceleration of a phone at rest points: `up` (the default) if a phone that lies on its
    /// back has about +9.8 m/s² on z, as on Android and in browsers that follow the standard; `down` if
    /// it has -9.8 m/s² or -1 g, as in CoreMotion on iOS. All walks of all users must say the same
    /// truth, because a wrong sign turns a walker into another one's mirror image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub acceleration_at_rest: Option<AtRest>,
    /// Acceleration of each sample along x, y and z, with gravity included.
    #[serde(
        default,
        deserialize_with = "optional::<MOST_SAMPLES, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_items = 732000)]
    pub acceleration: Option<Vec<[f32; 3]>>,
    /// Unit of `angular_rate`: `rad/s` (the default) or `deg/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub angular_rate_unit: Option<AngularRateUnit>,
    /// Factor that turns the values of `angular_rate` into its unit, for integer values. The default is
    /// 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0)]
    pub angular_rate_scale: Option<f32>,
    /// Angular rate of each sample around x, y and z, if the phone has a gyroscope.
    #[serde(
        default,
        deserialize_with = "optional::<MOST_SAMPLES, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(max_items = 732000)]
    pub angular_rate: Option<Vec<[f32; 3]>>,
    /// Id of the model that computed `features`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Output of the feature layer before the sign function, for each window of walking.
    #[serde(default, deserialize_with = "features", skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 3660)]
    pub features: Option<Vec<Vec<f32>>>,
}

/// A user to create. All fields are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserDocument {
    /// Consent of the person. It replaces an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
}

/// A token to create. All fields are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenDocument {
    /// What the token allows. The API key must have these scopes too. Defaults to `identify` and `enroll`,
    /// as far as the key has them.
    #[serde(
        default,
        deserialize_with = "optional::<MOST_TOKEN_SCOPES, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_items = 1, max_items = 6)]
    pub scopes: Option<Vec<TokenScope>>,
    /// How long the token is valid. Defaults to an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600)]
    pub expires_in_seconds: Option<u32>,
}

/// Something that a token may allow, for its own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Verify the user, and create challenges.
    Identify,
    /// Read the user, list enrollments, and enroll walks until the user is ready.
    Enroll,
    /// With `enroll`: enroll walks of the user once ready.
    Extend,
    /// With the others: send features instead of recordings.
    Features,
    /// Download the user's templates, to verify on the device.
    Template,
    /// Delete the user.
    Erase,
}

/// Consent to the use of a person's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Where the consent can be found, such as the number of a document.
    #[schema(min_length = 1, max_length = 200)]
    pub reference: String,
    /// When it was given. Defaults to the time of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub given_at_unix_seconds: Option<i64>,
}

/// Requests that a phone collected while it was offline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchDocument {
    /// 1 to 64 items. Enrollments take effect together, after all other items.
    #[serde(deserialize_with = "at_most::<MOST_ITEMS, _, _>")]
    #[schema(min_items = 1, max_items = 64)]
    pub items: Vec<BatchItem>,
}

/// An item of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchItem {
    /// Enroll a walk, as `POST /v1/users/{user}/enrollments` does.
    Enroll(EnrollItem),
    /// Identify a walker, as `POST /v1/identify` does.
    Identify(IdentifyItem),
    /// Verify a user, as `POST /v1/users/{user}/verify` does.
    Verify(VerifyItem),
}

/// A walk to enroll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollItem {
    /// Id of the user who walks.
    pub user: String,
    /// The walk.
    pub walk: WalkDocument,
}

/// A walk to identify.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentifyItem {
    /// Ids of the users to compare the walk with: at least 5 enrolled ones. The default is all users.
    #[serde(
        default,
        deserialize_with = "optional::<MOST_NAMED_USERS, _, _>",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(min_items = 5, max_items = 1000)]
    pub among: Option<Vec<String>>,
    /// The walk.
    pub walk: WalkDocument,
}

/// A walk to verify a user by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyItem {
    /// Id of the claimed user.
    pub user: String,
    /// The false match rate to decide at: 0.1, 0.01 (the default) or 0.001.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmr: Option<f64>,
    /// Name of a session. Walks of one session count together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A nonce from `POST /v1/users/{user}/challenges`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The walk.
    pub walk: WalkDocument,
}

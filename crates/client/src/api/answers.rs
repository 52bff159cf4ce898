//! Responses.

use bipedalnet_core::gait::RecordingDocument;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether enough walking is enrolled to recognise the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// More walking is needed.
    Collecting,
    /// The user can be recognised.
    Ready,
}

/// What would improve recognition of the user most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NextStep {
    /// Enroll more walking, until the user is ready.
    WalkMore,
    /// Enroll a walk more than an hour later: on another day, in other shoes or at another pace. It
    /// avoids more misses than a longer walk today.
    WalkAnotherTime,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserAnswer {
    /// Id of the user.
    pub user: String,
    /// The user's collection. Absent if it is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// `collecting` until enough walking is enrolled, then `ready`.
    pub status: UserState,
    /// Windows of walking in the user's template for the active model.
    pub windows: u64,
    /// Windows that are missing until the user is ready.
    pub windows_missing: u64,
    /// How much of the walking that makes the user ready is enrolled: from 0 to 1, which is `ready`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub progress: f64,
    /// Number of enrollments.
    pub enrollments: u64,
    /// Number of occasions on which the user walked. Two occasions are more than an hour apart.
    pub occasions: u64,
    /// What would improve recognition of the user most. Absent if nothing in particular would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<NextStep>,
    /// When the user was created.
    pub created_at_unix_seconds: i64,
    /// When the user last enrolled a walk or was recognised. A recognition counts after some minutes,
    /// and once a day.
    pub last_active_at_unix_seconds: i64,
    /// The user's consent, if it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<super::Consent>,
}

/// A token of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// What a phone sends instead of an API key.
    pub token: String,
    /// The user that it is for.
    pub user: String,
    /// What it allows.
    pub scopes: Vec<super::TokenScope>,
    /// How long it is valid.
    pub expires_in_seconds: u32,
    /// When it expires, by the server's clock.
    pub expires_at_unix_seconds: i64,
}

/// What a device needs to verify its user without the server, besides the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceTemplateAnswer {
    /// Id of the model that computed the templates. The device needs the same.
    pub model: String,
    /// Id of the user.
    pub user: String,
    /// One for each of the user's ways of walking.
    #[schema(min_items = 1, max_items = 4)]
    pub templates: Vec<PackedTemplate>,
    /// How similar the nearest other users are to the templates.
    #[schema(inline)]
    pub strangers: Strangers,
    /// From which strength on a walk is accepted.
    #[schema(inline)]
    pub thresholds: Thresholds,
    /// How long the device may use this. Each download, and each 304, begins it anew.
    #[schema(minimum = 1, maximum = 365)]
    pub valid_days: u32,
}

/// The sum of the unit feature vectors of walks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PackedTemplate {
    /// Number of windows.
    pub windows: u32,
    /// A value is its step times this.
    pub scale: f32,
    /// A step for each value of the model's feature.
    pub values: Vec<i8>,
}

/// Similarity of other users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Strangers {
    /// Mean.
    pub mean: f32,
    /// Standard deviation, above 0.
    pub deviation: f32,
}

/// Rising strengths, for the false match rates 0.1, 0.01 and 0.001.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Thresholds {
    /// For a walk that is decided once.
    pub single: [f32; 3],
    /// For a walk that is decided several times while it grows.
    pub session: [f32; 3],
    /// Number of users whose comparisons refined the thresholds. 0 for those of the model.
    pub users: usize,
}

/// A page of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsersAnswer {
    /// The users, in the order of their ids.
    pub users: Vec<UserAnswer>,
    /// `after` for the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A user who is locked because too many verifications failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LockAnswer {
    /// Id of the user.
    pub user: String,
    /// Failed verifications since the last genuine one.
    pub failed_verifications: u32,
    /// When the last one was.
    pub last_failure_at_unix_seconds: i64,
    /// Whether the user is locked for all API keys.
    pub for_all_keys: bool,
    /// Ids of the API keys that the user is locked for by their own failures.
    pub for_keys: Vec<String>,
}

/// Locked users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LocksAnswer {
    /// At most 1,000, in the order of their ids.
    pub locks: Vec<LockAnswer>,
}

/// Where an enrollment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WalkSource {
    /// A request to enroll.
    Enrollment,
    /// A verification that was certain enough to update the template.
    Verification,
}

/// An enrollment: one walk of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrollmentAnswer {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows of walking in it. 0 if the active model cannot use it.
    pub windows: u32,
    /// Id of the active model. Absent if that model cannot use the enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where the enrollment comes from.
    pub source: WalkSource,
    /// When it was added.
    pub created_at_unix_seconds: i64,
}

/// The enrollments of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrollmentsAnswer {
    /// The enrollments, oldest first.
    pub enrollments: Vec<EnrollmentAnswer>,
}

/// Everything stored about a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportAnswer {
    /// The user.
    #[serde(flatten)]
    pub user: UserAnswer,
    /// The user's enrollments.
    pub walks: Vec<ExportedWalk>,
    /// Fingerprints of enrolled and verified walks, in hexadecimal digits. A walk that is sent again
    /// is detected by its fingerprint.
    pub fingerprints: Vec<String>,
}

/// An enrollment with everything stored about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportedWalk {
    /// The enrollment.
    #[serde(flatten)]
    pub enrollment: EnrollmentAnswer,
    /// The walk's features, one entry per model.
    pub templates: Vec<ExportedTemplate>,
    /// The recording, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::WalkDocument>)]
    pub recording: Option<RecordingDocument>,
}

/// Features of a walk by one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportedTemplate {
    /// Id of the model.
    pub model: String,
    /// Windows of walking in the walk.
    pub windows: u32,
    /// Sum of the windows' feature vectors, each of length 1, transformed with a secret of this server. It
    /// cannot be compared with features, nor with templates of another server.
    pub template: Vec<f32>,
}

/// A new enrollment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrolledAnswer {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows that were accepted as walking.
    pub windows_accepted: u32,
    /// Windows that were refused, by reason.
    pub windows_refused: Vec<RefusedAnswer>,
    /// Faults of the recording that the service mended. Absent if there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub mended: Vec<MendedAnswer>,
    /// The user after the enrollment.
    #[serde(flatten)]
    pub user: UserAnswer,
}

/// Windows that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedAnswer {
    /// The problem type, as in `Problem`.
    pub r#type: String,
    /// Number of windows with this problem.
    pub windows: u64,
    /// Details of one of these windows.
    pub detail: String,
}

/// A fault of a recording that the service mended. Remove its cause: a larger one of its kind is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MendedAnswer {
    /// `stale-samples`, `repeated-times` or `pauses`.
    pub fault: String,
    /// What was seen, and what was done.
    pub detail: String,
}

/// Result of an identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Identified {
    /// The walker is the user in `user`.
    Identified,
    /// The walker matches no enrolled user.
    Unknown,
    /// The walk does not allow a decision; see `reason`.
    Inconclusive,
}

/// Why a walk does not allow a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// There is too little walking. Send more.
    TooShort,
    /// The walking is unlike any that the model was calibrated on, so the error rates do not hold.
    Unfamiliar,
    /// Several users match about equally well.
    Ambiguous,
    /// The walk itself matches nobody, but its mirror image does. Axes are in another order, or signs are
    /// others, than in the enrolled walks: check `acceleration_at_rest`.
    Mirrored,
}

/// What the decision thresholds were fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationSource {
    /// The model's own calibration data.
    Model,
    /// The model's calibration data, and comparisons among the enrolled users of this service.
    Gallery,
}

/// Response to an identification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IdentifyAnswer {
    /// The result.
    #[schema(inline)]
    pub decision: Identified,
    /// Id of the identified user; null if there is none.
    #[schema(required)]
    pub user: Option<String>,
    /// Why the decision is `inconclusive`. Absent for other decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Doubt>,
    /// The nearest users, best match first. Only for keys with the scope `scores`. The order is by
    /// `estimated_fmr`; a later candidate can have a higher `score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<CandidateAnswer>>,
    /// Windows of walking that were used.
    pub windows: u32,
    /// Faults of the recording that the service mended. Absent if there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub mended: Vec<MendedAnswer>,
    /// What the decision thresholds were fitted to.
    pub calibration: CalibrationSource,
    /// Id of the model that was used.
    pub model: String,
}

/// A user who may be the walker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateAnswer {
    /// Id of the user.
    pub user: String,
    /// Cosine similarity of the walk and the user's template, from -1 to 1, rounded to two digits.
    pub score: f64,
    /// Estimated false match rate at this score: the share of other people's walks that match the user
    /// at least as well. Rounded to two digits, at least 0.000001.
    pub estimated_fmr: f64,
}

/// Result of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// The walker is the user.
    Accept,
    /// The walker is not the user.
    Reject,
    /// The walk does not allow a decision; see `reason`. If it is `too_short`, send more walking in the
    /// same session.
    Inconclusive,
    /// The recording repeats an earlier one of the user.
    SuspectedReplay,
}

/// Response to a verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerifyAnswer {
    /// The result.
    #[schema(inline)]
    pub decision: Verified,
    /// Id of the claimed user.
    pub user: String,
    /// Why the decision is `inconclusive`. Absent for other decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Doubt>,
    /// Cosine similarity of the walk and the user's template, from -1 to 1, rounded to two digits. Only
    /// for keys with the scope `scores`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Estimated false match rate at this score: the share of other people's walks that match the user
    /// at least as well. In a session, the share that do so at any time during it. Rounded to two
    /// digits, at least 0.000001. Only for keys with the scope `scores`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_fmr: Option<f64>,
    /// The false match rate of the threshold that was used.
    pub fmr: f64,
    /// Windows of walking that were used, including earlier ones of the session.
    pub windows: u32,
    /// Faults of the recording that the service mended. Absent if there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub mended: Vec<MendedAnswer>,
    /// What the decision thresholds were fitted to.
    pub calibration: CalibrationSource,
    /// Id of the model that was used.
    pub model: String,
    /// Number of the enrollment that was made from this walk. Absent unless the service updates
    /// templates and this walk was certain enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment: Option<i64>,
}

/// A nonce for one verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChallengeAnswer {
    /// The nonce. Send it with the verification.
    pub challenge: String,
    /// Time until the nonce expires.
    pub expires_in_seconds: u64,
    /// Id of the active model. A phone that sends features computes them with this one.
    pub model: String,
}

/// Outcomes of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomesAnswer {
    /// One outcome per item, in the order of the items.
    pub outcomes: Vec<OutcomeAnswer>,
}

/// Outcome of one item of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeAnswer {
    /// HTTP status that a single request would have got.
    pub status: u16,
    /// The new enrollment, for an `enroll` item that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<EnrolledAnswer>,
    /// The response to an `identify` item that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identified: Option<IdentifyAnswer>,
    /// The response to a `verify` item that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifyAnswer>,
    /// Why the item failed. Other items are not affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// An error, as in RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The problem type: a stable URN for programs.
    pub r#type: String,
    /// Name of the problem type, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was found, and what was expected.
    pub detail: String,
    /// The part of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Id of the request in the server's log, the same as in the header `X-Request-Id`. Absent in the
    /// outcome of a batch item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

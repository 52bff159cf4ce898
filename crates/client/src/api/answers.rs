//! What the server sends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use bipedalnet_core::gait::RecordingDocument;

/// Whether a user is known well enough to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserState {
    /// Not yet: more walking is needed.
    Collecting,
    /// Known well enough.
    Ready,
}

/// What would help most to recognise a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NextStep {
    /// More walking, until the user is ready.
    WalkMore,
    /// A walk at another time, more than an hour later: on another day, in other shoes or at another
    /// pace. It cuts misses more than a longer walk today.
    WalkAnotherTime,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserAnswer {
    /// Their id.
    pub user: String,
    /// `ready` once enough walking is known, `collecting` before.
    pub status: UserState,
    /// Windows of walking that are known of them, to the model that serves.
    pub windows: u64,
    /// Windows that are missing until the user is ready.
    pub windows_missing: u64,
    /// Walks that are kept of them.
    pub enrollments: u64,
    /// Occasions on which they walked: more than an hour apart.
    pub occasions: u64,
    /// What would help most to recognise them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<NextStep>,
    /// When the user was made.
    pub created_at_unix_seconds: i64,
}

/// A page of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsersAnswer {
    /// In the order of their ids.
    pub users: Vec<UserAnswer>,
    /// The `after` of the next page, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a walk that is kept came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WalkSource {
    /// It was enrolled.
    Enrollment,
    /// A verification accepted it beyond doubt, and the service learns from those.
    Verification,
}

/// A walk that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrollmentAnswer {
    /// Its number.
    pub enrollment: i64,
    /// Windows of walking in it; 0 where the model that serves cannot use the walk.
    pub windows: u32,
    /// Id of the model that serves, where it can use the walk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it came with.
    pub source: WalkSource,
    /// When it was added.
    pub created_at_unix_seconds: i64,
}

/// The walks of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrollmentsAnswer {
    /// In the order of enrollment.
    pub enrollments: Vec<EnrollmentAnswer>,
}

/// All that is held about one person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportAnswer {
    /// The user.
    #[serde(flatten)]
    pub user: UserAnswer,
    /// Their walks.
    pub walks: Vec<ExportedWalk>,
    /// Marks by which a walk that is sent again is known, of enrolled and verified walks: hexadecimal.
    pub fingerprints: Vec<String>,
}

/// A walk with all that is held of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportedWalk {
    /// The walk.
    #[serde(flatten)]
    pub enrollment: EnrollmentAnswer,
    /// What models made of it.
    pub templates: Vec<ExportedTemplate>,
    /// The recording, where the service keeps recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::WalkDocument>)]
    pub recording: Option<RecordingDocument>,
}

/// What a model made of a walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportedTemplate {
    /// Id of the model.
    pub model: String,
    /// Windows of walking that it found.
    pub windows: u32,
    /// Sum of the windows' unit feature vectors.
    pub template: Vec<f32>,
}

/// What came of an enrollment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EnrolledAnswer {
    /// Number of the walk.
    pub enrollment: i64,
    /// Windows of walking that were taken.
    pub windows_accepted: u32,
    /// Windows that were not, by reason.
    pub windows_refused: Vec<RefusedAnswer>,
    /// The user, now.
    #[serde(flatten)]
    pub user: UserAnswer,
}

/// Windows that are not walking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedAnswer {
    /// The kind of problem, as in problem+json.
    pub r#type: String,
    /// How many windows it holds for.
    pub windows: u64,
    /// Of one of these windows.
    pub detail: String,
}

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Identified {
    /// The user that the answer names.
    Identified,
    /// Nobody who is enrolled, as far as can be told.
    Unknown,
    /// It cannot be told; see `reason`.
    Inconclusive,
}

/// Why there is no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Too little walking to tell: send more.
    TooShort,
    /// The movement is unlike any walking that the model knows, so that no error rate can be promised.
    Unfamiliar,
    /// Several users match about equally.
    Ambiguous,
}

/// What the thresholds of a decision were fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationSource {
    /// The data sets that the model was calibrated on.
    Model,
    /// These, and the users of this service compared with one another.
    Gallery,
}

/// Who is walking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IdentifyAnswer {
    /// Who it is.
    pub decision: Identified,
    /// Whom the decision names, or null.
    #[schema(required)]
    pub user: Option<String>,
    /// Why the decision is `inconclusive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Doubt>,
    /// The nearest users, the strongest match first, for keys that may see scores. `score` is a plain
    /// cosine and need not fall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<CandidateAnswer>>,
    /// Windows of walking that the decision rests on.
    pub windows: u32,
    /// What the thresholds were fitted to.
    pub calibration: CalibrationSource,
    /// Id of the model that decided.
    pub model: String,
}

/// A user whom the walker may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateAnswer {
    /// The user.
    pub user: String,
    /// Likeness, from -1 to 1, in two digits.
    pub score: f64,
    /// Estimated share of other people's walks that are as much like the user: in two digits, 0.000001
    /// or more. `calibration` says what it was fitted to.
    pub estimated_fmr: f64,
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// It does.
    Accept,
    /// It does not.
    Reject,
    /// It cannot be told; see `reason`. If it is `too_short`, send more under the same session.
    Inconclusive,
    /// The recording is an earlier one of the user's, sent again.
    SuspectedReplay,
}

/// Whether it is the user who walks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerifyAnswer {
    /// Whether it is.
    pub decision: Verified,
    /// The user.
    pub user: String,
    /// Why the decision is `inconclusive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Doubt>,
    /// Likeness, from -1 to 1, in two digits, for keys that may see scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Estimated share of other people's walks that are as much like the user: in two digits, 0.000001
    /// or more, for keys that may see scores. With a session, the share that ever are, in any look at
    /// it. `calibration` says what it was fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_fmr: Option<f64>,
    /// The false match rate that decided.
    pub fmr: f64,
    /// Windows of walking that the decision rests on, earlier ones of the session included.
    pub windows: u32,
    /// What the thresholds were fitted to.
    pub calibration: CalibrationSource,
    /// Id of the model that decided.
    pub model: String,
    /// Number of the walk among the user's, where it was added to them: a service that is told to
    /// learns from what it accepts beyond doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment: Option<i64>,
}

/// A nonce that makes a verification good once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChallengeAnswer {
    /// To be sent with the verification.
    pub challenge: String,
    /// For how long it is good.
    pub expires_in_seconds: u64,
}

/// What came of the items of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomesAnswer {
    /// One an item, in their order.
    pub outcomes: Vec<OutcomeAnswer>,
}

/// What came of one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeAnswer {
    /// The status that a request of its own would have been answered with.
    pub status: u16,
    /// Of an enrollment that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<EnrolledAnswer>,
    /// Of an identification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identified: Option<IdentifyAnswer>,
    /// Of a verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerifyAnswer>,
    /// Of an item that failed; the others are none the worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem: stable, for programs.
    pub r#type: String,
    /// The kind of problem, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was seen, and what is needed.
    pub detail: String,
    /// The part of the request at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Names the request to the operator, as `X-Request-Id` does; not in an outcome of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

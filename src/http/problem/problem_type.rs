//! The table of problem types. Statuses, titles, OpenAPI and the documentation follow from it.

use axum::http::StatusCode;
use bipedalnet_core::gait::SignalError;

/// Makes the enum, and the table in the same order.
macro_rules! problem_types {
    ($($name:ident: $status:literal $code:literal, $title:literal, $meaning:literal;)*) => {
        /// What kind of problem a request met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in super::super) enum ProblemType {
            $($name,)*
        }

        const TABLE: &[Entry] = &[$(Entry {
            kind: ProblemType::$name,
            status: $status,
            code: $code,
            title: $title,
            meaning: $meaning,
        },)*];
    };
}

struct Entry {
    kind: ProblemType,
    /// 0 if any status is possible.
    status: u16,
    /// The end of the `type` URI. It never changes.
    code: &'static str,
    /// The same for every problem of this type.
    title: &'static str,
    /// For the documentation.
    meaning: &'static str,
}

problem_types! {
    BadHost: 400 "bad-host", "The Host header is invalid",
        "`Host` is missing, there are several, or it names no host.";
    EmptyBody: 400 "empty-body", "The body is empty",
        "The body is empty.";
    IncompleteBody: 400 "incomplete-body", "The body is incomplete",
        "The connection ended before the body did. Nothing was changed.";
    InvalidChange: 400 "invalid-change", "The change is invalid",
        "`Bipedalnet-After` is not a value that an answer had in `Bipedalnet-Change`.";
    InvalidDeadline: 400 "invalid-deadline", "The deadline is invalid",
        "`Request-Deadline-Ms` is not a whole number of at least 1.";
    InvalidIdempotencyKey: 400 "invalid-idempotency-key", "The idempotency key is invalid",
        "`Idempotency-Key` is not 1 to 255 visible ASCII characters.";
    InvalidQuery: 400 "invalid-query", "A query parameter is invalid",
        "A query parameter is unknown, or its value is invalid.";
    MalformedCbor: 400 "malformed-cbor", "The body is not valid CBOR",
        "The body is not CBOR, or uses a feature of CBOR that the service does not support.";
    MalformedEncoding: 400 "malformed-encoding", "The body cannot be decompressed",
        "The body is not compressed as `Content-Encoding` says.";
    MalformedJson: 400 "malformed-json", "The body is not valid JSON",
        "The body is not JSON.";
    MalformedPath: 400 "malformed-path", "The path is not valid UTF-8",
        "The path is not UTF-8.";
    BadApiKey: 401 "bad-api-key", "A valid API key is required",
        "The API key is unknown, wrong, expired or revoked.";
    ExpiredToken: 401 "expired-token", "The token has expired",
        "The token's time is over. Create a new one with an API key.";
    NoApiKey: 401 "no-api-key", "A valid API key is required",
        "The service requires an API key, and the request has none.";
    BeyondToken: 403 "beyond-token", "The token does not allow this",
        "The token is for one user. It allows neither other users nor other operations.";
    MissingScope: 403 "missing-scope", "The API key lacks a scope",
        "The API key is valid, but lacks the scope that the operation requires.";
    NoDeviceTemplates: 403 "no-device-templates", "The server gives no templates to devices",
        "`--device-template-days` is 0. Send recordings, or features.";
    OriginNotAllowed: 403 "origin-not-allowed", "The web page may not call the server",
        "The page's origin is not among those that the operator allows.";
    WrongCollection: 403 "wrong-collection", "The API key is for other collections",
        "The API key is bound to other collections. It may do nothing in this one, and nothing that concerns \
         all.";
    NoSuchResource: 404 "no-such-resource", "There is nothing at this path",
        "There is nothing at this path.";
    UnknownCollection: 404 "unknown-collection", "The collection does not exist",
        "The collection does not exist. An admin can create it.";
    UnknownEnrollment: 404 "unknown-enrollment", "The enrollment does not exist",
        "The user has no enrollment with this number.";
    UnknownModel: 404 "unknown-model", "The model does not exist",
        "The model does not exist.";
    UnknownTrainingJob: 404 "unknown-training-job", "The training job does not exist",
        "The training job does not exist, or was deleted because of its age.";
    UnknownUser: 404 "unknown-user", "The user does not exist",
        "The user does not exist. Create it first.";
    MethodNotAllowed: 405 "method-not-allowed", "The path does not have this method",
        "The path has other methods. `Allow` lists them.";
    Timeout: 408 "timeout", "The request took too long",
        "The request was not received and answered within the time that the server allows.";
    BadChallenge: 409 "bad-challenge", "The challenge is invalid",
        "The challenge is unknown, used, expired, or belongs to another user or API key. Create a new one.";
    ChangeNotHere: 409 "change-not-here", "The server does not have the change yet",
        "Another server made the change that `Bipedalnet-After` names, and this one did not learn of it within a second. `Retry-After` says when to try again.";
    CollectionInUse: 409 "collection-in-use", "The collection cannot be deleted",
        "The collection has users, or is the default one.";
    KeyLost: 409 "key-lost", "The user's data cannot be read",
        "The user's key was destroyed, but a copy of the database has the user. Delete the user.";
    ModelInUse: 409 "model-in-use", "The model is in use",
        "The model is active, or part of the program. It cannot be deleted.";
    NobodyToTrainOn: 409 "nobody-to-train-on", "There are no users to train on",
        "No user has an enrollment.";
    NotEnrolled: 409 "not-enrolled", "The user has no enrollment",
        "The user has no enrollment to compare with.";
    OtherModel: 409 "other-model", "The features are from another model",
        "The features are from a model that is not active.";
    RequestInFlight: 409 "request-in-flight", "The request is still being processed",
        "Another request with this idempotency key is being processed. Try again.";
    TokensNeedKeys: 409 "tokens-need-keys", "There is no API key to make a token with",
        "The service requires no API key, so phones need no token. Create an API key first.";
    TooLittleData: 409 "too-little-data", "There is too little walking to train on",
        "Some users have too little walking in kept recordings. The detail lists them.";
    TooManyCollections: 409 "too-many-collections", "There are too many collections",
        "The service has the maximum number of collections.";
    TooManyEnrollments: 409 "too-many-enrollments", "The user has too many enrollments",
        "The user has the maximum number of enrollments. Delete some.";
    TooManyUsers: 409 "too-many-users", "There are too many users",
        "The service, or the collection, has the maximum number of users.";
    TrainingJobOver: 409 "training-job-over", "The training job has ended",
        "The training job has already ended. It cannot be cancelled.";
    UnlikeEarlierWalks: 409 "unlike-earlier-walks", "The walk is unlike the earlier ones",
        "The walk may be someone else's: it is unlike the user's earlier walks. The detail says how to \
         enroll it all the same.";
    UnusableModel: 409 "unusable-model", "The model cannot be used",
        "The model cannot be activated, or its file was changed.";
    WalkAlreadyEnrolled: 409 "walk-already-enrolled", "The walk is enrolled already",
        "The user has this walk, or a copy of it.";
    WalksLost: 409 "walks-lost", "Enrollments would be lost",
        "Enrollments would not count under the model, because their recordings are not kept.";
    WorseModel: 409 "worse-model", "The model is worse than the active one",
        "The model does worse than the active one on the same recordings.";
    AnswerErased: 410 "answer-erased", "The response was deleted",
        "The request was processed. Its response named a user who was deleted since.";
    BodyTooLarge: 413 "body-too-large", "The body is too large",
        "The body is too large, as sent or after decompression.";
    UnsupportedEncoding: 415 "unsupported-encoding", "The body's compression is not supported",
        "`Content-Encoding` is not gzip, zstd, br or identity.";
    UnsupportedMediaType: 415 "unsupported-media-type", "The body's media type is not supported",
        "`Content-Type` is neither JSON nor CBOR.";
    RangeBeyondEnd: 416 "range-beyond-end", "The range is beyond the end of the file",
        "The `Range` begins after the end of the file.";
    WrongHost: 421 "wrong-host", "The request is for another host",
        "A server without API keys answers only requests that name its own machine.";
    AmbiguousTime: 422 "ambiguous-time", "The recording cannot be used",
        "The recording has both or neither of `time_seconds` and `rate_hz`.";
    BackwardTime: 422 "backward-time", "The recording cannot be used",
        "A sample's time is not later than the time of the sample before it.";
    BadFeatures: 422 "bad-features", "The recording cannot be used",
        "There are too few features, too many, or some have the wrong length or are not finite.";
    BatchSize: 422 "batch-size", "The batch has too few or too many items",
        "The batch has too few or too many items.";
    BatchedTimes: 422 "batched-times", "The recording cannot be used",
        "The times are those at which samples arrived in batches.";
    ClippedSensor: 422 "clipped-sensor", "The recording cannot be used",
        "The range of a sensor, or of the encoding, is too small for the movement.";
    EmptyRecording: 422 "empty-recording", "The recording cannot be used",
        "The recording has no samples.";
    FlatSensor: 422 "flat-sensor", "The recording cannot be used",
        "An axis never changes: the sensor is stuck.";
    GravityUnits: 422 "gravity-units", "The recording cannot be used",
        "The mean acceleration is far from 9.8 m/s²: its unit or scale is wrong. The detail names the likely \
         unit.";
    IdempotencyKeyReused: 422 "idempotency-key-reused",
        "The idempotency key was used for another request",
        "The idempotency key was used for a request with another method, path or body.";
    ImplausibleAngularRate: 422 "implausible-angular-rate", "The recording cannot be used",
        "The angular rate is too large or too small for walking: its unit or scale is wrong. The detail \
         names the likely unit. `angular_rate` may be left out.";
    ImplausibleFeatures: 422 "implausible-features", "The recording cannot be used",
        "The features cannot be those of one walk: they are too alike, too different or not in order.";
    ImplausibleGravity: 422 "implausible-gravity", "The recording cannot be used",
        "The mean acceleration is near 0: gravity is missing.";
    InvalidField: 422 "invalid-field", "A field of the body is invalid",
        "A field of the body is missing, unknown or of the wrong type.";
    InvalidId: 422 "invalid-id", "The id is invalid",
        "An id is not 1 to 64 of the characters `A-Z a-z 0-9 . _ ~ -`.";
    InvalidRate: 422 "invalid-rate", "The recording cannot be used",
        "`rate_hz` is not a number of at least 1.";
    InvalidScale: 422 "invalid-scale", "The recording cannot be used",
        "A scale is not a positive number.";
    LengthMismatch: 422 "length-mismatch", "The recording cannot be used",
        "A list is longer or shorter than `acceleration`.";
    MissingSamples: 422 "missing-samples", "The recording cannot be used",
        "Samples are missing for too long.";
    NoSteps: 422 "no-steps", "The recording cannot be used",
        "There is movement, but there are no steps.";
    NonFiniteValue: 422 "non-finite-value", "The recording cannot be used",
        "A value is NaN or infinite.";
    RateTooLow: 422 "rate-too-low", "The recording cannot be used",
        "The sample rate is too low to detect steps.";
    RoundedTimes: 422 "rounded-times", "The recording cannot be used",
        "Many samples have the time of the sample before them.";
    Shaking: 422 "shaking", "The recording cannot be used",
        "The movement is too fast or too strong for walking.";
    SlowSensor: 422 "slow-sensor", "The recording cannot be used",
        "The values change more rarely than they are sampled: the sensor is too slow.";
    StandingStill: 422 "standing-still", "The recording cannot be used",
        "There is hardly any movement.";
    TimeUnits: 422 "time-units", "The recording cannot be used",
        "The times are not in seconds. The detail names the likely unit.";
    TooFewUsers: 422 "too-few-users", "There are too few users to compare with",
        "`among` names fewer than 5 enrolled users. To check a claim, verify it.";
    TooLong: 422 "too-long", "The recording cannot be used",
        "The recording is longer than the service accepts.";
    TooShort: 422 "too-short", "The recording cannot be used",
        "The recording is shorter than one window, 2 s.";
    UnknownFalseMatchRate: 422 "unknown-false-match-rate", "The false match rate is not supported",
        "`fmr` is not one of the supported rates.";
    UserLocked: 423 "user-locked", "The user is locked",
        "Too many verifications of the user failed, in all or with this API key. An admin can release the user.";
    ChallengeNeeded: 428 "challenge-needed", "A challenge is required",
        "The verification requires a challenge. Create one first.";
    TooManyFailures: 429 "too-many-failures", "Too many verifications failed",
        "Too many verifications of the user, with the API key or from the address failed. `Retry-After` says how long to wait.";
    TooManyRequests: 429 "too-many-requests", "There are too many requests",
        "The rate limit of the API key or the address is reached. `Retry-After` says how long to wait.";
    TooManyTrainingJobs: 429 "too-many-training-jobs", "Too many training jobs are waiting",
        "The maximum number of training jobs is waiting. `Retry-After` says when the running job should end.";
    Internal: 500 "internal", "The server failed",
        "The service has a defect, or its machine failed. Nothing was changed.";
    UnsupportedTransferEncoding: 501 "unsupported-transfer-encoding",
        "The body's transfer coding is not supported",
        "`Transfer-Encoding` is not `chunked`.";
    DatabaseBusy: 503 "database-busy", "The database is busy",
        "Another program has locked the database. Try again.";
    DatabaseGone: 503 "database-gone", "The database's file is gone",
        "A file of the database was deleted or replaced while the server runs. Nothing is stored.";
    NotReady: 503 "not-ready", "The server is stopping",
        "The server is stopping. Send requests elsewhere.";
    Overloaded: 503 "overloaded", "The server is busy",
        "The server has more work waiting than it can hold, or than it can do in time. Try again.";
    DeadlinePassed: 504 "deadline-passed", "The deadline has passed",
        "The `Request-Deadline-Ms` of the request has passed.";
    StorageFull: 507 "storage-full", "The disk is full",
        "There is no space to store the change. Nothing was changed.";
    Http: 0 "http", "The request failed",
        "The request was refused before it reached the service. The status says why.";
}

impl ProblemType {
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| entry.kind)
    }

    /// The type of a recording's error.
    pub fn of_signal(error: &SignalError) -> Self {
        let entry = TABLE.iter().find(|entry| entry.code == error.code());
        entry.expect("a test compares the table with all errors of recordings").kind
    }

    fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    /// The stable URI that clients compare.
    pub fn uri(self) -> String {
        format!("urn:bipedalnet:problem:{}", self.code())
    }

    /// `None` if any status is possible.
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.entry().status).ok()
    }

    /// The end of the URI.
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// Whether the server is to blame.
    pub fn is_server_error(self) -> bool {
        self.entry().status >= 500
    }

    pub fn title(self) -> &'static str {
        self.entry().title
    }

    pub fn meaning(self) -> &'static str {
        self.entry().meaning
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_type_has_its_own_code_and_an_error_status() {
        let codes: BTreeSet<&str> = TABLE.iter().map(|entry| entry.code).collect();
        assert_eq!(codes.len(), TABLE.len());
        for kind in ProblemType::all() {
            assert_eq!(kind.entry().kind, kind);
            let is_error =
                |status: StatusCode| status.is_client_error() || status.is_server_error();
            assert!(kind == ProblemType::Http || kind.status().is_some_and(is_error), "{kind:?}");
        }
    }

    #[test]
    fn each_error_of_a_recording_has_a_type() {
        use SignalError::*;
        let field = "acceleration";
        let all = [
            Empty,
            LengthMismatch { field, length: 0, samples: 0 },
            NonFinite { field, index: 0 },
            BackwardTime { index: 0, previous_seconds: 0.0, time_seconds: 0.0 },
            TimeUnits { interval: 0.0, unit: "hours", rate_hz: 0.0 },
            RoundedTimes { percent: 0.0, step_seconds: 0.0, rate_hz: 0.0 },
            BatchedTimes { samples: 0, gap_seconds: 0.0, rate_hz: 0.0 },
            InvalidRate { rate_hz: 0.0 },
            InvalidScale { field, scale: 0.0 },
            AmbiguousTime,
            RateTooLow { rate_hz: 0.0, needed_hz: 0.0 },
            TooShort { seconds: 0.0, needed_seconds: 0.0 },
            GravityUnits { mean_m_s2: 0.0, sent: 0.0 },
            ImplausibleGravity { mean_m_s2: 0.0, movement_m_s2: 0.0 },
            ImplausibleAngularRate { rms_rad_s: 0.0, sent: 0.0 },
            SlowSensor { field, rate_hz: 0.0, needed_hz: 0.0 },
            Gap { gap_seconds: 0.0, at_seconds: 0.0, allowed_seconds: 0.0 },
            FlatSensor { field, axis: 'x', value: 0.0 },
            ClippedSensor { field, percent: 0.0 },
            StandingStill { deviation_m_s2: 0.0, needed_m_s2: 0.0 },
            Shaking { repeats_hz: 0.0, rms_m_s2: 0.0, allowed_hz: 0.0, allowed_m_s2: 0.0 },
            NoSteps { correlation: 0.0, needed: 0.0 },
        ];
        for error in &all {
            // A new error does not compile here until the list above has it.
            match error {
                Empty | LengthMismatch { .. } | NonFinite { .. } | BackwardTime { .. } => {}
                TimeUnits { .. } | RoundedTimes { .. } | BatchedTimes { .. } => {}
                ImplausibleAngularRate { .. } | SlowSensor { .. } => {}
                InvalidRate { .. } | InvalidScale { .. } | AmbiguousTime | RateTooLow { .. } => {}
                TooShort { .. } | GravityUnits { .. } | ImplausibleGravity { .. } => {}
                Gap { .. } | FlatSensor { .. } | ClippedSensor { .. } => {}
                StandingStill { .. } | Shaking { .. } | NoSteps { .. } => {}
            }
            assert_eq!(ProblemType::of_signal(error).code(), error.code());
        }
        let codes: BTreeSet<&str> = all.iter().map(SignalError::code).collect();
        assert_eq!(codes.into_iter().collect::<Vec<_>>(), crate::telemetry::REFUSALS);
    }
}

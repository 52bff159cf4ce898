//! Which problem type, detail and field each error has.

use axum::http::{HeaderValue, header};
use bipedalnet_core::identity::UserIdError;

use super::{Problem, ProblemType};
use crate::access::WrongCollection;
use crate::service::{AccessError, GuessLimit, PoolError, ServiceError};
use crate::store::StoreError;

/// Seconds to wait if nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 1;

impl Problem {
    /// The database's file is not where it was.
    pub fn database_gone() -> Self {
        Self::new(
            ProblemType::DatabaseGone,
            "a file of the database was deleted or replaced; the operator must put it back, or restore a \
             backup and restart the server",
        )
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let kind = match error {
            AccessError::NoKey => ProblemType::NoApiKey,
            AccessError::BadKey => ProblemType::BadApiKey,
            AccessError::ExpiredToken => ProblemType::ExpiredToken,
        };
        let remedy = match error {
            AccessError::ExpiredToken => "get a new one with POST /v1/users/{user}/tokens",
            _ => {
                "send `Authorization: Bearer` or `X-API-Key` with a key from `bipedalnet keys create`, \
                 or with a token"
            }
        };
        let detail = format!("{error}: {remedy}");
        Self::new(kind, detail)
            .at("authorization")
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }
}

impl From<UserIdError> for Problem {
    fn from(error: UserIdError) -> Self {
        Self::new(ProblemType::InvalidId, error.to_string()).at("user")
    }
}

impl From<WrongCollection> for Problem {
    fn from(error: WrongCollection) -> Self {
        match error {
            WrongCollection::OfToken => Self::beyond_token(),
            WrongCollection::OfKey(_) => Self::new(
                ProblemType::WrongCollection,
                format!("{error}; name one of them with ?collection="),
            )
            .at("collection"),
        }
    }
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overloaded { retry_after_seconds } => {
                Self::new(ProblemType::Overloaded, error.to_string())
                    .retry_after(retry_after_seconds)
            }
            PoolError::Failed => Self::internal(&error),
        }
    }
}

impl From<GuessLimit> for Problem {
    fn from(limit: GuessLimit) -> Self {
        let seconds = match limit {
            GuessLimit::Locked => {
                let release = "an admin can release them with DELETE /v1/users/{user}/lock";
                return Self::new(ProblemType::UserLocked, format!("{limit}; {release}"))
                    .at("user");
            }
            GuessLimit::Delayed { seconds }
            | GuessLimit::Key { seconds, .. }
            | GuessLimit::Address { seconds, .. } => seconds,
        };
        Self::new(ProblemType::TooManyFailures, limit.to_string()).retry_after(seconds)
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        use ProblemType as Type;
        use ServiceError as Error;
        let reason = error.to_string();
        match error {
            Error::Pool(error) => error.into(),
            Error::Store(error) if error.is_lock() => database_busy(
                "another program, such as a backup, has locked it; nothing was changed; try again",
            ),
            Error::Store(error) if error.is_transient() => {
                tracing::error!(%error, "the database does not answer; the disk may hang");
                database_busy("it does not answer; nothing was changed; try again")
            }
            Error::Store(error) if error.is_disk_full() => Self::new(
                Type::StorageFull,
                "nothing was changed; the operator must free space on the disk",
            ),
            Error::Store(StoreError::FileGone { .. }) => {
                tracing::error!(reason, "a write was refused");
                Self::database_gone()
            }
            Error::Randomness(_) | Error::NotCompared | Error::Store(_) => Self::internal(&reason),
            Error::Signal(error) => {
                Self::new(Type::of_signal(&error), reason).at(error.field())
            }
            Error::TooLong { .. } => Self::new(Type::TooLong, reason).at("acceleration"),
            Error::OtherModel { .. } => Self::new(Type::OtherModel, reason).at("model"),
            Error::FeatureCount { .. } | Error::Feature { .. } => {
                Self::new(Type::BadFeatures, reason).at("features")
            }
            Error::ImplausibleFeatures(_) => {
                Self::new(Type::ImplausibleFeatures, reason).at("features")
            }
            // The next four name no user: responses are kept, and may outlive the user.
            Error::NoSuchUser(_) => {
                Self::new(Type::UnknownUser, "create the user first, with PUT /v1/users/{user}")
                    .at("user")
            }
            Error::NoSuchCollection(_) => Self::new(
                Type::UnknownCollection,
                format!("{reason}; an admin can create it with PUT /v1/collections/{{collection}}"),
            )
            .at("collection"),
            Error::CollectionInUse(_) => Self::new(Type::CollectionInUse, reason).at("collection"),
            Error::TooManyCollections { .. } => {
                Self::new(Type::TooManyCollections, reason).at("collection")
            }
            Error::CollectionFull { .. } => Self::new(Type::TooManyUsers, reason).at("user"),
            // The client named the user, who was deleted or never was.
            Error::UnknownAmong(_) => {
                Self::new(Type::UnknownUser, format!("{reason}; name only users who exist")).at("among")
            }
            Error::TooManyEnrollments { most, .. } => Self::new(
                Type::TooManyEnrollments,
                format!("the user has {most} enrollments, the maximum; delete some"),
            )
            .at("user"),
            Error::Access(error) => error.into(),
            Error::NoKeyForToken => Self::new(
                Type::TokensNeedKeys,
                format!("{reason}; create a key with `bipedalnet keys create`"),
            ),
            Error::NoDeviceTemplates => Self::new(
                Type::NoDeviceTemplates,
                format!("{reason}; its operator can allow it with --device-template-days"),
            ),
            Error::MissingScope(scope) => Self::missing_scope(scope),
            Error::WalkAlreadyEnrolled(_) => Self::new(
                Type::WalkAlreadyEnrolled,
                "the user has this walk, or a copy of it; send a new walk",
            ),
            Error::UnlikeEarlierWalks(_) => Self::new(
                Type::UnlikeEarlierWalks,
                "the walk is unlike the user's earlier ones; if the person has proven who they are in \
                 another way, send the request with ?confirmed=true and a key with the scope admin",
            ),
            Error::AnswerErased => Self::new(Type::AnswerErased, reason).at("idempotency-key"),
            Error::TooManyUsers { .. } => Self::new(Type::TooManyUsers, reason).at("user"),
            Error::ChallengeNeeded => Self::new(
                Type::ChallengeNeeded,
                format!("{reason}; create one with POST /v1/users/{{user}}/challenges"),
            )
            .at("challenge"),
            Error::BadChallenge => Self::new(
                Type::BadChallenge,
                format!("{reason}; create a new one with POST /v1/users/{{user}}/challenges"),
            )
            .at("challenge"),
            Error::Guessing(limit) => limit.into(),
            Error::TooFewUsers { .. } => Self::new(
                Type::TooFewUsers,
                format!("{reason} with POST /v1/users/{{user}}/verify"),
            )
            .at("among"),
            Error::NoSuchEnrollment { .. } => Self::new(
                Type::UnknownEnrollment,
                format!("{reason}; GET /v1/users/{{user}}/enrollments lists the user's enrollments"),
            )
            .at("enrollment"),
            Error::OtherRequest => Self::new(
                Type::IdempotencyKeyReused,
                "send the same method, path and body as before, or use a new key",
            )
            .at("idempotency-key"),
            Error::InFlight => Self::new(
                Type::RequestInFlight,
                "send the request again in a second to get its response",
            )
            .at("idempotency-key")
            .retry_after(RETRY_AFTER_SECONDS),
            Error::NotEnrolled(_) => Self::new(
                Type::NotEnrolled,
                "there is nothing to compare with; enroll a walk with POST /v1/users/{user}/enrollments",
            )
            .at("user"),
            Error::UnknownRate { .. } => Self::new(Type::UnknownFalseMatchRate, reason).at("fmr"),
            Error::KeyLost => Self::new(Type::KeyLost, reason).at("user"),
            Error::NoSuchModel(_) => {
                Self::new(Type::UnknownModel, format!("{reason}; GET /v1/models lists the models"))
                    .at("model")
            }
            Error::ModelInUse { .. } => Self::new(Type::ModelInUse, reason).at("model"),
            Error::UnusableModel(_) => Self::new(Type::UnusableModel, reason).at("model"),
            Error::WalksLost { .. } => Self::new(
                Type::WalksLost,
                format!("{reason}; enroll these users again, or set force"),
            )
            .at("force"),
            Error::WorseModel(_) => {
                Self::new(Type::WorseModel, format!("{reason}; set force to activate it anyway"))
                    .at("force")
            }
            Error::NobodyToTrainOn => Self::new(
                Type::NobodyToTrainOn,
                format!("{reason}; enroll walks with POST /v1/users/{{user}}/enrollments"),
            ),
            Error::TooLittleToTrainOn { .. } => Self::new(
                Type::TooLittleData,
                format!("{reason}; enroll more walks, or set skip_users_with_too_little"),
            )
            .at("skip_users_with_too_little"),
            Error::NoSuchJob(_) => Self::new(
                Type::UnknownTrainingJob,
                format!("{reason}; GET /v1/training-jobs lists the training jobs"),
            )
            .at("job"),
            Error::TooManyJobs { seconds, .. } => Self::new(
                Type::TooManyTrainingJobs,
                format!("{reason}; try again later, or cancel one"),
            )
            .retry_after(seconds),
            Error::JobOver { .. } => Self::new(Type::TrainingJobOver, reason).at("job"),
        }
    }
}

fn database_busy(detail: &'static str) -> Problem {
    Problem::new(ProblemType::DatabaseBusy, detail).retry_after(RETRY_AFTER_SECONDS)
}

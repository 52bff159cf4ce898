//! Why a use case fails, or the service does not start.

use bipedalnet_core::UnfitModel;
use bipedalnet_core::bnn::ModelFileError;
use bipedalnet_core::gait::SignalError;
use bipedalnet_core::identity::{
    CollectionId, FALSE_MATCH_RATES, FEWEST_FEATURES, ImplausibleFeatures, UserId,
};
use bipedalnet_training::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER};

use super::{AccessError, GuessLimit, PoolError, ShortUser};
use crate::access::Scope;
use crate::store::{Comparison, StoreError};

/// Why a use case failed. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The recording cannot be used.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The recording would take too much compute.
    #[error("the recording lasts {seconds:.0} s; send it in parts of at most {allowed_seconds} s")]
    TooLong {
        /// Its length.
        seconds: f64,
        /// The longest that is accepted.
        allowed_seconds: f64,
    },
    /// Features of a model that is not active.
    #[error(
        "the features are from model {found}, but {wanted} is active; download it, or send the \
         recording itself"
    )]
    OtherModel {
        /// Their model.
        found: String,
        /// The active model.
        wanted: String,
    },
    /// Too few features to tell whether they are of a walk, or more than the longest recording has
    /// windows.
    #[error("there are features of {windows} windows; expected {FEWEST_FEATURES} to {most}")]
    FeatureCount {
        /// Their windows.
        windows: usize,
        /// The most that are accepted.
        most: usize,
    },
    /// A feature vector that the network cannot have computed.
    #[error(
        "features[{window}] has {length} values; expected {needed} finite values that are not all \
         close to 0"
    )]
    Feature {
        /// Position of the window.
        window: usize,
        length: usize,
        /// Length needed.
        needed: usize,
    },
    /// Features that are not those of one walk.
    #[error("{0}; or send the recording itself")]
    ImplausibleFeatures(#[from] ImplausibleFeatures),
    /// The request is not authenticated.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The service requires no API key, so it makes no tokens.
    #[error("the service requires no API key, so it makes no tokens")]
    NoKeyForToken,
    /// Templates do not leave the service.
    #[error("this server gives no templates to devices")]
    NoDeviceTemplates,
    /// The sender may not do this.
    #[error("this needs the scope {}", .0.name())]
    MissingScope(Scope),
    /// A walk that was enrolled before.
    #[error("this walk of user {0} is enrolled already")]
    WalkAlreadyEnrolled(UserId),
    /// A walk that may be someone else's.
    #[error("this walk is unlike the earlier ones of user {0}")]
    UnlikeEarlierWalks(UserId),
    /// The pool is busy.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The user does not exist.
    #[error("there is no user {0}")]
    NoSuchUser(UserId),
    /// The collection does not exist.
    #[error("there is no collection {0}")]
    NoSuchCollection(CollectionId),
    /// The collection has users, or is the default one.
    #[error("{0}")]
    CollectionInUse(String),
    /// The limit of collections is reached.
    #[error("there are {most} collections, the maximum; delete some")]
    TooManyCollections {
        /// The limit.
        most: u64,
    },
    /// The collection's limit of users is reached.
    #[error("the collection has {most} users, its maximum; delete some, or raise its max_users")]
    CollectionFull {
        /// The limit.
        most: u64,
    },
    /// A walk cannot be compared with a user who does not exist.
    #[error("there is no user {0}")]
    UnknownAmong(UserId),
    /// The limit of users is reached.
    #[error("there are {most} users, the maximum; delete some, or raise --max-users")]
    TooManyUsers {
        /// The limit.
        most: u64,
    },
    /// The user's limit of walks is reached.
    #[error("user {user} has {most} enrolled walks, the maximum; delete some")]
    TooManyEnrollments {
        user: UserId,
        /// The limit.
        most: u64,
    },
    /// The stored response named a user who was deleted since.
    #[error("this request was carried out; its response named a user who was deleted since")]
    AnswerErased,
    /// A verification without a challenge. The service is set to require one, or the walk is sent
    /// as features, whose replay cannot be detected.
    #[error("this verification needs a challenge")]
    ChallengeNeeded,
    /// An invalid challenge.
    #[error(
        "this challenge is invalid: it was used, has expired, or belongs to another user or API key"
    )]
    BadChallenge,
    /// Too many verifications failed.
    #[error(transparent)]
    Guessing(#[from] GuessLimit),
    /// The walk would be compared with too few users.
    #[error(
        "it would be compared with {enrolled} enrolled users; expected at least {needed}: to check \
         a claim, verify it"
    )]
    TooFewUsers {
        /// Users with an enrollment.
        enrolled: usize,
        /// Users needed.
        needed: usize,
    },
    /// The system gives no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The user has no such enrollment.
    #[error("user {user} has no enrollment {id}")]
    NoSuchEnrollment {
        user: UserId,
        /// Number of the enrollment.
        id: i64,
    },
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    OtherRequest,
    /// A request with this idempotency key is being carried out.
    #[error("a request with this idempotency key is being carried out")]
    InFlight,
    /// The user has no template to compare with.
    #[error("user {0} has no enrolled walk to compare with")]
    NotEnrolled(UserId),
    /// A false match rate that is not supported.
    #[error("a false match rate of {fmr} is not supported; use one of {FALSE_MATCH_RATES:?}")]
    UnknownRate {
        /// The requested rate.
        fmr: f64,
    },
    /// The model does not exist.
    #[error("there is no model {0}")]
    NoSuchModel(String),
    /// The model may not be deleted.
    #[error("model {model} {reason}")]
    ModelInUse {
        model: String,
        /// Why not.
        reason: &'static str,
    },
    /// The model does not suit this version, or its file was altered.
    #[error("the model cannot be used: {0}")]
    UnusableModel(String),
    /// The model cannot read some walks, as their recordings are not kept.
    #[error(
        "{walks} walks of {users} users would be lost: the model cannot read them, since their \
         recordings are not kept"
    )]
    WalksLost {
        /// Lost walks.
        walks: u64,
        /// Users who lose walks.
        users: u64,
    },
    /// The model does worse than the active one.
    #[error("{}", worse(.0))]
    WorseModel(Comparison),
    /// Nobody is enrolled.
    #[error("there are no users to train on: no user has an enrolled walk")]
    NobodyToTrainOn,
    /// There is too little walking to train on.
    #[error("{}", too_little(.users, *.windows, *.keeps_recordings))]
    TooLittleToTrainOn {
        /// Users with too little walking.
        users: Vec<ShortUser>,
        /// Windows of walking of all other users.
        windows: u64,
        /// Whether recordings are kept at all.
        keeps_recordings: bool,
    },
    /// The training job does not exist.
    #[error("there is no training job {0}")]
    NoSuchJob(i64),
    /// The queue of training jobs is full.
    #[error("{most} training jobs are waiting, the maximum")]
    TooManyJobs {
        /// The limit.
        most: u32,
        /// Seconds until the running one will end.
        seconds: u64,
    },
    /// The training job is over.
    #[error("training job {job} has already ended: it is {state}")]
    JobOver {
        job: i64,
        /// How it ended.
        state: &'static str,
    },
    /// A training job's model could not be compared with the active one.
    #[error(
        "it could not be compared with the active model: fewer than two users have two kept \
         recordings each; activate it yourself if you want it"
    )]
    NotCompared,
    /// The user's key is missing.
    #[error("the user's key is missing from the keyring; delete the user and enroll again")]
    KeyLost,
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl ServiceError {
    /// Whether a retry may succeed soon.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Pool(error) => matches!(error, PoolError::Overloaded { .. }),
            _ => false,
        }
    }
}

impl ServiceError {
    /// Whether a watch tells the operator: a lock, a full disk, or PostgreSQL that is away.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_temporary())
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchUser(user) => Self::NoSuchUser(user),
            StoreError::NoSuchCollection(id) => Self::NoSuchCollection(id),
            StoreError::TooManyCollections { most } => Self::TooManyCollections { most },
            StoreError::CollectionFull { most } => Self::CollectionFull { most },
            error @ StoreError::CollectionInUse { .. } => Self::CollectionInUse(error.to_string()),
            StoreError::OtherRequest => Self::OtherRequest,
            // A retry gets the stored response.
            StoreError::AnsweredElsewhere => Self::InFlight,
            StoreError::AnswerErased => Self::AnswerErased,
            StoreError::TooManyEnrollments { user, most } => {
                Self::TooManyEnrollments { user, most }
            }
            StoreError::TooManyUsers { most } => Self::TooManyUsers { most },
            StoreError::NoSuchEnrollment { user, id } => Self::NoSuchEnrollment { user, id },
            StoreError::NoSuchJob(job) => Self::NoSuchJob(job),
            StoreError::NoSuchModel(model) => Self::NoSuchModel(model),
            StoreError::ModelInUse { model, reason } => Self::ModelInUse { model, reason },
            StoreError::KeyLost => Self::KeyLost,
            StoreError::Randomness(error) => Self::Randomness(error),
            error => Self::Store(error),
        }
    }
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The given model's file cannot be read.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// The given model does not suit this version.
    #[error(transparent)]
    Unfit(#[from] UnfitModel),
    /// The active model in the database cannot be used.
    #[error(
        "the active model {model} is damaged in the database: {reason}; start once with \
         `--model` and its file to repair it, or restore a backup"
    )]
    Kept {
        model: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn worse(Comparison { served, recordings, old, new }: &Comparison) -> String {
    format!(
        "it identifies {} of {recordings} recordings correctly and {} wrongly, and {} wrongly if \
         their users are not enrolled; the active model {served}: {}, {} and {}",
        new.right, new.wrong, new.strangers, old.right, old.wrong, old.strangers
    )
}

/// Names at most ten users.
fn too_little(users: &[ShortUser], windows: u64, keeps_recordings: bool) -> String {
    let mut text = format!(
        "each user needs {FEWEST_WINDOWS_A_USER} windows of walking (about a second each) in \
         kept recordings, and all users together need {FEWEST_WINDOWS}; "
    );
    for ShortUser { user, recordings, windows } in users.iter().take(10) {
        let missing = (FEWEST_WINDOWS_A_USER as u64).saturating_sub(*windows);
        let collection = user.collection();
        let place = match collection.is_default() {
            true => String::new(),
            false => format!(" of collection {collection}"),
        };
        text += &format!(
            "{user}{place} has {windows} in {recordings} recordings, {missing} are missing; "
        );
    }
    if users.len() > 10 {
        text += &format!("{} more users have too few; ", users.len() - 10);
    }
    text += &format!("the others have {windows}");
    if !keeps_recordings {
        text += "; recordings are not kept: start the server with --keep-recordings-days";
    }
    text
}

//! Why the service did not do what was asked, or does not start.

use super::{PoolError, ShortUser};
use crate::store::{Comparison, StoreError};
use bipedalnet_core::UnfitModel;
use bipedalnet_core::bnn::ModelFileError;
use bipedalnet_core::gait::SignalError;
use bipedalnet_core::identity::FALSE_MATCH_RATES;
use bipedalnet_core::identity::UserId;
use bipedalnet_training::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER};

/// Why a use case was not carried out. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The recording cannot be used.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The recording would take too much compute.
    #[error(
        "the recording lasts {seconds:.0} s; at most {allowed_seconds} s are taken at once: send it in parts"
    )]
    TooLong {
        /// Length seen.
        seconds: f64,
        /// Longest that is taken.
        allowed_seconds: f64,
    },
    /// Features of another model than the one that serves.
    #[error(
        "the features are of model {found}; {wanted} serves: fetch it, or send the recording itself"
    )]
    OtherModel {
        /// The model named.
        found: String,
        /// The model that serves.
        wanted: String,
    },
    /// No features, or more than a recording may have windows.
    #[error("there are features of {windows} windows; 1 to {most} are taken at once")]
    FeatureCount {
        /// Windows seen.
        windows: usize,
        /// Most that are taken.
        most: usize,
    },
    /// A feature that the network cannot have made.
    #[error(
        "features[{window}] has {length} values; {needed} finite ones are needed that are not all as good as 0"
    )]
    Feature {
        /// Position of the window.
        window: usize,
        /// Its length.
        length: usize,
        /// Length needed.
        needed: usize,
    },
    /// No compute for it now.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The user does not exist.
    #[error("there is no user {0}")]
    NoSuchUser(UserId),
    /// No more users may be made.
    #[error("there are {most} users, as many as may be; erase some, or raise the limit")]
    TooManyUsers {
        /// The limit.
        most: u64,
    },
    /// The user may have no more walks.
    #[error("user {user} has {most} enrolled walks, as many as may be; erase some")]
    TooManyEnrollments {
        /// The user.
        user: UserId,
        /// The limit.
        most: u64,
    },
    /// The answer to this request named somebody who was erased since.
    #[error("this request was carried out; its answer named somebody who was erased since")]
    AnswerErased,
    /// A verification must come with a challenge: the service demands it, or it is by features, of
    /// which a replay could not be told.
    #[error("this verification needs a challenge")]
    ChallengeNeeded,
    /// A challenge that was not given for this user, was used, or is too old.
    #[error("this challenge is not good: it was used, has expired, or is not this user's")]
    BadChallenge,
    /// As many challenges are open as may be.
    #[error("too many challenges are open; try again in a minute")]
    TooManyChallenges,
    /// The system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The user has no such walk.
    #[error("user {user} has no enrollment {id}")]
    NoSuchEnrollment {
        /// The user.
        user: UserId,
        /// Number of the walk.
        id: i64,
    },
    /// The idempotency key stands for another request.
    #[error("this idempotency key was used for another request")]
    OtherRequest,
    /// The request is being carried out.
    #[error("a request with this idempotency key is being carried out")]
    InFlight,
    /// There is nothing to compare a walk with.
    #[error("user {0} has no enrolled walk to compare with")]
    NotEnrolled(UserId),
    /// A rate that is not among those offered.
    #[error("a false match rate of {fmr} is not offered; there are {FALSE_MATCH_RATES:?}")]
    UnknownRate {
        /// The rate asked for.
        fmr: f64,
    },
    /// The model does not exist.
    #[error("there is no model {0}")]
    NoSuchModel(String),
    /// The model may not be deleted.
    #[error("model {model} {reason}")]
    ModelInUse {
        /// The model.
        model: String,
        /// What it is needed for.
        reason: &'static str,
    },
    /// The model cannot serve, or its file was altered.
    #[error("the model cannot be used: {0}")]
    UnusableModel(String),
    /// The model would know less of users than the one that serves.
    #[error(
        "{walks} walks of {users} users would not count, as their recordings are not kept for the \
         model to read"
    )]
    WalksLost {
        /// Walks.
        walks: u64,
        /// Users whose walks they are.
        users: u64,
    },
    /// The model does worse than the one that serves.
    #[error("{}", worse(.0))]
    WorseModel(Comparison),
    /// Nobody is enrolled.
    #[error("there is nobody to train on: no user has an enrolled walk")]
    NobodyToTrainOn,
    /// There is too little walking to train on.
    #[error("{}", too_little(.users, *.windows, *.keeps_recordings))]
    TooLittleToTrainOn {
        /// Users with too little of their own.
        users: Vec<ShortUser>,
        /// Windows of walking of all others.
        windows: u64,
        /// Whether recordings are kept at all.
        keeps_recordings: bool,
    },
    /// The training job does not exist.
    #[error("there is no training job {0}")]
    NoSuchJob(i64),
    /// As many training jobs wait as may.
    #[error("{most} training jobs wait, as many as may")]
    TooManyJobs {
        /// The limit.
        most: u32,
        /// Seconds until the one that runs will be done.
        seconds: u64,
    },
    /// The training job is over.
    #[error("training job {job} is over: it is {state}")]
    JobOver {
        /// The job.
        job: i64,
        /// How it ended.
        state: &'static str,
    },
    /// A training job's model was not compared with the one that serves.
    #[error(
        "fewer than two users have two kept recordings each to compare it on with the one that \
         serves; activate it if it is meant"
    )]
    NotCompared,
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl ServiceError {
    /// Whether the same may well succeed soon.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Pool(error) => matches!(error, PoolError::Overloaded { .. }),
            _ => false,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchUser(user) => Self::NoSuchUser(user),
            StoreError::OtherRequest => Self::OtherRequest,
            StoreError::AnswerErased => Self::AnswerErased,
            StoreError::TooManyEnrollments { user, most } => {
                Self::TooManyEnrollments { user, most }
            }
            StoreError::TooManyUsers { most } => Self::TooManyUsers { most },
            StoreError::NoSuchEnrollment { user, id } => Self::NoSuchEnrollment { user, id },
            StoreError::NoSuchJob(job) => Self::NoSuchJob(job),
            StoreError::NoSuchModel(model) => Self::NoSuchModel(model),
            StoreError::ModelInUse { model, reason } => Self::ModelInUse { model, reason },
            error => Self::Store(error),
        }
    }
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model that it was given cannot be read.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// The model that it was given cannot serve.
    #[error(transparent)]
    Unfit(#[from] UnfitModel),
    /// The model that serves, by the database, cannot be used.
    #[error(
        "model {model}, which serves, is not good in the database: {reason}; start once with \
         `--model` and its file, which mends it, or restore a backup"
    )]
    Kept {
        /// The model.
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
        "of {recordings} recordings it names {} right and {} wrong, and {} wrong of people who are \
         not enrolled; {served}, which serves: {}, {} and {}",
        new.right, new.wrong, new.strangers, old.right, old.wrong, old.strangers
    )
}

/// Names ten users at most.
fn too_little(users: &[ShortUser], windows: u64, keeps_recordings: bool) -> String {
    let mut text = format!(
        "each user needs {FEWEST_WINDOWS_A_USER} windows of walking (about a second each) in \
         recordings that are kept, all together {FEWEST_WINDOWS}; "
    );
    for ShortUser { user, recordings, windows } in users.iter().take(10) {
        let missing = (FEWEST_WINDOWS_A_USER as u64).saturating_sub(*windows);
        text +=
            &format!("{user} has {windows} in {recordings} recordings, {missing} are missing; ");
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

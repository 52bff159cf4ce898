//! The use cases: users, enrollments, identification, verification. Knows no HTTP.

mod batch;
mod calibration;
mod challenges;
mod enrolling;
mod evidence;
mod keys;
mod maintenance;
mod pool;
mod recognising;
mod retraining;
mod sessions;
mod writing;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::bnn::Model;
use crate::config::ServiceSettings;
use crate::gait::{ROW_RECIPE, Recipe, SignalError, WINDOW_ROWS};
use crate::identity::{Gallery, UserId};
use crate::store::{Store, StoreError};

pub use batch::{Item, Outcome};
pub use calibration::{Calibration, FALSE_MATCH_RATES, OperatingPoint, StrangerScores};
pub use challenges::Challenge;
use challenges::Challenges;
pub use enrolling::{Enrolled, Enrollment, Export, ExportedWalk, Reply, Request, User, UserStatus};
pub use evidence::Evidence;
pub use keys::AccessError;
use keys::Keys;
use pool::Pool;
pub use pool::PoolError;
pub use recognising::{Claim, Identification, Verification};
pub use retraining::retrained_model;
pub use sessions::SessionId;
use sessions::Sessions;
pub use writing::Answer;
use writing::InFlight;

/// The metric of a model file that tells from which score on a probe is the nearest user.
pub const IDENTIFICATION_THRESHOLD: &str = "identification_threshold";

/// The metric of a model file that tells from which score on two walks are of one person, at a
/// false match rate.
pub fn verification_threshold(fmr: f64) -> String {
    format!("verification_threshold_at_fmr_{fmr}")
}

/// Everything that answers a request. Clones are cheap and share all state.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    model: Model,
    recipe: Recipe,
    threshold: f32,
    /// Thresholds of [`FALSE_MATCH_RATES`], in that order.
    verification_thresholds: Vec<f32>,
    settings: ServiceSettings,
    store: Store,
    gallery: RwLock<Gallery>,
    keys: Keys,
    sessions: Mutex<Sessions>,
    challenges: Mutex<Challenges>,
    in_flight: InFlight,
    /// Held over a change of the database and of the gallery, so that the two change in one order.
    writing: tokio::sync::Mutex<()>,
    /// Whether the write-ahead log still holds erased data.
    scrub_due: AtomicBool,
    pool: Pool,
}

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
        "features[{window}] has {length} values; {needed} finite ones are needed, not all of them 0"
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
    /// A verification must come with a challenge here.
    #[error("this service verifies only against a challenge")]
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
    /// A rate for which no threshold was set when the model was trained.
    #[error(
        "no threshold is known for a false match rate of {fmr}; there are those for {FALSE_MATCH_RATES:?}"
    )]
    UnknownRate {
        /// The rate asked for.
        fmr: f64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchUser(user) => Self::NoSuchUser(user),
            StoreError::OtherRequest => Self::OtherRequest,
            StoreError::TooManyUsers { most } => Self::TooManyUsers { most },
            StoreError::NoSuchEnrollment { user, id } => Self::NoSuchEnrollment { user, id },
            error => Self::Store(error),
        }
    }
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model's windows are not of a kind that this version cuts.
    #[error("the model reads {found}; this version cuts {WINDOW_ROWS} rows {ROW_RECIPE:?}")]
    Windows {
        /// What the model file says.
        found: String,
    },
    /// The model cannot tell strangers.
    #[error("the model file has no usable {metric:?} among its metrics: train it anew")]
    Threshold {
        /// What is missing.
        metric: String,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A service over a model and a database, its gallery loaded.
    ///
    /// # Errors
    /// When the model does not suit this version or the database.
    pub async fn new(
        model: Model,
        store: Store,
        settings: ServiceSettings,
    ) -> Result<Self, StartError> {
        let metadata = &model.metadata;
        let [rows, samples] = metadata.architecture.input;
        if metadata.rows != ROW_RECIPE || rows != WINDOW_ROWS || samples < 2 {
            let found = format!("{rows} rows of {samples} samples, {:?}", metadata.rows);
            return Err(StartError::Windows { found });
        }
        let threshold = |metric: String| match metadata.metrics.get(&metric) {
            Some(&threshold) if (-1.0..=1.0).contains(&threshold) => Ok(threshold),
            _ => Err(StartError::Threshold { metric }),
        };
        let verification_thresholds: Result<_, _> =
            FALSE_MATCH_RATES.iter().map(|&fmr| threshold(verification_threshold(fmr))).collect();
        let (threshold, verification_thresholds) =
            (threshold(IDENTIFICATION_THRESHOLD.to_owned())?, verification_thresholds?);
        let recipe = Recipe { rate_hz: metadata.rate_hz, samples };
        let feature_len = model.network.feature_len();
        let mut gallery = Gallery::new(feature_len);
        for walk in store.templates(model.id(), feature_len).await? {
            gallery.add(&walk.user, &walk.template);
        }
        let shared = Shared {
            model,
            recipe,
            threshold,
            verification_thresholds,
            settings,
            store,
            gallery: RwLock::new(gallery),
            keys: Keys::default(),
            sessions: Mutex::default(),
            challenges: Mutex::default(),
            in_flight: InFlight::default(),
            writing: tokio::sync::Mutex::default(),
            // After a crash, too, erased data may be left in the log.
            scrub_due: AtomicBool::new(true),
            pool: Pool::new(),
        };
        let service = Self { shared: Arc::new(shared) };
        service.refresh_keys().await?;
        Ok(service)
    }

    /// Runs other compute of a request, such as decoding, off the async runtime.
    ///
    /// # Errors
    /// When there is no compute for it.
    pub async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        self.shared.pool.run(|_| job()).await
    }

    /// Enrolled users that have a template.
    pub fn gallery_len(&self) -> usize {
        self.shared.gallery().len()
    }

    /// Finishes writes and closes the database.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }
}

impl Shared {
    // A panic while a lock was held is logged where it happened; each change below is whole before
    // anything in it can panic, so what the lock guards is still good.
    fn gallery(&self) -> RwLockReadGuard<'_, Gallery> {
        self.gallery.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn gallery_mut(&self) -> RwLockWriteGuard<'_, Gallery> {
        self.gallery.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn feature_len(&self) -> usize {
        self.model.network.feature_len()
    }
}

//! The use cases: users, enrollments, identification, verification. Knows no HTTP.

mod calibration;
mod enrolling;
mod pool;
mod recognising;
mod sessions;
mod writing;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::bnn::{Model, Scratch};
use crate::gait::{Cut, ROW_RECIPE, Recipe, Recording, SignalError, WINDOW_ROWS, cut_windows};
use crate::identity::{Gallery, Template, UserId};
use crate::store::{Store, StoreError};

pub use calibration::{Calibration, FALSE_MATCH_RATES, OperatingPoint, StrangerScores};
pub use enrolling::{
    Enrolled, Enrollment, Export, Reply, Request, StoredTemplate, User, UserStatus,
};
use pool::Pool;
pub use pool::PoolError;
pub use recognising::{Identification, Verification};
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

/// Longest recording that is taken: a bound on the compute of one request.
const LONGEST_RECORDING_SECONDS: f64 = 900.0;

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
    store: Store,
    gallery: RwLock<Gallery>,
    sessions: Mutex<Sessions>,
    in_flight: InFlight,
    /// Held over a change of the database and of the gallery, so that the two change in one order.
    writing: tokio::sync::Mutex<()>,
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
    /// No compute for it now.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The user does not exist.
    #[error("there is no user {0}")]
    NoSuchUser(UserId),
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
    pub async fn new(model: Model, store: Store) -> Result<Self, StartError> {
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
            store,
            gallery: RwLock::new(gallery),
            sessions: Mutex::default(),
            in_flight: InFlight::default(),
            writing: tokio::sync::Mutex::default(),
            pool: Pool::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
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

    /// Cuts a recording and runs its windows; tells which were refused.
    fn template(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
    ) -> Result<(Template, Vec<(SignalError, usize)>), ServiceError> {
        let seconds = recording.duration_seconds();
        if seconds > LONGEST_RECORDING_SECONDS {
            let allowed_seconds = LONGEST_RECORDING_SECONDS;
            return Err(ServiceError::TooLong { seconds, allowed_seconds });
        }
        let mut template = Template::empty(self.feature_len());
        let Cut { windows, refused } =
            cut_windows(recording, &self.recipe, self.recipe.samples / 2)?;
        for window in windows {
            let output = self
                .model
                .network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
        }
        Ok((template, refused))
    }
}

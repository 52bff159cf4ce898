//! The use cases: make a user, enroll a walk, identify a walker. Knows no HTTP.

mod calibration;
mod pool;

use std::sync::{Arc, PoisonError, RwLock};

use crate::bnn::{Model, Scratch};
use crate::gait::{ROW_RECIPE, Recipe, Recording, SignalError, WINDOW_ROWS, cut_windows};
use crate::identity::{Decision, Gallery, Template, UserId};
use crate::store::{Store, StoreError};

pub use calibration::{Calibration, StrangerScores};
use pool::Pool;
pub use pool::PoolError;

/// The metric of a model file that tells from which score on a probe is the nearest user.
pub const IDENTIFICATION_THRESHOLD: &str = "identification_threshold";

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
    store: Store,
    gallery: RwLock<Gallery>,
    pool: Pool,
}

/// An accepted walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows of walking in it.
    pub windows: u32,
}

/// An answer to "who is walking?".
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// Who it is.
    pub decision: Decision,
    /// Windows of walking that it rests on.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
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
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchUser(user) => Self::NoSuchUser(user),
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
    #[error(
        "the model file has no usable {IDENTIFICATION_THRESHOLD:?} among its metrics: train it anew"
    )]
    Threshold,
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
        let threshold = match metadata.metrics.get(IDENTIFICATION_THRESHOLD) {
            Some(&threshold) if (-1.0..=1.0).contains(&threshold) => threshold,
            _ => return Err(StartError::Threshold),
        };
        let recipe = Recipe { rate_hz: metadata.rate_hz, samples };
        let feature_len = model.network.feature_len();
        let mut gallery = Gallery::new(feature_len);
        for (user, template) in store.templates(model.id(), feature_len).await? {
            gallery.add(&user, &template);
        }
        let shared = Shared {
            model,
            recipe,
            threshold,
            store,
            gallery: RwLock::new(gallery),
            pool: Pool::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes a user; tells whether it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_user(&self, user: &UserId) -> Result<bool, ServiceError> {
        Ok(self.shared.store.put_user(user).await?)
    }

    /// Enrolls a walk of a user, who is recognised from then on.
    ///
    /// # Errors
    /// When the user does not exist, the recording is no walk, or there is no compute for it.
    pub async fn enroll(
        &self,
        user: UserId,
        recording: Recording,
    ) -> Result<Enrolled, ServiceError> {
        let shared = Arc::clone(&self.shared);
        // Before any compute, so that a wrong name costs little.
        if !shared.store.has_user(&user).await? {
            return Err(ServiceError::NoSuchUser(user));
        }
        let computing = Arc::clone(&shared);
        let compute = move |scratch: &mut Scratch| computing.template(&recording, scratch);
        let template = shared.pool.run(compute).await??;
        // A task of its own: a client that hangs up now cannot part the database from the gallery.
        let task = tokio::spawn(async move {
            let enrollment =
                shared.store.add_enrollment(&user, shared.model.id(), &template).await?;
            let mut gallery = shared.gallery.write().unwrap_or_else(PoisonError::into_inner);
            gallery.add(&user, &template);
            Ok(Enrolled { enrollment, windows: template.windows() })
        });
        task.await.map_err(|_| PoolError::Failed)?
    }

    /// Tells who is walking, among all enrolled users. Does not touch the database.
    ///
    /// # Errors
    /// When the recording is no walk, or there is no compute for it.
    pub async fn identify(&self, recording: Recording) -> Result<Identification, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let probe = shared.template(&recording, scratch)?;
            let gallery = shared.gallery.read().unwrap_or_else(PoisonError::into_inner);
            Ok(Identification {
                decision: gallery.identify(&probe, shared.threshold),
                windows: probe.windows(),
                model: shared.model.id().to_owned(),
            })
        };
        self.shared.pool.run(decide).await?
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
        self.shared.gallery.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Finishes writes and closes the database.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }
}

impl Shared {
    /// Cuts a recording and runs its windows.
    fn template(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
    ) -> Result<Template, ServiceError> {
        let seconds = recording.duration_seconds();
        if seconds > LONGEST_RECORDING_SECONDS {
            let allowed_seconds = LONGEST_RECORDING_SECONDS;
            return Err(ServiceError::TooLong { seconds, allowed_seconds });
        }
        let network = &self.model.network;
        let mut template = Template::empty(network.feature_len());
        for window in cut_windows(recording, &self.recipe, self.recipe.samples / 2)? {
            let output = network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
        }
        Ok(template)
    }
}

//! The use cases: users, enrollments, identification, verification. Knows no HTTP.

mod activation;
mod batch;
mod challenges;
mod crash;
mod enrolling;
mod error;
mod evidence;
mod gate;
mod group;
mod jobs;
mod keys;
mod maintenance;
mod models;
mod observing;
mod pool;
mod recognising;
mod refinement;
mod serving;
mod sessions;
mod trainer;
mod updating;
mod writing;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::{Notify, Semaphore};

use crate::config::{Live, ServiceSettings};
use crate::store::Store;
use crate::telemetry::Metrics;
pub use activation::Activation;
pub use batch::{Item, Outcome};
pub use challenges::Challenge;
use challenges::Challenges;
pub use enrolling::{
    Enrolled, Enrollment, Export, ExportedTemplate, ExportedWalk, IdempotentRequest,
    StoredResponse, User, UserStatus,
};
pub use error::{ServiceError, StartError};
pub use evidence::Evidence;
use group::WaitingWalks;
use jobs::Jobs;
pub use jobs::{Follower, JobLength, JobRequest, JobStatus, ShortUser, TrainingJob};
pub use keys::AccessError;
use keys::Keys;
pub use models::{Comparison, GivenModel, Outcomes, StoredModel};
use pool::{Entry, Pool};
pub use pool::{PoolError, until};
pub use recognising::{Claim, Identification, NearUser, Verification};
use serving::Serving;
pub use sessions::SessionId;
pub use writing::Answer;
use writing::InFlight;

/// Changes that may wait for their turn; more are refused.
const MAX_CHANGES: usize = 1024;

/// Everything that answers a request. Clones are cheap and share all state.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Live<ServiceSettings>,
    store: Store,
    serving: RwLock<Arc<Serving>>,
    keys: Keys,
    challenges: Mutex<Challenges>,
    in_flight: InFlight,
    /// Held over a change of the database and of what is in memory, so that the two change in one
    /// order.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// A permit for each change that waits for its turn.
    changes: Arc<Semaphore>,
    waiting_walks: WaitingWalks,
    /// Held while a model is made ready and takes over: one at a time.
    activating: tokio::sync::Mutex<()>,
    jobs: Jobs,
    /// Whether the gallery changed since the thresholds were fitted to it.
    refinement_due: AtomicBool,
    /// Wakes the task that fits them.
    gallery_change: Notify,
    /// Held while the thresholds are fitted.
    refining: tokio::sync::Mutex<()>,
    /// Whether the write-ahead log still holds erased data.
    scrub_due: AtomicBool,
    pool: Pool,
    metrics: Arc<Metrics>,
}

impl Service {
    /// A service over a database, its gallery loaded. The model that serves is the database's; where
    /// it has none yet, the one that is given.
    ///
    /// # Errors
    /// When a model does not suit this version, or the database cannot be used.
    pub async fn new(
        given: GivenModel,
        store: Store,
        settings: Live<ServiceSettings>,
    ) -> Result<Self, StartError> {
        let serving = models::start(given, &store, settings.get().max_models).await?;
        let metrics = Arc::new(Metrics::new());
        let shared = Shared {
            settings,
            store,
            serving: RwLock::new(Arc::new(serving)),
            keys: Keys::default(),
            challenges: Mutex::default(),
            in_flight: InFlight::default(),
            writing: Arc::default(),
            changes: Arc::new(Semaphore::new(MAX_CHANGES)),
            waiting_walks: WaitingWalks::default(),
            activating: tokio::sync::Mutex::default(),
            jobs: Jobs::default(),
            refinement_due: AtomicBool::new(true),
            gallery_change: Notify::new(),
            refining: tokio::sync::Mutex::default(),
            // After a crash, too, erased data may be left in the log.
            scrub_due: AtomicBool::new(true),
            pool: Pool::new(Arc::clone(&metrics)),
            metrics,
        };
        let service = Self { shared: Arc::new(shared) };
        service.refresh_keys().await?;
        Ok(service)
    }

    /// Runs other compute of a request, such as decoding, off the async runtime. The request may have
    /// another turn.
    ///
    /// # Errors
    /// When there is no compute for it.
    pub async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        self.shared.pool.run(Entry::First, |_| job()).await
    }

    /// Id of the model that serves.
    pub fn model_id(&self) -> String {
        self.shared.serving().model.id().to_owned()
    }

    /// Enrolled users that have a template.
    pub fn gallery_len(&self) -> usize {
        self.shared.serving().gallery().len()
    }

    /// Finishes writes and closes the database.
    pub async fn close(&self) {
        self.shared.store.close().await;
    }
}

//! The active model with all that depends on it: exchanged as a whole, so that no request mixes two
//! models.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::{Recording, SignalError};
use bipedalnet_core::identity::CollectionId;
use bipedalnet_core::{GaitModel, Reading};
use tokio::sync::Notify;

use super::galleries::{CollectionGallery, Galleries};
use crate::store::SecretKey;
use crate::telemetry::Metrics;

/// A model in memory, with its galleries. A request takes it once and uses it to its end.
pub(super) struct LoadedModel {
    pub model: GaitModel,
    pub galleries: Galleries,
}

/// The model `id`, or why its file cannot be used.
pub(super) fn model_from_file(id: &str, file: &[u8]) -> Result<GaitModel, String> {
    let model = Model::from_bytes(file).map_err(|error| error.to_string())?;
    if model.id() != id {
        return Err(format!("the file is that of model {}", model.id()));
    }
    GaitModel::new(model).map_err(|error| error.to_string())
}

impl LoadedModel {
    /// Has no galleries. Transforms templates with a secret.
    pub fn new(model: GaitModel, secret: &SecretKey) -> Self {
        let galleries = Galleries::new(model.feature_len(), model.calibration.clone());
        let model = model.with_secret(secret.bytes());
        Self { galleries, model }
    }

    pub fn id(&self) -> &str {
        self.model.id()
    }

    pub fn feature_len(&self) -> usize {
        self.model.feature_len()
    }

    /// The gallery of a collection.
    pub fn gallery(&self, collection: &CollectionId) -> Arc<CollectionGallery> {
        self.galleries.of(collection)
    }

    /// Runs the network over a recording. Also returns how long that took, without the time for
    /// cutting windows. Runs on the pool.
    pub fn read(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
        metrics: &Metrics,
    ) -> Result<(Reading, Duration), SignalError> {
        let mut inference = Duration::ZERO;
        let mut last: Option<Instant> = None;
        let reading = self.model.read(recording, scratch, |_| {
            let now = Instant::now();
            if let Some(last) = last {
                metrics.walks.window_inference_seconds.observe((now - last).as_secs_f64());
                inference += now - last;
            }
            last = Some(now);
        })?;
        Ok((reading, inference))
    }
}

/// The model that answers requests. Clones share it.
#[derive(Clone)]
pub(super) struct ActiveModel {
    current: Arc<RwLock<Arc<LoadedModel>>>,
    changed: Arc<Changed>,
}

/// Collections whose thresholds are out of date.
#[derive(Default)]
struct Changed {
    collections: Mutex<HashSet<CollectionId>>,
    notify: Notify,
}

impl ActiveModel {
    pub fn new(model: LoadedModel) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(model))), changed: Arc::default() }
    }

    pub fn get(&self) -> Arc<LoadedModel> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the model from the next request on. Called after the write that activates it in the
    /// database.
    pub fn exchange(&self, next: Arc<LoadedModel>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Notes that the thresholds of a collection are out of date.
    pub fn gallery_changed(&self, collection: CollectionId) {
        let mut collections =
            self.changed.collections.lock().unwrap_or_else(PoisonError::into_inner);
        collections.insert(collection);
        self.changed.notify.notify_one();
    }

    /// Takes a collection whose thresholds are out of date.
    pub fn take_changed(&self) -> Option<CollectionId> {
        let mut collections =
            self.changed.collections.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = collections.iter().next().cloned()?;
        collections.take(&taken)
    }

    /// Completes once a gallery has changed since this last completed. For one task only.
    pub async fn changes(&self) {
        self.changed.notify.notified().await;
    }
}

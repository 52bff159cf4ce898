//! The active model with all that depends on it: exchanged as a whole, so that no request mixes two
//! models.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::{Recording, SignalError};
use bipedalnet_core::identity::Gallery;
use bipedalnet_core::{GaitModel, Reading};
use tokio::sync::watch;

use crate::store::SecretKey;
use crate::telemetry::Metrics;

/// A model in memory, with its gallery. A request takes it once and uses it to its end.
pub(super) struct LoadedModel {
    pub model: GaitModel,
    gallery: RwLock<Gallery>,
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
    /// Has an empty gallery. Transforms templates with a secret.
    pub fn new(model: GaitModel, secret: &SecretKey) -> Self {
        let gallery = Gallery::new(model.feature_len(), model.calibration.clone());
        let model = model.with_secret(secret.bytes());
        Self { gallery: RwLock::new(gallery), model }
    }

    pub fn id(&self) -> &str {
        self.model.id()
    }

    pub fn feature_len(&self) -> usize {
        self.model.feature_len()
    }

    // A panic under a lock is logged where it happens. Each change of the gallery is whole
    // before anything in it can panic, so what the lock guards is still valid.
    pub fn gallery(&self) -> RwLockReadGuard<'_, Gallery> {
        self.gallery.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn gallery_mut(&self) -> RwLockWriteGuard<'_, Gallery> {
        self.gallery.write().unwrap_or_else(PoisonError::into_inner)
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
    gallery_version: Arc<watch::Sender<u64>>,
}

impl ActiveModel {
    pub fn new(model: LoadedModel) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(model))), gallery_version: Arc::default() }
    }

    pub fn get(&self) -> Arc<LoadedModel> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the model from the next request on. Called after the write that activates it in the
    /// database.
    pub fn exchange(&self, next: Arc<LoadedModel>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Notes that the gallery's thresholds are out of date.
    pub fn gallery_changed(&self) {
        self.gallery_version.send_modify(|version| *version += 1);
    }

    /// Counts changes of the gallery.
    pub fn gallery_version(&self) -> watch::Receiver<u64> {
        self.gallery_version.subscribe()
    }
}

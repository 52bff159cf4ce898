//! All that depends on the model: exchanged as a whole, so that no request mixes two models.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::Shared;
use super::sessions::Sessions;
use crate::telemetry::Metrics;
use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::{Recording, SignalError};
use bipedalnet_core::identity::{Gallery, Template, UserId, UserTemplates};
use bipedalnet_core::{GaitModel, Reading, UnfitModel};

/// A model that serves, and what was made with it. A request takes it once and uses it to its end.
pub(super) struct Serving {
    pub model: GaitModel,
    gallery: RwLock<Gallery>,
    sessions: Mutex<Sessions>,
}

impl Serving {
    /// A model with which nobody is enrolled yet.
    pub fn new(model: Model) -> Result<Self, UnfitModel> {
        let model = GaitModel::new(model)?;
        let gallery = Gallery::new(model.feature_len(), model.calibration.clone());
        Ok(Self { gallery: RwLock::new(gallery), sessions: Mutex::default(), model })
    }

    pub fn feature_len(&self) -> usize {
        self.model.feature_len()
    }

    // A panic while a lock was held is logged where it happened; each change below is whole before
    // anything in it can panic, so what the lock guards is still good.
    pub fn gallery(&self) -> RwLockReadGuard<'_, Gallery> {
        self.gallery.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn gallery_mut(&self) -> RwLockWriteGuard<'_, Gallery> {
        self.gallery.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a user be known by these walks alone.
    pub fn replace(&self, user: &UserId, walks: &[Template]) {
        let mut gallery = self.gallery_mut();
        let templates = UserTemplates::new(walks, gallery.calibration());
        gallery.replace(user, templates);
    }

    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the network over a recording, and tells how long that took without cutting it into
    /// windows. Costs compute: for the pool.
    pub fn read(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
        metrics: &Metrics,
    ) -> Result<(Reading, Duration), SignalError> {
        let mut inference = Duration::ZERO;
        let mut last: Option<Instant> = None;
        let reading = self.model.read(recording, scratch, || {
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

impl Shared {
    /// The model that serves now.
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets another model serve from the next request on. For the change that activates it in the
    /// database.
    pub fn exchange(&self, next: Arc<Serving>) {
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

//! All that depends on the model: exchanged as a whole, so that no request mixes two models.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::Shared;
use super::sessions::Sessions;
use crate::bnn::{Model, Scratch};
use crate::gait::{Cut, Recipe, Recording, Rows, SignalError, WINDOW_ROWS, cut_windows};
use crate::identity::{Calibration, Gallery, Template, UserId, UserTemplates};
use crate::telemetry::Metrics;

/// A model that serves, and what was made with it. A request takes it once and uses it to its end.
pub(super) struct Serving {
    pub model: Model,
    pub recipe: Recipe,
    gallery: RwLock<Gallery>,
    sessions: Mutex<Sessions>,
}

/// Why a model cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum UnfitModel {
    /// Its windows are not of a kind that this version cuts.
    #[error("the model reads {found}; this version cuts {WINDOW_ROWS} rows {}", Rows::names())]
    Windows {
        /// What the model file says.
        found: String,
    },
    /// Templates are made of its feature, and it has none.
    #[error("the model's network has no layer before its last, of which templates are made")]
    Feature,
    /// It does not say what its scores tell.
    #[error("the model file has no usable {metric:?} among its metrics: train it anew")]
    Calibration {
        /// What is missing.
        metric: String,
    },
}

/// Windows of walking in a recording, as one model sees them.
pub(super) struct Reading {
    pub template: Template,
    /// Windows that are not walking: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
    /// Time that the network took.
    pub inference: Duration,
}

impl Serving {
    /// Of a model with which nobody is enrolled yet.
    pub fn new(model: Model) -> Result<Self, UnfitModel> {
        let metadata = &model.metadata;
        let input @ [rows, samples] = metadata.architecture.input;
        let recipe =
            Recipe::for_input(&metadata.rows, metadata.rate_hz, input).ok_or_else(|| {
                let found = format!("{rows} rows of {samples} samples, {:?}", metadata.rows);
                UnfitModel::Windows { found }
            })?;
        if model.network.feature_len() == 0 {
            return Err(UnfitModel::Feature);
        }
        let calibration = Calibration::from_metrics(&metadata.metrics)
            .map_err(|metric| UnfitModel::Calibration { metric })?;
        Ok(Self {
            recipe,
            gallery: RwLock::new(Gallery::new(model.network.feature_len(), calibration)),
            sessions: Mutex::default(),
            model,
        })
    }

    pub fn feature_len(&self) -> usize {
        self.model.network.feature_len()
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

    /// Runs the network over a recording. Costs compute: for the pool.
    pub fn read(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
        metrics: &Metrics,
    ) -> Result<Reading, SignalError> {
        let mut template = Template::empty(self.feature_len());
        let Cut { windows, refused } =
            cut_windows(recording, &self.recipe, self.recipe.samples / 2)?;
        let begin = Instant::now();
        let mut last = begin;
        for window in windows {
            let output = self
                .model
                .network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
            let now = Instant::now();
            metrics.walks.window_inference_seconds.observe((now - last).as_secs_f64());
            last = now;
        }
        Ok(Reading { template: template.rounded(), refused, inference: last - begin })
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

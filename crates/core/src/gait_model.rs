//! A model that can identify people.

use crate::bnn::{Model, Scratch};
use crate::gait::{CutWindows, Recipe, Recording, Rows, SignalError, WINDOW_ROWS, cut_windows};
use crate::identity::{Calibration, DeviceTemplate, Gallery, Template, Transform, UserId};

/// A model that can identify people: a network, the recipe of its windows, and a calibration.
pub struct GaitModel {
    /// The network and its metadata.
    pub file: Model,
    /// How the network's windows are cut.
    pub recipe: Recipe,
    /// The calibration from the model file.
    pub calibration: Calibration,
    transform: Option<Transform>,
}

/// Why a model cannot identify people.
#[derive(Debug, thiserror::Error)]
pub enum UnfitModel {
    /// This version cannot cut the windows that the network reads.
    #[error("the model reads {found}; this version cuts {WINDOW_ROWS} rows {}", Rows::names())]
    Windows {
        /// The windows according to the model file.
        found: String,
    },
    /// The network has no feature for templates.
    #[error("the model's network has no feature that templates could be made from")]
    Feature,
    /// The model file has no usable calibration.
    #[error("the model file has no usable metric {metric:?}: train the model again")]
    Calibration {
        /// The first metric that is missing or out of range.
        metric: String,
    },
}

/// The template of a recording.
pub struct Reading {
    /// The [finished](GaitModel::finish) template of all windows of walking.
    pub template: Template,
    /// Why the other windows are not walking: one error for each reason, and its number of windows.
    pub refused: Vec<(SignalError, usize)>,
}

impl GaitModel {
    /// Checks that a model can identify people.
    ///
    /// # Errors
    /// If this version cannot cut its windows, or it has no feature or no calibration.
    pub fn new(file: Model) -> Result<Self, UnfitModel> {
        let metadata = &file.metadata;
        let input @ [rows, samples] = metadata.architecture.input;
        let recipe =
            Recipe::for_input(&metadata.rows, metadata.rate_hz, input).ok_or_else(|| {
                let found = format!("{rows} rows of {samples} samples, {:?}", metadata.rows);
                UnfitModel::Windows { found }
            })?;
        if file.network.feature_len() == 0 {
            return Err(UnfitModel::Feature);
        }
        let calibration = Calibration::from_metrics(&metadata.metrics)
            .map_err(|metric| UnfitModel::Calibration { metric })?;
        Ok(Self { file, recipe, calibration, transform: None })
    }

    /// The same model, whose templates are [transformed](Transform) with this secret.
    pub fn with_secret(mut self, secret: &[u8; 32]) -> Self {
        self.transform = Some(Transform::new(secret, self.feature_len()));
        self
    }

    /// Makes the template of a walk from the sum of its windows: transformed if the model has a secret,
    /// and rounded to one byte per value.
    ///
    /// # Panics
    /// If the length is not that of the model's feature.
    pub fn finish(&self, sum: Template) -> Template {
        match &self.transform {
            Some(transform) => transform.apply(&sum).rounded(),
            None => sum.rounded(),
        }
    }

    /// What a device with this model's file needs to verify a user of a gallery. `None` if the user has
    /// no template.
    pub fn device_template(&self, gallery: &Gallery, user: &UserId) -> Option<DeviceTemplate> {
        gallery.device_template(self.id(), user, |template| match &self.transform {
            Some(transform) => transform.invert(template),
            None => template.clone(),
        })
    }

    /// The model's id.
    pub fn id(&self) -> &str {
        self.file.id()
    }

    /// Number of values of a feature and of a template.
    pub fn feature_len(&self) -> usize {
        self.file.network.feature_len()
    }

    /// Runs the network over a recording, in windows that overlap by half.
    ///
    /// Calls `after_step` after cutting with `None`, and after each window with its feature, so that a
    /// caller can measure their time or keep the features.
    ///
    /// # Errors
    /// If the recording is unusable, or has no window of walking.
    pub fn read(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
        mut after_step: impl FnMut(Option<&[f32]>),
    ) -> Result<Reading, SignalError> {
        let CutWindows { windows, refused } =
            cut_windows(recording, &self.recipe, self.recipe.samples / 2)?;
        let mut template = Template::empty(self.feature_len());
        after_step(None);
        for window in windows {
            let output = self
                .file
                .network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
            after_step(Some(output.feature));
        }
        Ok(Reading { template: self.finish(template), refused })
    }
}

//! A model that can identify people: its network, the windows that it reads, and its calibration.

use crate::bnn::{Model, Scratch};
use crate::gait::{CutWindows, Recipe, Recording, Rows, SignalError, WINDOW_ROWS, cut_windows};
use crate::identity::{Calibration, Template};

/// A model file that this version can identify people with.
pub struct GaitModel {
    /// The network and what its file says about it.
    pub file: Model,
    /// The windows that the network reads.
    pub recipe: Recipe,
    /// What strengths mean, before there are users.
    pub calibration: Calibration,
}

/// Why a model cannot identify people.
#[derive(Debug, thiserror::Error)]
pub enum UnfitModel {
    /// This version does not cut such windows.
    #[error("the model reads {found}; this version cuts {WINDOW_ROWS} rows {}", Rows::names())]
    Windows {
        /// What the model file says.
        found: String,
    },
    /// The network has no feature to make templates of.
    #[error("the model's network has no layer before its last, of which templates are made")]
    Feature,
    /// The model file has no calibration.
    #[error("the model file has no usable {metric:?} among its metrics: train it anew")]
    Calibration {
        /// The first metric that is missing or out of range.
        metric: String,
    },
}

/// The windows of walking in a recording, as one model sees them.
pub struct Reading {
    /// The sum of the windows' features, rounded to one byte a value.
    pub template: Template,
    /// Windows that are not walking: each reason once, and how many windows it refused.
    pub refused: Vec<(SignalError, usize)>,
}

impl GaitModel {
    /// Checks that a model can identify people.
    ///
    /// # Errors
    /// If it reads windows of another kind, has no feature, or is not calibrated.
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
        Ok(Self { file, recipe, calibration })
    }

    /// The model's id.
    pub fn id(&self) -> &str {
        self.file.id()
    }

    /// Values of a feature and of a template.
    pub fn feature_len(&self) -> usize {
        self.file.network.feature_len()
    }

    /// Runs the network over a recording, in windows that overlap by half. Calls `after_window` after
    /// cutting and after each window, so that a caller can time them.
    ///
    /// # Errors
    /// If the recording cannot be judged, or no window of it is walking.
    pub fn read(
        &self,
        recording: &Recording,
        scratch: &mut Scratch,
        mut after_window: impl FnMut(),
    ) -> Result<Reading, SignalError> {
        let CutWindows { windows, refused } =
            cut_windows(recording, &self.recipe, self.recipe.samples / 2)?;
        let mut template = Template::empty(self.feature_len());
        after_window();
        for window in windows {
            let output = self
                .file
                .network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
            after_window();
        }
        Ok(Reading { template: template.rounded(), refused })
    }
}

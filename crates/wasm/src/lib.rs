//! The core of bipedalnet on a phone: from a recording to features, and to a decision.
//!
//! [`Device`] does the work. [`abi`] exports it as plain functions for WebAssembly, which `clients/js`
//! calls. Documents are read and written there: without a JSON parser, this module is half the size.

pub mod abi;
pub mod lines;

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::gait::{Mend, Recording, RecordingDocument, SignalError};
use bipedalnet_core::identity::{
    DeviceTemplate, DeviceTemplateError, DeviceVerification, Doubt, STRICTEST_FMR, Template,
    Verdict,
};

/// A model in memory, and the walk that it read last.
pub struct Device {
    model: GaitModel,
    scratch: Scratch,
    recording: Option<Recording>,
    features: Vec<f32>,
    walk: Template,
}

/// What was read besides the features.
#[derive(Debug, PartialEq)]
pub struct Walk {
    /// Windows of walking.
    pub windows: u32,
    /// Why the other windows are not walking: one error for each reason, and its number of windows.
    pub refused: Vec<(SignalError, usize)>,
    /// What was mended in the recording.
    pub mends: Vec<Mend>,
}

impl Device {
    /// Reads a model file. `None` if it cannot be used: it is damaged, or this version cannot read it.
    ///
    /// The texts that say why would take 5 KB.
    pub fn new(model_file: &[u8]) -> Option<Self> {
        let model = GaitModel::new(Model::from_bytes(model_file).ok()?).ok()?;
        let walk = Template::empty(model.feature_len());
        Some(Self {
            model,
            scratch: Scratch::default(),
            recording: None,
            features: Vec::new(),
            walk,
        })
    }

    /// The model's id.
    pub fn model_id(&self) -> &str {
        self.model.id()
    }

    /// Number of values of a feature.
    pub fn feature_len(&self) -> usize {
        self.model.feature_len()
    }

    /// Reads a recording. Keeps its features for [`features`](Self::features) and
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    /// As the service has them. Then there are no features.
    pub fn read(&mut self, recording: RecordingDocument) -> Result<Walk, SignalError> {
        self.features.clear();
        self.walk = Template::empty(self.model.feature_len());
        self.recording = None;
        let recording = Recording::try_from(recording)?;
        let features = &mut self.features;
        let keep = |feature: Option<&[f32]>| features.extend(feature.unwrap_or_default());
        let reading = self.model.read(&recording, &mut self.scratch, keep)?;
        self.walk = reading.template;
        let (windows, mends) = (self.walk.windows(), recording.mends().to_vec());
        self.recording = Some(recording);
        Ok(Walk { windows, refused: reading.refused, mends })
    }

    /// The features of the last walk, window after window: [`feature_len`](Self::feature_len) values
    /// each.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// Number of windows of the last walk.
    pub fn windows(&self) -> u32 {
        self.walk.windows()
    }

    /// Decides whether the last walk is the user's. `fmr` and `in_session` are as in
    /// [`DeviceTemplate::verify`].
    ///
    /// # Errors
    /// See [`DeviceTemplate::verify`].
    pub fn verify(
        &mut self,
        template: &DeviceTemplate,
        fmr: f64,
        in_session: bool,
    ) -> Result<DeviceVerification, DeviceTemplateError> {
        let (id, calibration) = (self.model.id(), &self.model.calibration);
        let verified = template.verify(id, calibration, &self.walk, fmr, in_session)?;
        let is_doubtful = matches!(verified.verdict, Verdict::Reject | Verdict::Inconclusive(_));
        let Some(recording) = self.recording.clone().filter(|_| is_doubtful) else {
            return Ok(verified);
        };
        // As the service does.
        let Ok(mirrored) = self.model.read(&recording.mirrored(), &mut self.scratch, |_| ()) else {
            return Ok(verified);
        };
        let mirrored =
            template.verify(id, calibration, &mirrored.template, STRICTEST_FMR, in_session)?;
        Ok(match mirrored.verdict {
            Verdict::Accept if mirrored.strength > verified.strength => {
                DeviceVerification { verdict: Verdict::Inconclusive(Doubt::Mirrored), ..verified }
            }
            _ => verified,
        })
    }
}

//! From what a client sends to a template.

use super::{ServiceError, Shared};
use crate::bnn::Scratch;
use crate::gait::{
    Cut, Fingerprint, Recording, RecordingDocument, SignalError, cbor, cut_windows, exact,
};
use crate::identity::Template;

/// A walk as a client gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// Samples.
    Recording(RecordingDocument),
    /// The output of the feature layer, before the sign, for each window: from a client that has the
    /// network itself.
    Features {
        /// Id of the model that made them.
        model: String,
        /// One vector a window.
        windows: Vec<Vec<f32>>,
    },
}

/// What was made of a walk.
pub(super) struct Walk {
    pub template: Template,
    /// Length of the recording; 0 where there is none.
    pub seconds: f64,
    /// Windows that are not walking: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
    /// Of each minute of a recording: none where it is too short, or where there is none.
    pub fingerprints: Vec<Fingerprint>,
    /// The recording as it is kept, where recordings are.
    pub kept: Option<Vec<u8>>,
}

/// Compression of kept recordings: a good deal for little time.
const ZSTD_LEVEL: i32 = 3;

impl Shared {
    /// Reads a walk. Costs compute: for the pool.
    pub fn read(&self, evidence: Evidence, scratch: &mut Scratch) -> Result<Walk, ServiceError> {
        let recording = match evidence {
            Evidence::Recording(document) => Recording::try_from(document)?,
            Evidence::Features { model, windows } => return self.of_features(&model, &windows),
        };
        let seconds = recording.duration_seconds();
        let allowed_seconds = self.settings.max_recording_seconds.into();
        if seconds > allowed_seconds {
            return Err(ServiceError::TooLong { seconds, allowed_seconds });
        }
        let mut template = Template::empty(self.feature_len());
        let Cut { windows, refused } =
            cut_windows(&recording, &self.recipe, self.recipe.samples / 2)?;
        for window in windows {
            let output = self
                .model
                .network
                .run(&window.values, scratch)
                .expect("the recipe cuts windows of the network's input length");
            template.add_window(output.feature);
        }
        Ok(Walk {
            template,
            seconds,
            refused,
            fingerprints: fingerprints(&recording),
            kept: self.settings.keeps_recordings().then(|| pack(&recording)),
        })
    }

    fn of_features(&self, model: &str, windows: &[Vec<f32>]) -> Result<Walk, ServiceError> {
        if model != self.model.id() {
            let (found, wanted) = (model.to_owned(), self.model.id().to_owned());
            return Err(ServiceError::OtherModel { found, wanted });
        }
        let most = self.most_windows();
        if windows.is_empty() || windows.len() > most {
            return Err(ServiceError::FeatureCount { windows: windows.len(), most });
        }
        let mut template = Template::empty(self.feature_len());
        for (window, feature) in windows.iter().enumerate() {
            let (length, needed) = (feature.len(), self.feature_len());
            if length != needed || !Template::is_direction(feature) {
                return Err(ServiceError::Feature { window, length, needed });
            }
            template.add_window(feature);
        }
        let (refused, fingerprints) = (Vec::new(), Vec::new());
        Ok(Walk { template, seconds: 0.0, refused, fingerprints, kept: None })
    }

    /// Windows of the longest recording that is taken.
    fn most_windows(&self) -> usize {
        let stride_seconds = self.recipe.window_seconds() / 2.0;
        (f64::from(self.settings.max_recording_seconds) / stride_seconds) as usize
    }
}

/// A fingerprint is of a minute at most: a longer walk has several, lest what is sent again hide
/// behind a minute of anything else.
fn fingerprints(recording: &Recording) -> Vec<Fingerprint> {
    let length = Fingerprint::LONGEST_SECONDS;
    let minutes = (recording.duration_seconds() / length).ceil() as u32;
    let part = |minute: u32| recording.part(f64::from(minute) * length, length);
    (0..minutes).filter_map(|minute| Fingerprint::of(&part(minute)?)).collect()
}

fn pack(recording: &Recording) -> Vec<u8> {
    zstd::encode_all(&exact(recording)[..], ZSTD_LEVEL).expect("memory is all that is written to")
}

/// A recording as it was before it was kept; `None` where the bytes are not one.
pub(super) fn unpack(kept: &[u8]) -> Option<RecordingDocument> {
    cbor::from_slice(&zstd::decode_all(kept).ok()?).ok()
}

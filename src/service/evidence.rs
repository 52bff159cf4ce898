//! From what a client sends to a template.

use std::sync::Arc;
use std::time::Instant;

use super::observing::count_refused;
use super::pool::Entry;
use super::serving::Serving;
use super::{ServiceError, Shared};
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::identity::Template;
use bipedalnet_core::{
    Reading, cbor,
    gait::{Fingerprint, Recording, RecordingDocument, SignalError, exact},
};

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

/// What a walk is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Identify,
    Verify,
    Enroll,
}

/// What was made of a walk.
pub(super) struct Walk {
    /// Id of the model that read it.
    pub model: String,
    pub template: Template,
    /// Length of the recording; 0 where there is none.
    pub seconds: f64,
    /// Windows that are not walking: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
    /// Of each minute of a recording: none where it is too short, or where there is none; nor to
    /// identify, as they cost as much as all the rest.
    pub fingerprints: Vec<Fingerprint>,
    /// The recording as it is kept, where recordings are, and the walk is to be enrolled.
    pub kept: Option<Vec<u8>>,
    /// For another model to read, should one take over before the walk is written.
    pub recording: Option<Recording>,
}

/// Compression of kept recordings: a good deal for little time.
const ZSTD_LEVEL: i32 = 3;

impl Shared {
    /// Reads a walk. Costs compute: for the pool.
    pub fn read(
        &self,
        serving: &Serving,
        evidence: Evidence,
        purpose: Purpose,
        scratch: &mut Scratch,
    ) -> Result<Walk, ServiceError> {
        let document = match evidence {
            Evidence::Recording(document) => document,
            Evidence::Features { model, windows } => {
                return self.of_features(serving, model, &windows);
            }
        };
        let walk = self.of_recording(serving, document, purpose, scratch);
        match &walk {
            Ok(walk) => {
                let accepted = walk.template.windows().into();
                self.metrics.walks.windows_accepted.inc_by(accepted);
                count_refused(&self.metrics, &walk.refused);
            }
            Err(ServiceError::Signal(error)) => {
                let refused = &self.metrics.walks.recordings_refused;
                refused.with_label_values(&[error.code()]).inc();
            }
            Err(_) => {}
        }
        walk
    }

    fn of_recording(
        &self,
        serving: &Serving,
        document: RecordingDocument,
        purpose: Purpose,
        scratch: &mut Scratch,
    ) -> Result<Walk, ServiceError> {
        let begin = Instant::now();
        let recording = Recording::try_from(document)?;
        let seconds = recording.duration_seconds();
        let allowed_seconds = self.settings.get().max_recording_seconds.into();
        if seconds > allowed_seconds {
            return Err(ServiceError::TooLong { seconds, allowed_seconds });
        }
        let (Reading { template, refused }, inference) =
            serving.read(&recording, scratch, &self.metrics)?;
        let fingerprints = match purpose {
            Purpose::Identify => Vec::new(),
            Purpose::Verify | Purpose::Enroll => fingerprints(&recording),
        };
        let keeps = purpose == Purpose::Enroll && self.settings.get().keeps_recordings();
        let stages = &self.metrics.stages;
        stages.inference.observe(inference.as_secs_f64());
        stages.signal.observe((begin.elapsed() - inference).as_secs_f64());
        Ok(Walk {
            model: serving.model.id().to_owned(),
            template,
            seconds,
            refused,
            fingerprints,
            kept: keeps.then(|| pack(&recording)),
            recording: Some(recording),
        })
    }

    /// Lets the model that serves read a walk, where another one took over since it was read. Waits
    /// for compute.
    pub async fn read_by_who_serves(&self, walk: &mut Walk) -> Result<(), ServiceError> {
        let serving = self.serving();
        if walk.model == serving.model.id() {
            return Ok(());
        }
        let wanted = serving.model.id().to_owned();
        let found = std::mem::replace(&mut walk.model, wanted.clone());
        let Some(recording) = walk.recording.take() else {
            return Err(ServiceError::OtherModel { found, wanted });
        };
        let metrics = Arc::clone(&self.metrics);
        let read = move |scratch: &mut Scratch| serving.read(&recording, scratch, &metrics);
        let (reading, _) = self.pool.run(Entry::Always, read).await??;
        Reading { template: walk.template, refused: walk.refused } = reading;
        Ok(())
    }

    fn of_features(
        &self,
        serving: &Serving,
        model: String,
        windows: &[Vec<f32>],
    ) -> Result<Walk, ServiceError> {
        if model != serving.model.id() {
            let wanted = serving.model.id().to_owned();
            return Err(ServiceError::OtherModel { found: model, wanted });
        }
        let stride_seconds = serving.model.recipe.window_seconds() / 2.0;
        // Of the longest recording that is taken.
        let most = (f64::from(self.settings.get().max_recording_seconds) / stride_seconds) as usize;
        if windows.is_empty() || windows.len() > most {
            return Err(ServiceError::FeatureCount { windows: windows.len(), most });
        }
        let mut template = Template::empty(serving.feature_len());
        for (window, feature) in windows.iter().enumerate() {
            let (length, needed) = (feature.len(), serving.feature_len());
            if length != needed || !Template::is_direction(feature) {
                return Err(ServiceError::Feature { window, length, needed });
            }
            template.add_window(feature);
        }
        Ok(Walk {
            model,
            template: template.rounded(),
            seconds: 0.0,
            refused: Vec::new(),
            fingerprints: Vec::new(),
            kept: None,
            recording: None,
        })
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

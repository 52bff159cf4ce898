//! From what a client sends to a template.

use std::sync::Arc;
use std::time::Instant;

use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::{Fingerprint, Mend, Recording, RecordingDocument, SignalError, exact};
use bipedalnet_core::identity::{FEWEST_FEATURES, ImplausibleFeatures, Template};
use bipedalnet_core::{Reading, cbor};

use super::ServiceError;
use super::active_model::{ActiveModel, LoadedModel};
use super::pool::{Admission, Cost, Pool, PoolError};
use super::sessions::is_replay;
use crate::config::{Live, ServiceSettings};
use crate::store::ENROLLED_COMPARED;
use crate::telemetry::Metrics;

/// A walk as a client sends it.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// Samples.
    Recording(RecordingDocument),
    /// The output of the feature layer, before the sign, for each window. From a client that runs the
    /// network itself.
    Features {
        /// Id of the client's model.
        model: String,
        /// One vector per window.
        windows: Vec<Vec<f32>>,
    },
}

impl Evidence {
    /// What it costs to read the walk.
    pub(super) fn cost(&self, purpose: Purpose) -> Cost {
        let seconds = self.seconds();
        match (self, purpose) {
            (Self::Features { .. }, _) => Cost::of_walk(seconds),
            // If nobody is named, the mirror image is read too.
            (_, Purpose::Identify) => Cost::of_walk(2.0 * seconds),
            (_, Purpose::Verify) => {
                Cost::of_walk(2.0 * seconds) + Cost::of_fingerprints(seconds, 0)
            }
            (_, Purpose::Enroll) => {
                Cost::of_walk(seconds) + Cost::of_fingerprints(seconds, ENROLLED_COMPARED)
            }
        }
    }

    /// Length of the walk as the document has it.
    pub(super) fn seconds(&self) -> f64 {
        let document = match self {
            Self::Recording(document) => document,
            Self::Features { windows, .. } => return windows.len() as f64,
        };
        let samples = document.acceleration.len() as f64;
        let seconds = match (&document.time_seconds.as_deref(), document.rate_hz) {
            (Some([first, .., last]), _) => last - first,
            (_, Some(rate_hz)) => samples / rate_hz,
            _ => 0.0,
        };
        // Other rates are refused.
        seconds.max(samples / 200.0).min(samples / 20.0)
    }
}

/// What a walk is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Identify,
    Verify,
    Enroll,
}

/// A walk as a model reads it.
pub(super) struct ReadWalk {
    /// Id of the model.
    pub model: String,
    pub template: Template,
    /// Length of the recording; 0 for features.
    pub seconds: f64,
    /// Windows that are not walking: one error of each kind, and its number of windows.
    pub refused: Vec<(SignalError, usize)>,
    /// What was mended in the recording.
    pub mends: Vec<Mend>,
    /// One for each minute of the recording. Empty for features and for short recordings. Empty for
    /// identification, too: they cost as much as everything else.
    pub fingerprints: Vec<Fingerprint>,
    /// Number of the newest fingerprint of the user that the walk was compared with.
    pub newest_compared: i64,
    /// The recording as it is stored, if it is to be kept.
    pub kept: Option<Vec<u8>>,
    /// The recording, for another model that becomes active before the walk is written.
    pub recording: Option<Recording>,
}

/// Earlier walks that one job compares with: some milliseconds.
const COMPARED_AT_ONCE: usize = 16;

/// Much compression for little time.
const ZSTD_LEVEL: i32 = 3;

/// Reads walks. Clones are cheap.
#[derive(Clone)]
pub(super) struct WalkReader {
    pub settings: Live<ServiceSettings>,
    pub metrics: Arc<Metrics>,
    pub pool: Pool,
}

impl WalkReader {
    /// Reads a walk. Runs on the pool.
    pub fn read(
        &self,
        model: &LoadedModel,
        evidence: Evidence,
        purpose: Purpose,
        scratch: &mut Scratch,
    ) -> Result<ReadWalk, ServiceError> {
        let document = match evidence {
            Evidence::Recording(document) => document,
            Evidence::Features { model: id, windows } => {
                return self.read_features(model, id, &windows);
            }
        };
        let walk = self.read_recording(model, document, purpose, scratch);
        let walks = &self.metrics.walks;
        match &walk {
            Ok(walk) => {
                walks.windows_accepted.inc_by(walk.template.windows().into());
                for (error, windows) in &walk.refused {
                    let counter = walks.windows_refused.with_label_values(&[error.code()]);
                    counter.inc_by(*windows as u64);
                }
            }
            Err(ServiceError::Signal(error)) => {
                walks.recordings_refused.with_label_values(&[error.code()]).inc();
            }
            Err(_) => {}
        }
        walk
    }

    /// Like [`WalkReader::read`], on the pool. The walk is admitted already.
    pub async fn read_on_pool(
        &self,
        model: &Arc<LoadedModel>,
        evidence: Evidence,
        purpose: Purpose,
    ) -> Result<ReadWalk, ServiceError> {
        let (reader, model) = (self.clone(), Arc::clone(model));
        let read = move |scratch: &mut Scratch| reader.read(&model, evidence, purpose, scratch);
        self.pool.run(Admission::Always, read).await?
    }

    /// Whether the mirror image of a recording matches, if the recording itself does not: axes or signs
    /// are wrong then.
    ///
    /// `matches` also checks that the image is stronger than the recording.
    /// `docs/decisions/0010-the-sign-is-said.md` has the figures.
    pub fn is_mirrored(
        &self,
        model: &LoadedModel,
        recording: Recording,
        scratch: &mut Scratch,
        matches: impl FnOnce(&Template) -> bool,
    ) -> bool {
        let begin = Instant::now();
        let reading = model.model.read(&recording.mirrored(), scratch, |_| ());
        let is_mirrored = reading.is_ok_and(|reading| matches(&reading.template));
        self.metrics.stages.mirror.ended(begin);
        is_mirrored
    }

    fn read_recording(
        &self,
        model: &LoadedModel,
        document: RecordingDocument,
        purpose: Purpose,
        scratch: &mut Scratch,
    ) -> Result<ReadWalk, ServiceError> {
        let begin = Instant::now();
        let recording = Recording::try_from(document)?;
        let seconds = recording.duration_seconds();
        let allowed_seconds = self.settings.get().max_recording_seconds.into();
        if seconds > allowed_seconds {
            // A recording that only seems long should not be sent in parts.
            recording.check_rate()?;
            return Err(ServiceError::TooLong { seconds, allowed_seconds });
        }
        let (Reading { template, refused }, inference) =
            model.read(&recording, scratch, &self.metrics)?;
        let fingerprints = match purpose {
            Purpose::Identify => Vec::new(),
            Purpose::Verify | Purpose::Enroll => fingerprints(&recording),
        };
        let keeps = purpose == Purpose::Enroll && self.settings.get().keeps_recordings();
        let stages = &self.metrics.stages;
        // They take turns. A trace shows one after the other.
        let signal = begin.elapsed() - inference;
        stages.signal.took(begin, signal);
        stages.inference.took(begin + signal, inference);
        Ok(ReadWalk {
            model: model.id().to_owned(),
            template,
            seconds,
            refused,
            mends: recording.mends().to_vec(),
            fingerprints,
            newest_compared: 0,
            kept: keeps.then(|| pack(&recording)),
            recording: Some(recording),
        })
    }

    fn read_features(
        &self,
        model: &LoadedModel,
        id: String,
        windows: &[Vec<f32>],
    ) -> Result<ReadWalk, ServiceError> {
        if id != model.id() {
            return Err(ServiceError::OtherModel { found: id, wanted: model.id().to_owned() });
        }
        let stride_seconds = model.model.recipe.window_seconds() / 2.0;
        // The number of windows of the longest recording.
        let most = (f64::from(self.settings.get().max_recording_seconds) / stride_seconds) as usize;
        if !(FEWEST_FEATURES..=most).contains(&windows.len()) {
            return Err(ServiceError::FeatureCount { windows: windows.len(), most });
        }
        let mut template = Template::empty(model.feature_len());
        for (window, feature) in windows.iter().enumerate() {
            let (length, needed) = (feature.len(), model.feature_len());
            if length != needed || !Template::is_direction(feature) {
                return Err(ServiceError::Feature { window, length, needed });
            }
            template.add_window(feature);
        }
        ImplausibleFeatures::check(windows, &model.model.calibration)?;
        Ok(ReadWalk {
            model: id,
            template: model.model.finish(template),
            seconds: 0.0,
            refused: Vec::new(),
            mends: Vec::new(),
            fingerprints: Vec::new(),
            newest_compared: 0,
            kept: None,
            recording: None,
        })
    }

    /// Whether a walk is a copy of an earlier one. Several jobs, because each comparison takes longer
    /// than an identification.
    pub async fn is_replay<'a>(
        &self,
        walk: &[Fingerprint],
        earlier: impl Iterator<Item = &'a Fingerprint>,
    ) -> Result<bool, PoolError> {
        if walk.is_empty() {
            return Ok(false);
        }
        let earlier: Vec<Fingerprint> = earlier.cloned().collect();
        for some in earlier.chunks(COMPARED_AT_ONCE) {
            let (walk, some) = (walk.to_vec(), some.to_vec());
            let compare = move |_: &mut Scratch| is_replay(&walk, some.iter());
            if self.pool.run(Admission::Always, compare).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a walk again if another model has become active since.
    pub async fn read_again(
        &self,
        active: &ActiveModel,
        walk: &mut ReadWalk,
    ) -> Result<(), ServiceError> {
        let model = active.get();
        if walk.model == model.id() {
            return Ok(());
        }
        let wanted = model.id().to_owned();
        let found = std::mem::replace(&mut walk.model, wanted.clone());
        let Some(recording) = walk.recording.take() else {
            return Err(ServiceError::OtherModel { found, wanted });
        };
        let metrics = Arc::clone(&self.metrics);
        let read = move |scratch: &mut Scratch| model.read(&recording, scratch, &metrics);
        let (reading, _) = self.pool.run(Admission::Always, read).await??;
        Reading { template: walk.template, refused: walk.refused } = reading;
        Ok(())
    }
}

/// Several for a long walk: a fingerprint covers a minute at most. With only one, a replay could hide
/// behind a minute of other movement.
fn fingerprints(recording: &Recording) -> Vec<Fingerprint> {
    let length = Fingerprint::LONGEST_SECONDS;
    let minutes = (recording.duration_seconds() / length).ceil() as u32;
    let part = |minute: u32| recording.part(f64::from(minute) * length, length);
    (0..minutes).filter_map(|minute| Fingerprint::of(&part(minute)?)).collect()
}

fn pack(recording: &Recording) -> Vec<u8> {
    zstd::encode_all(&exact(recording)[..], ZSTD_LEVEL).expect("memory is all that is written to")
}

/// A recording as it was before it was stored. `None` if the bytes are damaged.
pub(super) fn unpack(kept: &[u8]) -> Option<RecordingDocument> {
    cbor::from_slice(&zstd::decode_all(kept).ok()?).ok()
}

//! What models make of people whom they were not trained on.

use super::conditions::{CONDITIONS, Change, Condition, Seeds, UNCHANGED, WITHOUT_GYROSCOPE};
use super::people::{Person, divide, probes};
use crate::bnn::Scratch;
use crate::gait::Recording;
use crate::identity::Template;
use crate::service::serving::Serving;
use crate::telemetry::Metrics;

/// Lengths of probes.
pub(super) const PROBE_SECONDS: [f64; 4] = [2.0, 5.0, 10.0, 20.0];

/// Length of the probes that identify and that conditions change.
pub const USUAL_SECONDS: f64 = 10.0;

/// What a model made of a stranger.
pub(super) struct Stranger {
    pub person: usize,
    pub folder: usize,
    /// Whether the probes are of the session that was enrolled.
    pub of_one_session: bool,
    pub template: Template,
    /// Enrolled without a gyroscope.
    pub template_without_gyroscope: Option<Template>,
    pub trials: Vec<Trial>,
}

/// Probes of one length in one condition.
#[derive(Default)]
pub(super) struct Trial {
    pub probes: Vec<Template>,
    pub refused: usize,
}

/// Length and condition of each trial.
fn trials() -> impl Iterator<Item = (f64, Condition)> {
    let unchanged = PROBE_SECONDS.map(|seconds| (seconds, UNCHANGED));
    unchanged.into_iter().chain(CONDITIONS.map(|condition| (USUAL_SECONDS, condition)))
}

/// Position of the trial with unchanged probes.
///
/// # Panics
/// When the length is not one of [`PROBE_SECONDS`].
pub(super) fn unchanged_trial(seconds: f64) -> usize {
    PROBE_SECONDS.iter().position(|&length| length == seconds).expect("one of the trials' lengths")
}

impl Stranger {
    /// `None` for whoever walks too little to be enrolled.
    pub fn new(serving: &Serving, number: usize, person: &Person, seed: u64) -> Option<Self> {
        let mut scratch = Scratch::default();
        let metrics = Metrics::new();
        let mut read = |walk: &Recording| {
            serving.read(walk, &mut scratch, &metrics).ok().map(|reading| reading.template)
        };
        let divided = divide(person, &serving.recipe)?;
        let seeds_of = |recording: usize, probe: usize| {
            let recording = seed ^ ((number as u64) << 32) ^ ((recording as u64) << 48);
            Seeds { recording, probe: recording ^ (probe as u64 + 1) }
        };
        let mut enroll = |change: Change| -> Option<Template> {
            let mut template = Template::empty(serving.feature_len());
            for walk in &divided.enrollment {
                template.add(&read(&change(walk, seeds_of(0, 0))?)?);
            }
            Some(template)
        };
        let template = enroll(UNCHANGED.change)?;
        let template_without_gyroscope = enroll(WITHOUT_GYROSCOPE.change);
        let mut all = Vec::new();
        for (seconds, condition) in trials() {
            let mut trial = Trial::default();
            for (at, recording) in divided.later.iter().enumerate() {
                for (index, probe) in probes(recording, seconds).enumerate() {
                    let changed = (condition.change)(&probe, seeds_of(at, index));
                    match changed.and_then(|probe| read(&probe)) {
                        Some(probe) => trial.probes.push(probe),
                        None => trial.refused += 1,
                    }
                }
            }
            all.push(trial);
        }
        Some(Self {
            person: number,
            folder: person.folder,
            of_one_session: divided.same_session,
            template,
            template_without_gyroscope,
            trials: all,
        })
    }

    /// The template of the usual enrollment.
    pub fn as_enrolled(&self) -> Option<&Template> {
        Some(&self.template)
    }

    /// Unchanged probes of [`USUAL_SECONDS`].
    pub fn usual_probes(&self) -> &[Template] {
        &self.trials[unchanged_trial(USUAL_SECONDS)].probes
    }
}

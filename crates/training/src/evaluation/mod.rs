//! Error rates of a model on real recordings: of people whom it knows, and of strangers. Terms are
//! those of ISO/IEC 19795-1.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bipedalnet_core::bnn::{Metadata, Model};
use bipedalnet_core::gait::Recording;
use bipedalnet_core::{GaitModel, UnfitModel};
use calibration::read;
pub(crate) use calibration::{HeldOutSubjects, calibrate};
pub use closed_set::ClosedSet;
use closed_set::closed_set;
use conditions::{CONDITIONS, Condition, Seeds, UNCHANGED};
use crew::TestCrew;
pub use error_rates::{Figure, Scores, bootstrap};
use open_set::measure;
pub use open_set::{IdentificationRates, OpenSetRates, Strengths, VerificationRates};
use protocol::protocols;
pub use protocol::{FEWEST_PEOPLE, Piece, Protocol, SESSION_PIECES};
use rayon::prelude::*;
pub use separation::{Separation, separation};
use serde::Serialize;
use subjects::{Subject, TrainedSubjects, subjects};

use crate::data::{SplitError, SubjectRecording, sessions_exist};

mod calibration;
mod closed_set;
mod conditions;
mod crew;
mod error_rates;
mod open_set;
pub mod plots;
mod protocol;
mod separation;
mod subjects;

/// A folder of recordings.
#[derive(Debug)]
pub struct Folder {
    /// The name, which separates people of several folders.
    pub name: String,
    /// Its recordings. The subjects do not have the folder's name.
    pub recordings: Vec<SubjectRecording>,
}

/// All figures of one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelEvaluation {
    /// The name that was given.
    pub model: String,
    /// The model's id.
    pub id: String,
    /// The description of its training data.
    pub training_data: String,
    /// People in the data whom it was trained on.
    pub known: usize,
    /// People in the data whom it was not trained on.
    pub strangers: usize,
    /// Warnings about the figures.
    pub warnings: Vec<String>,
    /// Rates of known people, if there are any in the test sessions.
    pub closed_set: Option<ClosedSet>,
    /// Rates of strangers, by data set, protocol and condition.
    pub trials: Vec<ProtocolRates>,
}

/// Rates of strangers of one data set.
#[derive(Clone, Debug, Serialize)]
pub struct ProtocolRates {
    /// The folder's name.
    pub data_set: String,
    /// Session that was enrolled.
    pub enrolled: String,
    /// Session that probed.
    pub probed: String,
    /// The change to the probes.
    pub condition: String,
    /// The rates.
    #[serde(flatten)]
    pub measured: OpenSetRates,
}

impl ProtocolRates {
    /// Whether the probes were not changed.
    pub fn is_as_recorded(&self) -> bool {
        self.condition == UNCHANGED.name
    }
}

/// Why a model cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The model cannot serve.
    #[error("{name}: {reason}")]
    Unfit {
        /// The model.
        name: String,
        /// The reason.
        reason: UnfitModel,
    },
    /// Two folders have the same name.
    #[error(
        "two folders are called {0:?}; rename one, since a person's name includes the folder's"
    )]
    FolderTwice(String),
    /// A session has no recording.
    #[error(transparent)]
    UnknownSession(#[from] SplitError),
    /// The model knows none of the people in the test sessions.
    #[error(
        "{name} was not trained on anybody with walking in the test sessions; omit --test-sessions, or \
         give the folders of the training under the names that they had"
    )]
    NobodyKnown {
        /// The model.
        name: String,
    },
    /// The model knows everybody.
    #[error(
        "{name} was trained on everybody in these folders; give a folder of other people, a model from \
         `train --leave-out-data` or `train --leave-out`, or --test-sessions"
    )]
    NoStrangers {
        /// The model.
        name: String,
    },
    /// There are too few strangers to compare.
    #[error(
        "{name}: of {strangers} strangers fewer than {FEWEST_PEOPLE} in any folder have 30 s of walking \
         in one session and more to probe with"
    )]
    TooFewStrangers {
        /// The model.
        name: String,
        /// People in the data whom it was not trained on.
        strangers: usize,
    },
}

/// Measures a model. The strangers of each folder are enrolled together, once for each session, and
/// probed with their other recordings.
///
/// `progress` gets the number of steps done, and of all steps.
///
/// # Errors
/// If there is nothing to measure, or a session does not exist.
pub fn evaluate(
    name: &str,
    model: Model,
    folders: &[Folder],
    test_sessions: &[String],
    seed: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<ModelEvaluation, EvaluationError> {
    check(folders, test_sessions)?;
    let name = name.to_owned();
    let model = GaitModel::new(model)
        .map_err(|reason| EvaluationError::Unfit { name: name.clone(), reason })?;
    let metadata = &model.file.metadata;
    let subjects = subjects(folders);
    let known = TrainedSubjects::of(metadata);
    let mut warnings: Vec<String> = trained_on(metadata, test_sessions).into_iter().collect();
    warnings.extend(known.namesakes(&subjects));

    let closed_set = closed_set(&model, &subjects, test_sessions, seed);
    if closed_set.is_none() && !test_sessions.is_empty() {
        return Err(EvaluationError::NobodyKnown { name });
    }
    let strangers: Vec<&Subject> =
        subjects.iter().filter(|subject| known.class(subject).is_none()).collect();
    let trials = trials(&model, folders, &strangers, seed, progress);
    if trials.is_empty() && closed_set.is_none() {
        return Err(match strangers.len() {
            0 => EvaluationError::NoStrangers { name },
            strangers => EvaluationError::TooFewStrangers { name, strangers },
        });
    }
    Ok(ModelEvaluation {
        model: name,
        id: model.id().to_owned(),
        training_data: metadata.training_data.clone(),
        known: subjects.len() - strangers.len(),
        strangers: strangers.len(),
        warnings,
        closed_set,
        trials,
    })
}

fn trials(
    model: &GaitModel,
    folders: &[Folder],
    strangers: &[&Subject],
    seed: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Vec<ProtocolRates> {
    let mut planned: Vec<(usize, Protocol, Condition)> = Vec::new();
    let walks_of = |folder: usize| -> Vec<&SubjectRecording> {
        let of_folder = strangers.iter().filter(|person| person.folder == folder);
        of_folder.flat_map(|person| person.walks.iter().copied()).collect()
    };
    for (position, _) in folders.iter().enumerate() {
        let protocols = protocols(&walks_of(position));
        let unchanged = protocols.iter().map(|protocol| (position, protocol.clone(), UNCHANGED));
        planned.extend(unchanged);
        // Conditions are measured once for each folder, with probes of another session if possible.
        let other = protocols.iter().find(|protocol| !protocol.is_same_session());
        let chosen = other.or(protocols.first());
        let changed = CONDITIONS.into_iter().flat_map(|condition| chosen.map(|it| (it, condition)));
        planned.extend(changed.map(|(protocol, it)| (position, protocol.clone(), it)));
    }
    let done = AtomicUsize::new(0);
    let calibration = &model.calibration;
    let measured = |(position, protocol, condition): &(usize, Protocol, Condition)| {
        let walks = walks_of(*position);
        let read = |recording: &Recording| read(&model.file.network, model.recipe, recording);
        let changed = |recording: &Recording| {
            // The first sample is enough to give recordings and probes different seeds.
            let samples = recording.acceleration_m_s2();
            let own = samples.first().map_or(0, |axes| u64::from(axes[0].to_bits()));
            let seeds = Seeds { recording: seed ^ own, probe: seed ^ own.rotate_left(32) };
            read(&(condition.change)(recording, seeds)?)
        };
        let trial = TestCrew::new(&walks, protocol, read, changed);
        let measured = trial.and_then(|trial| measure(&trial, calibration, seed));
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, planned.len());
        Some(ProtocolRates {
            data_set: folders[*position].name.clone(),
            enrolled: protocol.enroll.clone(),
            probed: protocol.probe.clone(),
            condition: condition.name.to_owned(),
            measured: measured?,
        })
    };
    planned.par_iter().filter_map(measured).collect()
}

fn check(folders: &[Folder], test_sessions: &[String]) -> Result<(), EvaluationError> {
    let mut names = BTreeSet::new();
    if let Some(folder) = folders.iter().find(|folder| !names.insert(&folder.name)) {
        return Err(EvaluationError::FolderTwice(folder.name.clone()));
    }
    Ok(sessions_exist(folders.iter().flat_map(|folder| &folder.recordings), test_sessions)?)
}

/// Warns if the model was trained on a test session, according to its own description.
fn trained_on(metadata: &Metadata, test_sessions: &[String]) -> Option<String> {
    let sessions =
        metadata.training_data.split("; ").find_map(|part| part.strip_prefix("sessions "));
    let trained = |session: &&String| match sessions {
        Some(sessions) => sessions.split(", ").any(|name| name == *session),
        None => true,
    };
    let session = test_sessions.iter().find(trained)?;
    Some(format!("session {session} was trained on, too; its figures are too good"))
}

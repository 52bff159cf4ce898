//! How well a model does on real recordings: on people that it knows, and on strangers (terms of
//! ISO/IEC 19795-1).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::data::{SplitError, SubjectRecording, sessions_exist};
use bipedalnet_core::bnn::{Metadata, Model};
use bipedalnet_core::gait::Recording;
use bipedalnet_core::{GaitModel, UnfitModel};
use calibration::read;
pub use calibration::{CalibrationFit, HeldOutSubjects, calibrate};
pub use closed_set::ClosedSet;
use closed_set::closed_set;
use conditions::{CONDITIONS, Condition, Seeds, UNCHANGED};
use crew::TestCrew;
pub use error_rates::{Figure, Scores, bootstrap};
use open_set::measure;
pub use open_set::{IdentificationRates, OpenSetRates, Strengths, VerificationRates};
use protocol::protocols;
pub use protocol::{FEWEST_PEOPLE, Piece, Protocol, SESSION_PIECES};
use subjects::{Subject, TrainedSubjects, subjects};

mod calibration;
mod closed_set;
mod conditions;
mod crew;
mod error_rates;
mod open_set;
pub mod plots;
mod protocol;
mod subjects;

/// A folder of recordings.
#[derive(Debug)]
pub struct Folder {
    /// Name, by which people of several folders are told apart.
    pub name: String,
    /// Its recordings; subjects without the folder's name.
    pub recordings: Vec<SubjectRecording>,
}

/// All figures of one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelEvaluation {
    /// As given.
    pub model: String,
    /// Id.
    pub id: String,
    /// What it was trained on.
    pub training_data: String,
    /// People of the data whom it was trained on.
    pub known: usize,
    /// People of the data whom it was not trained on.
    pub strangers: usize,
    /// What must be known to read the figures.
    pub warnings: Vec<String>,
    /// If it knows people of the test sessions.
    pub closed_set: Option<ClosedSet>,
    /// What strangers show, by data set, protocol and condition.
    pub trials: Vec<ProtocolRates>,
}

/// Rates of strangers of one data set.
#[derive(Clone, Debug, Serialize)]
pub struct ProtocolRates {
    /// Name of the folder.
    pub data_set: String,
    /// Session that was enrolled.
    pub enrolled: String,
    /// Session that probed.
    pub probed: String,
    /// What was done to the probes.
    pub condition: String,
    /// What came of it.
    #[serde(flatten)]
    pub measured: OpenSetRates,
}

impl ProtocolRates {
    /// Whether probes are as recorded.
    pub fn is_as_recorded(&self) -> bool {
        self.condition == UNCHANGED.name
    }
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A model cannot serve.
    #[error("{name}: {reason}")]
    Unfit {
        /// The model.
        name: String,
        /// Why.
        reason: UnfitModel,
    },
    /// People could not be told apart.
    #[error(
        "two folders are called {0:?}, and people are told apart by folder and name: rename one"
    )]
    FolderTwice(String),
    /// No walk is of a session.
    #[error(transparent)]
    UnknownSession(#[from] SplitError),
    /// The model was not trained on anybody who walks in the test sessions.
    #[error(
        "{name} was not trained on anybody with walking in the test sessions: leave them out, or give \
         the folders of the training under the names that they had"
    )]
    NobodyKnown {
        /// The model.
        name: String,
    },
    /// Everybody was trained on.
    #[error(
        "{name} was trained on everybody in these folders: give a folder of other people, a model \
         from `train --leave-out-data` or `train --leave-out`, or --test-sessions"
    )]
    NoStrangers {
        /// The model.
        name: String,
    },
    /// There is nobody to compare with.
    #[error(
        "{name}: of {strangers} strangers fewer than {FEWEST_PEOPLE} in any folder have 30 s of walking \
         in one session and more to probe with"
    )]
    TooFewStrangers {
        /// The model.
        name: String,
        /// People of the data whom it was not trained on.
        strangers: usize,
    },
}

/// Measures a model. Strangers of each folder are enrolled together, in each of their sessions, and
/// probed with each other's walks.
///
/// `progress` is told how many steps are done, and of how many.
///
/// # Errors
/// When there is nothing to measure, or a session does not exist.
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
        // Conditions are measured once for each folder: on other sessions, if there are any.
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
            // Enough to differ between recordings and probes.
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

/// A warning where the model has seen the sessions that it is tested on, as far as it tells.
fn trained_on(metadata: &Metadata, test_sessions: &[String]) -> Option<String> {
    let sessions =
        metadata.training_data.split("; ").find_map(|part| part.strip_prefix("sessions "));
    let trained = |session: &&String| match sessions {
        Some(sessions) => sessions.split(", ").any(|name| name == *session),
        None => true,
    };
    let session = test_sessions.iter().find(trained)?;
    Some(format!("session {session} was trained on, too: figures of it are too good"))
}

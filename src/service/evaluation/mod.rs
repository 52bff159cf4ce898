//! How well models do on real recordings: on people that they know, and on strangers (terms of
//! ISO/IEC 19795-1).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::UnfitModel;
pub use super::rates::{Figure, Scores};
use super::serving::Serving;
use crate::bnn::{Metadata, Model};
use crate::training::{SplitError, Walk, sessions_exist};
pub use closed_set::ClosedSet;
use closed_set::closed_set;
pub use comparisons::{ALL_DATA_SETS, Comparisons, Operation, Robustness, StrangerRates};
use comparisons::{robustness, stranger_rates};
use identification::identification;
pub use identification::{Identification, IdentificationErrors};
pub use people::{Divided, Known, Person, divide, people, probes};
pub use sequential::Sequential;
use sequential::sequential;
use strangers::Stranger;
pub use strangers::USUAL_SECONDS;

mod closed_set;
mod comparisons;
mod conditions;
mod identification;
mod people;
mod sequential;
mod strangers;

/// False match rate of one comparison where galleries and conditions are measured.
const USUAL_FMR: f64 = 0.01;

/// A folder of recordings.
#[derive(Debug)]
pub struct Folder {
    /// Name, by which people of several folders are told apart.
    pub name: String,
    /// Its recordings; subjects without the folder's name.
    pub walks: Vec<Walk>,
}

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// What was measured.
    pub models: Vec<MeasuredModel>,
    /// What must be known to read the figures.
    pub warnings: Vec<String>,
    /// Of each model that knows people of the test sessions.
    pub closed_set: Vec<ClosedSet>,
    /// Of strangers, by data set and length of probes.
    pub strangers: Vec<StrangerRates>,
    /// Of strangers, by size of gallery.
    pub identification: Vec<Identification>,
    /// Of strangers, by condition.
    pub robustness: Vec<Robustness>,
    /// Of verifications of strangers that decide window by window, by the rate asked for.
    pub verification: Vec<Sequential>,
    /// Of identifications that do, each among the strangers of one model and folder.
    pub sequential_identification: Option<Sequential>,
}

/// A model that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredModel {
    /// As given.
    pub name: String,
    /// Id.
    pub id: String,
    /// What it was trained on.
    pub training_data: String,
    /// People of the data whom it was trained on.
    pub known: usize,
    /// People of the data whom it was not trained on, and who were enrolled.
    pub strangers: usize,
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
    /// No model was trained on anybody who walks in the test sessions.
    #[error(
        "no model was trained on anybody with walking in the test sessions: leave them out, or give \
         the folders of the training under the names that they had"
    )]
    NobodyKnown,
    /// Everybody was trained on.
    #[error(
        "the models were trained on everybody in these folders: give a folder of other people, models \
         from `train --leave-out`, or --test-sessions"
    )]
    NoStrangers,
    /// There is nobody to compare with.
    #[error(
        "no two strangers can be compared, of whom there are {strangers}: give recordings of two people \
         or more whom a model was not trained on, each with 30 s of walking to enroll, and one with \
         more, of another session or 10 s later"
    )]
    TooFewStrangers {
        /// People of the data whom a model was not trained on.
        strangers: usize,
    },
}

/// Measures models. Strangers of each model are compared among themselves, and the scores of all
/// models pooled: models that each leave out another part of the people measure all of them.
///
/// `progress` is told how many steps are done, and of how many.
///
/// # Errors
/// When there is nothing to measure, or a session does not exist.
pub fn evaluate(
    models: Vec<(String, Model)>,
    folders: &[Folder],
    test_sessions: &[String],
    seed: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Evaluation, EvaluationError> {
    check(folders, test_sessions)?;
    let models = models
        .into_iter()
        .map(|(name, model)| match Serving::new(model) {
            Ok(serving) => Ok((name, serving)),
            Err(reason) => Err(EvaluationError::Unfit { name, reason }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let people = people(folders);
    let mut warnings = Vec::new();
    for (name, serving) in &models {
        let metadata = &serving.model.metadata;
        let trained_on = trained_on(metadata, test_sessions);
        let namesakes = Known::to(metadata).namesakes(&people);
        let found = trained_on.into_iter().chain(namesakes);
        warnings.extend(found.map(|warning| format!("{name}: {warning}")));
    }

    let closed_set: Vec<ClosedSet> =
        models.iter().filter_map(|model| closed_set(model, &people, test_sessions, seed)).collect();
    if closed_set.is_empty() && !test_sessions.is_empty() {
        return Err(EvaluationError::NobodyKnown);
    }

    let unknown: Vec<Vec<usize>> = models.iter().map(|model| unknown(&model.1, &people)).collect();
    let steps = unknown.iter().map(Vec::len).sum();
    let done = AtomicUsize::new(0);
    let strangers: Vec<Vec<Stranger>> = models
        .iter()
        .zip(&unknown)
        .map(|((_, serving), unknown)| {
            let enroll = |&number: &usize| {
                let stranger = Stranger::new(serving, number, &people[number], seed);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, steps);
                stranger
            };
            unknown.par_iter().filter_map(enroll).collect()
        })
        .collect();
    warnings.extend(too_short(&people, folders, &unknown, &strangers));

    let names: Vec<&str> = folders.iter().map(|folder| &folder.name[..]).collect();
    let rates = stranger_rates(&strangers, &names, seed);
    if rates.is_empty() && closed_set.is_empty() {
        let unknown: BTreeSet<usize> = unknown.into_iter().flatten().collect();
        return Err(match unknown.len() {
            0 => EvaluationError::NoStrangers,
            strangers => EvaluationError::TooFewStrangers { strangers },
        });
    }
    let of_models = models.iter().zip(&unknown).map(|((_, serving), unknown)| {
        (serving, unknown.iter().map(|&number| &people[number]).collect())
    });
    let (verification, sequential_identification) = sequential(of_models, folders.len());
    let measured = models.iter().zip(&unknown).zip(&strangers);
    let models = measured.map(|(((name, serving), unknown), strangers)| MeasuredModel {
        name: name.clone(),
        id: serving.model.id().to_owned(),
        training_data: serving.model.metadata.training_data.clone(),
        known: people.len() - unknown.len(),
        strangers: strangers.len(),
    });
    Ok(Evaluation {
        models: models.collect(),
        warnings,
        closed_set,
        strangers: rates,
        identification: identification(&strangers, USUAL_FMR, seed),
        robustness: robustness(&strangers, USUAL_FMR),
        verification,
        sequential_identification,
    })
}

fn check(folders: &[Folder], test_sessions: &[String]) -> Result<(), EvaluationError> {
    let mut names = BTreeSet::new();
    if let Some(folder) = folders.iter().find(|folder| !names.insert(&folder.name)) {
        return Err(EvaluationError::FolderTwice(folder.name.clone()));
    }
    Ok(sessions_exist(folders.iter().flat_map(|folder| &folder.walks), test_sessions)?)
}

/// Positions of the people whom the model was not trained on.
fn unknown(serving: &Serving, people: &[Person]) -> Vec<usize> {
    let known = Known::to(&serving.model.metadata);
    (0..people.len()).filter(|&number| known.class(&people[number]).is_none()).collect()
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

/// A warning for each folder with people who walk too little to be enrolled.
fn too_short<'a>(
    people: &'a [Person],
    folders: &'a [Folder],
    unknown: &[Vec<usize>],
    strangers: &[Vec<Stranger>],
) -> impl Iterator<Item = String> + use<'a> {
    let enrolled: BTreeSet<usize> =
        strangers.iter().flatten().map(|stranger| stranger.person).collect();
    let unknown: BTreeSet<usize> = unknown.iter().flatten().copied().collect();
    let left_out: Vec<usize> = unknown.difference(&enrolled).copied().collect();
    folders.iter().enumerate().filter_map(move |(position, folder)| {
        let names: Vec<&str> = left_out
            .iter()
            .map(|&number| &people[number])
            .filter(|person| person.folder == position)
            .map(|person| person.subject)
            .collect();
        let folder = &folder.name;
        let left_out = names.join(", ");
        (!names.is_empty()).then(|| {
            format!("{folder}: less than 30 s of walking to enroll, so left out: {left_out}")
        })
    })
}

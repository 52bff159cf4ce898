//! Trains a new network for the users of a service, from the active model.
//!
//! A network with classes learns to name the users and simulated strangers, from the users'
//! recordings and from its parent (`student`, `epochs`). A network without classes has its last
//! layer refitted in closed form (`refit`).

mod background;
mod checkpoint;
mod division;
mod epochs;
mod error;
mod low_priority_pool;
mod model_file;
mod options;
mod refit;
mod student;
mod users;

use std::ops::ControlFlow;
use std::time::Instant;

use background::BACKGROUND_PEOPLE;
use bipedalnet_core::bnn::{Model, decode};
use bipedalnet_core::gait::Recipe;
pub use checkpoint::{Checkpoint, CheckpointError};
use division::divide;
use epochs::{Run, train};
pub use error::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, RetrainingError, TooLittle};
pub use low_priority_pool::low_priority_pool;
pub use model_file::retrained_model;
pub use options::{Event, Length, Retrained, RetrainingOptions};
use refit::{refit, refit_bytes};
use student::{Student, Teacher};
use users::survey;
pub use users::{ReadRecording, Users};

use crate::trainer::Progress;

/// Retrains the network of a model file, from the start or from a checkpoint of the same parent,
/// recordings and options. [`ControlFlow::Break`] stops it after the current batch; the result is
/// then `None`.
///
/// The parent, the recordings and the options alone decide the result, however often it was
/// interrupted. With a time budget, this holds from the first checkpoint on.
///
/// # Errors
/// If the parent, the users' recordings, the memory limit or the checkpoint do not allow it.
pub fn retrain(
    parent_file: &[u8],
    users: &Users<'_>,
    options: &RetrainingOptions,
    checkpoint: Option<Checkpoint>,
    mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<Retrained>, RetrainingError> {
    let begin = Instant::now();
    let parent = Model::from_bytes(parent_file)?;
    let about = parent.metadata.clone();
    let input @ [rows, samples] = about.architecture.input;
    let recipe = Recipe::for_input(&about.rows, about.rate_hz, input).ok_or_else(|| {
        let found = format!("{rows} rows of {samples} samples, {:?}", about.rows);
        RetrainingError::Windows { found }
    })?;
    let mut stopped = || Event::report(&mut observe, &Progress::default()).is_none();
    let Some(survey) = survey(users, &mut stopped)? else { return Ok(None) };
    let job = options.job(parent.id(), &survey.sha256);
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.job != job) {
        return Err(CheckpointError::OtherJob.into());
    }
    let (_, parameters) = decode(parent_file)?;
    let user_count = users.recordings.len();
    let has_classes = about.architecture.classes() > 0;
    let people = user_count + BACKGROUND_PEOPLE;
    let network_bytes = match has_classes {
        true => Student::bytes(&about.architecture, people)?,
        false => refit_bytes(&about.architecture, people)?,
    };
    let limit_seconds = survey.seconds_a_user(options.memory_bytes, network_bytes, recipe)?;
    let Some(division) = divide(users, &survey, recipe, limit_seconds, stopped)? else {
        return Ok(None);
    };
    let run = Run { job, users: user_count, division: &division, options, begin };
    let (architecture, classes, last);
    if has_classes {
        let teacher = Teacher::new(parent, parameters, options.seed);
        let mut student = Student::new(&teacher, &division, options.last_layers_only)?;
        last = train(&run, &mut student, checkpoint, observe)?;
        architecture = student.architecture().clone();
        classes = division.subjects.clone();
    } else {
        last = refit(&run, &about, parameters, checkpoint, observe)?;
        (architecture, classes) = (about.architecture, about.classes);
    }
    let Some(last) = last else { return Ok(None) };
    Ok(Some(Retrained {
        architecture,
        parameters: last.best.parameters,
        classes,
        data_sha256: const_hex::encode(survey.sha256),
        users: user_count,
        seed: options.seed,
        epochs: last.epoch,
        best_epoch: last.best.epoch,
        validation_accuracy: last.best.validation_accuracy,
    }))
}

#[cfg(test)]
mod tests;

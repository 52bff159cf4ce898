//! A new network for enrolled users, from the one that serves: the loop, and what stops it. A network
//! without classes has its last layer refitted instead.

mod checkpoint;
mod error;
mod low_priority_pool;
mod model_file;
mod refit;
mod student;
mod users;

use std::f32::consts::PI;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use sha2::{Digest, Sha256};

use crate::data::Division;
use crate::network::State;
use crate::trainer::{Progress, correct};
use bipedalnet_core::bnn::{self, Architecture, Metadata, Model, Parameters, decode};
use bipedalnet_core::gait::Recipe;
use checkpoint::Best;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use error::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, RetrainingError, TooLittle};
pub use low_priority_pool::low_priority_pool;
pub use model_file::retrained_model;
use refit::{Refitted, refit, refit_bytes};
use student::{BATCH, CALIBRATION_BATCHES, Student, Teacher};
use users::{BACKGROUND_PEOPLE, divide, round, survey};
pub use users::{ReadRecording, Users};

/// Adam's rate at the start; over the epochs it falls along a cosine.
const RATE: f32 = 1e-3;

/// Most epochs that a time budget is spent on.
const MOST_EPOCHS: u32 = 200;

/// Walks that validate before a stop is heeded.
const WALKS_AT_A_TIME: usize = 16;

/// When a retraining ends. A refit takes one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After as many passes over the data.
    Epochs(NonZeroU16),
    /// After as many as the first one's speed lets expect within this time, one at least.
    Budget(Duration),
}

/// How to retrain. The threads are those of the rayon pool that [`retrain`] is called in, and
/// their number does not matter to the outcome.
#[derive(Clone, Debug)]
pub struct RetrainingOptions {
    /// Trains only the layer that makes the feature and the last one, on what the parent's other
    /// layers give. That is several times as fast. A network without classes has its last layer
    /// refitted in either case.
    pub last_layers_only: bool,
    /// When it ends.
    pub length: Length,
    /// Everything random follows from it.
    pub seed: u64,
    /// Bounds the memory of the walks, once they are cut, and of the network in training. Walks
    /// are shortened, the longest users' first, until they fit. Of recordings as they are read
    /// there is one a thread at a time.
    pub memory_bytes: usize,
}

/// What a running retraining tells.
#[derive(Debug)]
pub enum Event<'a> {
    /// Several times a second.
    Progress(&'a Progress),
    /// After each epoch, last after the last.
    Checkpoint(&'a Checkpoint),
}

/// A retrained network.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrained {
    /// The parent's, but for the number of classes if it has any.
    pub architecture: Architecture,
    /// After the epoch with the best validation accuracy; without validation, after the last.
    pub parameters: Parameters,
    /// Names of the classes: `user 1`, in the order of the users, then `background 1` and so on.
    /// A user's own name would outlive their erasure. Of a network without classes, the people whom
    /// the parent was trained on.
    pub classes: Vec<String>,
    /// SHA-256 over the recordings, in hexadecimal.
    pub data_sha256: String,
    /// Users.
    pub users: usize,
    /// As in the options.
    pub seed: u64,
    /// Passes over the data.
    pub epochs: u32,
    /// The pass that was kept.
    pub best_epoch: u32,
    /// Share of the windows of users' last recordings that are named correctly, among users and
    /// simulated walkers; `None` if no user has two recordings.
    pub validation_accuracy: Option<f32>,
}

/// Retrains the network of a model file, from the start or from a checkpoint of the same parent,
/// recordings and options. [`ControlFlow::Break`] is heeded after each batch, and ends it with
/// `None`.
///
/// Parent, recordings and options alone decide the outcome, whether and wherever it was interrupted;
/// of a time budget that holds from the first checkpoint on.
///
/// # Errors
/// When the parent, the users' walks, the memory cap or the checkpoint do not allow it.
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
    let progress = Progress::default();
    let mut stopped = || observe(Event::Progress(&progress)).is_break();
    let Some(survey) = survey(users, &mut stopped)? else { return Ok(None) };
    let job = job(parent.id(), &survey.sha256, options);
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
    let run = Run { job, users: user_count, options, begin };
    let (architecture, classes, last);
    if has_classes {
        let teacher = Teacher::new(parent, parameters, options.seed);
        let mut student = Student::new(&teacher, &division, options.last_layers_only)?;
        last = run.train(&mut student, &division, progress, checkpoint, observe)?;
        architecture = student.architecture().clone();
        classes = division.subjects.clone();
    } else {
        last = run.refit(&about, parameters, &division, checkpoint, observe)?;
        (architecture, classes) = (about.architecture, about.classes);
    }
    let Some(last) = last else { return Ok(None) };
    Ok(Some(Retrained {
        architecture,
        parameters: last.best.parameters,
        classes,
        data_sha256: survey.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        users: user_count,
        seed: options.seed,
        epochs: last.epoch,
        best_epoch: last.best.epoch,
        validation_accuracy: last.best.validation_accuracy,
    }))
}

/// What a run is told.
struct Run<'a> {
    job: [u8; 32],
    users: usize,
    options: &'a RetrainingOptions,
    begin: Instant,
}

impl Run<'_> {
    /// Fits the last layer anew, whatever the scope and the length. There is one checkpoint, at the
    /// end.
    fn refit(
        &self,
        parent: &Metadata,
        parameters: Parameters,
        division: &Division,
        checkpoint: Option<Checkpoint>,
        mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Checkpoint>, RetrainingError> {
        if let Some(checkpoint) = checkpoint {
            let usable = checkpoint.best.parameters.check(&parent.architecture).is_ok();
            return match usable {
                true => Ok(Some(checkpoint)),
                false => Err(CheckpointError::Content("network").into()),
            };
        }
        let tell = |progress: &Progress| observe(Event::Progress(progress));
        let Some(refitted) = refit(parent, parameters, division, self.users, tell)? else {
            return Ok(None);
        };
        let Refitted { parameters, validation_accuracy } = refitted;
        let done = Checkpoint {
            job: self.job,
            epoch: 1,
            epochs: 1,
            drawn: 0,
            loss: None,
            network: State::default(),
            validation_accuracy,
            best: Best { parameters, epoch: 1, validation_accuracy },
        };
        Ok(observe(Event::Checkpoint(&done)).is_continue().then_some(done))
    }

    /// The checkpoint after the last epoch; `None` where it was stopped.
    fn train(
        &self,
        student: &mut Student<'_>,
        division: &Division,
        mut progress: Progress,
        mut checkpoint: Option<Checkpoint>,
        mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Checkpoint>, RetrainingError> {
        let (mut epochs, budget) = match self.options.length {
            Length::Epochs(epochs) => (Some(u32::from(epochs.get())), Duration::ZERO),
            Length::Budget(budget) => (None, budget),
        };
        let mut done = 0;
        if let Some(checkpoint) = &checkpoint {
            student.restore(checkpoint)?;
            progress.loss = checkpoint.loss;
            progress.validation_accuracy = checkpoint.validation_accuracy;
            done = checkpoint.epoch;
            epochs = Some(checkpoint.epochs);
        }
        let round = round(self.users, division.people.len());
        let steps = (division.windows_per_epoch() / BATCH).max(1);
        let first_step = done as usize * steps;
        let training_begin = Instant::now();
        while epochs.is_none_or(|epochs| done < epochs) {
            let before_seconds = self.begin.elapsed().as_secs_f32();
            let rate = epochs.map_or(RATE, |epochs| RATE * falling(done, epochs));
            let mut random =
                Pcg64Mcg::seed_from_u64(self.options.seed ^ u64::from(done).rotate_left(32));
            let mut order: Vec<usize> = round.iter().copied().cycle().take(steps * BATCH).collect();
            order.shuffle(&mut random);
            progress.step = done as usize * steps;
            done += 1;
            progress.epoch = done as usize;
            let mut loss = 0.0;
            for (step, labels) in order.chunks_exact(BATCH).enumerate() {
                loss += student.step(labels, rate);
                progress.step += 1;
                progress.loss = Some(loss / (step + 1) as f32);
                let trained = (progress.step - first_step) * BATCH;
                progress.samples_per_second =
                    trained as f32 / training_begin.elapsed().as_secs_f32();
                let epoch_seconds = (steps * BATCH) as f32 / progress.samples_per_second;
                let expected =
                    epochs.unwrap_or_else(|| epochs_within(budget, before_seconds, epoch_seconds));
                progress.steps = expected as usize * steps;
                progress.seconds_left =
                    (progress.steps - progress.step) as f32 / steps as f32 * epoch_seconds;
                if observe(Event::Progress(&progress)).is_break() {
                    return Ok(None);
                }
            }
            let batches = order.chunks_exact(BATCH).cycle().take(CALIBRATION_BATCHES);
            for (number, labels) in batches.enumerate() {
                student.calibrate(labels, number);
                if observe(Event::Progress(&progress)).is_break() {
                    return Ok(None);
                }
            }
            let parameters = student.parameters();
            let network = bnn::Network::new(student.architecture(), &parameters)?;
            let (mut right, mut all) = (0, 0);
            for walks in division.validation.chunks(WALKS_AT_A_TIME) {
                right += correct(&network, None, walks)?;
                all += walks.iter().map(|walk| walk.windows.len()).sum::<usize>();
                if observe(Event::Progress(&progress)).is_break() {
                    return Ok(None);
                }
            }
            let validation_accuracy = (all > 0).then(|| right as f32 / all as f32);
            progress.validation_accuracy = validation_accuracy;
            let epoch_seconds = self.begin.elapsed().as_secs_f32() - before_seconds;
            let total =
                *epochs.get_or_insert_with(|| epochs_within(budget, before_seconds, epoch_seconds));
            progress.steps = total as usize * steps;
            // Of equals the later one has learned more.
            let best = checkpoint
                .take()
                .map(|checkpoint| checkpoint.best)
                .filter(|best| best.validation_accuracy > validation_accuracy)
                .unwrap_or(Best { parameters, epoch: done, validation_accuracy });
            let (network, drawn) = student.state();
            let now = checkpoint.insert(Checkpoint {
                job: self.job,
                epoch: done,
                epochs: total,
                drawn,
                loss: progress.loss,
                network,
                validation_accuracy,
                best,
            });
            for event in [Event::Progress(&progress), Event::Checkpoint(now)] {
                if observe(event).is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(checkpoint)
    }
}

/// From 1 to 0 along half a cosine.
fn falling(epoch: u32, epochs: u32) -> f32 {
    f32::midpoint(1.0, (PI * epoch as f32 / epochs as f32).cos())
}

/// Epochs that fit, when the first begins after `before_seconds`.
fn epochs_within(budget: Duration, before_seconds: f32, epoch_seconds: f32) -> u32 {
    let fitting = (budget.as_secs_f32() - before_seconds) / epoch_seconds;
    (fitting as u32).clamp(1, MOST_EPOCHS)
}

/// What a checkpoint must have in common with the run that goes on from it.
fn job(parent_id: &str, data_sha256: &[u8; 32], options: &RetrainingOptions) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(data_sha256);
    hash.update(format!("{parent_id} {options:?}"));
    hash.finalize().into()
}

#[cfg(test)]
mod tests;

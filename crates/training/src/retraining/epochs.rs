//! The loop over epochs in which a student learns.

use std::f32::consts::PI;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{self, NetworkError, Parameters};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::checkpoint::{Best, Checkpoint};
use super::division::round;
use super::error::RetrainingError;
use super::options::{Event, Length, RetrainingOptions};
use super::student::{BATCH, CALIBRATION_BATCHES, Student};
use crate::data::Division;
use crate::trainer::{Progress, correct};

/// Adam's rate at the start. It falls along a cosine over the epochs.
const RATE: f32 = 1e-3;

/// Most epochs that a time budget is spent on.
pub const MOST_EPOCHS: u32 = 200;

/// Recordings that validate between two looks for a stop.
const RECORDINGS_AT_A_TIME: usize = 16;

/// A job, on data that was cut.
pub struct Run<'a> {
    /// Identifies the job.
    pub job: [u8; 32],
    /// The first people of the division are the users.
    pub users: usize,
    pub division: &'a Division,
    pub options: &'a RetrainingOptions,
    pub begin: Instant,
}

/// Trains a student from the start or from a checkpoint. Gives the checkpoint after the last epoch,
/// or `None` if the observer stops it.
pub fn train(
    run: &Run<'_>,
    student: &mut Student<'_>,
    checkpoint: Option<Checkpoint>,
    observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<Checkpoint>, RetrainingError> {
    let (epochs, budget) = match run.options.length {
        Length::Epochs(epochs) => (Some(u32::from(epochs.get())), Duration::ZERO),
        Length::Budget(budget) => (None, budget),
    };
    let steps = (run.division.windows_per_epoch() / BATCH).max(1);
    let begin = Instant::now();
    let progress = Progress::default();
    Loop { run, student, observe, progress, epochs, budget, steps, first_step: 0, begin }
        .train(checkpoint)
}

struct Loop<'a, 'b, O> {
    run: &'a Run<'a>,
    student: &'a mut Student<'b>,
    observe: O,
    progress: Progress,
    /// All epochs of the job. A time budget sets it after the first epoch.
    epochs: Option<u32>,
    budget: Duration,
    /// Steps of an epoch.
    steps: usize,
    /// Steps that an earlier run has done.
    first_step: usize,
    begin: Instant,
}

impl<O: FnMut(Event<'_>) -> ControlFlow<()>> Loop<'_, '_, O> {
    fn train(
        mut self,
        mut checkpoint: Option<Checkpoint>,
    ) -> Result<Option<Checkpoint>, RetrainingError> {
        let mut done = 0;
        if let Some(checkpoint) = &checkpoint {
            self.student.restore(checkpoint)?;
            self.progress.loss = checkpoint.loss;
            self.progress.validation_accuracy = checkpoint.validation_accuracy;
            done = checkpoint.epoch;
            self.epochs = Some(checkpoint.epochs);
        }
        self.first_step = done as usize * self.steps;
        while self.epochs.is_none_or(|epochs| done < epochs) {
            let before_seconds = self.run.begin.elapsed().as_secs_f32();
            let rate = self.epochs.map_or(RATE, |epochs| RATE * falling(done, epochs));
            let order = self.order(done);
            self.progress.step = done as usize * self.steps;
            done += 1;
            self.progress.epoch = done as usize;
            let Some(parameters) = self.epoch(&order, rate, before_seconds) else {
                return Ok(None);
            };
            let Some(validation_accuracy) = self.validate(&parameters)? else { return Ok(None) };
            self.progress.validation_accuracy = validation_accuracy;
            let epoch_seconds = self.run.begin.elapsed().as_secs_f32() - before_seconds;
            let total = self.expected_epochs(before_seconds, epoch_seconds);
            self.epochs = Some(total);
            self.progress.steps = total as usize * self.steps;
            // If two are equal, the later one has learned more.
            let best = checkpoint
                .take()
                .map(|checkpoint| checkpoint.best)
                .filter(|best| best.validation_accuracy > validation_accuracy)
                .unwrap_or(Best { parameters, epoch: done, validation_accuracy });
            let (network, drawn) = self.student.state();
            let now = checkpoint.insert(Checkpoint {
                job: self.run.job,
                epoch: done,
                epochs: total,
                drawn,
                loss: self.progress.loss,
                network,
                validation_accuracy,
                best,
            });
            if self.report().is_none() || (self.observe)(Event::Checkpoint(now)).is_break() {
                return Ok(None);
            }
        }
        Ok(checkpoint)
    }

    /// `None` if the observer stops the retraining.
    fn report(&mut self) -> Option<()> {
        Event::report(&mut self.observe, &self.progress)
    }

    /// The classes that an epoch draws from, in random order.
    fn order(&self, epoch: u32) -> Vec<usize> {
        let round = round(self.run.users, self.run.division.people.len());
        let mut random =
            Pcg64Mcg::seed_from_u64(self.run.options.seed ^ u64::from(epoch).rotate_left(32));
        let mut order: Vec<usize> = round.into_iter().cycle().take(self.steps * BATCH).collect();
        order.shuffle(&mut random);
        order
    }

    /// Takes the steps of an epoch and averages the statistics for inference.
    fn epoch(&mut self, order: &[usize], rate: f32, before_seconds: f32) -> Option<Parameters> {
        let mut loss = 0.0;
        for (step, labels) in order.chunks_exact(BATCH).enumerate() {
            loss += self.student.step(labels, rate);
            self.progress.step += 1;
            self.progress.loss = Some(loss / (step + 1) as f32);
            let trained = (self.progress.step - self.first_step) * BATCH;
            self.progress.samples_per_second = trained as f32 / self.begin.elapsed().as_secs_f32();
            let epoch_seconds = (self.steps * BATCH) as f32 / self.progress.samples_per_second;
            let expected = self.expected_epochs(before_seconds, epoch_seconds);
            self.progress.steps = expected as usize * self.steps;
            self.progress.seconds_left = (self.progress.steps - self.progress.step) as f32
                / self.steps as f32
                * epoch_seconds;
            self.report()?;
        }
        let batches = order.chunks_exact(BATCH).cycle().take(CALIBRATION_BATCHES);
        for (number, labels) in batches.enumerate() {
            self.student.calibrate(labels, number);
            self.report()?;
        }
        Some(self.student.parameters())
    }

    fn expected_epochs(&self, before_seconds: f32, epoch_seconds: f32) -> u32 {
        self.epochs.unwrap_or_else(|| epochs_within(self.budget, before_seconds, epoch_seconds))
    }

    /// The share of validation windows that are named correctly, if there are any. The outer `None`
    /// means that the observer stops the retraining.
    fn validate(&mut self, parameters: &Parameters) -> Result<Option<Option<f32>>, NetworkError> {
        let network = bnn::Network::new(self.student.architecture(), parameters)?;
        let (mut right, mut all) = (0, 0);
        for recordings in self.run.division.validation.chunks(RECORDINGS_AT_A_TIME) {
            right += correct(&network, None, recordings)?;
            all += recordings.iter().map(|recording| recording.windows.len()).sum::<usize>();
            if self.report().is_none() {
                return Ok(None);
            }
        }
        Ok(Some((all > 0).then(|| right as f32 / all as f32)))
    }
}

/// From 1 to 0 along half a cosine.
fn falling(epoch: u32, epochs: u32) -> f32 {
    f32::midpoint(1.0, (PI * epoch as f32 / epochs as f32).cos())
}

/// Epochs that fit into a budget, if the first begins after `before_seconds`.
pub fn epochs_within(budget: Duration, before_seconds: f32, epoch_seconds: f32) -> u32 {
    let fitting = (budget.as_secs_f32() - before_seconds) / epoch_seconds;
    (fitting as u32).clamp(1, MOST_EPOCHS)
}

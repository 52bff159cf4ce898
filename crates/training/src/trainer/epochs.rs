//! The loop over epochs.

use std::f32::consts::PI;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bipedalnet_core::bnn::{Architecture, ArchitectureError, Parameters};
use bipedalnet_core::gait::WINDOW_ROWS;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use super::accuracy::argmax;
use super::phase::{Phase, start_from};
use crate::data::{Augmentation, Division, LabelledWindows, dequantise};
use crate::network::{Compression, Network, Pass};

/// How to train.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Passes over the training data.
    pub epochs: usize,
    /// Share of the epochs in which a binary or compressed network trains with real weights. It then
    /// continues from their values.
    pub real_share: f32,
    /// Windows in a step.
    pub batch: usize,
    /// Adam's rate at the start. It falls to zero along half a cosine. Real weights have half the
    /// rate.
    pub rate: f32,
    /// Share of the past that the moving average of the weights keeps at each step. A binary network
    /// has the signs of the average. 0 turns averaging off.
    pub averaging: f32,
    /// Decides everything random.
    pub seed: u64,
    /// How windows are varied.
    pub augmentation: Augmentation,
    /// A further restriction of the weights.
    pub compression: Option<Compression>,
}

/// The state of a running training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Steps done, of [`Progress::steps`].
    pub step: usize,
    /// Steps of the whole schedule.
    pub steps: usize,
    /// Epoch of the last step. Counts from 1.
    pub epoch: usize,
    /// Mean cross-entropy over the epoch so far. `None` if nothing is learned by gradients.
    pub loss: Option<f32>,
    /// Share of validation windows that were named correctly after the last finished epoch.
    pub validation_accuracy: Option<f32>,
    /// Training windows a second since the start. The time includes validation.
    pub samples_per_second: f32,
    /// Time that the rest of the schedule takes at this speed.
    pub seconds_left: f32,
}

/// A trained network.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Parameters after the epoch with the best validation accuracy.
    pub parameters: Parameters,
    /// That validation accuracy.
    pub validation_accuracy: f32,
    /// Epochs finished.
    pub epochs: usize,
    /// Time taken.
    pub elapsed: Duration,
    /// Training windows a second. The time includes validation.
    pub samples_per_second: f32,
}

/// Windows over which the statistics for inference are averaged before each validation. A moving
/// average would mix in statistics of weights that have since changed their signs.
pub const CALIBRATION_WINDOWS: usize = 1024;

const SAME_NETWORK: &str = "a state of the same network";

/// Trains a network and reports after every step. [`ControlFlow::Break`] stops it: the result is then
/// the best network so far, or `None` before the first epoch was validated.
///
/// The same inputs and seed give the same network, whatever the number of threads.
///
/// # Errors
/// If the layers do not fit together.
///
/// # Panics
/// If the architecture does not have one class for each subject, or reads other windows.
pub fn train(
    architecture: &Architecture,
    division: &Division,
    schedule: &Schedule,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Trained>, ArchitectureError> {
    assert_eq!(architecture.classes(), division.subjects.len());
    assert_eq!(architecture.input, [WINDOW_ROWS, division.recipe.samples]);
    let begin = Instant::now();
    let mut random = Pcg64Mcg::seed_from_u64(schedule.seed);
    let mut phase = Phase::first(architecture, schedule);
    let mut network = Network::new(&phase.architecture, &mut random)?;
    network.compress(phase.compression);
    let mut average = network.state();
    let classes = division.subjects.len();
    let steps = (division.windows_per_epoch() / schedule.batch).max(1);
    let mut draws = Draws::new(division, schedule);
    let mut gradient = vec![0.0; schedule.batch * architecture.classes()];
    let mut best: Option<(Parameters, f32)> = None;
    let mut finished = 0;
    let mut state = Progress { steps: steps * schedule.epochs, ..Progress::default() };
    'training: for epoch in 1..=schedule.epochs {
        state.epoch = epoch;
        if epoch > phase.epochs.end {
            let learned = best.take().expect("an epoch of the phase before was validated").0;
            phase = Phase::last(architecture, schedule);
            network = start_from(&learned, &phase, &mut random)?;
            average = network.state();
        }
        // All people are equally likely, however long their recordings.
        let mut order: Vec<usize> =
            (0..steps * schedule.batch).map(|index| index % classes).collect();
        order.shuffle(&mut random);
        let mut loss = 0.0;
        for (step, labels) in order.chunks_exact(schedule.batch).enumerate() {
            read(&mut network, draws.draw(labels));
            let mut logits = network.run(Pass::Training).to_vec();
            logits.iter_mut().for_each(|logit| *logit *= phase.logit_scale);
            loss += cross_entropy(&logits, labels, architecture.classes(), &mut gradient);
            gradient.iter_mut().for_each(|value| *value *= phase.logit_scale);
            network.backward(&gradient);
            let steps_before = state.step - phase.epochs.start * steps;
            let done = steps_before as f32 / (phase.epochs.len() * steps) as f32;
            network.step(phase.rate * (0.5 + 0.5 * (PI * done).cos()));
            // The first steps have no past but the random start.
            let share = schedule.averaging.min(steps_before as f32 / (steps_before + 1) as f32);
            network.average(&mut average, share);

            state.step += 1;
            state.loss = Some(loss / (step + 1) as f32);
            state.samples_per_second =
                (state.step * schedule.batch) as f32 / begin.elapsed().as_secs_f32();
            state.seconds_left =
                ((state.steps - state.step) * schedule.batch) as f32 / state.samples_per_second;
            if progress(&state).is_break() {
                break 'training;
            }
        }
        let latest = network.state();
        network.restore(&average).expect(SAME_NETWORK);
        calibrate(&mut network, &mut draws, &order);
        let accuracy = accuracy(&mut network, &division.validation);
        state.validation_accuracy = (!division.validation.is_empty()).then_some(accuracy);
        let before = best.as_ref().map_or(-1.0, |(_, accuracy)| *accuracy);
        // If two are equal, the later one has learned more.
        if accuracy >= before {
            best = Some((network.parameters(), accuracy));
        }
        network.restore(&latest).expect(SAME_NETWORK);
        finished = epoch;
    }
    if let Some((learned, kept)) = &mut best
        && phase.epochs.end < schedule.epochs
    {
        // It was stopped before its weights were restricted.
        let last = Phase::last(architecture, schedule);
        let mut network = start_from(learned, &last, &mut random)?;
        let order: Vec<usize> = (0..CALIBRATION_WINDOWS).map(|index| index % classes).collect();
        calibrate(&mut network, &mut draws, &order);
        (*learned, *kept) = (network.parameters(), accuracy(&mut network, &division.validation));
    }
    Ok(best.map(|(parameters, validation_accuracy)| Trained {
        parameters,
        validation_accuracy,
        epochs: finished,
        elapsed: begin.elapsed(),
        samples_per_second: state.samples_per_second,
    }))
}

/// Averages the statistics for inference over windows of these classes, repeated as needed.
fn calibrate(network: &mut Network, draws: &mut Draws<'_>, labels: &[usize]) {
    let batch = draws.schedule.batch;
    let batches = labels.chunks_exact(batch).cycle().take(CALIBRATION_WINDOWS.div_ceil(batch));
    for (number, labels) in batches.enumerate() {
        read(network, draws.draw(labels));
        network.run(Pass::Calibration(number));
    }
}

fn read(network: &mut Network, windows: impl IndexedParallelIterator<Item = Vec<i16>>) {
    let input_len = network.input_len();
    let inputs = network.inputs(windows.len()).par_chunks_mut(input_len);
    inputs.zip(windows).for_each(|(input, window)| dequantise(&window, input));
}

/// Draws windows. Each draw has its own random numbers.
pub struct Draws<'a> {
    division: &'a Division,
    schedule: &'a Schedule,
    /// Windows drawn so far. Each number has its own random stream.
    pub drawn: u64,
}

impl<'a> Draws<'a> {
    pub fn new(division: &'a Division, schedule: &'a Schedule) -> Self {
        Self { division, schedule, drawn: 0 }
    }

    /// Draws one window for each label, in this order.
    pub fn draw(&mut self, labels: &[usize]) -> impl IndexedParallelIterator<Item = Vec<i16>> {
        let (division, schedule, drawn) = (self.division, self.schedule, self.drawn);
        self.drawn += labels.len() as u64;
        labels.par_iter().enumerate().map(move |(index, &class)| {
            let number = drawn + index as u64;
            let mut random = Pcg64Mcg::seed_from_u64(schedule.seed ^ number.rotate_left(24));
            division.draw(class, &schedule.augmentation, &mut random)
        })
    }
}

/// Computes the mean cross-entropy of the softmax, and its gradient of the logits.
pub fn cross_entropy(
    logits: &[f32],
    labels: &[usize],
    classes: usize,
    gradient: &mut [f32],
) -> f32 {
    let share = 1.0 / labels.len() as f32;
    let mut loss = 0.0;
    for ((logits, gradient), &label) in
        logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(labels)
    {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (gradient, logit) in gradient.iter_mut().zip(logits) {
            *gradient = (logit - largest).exp();
            total += *gradient;
        }
        gradient.iter_mut().for_each(|value| *value *= share / total);
        gradient[label] -= share;
        loss += (total.ln() + largest - logits[label]) * share;
    }
    loss
}

/// Share of windows that a network in training names correctly.
fn accuracy(network: &mut Network, walks: &[LabelledWindows]) -> f32 {
    let input_len = network.input_len();
    let (mut right, mut all) = (0, 0);
    for walk in walks {
        let mut inputs = vec![0.0; walk.windows.len() * input_len];
        for (input, window) in inputs.chunks_exact_mut(input_len).zip(&walk.windows) {
            dequantise(window, input);
        }
        let logits = network.forward(&inputs, Pass::Inference);
        let classes = logits.len() / walk.windows.len();
        right +=
            logits.chunks_exact(classes).filter(|&logits| argmax(logits) == walk.class).count();
        all += walk.windows.len();
    }
    right as f32 / (all as f32).max(1.0)
}

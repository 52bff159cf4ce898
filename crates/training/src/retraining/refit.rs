//! Refits the last layer of a network without classes to enrolled users, in closed form.

use std::ops::{ControlFlow, Range};
use std::time::Instant;

use bipedalnet_core::bnn::{self, Architecture, ArchitectureError, Metadata, Parameters};

use super::checkpoint::{Best, Checkpoint, CheckpointError};
use super::epochs::Run;
use super::error::RetrainingError;
use super::options::Event;
use crate::network::State;
use crate::trainer::{
    Deflation, NearestSubject, PEOPLE_AT_A_TIME, Progress, Spread, WINDOWS_A_PERSON, correct,
};

/// Recordings that validate between two looks for a stop.
const RECORDINGS_AT_A_TIME: usize = 16;

/// Estimates the memory that a refit takes.
pub fn refit_bytes(architecture: &Architecture, people: usize) -> Result<usize, ArchitectureError> {
    let length = architecture.shapes()?.last().map_or(0, |shape| shape.len());
    // The covariances of parent and users, one of them again in double precision; windows, and
    // their distances from the mean; each person's direction.
    let floats = (4 * length).saturating_add(2 * PEOPLE_AT_A_TIME * WINDOWS_A_PERSON);
    Ok(floats.saturating_add(people).saturating_mul(length).saturating_mul(size_of::<f32>()))
}

/// Refits the last layer to the users and to the people whom the parent was trained on, whatever the
/// length in the options. There is one checkpoint, at the end. `None` if the observer stops it.
pub fn refit(
    run: &Run<'_>,
    parent: &Metadata,
    mut parameters: Parameters,
    checkpoint: Option<Checkpoint>,
    mut observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<Checkpoint>, RetrainingError> {
    let architecture = &parent.architecture;
    if let Some(checkpoint) = checkpoint {
        return match checkpoint.best.parameters.check(architecture).is_ok() {
            true => Ok(Some(checkpoint)),
            false => Err(CheckpointError::Content("network").into()),
        };
    }
    let last = architecture.layers.len() - 1;
    let Some(deflation) = parameters.layers[last].as_ref().and_then(Deflation::read) else {
        return Ok(None);
    };
    let division = run.division;
    let people = division.people.len();
    let steps = chunks(run.users).len()
        + chunks(people).len()
        + division.validation.len().div_ceil(RECORDINGS_AT_A_TIME);
    let mut steps = Steps::new(steps, &mut observe);

    parameters.layers[last] = Some(deflation.flattened().parameters());
    let network = bnn::Network::new(architecture, &parameters)?;
    let mut spread = Spread::of_nobody(network.feature_len());
    for some in chunks(run.users) {
        let features = division.features(&network, some, WINDOWS_A_PERSON);
        spread.add(&features);
        if steps.advance(features.iter().map(Vec::len).sum()).is_break() {
            return Ok(None);
        }
    }
    parameters.layers[last] = Some(deflation.refit(parent.classes.len(), &spread).parameters());

    let network = bnn::Network::new(architecture, &parameters)?;
    let mut nearest = NearestSubject::default();
    for some in chunks(people) {
        let features = division.features(&network, some, WINDOWS_A_PERSON);
        nearest.add(&features);
        if steps.advance(features.iter().map(Vec::len).sum()).is_break() {
            return Ok(None);
        }
    }
    let (mut right, mut all) = (0, 0);
    for recordings in division.validation.chunks(RECORDINGS_AT_A_TIME) {
        right += correct(&network, Some(&nearest), recordings)?;
        let windows: usize = recordings.iter().map(|recording| recording.windows.len()).sum();
        all += windows;
        if steps.advance(windows).is_break() {
            return Ok(None);
        }
    }
    let validation_accuracy = (all > 0).then(|| right as f32 / all as f32);
    let done = Checkpoint {
        job: run.job,
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

/// Ranges of people with windows in memory at a time.
fn chunks(people: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    (0..people).step_by(PEOPLE_AT_A_TIME).map(move |at| at..(at + PEOPLE_AT_A_TIME).min(people))
}

/// Counts steps and windows, and reports them.
struct Steps<'a, O> {
    observe: &'a mut O,
    progress: Progress,
    windows: usize,
    begin: Instant,
}

impl<'a, O: FnMut(Event<'_>) -> ControlFlow<()>> Steps<'a, O> {
    fn new(steps: usize, observe: &'a mut O) -> Self {
        let progress = Progress { steps, epoch: 1, ..Progress::default() };
        Self { observe, progress, windows: 0, begin: Instant::now() }
    }

    fn advance(&mut self, windows: usize) -> ControlFlow<()> {
        let progress = &mut self.progress;
        self.windows += windows;
        progress.step += 1;
        let seconds = self.begin.elapsed().as_secs_f32();
        progress.samples_per_second = self.windows as f32 / seconds;
        progress.seconds_left =
            seconds / progress.step as f32 * (progress.steps - progress.step) as f32;
        (self.observe)(Event::Progress(progress))
    }
}

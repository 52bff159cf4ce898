//! The last layer of a network without classes, fitted anew to enrolled users.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::data::Division;
use crate::trainer::{
    Deflation, NearestSubject, PEOPLE_AT_A_TIME, Progress, Spread, WINDOWS_A_PERSON, correct,
};
use bipedalnet_core::bnn::{
    self, Architecture, ArchitectureError, Metadata, NetworkError, Parameters,
};

/// Walks that validate before a stop is heeded.
const WALKS_AT_A_TIME: usize = 16;

/// A deflation fitted to enrolled users and to the people whom its network was trained on.
pub struct Refitted {
    /// Of the whole network.
    pub parameters: Parameters,
    /// Share of the windows of users' last recordings that are named correctly.
    pub validation_accuracy: Option<f32>,
}

/// About what a refit takes of memory.
pub fn refit_bytes(architecture: &Architecture, people: usize) -> Result<usize, ArchitectureError> {
    let length = architecture.shapes()?.last().map_or(0, |shape| shape.len());
    // The covariances of parent and users, one of them again in double precision; windows as they are
    // and from the mean; each person's direction.
    let floats = (4 * length).saturating_add(2 * PEOPLE_AT_A_TIME * WINDOWS_A_PERSON);
    Ok(floats.saturating_add(people).saturating_mul(length).saturating_mul(size_of::<f32>()))
}

/// Fits the deflation of a network anew. The division's first people are the users.
/// [`ControlFlow::Break`] ends it with `None`.
pub fn refit(
    parent: &Metadata,
    mut parameters: Parameters,
    division: &Division,
    users: usize,
    mut observe: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Refitted>, NetworkError> {
    let begin = Instant::now();
    let architecture = &parent.architecture;
    let last = architecture.layers.len() - 1;
    let Some(deflation) = parameters.layers[last].as_ref().and_then(Deflation::read) else {
        return Ok(None);
    };
    let people = division.people.len();
    let chunks = |people: usize| {
        (0..people).step_by(PEOPLE_AT_A_TIME).map(move |at| at..(at + PEOPLE_AT_A_TIME).min(people))
    };
    let mut progress = Progress {
        steps: chunks(users).len()
            + chunks(people).len()
            + division.validation.len().div_ceil(WALKS_AT_A_TIME),
        epoch: 1,
        ..Progress::default()
    };
    let mut windows = 0;
    let mut advance = |more: usize| {
        windows += more;
        progress.step += 1;
        let seconds = begin.elapsed().as_secs_f32();
        progress.samples_per_second = windows as f32 / seconds;
        progress.seconds_left =
            seconds / progress.step as f32 * (progress.steps - progress.step) as f32;
        observe(&progress)
    };

    parameters.layers[last] = Some(deflation.flattened().parameters());
    let network = bnn::Network::new(architecture, &parameters)?;
    let mut spread = Spread::of_nobody(network.feature_len());
    for some in chunks(users) {
        let features = division.features(&network, some, WINDOWS_A_PERSON);
        spread.add(&features);
        if advance(features.iter().map(Vec::len).sum()).is_break() {
            return Ok(None);
        }
    }
    parameters.layers[last] = Some(deflation.refit(parent.classes.len(), &spread).parameters());

    let network = bnn::Network::new(architecture, &parameters)?;
    let mut nearest = NearestSubject::default();
    for some in chunks(people) {
        let features = division.features(&network, some, WINDOWS_A_PERSON);
        nearest.add(&features);
        if advance(features.iter().map(Vec::len).sum()).is_break() {
            return Ok(None);
        }
    }
    let (mut right, mut all) = (0, 0);
    for walks in division.validation.chunks(WALKS_AT_A_TIME) {
        right += correct(&network, Some(&nearest), walks)?;
        let windows: usize = walks.iter().map(|walk| walk.windows.len()).sum();
        all += windows;
        if advance(windows).is_break() {
            return Ok(None);
        }
    }
    let validation_accuracy = (all > 0).then(|| right as f32 / all as f32);
    Ok(Some(Refitted { parameters, validation_accuracy }))
}

//! Closed-set accuracy: how well a trained network names the people of its division.

use std::time::Instant;

use bipedalnet_core::bnn::{self, Architecture, NetworkError, Parameters};
use rayon::prelude::*;

use super::deflation::WINDOWS_A_PERSON;
use super::nearest_subject::NearestSubject;
use crate::data::{Division, LabelledWindows, dequantise};
use crate::network::{Network, Pass};

/// Consecutive windows that are decided together: six seconds of walking.
pub const CONSECUTIVE: usize = 5;

/// The accuracy of a network on windows that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Share of windows named correctly.
    pub top1: f32,
    /// Share of runs of five consecutive windows that are named correctly by their summed logits.
    pub top1_of_5: f32,
    /// Number of windows.
    pub windows: usize,
    /// Mean time of one window, one at a time, on one thread.
    pub inference_microseconds: f32,
}

/// Measures a network: packed, as it is deployed, if it can be, else as it was trained. A network
/// without classes names the person of the division with the nearest training windows.
///
/// # Errors
/// If the parameters do not make a network that can be run.
pub fn accuracy(
    architecture: &Architecture,
    parameters: &Parameters,
    division: &Division,
    recordings: &[LabelledWindows],
) -> Result<Accuracy, NetworkError> {
    let begin;
    let outputs = match bnn::Network::new(architecture, parameters) {
        Ok(network) => {
            let nearest = (architecture.classes() == 0).then(|| {
                let people = 0..division.people.len();
                NearestSubject::new(&division.features(&network, people, WINDOWS_A_PERSON))
            });
            begin = Instant::now();
            packed_outputs(&network, nearest.as_ref(), recordings)?
        }
        Err(NetworkError::Unsupported { .. }) => {
            let mut network = Network::from_parameters(architecture, parameters)?;
            begin = Instant::now();
            float_outputs(&mut network, recordings)
        }
        Err(error) => return Err(error),
    };
    let seconds = begin.elapsed().as_secs_f32();
    let windows = outputs.iter().map(Vec::len).sum::<usize>();
    let share = |consecutive: usize| {
        let (mut right, mut all) = (0, 0);
        for (recording, outputs) in recordings.iter().zip(&outputs) {
            let [of_recording, runs] = named(outputs, recording.class, consecutive);
            right += of_recording;
            all += runs;
        }
        right as f32 / (all as f32).max(1.0)
    };
    Ok(Accuracy {
        top1: share(1),
        top1_of_5: share(CONSECUTIVE),
        windows,
        inference_microseconds: seconds * 1e6 / (windows as f32).max(1.0),
    })
}

/// For each window of each recording, the logits or the cosines.
fn packed_outputs(
    network: &bnn::Network,
    nearest: Option<&NearestSubject>,
    recordings: &[LabelledWindows],
) -> Result<Vec<Vec<Vec<f32>>>, NetworkError> {
    let mut scratch = bnn::Scratch::default();
    let mut run = |window: &Vec<i16>| {
        let output = network.run(window, &mut scratch)?;
        Ok(match nearest {
            Some(nearest) => nearest.cosines(output.feature),
            None => output.logits.to_vec(),
        })
    };
    recordings.iter().map(|recording| recording.windows.iter().map(&mut run).collect()).collect()
}

fn float_outputs(network: &mut Network, recordings: &[LabelledWindows]) -> Vec<Vec<Vec<f32>>> {
    let mut input = vec![0.0; network.input_len()];
    let mut run = |window: &Vec<i16>| {
        dequantise(window, &mut input);
        network.forward(&input, Pass::Inference).to_vec()
    };
    recordings.iter().map(|recording| recording.windows.iter().map(&mut run).collect()).collect()
}

/// Counts the runs of `consecutive` windows: first those that are named correctly by their summed
/// logits, then all.
pub fn named(logits: &[Vec<f32>], class: usize, consecutive: usize) -> [usize; 2] {
    let (mut right, mut all) = (0, 0);
    for run in logits.windows(consecutive) {
        // Summed logits rank as products of softmax outputs do.
        let mut sums = vec![0.0; run[0].len()];
        for logits in run {
            sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit);
        }
        right += usize::from(argmax(&sums) == class);
        all += 1;
    }
    [right, all]
}

/// Position of the largest value.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// Counts the windows that a packed network names correctly, by its classes or by the nearest
/// person.
pub fn correct(
    network: &bnn::Network,
    nearest: Option<&NearestSubject>,
    walks: &[LabelledWindows],
) -> Result<usize, NetworkError> {
    walks
        .par_iter()
        .flat_map(|walk| walk.windows.par_iter().map(move |window| (walk.class, window)))
        .map_init(bnn::Scratch::default, |scratch, (class, window)| {
            let output = network.run(window, scratch)?;
            let named = match nearest {
                Some(nearest) => argmax(&nearest.cosines(output.feature)),
                None => argmax(output.logits),
            };
            Ok(usize::from(named == class))
        })
        .sum()
}

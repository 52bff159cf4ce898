//! How well a trained network names people.

use std::time::Instant;

use super::layers::Pass;
use super::network::Network;
use super::samples::{LabelledWalk, dequantise};
use crate::bnn::{self, Architecture, NetworkError, Parameters};

/// Consecutive windows that are also decided together: six seconds of walking.
pub(crate) const CONSECUTIVE: usize = 5;

/// What a network reached on windows that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Share of windows named correctly.
    pub top1: f32,
    /// Share of runs of five consecutive windows whose summed logits name the right person.
    pub top1_of_5: f32,
    /// Number of windows.
    pub windows: usize,
    /// Mean time of one window, one at a time, on one thread.
    pub inference_microseconds: f32,
}

/// Measures a network: packed, as it is deployed, where that can be, else as it was trained.
///
/// # Errors
/// When the parameters do not make a network that can be run.
pub fn evaluate(
    architecture: &Architecture,
    parameters: &Parameters,
    walks: &[LabelledWalk],
) -> Result<Evaluation, NetworkError> {
    let mut outputs = Vec::with_capacity(walks.len());
    let begin;
    match bnn::Network::new(architecture, parameters) {
        Ok(network) => {
            let mut scratch = bnn::Scratch::default();
            begin = Instant::now();
            for walk in walks {
                let run = |window: &Vec<i16>| {
                    network.run(window, &mut scratch).map(|output| output.logits.to_vec())
                };
                outputs.push(walk.windows.iter().map(run).collect::<Result<Vec<_>, _>>()?);
            }
        }
        Err(NetworkError::Unsupported { .. }) => {
            let mut network = Network::from_parameters(architecture, parameters)?;
            let mut input = vec![0.0; network.input_len()];
            begin = Instant::now();
            for walk in walks {
                let run = |window: &Vec<i16>| {
                    dequantise(window, &mut input);
                    network.forward(&input, Pass::Inference).to_vec()
                };
                outputs.push(walk.windows.iter().map(run).collect());
            }
        }
        Err(error) => return Err(error),
    }
    let seconds = begin.elapsed().as_secs_f32();
    let windows = outputs.iter().map(Vec::len).sum::<usize>();
    let share = |consecutive: usize| {
        let (mut right, mut all) = (0, 0);
        for (walk, logits) in walks.iter().zip(&outputs) {
            let [of_walk, runs] = named(logits, walk.class, consecutive);
            right += of_walk;
            all += runs;
        }
        right as f32 / (all as f32).max(1.0)
    };
    Ok(Evaluation {
        top1: share(1),
        top1_of_5: share(CONSECUTIVE),
        windows,
        inference_microseconds: seconds * 1e6 / (windows as f32).max(1.0),
    })
}

/// Of runs of so many consecutive windows, how many summed logits name the class, and how many there
/// are.
pub(crate) fn named(logits: &[Vec<f32>], class: usize, consecutive: usize) -> [usize; 2] {
    let (mut right, mut all) = (0, 0);
    for run in logits.windows(consecutive) {
        // Windows whose softmax outputs are multiplied rank as their summed logits do.
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
pub(super) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

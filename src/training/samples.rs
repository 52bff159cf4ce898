//! Walks to labelled windows, for training and for evaluation.

use std::ops::Range;

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::gait::{
    Recipe, Recording, Signal, SignalError, WINDOW_ROWS, is_walking, quantise, rows,
};

/// Windows may start at every tenth of a second.
const STARTS_PER_SECOND: f64 = 10.0;

/// A walk on the network's time grid, with the starts of the windows that are walking.
struct Track {
    signal: Signal,
    starts: Vec<usize>,
}

/// Walks by person, from which training draws windows.
pub(super) struct Samples {
    recipe: Recipe,
    /// For each class, its walks.
    people: Vec<Vec<Track>>,
}

/// How training varies what it draws, beside the time shift of a random start.
#[derive(Clone, Copy, Debug)]
pub struct Augmentation {
    /// Largest relative change of amplitude.
    pub scale: f32,
    /// Standard deviation of added noise, in units of a window's typical amplitude.
    pub noise: f32,
    /// Largest error of the walker's axes, in radians, about each of them.
    pub turn: f32,
    /// Share of windows that are cut as if the phone had no gyroscope.
    pub without_gyroscope: f32,
}

/// Windows of one recording, in order, with the person's class.
pub(super) struct LabelledWalk {
    pub class: usize,
    pub windows: Vec<Vec<i16>>,
}

impl Samples {
    pub fn new(recipe: Recipe, classes: usize) -> Self {
        Self { recipe, people: (0..classes).map(|_| Vec::new()).collect() }
    }

    /// Adds the part `within` (fractions of its length) of a recording.
    pub fn add(
        &mut self,
        class: usize,
        recording: &Recording,
        within: Range<f64>,
    ) -> Result<(), SignalError> {
        let signal = Signal::new(recording, &self.recipe)?;
        let step = (self.recipe.rate_hz / STARTS_PER_SECOND).round().max(1.0) as usize;
        let starts = walking_starts(&signal, self.recipe, within, step);
        if !starts.is_empty() {
            self.people[class].push(Track { signal, starts });
        }
        Ok(())
    }

    /// Windows that make up one epoch: as many as fit side by side, twice over.
    pub fn windows_per_epoch(&self) -> usize {
        let starts: usize = self.people.iter().flatten().map(|track| track.starts.len()).sum();
        (starts as f64 * 2.0 / (STARTS_PER_SECOND * self.recipe.window_seconds())) as usize
    }

    /// Classes that have at least one window.
    pub fn classes_with_windows(&self) -> Vec<usize> {
        (0..self.people.len()).filter(|&class| !self.people[class].is_empty()).collect()
    }

    /// A random window of `class`, varied, as the network's real input.
    pub fn draw(
        &self,
        class: usize,
        augmentation: &Augmentation,
        random: &mut impl Rng,
        into: &mut [f32],
    ) {
        let tracks = &self.people[class];
        // Longer walks are drawn from more often.
        let Ok(track) = tracks.choose_weighted(random, |track| track.starts.len()) else { return };
        let Some(&start) = track.starts.choose(random) else { return };
        let gyroscope = !random.random_bool(f64::from(augmentation.without_gyroscope));
        let mut values = rows(&track.signal, start, self.recipe.samples, gyroscope);
        augmentation.apply(&mut values, random);
        dequantise(&quantise(&values), into);
    }
}

/// Cuts one recording for evaluation, `stride` grid points apart.
pub(super) fn labelled_walk(
    class: usize,
    recording: &Recording,
    recipe: Recipe,
    within: Range<f64>,
    gyroscope: bool,
) -> Result<LabelledWalk, SignalError> {
    let signal = Signal::new(recording, &recipe)?;
    let windows = walking_starts(&signal, recipe, within, recipe.samples / 2)
        .into_iter()
        .map(|start| quantise(&rows(&signal, start, recipe.samples, gyroscope)))
        .collect();
    Ok(LabelledWalk { class, windows })
}

/// Starts of walking windows that lie wholly within the part.
fn walking_starts(signal: &Signal, recipe: Recipe, within: Range<f64>, step: usize) -> Vec<usize> {
    let first = (signal.len() as f64 * within.start) as usize;
    let last = (signal.len() as f64 * within.end) as usize;
    (first..(last + 1).saturating_sub(recipe.samples))
        .step_by(step)
        .filter(|&start| is_walking(signal, start, recipe.samples))
        .collect()
}

/// Fixed point to the real values that it stands for.
pub(super) fn dequantise(values: &[i16], into: &mut [f32]) {
    for (into, &value) in into.iter_mut().zip(values) {
        *into = f32::from(value) / (1 << crate::bnn::INPUT_FRACTION_BITS) as f32;
    }
}

const _: () = assert!(crate::gait::WINDOW_FRACTION_BITS == crate::bnn::INPUT_FRACTION_BITS);

impl Augmentation {
    fn apply(&self, values: &mut [f32], random: &mut impl Rng) {
        let samples = values.len() / WINDOW_ROWS;
        let mut angle = || random.random_range(-self.turn..=self.turn);
        let angles = [angle(), angle(), angle()];
        for half in values.chunks_exact_mut(4 * samples) {
            let scale = 1.0 + random.random_range(-self.scale..=self.scale);
            half.iter_mut().for_each(|value| *value *= scale);
            for (&angle, [a, b]) in angles.iter().zip([[0, 1], [1, 2], [2, 0]]) {
                let (sine, cosine) = angle.sin_cos();
                for index in 0..samples {
                    let (x, y) = (half[a * samples + index], half[b * samples + index]);
                    half[a * samples + index] = cosine * x - sine * y;
                    half[b * samples + index] = sine * x + cosine * y;
                }
            }
        }
        for value in values {
            let noise: f32 = StandardNormal.sample(random);
            *value += self.noise * noise;
        }
    }
}

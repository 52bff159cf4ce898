//! A recording on a network's time grid.

use std::ops::Range;

use bipedalnet_core::gait::{Recipe, Recording, Signal, SignalError};

/// Training windows may start at every tenth of a second.
pub const STARTS_PER_SECOND: f64 = 10.0;

/// A recording on the network's time grid, with the starts of the windows that may train.
pub struct Track {
    pub signal: Signal,
    pub starts: Vec<usize>,
}

impl Track {
    /// A recording with training windows anywhere.
    pub fn new(recording: &Recording, recipe: Recipe) -> Result<Self, SignalError> {
        let signal = Signal::new(recording, &recipe)?;
        let starts = walking_starts(&signal, recipe, 0.0..1.0, dense(recipe));
        Ok(Self { signal, starts })
    }

    /// Windows of walking, half a window apart.
    pub fn windows(&self, recipe: Recipe) -> Vec<Vec<i16>> {
        let starts = walking_starts(&self.signal, recipe, 0.0..1.0, recipe.samples / 2);
        windows(&self.signal, recipe, starts)
    }

    /// Estimates the number of windows of walking, half a window apart.
    pub fn window_count(&self, recipe: Recipe) -> usize {
        (self.starts.len() * dense(recipe)).div_ceil(recipe.samples / 2)
    }
}

/// Samples between the starts of training windows.
pub fn dense(recipe: Recipe) -> usize {
    (recipe.rate_hz / STARTS_PER_SECOND).round().max(1.0) as usize
}

pub fn windows(signal: &Signal, recipe: Recipe, starts: Vec<usize>) -> Vec<Vec<i16>> {
    let window = |start| signal.window(start, recipe);
    starts.into_iter().map(window).collect()
}

/// Starts of the windows of walking that lie entirely within this part of the signal.
pub fn walking_starts(
    signal: &Signal,
    recipe: Recipe,
    within: Range<f64>,
    step: usize,
) -> Vec<usize> {
    let first = (signal.grid_points() as f64 * within.start) as usize;
    let last = (signal.grid_points() as f64 * within.end) as usize;
    (first..(last + 1).saturating_sub(recipe.samples))
        .step_by(step)
        .filter(|&start| signal.is_walking(start, recipe.samples))
        .collect()
}

//! Recording to windows: what a network reads.

use super::recipe::Recipe;
use super::resample::Signal;
use super::walking::Correlated;
use super::{Recording, SignalError};

/// One network input.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Time from the recording's first sample to the window's.
    pub start_seconds: f64,
    /// [`WINDOW_ROWS`](super::WINDOW_ROWS) rows of [`Recipe::samples`] values, in fixed point.
    pub values: Vec<i16>,
}

/// The windows of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct CutWindows {
    /// Windows of walking, at least one.
    pub windows: Vec<Window>,
    /// Why the other windows are not walking: one error for each reason, and its number of windows.
    pub refused: Vec<(SignalError, usize)>,
}

/// Cuts a recording into windows that start `stride_samples` apart at the recipe's rate, and counts
/// those that are not walking.
///
/// # Errors
/// If the recording is unusable as a whole, or has no window of walking: then the most common
/// reason.
///
/// # Panics
/// If `stride_samples` is 0.
pub fn cut_windows(
    recording: &Recording,
    recipe: &Recipe,
    stride_samples: usize,
) -> Result<CutWindows, SignalError> {
    let signal = Signal::new(recording, recipe)?;
    let starts = (0..signal.grid_points() - recipe.samples + 1).step_by(stride_samples);
    let mut windows = Vec::with_capacity(starts.len());
    let mut refused: Vec<(SignalError, usize)> = Vec::new();
    let (mut correlated, mut rows) = (Correlated::default(), Vec::new());
    for start in starts {
        match signal.check_walking(start, recipe.samples, &mut correlated) {
            Ok(()) => windows.push(Window {
                start_seconds: start as f64 / recipe.rate_hz,
                values: signal.window_by(start, *recipe, &mut rows),
            }),
            Err(error) => match refused.iter_mut().find(|(e, _)| e.code() == error.code()) {
                Some((_, count)) => *count += 1,
                None => refused.push((error, 1)),
            },
        }
    }
    if windows.is_empty()
        && let Some((error, _)) = refused.iter().max_by_key(|(_, count)| *count)
    {
        return Err(error.clone());
    }
    Ok(CutWindows { windows, refused })
}

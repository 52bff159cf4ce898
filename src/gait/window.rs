//! Recording to windows: what a network reads.

use super::orientation::{ROWS, axes};
use super::resample::Signal;
use super::walking;
use super::{Recording, SignalError};

/// Rows of a window: forward, lateral, vertical and magnitude of acceleration without gravity,
/// then the same four of angular rate or, from a phone without a gyroscope, of jerk.
pub const WINDOW_ROWS: usize = 8;

/// Windows are fixed point: a value of 1.0 is `1 << WINDOW_FRACTION_BITS`.
pub const WINDOW_FRACTION_BITS: u32 = 10;

/// The one way to make rows that this version knows; a model file names the way it was trained on.
pub const ROW_RECIPE: &str = "turned-axes-1";

/// Divisors that bring typical walking to about unit variance. Amplitude is kept: it is personal.
const ACCELERATION_SCALE_M_S2: f32 = 4.0;
const ANGULAR_RATE_SCALE_RAD_S: f32 = 1.5;
const JERK_SCALE_M_S3: f32 = 80.0;

/// How windows are cut for one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Samples a second that the network expects.
    pub rate_hz: f64,
    /// Samples of one window.
    pub samples: usize,
}

impl Recipe {
    /// BiPedalNet's windows: two seconds at 50 Hz.
    pub const BIPEDALNET: Self = Self { rate_hz: 50.0, samples: 100 };
    /// IDNet's windows: two seconds at 100 Hz.
    pub const IDNET: Self = Self { rate_hz: 100.0, samples: 200 };

    /// Length of one window.
    pub fn window_seconds(self) -> f64 {
        self.samples as f64 / self.rate_hz
    }
}

/// One network input: [`WINDOW_ROWS`] rows of as many samples as the recipe says, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When it starts, counted from the recording's first sample.
    pub start_seconds: f64,
    /// Fixed-point values, row by row.
    pub values: Vec<i16>,
}

/// A recording, cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Windows of walking, one at least.
    pub windows: Vec<Window>,
    /// Windows that are not walking: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
}

/// Cuts a recording into windows that start `stride_samples` (at the recipe's rate) apart,
/// and counts those that are not walking.
///
/// # Errors
/// When the recording is unusable as a whole, or no window of it is walking: then the most
/// common reason.
///
/// # Panics
/// When `stride_samples` is 0.
pub fn cut_windows(
    recording: &Recording,
    recipe: &Recipe,
    stride_samples: usize,
) -> Result<Cut, SignalError> {
    let signal = Signal::new(recording, recipe)?;
    let mut windows = Vec::new();
    let mut refused: Vec<(SignalError, usize)> = Vec::new();
    for start in (0..=signal.len() - recipe.samples).step_by(stride_samples) {
        match walking::check(&signal, start, recipe.samples) {
            Ok(()) => windows.push(Window {
                start_seconds: start as f64 / recipe.rate_hz,
                values: quantise(&rows(&signal, start, recipe.samples, true)),
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
    Ok(Cut { windows, refused })
}

/// The rows of the window at `start`, row by row, scaled to about unit variance.
///
/// Without `gyroscope`, as if the phone had none.
pub(crate) fn rows(signal: &Signal, start: usize, samples: usize, gyroscope: bool) -> Vec<f32> {
    let range = start..start + samples;
    let acceleration = &signal.acceleration_m_s2[range.clone()];
    let angular_rate =
        signal.angular_rate_rad_s.as_ref().filter(|_| gyroscope).map(|rates| &rates[range]);
    let axes = axes(acceleration);
    let mut values = vec![0.0; WINDOW_ROWS * samples];
    let (first, second) = values.split_at_mut(ROWS * samples);
    match angular_rate {
        Some(rates) => axes.turn_rate(rates, ANGULAR_RATE_SCALE_RAD_S, second),
        None => {
            axes.turn_acceleration(acceleration, 1.0, first);
            let rows = first.chunks_exact(samples);
            for (jerks, row) in second.chunks_exact_mut(samples).zip(rows) {
                for (jerk, value) in jerks.iter_mut().zip(derivative(row, signal.rate_hz as f32)) {
                    *jerk = value / JERK_SCALE_M_S3;
                }
            }
        }
    }
    axes.turn_acceleration(acceleration, ACCELERATION_SCALE_M_S2, first);
    values
}

/// Central differences, one-sided at the ends.
fn derivative(row: &[f32], rate_hz: f32) -> impl Iterator<Item = f32> + '_ {
    let last = row.len() - 1;
    (0..row.len()).map(move |index| {
        let (before, after) = (index.saturating_sub(1), (index + 1).min(last));
        (row[after] - row[before]) * rate_hz / (after - before).max(1) as f32
    })
}

/// Whether the window at `start` is walking.
pub(crate) fn is_walking(signal: &Signal, start: usize, samples: usize) -> bool {
    walking::check(signal, start, samples).is_ok()
}

/// Fixed point, rounded to nearest, clamped to the range of `i16`.
pub(crate) fn quantise(rows: &[f32]) -> Vec<i16> {
    let one = (1u32 << WINDOW_FRACTION_BITS) as f32;
    // As `f32::round` does it, which is a call of a function for each value where the processor's
    // oldest instructions have none.
    let rounded = |value: f32| {
        let whole = value as i32;
        let rest = value - whole as f32;
        whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
    };
    let bounded = |value: f32| value.clamp(f32::from(i16::MIN), f32::from(i16::MAX));
    rows.iter().map(|value| rounded(bounded(value * one)) as i16).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_rounded_as_the_standard_library_rounds(value in -40.0..40.0f32) {
            let one = (1u32 << WINDOW_FRACTION_BITS) as f32;
            let near_half = ((value * one).floor() + 0.5) / one;
            for value in [value, near_half, near_half.next_up(), near_half.next_down()] {
                prop_assert_eq!(quantise(&[value]), [(value * one).round() as i16]);
            }
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_range_saturates() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.49999997 / 1024.0, -1e9];
        assert_eq!(quantise(&values), [0, i16::MAX, i16::MIN, 0, i16::MIN]);
    }
}

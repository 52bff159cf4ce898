//! Recording to windows: what a network reads.

use super::orientation::{AXES, ROWS, axes, norm};
use super::resample::Signal;
use super::walking;
use super::{Recording, SignalError};

/// Rows of a window: forward, lateral, vertical and magnitude of acceleration without gravity,
/// then four that [`Rows`] describes.
pub const WINDOW_ROWS: usize = 8;

/// Windows are fixed point: a value of 1.0 is `1 << WINDOW_FRACTION_BITS`.
pub const WINDOW_FRACTION_BITS: u32 = 10;

/// Divisors that bring typical walking to about unit variance. Amplitude is kept: it is personal.
const ACCELERATION_SCALE_M_S2: f32 = 4.0;
const ANGULAR_RATE_SCALE_RAD_S: f32 = 1.5;
const JERK_SCALE_M_S3: f32 = 80.0;

/// Smallest RMS that a window is divided by. Walking is far above it.
const LEAST_RMS: f32 = 1e-6;

/// How the rows of a window are made. A model file names the way that it was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Acceleration, then angular rate or, without a gyroscope, jerk. The scale is fixed, so that
    /// the amplitude of a walk is kept.
    TurnedAxes1,
    /// Acceleration, then jerk, each divided by its root mean square over the window. The gyroscope
    /// is ignored. The amplitude of a walk depends on the phone and the place that it is carried in,
    /// so it is left out.
    TurnedAxes2,
}

impl Rows {
    /// All that this version knows.
    pub const ALL: [Self; 2] = [Self::TurnedAxes1, Self::TurnedAxes2];

    /// Name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::TurnedAxes1 => "turned-axes-1",
            Self::TurnedAxes2 => "turned-axes-2",
        }
    }

    /// The rows of this name. `None` if this version does not know it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rows| rows.name() == name)
    }

    /// Names of all, as an error message lists them.
    pub fn names() -> String {
        Self::ALL.map(|rows| format!("{:?}", rows.name())).join(" or ")
    }

    /// Whether a gyroscope makes a difference.
    pub fn read_gyroscope(self) -> bool {
        self == Self::TurnedAxes1
    }
}

/// How windows are cut for one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Samples a second that the network expects.
    pub rate_hz: f64,
    /// Samples of one window.
    pub samples: usize,
    /// How rows are made.
    pub rows: Rows,
}

impl Recipe {
    /// BiPedalNet's windows: two seconds at 50 Hz.
    pub const BIPEDALNET: Self = Self { rate_hz: 50.0, samples: 100, rows: Rows::TurnedAxes1 };
    /// IDNet's windows: two seconds at 100 Hz.
    pub const IDNET: Self = Self { rate_hz: 100.0, samples: 200, rows: Rows::TurnedAxes1 };
    /// Windows of the network that serves: two seconds at 50 Hz.
    pub const OPENSET: Self = Self { rows: Rows::TurnedAxes2, ..Self::BIPEDALNET };

    /// The recipe for a network whose file names its rows so, and whose input is `rows` x `samples`.
    /// `None` if this version cannot cut such windows.
    pub fn for_input(rows: &str, rate_hz: f64, input: [usize; 2]) -> Option<Self> {
        let [count, samples] = input;
        let rows = Rows::named(rows).filter(|_| count == WINDOW_ROWS && samples >= 2)?;
        Some(Self { rate_hz, samples, rows })
    }

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
                values: quantise(&rows(&signal, start, *recipe, true)),
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
pub fn rows(signal: &Signal, start: usize, recipe: Recipe, gyroscope: bool) -> Vec<f32> {
    match recipe.rows {
        Rows::TurnedAxes1 => fixed_scale_rows(signal, start, recipe.samples, gyroscope),
        Rows::TurnedAxes2 => unit_scale_rows(acceleration_axes(signal, start, recipe.samples)),
    }
}

/// Forward, lateral and vertical acceleration without gravity, in m/s^2, row by row.
pub fn acceleration_axes(signal: &Signal, start: usize, samples: usize) -> Vec<f32> {
    let acceleration = &signal.acceleration_m_s2[start..start + samples];
    let mut rows = vec![0.0; ROWS * samples];
    axes(acceleration).turn_acceleration(acceleration, 1.0, &mut rows);
    rows.truncate(AXES * samples);
    rows
}

/// The rows of [`Rows::TurnedAxes2`] from those of [`acceleration_axes`].
pub fn unit_scale_rows(mut rows: Vec<f32>) -> Vec<f32> {
    let samples = rows.len() / AXES;
    let magnitudes: Vec<f32> =
        (0..samples).map(|at| norm([0, 1, 2].map(|axis| rows[axis * samples + at]))).collect();
    let mean = magnitudes.iter().sum::<f32>() / samples as f32;
    rows.extend(magnitudes.iter().map(|magnitude| magnitude - mean));
    // Divided by its root mean square, so that its unit does not matter.
    let jerks = rows.chunks_exact(samples).flat_map(|row| derivative(row, 1.0));
    rows.extend(jerks.collect::<Vec<f32>>());
    for half in rows.chunks_exact_mut(ROWS * samples) {
        let axes = &half[..AXES * samples];
        let mean_square = axes.iter().map(|value| value * value).sum::<f32>() / axes.len() as f32;
        let scale = 1.0 / mean_square.sqrt().max(LEAST_RMS);
        half.iter_mut().for_each(|value| *value *= scale);
    }
    rows
}

fn fixed_scale_rows(signal: &Signal, start: usize, samples: usize, gyroscope: bool) -> Vec<f32> {
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
pub fn is_walking(signal: &Signal, start: usize, samples: usize) -> bool {
    walking::check(signal, start, samples).is_ok()
}

/// Fixed point, rounded to nearest, clamped to the range of `i16`.
pub fn quantise(rows: &[f32]) -> Vec<i16> {
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
    use crate::gait::orientation::mean;
    use crate::gait::simulator::{Conditions, Walker};

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

    /// The first window of a simulated walk, after a change of its samples. These lie on the
    /// network's time grid, so that the window is made of the samples themselves.
    fn openset_window(
        seed: u64,
        change: impl FnOnce(&[[f32; 3]]) -> Vec<[f32; 3]>,
    ) -> Option<Vec<i16>> {
        let rate_hz = Recipe::OPENSET.rate_hz;
        let conditions = Conditions { seconds: 3.0, rate_hz, ..Conditions::default() };
        let acceleration = change(Walker::new(seed).walk(1, &conditions).acceleration_m_s2());
        let times = (0..acceleration.len()).map(|index| index as f64 / rate_hz).collect();
        let walk = Recording::new(times, acceleration, None).unwrap();
        Some(cut_windows(&walk, &Recipe::OPENSET, 50).ok()?.windows.swap_remove(0).values)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_scale_of_the_movement_does_not_change_a_window(
            seed in 0..1000u64,
            scale in 0.6..1.6f32,
        ) {
            let original = openset_window(seed, <[_]>::to_vec);
            let scaled = openset_window(seed, |samples| {
                let gravity = mean(&samples[..Recipe::OPENSET.samples]);
                let scaled = |sample: &[f32; 3]| {
                    [0, 1, 2].map(|axis| gravity[axis] + scale * (sample[axis] - gravity[axis]))
                };
                samples.iter().map(scaled).collect()
            });
            if let (Some(original), Some(scaled)) = (original, scaled) {
                let furthest = original.iter().zip(&scaled).map(|(a, b)| a.abs_diff(*b)).max();
                prop_assert!(furthest <= Some(1), "{:?}", furthest);
            }
        }
    }

    #[test]
    fn windows_of_unit_scale_have_an_rms_of_one_and_ignore_the_gyroscope() {
        let conditions = Conditions::default();
        for seed in 0..10 {
            let walk = Walker::new(seed).walk(2, &conditions);
            assert!(walk.angular_rate_rad_s().is_some());
            let cut = cut_windows(&walk, &Recipe::OPENSET, 50).unwrap();
            let without = walk.without_angular_rate();
            assert_eq!(cut, cut_windows(&without, &Recipe::OPENSET, 50).unwrap());
            for window in cut.windows {
                for half in window.values.chunks_exact(ROWS * Recipe::OPENSET.samples) {
                    let axes = &half[..AXES * Recipe::OPENSET.samples];
                    let squares = axes.iter().map(|&v| (f32::from(v) / 1024.0).powi(2));
                    let mean_square = squares.sum::<f32>() / axes.len() as f32;
                    assert!((mean_square - 1.0).abs() < 0.01, "{mean_square}");
                }
            }
        }
    }

    #[test]
    fn a_recipe_is_for_rows_that_are_known() {
        for recipe in [Recipe::BIPEDALNET, Recipe::IDNET, Recipe::OPENSET] {
            let input = [WINDOW_ROWS, recipe.samples];
            let found = Recipe::for_input(recipe.rows.name(), recipe.rate_hz, input);
            assert_eq!(found, Some(recipe));
        }
        assert_eq!(Recipe::for_input("turned-axes-3", 50.0, [WINDOW_ROWS, 100]), None);
        assert_eq!(Recipe::for_input("turned-axes-1", 50.0, [7, 100]), None);
        assert_eq!(Recipe::for_input("turned-axes-1", 50.0, [WINDOW_ROWS, 1]), None);
    }

    #[test]
    fn what_is_no_number_or_out_of_range_saturates() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.49999997 / 1024.0, -1e9];
        assert_eq!(quantise(&values), [0, i16::MAX, i16::MIN, 0, i16::MIN]);
    }
}

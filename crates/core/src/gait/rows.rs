//! Rows of a window: what a network reads, in the walker's axes and scaled.

use super::orientation::{AXES, ROWS, axes, norm};
use super::recipe::{Recipe, Rows, WINDOW_ROWS};
use super::resample::Signal;
use crate::rounding::nearest;

/// Windows are fixed point: a value of 1.0 is `1 << WINDOW_FRACTION_BITS`.
pub const WINDOW_FRACTION_BITS: u32 = 10;

/// Divisors that bring typical walking to about unit variance. Amplitude is kept: it is personal.
const ACCELERATION_SCALE_M_S2: f32 = 4.0;
const ANGULAR_RATE_SCALE_RAD_S: f32 = 1.5;
const JERK_SCALE_M_S3: f32 = 80.0;

/// The smallest RMS that a window is divided by. Walking is far above it.
const LEAST_RMS: f32 = 1e-6;

impl Signal {
    /// The network input that starts at grid point `start`: [`WINDOW_ROWS`] rows in fixed point.
    pub fn window(&self, start: usize, recipe: Recipe) -> Vec<i16> {
        self.window_by(start, recipe, &mut Vec::new())
    }

    /// The same, with memory of an earlier call.
    pub(super) fn window_by(&self, start: usize, recipe: Recipe, rows: &mut Vec<f32>) -> Vec<i16> {
        self.write_rows(start, recipe, true, rows);
        quantise(rows)
    }

    /// The rows of the window at grid point `start`, row by row, scaled to about unit variance.
    ///
    /// Without `gyroscope`, as if the phone had none.
    pub fn rows(&self, start: usize, recipe: Recipe, gyroscope: bool) -> Vec<f32> {
        let mut rows = Vec::new();
        self.write_rows(start, recipe, gyroscope, &mut rows);
        rows
    }

    fn write_rows(&self, start: usize, recipe: Recipe, gyroscope: bool, rows: &mut Vec<f32>) {
        rows.clear();
        rows.reserve(WINDOW_ROWS * recipe.samples);
        match recipe.rows {
            Rows::TurnedAxes1 => self.write_fixed_scale(start, recipe.samples, gyroscope, rows),
            Rows::TurnedAxes2 => {
                self.write_axes(start, recipe.samples, rows);
                scale_to_unit(rows);
            }
        }
    }

    /// Forward, lateral and vertical acceleration without gravity, in m/s^2, row by row.
    pub fn acceleration_axes(&self, start: usize, samples: usize) -> Vec<f32> {
        let mut rows = Vec::new();
        self.write_axes(start, samples, &mut rows);
        rows
    }

    fn write_axes(&self, start: usize, samples: usize, rows: &mut Vec<f32>) {
        let acceleration = &self.acceleration_m_s2[start..start + samples];
        rows.resize(AXES * samples, 0.0);
        axes(acceleration, &self.magnitude_m_s2[start..start + samples]).turn_acceleration(
            acceleration,
            1.0,
            rows,
        );
    }

    fn write_fixed_scale(
        &self,
        start: usize,
        samples: usize,
        gyroscope: bool,
        values: &mut Vec<f32>,
    ) {
        let range = start..start + samples;
        let acceleration = &self.acceleration_m_s2[range.clone()];
        let angular_rate = self
            .angular_rate_rad_s
            .as_ref()
            .filter(|_| gyroscope)
            .map(|rates| &rates[range.clone()]);
        let axes = axes(acceleration, &self.magnitude_m_s2[range]);
        values.resize(WINDOW_ROWS * samples, 0.0);
        let (first, second) = values.split_at_mut(ROWS * samples);
        match angular_rate {
            Some(rates) => axes.turn_rate(rates, ANGULAR_RATE_SCALE_RAD_S, second),
            None => {
                axes.turn_acceleration(acceleration, 1.0, first);
                let rows = first.chunks_exact(samples);
                for (jerks, row) in second.chunks_exact_mut(samples).zip(rows) {
                    differentiate(row, self.rate_hz as f32, jerks);
                    jerks.iter_mut().for_each(|jerk| *jerk /= JERK_SCALE_M_S3);
                }
            }
        }
        axes.turn_acceleration(acceleration, ACCELERATION_SCALE_M_S2, first);
    }
}

/// The rows of [`Rows::TurnedAxes2`] from the result of [`Signal::acceleration_axes`].
pub fn unit_scale_rows(mut rows: Vec<f32>) -> Vec<f32> {
    scale_to_unit(&mut rows);
    rows
}

fn scale_to_unit(rows: &mut Vec<f32>) {
    let samples = rows.len() / AXES;
    rows.resize(ROWS * samples, 0.0);
    let (along, magnitudes) = rows.split_at_mut(AXES * samples);
    for (at, magnitude) in magnitudes.iter_mut().enumerate() {
        *magnitude = norm([0, 1, 2].map(|axis| along[axis * samples + at]));
    }
    let mean = magnitudes.iter().sum::<f32>() / samples as f32;
    magnitudes.iter_mut().for_each(|magnitude| *magnitude -= mean);
    // The unit of the jerk does not matter: it is divided by its root mean square.
    rows.resize(WINDOW_ROWS * samples, 0.0);
    let (first, second) = rows.split_at_mut(ROWS * samples);
    for (row, jerks) in first.chunks_exact(samples).zip(second.chunks_exact_mut(samples)) {
        differentiate(row, 1.0, jerks);
    }
    // Side by side, because each sum waits for each of its additions.
    let (mut squares, mut of_jerks) = (0.0, 0.0);
    for (value, jerk) in first.iter().zip(&*second).take(AXES * samples) {
        squares += value * value;
        of_jerks += jerk * jerk;
    }
    for (half, squares) in [(first, squares), (second, of_jerks)] {
        let mean_square: f32 = squares / (AXES * samples) as f32;
        let scale = 1.0 / mean_square.sqrt().max(LEAST_RMS);
        half.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Central differences of at least two values, one-sided at the ends.
fn differentiate(row: &[f32], rate_hz: f32, derivative: &mut [f32]) {
    let last = row.len() - 1;
    derivative[0] = (row[1] - row[0]) * rate_hz;
    derivative[last] = (row[last] - row[last - 1]) * rate_hz;
    for (value, (before, after)) in derivative[1..last].iter_mut().zip(row.iter().zip(&row[2..])) {
        *value = (after - before) * rate_hz / 2.0;
    }
}

/// Fixed point, rounded to nearest, clamped to the range of `i16`.
pub fn quantise(rows: &[f32]) -> Vec<i16> {
    let one = (1u32 << WINDOW_FRACTION_BITS) as f32;
    let bounded = |value: f32| value.clamp(f32::from(i16::MIN), f32::from(i16::MAX));
    rows.iter().map(|value| nearest(bounded(value * one)) as i16).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gait::orientation::means;
    use crate::gait::simulator::{Conditions, Walker};
    use crate::gait::{Recording, cut_windows};

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

    /// The first two seconds of a simulated walk, after a change of its samples, if they are walking.
    /// The samples lie on the network's time grid, so that the window is made of them.
    fn openset_window(
        seed: u64,
        change: impl FnOnce(&[[f32; 3]]) -> Vec<[f32; 3]>,
    ) -> Option<Vec<i16>> {
        let rate_hz = Recipe::OPENSET.rate_hz;
        let conditions = Conditions { seconds: 3.0, rate_hz, ..Conditions::default() };
        let acceleration = change(Walker::new(seed).walk(1, &conditions).acceleration_m_s2());
        let times = (0..acceleration.len()).map(|index| index as f64 / rate_hz).collect();
        let walk = Recording::new(times, acceleration, None).unwrap();
        let windows = cut_windows(&walk, &Recipe::OPENSET, 50).ok()?.windows;
        windows.into_iter().find(|window| window.start_seconds == 0.0).map(|window| window.values)
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
                let (gravity, _) = means(&samples[..Recipe::OPENSET.samples], &[0.0; 100]);
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
    fn a_mirrored_walk_differs_in_the_lateral_rows_alone() {
        const LATERAL: usize = 1;
        let samples = Recipe::OPENSET.samples;
        for seed in 0..10 {
            let walk = Walker::new(seed).walk(1, &Conditions::default());
            let windows = cut_windows(&walk, &Recipe::OPENSET, 50).unwrap().windows;
            let mirrored = cut_windows(&walk.mirrored(), &Recipe::OPENSET, 50).unwrap().windows;
            for (window, mirrored) in windows.iter().zip(&mirrored) {
                for (row, value) in window.values.chunks_exact(samples).enumerate() {
                    let sign = if row % ROWS == LATERAL { -1 } else { 1 };
                    let other = &mirrored.values[row * samples..(row + 1) * samples];
                    assert!(value.iter().zip(other).all(|(a, b)| *a == sign * b), "row {row}");
                }
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
    fn values_out_of_range_saturate() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.49999997 / 1024.0, -1e9];
        assert_eq!(quantise(&values), [0, i16::MAX, i16::MIN, 0, i16::MIN]);
    }
}

//! How training varies the windows that it draws.

use bipedalnet_core::gait::{Recipe, Rows, Signal, WINDOW_ROWS, quantise, unit_scale_rows};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

/// Lowest rate that phones sample at.
const LOWEST_RATE_HZ: f32 = 20.0;

/// How training varies the windows that it draws, besides their random start.
#[derive(Clone, Copy, Debug)]
pub struct Augmentation {
    /// Largest relative change of amplitude. It has no effect on rows of unit scale.
    pub scale: f32,
    /// Standard deviation of the added noise, in units of a window's typical amplitude.
    pub noise: f32,
    /// Largest rotation about each of the walker's axes, in radians.
    pub turn: f32,
    /// Largest relative change of speed.
    pub warp: f32,
    /// Share of windows that are cut as if the phone had no gyroscope. It has no effect on rows that
    /// do not read one.
    pub without_gyroscope: f32,
    /// Share of windows that are coarsened as if the phone sampled at a rate between 20 Hz and the
    /// network's.
    pub low_rate: f32,
}

impl Augmentation {
    /// For a network for all phones: with and without gyroscope, fast and slow.
    pub const SERVED: Self = Self {
        scale: 0.1,
        noise: 0.05,
        turn: 0.1,
        warp: 0.08,
        without_gyroscope: 0.3,
        low_rate: 0.1,
    };

    /// Cuts a window of a signal and varies it.
    pub(super) fn window(
        &self,
        signal: &Signal,
        start: usize,
        recipe: Recipe,
        random: &mut impl Rng,
    ) -> Vec<i16> {
        let gyroscope = !random.random_bool(f64::from(self.without_gyroscope));
        let samples = recipe.samples;
        let speed = 1.0 + random.random_range(-self.warp..=self.warp);
        // One more, to interpolate with at the end.
        let read = ((samples as f32 * speed).ceil() as usize + 1).min(signal.grid_points());
        // Rows of unit scale are made from the acceleration, so the acceleration is varied.
        let of_unit_scale = recipe.rows == Rows::TurnedAxes2;
        let source = |start, samples| match of_unit_scale {
            true => signal.acceleration_axes(start, samples),
            false => signal.rows(start, Recipe { samples, ..recipe }, gyroscope),
        };
        let mut values = if self.warp == 0.0 {
            source(start, samples)
        } else {
            let start = start.min(signal.grid_points() - read);
            let read_rows = source(start, read);
            read_rows.chunks_exact(read).flat_map(|row| warped(row, speed, samples)).collect()
        };
        if random.random_bool(f64::from(self.low_rate)) {
            let step = random.random_range(1.0..=recipe.rate_hz as f32 / LOWEST_RATE_HZ);
            let phase = random.random_range(0.0..step);
            values.chunks_exact_mut(recipe.samples).for_each(|row| coarsen(row, step, phase));
        }
        if of_unit_scale {
            Self::turn(&mut values, self.angles(random), samples);
            values = unit_scale_rows(values);
        } else {
            let angles = self.angles(random);
            for half in values.chunks_exact_mut(WINDOW_ROWS / 2 * samples) {
                self.scale(half, random);
                Self::turn(half, angles, samples);
            }
        }
        self.add_noise(&mut values, random);
        quantise(&values)
    }

    fn angles(&self, random: &mut impl Rng) -> [f32; 3] {
        [(); 3].map(|()| random.random_range(-self.turn..=self.turn))
    }

    fn scale(&self, rows: &mut [f32], random: &mut impl Rng) {
        let scale = 1.0 + random.random_range(-self.scale..=self.scale);
        rows.iter_mut().for_each(|value| *value *= scale);
    }

    /// Turns the first three rows, which are the walker's axes.
    fn turn(rows: &mut [f32], angles: [f32; 3], samples: usize) {
        for (angle, [a, b]) in angles.into_iter().zip([[0, 1], [1, 2], [2, 0]]) {
            let (sine, cosine) = angle.sin_cos();
            for index in 0..samples {
                let (x, y) = (rows[a * samples + index], rows[b * samples + index]);
                rows[a * samples + index] = cosine * x - sine * y;
                rows[b * samples + index] = sine * x + cosine * y;
            }
        }
    }

    fn add_noise(&self, values: &mut [f32], random: &mut impl Rng) {
        for value in values {
            let noise: f32 = StandardNormal.sample(random);
            *value += self.noise * noise;
        }
    }
}

/// Keeps a row's values that are `step` samples apart, and interpolates linearly between them.
fn coarsen(row: &mut [f32], step: f32, phase: f32) {
    let kept: Vec<f32> = (0..row.len() + 2)
        .map(|index| phase + (index as f32 - 1.0) * step)
        .take_while(|position| *position < row.len() as f32 + step)
        .map(|position| value_at(row, position))
        .collect();
    for (index, value) in row.iter_mut().enumerate() {
        *value = value_at(&kept, (index as f32 - phase) / step + 1.0);
    }
}

/// Plays a row at another speed.
fn warped(row: &[f32], speed: f32, samples: usize) -> impl Iterator<Item = f32> + '_ {
    (0..samples).map(move |index| value_at(row, index as f32 * speed))
}

/// Interpolates linearly. Beyond the ends, gives the value at the end.
fn value_at(row: &[f32], position: f32) -> f32 {
    let position = position.clamp(0.0, (row.len() - 1) as f32);
    let left = position as usize;
    let right = (left + 1).min(row.len() - 1);
    row[left] + (row[right] - row[left]) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarsened_row_keeps_lines_and_loses_what_is_fast() {
        let mut line: Vec<f32> = (0..100).map(|index| index as f32).collect();
        let original = line.clone();
        coarsen(&mut line, 2.5, 1.25);
        for (a, b) in line[3..97].iter().zip(&original[3..97]) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        let mut same: Vec<f32> = (0..100).map(|index| (index as f32).sin()).collect();
        let original = same.clone();
        coarsen(&mut same, 1.0, 0.0);
        for (a, b) in same.iter().zip(&original) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let mut fast: Vec<f32> = (0..100).map(|index| (index % 2) as f32).collect();
        coarsen(&mut fast, 2.0, 0.0);
        assert!(fast[2..97].iter().all(|value| *value == fast[2]), "{fast:?}");
    }
}

//! Resampling to an even time grid.

use super::gravity;
use super::orientation::norm;
use super::sensor::{Changes, Gyroscope, clipped};
use super::{Recipe, Recording, SignalError};

/// Longest gap that is interpolated. It is shorter than half a step.
pub(crate) const LONGEST_GAP_SECONDS: f64 = 0.25;

/// A sensor with the smallest common range, +-2 g, does not clip below this.
const LEAST_CLIP_M_S2: f32 = 15.0;

/// A recording on an even time grid that starts at its first sample.
pub struct Signal {
    pub(crate) rate_hz: f64,
    pub(crate) acceleration_m_s2: Vec<[f32; 3]>,
    /// Length of each acceleration.
    pub(crate) magnitude_m_s2: Vec<f32>,
    pub(crate) angular_rate_rad_s: Option<Vec<[f32; 3]>>,
    /// For each grid point, the length in seconds of the gap that it lies in, or 0.
    pub(crate) gap_seconds: Vec<f32>,
    /// For each grid point, whether the sensor was at the end of its range.
    pub(crate) clipped: Vec<bool>,
    /// For each grid point, the sample at it or before it.
    pub(crate) sample: Vec<u32>,
    pub(crate) changes: Changes,
    pub(crate) gyroscope: Option<Gyroscope>,
}

impl Signal {
    /// Checks the recording as a whole and resamples it to the recipe's rate.
    ///
    /// Only counts angular rates if the recipe's rows do not read them.
    ///
    /// # Errors
    /// If the recording is too short, its sample rate is too low, or its acceleration does not include
    /// gravity in m/s^2.
    pub fn new(recording: &Recording, recipe: &Recipe) -> Result<Self, SignalError> {
        let seconds = recording.duration_seconds();
        let length = ((seconds * recipe.rate_hz + 1e-6) as usize).saturating_add(1);
        if length < recipe.samples {
            return Err(SignalError::TooShort { seconds, needed_seconds: recipe.window_seconds() });
        }
        // This also bounds the grid, which has a bounded number of points per sample.
        recording.check_rate()?;
        let times = recording.time_seconds();
        let [unit_m_s2, unit_rad_s] = recording.units();
        gravity::check(times, recording.acceleration_m_s2(), unit_m_s2)?;

        let angular_rate = recording.angular_rate_rad_s().filter(|_| recipe.rows.read_gyroscope());
        let clipped_samples = clipped(recording.acceleration_m_s2(), LEAST_CLIP_M_S2);
        let mut signal = Self {
            rate_hz: recipe.rate_hz,
            acceleration_m_s2: Vec::with_capacity(length),
            magnitude_m_s2: Vec::new(),
            angular_rate_rad_s: angular_rate.map(|_| Vec::with_capacity(length)),
            gap_seconds: Vec::with_capacity(length),
            clipped: Vec::with_capacity(length),
            sample: Vec::with_capacity(length),
            changes: Changes::new(recording.acceleration_m_s2()),
            gyroscope: recording
                .angular_rate_rad_s()
                .map(|rates| Gyroscope::new(rates, unit_rad_s)),
        };
        let mut pauses = recording.pauses().iter().copied().peekable();
        let mut left = 0;
        let mut taps = Vec::new();
        for index in 0..length {
            let time = times[0] + index as f64 / recipe.rate_hz;
            while left + 2 < times.len() && times[left + 1] <= time {
                left += 1;
            }
            let gap = times[left + 1] - times[left];
            let between;
            // If the rates are nearly equal, interpolate, because the clock may jitter.
            let taps = if gap * recipe.rate_hz > 0.75 {
                let weight = ((time - times[left]) / gap).clamp(0.0, 1.0) as f32;
                between = [(left, 1.0 - weight), (left + 1, weight)];
                &between[..]
            } else {
                triangle(times, left, time, recipe.rate_hz, &mut taps);
                &taps[..]
            };
            signal.acceleration_m_s2.push(weigh(recording.acceleration_m_s2(), taps));
            if let (Some(rates), Some(source)) = (&mut signal.angular_rate_rad_s, angular_rate) {
                rates.push(weigh(source, taps));
            }
            let bridged = gap > LONGEST_GAP_SECONDS && time > times[left] && time < times[left + 1];
            while pauses.next_if(|pause| pause.0 <= left).is_some() {}
            let true_gap =
                pauses.peek().filter(|pause| pause.0 == left + 1).map_or(gap, |pause| pause.1);
            signal.gap_seconds.push(if bridged { true_gap as f32 } else { 0.0 });
            signal.sample.push(left as u32);
            signal.clipped.push(clipped_samples[left] || clipped_samples[left + 1]);
        }
        signal.magnitude_m_s2 = signal.acceleration_m_s2.iter().map(|&it| norm(it)).collect();
        Ok(signal)
    }

    /// Number of grid points.
    pub fn grid_points(&self) -> usize {
        self.acceleration_m_s2.len()
    }
}

/// The samples, with weights, for the value at `time`, which lies between `left` and the next sample.
///
/// For a source that is faster than the grid. A triangle over one grid step to each side includes every
/// sample, so that frequencies above the grid's band do not alias.
fn triangle(times: &[f64], left: usize, time: f64, rate_hz: f64, taps: &mut Vec<(usize, f32)>) {
    taps.clear();
    let mut total = 0.0;
    let weight_of = |index: usize| (1.0 - (times[index] - time).abs() * rate_hz) as f32;
    let before = (0..=left).rev().take_while(|&index| weight_of(index) > 0.0);
    let after = (left + 1..times.len()).take_while(|&index| weight_of(index) > 0.0);
    for index in before.chain(after) {
        total += weight_of(index);
        taps.push((index, weight_of(index)));
    }
    taps.iter_mut().for_each(|(_, weight)| *weight /= total);
}

fn weigh(source: &[[f32; 3]], taps: &[(usize, f32)]) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for &(index, weight) in taps {
        for (sum, value) in sum.iter_mut().zip(source[index]) {
            *sum += weight * value;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gait::cut_windows;
    use crate::gait::simulator::{Conditions, Walker};

    fn recording(times: Vec<f64>, value: impl Fn(f64) -> f32) -> Recording {
        let acceleration = times.iter().map(|&time| [value(time), 0.0, 9.8]).collect();
        Recording::new(times, acceleration, None).unwrap()
    }

    #[test]
    fn samples_on_the_grid_do_not_change() {
        let times = (0..200).map(|index| index as f64 / 50.0).collect();
        let source = recording(times, |time| (time * 5.0).sin() as f32);
        let signal = Signal::new(&source, &Recipe::BIPEDALNET).unwrap();
        assert_eq!(signal.grid_points(), 200);
        for (resampled, original) in signal.acceleration_m_s2.iter().zip(source.acceleration_m_s2())
        {
            assert!((resampled[0] - original[0]).abs() < 1e-4);
        }
    }

    #[test]
    fn samples_that_are_ages_apart_are_too_slow() {
        for seconds in [1e18, 1e300, f64::MAX] {
            let error =
                Signal::new(&recording(vec![-seconds, seconds], |_| 0.0), &Recipe::BIPEDALNET);
            assert_eq!(error.map(|_| ()).unwrap_err().code(), "rate-too-low", "{seconds}");
        }
    }

    #[test]
    fn windows_before_and_after_a_pause_are_read_and_the_pause_keeps_its_length() {
        let walk = Walker::new(1).walk(1, &Conditions { seconds: 8.0, ..Conditions::default() });
        let paused = |seconds: f64| {
            let mut times = walk.time_seconds().to_vec();
            times[200..].iter_mut().for_each(|time| *time += seconds);
            let acceleration = walk.acceleration_m_s2().to_vec();
            let paused = Recording::new(times, acceleration, None).unwrap();
            (paused.duration_seconds(), cut_windows(&paused, &Recipe::OPENSET, 50).unwrap())
        };
        for seconds in [3.0, 120.0, 1e9] {
            let (duration, cut) = paused(seconds);
            assert!((duration - 8.28).abs() < 0.05, "{duration}");
            let starts: Vec<f64> = cut.windows.iter().map(|window| window.start_seconds).collect();
            assert_eq!(starts, [0.0, 1.0, 5.0, 6.0]);
            let [(SignalError::Gap { gap_seconds, .. }, 3)] = cut.refused[..] else {
                panic!("{:?}", cut.refused)
            };
            assert!((gap_seconds / seconds - 1.0).abs() < 0.02, "{gap_seconds}");
        }
        // A part keeps the pause.
        let mut times = walk.time_seconds().to_vec();
        times[200..].iter_mut().for_each(|time| *time += 60.0);
        let paused = Recording::new(times, walk.acceleration_m_s2().to_vec(), None).unwrap();
        let part = paused.part(1.0, 6.0).unwrap();
        let refused = cut_windows(&part, &Recipe::OPENSET, 50).unwrap().refused;
        assert!(refused[0].0.to_string().contains("no samples for 60."), "{}", refused[0].0);
    }

    #[test]
    fn a_tone_above_the_band_of_the_grid_does_not_alias() {
        let times = (0..2000).map(|index| index as f64 / 200.0).collect();
        let source = recording(times, |time| (time * 48.0 * std::f64::consts::TAU).sin() as f32);
        let signal = Signal::new(&source, &Recipe::BIPEDALNET).unwrap();
        // The first and the last point have samples on one side only.
        let inner = &signal.acceleration_m_s2[1..signal.grid_points() - 1];
        let loudest = inner.iter().map(|a| a[0].abs()).fold(0.0, f32::max);
        assert!(loudest < 0.1, "{loudest}");
    }

    proptest! {
        #[test]
        fn a_slow_wave_survives_any_sampling(
            rate_hz in 20.0..200.0f64,
            jitter in proptest::collection::vec(-0.3..0.3f64, 1200),
        ) {
            let count = (6.0 * rate_hz) as usize;
            let times: Vec<f64> =
                (0..count).map(|index| (index as f64 + jitter[index]) / rate_hz).collect();
            let origin = times[0];
            let wave = |time: f64| (time * std::f64::consts::TAU).sin() as f32;
            let signal = Signal::new(&recording(times, wave), &Recipe::BIPEDALNET).unwrap();
            for (index, value) in signal.acceleration_m_s2.iter().enumerate().skip(5).take(200) {
                let expected = wave(origin + index as f64 / 50.0);
                prop_assert!((value[0] - expected).abs() < 0.06, "{} {}", value[0], expected);
            }
        }
    }
}

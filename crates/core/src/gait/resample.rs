//! Resampling to an even time grid.

use super::{Recipe, Recording, SignalError};

/// Lowest mean rate. Sensors that promise 20 Hz deliver a little less.
const LEAST_RATE_HZ: f64 = 18.0;

/// Longest gap that is interpolated. It is shorter than half a step.
pub(crate) const LONGEST_GAP_SECONDS: f64 = 0.25;

/// A sensor with the smallest common range, +-2 g, does not clip below this.
const LEAST_CLIP_M_S2: f32 = 15.0;

/// This many equal extremes in a row count as clipping.
const CLIP_RUN: usize = 3;

/// A recording on an even time grid that starts at its first sample.
pub struct Signal {
    pub(crate) rate_hz: f64,
    pub(crate) acceleration_m_s2: Vec<[f32; 3]>,
    pub(crate) angular_rate_rad_s: Option<Vec<[f32; 3]>>,
    /// For each grid point, the length in seconds of the gap that it lies in, or 0.
    pub(crate) gap_seconds: Vec<f32>,
    /// For each grid point, whether the sensor was at the end of its range.
    pub(crate) clipped: Vec<bool>,
}

impl Signal {
    /// Checks the recording as a whole and resamples it to the recipe's rate.
    ///
    /// Drops angular rates if the recipe's rows do not read them.
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
        // This also bounds the grid: it has at most `rate_hz / LEAST_RATE_HZ` points per sample.
        let rate_hz = recording.rate_hz();
        if rate_hz < LEAST_RATE_HZ {
            return Err(SignalError::RateTooLow { rate_hz, needed_hz: 20.0 });
        }
        check_gravity(recording.acceleration_m_s2())?;

        let times = recording.time_seconds();
        let angular_rate = recording.angular_rate_rad_s().filter(|_| recipe.rows.read_gyroscope());
        let clipped_samples = clipped(recording.acceleration_m_s2());
        let mut signal = Self {
            rate_hz: recipe.rate_hz,
            acceleration_m_s2: Vec::with_capacity(length),
            angular_rate_rad_s: angular_rate.map(|_| Vec::with_capacity(length)),
            gap_seconds: Vec::with_capacity(length),
            clipped: Vec::with_capacity(length),
        };
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
            signal.gap_seconds.push(if bridged { gap as f32 } else { 0.0 });
            signal.clipped.push(clipped_samples[left] || clipped_samples[left + 1]);
        }
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

fn check_gravity(acceleration_m_s2: &[[f32; 3]]) -> Result<(), SignalError> {
    let mut magnitudes: Vec<f32> =
        acceleration_m_s2.iter().map(|a| a.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
    let middle = magnitudes.len() / 2;
    let (_, &mut median, _) = magnitudes.select_nth_unstable_by(middle, f32::total_cmp);
    match median {
        0.5..=2.0 => Err(SignalError::GravityUnits { median }),
        6.0..=16.0 => Ok(()),
        _ => Err(SignalError::ImplausibleGravity { median_m_s2: median }),
    }
}

/// Marks samples in runs of equal values at an axis's extreme.
fn clipped(acceleration_m_s2: &[[f32; 3]]) -> Vec<bool> {
    let mut marks = vec![false; acceleration_m_s2.len()];
    let (mut largest, mut smallest) = ([f32::MIN; 3], [f32::MAX; 3]);
    for sample in acceleration_m_s2 {
        for axis in 0..3 {
            largest[axis] = largest[axis].max(sample[axis]);
            smallest[axis] = smallest[axis].min(sample[axis]);
        }
    }
    for axis in 0..3 {
        for extreme in [largest[axis], smallest[axis]] {
            if extreme.abs() < LEAST_CLIP_M_S2 {
                continue;
            }
            let mut start = 0;
            for run in acceleration_m_s2.chunk_by(|a, b| a[axis] == b[axis]) {
                if run[0][axis] == extreme && run.len() >= CLIP_RUN {
                    marks[start..start + run.len()].fill(true);
                }
                start += run.len();
            }
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

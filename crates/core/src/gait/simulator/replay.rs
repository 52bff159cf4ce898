//! Replays of intercepted recordings, as an attacker would change them.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{normal, random_rotation};
use crate::gait::Recording;

/// Changes to a recording. The default changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Sample rate of the copy. `None` keeps the times of the original.
    pub rate_hz: Option<f64>,
    /// Largest error of a time stamp, in sample periods. Below 0.5.
    pub jitter_periods: f64,
    /// Speed of the copy: 1.01 is 1 % faster.
    pub speed: f64,
    /// Factor of the acceleration.
    pub scale: f32,
    /// Whether the phone is turned to a random orientation.
    pub turned: bool,
    /// Standard deviation of white noise on each axis, as a share of that of the movement.
    pub noise: f32,
    /// Acceleration is rounded to multiples of this, in m/s^2. 0 does not round.
    pub step_m_s2: f32,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            rate_hz: None,
            jitter_periods: 0.0,
            speed: 1.0,
            scale: 1.0,
            turned: false,
            noise: 0.0,
            step_m_s2: 0.0,
        }
    }
}

impl Replay {
    /// The changed copy. `None` if the changes leave no valid recording.
    pub fn copy(&self, recording: &Recording, seed: u64) -> Option<Recording> {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let rates = recording.angular_rate_rad_s();
        let (mut times, mut accelerations, mut rates) = match self.rate_hz {
            Some(rate_hz) => {
                let points = grid(recording, rate_hz);
                let values = |source| points.iter().map(|point| point.of(source)).collect();
                let times = points.iter().map(|point| point.time_seconds).collect();
                (times, values(recording.acceleration_m_s2()), rates.map(values))
            }
            None => (
                recording.time_seconds().to_vec(),
                recording.acceleration_m_s2().to_vec(),
                rates.map(<[_]>::to_vec),
            ),
        };
        let samples = times.len() as f32;
        let period_seconds = recording.duration_seconds() / f64::from(samples);
        for time in &mut times {
            let error = self.jitter_periods * random.random_range(-1.0..1.0);
            *time = (*time + error * period_seconds) / self.speed;
        }

        let mean = [0, 1, 2].map(|axis| {
            accelerations.iter().map(|sample: &[f32; 3]| sample[axis]).sum::<f32>() / samples
        });
        let squares = accelerations
            .iter()
            .flat_map(|sample| [0, 1, 2].map(|axis| (sample[axis] - mean[axis]).powi(2)));
        let noise_m_s2 = self.noise * (squares.sum::<f32>() / (3.0 * samples)).sqrt();
        let mount = random_rotation(&mut random);
        if self.turned {
            for sample in accelerations.iter_mut().chain(rates.iter_mut().flatten()) {
                *sample = mount.map(|row| (0..3).map(|axis| row[axis] as f32 * sample[axis]).sum());
            }
        }
        for sample in &mut accelerations {
            for value in sample {
                *value = self.scale * (*value + noise_m_s2 * normal(&mut random) as f32);
                if self.step_m_s2 > 0.0 {
                    *value = (*value / self.step_m_s2).round() * self.step_m_s2;
                }
            }
        }
        Recording::new(times, accelerations, rates).ok()
    }
}

/// A time between two samples.
struct Point {
    time_seconds: f64,
    /// The sample after it.
    right: usize,
    /// Position between the samples: 0 at the one before, 1 at the one after.
    share: f32,
}

impl Point {
    /// Linear interpolation.
    fn of(&self, source: &[[f32; 3]]) -> [f32; 3] {
        let (before, after) = (source[self.right - 1], source[self.right]);
        [0, 1, 2].map(|axis| before[axis] + self.share * (after[axis] - before[axis]))
    }
}

/// Evenly spaced times that differ from those of the original.
fn grid(recording: &Recording, rate_hz: f64) -> Vec<Point> {
    let times = recording.time_seconds();
    let start = times[0] + 0.37 / rate_hz;
    let count = (recording.duration_seconds() * rate_hz) as usize;
    (0..count)
        .filter_map(|index| {
            let time_seconds = start + index as f64 / rate_hz;
            let right = times.partition_point(|&other| other <= time_seconds);
            let (before, after) = (times.get(right.checked_sub(1)?)?, times.get(right)?);
            let share = ((time_seconds - before) / (after - before)) as f32;
            Some(Point { time_seconds, right, share })
        })
        .collect()
}

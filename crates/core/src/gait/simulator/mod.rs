//! Seeded walkers with a phone in the trouser pocket, for the demo, tests and load.
//!
//! A stride (two steps) is a sum of harmonics of the stride rate: three accelerations of the thigh in
//! the walker's axes and three rates of its roll, pitch and yaw. Each foot contact adds a damped burst.
//! Both steps share the even harmonics; the odd ones are sway, the swing of the leg, and asymmetry of
//! left and right. `docs/simulator.md` compares it with real recordings.

mod population;
mod replay;
mod walker;

use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;
pub use replay::Replay;
pub use walker::Walker;

use super::Recording;

const GRAVITY_M_S2: f64 = 9.81;
const ACCELERATION_NOISE_M_S2: f64 = 0.04;
const ANGULAR_RATE_NOISE_RAD_S: f64 = 0.01;
/// Deviation of time stamps, in sample periods.
const CLOCK_JITTER: f64 = 0.03;

/// How a walk is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Duration, at most an hour.
    pub seconds: f64,
    /// Sample rate. Values outside 1 to 1000 Hz are clamped.
    pub rate_hz: f64,
    /// Whether the phone has a gyroscope.
    pub gyroscope: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { seconds: 20.0, rate_hz: 50.0, gyroscope: true }
    }
}

/// A phone that does not move: gravity with sensor noise.
pub fn standing(seed: u64, conditions: &Conditions) -> Recording {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    record(conditions, &mut random, |_| ([0.0, 0.0, GRAVITY_M_S2], [0.0; 3]))
}

impl Conditions {
    fn bounded_seconds(&self) -> f64 {
        bounded(self.seconds, 0.0, 3600.0)
    }
}

/// Records a motion with a randomly oriented phone. `motion` is called once per sample, with the time
/// to the next one.
fn record(
    conditions: &Conditions,
    random: &mut Pcg64Mcg,
    mut motion: impl FnMut(f64) -> ([f64; 3], [f64; 3]),
) -> Recording {
    let rate_hz = bounded(conditions.rate_hz, 1.0, 1000.0);
    let samples = (conditions.bounded_seconds() * rate_hz).round() as usize + 1;
    let mount = random_rotation(random);
    let read = |thigh: [f64; 3], noise: f64, random: &mut Pcg64Mcg| {
        mount.map(|row| {
            let value: f64 = row.iter().zip(thigh).map(|(a, b)| a * b).sum();
            (value + noise * normal(random)) as f32
        })
    };
    let (mut times, mut accelerations, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..samples {
        let (acceleration, rate) = motion(1.0 / rate_hz);
        times.push((index as f64 + CLOCK_JITTER * normal(random)) / rate_hz);
        accelerations.push(read(acceleration, ACCELERATION_NOISE_M_S2, random));
        rates.push(read(rate, ANGULAR_RATE_NOISE_RAD_S, random));
    }
    Recording::new(times, accelerations, conditions.gyroscope.then_some(rates)).expect(
        "there is a sample, values are bounded, and jitter is less than half a sample period",
    )
}

/// A standard normal draw. Its tails are cut, so that no person or sample is impossible.
fn normal(random: &mut Pcg64Mcg) -> f64 {
    let value: f64 = StandardNormal.sample(random);
    value.clamp(-3.0, 3.0)
}

/// A uniformly random orientation: a normal quaternion, scaled to unit length.
fn random_rotation(random: &mut Pcg64Mcg) -> [[f64; 3]; 3] {
    let quaternion = [(); 4].map(|()| normal(random));
    let length = quaternion.iter().map(|q| q * q).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    let [w, x, y, z] = quaternion.map(|q| q / length);
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

/// The nearest value within bounds, or the lower bound for NaN.
fn bounded(value: f64, least: f64, most: f64) -> f64 {
    if value.is_nan() { least } else { value.clamp(least, most) }
}

#[cfg(test)]
mod tests;

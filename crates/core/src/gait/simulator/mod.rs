//! Seeded walkers with a phone in the trouser pocket, for the demo, tests and load.
//!
//! A stride (two steps) is a sum of harmonics of the stride rate: three accelerations of the
//! thigh in the walker's axes and three rates of its roll, pitch and yaw, with a damped burst at
//! each foot's contact. Even harmonics are what both steps share; odd ones are sway, the leg's
//! swing and left-right asymmetry. `docs/simulator.md` compares it with real recordings.

use std::f64::consts::{PI, TAU};

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use super::Recording;
use population::{AXES, COMPONENTS, FACTORS, HARMONICS, MEAN, REST};

mod population;
mod replay;

pub use replay::Replay;

/// Unit of the population's tables.
const MEASURE: f64 = 0.01;
const GRAVITY_M_S2: f64 = 9.81;
/// Cosine and sine amplitude of every harmonic of every axis.
type Waveform = [[[f64; 2]; HARMONICS]; AXES];

/// Mean stride rate of people, and relative deviations between people, walks and strides.
const STRIDE_RATE_HZ: f64 = 0.943;
const STRIDE_RATE_DEVIATION: [f64; 3] = [0.055, 0.016, 0.028];
/// Deviation between people of the logarithm of an axis's amplitude, beside the components.
const GAIN_DEVIATION: [f64; AXES] = [0.1, 0.1, 0.0, 0.0, 0.0, 0.25];
/// How far a walk is from the person's mean, as a share of how far people are from each other.
const WALK_SHARE: f64 = 0.1;
/// The same of what components leave, at the fundamental and more at each harmonic: the finer a
/// detail, the more it depends on shoes, clothes and the pocket.
const WALK_REST_SHARE: [f64; 2] = [0.2, 0.02];
/// Neighbouring strides are alike: the correlation of their deviations.
const STRIDE_CORRELATION: f64 = 0.4;
/// Deviation of every harmonic's amplitudes between strides, by axis; most of what differs between
/// strides is timing, not shape.
const STRIDE_DEVIATION: [f64; AXES] = [0.23, 0.17, 0.25, 0.04, 0.05, 0.065];
/// Mean amplitude of a contact's burst by axis (m/s^2, then rad/s).
const IMPACT: [f64; AXES] = [4.5, 3.5, 7.0, 0.6, 0.9, 1.2];
/// Phases of the stride at which the pocket's own foot and the other one land.
const CONTACT_PHASES: [f64; 2] = [4.6, 4.6 - PI];

const ACCELERATION_NOISE_M_S2: f64 = 0.04;
const ANGULAR_RATE_NOISE_RAD_S: f64 = 0.01;
/// Deviation of time stamps, in sample periods.
const CLOCK_JITTER: f64 = 0.03;

/// A person's way of walking.
#[derive(Clone, Debug, PartialEq)]
pub struct Walker {
    seed: u64,
    stride_rate_hz: f64,
    waveform: Waveform,
    /// Size of the person's differences between strides, 1 for most people.
    variability: f64,
    impact: Impact,
}

/// The burst at a foot's contact.
#[derive(Clone, Debug, PartialEq)]
struct Impact {
    amplitude: [f64; AXES],
    phase: [f64; AXES],
    frequency_hz: f64,
    decay_seconds: f64,
    /// How much of the other foot's contact reaches this leg.
    other_foot: f64,
}

/// How a walk is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Length, at most an hour.
    pub seconds: f64,
    /// Samples a second, from 1 to 1000; the nearest of these is taken for any other.
    pub rate_hz: f64,
    /// Whether the phone has a gyroscope.
    pub gyroscope: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { seconds: 20.0, rate_hz: 50.0, gyroscope: true }
    }
}

/// What differs from stride to stride.
struct Stride {
    waveform: Waveform,
    rate: f64,
    /// For each foot: relative strength, and phase of the burst in radians.
    impact: [(f64, f64); 2],
}

/// One walk, stride by stride.
struct Walk<'a> {
    walker: &'a Walker,
    stride_rate_hz: f64,
    strides: Vec<Stride>,
}

impl Walker {
    /// The person that this seed names.
    pub fn new(seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let scores = [(); FACTORS].map(|()| normal(&mut random));
        let gain = GAIN_DEVIATION.map(|deviation| (deviation * normal(&mut random)).exp());
        let waveform = waveform(|axis, harmonic| {
            [0, 1].map(|part| {
                let mean = MEASURE * f64::from(MEAN[axis][2 * harmonic + part]);
                let rest = MEASURE * f64::from(REST[axis][harmonic]) * normal(&mut random);
                let person = along_components(&scores, axis, 2 * harmonic + part) + rest;
                gain[axis] * (mean + person)
            })
        });
        // The first component is vigour.
        let strength = (0.3 * scores[0] + 0.3 * normal(&mut random)).exp();
        let variability = (0.2 * scores[0] + 0.16 * normal(&mut random)).exp();
        let impact = Impact {
            amplitude: IMPACT.map(|mean| mean * strength * (0.3 * normal(&mut random)).exp()),
            phase: [(); AXES].map(|()| random.random_range(0.0..TAU)),
            frequency_hz: random.random_range(11.0..17.0),
            decay_seconds: 0.04 * (0.2 * normal(&mut random)).exp(),
            other_foot: random.random_range(0.15..0.45),
        };
        Self {
            seed,
            stride_rate_hz: STRIDE_RATE_HZ * (1.0 + STRIDE_RATE_DEVIATION[0] * normal(&mut random)),
            waveform,
            variability,
            impact,
        }
    }

    /// One walk of this person, with the phone turned anyhow in the pocket.
    pub fn walk(&self, seed: u64, conditions: &Conditions) -> Recording {
        let mut random = Pcg64Mcg::seed_from_u64(self.seed.rotate_left(32) ^ seed);
        let walk = Walk::new(self, conditions, &mut random);
        let mut phase: f64 = random.random_range(0.0..TAU);
        record(conditions, &mut random, |period_seconds| {
            let motion = walk.motion(phase);
            phase += TAU * walk.rate_hz(phase) * period_seconds;
            motion
        })
    }
}

/// A phone that lies or stands still: sensor noise on gravity.
pub fn standing(seed: u64, conditions: &Conditions) -> Recording {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    record(conditions, &mut random, |_| ([0.0, 0.0, GRAVITY_M_S2], [0.0; 3]))
}

impl<'a> Walk<'a> {
    fn new(walker: &'a Walker, conditions: &Conditions, random: &mut Pcg64Mcg) -> Self {
        let scores = [(); FACTORS].map(|()| WALK_SHARE * normal(random));
        let mean = waveform(|axis, harmonic| {
            let share = WALK_REST_SHARE[0] + WALK_REST_SHARE[1] * harmonic as f64;
            let rest = share * MEASURE * f64::from(REST[axis][harmonic]);
            [0, 1].map(|part| {
                walker.waveform[axis][harmonic][part]
                    + along_components(&scores, axis, 2 * harmonic + part)
                    + rest * normal(random)
            })
        });
        let stride_rate_hz =
            walker.stride_rate_hz * (1.0 + STRIDE_RATE_DEVIATION[1] * normal(random));
        // No stride is more than a tenth faster than the mean; the rest is for the two ends.
        let count = (conditions.bounded_seconds() * stride_rate_hz * 1.1) as usize + 4;
        let innovation = (1.0 - STRIDE_CORRELATION.powi(2)).sqrt();
        let mut deviation: Waveform = waveform(|_, _| [normal(random), normal(random)]);
        let strides = (0..count)
            .map(|_| {
                for value in deviation.as_flattened_mut().as_flattened_mut() {
                    *value = STRIDE_CORRELATION * *value + innovation * normal(random);
                }
                Stride {
                    waveform: waveform(|axis, harmonic| {
                        let scale = STRIDE_DEVIATION[axis] * walker.variability;
                        [0, 1].map(|part| {
                            mean[axis][harmonic][part] + scale * deviation[axis][harmonic][part]
                        })
                    }),
                    rate: 1.0 + STRIDE_RATE_DEVIATION[2] * normal(random),
                    impact: [(); 2].map(|()| ((0.35 * normal(random)).exp(), 0.7 * normal(random))),
                }
            })
            .collect();
        Self { walker, stride_rate_hz, strides }
    }

    /// The stride at `phase`, the next one, and how far the first is over.
    fn strides_at(&self, phase: f64) -> (&Stride, &Stride, f64) {
        let index = ((phase / TAU) as usize).min(self.strides.len() - 2);
        (&self.strides[index], &self.strides[index + 1], (phase / TAU).fract())
    }

    fn rate_hz(&self, phase: f64) -> f64 {
        let (now, next, share) = self.strides_at(phase);
        self.stride_rate_hz * (now.rate + share * (next.rate - now.rate))
    }

    /// What sensors on the thigh read: acceleration with gravity, and angular rate.
    fn motion(&self, phase: f64) -> ([f64; 3], [f64; 3]) {
        let (now, next, share) = self.strides_at(phase);
        let turn_rad_s = TAU * self.rate_hz(phase);
        let mut value = [0.0; AXES];
        // Of roll, pitch and yaw: the integrals of their rates.
        let mut angle = [0.0; 3];
        for harmonic in 0..HARMONICS {
            let order = (harmonic + 1) as f64;
            let (sine, cosine) = (order * phase).sin_cos();
            for axis in 0..AXES {
                let [c, s] = [0, 1].map(|part| {
                    let (now, next) =
                        (now.waveform[axis][harmonic][part], next.waveform[axis][harmonic][part]);
                    now + share * (next - now)
                });
                value[axis] += c * cosine + s * sine;
                if axis >= 3 {
                    angle[axis - 3] += (c * sine - s * cosine) / (order * turn_rad_s);
                }
            }
        }
        self.add_impacts(phase, turn_rad_s, &mut value);
        let [x, y, z, roll_rate, pitch_rate, yaw_rate] = value;

        // Into the swinging thigh's axes: yaw, then pitch, then roll.
        let [(sr, cr), (sp, cp), (sy, cy)] = angle.map(f64::sin_cos);
        let (x, y, z) = (cy * x + sy * y, cy * y - sy * x, z + GRAVITY_M_S2);
        let (x, z) = (cp * x - sp * z, sp * x + cp * z);
        let (y, z) = (cr * y + sr * z, cr * z - sr * y);
        let rate = [
            roll_rate - sp * yaw_rate,
            cr * pitch_rate + sr * cp * yaw_rate,
            cr * cp * yaw_rate - sr * pitch_rate,
        ];
        ([x, y, z], rate)
    }

    fn add_impacts(&self, phase: f64, turn_rad_s: f64, value: &mut [f64; AXES]) {
        let impact = &self.walker.impact;
        for (foot, contact_phase) in CONTACT_PHASES.into_iter().enumerate() {
            let since = phase - contact_phase;
            if since < 0.0 {
                continue;
            }
            let seconds = since.rem_euclid(TAU) / turn_rad_s;
            let (strength, jitter) = self.strides_at(since).0.impact[foot];
            let strength = if foot == 0 { strength } else { strength * impact.other_foot };
            let decay = seconds / impact.decay_seconds;
            let envelope = strength * decay * (1.0 - decay).exp();
            let axes = impact.amplitude.iter().zip(impact.phase);
            for (value, (amplitude, phase)) in value.iter_mut().zip(axes) {
                let carrier = TAU * impact.frequency_hz * seconds + phase + jitter;
                *value += amplitude * envelope * carrier.cos();
            }
        }
    }
}

impl Conditions {
    fn bounded_seconds(&self) -> f64 {
        bounded(self.seconds, 0.0, 3600.0)
    }
}

/// Samples a motion, which is given the time to the next sample, with a phone turned at random.
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

/// How far `scores` move one amplitude from the mean stride.
fn along_components(scores: &[f64; FACTORS], axis: usize, column: usize) -> f64 {
    let terms = scores.iter().zip(&COMPONENTS);
    MEASURE
        * terms.map(|(score, amplitudes)| score * f64::from(amplitudes[axis][column])).sum::<f64>()
}

fn waveform(mut value: impl FnMut(usize, usize) -> [f64; 2]) -> Waveform {
    std::array::from_fn(|axis| std::array::from_fn(|harmonic| value(axis, harmonic)))
}

/// A standard normal draw, its tails cut so that no person or sample is impossible.
fn normal(random: &mut Pcg64Mcg) -> f64 {
    let value: f64 = StandardNormal.sample(random);
    value.clamp(-3.0, 3.0)
}

/// Any orientation, each as likely: a normal quaternion, scaled to unit length.
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

/// The nearest value within bounds; the least for NaN.
fn bounded(value: f64, least: f64, most: f64) -> f64 {
    if value.is_nan() { least } else { value.clamp(least, most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gait::{Recipe, Window, cut_windows};

    const RECIPE: Recipe = Recipe::BIPEDALNET;

    fn windows(recording: &Recording) -> Vec<Window> {
        cut_windows(recording, &RECIPE, 50).unwrap().windows
    }

    #[test]
    fn a_walk_depends_on_its_seeds_alone() {
        let conditions = Conditions::default();
        let walk = Walker::new(1).walk(2, &conditions);
        assert_eq!(walk, Walker::new(1).walk(2, &conditions));
        assert_ne!(walk, Walker::new(1).walk(3, &conditions));
        assert_ne!(walk, Walker::new(3).walk(2, &conditions));
        let without = Conditions { gyroscope: false, ..conditions };
        assert_eq!(walk.without_angular_rate(), Walker::new(1).walk(2, &without));
    }

    #[test]
    fn walks_pass_the_walking_check_at_any_rate() {
        for rate_hz in [20.0, 33.0, 50.0, 100.0, 200.0] {
            let conditions = Conditions { rate_hz, ..Conditions::default() };
            let passed: usize =
                (0..50).map(|seed| windows(&Walker::new(seed).walk(seed, &conditions)).len()).sum();
            // 19 windows of two seconds start within 20 s, one each second.
            assert!(passed >= 50 * 19 * 98 / 100, "{passed} at {rate_hz} Hz");
        }
    }

    #[test]
    fn standing_is_no_walk() {
        let recording = standing(1, &Conditions::default());
        let error = cut_windows(&recording, &RECIPE, 50).unwrap_err();
        assert!(matches!(error, crate::gait::SignalError::StandingStill { .. }), "{error}");
    }

    #[test]
    fn odd_conditions_still_make_a_recording() {
        for value in [f64::NAN, f64::NEG_INFINITY, 0.0, 1e-300] {
            let conditions = Conditions { seconds: value, rate_hz: value, gyroscope: true };
            assert!(!Walker::new(1).walk(1, &conditions).time_seconds().is_empty());
        }
    }

    #[test]
    fn angular_rate_is_how_the_thigh_turns_gravity() {
        let mut walker = Walker::new(5);
        walker.variability = 0.0;
        walker.impact.amplitude = [0.0; AXES];
        // Without acceleration of the thigh, only gravity moves in its axes.
        walker.waveform[..3].as_flattened_mut().fill([0.0; 2]);
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut walk = Walk::new(&walker, &Conditions::default(), &mut random);
        for stride in &mut walk.strides {
            stride.rate = 1.0;
            stride.waveform[..3].as_flattened_mut().fill([0.0; 2]);
        }
        let step_seconds = 1e-6;
        for index in 0..100 {
            let phase = 7.0 + 0.06 * index as f64;
            let ([x, y, z], [p, q, r]) = walk.motion(phase);
            let (next, _) = walk.motion(phase + TAU * walk.rate_hz(phase) * step_seconds);
            // The derivative of a vector that stands still, seen from axes that turn.
            let expected = [y * r - z * q, z * p - x * r, x * q - y * p];
            for ((before, after), expected) in [x, y, z].into_iter().zip(next).zip(expected) {
                let derivative = (after - before) / step_seconds;
                assert!((derivative - expected).abs() < 1e-2, "{derivative} {expected}");
            }
        }
    }

    /// Mean autocovariance of each row, up to one stride.
    fn signature(recording: &Recording) -> Vec<f64> {
        let windows = windows(recording);
        let mut sums = vec![0.0; 8 * 50];
        for window in &windows {
            for (row, values) in window.values.chunks_exact(RECIPE.samples).enumerate() {
                for lag in 0..50 {
                    let products = values.iter().zip(&values[lag..]);
                    let sum: f64 = products.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    sums[row * 50 + lag] += sum / windows.len() as f64;
                }
            }
        }
        sums
    }

    #[test]
    fn a_second_walk_is_nearest_to_the_same_persons_first() {
        let signatures = |walk: u64| -> Vec<Vec<f64>> {
            let conditions = Conditions::default();
            (0..12).map(|person| signature(&Walker::new(person).walk(walk, &conditions))).collect()
        };
        let (first, second) = (signatures(1), signatures(2));
        let distance =
            |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
        let named = (0..12).filter(|&person| {
            let distances = first.iter().map(|other| distance(other, &second[person]));
            distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
                == Some(person)
        });
        let named = named.count();
        assert!(named >= 10, "{named} of 12");
    }
}

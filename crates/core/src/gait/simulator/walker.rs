//! Simulated people and their walks.

use std::f64::consts::{PI, TAU};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::population::{AXES, COMPONENTS, FACTORS, HARMONICS, MEAN, REST};
use super::{Conditions, GRAVITY_M_S2, normal, record};
use crate::gait::Recording;

/// Unit of the tables of the population.
const MEASURE: f64 = 0.01;

/// Cosine and sine amplitude of each harmonic of each axis.
type Waveform = [[[f64; 2]; HARMONICS]; AXES];

/// Mean stride rate, and relative deviations between people, walks and strides.
const STRIDE_RATE_HZ: f64 = 0.943;
const STRIDE_RATE_DEVIATION: [f64; 3] = [0.055, 0.016, 0.028];
/// Deviation between people of the logarithm of an axis's amplitude, apart from the components.
const GAIN_DEVIATION: [f64; AXES] = [0.1, 0.1, 0.0, 0.0, 0.0, 0.25];
/// Deviation of a walk from the person's mean, as a share of the deviation between people.
const WALK_SHARE: f64 = 0.1;
/// The same for what the components do not cover: at the fundamental, and added for each harmonic. Fine
/// details depend more on shoes, clothes and the pocket.
const WALK_REST_SHARE: [f64; 2] = [0.2, 0.02];
/// Correlation of the deviations of neighbouring strides.
const STRIDE_CORRELATION: f64 = 0.4;
/// Deviation of each harmonic's amplitudes between strides, by axis. Strides differ more in timing than
/// in shape.
const STRIDE_DEVIATION: [f64; AXES] = [0.23, 0.17, 0.25, 0.04, 0.05, 0.065];
/// Mean amplitude of the burst at a foot contact, by axis (m/s^2, then rad/s).
const IMPACT: [f64; AXES] = [4.5, 3.5, 7.0, 0.6, 0.9, 1.2];
/// Phases of the stride at which the foot on the pocket's side and the other foot land.
const CONTACT_PHASES: [f64; 2] = [4.6, 4.6 - PI];

/// A person's way of walking.
#[derive(Clone, Debug, PartialEq)]
pub struct Walker {
    seed: u64,
    stride_rate_hz: f64,
    waveform: Waveform,
    /// Size of the differences between strides, about 1 for most people.
    variability: f64,
    impact: Impact,
}

/// The burst at a foot contact.
#[derive(Clone, Debug, PartialEq)]
struct Impact {
    amplitude: [f64; AXES],
    phase: [f64; AXES],
    frequency_hz: f64,
    decay_seconds: f64,
    /// Share of the other foot's burst that reaches this leg.
    other_foot: f64,
}

/// One stride of a walk.
struct Stride {
    waveform: Waveform,
    rate: f64,
    /// For each foot: relative strength and phase, in radians, of the burst.
    impact: [(f64, f64); 2],
}

/// One walk, stride by stride.
struct Walk<'a> {
    walker: &'a Walker,
    stride_rate_hz: f64,
    strides: Vec<Stride>,
}

impl Walker {
    /// The person with this seed.
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
        // The first component is how vigorously a person walks.
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

    /// One walk of this person, with a random orientation of the phone.
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
        // A stride is at most a tenth faster than the mean. The others are for the two ends.
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

    /// The stride at `phase`, the next one, and the share of the first that is over.
    fn strides_at(&self, phase: f64) -> (&Stride, &Stride, f64) {
        let index = ((phase / TAU) as usize).min(self.strides.len() - 2);
        (&self.strides[index], &self.strides[index + 1], (phase / TAU).fract())
    }

    fn rate_hz(&self, phase: f64) -> f64 {
        let (now, next, share) = self.strides_at(phase);
        self.stride_rate_hz * (now.rate + share * (next.rate - now.rate))
    }

    /// Acceleration with gravity and angular rate, as sensors on the thigh read them.
    fn motion(&self, phase: f64) -> ([f64; 3], [f64; 3]) {
        let (now, next, share) = self.strides_at(phase);
        let turn_rad_s = TAU * self.rate_hz(phase);
        let mut value = [0.0; AXES];
        // Roll, pitch and yaw: the integrals of their rates.
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

        // To the axes of the swinging thigh: yaw, then pitch, then roll.
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

/// Change of one amplitude from the mean stride by the components with these scores.
fn along_components(scores: &[f64; FACTORS], axis: usize, column: usize) -> f64 {
    let terms = scores.iter().zip(&COMPONENTS);
    MEASURE
        * terms.map(|(score, amplitudes)| score * f64::from(amplitudes[axis][column])).sum::<f64>()
}

fn waveform(mut value: impl FnMut(usize, usize) -> [f64; 2]) -> Waveform {
    std::array::from_fn(|axis| std::array::from_fn(|harmonic| value(axis, harmonic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angular_rates_turn_gravity_in_the_axes_of_the_thigh() {
        let mut walker = Walker::new(5);
        walker.variability = 0.0;
        walker.impact.amplitude = [0.0; AXES];
        // Without acceleration, only gravity moves in the axes of the thigh.
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
            // The derivative of a fixed vector, seen from turning axes.
            let expected = [y * r - z * q, z * p - x * r, x * q - y * p];
            for ((before, after), expected) in [x, y, z].into_iter().zip(next).zip(expected) {
                let derivative = (after - before) / step_seconds;
                assert!((derivative - expected).abs() < 1e-2, "{derivative} {expected}");
            }
        }
    }
}

//! Whether accelerations include gravity and are in m/s^2.

use super::SignalError;
use super::orientation::norm;
use super::recording::STANDARD_GRAVITY_M_S2;
use super::sensor::clipped;
use super::walking::moving;

/// Length of the mean acceleration over two seconds, which is gravity. The lowest upper quartile and the
/// highest lower quartile of 434 real recordings are 9.14 and 12.71 m/s^2.
const LEAST_M_S2: f32 = 8.8;
const MOST_M_S2: f32 = 13.3;

/// Without gravity, the mean is much shorter than the movement around it. The lowest ratio of the real
/// recordings is 0.68.
const LEAST_RATIO: f32 = 0.4;

/// If more of the samples are cut off, the scale cannot be told.
const MOST_CUT_OFF_PERCENT: f32 = 10.0;

/// Sums over a second.
#[derive(Clone, Copy, Default)]
struct Second {
    samples: f32,
    sum: [f32; 3],
    squares: f32,
}

/// Checks the acceleration of a recording. `unit_m_s2` is what a value of 1 meant as it was sent.
///
/// Turning the phone shortens a mean, but lengthens none. So one quartile or the other is compared.
pub(super) fn check(
    times: &[f64],
    acceleration_m_s2: &[[f32; 3]],
    unit_m_s2: f32,
) -> Result<(), SignalError> {
    let mut stretches: Vec<(f32, f32)> = stretches(times, acceleration_m_s2);
    let mut sorted = |key: fn(&(f32, f32)) -> f32, share: f32| {
        stretches.sort_unstable_by(|a, b| key(a).total_cmp(&key(b)));
        key(&stretches[((stretches.len() - 1) as f32 * share).round() as usize])
    };
    let movement_m_s2 = sorted(|stretch| stretch.1, 0.5);
    let (low, high) = (sorted(|stretch| stretch.0, 0.25), sorted(|stretch| stretch.0, 0.75));
    let is_linear = high < LEAST_RATIO * movement_m_s2;
    if !is_linear && high >= LEAST_M_S2 && low <= MOST_M_S2 {
        return Ok(());
    }
    // A sensor that is stuck is not one of another unit.
    moving("acceleration", acceleration_m_s2)?;
    if is_linear {
        return Err(SignalError::ImplausibleGravity { mean_m_s2: high, movement_m_s2 });
    }
    // Nor is one with cut-off peaks.
    let cut_off = clipped(acceleration_m_s2, 0.0).into_iter().filter(|&cut_off| cut_off).count();
    let percent = 100.0 * cut_off as f32 / acceleration_m_s2.len() as f32;
    if percent > MOST_CUT_OFF_PERCENT {
        return Err(SignalError::ClippedSensor { field: "acceleration", percent });
    }
    let mean_m_s2 = if high < LEAST_M_S2 { high } else { low };
    Err(SignalError::GravityUnits { mean_m_s2, sent: mean_m_s2 / unit_m_s2 })
}

/// For each two seconds: the length of the mean, and the standard deviation.
fn stretches(times: &[f64], acceleration_m_s2: &[[f32; 3]]) -> Vec<(f32, f32)> {
    let last = times.last().map_or(0, |last| (last - times[0]) as usize);
    let mut seconds: Vec<Second> = Vec::with_capacity(last + 1);
    for (time, &sample) in times.iter().zip(acceleration_m_s2) {
        let index = (time - times[0]) as usize;
        if seconds.len() <= index {
            seconds.resize(index + 1, Second::default());
        }
        seconds[index].add(Second {
            samples: 1.0,
            sum: sample,
            squares: sample.iter().map(|value| value * value).sum(),
        });
    }
    // The last one is not whole.
    let whole = &seconds[..(seconds.len() - 1).max(seconds.len().min(2))];
    let stretch = |seconds: &[Second]| {
        let mut stretch = Second::default();
        seconds.iter().for_each(|&second| stretch.add(second));
        stretch
    };
    let stretches = whole.windows(whole.len().min(2)).map(stretch);
    stretches.filter(|stretch| stretch.samples > 0.0).map(|stretch| stretch.moments()).collect()
}

impl Second {
    fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.squares += other.squares;
        for (sum, value) in self.sum.iter_mut().zip(other.sum) {
            *sum += value;
        }
    }

    fn moments(self) -> (f32, f32) {
        let mean = norm(self.sum.map(|sum| sum / self.samples));
        (mean, (self.squares / self.samples - mean * mean).max(0.0).sqrt())
    }
}

/// How to send accelerations whose mean has this length, as it was read and as it was sent.
pub(super) fn advice(mean_m_s2: f32, sent: f32) -> String {
    let is_near = |ratio: f32| (0.88..1.36).contains(&ratio);
    // The unit that was said cannot be the remedy.
    let is_said = |at_rest: f32| {
        let unit = STANDARD_GRAVITY_M_S2 / at_rest;
        (mean_m_s2 / sent / unit - 1.0).abs() < 0.01
    };
    let reads = |at_rest: f32| is_near(sent / at_rest) && !is_said(at_rest);
    let g = |scale: &str| format!("set acceleration_unit to \"g\"{scale}");
    if reads(1.0) {
        return format!("As if in g: {}", g(""));
    }
    if is_near(mean_m_s2) {
        return format!("With this acceleration_scale, as if in g: {}", g(""));
    }
    if is_near(mean_m_s2 / STANDARD_GRAVITY_M_S2.powi(2)) {
        return "As if in m/s^2: leave acceleration_unit out".to_owned();
    }
    if reads(STANDARD_GRAVITY_M_S2) {
        return "As if in m/s^2: leave acceleration_unit and acceleration_scale out".to_owned();
    }
    let counts = (7..=15).map(|bits| f32::from(1u16 << bits)).find(|&counts| reads(counts));
    let milli = format!("As if in milli-g: {}", g(" and acceleration_scale to 0.001"));
    match counts {
        Some(1024.0) => {
            format!("{milli}, or to 0.0009765625 if 1024 of the sensor's counts are 1 g")
        }
        _ if reads(1000.0) => milli,
        Some(counts) => format!(
            "As if in counts of the sensor, {counts} for 1 g: {}",
            g(&format!(" and acceleration_scale to {}", 1.0 / counts))
        ),
        None => format!(
            "Set acceleration_scale so that a phone at rest reads 9.81 m/s^2; the values sent have a \
             mean of about {sent:.3}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gait::Recording;
    use crate::gait::orientation::means;
    use crate::gait::simulator::{Conditions, Walker};

    fn checked(change: impl Fn([f32; 3], f32) -> [f32; 3], unit: f32) -> Result<(), SignalError> {
        let walk = Walker::new(3).walk(1, &Conditions { seconds: 12.0, ..Conditions::default() });
        let times = walk.time_seconds();
        let samples: Vec<[f32; 3]> = walk
            .acceleration_m_s2()
            .iter()
            .zip(times)
            .map(|(&sample, &time)| change(sample, time as f32))
            .collect();
        let walk = Recording::new(times.to_vec(), samples, None).unwrap();
        check(walk.time_seconds(), walk.acceleration_m_s2(), unit)
    }

    #[test]
    fn a_scale_is_refused_with_the_unit_that_it_looks_like() {
        let g = STANDARD_GRAVITY_M_S2;
        for (factor, unit, expected) in [
            (1.0 / g, 1.0, "\"g\""),
            (1000.0 / g, 1.0, "acceleration_scale to 0.001"),
            (1000.0, g, "acceleration_scale to 0.001"),
            (g, g, "leave acceleration_unit"),
            (1.0 / g, 0.025, "With this acceleration_scale, as if in g"),
            (g, 0.25 * g, "leave acceleration_unit out"),
            (g, 0.1, "leave acceleration_unit"),
            (256.0 / g, 1.0, "256 for 1 g"),
            (16384.0, g, "16384 for 1 g"),
            (0.7, 1.0, "reads 9.81"),
            (0.85, 1.0, "reads 9.81"),
            (0.875, 1.0, "reads 9.81"),
            (0.875, g, "reads 9.81"),
            (0.875, g / 1000.0, "reads 9.81"),
            (1.5, 1.0, "reads 9.81"),
        ] {
            let error = checked(|sample, _| sample.map(|value| factor * value), unit).unwrap_err();
            assert_eq!(error.code(), "gravity-units");
            assert!(error.to_string().contains(expected), "{factor}: {error}");
        }
        for factor in [-1.0, 0.95, 1.0, 1.1] {
            assert_eq!(checked(|sample, _| sample.map(|value| factor * value), 1.0), Ok(()));
        }
    }

    #[test]
    fn cut_off_peaks_are_not_taken_for_another_unit() {
        let cut_off = |sample: [f32; 3], _| sample.map(|value| value.clamp(-6.35, 6.35));
        let error = checked(cut_off, 0.05).unwrap_err();
        assert_eq!((error.code(), error.field()), ("clipped-sensor", "acceleration"));
    }

    #[test]
    fn acceleration_without_gravity_is_refused_as_that_however_strong() {
        let walk = Walker::new(3).walk(1, &Conditions { seconds: 12.0, ..Conditions::default() });
        let samples = walk.acceleration_m_s2();
        let (gravity, _) = means(samples, &vec![0.0; samples.len()]);
        for factor in [0.1, 0.3, 1.0, 3.0] {
            let error = checked(
                |sample, _| [0, 1, 2].map(|axis| factor * (sample[axis] - gravity[axis])),
                1.0,
            );
            assert_eq!(error.unwrap_err().code(), "implausible-gravity", "{factor}");
        }
    }

    #[test]
    fn a_phone_that_turns_has_gravity_all_the_same() {
        let turned = |[x, y, z]: [f32; 3], time: f32| {
            let (sin, cos) = (time * 0.5).sin_cos();
            [cos * x - sin * y, sin * x + cos * y, z]
        };
        assert_eq!(checked(turned, 1.0), Ok(()));
    }
}

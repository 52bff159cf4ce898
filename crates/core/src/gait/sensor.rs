//! What shows that a sensor or its scale is at fault, although the movement looks like walking.

use std::ops::Range;

use super::SignalError;

/// Slowest sensor. The rate of a recording may be higher than that of its sensor, because an app read the
/// last value again and again. The lowest of real recordings over two seconds is 16.5.
const LEAST_CHANGES_HZ: f64 = 15.0;

/// Angular rate of walking, as a root mean square over two seconds. Among 5,500 real windows, 0.39 is the
/// lowest and 6.4 the highest.
const ANGULAR_RATE_RAD_S: std::ops::RangeInclusive<f32> = 0.25..=8.0;

/// This many equal extremes in a row count as clipping.
const CLIP_RUN: usize = 3;

const LARGEST_CLIPPED_SHARE: f32 = 0.05;

/// Running counts over the samples of a sensor. The count over a range is one subtraction.
pub(crate) struct Changes(Vec<u32>);

impl Changes {
    pub fn new(samples: &[[f32; 3]]) -> Self {
        Self(running(
            samples.iter().enumerate().map(|(at, sample)| at == 0 || *sample != samples[at - 1]),
        ))
    }

    /// Checks that the sensor is fast enough in a range of samples that lasts `seconds`.
    pub fn check(
        &self,
        field: &'static str,
        range: &Range<usize>,
        seconds: f64,
    ) -> Result<(), SignalError> {
        let rate_hz = f64::from(self.0[range.end] - self.0[range.start]) / seconds;
        match rate_hz < LEAST_CHANGES_HZ {
            true => Err(SignalError::SlowSensor { field, rate_hz, needed_hz: LEAST_CHANGES_HZ }),
            false => Ok(()),
        }
    }
}

/// Running counts of a gyroscope.
pub(crate) struct Gyroscope {
    changes: Changes,
    squares: Vec<f64>,
    clipped: Vec<u32>,
    /// What a value of 1 meant as it was sent.
    unit_rad_s: f32,
}

impl Gyroscope {
    pub fn new(angular_rate_rad_s: &[[f32; 3]], unit_rad_s: f32) -> Self {
        let mut squares = Vec::with_capacity(angular_rate_rad_s.len() + 1);
        let mut sum = 0.0;
        squares.push(sum);
        for sample in angular_rate_rad_s {
            sum += sample.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            squares.push(sum);
        }
        Self {
            changes: Changes::new(angular_rate_rad_s),
            squares,
            clipped: running(clipped(angular_rate_rad_s, 0.0).into_iter()),
            unit_rad_s,
        }
    }

    /// Checks a range of samples that lasts `seconds` and is walking.
    pub fn check(&self, range: &Range<usize>, seconds: f64) -> Result<(), SignalError> {
        self.changes.check("angular_rate", range, seconds)?;
        let samples = range.len() as f32;
        let squares = self.squares[range.end] - self.squares[range.start];
        let rms_rad_s = (squares as f32 / samples).sqrt();
        if !ANGULAR_RATE_RAD_S.contains(&rms_rad_s) {
            let sent = rms_rad_s / self.unit_rad_s;
            return Err(SignalError::ImplausibleAngularRate { rms_rad_s, sent });
        }
        let clipped = self.clipped[range.end] - self.clipped[range.start];
        match clipped as f32 / samples {
            share if share > LARGEST_CLIPPED_SHARE => {
                Err(SignalError::ClippedSensor { field: "angular_rate", percent: share * 100.0 })
            }
            _ => Ok(()),
        }
    }
}

fn running(marks: impl Iterator<Item = bool>) -> Vec<u32> {
    let mut sum = 0;
    let sums = marks.map(|mark| {
        sum += u32::from(mark);
        sum
    });
    std::iter::once(0).chain(sums).collect()
}

/// Marks samples in runs of equal values at an axis's extreme. Extremes below `least` do not count.
pub(super) fn clipped(samples: &[[f32; 3]], least: f32) -> Vec<bool> {
    let mut marks = vec![false; samples.len()];
    if !has_run(samples) {
        return marks;
    }
    let (mut largest, mut smallest) = ([f32::MIN; 3], [f32::MAX; 3]);
    for sample in samples {
        for axis in 0..3 {
            largest[axis] = largest[axis].max(sample[axis]);
            smallest[axis] = smallest[axis].min(sample[axis]);
        }
    }
    for axis in (0..3).filter(|&axis| smallest[axis] < largest[axis]) {
        let is_extreme = |value: f32| {
            (value == largest[axis] || value == smallest[axis]) && value.abs() >= least
        };
        let (mut last, mut run) = (f32::NAN, 0);
        for (at, value) in samples.iter().map(|sample| sample[axis]).enumerate() {
            run = if value == last { run + 1 } else { 1 };
            last = value;
            if run >= CLIP_RUN && is_extreme(value) {
                marks[at + 1 - CLIP_RUN..=at].fill(true);
            }
        }
    }
    marks
}

/// Whether an axis has a run of equal values. Nearly always, none has.
fn has_run(samples: &[[f32; 3]]) -> bool {
    let values = samples.as_flattened();
    let later = |runs: usize| &values[(3 * runs).min(values.len())..];
    let runs = values.iter().zip(later(1)).zip(later(CLIP_RUN - 1));
    // Without an early end, so that the compiler vectorises it.
    runs.fold(false, |found, ((first, second), last)| {
        found | ((first == second) & (second == last))
    })
}

/// How to send angular rates with this root mean square, as it was sent.
pub(super) fn advice(sent: f32) -> &'static str {
    const DEGREE: f32 = 57.29578;
    match sent {
        _ if ANGULAR_RATE_RAD_S.contains(&sent) => {
            "As if in rad/s: leave angular_rate_unit and angular_rate_scale out"
        }
        _ if ANGULAR_RATE_RAD_S.contains(&(sent / DEGREE)) => {
            "As if in deg/s: set angular_rate_unit to \"deg/s\""
        }
        _ if sent > 1.0 => {
            "As if in counts of the sensor or thousandths: set angular_rate_scale to the value of 1, or \
             leave angular_rate out"
        }
        _ => "Mend the scale, or leave angular_rate out",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gait::simulator::{Conditions, Walker};
    use crate::gait::{Recipe, Recording, RecordingDocument, cut_windows};

    /// What is said about a simulated walk after a change of its angular rates.
    fn refusal(change: impl FnOnce(&mut RecordingDocument)) -> Option<SignalError> {
        let walk = Walker::new(2).walk(1, &Conditions::default());
        let mut document = RecordingDocument::from(&walk);
        change(&mut document);
        cut_windows(&Recording::try_from(document).unwrap(), &Recipe::OPENSET, 50).err()
    }

    fn each(document: &mut RecordingDocument, change: impl Fn(usize, f32) -> f32) {
        for (at, sample) in document.angular_rate.iter_mut().flatten().enumerate() {
            *sample = sample.map(|value| change(at, value));
        }
    }

    #[test]
    fn angular_rates_of_a_wrong_scale_are_refused_although_the_network_ignores_them() {
        use crate::gait::AngularRateUnit::DegreePerSecond;
        assert_eq!(refusal(|_| {}), None);
        type Change = fn(&mut RecordingDocument);
        let cases: [(&str, Change); 5] = [
            ("to \"deg/s\"", |walk| each(walk, |_, value| value.to_degrees())),
            ("in rad/s", |walk| walk.angular_rate_unit = DegreePerSecond),
            ("in counts", |walk| each(walk, |_, value| value * 3752.0)),
            ("leave angular_rate out", |walk| each(walk, |_, value| value * 0.01)),
            ("leave angular_rate out", |walk| each(walk, |at, _| (at * 7919 % 100) as f32 * 1e-4)),
        ];
        for (expected, change) in cases {
            let error = refusal(change).unwrap();
            assert_eq!((error.code(), error.field()), ("implausible-angular-rate", "angular_rate"));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_clipped_gyroscope_is_refused() {
        for limit in [0.5, 1.5] {
            let error = refusal(|walk| each(walk, |_, value| value.clamp(-limit, limit))).unwrap();
            assert_eq!((error.code(), error.field()), ("clipped-sensor", "angular_rate"));
        }
    }

    #[test]
    fn a_sensor_that_is_read_faster_than_it_measures_is_refused() {
        for every in [5, 10] {
            let held = refusal(|walk| {
                let samples = walk.acceleration.clone();
                for (at, sample) in walk.acceleration.iter_mut().enumerate() {
                    *sample = samples[at - at % every];
                }
            });
            let error = held.unwrap();
            assert_eq!((error.code(), error.field()), ("slow-sensor", "acceleration"));
            let rate = format!("{:.1} times a second", 50.0 / every as f32);
            assert!(error.to_string().contains(&rate), "{error}");
        }
        let error = refusal(|walk| each(walk, |_, _| 1.0)).unwrap();
        assert_eq!((error.code(), error.field()), ("slow-sensor", "angular_rate"));
    }

    proptest! {
        #[test]
        fn clipped_samples_have_equal_extremes_beside_them(
            steps in prop::collection::vec(prop::array::uniform3(-2..=2i8), 1..40),
            least in 0..3u8,
        ) {
            let samples: Vec<[f32; 3]> =
                steps.iter().map(|sample| sample.map(f32::from)).collect();
            let of = |axis: usize| steps.iter().map(move |sample| sample[axis]);
            let is_clipped = |at: usize, axis: usize| {
                let value = steps[at][axis];
                let (largest, smallest) = (of(axis).max().unwrap(), of(axis).min().unwrap());
                let is_equal = |other: usize| steps.get(other).is_some_and(|it| it[axis] == value);
                let before = (1..=at).take_while(|back| is_equal(at - back)).count();
                let after = (at + 1..).take_while(|&next| is_equal(next)).count();
                smallest < largest
                    && [largest, smallest].contains(&value)
                    && value.unsigned_abs() >= least
                    && before + 1 + after >= CLIP_RUN
            };
            let expected: Vec<bool> =
                (0..steps.len()).map(|at| (0..3).any(|axis| is_clipped(at, axis))).collect();
            prop_assert_eq!(clipped(&samples, f32::from(least)), expected);
        }
    }
}

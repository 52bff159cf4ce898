//! Recordings as small CBOR documents.

use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::data::Tag;
use minicbor::encode;

use super::document::{LEAST_RATE_HZ, checked_scale};
use super::resample::LONGEST_GAP_SECONDS;
use super::{Recipe, Recording, Signal, SignalError};

/// Times count as even within this, so that they may be rounded to milliseconds.
const EVEN_WITHIN_SECONDS: f64 = 0.001;

/// Steps may be this many times coarser, if a value then needs one byte instead of two.
const COARSEST_STEPS: f32 = 4.0;

/// Tags of RFC 8746.
const COLUMN_MAJOR: u64 = 1040;
const SINT8: u64 = 72;
const SINT16_LITTLE_ENDIAN: u64 = 77;
const FLOAT32_LITTLE_ENDIAN: u64 = 85;
const FLOAT64_LITTLE_ENDIAN: u64 = 86;

/// Precision of [`compact`]. The default is enough to identify a walker (`examples/wire_bytes.rs`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Sample rate. Faster or uneven sampling is resampled to it; slower even sampling is kept.
    pub rate_hz: f64,
    /// Acceleration is rounded to multiples of this step, or of a step up to four times as large if one
    /// byte per value is then enough.
    pub acceleration_step_m_s2: f32,
    /// Step of the angular rate, used in the same way.
    pub angular_rate_step_rad_s: f32,
}

impl Default for Precision {
    fn default() -> Self {
        Self {
            rate_hz: Recipe::BIPEDALNET.rate_hz,
            acceleration_step_m_s2: 0.25,
            angular_rate_step_rad_s: 0.05,
        }
    }
}

/// A [`RecordingDocument`](super::RecordingDocument) in CBOR, as small as the precision allows: evenly
/// sampled, with one or two bytes per value, axis by axis.
///
/// # Errors
/// If a step is not positive, or uneven samples cannot be resampled, because there are too few, they
/// have a gap, or gravity is missing.
pub fn compact(recording: &Recording, precision: &Precision) -> Result<Vec<u8>, SignalError> {
    let steps = [
        checked_scale("acceleration_scale", Some(precision.acceleration_step_m_s2))?,
        checked_scale("angular_rate_scale", Some(precision.angular_rate_step_rad_s))?,
    ];
    if precision.rate_hz < LEAST_RATE_HZ {
        return Err(SignalError::InvalidRate { rate_hz: precision.rate_hz });
    }
    let rate_hz = recording.rate_hz() as f32;
    if is_even(recording)
        && f64::from(rate_hz) >= LEAST_RATE_HZ
        && rate_hz <= precision.rate_hz as f32
    {
        let sensors = (recording.acceleration_m_s2(), recording.angular_rate_rad_s());
        return Ok(document(Time::Rate(rate_hz), sensors, Some(steps)));
    }
    let recipe = Recipe { rate_hz: precision.rate_hz, samples: 2, ..Recipe::BIPEDALNET };
    let signal = Signal::new(recording, &recipe)?;
    // After resampling, a gap would look like movement.
    if let Some(index) = signal.gap_seconds.iter().position(|&gap| gap > 0.0) {
        return Err(SignalError::Gap {
            gap_seconds: signal.gap_seconds[index].into(),
            at_seconds: index as f64 / signal.rate_hz,
            allowed_seconds: LONGEST_GAP_SECONDS,
        });
    }
    let sensors = (&signal.acceleration_m_s2[..], signal.angular_rate_rad_s.as_deref());
    Ok(document(Time::Rate(signal.rate_hz as f32), sensors, Some(steps)))
}

/// A [`RecordingDocument`](super::RecordingDocument) in CBOR that keeps every bit of the recording.
pub fn exact(recording: &Recording) -> Vec<u8> {
    let sensors = (recording.acceleration_m_s2(), recording.angular_rate_rad_s());
    document(Time::Stamps(recording.time_seconds()), sensors, None)
}

fn is_even(recording: &Recording) -> bool {
    let (times, rate_hz) = (recording.time_seconds(), recording.rate_hz());
    times.iter().enumerate().all(|(index, time)| {
        (time - times[0] - index as f64 / rate_hz).abs() <= EVEN_WITHIN_SECONDS
    })
}

enum Time<'a> {
    Rate(f32),
    Stamps(&'a [f64]),
}

type Encoded = Result<(), encode::Error<Infallible>>;

/// Encodes acceleration and angular rate in these steps or, without steps, unchanged.
fn document(
    time: Time,
    (acceleration, angular_rate): (&[[f32; 3]], Option<&[[f32; 3]]>),
    steps: Option<[f32; 2]>,
) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let mut encode = || -> Encoded {
        encoder.begin_map()?;
        match time {
            Time::Rate(rate_hz) => encoder.str("rate_hz")?.f32(rate_hz)?,
            Time::Stamps(times) => {
                let bytes: Vec<u8> = times.iter().flat_map(|time| time.to_le_bytes()).collect();
                let tag = Tag::new(FLOAT64_LITTLE_ENDIAN);
                encoder.str("time_seconds")?.tag(tag)?.bytes(&bytes)?
            }
        };
        encode_axes(&mut encoder, "acceleration", acceleration, steps.map(|steps| steps[0]))?;
        if let Some(rates) = angular_rate {
            encode_axes(&mut encoder, "angular_rate", rates, steps.map(|steps| steps[1]))?;
        }
        encoder.end()?;
        Ok(())
    };
    encode().expect("writing to a Vec does not fail");
    encoder.into_writer()
}

/// The values of one axis are contiguous, because similar values compress well.
fn encode_axes(
    encoder: &mut Encoder<Vec<u8>>,
    name: &str,
    samples: &[[f32; 3]],
    step: Option<f32>,
) -> Encoded {
    let columns = (0..3).flat_map(|axis| samples.iter().map(move |sample| sample[axis]));
    let largest = columns.clone().map(f32::abs).fold(0.0, f32::max);
    let byte_step = largest / f32::from(i8::MAX);
    let step = step.map(|step| match byte_step <= step * COARSEST_STEPS {
        true => step.max(byte_step),
        false => step,
    });
    let whole = |value: f32| step.map_or(f32::INFINITY, |step| (value / step).round());
    let (tag, bytes): (u64, Vec<u8>) = if whole(largest) <= f32::from(i8::MAX) {
        (SINT8, columns.map(|value| whole(value) as i8 as u8).collect())
    } else if whole(largest) <= f32::from(i16::MAX) {
        let bytes = columns.flat_map(|value| (whole(value) as i16).to_le_bytes());
        (SINT16_LITTLE_ENDIAN, bytes.collect())
    } else {
        (FLOAT32_LITTLE_ENDIAN, columns.flat_map(f32::to_le_bytes).collect())
    };
    if let Some(step) = step.filter(|_| tag != FLOAT32_LITTLE_ENDIAN) {
        encoder.str(&format!("{name}_scale"))?.f32(step)?;
    }
    encoder.str(name)?.tag(Tag::new(COLUMN_MAJOR))?.array(2)?;
    encoder.array(2)?.u64(samples.len() as u64)?.u8(3)?;
    encoder.tag(Tag::new(tag))?.bytes(&bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::gait::simulator::{Conditions, Walker};
    use crate::{
        cbor,
        gait::{RecordingDocument, cut_windows},
    };

    fn decoded(bytes: &[u8]) -> Recording {
        cbor::from_slice::<RecordingDocument>(bytes).unwrap().try_into().unwrap()
    }

    fn walk(conditions: Conditions) -> Recording {
        Walker::new(1).walk(2, &conditions)
    }

    #[test]
    fn ten_seconds_fit_into_3000_bytes() {
        let walk = walk(Conditions { seconds: 10.0, ..Conditions::default() });
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&compact(&walk, &Precision::default()).unwrap()).unwrap();
        let bytes = gzip.finish().unwrap().len();
        assert!(bytes <= 3000, "{bytes}");
    }

    #[test]
    fn uneven_or_fast_sampling_is_resampled_as_for_windows() {
        let fine = Precision {
            acceleration_step_m_s2: 1e-3,
            angular_rate_step_rad_s: 1e-3,
            ..Precision::default()
        };
        for rate_hz in [30.0, 50.0, 100.0] {
            let walk = walk(Conditions { rate_hz, seconds: 10.0, ..Conditions::default() });
            let sent = decoded(&compact(&walk, &fine).unwrap());
            assert!((sent.rate_hz() - 50.0).abs() < 1e-3, "{}", sent.rate_hz());
            let cut = |walk| cut_windows(walk, &Recipe::BIPEDALNET, 50).unwrap().windows;
            let (windows, originals) = (cut(&sent), cut(&walk));
            assert_eq!(windows.len(), originals.len());
            for (window, original) in windows.iter().zip(&originals) {
                let pairs = window.values.iter().zip(&original.values);
                let furthest = pairs.map(|(a, b)| a.abs_diff(*b)).max();
                assert!(furthest < Some(10), "{rate_hz} Hz: {furthest:?}");
            }
        }
    }

    #[test]
    fn slow_even_sampling_is_kept() {
        for (rate_hz, sent_hz) in [(20.0, 20.0), (50.0, 50.0), (80.0, 50.0)] {
            let times: Vec<f64> = (0..400)
                .map(|index| 7e8 + (f64::from(index) / rate_hz * 1e3).round() / 1e3)
                .collect();
            let walk = Recording::new(times, vec![[0.1, 0.2, 9.8]; 400], None).unwrap();
            let sent = decoded(&compact(&walk, &Precision::default()).unwrap());
            assert!((sent.rate_hz() - sent_hz).abs() < 0.01, "{rate_hz}: {}", sent.rate_hz());
            assert!((sent.duration_seconds() - walk.duration_seconds()).abs() < 0.03);
        }
    }

    #[test]
    fn unusable_steps_and_recordings_are_rejected() {
        let walk = walk(Conditions { seconds: 10.0, ..Conditions::default() });
        for step in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let wrong = Precision { angular_rate_step_rad_s: step, ..Precision::default() };
            assert_eq!(compact(&walk, &wrong).unwrap_err().code(), "invalid-scale");
        }
        let times = (0..400).map(|index| f64::from(index + index / 200 * 50) / 50.0).collect();
        let holed = Recording::new(times, vec![[0.0, 0.0, 9.8]; 400], None).unwrap();
        let error = compact(&holed, &Precision::default()).unwrap_err();
        assert_eq!((error.code(), error.field()), ("missing-samples", "time_seconds"));
        let single = Recording::new(vec![0.0], vec![[0.0, 0.0, 9.8]], None).unwrap();
        assert_eq!(compact(&single, &Precision::default()).unwrap_err().code(), "too-short");
    }

    proptest! {
        #[test]
        fn no_value_changes_by_more_than_half_a_step(
            step in 1e-3..1.0f32,
            range in prop::sample::select(vec![0.5f32, 30.0, 500.0, 1e6]),
            samples in prop::collection::vec(prop::array::uniform3(-1.0..1.0f32), 2..80),
        ) {
            let samples: Vec<_> = samples.iter().map(|s| s.map(|value| value * range)).collect();
            let largest = samples.iter().flatten().map(|value| value.abs()).fold(0.0, f32::max);
            let times = (0..samples.len()).map(|index| index as f64 / 50.0).collect();
            let walk = Recording::new(times, samples.clone(), Some(samples)).unwrap();
            let precision = Precision { acceleration_step_m_s2: step, angular_rate_step_rad_s: step, ..Precision::default() };
            let sent = decoded(&compact(&walk, &precision).unwrap());
            let step_taken = if largest <= 127.0 * 4.0 * step { step.max(largest / 127.0) } else { step };
            let bound = step_taken * 0.5 + largest * 1e-6;
            for (sent, original) in [
                (Some(sent.acceleration_m_s2()), Some(walk.acceleration_m_s2())),
                (sent.angular_rate_rad_s(), walk.angular_rate_rad_s()),
            ] {
                let (sent, original) = (sent.unwrap().as_flattened(), original.unwrap().as_flattened());
                prop_assert_eq!(sent.len(), original.len());
                for (sent, original) in sent.iter().zip(original) {
                    prop_assert!((sent - original).abs() <= bound, "{sent} {original}");
                }
            }
        }

        #[test]
        fn the_exact_form_keeps_every_bit(
            samples in prop::collection::vec((1e-6..1e3f64, prop::array::uniform6(-1e9..1e9f32)), 1..50),
            gyroscope: bool,
        ) {
            let mut time = -1e9;
            let times = samples.iter().map(|(step, _)| { time += step; time }).collect();
            let axes = |first: usize| -> Vec<[f32; 3]> {
                samples.iter().map(|(_, v)| [v[first], v[first + 1], v[first + 2]]).collect()
            };
            let walk = Recording::new(times, axes(0), gyroscope.then(|| axes(3))).unwrap();
            prop_assert_eq!(decoded(&exact(&walk)), walk);
        }
    }
}

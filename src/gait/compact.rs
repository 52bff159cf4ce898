//! Recordings as small CBOR documents.

use std::convert::Infallible;

use minicbor::Encoder;
use minicbor::data::Tag;
use minicbor::encode;

use super::recording::checked_scale;
use super::resample::LONGEST_GAP_SECONDS;
use super::{Recipe, Recording, Signal, SignalError};

/// Times that are rounded to milliseconds are still even.
const EVEN_WITHIN_SECONDS: f64 = 0.001;

/// So much coarser steps are taken where a value then needs one byte instead of two.
const COARSEST_STEPS: f32 = 4.0;

/// Tags of RFC 8746.
const COLUMN_MAJOR: u64 = 1040;
const SINT8: u64 = 72;
const SINT16_LITTLE_ENDIAN: u64 = 77;
const FLOAT32_LITTLE_ENDIAN: u64 = 85;
const FLOAT64_LITTLE_ENDIAN: u64 = 86;

/// How finely [`compact`] keeps a recording. The default is enough to know a walker by
/// (`examples/wire_bytes.rs`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Samples a second. Faster and uneven sampling is brought to it, slower kept.
    pub rate_hz: f64,
    /// Acceleration is rounded to whole steps of this, or of up to four times this where a byte
    /// a value is then enough.
    pub acceleration_step_m_s2: f32,
    /// Angular rate is rounded to whole steps, in the same way.
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

/// A [`RecordingDocument`](super::RecordingDocument) in CBOR that is as small as the precision
/// allows: evenly sampled, one byte a value or two, each axis in one piece.
///
/// # Errors
/// When a step is not a positive number, or uneven samples cannot be resampled: too few, too far
/// apart, or without gravity.
pub fn compact(recording: &Recording, precision: &Precision) -> Result<Vec<u8>, SignalError> {
    let steps = [
        checked_scale("acceleration_scale", Some(precision.acceleration_step_m_s2))?,
        checked_scale("angular_rate_scale", Some(precision.angular_rate_step_rad_s))?,
    ];
    let rate_hz = recording.rate_hz() as f32;
    if is_even(recording) && rate_hz <= precision.rate_hz as f32 {
        let sensors = (recording.acceleration_m_s2(), recording.angular_rate_rad_s());
        return Ok(document(Time::Rate(rate_hz), sensors, Some(steps)));
    }
    let recipe = Recipe { rate_hz: precision.rate_hz, samples: 2 };
    let signal = Signal::new(recording, &recipe)?;
    // Resampled, a hole would pass for a movement.
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

/// A [`RecordingDocument`](super::RecordingDocument) in CBOR that gives the same recording back,
/// bit by bit.
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

/// Acceleration and angular rate in steps of these or, without any, as they are.
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
    encode().expect("a Vec takes all that is written");
    encoder.into_writer()
}

/// An axis's values lie side by side: they are alike, and compress.
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

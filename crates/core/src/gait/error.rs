//! Errors of recordings.

use super::{gravity, sensor};

/// Why a recording cannot be used. A message says what was seen, what is needed and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SignalError {
    /// There are no samples.
    #[error("the recording has no samples; send a few seconds of walking")]
    Empty,
    /// A list is longer or shorter than the acceleration.
    #[error("{field} has {length} entries, but acceleration has {samples}; send one per sample")]
    LengthMismatch {
        /// Name of the list.
        field: &'static str,
        /// Its length.
        length: usize,
        /// Samples of acceleration.
        samples: usize,
    },
    /// A value is NaN or infinity.
    #[error("{field}[{index}] is not a finite number; remove this sample from all lists")]
    NonFinite {
        /// Name of the list.
        field: &'static str,
        /// Position in it.
        index: usize,
    },
    /// Time stands still or runs backward.
    #[error(
        "time_seconds[{index}] is {time_seconds}, but the time before it is {previous_seconds}; sort the samples by time. If the clock was set back, use one that only rises, such as the sensor's own"
    )]
    BackwardTime {
        /// Position of the later sample.
        index: usize,
        /// Time of the sample before.
        previous_seconds: f64,
        /// Time of the sample.
        time_seconds: f64,
    },
    /// The unit of the times is not the second.
    #[error(
        "time_seconds rises by {interval} from sample to sample, as if in {unit} at {rate_hz:.0} Hz; send seconds"
    )]
    TimeUnits {
        /// Median difference of neighbouring times.
        interval: f64,
        /// The unit that it looks like.
        unit: &'static str,
        /// Sample rate in that unit.
        rate_hz: f64,
    },
    /// Many samples have the same time.
    #[error("{percent:.0} % of the samples have the time of the sample before, {}", rounding(*step_seconds, *rate_hz))]
    RoundedTimes {
        /// Share of samples with the time of the sample before.
        percent: f32,
        /// Median difference of different times; 0 if all are the same.
        step_seconds: f64,
        /// Mean sample rate; 0 if all times are the same.
        rate_hz: f64,
    },
    /// Times are those at which samples arrived in batches.
    #[error(
        "samples arrive in batches of about {samples} every {gap_seconds:.2} s; send the times at which the sensor took them, from its events, or instead of them rate_hz, which is about {rate_hz:.1}, if the sampling is even"
    )]
    BatchedTimes {
        /// Samples of a batch.
        samples: usize,
        /// Time between batches.
        gap_seconds: f64,
        /// Mean sample rate.
        rate_hz: f64,
    },
    /// `rate_hz` is not a number of at least 1.
    #[error("rate_hz is {rate_hz}; expected the number of samples per second, at least 20")]
    InvalidRate {
        /// The value given.
        rate_hz: f64,
    },
    /// A scale is not a positive number.
    #[error("{field} is {scale}; expected a number above 0. Omit it if the values need no scale")]
    InvalidScale {
        /// Name of the scale.
        field: &'static str,
        /// The value given.
        scale: f32,
    },
    /// Both or neither of `time_seconds` and `rate_hz` are given.
    #[error("send either time_seconds or rate_hz, not both")]
    AmbiguousTime,
    /// The sample rate is too low to show steps.
    #[error("the sample rate is {rate_hz:.1} Hz; record at {needed_hz:.0} Hz or more")]
    RateTooLow {
        /// Mean rate seen.
        rate_hz: f64,
        /// Least rate.
        needed_hz: f64,
    },
    /// The recording is shorter than one window.
    #[error("the recording lasts {seconds:.2} s; send at least {needed_seconds:.2} s of walking")]
    TooShort {
        /// Length seen.
        seconds: f64,
        /// Least length.
        needed_seconds: f64,
    },
    /// Gravity is far from 9.8 m/s^2.
    #[error("acceleration has a mean of {mean_m_s2:.4} m/s^2; expected gravity, about 9.8. {}", gravity::advice(*mean_m_s2, *sent))]
    GravityUnits {
        /// Length of the mean over two seconds.
        mean_m_s2: f32,
        /// The same in values as they were sent.
        sent: f32,
    },
    /// Gravity is missing.
    #[error(
        "acceleration has a mean of {mean_m_s2:.2} around which it moves by {movement_m_s2:.2}: gravity is missing. Send raw acceleration that includes gravity, not linear acceleration"
    )]
    ImplausibleGravity {
        /// Length of the mean over two seconds.
        mean_m_s2: f32,
        /// Standard deviation.
        movement_m_s2: f32,
    },
    /// Angular rates are too large or too small for walking.
    #[error("angular_rate has a root mean square of {rms_rad_s:.4} rad/s; walking has 0.4 to 6. {}", sensor::advice(*sent))]
    ImplausibleAngularRate {
        /// Root mean square over a window.
        rms_rad_s: f32,
        /// The same in values as they were sent.
        sent: f32,
    },
    /// A sensor is slower than the recording.
    #[error(
        "{field} changes only {rate_hz:.1} times a second, {needed_hz:.0} are needed: the sensor is slower than it is read. {}",
        faster(field)
    )]
    SlowSensor {
        /// Name of the list.
        field: &'static str,
        /// Changes per second.
        rate_hz: f64,
        /// Fewest changes per second.
        needed_hz: f64,
    },
    /// Samples are missing.
    #[error(
        "no samples for {gap_seconds:.2} s at {at_seconds:.2} s; the longest allowed gap is {allowed_seconds:.2} s. Record without interruptions"
    )]
    Gap {
        /// Length of the gap.
        gap_seconds: f64,
        /// Where it starts, from the first sample.
        at_seconds: f64,
        /// Longest gap that is interpolated.
        allowed_seconds: f64,
    },
    /// An axis never changes.
    #[error("the {axis} axis of {field} is always {value}: the sensor is stuck. {}", remedy(field))]
    FlatSensor {
        /// Name of the list.
        field: &'static str,
        /// x, y or z.
        axis: char,
        /// The value it stays at.
        value: f32,
    },
    /// The sensor's range is too small for the movement.
    #[error(
        "{field} is at the end of its range in {percent:.0} % of the samples; {}",
        wider(field)
    )]
    ClippedSensor {
        /// Name of the list.
        field: &'static str,
        /// Share of clipped samples.
        percent: f32,
    },
    /// The phone hardly moves.
    #[error(
        "the magnitude of acceleration varies by {deviation_m_s2:.2} m/s^2, as in standing still; walking varies by {needed_m_s2:.1} or more"
    )]
    StandingStill {
        /// Standard deviation of the magnitude.
        deviation_m_s2: f32,
        /// Least deviation.
        needed_m_s2: f32,
    },
    /// The movement is too fast or too strong for walking.
    #[error(
        "movement repeats {repeats_hz:.1} times a second at {rms_m_s2:.1} m/s^2, as in shaking; walking stays below {allowed_hz:.1} a second and {allowed_m_s2:.0} m/s^2. Keep the phone in the pocket"
    )]
    Shaking {
        /// Strongest repetition seen.
        repeats_hz: f32,
        /// Root mean square of the movement.
        rms_m_s2: f32,
        /// Fastest step.
        allowed_hz: f32,
        /// Strongest walk.
        allowed_m_s2: f32,
    },
    /// The movement has no rhythm.
    #[error(
        "movement does not repeat from step to step (correlation {correlation:.2}); steady walking gives {needed:.2} or more"
    )]
    NoSteps {
        /// Highest correlation of the movement with itself one step or stride later.
        correlation: f32,
        /// Least correlation.
        needed: f32,
    },
}

fn remedy(field: &str) -> &'static str {
    match field {
        "angular_rate" => "Restart it, or omit angular_rate",
        _ => "Restart it",
    }
}

fn wider(field: &str) -> &'static str {
    match field {
        "angular_rate" => {
            "choose a larger range or a larger angular_rate_scale, or leave angular_rate out"
        }
        _ => "choose a range of +-4 g or more, and a scale that can express it",
    }
}

fn faster(field: &str) -> &'static str {
    match field {
        "angular_rate" => "Ask the system for a higher rate, or leave angular_rate out",
        _ => "Ask the system for a rate of 20 Hz or more, and record each of its events once",
    }
}

fn rounding(step_seconds: f64, rate_hz: f64) -> String {
    let step_seconds = (step_seconds * 1e3).round() / 1e3;
    match rate_hz {
        0.0 => "as if rounded; send times with milliseconds".to_owned(),
        _ => format!(
            "as if rounded to {step_seconds} s, or as samples that arrive in groups; send times with \
             milliseconds or, if the sampling is even, set rate_hz to {rate_hz:.1} instead"
        ),
    }
}

impl SignalError {
    /// A short name for programs. It never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty-recording",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::NonFinite { .. } => "non-finite-value",
            Self::BackwardTime { .. } => "backward-time",
            Self::TimeUnits { .. } => "time-units",
            Self::RoundedTimes { .. } => "rounded-times",
            Self::BatchedTimes { .. } => "batched-times",
            Self::InvalidRate { .. } => "invalid-rate",
            Self::InvalidScale { .. } => "invalid-scale",
            Self::AmbiguousTime => "ambiguous-time",
            Self::RateTooLow { .. } => "rate-too-low",
            Self::TooShort { .. } => "too-short",
            Self::GravityUnits { .. } => "gravity-units",
            Self::ImplausibleGravity { .. } => "implausible-gravity",
            Self::ImplausibleAngularRate { .. } => "implausible-angular-rate",
            Self::SlowSensor { .. } => "slow-sensor",
            Self::Gap { .. } => "missing-samples",
            Self::FlatSensor { .. } => "flat-sensor",
            Self::ClippedSensor { .. } => "clipped-sensor",
            Self::StandingStill { .. } => "standing-still",
            Self::Shaking { .. } => "shaking",
            Self::NoSteps { .. } => "no-steps",
        }
    }

    /// The field of a [`RecordingDocument`](super::RecordingDocument) to correct.
    pub fn field(&self) -> &'static str {
        match self {
            Self::LengthMismatch { field, .. }
            | Self::NonFinite { field, .. }
            | Self::InvalidScale { field, .. }
            | Self::FlatSensor { field, .. }
            | Self::ClippedSensor { field, .. }
            | Self::SlowSensor { field, .. } => field,
            Self::BackwardTime { .. }
            | Self::TimeUnits { .. }
            | Self::RoundedTimes { .. }
            | Self::BatchedTimes { .. }
            | Self::AmbiguousTime
            | Self::RateTooLow { .. }
            | Self::Gap { .. } => "time_seconds",
            Self::InvalidRate { .. } => "rate_hz",
            Self::GravityUnits { .. } => "acceleration_unit",
            Self::ImplausibleAngularRate { .. } => "angular_rate",
            Self::Empty
            | Self::TooShort { .. }
            | Self::ImplausibleGravity { .. }
            | Self::StandingStill { .. }
            | Self::Shaking { .. }
            | Self::NoSteps { .. } => "acceleration",
        }
    }
}

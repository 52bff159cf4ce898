//! Why a recording cannot be used.

/// What is wrong with a recording: what was seen, where, and what is needed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SignalError {
    /// No sample at all.
    #[error("the recording has no sample; send a few seconds of walking")]
    Empty,
    /// A list is longer or shorter than the acceleration.
    #[error("{field} has {length} entries for {samples} samples of acceleration; send one each")]
    LengthMismatch {
        /// The list at fault.
        field: &'static str,
        /// Its length.
        length: usize,
        /// Samples of acceleration.
        samples: usize,
    },
    /// NaN or infinity.
    #[error("{field}[{index}] is not a finite number; leave broken samples out")]
    NonFinite {
        /// The list at fault.
        field: &'static str,
        /// Position in it.
        index: usize,
    },
    /// Time stands still or runs backward.
    #[error(
        "time_seconds[{index}] is {time_seconds} after {previous_seconds}; sort the samples by time and drop repeated ones"
    )]
    BackwardTime {
        /// Position of the later sample.
        index: usize,
        /// Time of the sample before.
        previous_seconds: f64,
        /// Time of the sample.
        time_seconds: f64,
    },
    /// `rate_hz` is not a positive number.
    #[error("rate_hz is {rate_hz}; give the samples a second, 20 or more")]
    InvalidRate {
        /// The value given.
        rate_hz: f64,
    },
    /// A scale is not a positive number.
    #[error("{field} is {scale}; give what 1 in the list stands for, or leave it out")]
    InvalidScale {
        /// The scale at fault.
        field: &'static str,
        /// The value given.
        scale: f32,
    },
    /// Both or neither of `time_seconds` and `rate_hz`.
    #[error("give either time_seconds or rate_hz, and not both")]
    AmbiguousTime,
    /// Sampled too slowly to see a step.
    #[error("{rate_hz:.1} samples a second are too few; record at {needed_hz:.0} Hz or more")]
    RateTooLow {
        /// Mean rate seen.
        rate_hz: f64,
        /// Least rate.
        needed_hz: f64,
    },
    /// Shorter than one window.
    #[error("{seconds:.2} s are too short; {needed_seconds:.2} s of walking are needed")]
    TooShort {
        /// Length seen.
        seconds: f64,
        /// Least length.
        needed_seconds: f64,
    },
    /// Gravity reads about 1: the values are in g.
    #[error(
        "the acceleration's median magnitude is {median:.2}, as if in g; gravity should read about 9.8 m/s^2: give the unit as g, or convert"
    )]
    GravityUnits {
        /// Median magnitude seen, in the unit claimed.
        median: f32,
    },
    /// Gravity is not there, or far from 9.8 m/s^2.
    #[error(
        "the acceleration's median magnitude is {median_m_s2:.2} m/s^2; gravity should read about 9.8: send raw acceleration with gravity, not linear acceleration, from a calibrated sensor"
    )]
    ImplausibleGravity {
        /// Median magnitude seen.
        median_m_s2: f32,
    },
    /// Samples are missing.
    #[error(
        "no sample for {gap_seconds:.2} s at {at_seconds:.2} s; at most {allowed_seconds:.2} s may be missing"
    )]
    Gap {
        /// Length of the hole.
        gap_seconds: f64,
        /// Where it starts, from the first sample.
        at_seconds: f64,
        /// Longest hole that is bridged.
        allowed_seconds: f64,
    },
    /// An axis never changes.
    #[error("{field} {axis} stays at {value}: the sensor is stuck; {}", remedy(field))]
    FlatSensor {
        /// The list at fault.
        field: &'static str,
        /// x, y or z.
        axis: char,
        /// The value it stays at.
        value: f32,
    },
    /// The sensor's range is too small for the movement.
    #[error(
        "acceleration sits at its extreme for {percent:.0} % of the samples; choose a wider sensor range, +-4 g or more"
    )]
    ClippedSensor {
        /// Share of clipped samples.
        percent: f32,
    },
    /// Hardly any movement.
    #[error(
        "the acceleration's magnitude varies by {deviation_m_s2:.2} m/s^2 as in standing still; walking gives {needed_m_s2:.1} or more"
    )]
    StandingStill {
        /// Standard deviation of the magnitude.
        deviation_m_s2: f32,
        /// Least deviation.
        needed_m_s2: f32,
    },
    /// Movement too fast or too strong for a walk.
    #[error(
        "movement repeats {repeats_hz:.1} times a second at {rms_m_s2:.1} m/s^2, as in shaking; walking is below {allowed_hz:.1} a second and {allowed_m_s2:.0} m/s^2: keep the phone in the pocket"
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
    /// Movement without a rhythm.
    #[error(
        "movement does not repeat from step to step (correlation {correlation:.2}); a steady walk gives {needed:.2} or more"
    )]
    NoSteps {
        /// Strongest correlation of the movement with itself a step or stride later.
        correlation: f32,
        /// Least correlation.
        needed: f32,
    },
}

/// What to do about a stuck sensor.
fn remedy(field: &str) -> &'static str {
    match field {
        "angular_rate" => "restart it, or leave angular_rate out",
        _ => "restart it",
    }
}

impl SignalError {
    /// A short name that never changes, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty-recording",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::NonFinite { .. } => "non-finite-value",
            Self::BackwardTime { .. } => "backward-time",
            Self::InvalidRate { .. } => "invalid-rate",
            Self::InvalidScale { .. } => "invalid-scale",
            Self::AmbiguousTime => "ambiguous-time",
            Self::RateTooLow { .. } => "rate-too-low",
            Self::TooShort { .. } => "too-short",
            Self::GravityUnits { .. } => "gravity-units",
            Self::ImplausibleGravity { .. } => "implausible-gravity",
            Self::Gap { .. } => "missing-samples",
            Self::FlatSensor { .. } => "flat-sensor",
            Self::ClippedSensor { .. } => "clipped-sensor",
            Self::StandingStill { .. } => "standing-still",
            Self::Shaking { .. } => "shaking",
            Self::NoSteps { .. } => "no-steps",
        }
    }

    /// The field of a [`RecordingDocument`](super::RecordingDocument) that is at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::LengthMismatch { field, .. }
            | Self::NonFinite { field, .. }
            | Self::InvalidScale { field, .. }
            | Self::FlatSensor { field, .. } => field,
            Self::BackwardTime { .. }
            | Self::AmbiguousTime
            | Self::RateTooLow { .. }
            | Self::Gap { .. } => "time_seconds",
            Self::InvalidRate { .. } => "rate_hz",
            Self::GravityUnits { .. } => "acceleration_unit",
            Self::Empty
            | Self::TooShort { .. }
            | Self::ImplausibleGravity { .. }
            | Self::ClippedSensor { .. }
            | Self::StandingStill { .. }
            | Self::Shaking { .. }
            | Self::NoSteps { .. } => "acceleration",
        }
    }
}

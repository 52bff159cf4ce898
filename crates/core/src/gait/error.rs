//! Errors of recordings.

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
        "time_seconds[{index}] is {time_seconds}, but the time before it is {previous_seconds}; sort the samples by time and remove duplicates"
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
    /// Gravity reads about 1: the values are in g.
    #[error(
        "acceleration has a median magnitude of {median:.2}; expected about 9.8 m/s^2. If the unit is g, set acceleration_unit to \"g\""
    )]
    GravityUnits {
        /// Median magnitude seen, in the unit claimed.
        median: f32,
    },
    /// Gravity is missing, or far from 9.8 m/s^2.
    #[error(
        "acceleration has a median magnitude of {median_m_s2:.2} m/s^2; expected about 9.8. Send raw acceleration that includes gravity, not linear acceleration"
    )]
    ImplausibleGravity {
        /// Median magnitude seen.
        median_m_s2: f32,
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
        "acceleration is at the end of the sensor's range in {percent:.0} % of the samples; choose a range of +-4 g or more"
    )]
    ClippedSensor {
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

impl SignalError {
    /// A short name for programs. It never changes.
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

    /// The field of a [`RecordingDocument`](super::RecordingDocument) to correct.
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

//! Windows: what a network reads.

/// Rows of a window: forward, lateral, vertical and magnitude, of acceleration and angular rate.
pub const WINDOW_ROWS: usize = 8;

/// Windows are fixed point: a value of 1.0 is `1 << WINDOW_FRACTION_BITS`.
pub const WINDOW_FRACTION_BITS: u32 = 10;

/// One network input: [`WINDOW_ROWS`] rows of as many samples as the recipe says, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When it starts, counted from the recording's first sample.
    pub start_seconds: f64,
    /// Fixed-point values, row by row.
    pub values: Vec<i16>,
}

/// Why a recording, or a part of it, is not a walk that can be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SignalError {
    /// No sample at all.
    #[error("the recording has no sample; send at least 2.5 seconds of walking")]
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
        "time_seconds[{index}] is {time_seconds} after {previous_seconds}; sort samples by time and drop repeated ones"
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
    #[error("rate_hz is {rate_hz}; give the samples a second, 20 to 200")]
    InvalidRate {
        /// The value sent.
        rate_hz: f64,
    },
    /// Both or neither of `time_seconds` and `rate_hz`.
    #[error("give either time_seconds or rate_hz, and not both")]
    AmbiguousTime,
}

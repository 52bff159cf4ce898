//! Recordings: raw samples, checked and in SI units.

use super::SignalError;
use super::clock::{Clock, Mend, drop_at};

/// Standard gravity in m/s^2 (ISO 80000-3).
pub const STANDARD_GRAVITY_M_S2: f32 = 9.80665;

/// Lowest mean rate. Sensors that promise 20 Hz deliver a little less.
const LEAST_RATE_HZ: f64 = 18.0;

/// Raw samples of one phone, with three axes and the time of each sample.
///
/// [`Recording::new`] guarantees that values are finite and that times rise strictly.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    time_seconds: Vec<f64>,
    acceleration_m_s2: Vec<[f32; 3]>,
    angular_rate_rad_s: Option<Vec<[f32; 3]>>,
    /// For each pause that was shortened, the samples before it and its true length.
    pauses: Vec<(usize, f64)>,
    mends: Vec<Mend>,
    units: [f32; 2],
}

impl Recording {
    /// A recording in SI units.
    ///
    /// Acceleration includes gravity: about +9.8 on an axis that points up, as on Android. The opposite
    /// sign mirrors the walker: see [`AtRest`](super::AtRest).
    ///
    /// Mends stale first samples, a few repeated times, and pauses ([`Recording::mends`]).
    ///
    /// # Errors
    /// If there are no samples, lengths differ, a value is not finite, time runs backward, or times are
    /// not those at which the samples were taken, in seconds.
    pub fn new(
        time_seconds: Vec<f64>,
        mut acceleration_m_s2: Vec<[f32; 3]>,
        mut angular_rate_rad_s: Option<Vec<[f32; 3]>>,
    ) -> Result<Self, SignalError> {
        let samples = acceleration_m_s2.len();
        if samples == 0 {
            return Err(SignalError::Empty);
        }
        if time_seconds.len() != samples {
            return Err(SignalError::LengthMismatch {
                field: "time_seconds",
                length: time_seconds.len(),
                samples,
            });
        }
        if let Some(rates) = &angular_rate_rad_s
            && rates.len() != samples
        {
            return Err(SignalError::LengthMismatch {
                field: "angular_rate",
                length: rates.len(),
                samples,
            });
        }
        if let Some(index) = time_seconds.iter().position(|time| !time.is_finite()) {
            return Err(SignalError::NonFinite { field: "time_seconds", index });
        }
        finite("acceleration", &acceleration_m_s2)?;
        if let Some(rates) = &angular_rate_rad_s {
            finite("angular_rate", rates)?;
        }
        let is_copy = |at: usize| {
            let same = |axes: &Vec<[f32; 3]>| axes[at] == axes[at - 1];
            same(&acceleration_m_s2) && angular_rate_rad_s.as_ref().is_none_or(same)
        };
        let Clock { times, dropped, pauses, mends } = Clock::new(time_seconds, is_copy)?;
        drop_at(&mut acceleration_m_s2, &dropped);
        if let Some(rates) = &mut angular_rate_rad_s {
            drop_at(rates, &dropped);
        }
        Ok(Self {
            time_seconds: times,
            acceleration_m_s2,
            angular_rate_rad_s,
            pauses,
            mends,
            units: [1.0; 2],
        })
    }

    /// The same recording, whose values were sent in these multiples of m/s^2 and rad/s. Errors then
    /// speak of the values as they were sent.
    pub(super) fn sent_in(mut self, units: [f32; 2]) -> Self {
        self.units = units;
        self
    }

    /// What a value of 1 in each list meant as it was sent, in m/s^2 and rad/s.
    pub(super) fn units(&self) -> [f32; 2] {
        self.units
    }

    /// What was mended.
    pub fn mends(&self) -> &[Mend] {
        &self.mends
    }

    /// For each pause that was shortened, the samples before it and its true length in seconds.
    pub(super) fn pauses(&self) -> &[(usize, f64)] {
        &self.pauses
    }

    /// Time of each sample. Times rise strictly.
    pub fn time_seconds(&self) -> &[f64] {
        &self.time_seconds
    }

    /// Acceleration with gravity, in the phone's axes.
    pub fn acceleration_m_s2(&self) -> &[[f32; 3]] {
        &self.acceleration_m_s2
    }

    /// Angular rate in the phone's axes. `None` without a gyroscope.
    pub fn angular_rate_rad_s(&self) -> Option<&[[f32; 3]]> {
        self.angular_rate_rad_s.as_deref()
    }

    /// Time from the first sample to the last, without pauses.
    pub fn duration_seconds(&self) -> f64 {
        self.time_seconds[self.time_seconds.len() - 1] - self.time_seconds[0]
    }

    /// Mean sample rate, or 0 for a single sample.
    pub fn rate_hz(&self) -> f64 {
        match self.duration_seconds() {
            0.0 => 0.0,
            seconds => (self.time_seconds.len() - 1) as f64 / seconds,
        }
    }

    /// Checks the mean sample rate.
    ///
    /// # Errors
    /// If it is too low to show steps.
    pub fn check_rate(&self) -> Result<(), SignalError> {
        match self.rate_hz() {
            rate_hz if rate_hz < LEAST_RATE_HZ => {
                Err(SignalError::RateTooLow { rate_hz, needed_hz: 20.0 })
            }
            _ => Ok(()),
        }
    }

    /// The recording of a walker who is the mirror image of this one, from a phone without a gyroscope.
    /// Wrong signs, and axes in a wrong order, have this effect.
    pub fn mirrored(mut self) -> Self {
        self.acceleration_m_s2.iter_mut().flatten().for_each(|value| *value = -*value);
        self.without_angular_rate()
    }

    /// The same recording from a phone without a gyroscope.
    pub fn without_angular_rate(mut self) -> Self {
        self.angular_rate_rad_s = None;
        self
    }

    /// The part that starts `start_seconds` after the first sample and lasts `length_seconds`. `None` if
    /// it has no samples.
    pub fn part(&self, start_seconds: f64, length_seconds: f64) -> Option<Self> {
        let origin = self.time_seconds[0];
        let first = self.time_seconds.partition_point(|time| time - origin < start_seconds);
        let last = self
            .time_seconds
            .partition_point(|time| time - origin <= start_seconds + length_seconds);
        let within = |&(at, seconds): &(usize, f64)| {
            (first < at && at < last).then(|| (at - first, seconds))
        };
        (first < last).then(|| Self {
            time_seconds: self.time_seconds[first..last].to_vec(),
            acceleration_m_s2: self.acceleration_m_s2[first..last].to_vec(),
            angular_rate_rad_s: self.angular_rate_rad_s.as_ref().map(|r| r[first..last].to_vec()),
            pauses: self.pauses.iter().filter_map(within).collect(),
            mends: self.mends.clone(),
            units: self.units,
        })
    }
}

fn finite(field: &'static str, axes: &[[f32; 3]]) -> Result<(), SignalError> {
    match axes.iter().position(|sample| sample.iter().any(|value| !value.is_finite())) {
        Some(index) => Err(SignalError::NonFinite { field, index }),
        None => Ok(()),
    }
}

//! Recordings: raw samples, checked and in SI units.

use serde::{Deserialize, Serialize};

use super::SignalError;

/// Standard gravity in m/s^2 (ISO 80000-3).
pub const STANDARD_GRAVITY_M_S2: f32 = 9.80665;

/// Raw samples of one phone, with three axes and the time of each sample.
///
/// [`Recording::new`] guarantees that values are finite and that times rise strictly.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    time_seconds: Vec<f64>,
    acceleration_m_s2: Vec<[f32; 3]>,
    angular_rate_rad_s: Option<Vec<[f32; 3]>>,
}

/// Unit of acceleration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccelerationUnit {
    /// Metres per second squared.
    #[default]
    #[serde(rename = "m/s^2")]
    MetrePerSecondSquared,
    /// Standard gravity, 9.80665 m/s^2.
    #[serde(rename = "g")]
    StandardGravity,
}

/// Unit of angular rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AngularRateUnit {
    /// Radians per second.
    #[default]
    #[serde(rename = "rad/s")]
    RadianPerSecond,
    /// Degrees per second.
    #[serde(rename = "deg/s")]
    DegreePerSecond,
}

impl Recording {
    /// A recording in SI units.
    ///
    /// Acceleration includes gravity: about +9.8 on an axis that points up, as on Android. The opposite
    /// sign gives the same windows.
    ///
    /// # Errors
    /// If there are no samples, lengths differ, a value is not finite, or time does not rise.
    pub fn new(
        time_seconds: Vec<f64>,
        acceleration_m_s2: Vec<[f32; 3]>,
        angular_rate_rad_s: Option<Vec<[f32; 3]>>,
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
        if let Some(index) = time_seconds.windows(2).position(|pair| pair[1] <= pair[0]) {
            return Err(SignalError::BackwardTime {
                index: index + 1,
                previous_seconds: time_seconds[index],
                time_seconds: time_seconds[index + 1],
            });
        }
        Ok(Self { time_seconds, acceleration_m_s2, angular_rate_rad_s })
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

    /// Time from the first sample to the last.
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
        (first < last).then(|| Self {
            time_seconds: self.time_seconds[first..last].to_vec(),
            acceleration_m_s2: self.acceleration_m_s2[first..last].to_vec(),
            angular_rate_rad_s: self.angular_rate_rad_s.as_ref().map(|r| r[first..last].to_vec()),
        })
    }
}

fn finite(field: &'static str, axes: &[[f32; 3]]) -> Result<(), SignalError> {
    match axes.iter().position(|sample| sample.iter().any(|value| !value.is_finite())) {
        Some(index) => Err(SignalError::NonFinite { field, index }),
        None => Ok(()),
    }
}

/// A recording as JSON or CBOR, for requests and files.
///
/// Either `time_seconds` or, for even sampling, `rate_hz` gives the time. A value is the number in its
/// list, times the scale if there is one, in the unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingDocument {
    /// Time of each sample, in seconds from any origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_seconds: Option<Vec<f64>>,
    /// Sample rate, for even sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Unit of `acceleration`.
    #[serde(default)]
    pub acceleration_unit: AccelerationUnit,
    /// Value of 1 in `acceleration`, in that unit. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration_scale: Option<f32>,
    /// x, y and z of each sample, with gravity.
    pub acceleration: Vec<[f32; 3]>,
    /// Unit of `angular_rate`.
    #[serde(default)]
    pub angular_rate_unit: AngularRateUnit,
    /// Value of 1 in `angular_rate`, in that unit. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub angular_rate_scale: Option<f32>,
    /// x, y and z of each sample, if the phone has a gyroscope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub angular_rate: Option<Vec<[f32; 3]>>,
}

impl TryFrom<RecordingDocument> for Recording {
    type Error = SignalError;

    fn try_from(document: RecordingDocument) -> Result<Self, SignalError> {
        let samples = document.acceleration.len();
        let time_seconds = match (document.time_seconds, document.rate_hz) {
            (Some(times), None) => times,
            (None, Some(rate_hz)) if rate_hz.is_finite() && rate_hz > 0.0 => {
                (0..samples).map(|index| index as f64 / rate_hz).collect()
            }
            (None, Some(rate_hz)) => return Err(SignalError::InvalidRate { rate_hz }),
            (Some(_), Some(_)) | (None, None) => return Err(SignalError::AmbiguousTime),
        };
        let unit = match document.acceleration_unit {
            AccelerationUnit::MetrePerSecondSquared => 1.0,
            AccelerationUnit::StandardGravity => STANDARD_GRAVITY_M_S2,
        };
        let scale = checked_scale("acceleration_scale", document.acceleration_scale)?;
        let acceleration = scaled(document.acceleration, scale * unit);
        let unit = match document.angular_rate_unit {
            AngularRateUnit::RadianPerSecond => 1.0,
            AngularRateUnit::DegreePerSecond => 1f32.to_radians(),
        };
        let scale = checked_scale("angular_rate_scale", document.angular_rate_scale)?;
        let angular_rate = document.angular_rate.map(|rates| scaled(rates, scale * unit));
        Self::new(time_seconds, acceleration, angular_rate)
    }
}

impl From<&Recording> for RecordingDocument {
    fn from(recording: &Recording) -> Self {
        Self {
            time_seconds: Some(recording.time_seconds.clone()),
            rate_hz: None,
            acceleration_unit: AccelerationUnit::MetrePerSecondSquared,
            acceleration_scale: None,
            acceleration: recording.acceleration_m_s2.clone(),
            angular_rate_unit: AngularRateUnit::RadianPerSecond,
            angular_rate_scale: None,
            angular_rate: recording.angular_rate_rad_s.clone(),
        }
    }
}

pub(super) fn checked_scale(field: &'static str, scale: Option<f32>) -> Result<f32, SignalError> {
    match scale.unwrap_or(1.0) {
        scale if scale.is_finite() && scale > 0.0 => Ok(scale),
        scale => Err(SignalError::InvalidScale { field, scale }),
    }
}

fn scaled(mut axes: Vec<[f32; 3]>, factor: f32) -> Vec<[f32; 3]> {
    axes.iter_mut().flatten().for_each(|value| *value *= factor);
    axes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: serde_json::Value) -> Result<Recording, SignalError> {
        serde_json::from_value::<RecordingDocument>(document).unwrap().try_into()
    }

    #[test]
    fn scales_multiply_values_in_their_unit() {
        let walk = read(json!({
            "rate_hz": 1,
            "acceleration_unit": "g", "acceleration_scale": 0.5, "acceleration": [[2, 0, -4]],
            "angular_rate_unit": "deg/s", "angular_rate_scale": 90, "angular_rate": [[2, 1, 0]],
        }));
        let walk = walk.unwrap();
        assert_eq!(walk.acceleration_m_s2(), [[9.80665, 0.0, -2.0 * 9.80665]]);
        let turn = std::f32::consts::PI;
        assert_eq!(walk.angular_rate_rad_s(), Some(&[[turn, turn / 2.0, 0.0]][..]));
    }

    #[test]
    fn a_scale_must_be_positive() {
        for scale in [0.0, -0.5, 1e39] {
            for field in ["acceleration_scale", "angular_rate_scale"] {
                let error = read(json!({"rate_hz": 1, "acceleration": [[1, 2, 3]], field: scale}));
                let error = error.unwrap_err();
                assert_eq!((error.code(), error.field()), ("invalid-scale", field));
            }
        }
        let overflow = read(json!({
            "rate_hz": 1, "acceleration": [[1, 2, 1e9]], "acceleration_scale": 1e38,
        }));
        assert_eq!(overflow.unwrap_err().code(), "non-finite-value");
    }
}

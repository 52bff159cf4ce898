//! Recordings as JSON or CBOR.

use serde::{Deserialize, Serialize};

use super::recording::STANDARD_GRAVITY_M_S2;
use super::{Recording, SignalError};

/// Smallest `rate_hz`. Less is the time between two samples, or another mistake.
pub(super) const LEAST_RATE_HZ: f64 = 1.0;

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

/// Where the acceleration of a phone at rest points. Android and the web's standards say up, iOS says
/// down. All values of one have the opposite sign of the other, and nothing in a recording tells which: a
/// walker with the wrong sign is the mirror image of another walker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtRest {
    /// A phone that lies on its back has +9.8 m/s^2 on its z axis, as on Android.
    #[default]
    Up,
    /// A phone that lies on its back has -1 g on its z axis, as in CoreMotion on iOS.
    Down,
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
    /// Where the acceleration of a phone at rest points.
    #[serde(default)]
    pub acceleration_at_rest: AtRest,
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
            (None, Some(rate_hz)) if rate_hz.is_finite() && rate_hz >= LEAST_RATE_HZ => {
                (0..samples).map(|index| index as f64 / rate_hz).collect()
            }
            (None, Some(rate_hz)) => return Err(SignalError::InvalidRate { rate_hz }),
            (Some(_), Some(_)) | (None, None) => return Err(SignalError::AmbiguousTime),
        };
        let unit_m_s2 = checked_scale("acceleration_scale", document.acceleration_scale)?
            * match document.acceleration_unit {
                AccelerationUnit::MetrePerSecondSquared => 1.0,
                AccelerationUnit::StandardGravity => STANDARD_GRAVITY_M_S2,
            };
        let sign = match document.acceleration_at_rest {
            AtRest::Up => 1.0,
            AtRest::Down => -1.0,
        };
        let acceleration = scaled(document.acceleration, sign * unit_m_s2);
        let unit_rad_s = checked_scale("angular_rate_scale", document.angular_rate_scale)?
            * match document.angular_rate_unit {
                AngularRateUnit::RadianPerSecond => 1.0,
                AngularRateUnit::DegreePerSecond => 1f32.to_radians(),
            };
        let angular_rate = document.angular_rate.map(|rates| scaled(rates, unit_rad_s));
        let recording = Self::new(time_seconds, acceleration, angular_rate)?;
        Ok(recording.sent_in([unit_m_s2, unit_rad_s]))
    }
}

impl From<&Recording> for RecordingDocument {
    fn from(recording: &Recording) -> Self {
        Self {
            time_seconds: Some(recording.time_seconds().to_vec()),
            rate_hz: None,
            acceleration_unit: AccelerationUnit::MetrePerSecondSquared,
            acceleration_scale: None,
            acceleration_at_rest: AtRest::Up,
            acceleration: recording.acceleration_m_s2().to_vec(),
            angular_rate_unit: AngularRateUnit::RadianPerSecond,
            angular_rate_scale: None,
            angular_rate: recording.angular_rate_rad_s().map(<[_]>::to_vec),
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::gait::simulator::{Conditions, Walker};
    use crate::gait::{Recipe, cut_windows};

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_sign_of_the_acceleration_does_not_change_windows_if_it_is_said(seed in 0..1000u64) {
            let conditions = Conditions { seconds: 6.0, ..Conditions::default() };
            let walk = Walker::new(seed).walk(1, &conditions);
            let mut document = RecordingDocument::from(&walk);
            document.acceleration_at_rest = AtRest::Down;
            document.acceleration.iter_mut().flatten().for_each(|value| *value = -*value);
            let read = Recording::try_from(document).unwrap();
            for recipe in [Recipe::OPENSET, Recipe::BIPEDALNET] {
                prop_assert_eq!(cut_windows(&read, &recipe, 50), cut_windows(&walk, &recipe, 50));
            }
        }
    }

    #[test]
    fn a_rate_below_one_is_a_period_or_a_mistake() {
        for rate_hz in [0.02, 0.0, -50.0] {
            let error = read(json!({"rate_hz": rate_hz, "acceleration": [[1, 2, 3]]})).unwrap_err();
            assert_eq!((error.code(), error.field()), ("invalid-rate", "rate_hz"));
        }
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

//! What one sensor measured, and whether its values fit its unit.

use super::columns::Axes;
use super::error::TableError;
use super::header::Kind;
use super::unit::{Quantity, Unit};
use crate::data::series::Series;

/// Walking turns a phone at about 2 rad/s, and hardly at 15.
const MAX_RATE_RAD_S: f32 = 15.0;

/// Values of one sensor in SI units.
pub struct Sensor<'a> {
    pub axes: &'a Axes,
    pub unit: Unit,
    pub is_unit_said: bool,
    pub series: Series,
    /// Whether all values are whole, as the counts of a sensor are.
    are_whole: bool,
}

impl<'a> Sensor<'a> {
    pub fn new(
        axes: &'a Axes,
        values: &[Option<[f64; 3]>],
        seconds: &[f64],
        said: Option<Unit>,
        quantity: Quantity,
    ) -> Self {
        let known = said.or(axes.unit);
        let unit = known.unwrap_or_else(|| Unit::si(quantity));
        let mut series = Series::default();
        let mut are_whole = true;
        for (value, time) in values.iter().zip(seconds) {
            if let Some(value) = value {
                are_whole &= value.iter().all(|it| it.fract() == 0.0);
                series.times.push(*time);
                series.values.push(value.map(|it| (it * unit.si) as f32));
            }
        }
        Self { axes, unit, is_unit_said: known.is_some(), series, are_whole }
    }

    /// Whether the mean is a good part of what is measured, as gravity is.
    pub fn has_gravity(&self) -> bool {
        self.series.length_of_mean() > self.series.median_length() / 2.0
    }

    /// Checks that the values fit the SI unit, if nobody says the unit.
    pub fn check_unit(&self) -> Result<(), TableError> {
        let readings = match self.unit.quantity {
            _ if self.is_unit_said => None,
            Quantity::Acceleration => self.other_acceleration(),
            Quantity::AngularRate => self.other_angular_rate(),
            Quantity::Time => None,
        };
        readings.map_or(Ok(()), |readings| {
            let column = self.axes.columns[0].name.clone();
            Err(TableError::Unit { column, readings, option: self.unit.quantity.option() })
        })
    }

    /// What acceleration could be if it is not in m/s^2.
    fn other_acceleration(&self) -> Option<String> {
        let median = self.series.median_length();
        let magnitude = f64::from(median);
        let mut units = match self.has_gravity() {
            true => Unit::gravity(magnitude, 0.5..2.0),
            false => Vec::new(),
        };
        if units.first() == Some(&Unit::si(Quantity::Acceleration)) {
            return None;
        }
        let counts = Unit::counts(magnitude).filter(|_| self.has_gravity() && self.are_whole);
        units.extend(counts);
        let units: Vec<String> = units.iter().map(Unit::to_string).collect();
        let seen = format!("Its median magnitude is {median:.3}");
        if !units.is_empty() {
            let units = units.join(" or ");
            Some(format!("{seen}: in m/s^2, that is not gravity; in {units}, it is."))
        } else if self.axes.kind == Kind::Unnamed {
            Some(format!(
                "{seen}: it could be acceleration without gravity, angular rate or a magnetic field. If it is acceleration, give --columns too."
            ))
        } else if self.has_gravity() && self.are_whole {
            Some(format!(
                "{seen}, in counts of the sensor. If 4096 of them are 1 g, the unit is g/4096."
            ))
        } else {
            None
        }
    }

    /// What angular rate could be if it is not in rad/s.
    fn other_angular_rate(&self) -> Option<String> {
        let rms = self.series.rms_length();
        let in_degrees = rms.to_radians();
        let seen = format!("It has an RMS of {rms:.0}: in rad/s, no walking turns a phone so fast");
        match rms {
            _ if rms < MAX_RATE_RAD_S => None,
            _ if in_degrees < MAX_RATE_RAD_S => {
                Some(format!("{seen}; in deg/s, it would be {in_degrees:.1} rad/s."))
            }
            _ => Some(format!(
                "{seen}, nor in deg/s. If it is in counts of the sensor, and 131 of them are 1 deg/s, the unit is deg/s/131."
            )),
        }
    }
}

//! Tables that apps write: finds out how a table is written, which columns it has and their units.

mod clock;
mod columns;
mod dialect;
mod error;
mod header;
mod rows;
#[cfg(test)]
mod tests;
mod time;
mod unit;

use bipedalnet_core::gait::{AtRest, Recording, SignalError};

pub use columns::ColumnNames;
use columns::{Axes, Columns};
use dialect::Dialect;
pub use error::TableError;
use header::{Kind, Name};
use time::Time;
pub use unit::{Quantity, Unit};

use super::recording_file::FormatError;
use super::series::{Series, on_one_clock};

/// What the caller says about tables. It counts more than what a header says.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The columns to read. Default: those with known names.
    pub columns: Option<ColumnNames>,
    /// Unit of time.
    pub time_unit: Option<&'static Unit>,
    /// Unit of acceleration.
    pub acceleration_unit: Option<&'static Unit>,
    /// Sign of acceleration. No header says it.
    pub acceleration_at_rest: AtRest,
    /// Unit of angular rate.
    pub angular_rate_unit: Option<&'static Unit>,
}

impl TableOptions {
    /// Whether the caller says nothing.
    pub(super) fn is_empty(&self) -> bool {
        let units = [self.time_unit, self.acceleration_unit, self.angular_rate_unit];
        self.columns.is_none()
            && units.iter().all(Option::is_none)
            && self.acceleration_at_rest == AtRest::default()
    }
}

/// Reads a table. Also says in words which columns and units were read. `stem` is the file's name
/// without its ending: some apps write there which sensor it was.
pub fn read(
    text: &str,
    stem: &str,
    options: &TableOptions,
) -> Result<(Recording, String), FormatError> {
    let named = options.columns.as_ref();
    let mut dialect =
        Dialect::find(text, |cells| columns::is_header(cells, named)).ok_or(SignalError::Empty)?;
    let columns = columns::find(&dialect.header, stem, named)?;
    if columns.no_header {
        dialect = dialect.without_header();
    }
    let rows = rows::read(&dialect, &columns)?;
    let time = time::choose(&columns.times, rows.times, &rows.acceleration, options.time_unit)?;
    let acceleration = Sensor::new(
        &columns.acceleration,
        &rows.acceleration,
        &time.seconds,
        options.acceleration_unit,
        Quantity::Acceleration,
    );
    if acceleration.series.times.is_empty() {
        return Err(SignalError::Empty.into());
    }
    check_acceleration(&columns, &acceleration)?;
    let angular_rate = columns.angular_rate.as_ref().map(|axes| {
        let unit = options.angular_rate_unit;
        Sensor::new(axes, &rows.angular_rate, &time.seconds, unit, Quantity::AngularRate)
    });
    let angular_rate = angular_rate.filter(|sensor| !sensor.series.times.is_empty());
    if let Some(sensor) = &angular_rate {
        check_angular_rate(sensor)?;
    }
    let mut understood = understood(&time, &acceleration, angular_rate.as_ref());
    let (mut acceleration, mut rates) =
        (acceleration.series, angular_rate.map(|sensor| sensor.series));
    if let Some(rates) = &mut rates {
        on_one_clock(&mut acceleration, rates)?;
    }
    if options.acceleration_at_rest == AtRest::Down {
        acceleration.values.iter_mut().flatten().for_each(|value| *value = -*value);
        understood += "; acceleration negated";
    }
    let Series { times, values } = acceleration;
    Ok((Recording::new(times, values, rates.map(|rates| rates.values))?, understood))
}

/// What separates the cells of a table.
pub fn delimiter(text: &str) -> u8 {
    Dialect::find(text, |_| true).map_or(b',', |dialect| dialect.delimiter)
}

/// What one sensor measured, in SI units.
struct Sensor<'a> {
    axes: &'a Axes,
    unit: &'static Unit,
    is_unit_said: bool,
    series: Series,
}

impl<'a> Sensor<'a> {
    fn new(
        axes: &'a Axes,
        values: &[Option<[f64; 3]>],
        seconds: &[f64],
        said: Option<&'static Unit>,
        quantity: Quantity,
    ) -> Self {
        let known = said.or(axes.unit);
        let unit = known.unwrap_or_else(|| Unit::si(quantity));
        let mut series = Series::default();
        for (value, time) in values.iter().zip(seconds) {
            if let Some(value) = value {
                series.times.push(*time);
                series.values.push(value.map(|it| (it * unit.si) as f32));
            }
        }
        Self { axes, unit, is_unit_said: known.is_some(), series }
    }
}

fn check_acceleration(columns: &Columns, sensor: &Sensor) -> Result<(), TableError> {
    let Sensor { axes, series, .. } = sensor;
    let median = series.median_length();
    let has_gravity = series.length_of_mean() > median / 2.0;
    let is_sensor_logger = columns.times.iter().any(|column| column.name == "seconds_elapsed")
        && Name::of(&axes.columns[0].name).sensor.is_empty();
    if is_sensor_logger && axes.kind == Kind::Acceleration && !has_gravity {
        return Err(TableError::Linear {
            columns: axes.to_string(),
            remedy: "give Sensor Logger's TotalAcceleration.csv or AccelerometerUncalibrated.csv",
        });
    }
    if sensor.is_unit_said {
        return Ok(());
    }
    let is_gravity = |unit: &&Unit| {
        let gs = f64::from(median) * unit.si / unit::STANDARD_GRAVITY;
        has_gravity && (0.5..2.0).contains(&gs)
    };
    let readings = match Unit::all(Quantity::Acceleration).find(is_gravity) {
        Some(unit) if unit.si != 1.0 => format!(
            "Its median magnitude is {median:.3}: in m/s^2, that is not gravity; in {}, it is.",
            unit.name
        ),
        None if axes.kind == Kind::Unnamed => format!(
            "Its median magnitude is {median:.3}: it could be acceleration without gravity, angular rate or a magnetic field. If it is acceleration, give --columns too."
        ),
        _ => return Ok(()),
    };
    let column = axes.columns[0].name.clone();
    Err(TableError::Unit { column, readings, option: "acceleration-unit" })
}

/// Walking turns a phone at about 2 rad/s, and hardly at 15.
const MAX_RATE_RAD_S: f32 = 15.0;

fn check_angular_rate(sensor: &Sensor) -> Result<(), TableError> {
    let rms = sensor.series.rms_length();
    if sensor.is_unit_said || rms < MAX_RATE_RAD_S {
        return Ok(());
    }
    let readings = format!(
        "It has an RMS of {rms:.0}: in rad/s, no walking turns a phone so fast; in deg/s, it would be {:.1} rad/s.",
        rms.to_radians()
    );
    let column = sensor.axes.columns[0].name.clone();
    Err(TableError::Unit { column, readings, option: "angular-rate-unit" })
}

fn understood(time: &Time, acceleration: &Sensor, angular_rate: Option<&Sensor>) -> String {
    let sensor = |sensor: &Sensor| {
        let how = if sensor.is_unit_said { "" } else { " (not said)" };
        format!("{} in {}{how}", sensor.axes, sensor.unit.name)
    };
    let rates = angular_rate.map_or("none".to_owned(), sensor);
    format!(
        "time {:?} {}; acceleration {}; angular rate {rates}",
        time.column.name,
        time.unit,
        sensor(acceleration)
    )
}

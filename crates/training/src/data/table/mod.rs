//! Tables that apps write: finds out how a table is written, which columns it has and their units.

mod cells;
mod clock;
mod columns;
mod dialect;
mod error;
mod header;
mod layout;
mod names;
mod rows;
mod sensor;
mod signal;
#[cfg(test)]
mod tests;
mod time;
mod time_unit;
#[cfg(test)]
mod two_readings;
mod unit;
mod words;

use std::borrow::Cow;

use bipedalnet_core::gait::{AtRest, Recording, SignalError};

use cells::Delimiter;
use clock::Clock;
use columns::Columns;
use dialect::Dialect;
pub use error::{Place, TableError};
use header::{Kind, Name};
pub use names::ColumnNames;
use sensor::Sensor;
use time::Time;
pub use unit::{Quantity, Unit};
use words::SensorRows;

use super::recording_file::FormatError;
use super::series::{Series, on_one_clock};

/// What the caller says about tables. It counts more than what a header says.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The columns to read. Default: those with known names.
    pub columns: Option<ColumnNames>,
    /// Unit of time.
    pub time_unit: Option<Unit>,
    /// Unit of acceleration.
    pub acceleration_unit: Option<Unit>,
    /// Sign of acceleration. No header says it.
    pub acceleration_at_rest: AtRest,
    /// Unit of angular rate.
    pub angular_rate_unit: Option<Unit>,
}

impl TableOptions {
    /// Whether the caller says nothing.
    pub fn is_empty(&self) -> bool {
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
    let text = without_arrows(text);
    let is_header = |cells: &[String]| columns::is_header(cells, named);
    let is_first = |cells: &[String]| is_header(cells) || layout::is_channel(cells);
    let mut dialect = Dialect::find(&text, is_first).ok_or(SignalError::Empty)?;
    let rewritten = layout::with_a_row_for_each_sample(&dialect)?;
    if let Some(rewritten) = &rewritten {
        dialect = Dialect::find(&rewritten.text, is_header).ok_or(SignalError::Empty)?;
        dialect.is_rewritten = true;
    }
    let mut columns = columns::find(&dialect.header, stem, named).map_err(|error| match error {
        TableError::NoHeader { .. } => TableError::NoHeader { is_transposed: rewritten.is_some() },
        error => error,
    })?;
    if columns.no_header {
        dialect = dialect.without_header();
    }
    let is_named = named.is_some() || columns.acceleration.kind != Kind::Unnamed;
    if let Some(rows) = SensorRows::find(&dialect, is_named)? {
        columns = columns.of_sensors(rows);
    }
    let (recording, understood) = read_rows(&dialect, &columns, options)?;
    let layout = rewritten.map_or("", |rewritten| rewritten.layout);
    Ok((recording, format!("{layout}{understood}")))
}

fn read_rows(
    dialect: &Dialect,
    columns: &Columns,
    options: &TableOptions,
) -> Result<(Recording, String), FormatError> {
    let rows = rows::read(dialect, columns)?;
    let time = match columns.rate_hz {
        Some(rate_hz) => Time::even(rate_hz, &rows.acceleration),
        None => time::choose(&columns.times, rows.times, &rows.acceleration, options.time_unit)?,
    };
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
    check_sensor_logger(columns, &acceleration)?;
    acceleration.check_unit()?;
    let angular_rate = columns.angular_rate.as_ref().map(|axes| {
        let unit = options.angular_rate_unit;
        Sensor::new(axes, &rows.angular_rate, &time.seconds, unit, Quantity::AngularRate)
    });
    let angular_rate = angular_rate.filter(|sensor| !sensor.series.times.is_empty());
    if let Some(sensor) = &angular_rate {
        sensor.check_unit()?;
    }
    let mut understood = understood(&time, &acceleration, angular_rate.as_ref());
    let mut series = acceleration.series.clone();
    let mut rates = angular_rate.as_ref().map(|sensor| sensor.series.clone());
    if let Some(rates) = &mut rates {
        on_one_clock(&mut series, rates)?;
    }
    if options.acceleration_at_rest == AtRest::Down {
        series.values.iter_mut().flatten().for_each(|value| *value = -*value);
        understood += "; acceleration negated";
    }
    let Series { times, values } = series;
    let recording = Recording::new(times, values, rates.map(|rates| rates.values))
        .map_err(|error| FormatError::Unusable(signal::in_words(&error, time.unit)))?;
    match signal::fault(&recording, &acceleration, angular_rate.as_ref(), time.unit) {
        Some(reason) => Err(FormatError::Unusable(reason)),
        None => Ok((recording, understood)),
    }
}

/// What separates the cells of a table.
pub fn delimiter(text: &str) -> u8 {
    match Dialect::find(text, |_| true).map(|dialect| dialect.delimiter) {
        Some(Delimiter::Char(delimiter)) => delimiter,
        Some(Delimiter::Blanks) | None => b',',
    }
}

/// A serial monitor writes an arrow after the time at which each line arrived.
fn without_arrows(text: &str) -> Cow<'_, str> {
    const ARROW: &str = " -> ";
    let first = text.lines().find_map(|line| line.split_once(ARROW));
    match first {
        Some((time, rest)) if Clock::default().seconds(time, "").is_some() => {
            let delimiter = [";", "\t", ","].into_iter().find(|it| rest.contains(it));
            text.replace(ARROW, delimiter.unwrap_or(" ")).into()
        }
        _ => text.into(),
    }
}

/// On iOS, Sensor Logger's file of the accelerometer is without gravity.
fn check_sensor_logger(columns: &Columns, sensor: &Sensor) -> Result<(), TableError> {
    let axes = sensor.axes;
    let is_sensor_logger = columns.times.iter().any(|column| column.name == "seconds_elapsed")
        && Name::of(&axes.columns[0].name).sensor.is_empty();
    if is_sensor_logger && axes.kind == Kind::Acceleration && !sensor.has_gravity() {
        return Err(TableError::Linear {
            columns: axes.to_string(),
            remedy: "give Sensor Logger's TotalAcceleration.csv or AccelerometerUncalibrated.csv",
        });
    }
    Ok(())
}

fn understood(time: &Time, acceleration: &Sensor, angular_rate: Option<&Sensor>) -> String {
    let sensor = |sensor: &Sensor| {
        let how = if sensor.is_unit_said { "" } else { " (not said)" };
        format!("{} in {}{how}", sensor.axes, sensor.unit)
    };
    let rates = angular_rate.map_or("none".to_owned(), sensor);
    format!("time {}; acceleration {}; angular rate {rates}", time.understood, sensor(acceleration))
}

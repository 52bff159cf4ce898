//! Errors of tables.

use std::fmt;

fn remedy(too_many: bool) -> &'static str {
    match too_many {
        true => {
            "If the comma is both the delimiter and the decimal sign, export the table with semicolons or tabs"
        }
        false => "Remove the line if it is the last one and was cut off, or else complete it",
    }
}

/// Where in a table something is wrong. Counts from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// A line of the file.
    Line(usize),
    /// A sample, if the table has no line for each.
    Sample(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(out, "line {line}"),
            Self::Sample(sample) => write!(out, "sample {sample}"),
        }
    }
}

/// Why a table is not a recording. A message says what was seen and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// There is nothing between cells that is known.
    #[error(
        "each line of the table is one cell; the first is {line:?}. Separate cells by commas, semicolons, tabs or blanks"
    )]
    OneCell {
        /// The first line.
        line: String,
    },
    /// The table begins with numbers.
    #[error(
        "{}. Say which to read by their numbers, from 1: --columns t=1,ax=2,ay=3,az=4, or t=50Hz if the sampling is even and none has its times; and their units, as with --acceleration-unit g",
        match is_transposed {
            true => "each line of the table is a channel, and none has a name",
            false => "the table has no header, which would name its columns",
        }
    )]
    NoHeader {
        /// Whether each line is a channel.
        is_transposed: bool,
    },
    /// No column has times.
    #[error(
        "has no column t; its header is {header:?}. Say which column has the times, by its name or its number from 1, or say the rate if the sampling is even, as with --columns \"t=50Hz,ax=...,ay=...,az=...\""
    )]
    NoTime {
        /// The header line.
        header: String,
    },
    /// The rows are of several sensors.
    #[error(
        "column {column:?} says that rows are of several sensors: {cells}. Keep the rows of one accelerometer alone, or name the sensors \"accelerometer\" and \"gyroscope\""
    )]
    SeveralSensors {
        /// Name of the column.
        column: String,
        /// Its cells.
        cells: String,
    },
    /// A column is missing.
    #[error(
        "has no column {column}; its header is {header:?}. Say which columns to read, as with --columns \"t=...,ax=...,ay=...,az=...\""
    )]
    MissingColumn {
        /// The column needed.
        column: String,
        /// The header line.
        header: String,
    },
    /// The caller names a column for two of the times and axes.
    #[error("column {column:?} is named twice. Each of t and the axes needs its own")]
    RepeatedColumn {
        /// Name of the column.
        column: String,
    },
    /// The caller gives a name that several columns have.
    #[error("{name:?} is the name of columns {numbers}. Say the number instead, with --columns")]
    AmbiguousColumn {
        /// The name.
        name: String,
        /// Numbers of the columns.
        numbers: String,
    },
    /// A row has the names of its cells in another order.
    #[error(
        "{place} has the cells {labels}, but the first row has {header}. Write the cells of every row in one order"
    )]
    Labels {
        /// The row.
        place: Place,
        /// The names in it.
        labels: String,
        /// The names in the first row.
        header: String,
    },
    /// The rows are of several walks.
    #[error(
        "column {column:?} says that rows are of several people, devices or positions: {cells}. A recording is of one. Split the file by this column, or remove the column if it says something else"
    )]
    SeveralWalks {
        /// Name of the column.
        column: String,
        /// Its cells.
        cells: String,
    },
    /// Several columns could be meant.
    #[error(
        "{what} could be any of {candidates}. Say which columns to read, as with --columns \"t=...,ax=...,ay=...,az=...\""
    )]
    SeveralColumns {
        /// The quantity.
        what: &'static str,
        /// The columns.
        candidates: String,
    },
    /// Only acceleration without gravity.
    #[error(
        "{columns}: this is linear acceleration, from which gravity was removed. Walkers are told by acceleration with gravity: {remedy}"
    )]
    Linear {
        /// The columns.
        columns: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Only angular rate.
    #[error(
        "{columns}: this is angular rate, without acceleration. Give the table of the accelerometer"
    )]
    OnlyAngularRate {
        /// The columns.
        columns: String,
    },
    /// A line has too few or too many cells.
    #[error(
        "{place} has {cells} cells, but the header has {columns}. {}", remedy(*cells > *columns)
    )]
    Cells {
        /// The row.
        place: Place,
        /// Cells of the line.
        cells: usize,
        /// Cells of the header.
        columns: usize,
    },
    /// A cell is not a number.
    #[error("{place}, column {column}: {value:?} is not a number")]
    NotANumber {
        /// The row.
        place: Place,
        /// Name of the column.
        column: String,
        /// The content of the cell.
        value: String,
    },
    /// A sample lacks an axis.
    #[error(
        "{place} has no value in column {column}, but in another axis. Each row needs all three axes of a sensor, with one time"
    )]
    Partial {
        /// The row.
        place: Place,
        /// Name of the column.
        column: String,
    },
    /// Numbers may have separators of thousands.
    #[error(
        "{place}, column {column}: {value:?} could have a decimal sign or a separator of thousands, as {why}. Export it without separators of thousands, and with four decimals or more"
    )]
    DecimalSign {
        /// The row.
        place: Place,
        /// Name of the column.
        column: String,
        /// The content of the cell.
        value: String,
        /// What speaks for both.
        why: &'static str,
    },
    /// The unit of time is not known.
    #[error(
        "column {column} does not say its unit, and samples are about {step} apart: {readings}. Say which, with --time-unit"
    )]
    TimeUnit {
        /// Name of the column.
        column: String,
        /// Mean step.
        step: f64,
        /// What each unit would mean.
        readings: String,
    },
    /// The unit of time that the table says is not known.
    #[error(
        "column {column:?} says a unit of time that is not known, {unit:?}. Say it in another way, with --time-unit: s/100 if 100 of it are 1 s, days/24 for hours, days/1440 for minutes"
    )]
    UnknownTimeUnit {
        /// Name of the column.
        column: String,
        /// The unit.
        unit: String,
    },
    /// The unit of time that is said gives no possible sample rate.
    #[error(
        "column {column:?} is said to be {said}. As if {readings}. Say which, with --time-unit"
    )]
    WrongTimeUnit {
        /// Name of the column.
        column: String,
        /// The unit that is said, and what it would mean.
        said: String,
        /// What other units would mean.
        readings: String,
    },
    /// Another unit fits the values better.
    #[error("column {column} does not say its unit. {readings} Say which, with {option}")]
    Unit {
        /// Name of the first column.
        column: String,
        /// What each unit would mean.
        readings: String,
        /// The option that says it.
        option: &'static str,
    },
    /// Samples share times.
    #[error(
        "{percent:.0} % of the samples have the same time as the one before, such as {value:?} in column {column}: the times were rounded, as a spreadsheet does, or the rows are of several sensors. Export the table again, with one sensor, and do not save it with a spreadsheet. If the sampling is even, --columns can say its rate instead, as in \"t=50Hz,ax=...\""
    )]
    RoundedTimes {
        /// Name of the column.
        column: String,
        /// A time that several samples share.
        value: String,
        /// Share of samples.
        percent: f64,
    },
}

//! Errors of tables.

fn remedy(too_many: bool) -> &'static str {
    match too_many {
        true => {
            "If the comma is both the delimiter and the decimal sign, export the table with semicolons or tabs"
        }
        false => "Remove the line if it is the last one and was cut off, or else complete it",
    }
}

/// Why a table is not a recording. A message says what was seen and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// There is nothing between cells that is known.
    #[error(
        "each line of the table is one cell; the first is {line:?}. Separate cells by commas, semicolons or tabs"
    )]
    OneCell {
        /// The first line.
        line: String,
    },
    /// The table begins with numbers.
    #[error(
        "the table has no header. Say which columns to read by their numbers, from 1: --columns t=1,ax=2,ay=3,az=4; and their units, as with --acceleration-unit g"
    )]
    NoHeader,
    /// The table has a row per channel.
    #[error(
        "each row of the table is a channel: the first is {row:?}. Transpose the table, so that each row is a sample and the first row names the columns"
    )]
    Transposed {
        /// First cell of the first row.
        row: String,
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
        "line {line} has {cells} cells, but the header has {columns}. {}", remedy(*cells > *columns)
    )]
    Cells {
        /// Counts from 1.
        line: usize,
        /// Cells of the line.
        cells: usize,
        /// Cells of the header.
        columns: usize,
    },
    /// A cell is not a number.
    #[error("line {line}, column {column}: {value:?} is not a number")]
    NotANumber {
        /// Counts from 1.
        line: usize,
        /// Name of the column.
        column: String,
        /// The content of the cell.
        value: String,
    },
    /// Numbers have both points and commas.
    #[error(
        "line {line}, column {column}: {value:?} could have a decimal comma or commas between thousands, as the table has both points and commas. Export it without separators of thousands"
    )]
    DecimalSign {
        /// Counts from 1.
        line: usize,
        /// Name of the column.
        column: String,
        /// The content of the cell.
        value: String,
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
    /// Another unit fits the values better.
    #[error("column {column} does not say its unit. {readings} Say which, with --{option}")]
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
        "{percent:.0} % of the samples have the same time as the one before, such as {value:?} in column {column}: the times were rounded, as a spreadsheet does, or the rows are of several sensors. Export the table again, with one sensor, and do not save it with a spreadsheet"
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

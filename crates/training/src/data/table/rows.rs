//! The cells of a table as numbers.

use csv::StringRecord;

use super::clock::{Clock, is_date};
use super::columns::{Axes, Column, Columns, Only};
use super::dialect::Dialect;
use super::error::{Place, TableError};
use super::words::Wearers;
use crate::data::recording_file::FormatError;

/// Samples in the units of the table. All lists have an entry for each row, except the times of a
/// column with an error.
#[derive(Default)]
pub struct Rows {
    /// The columns that give times, in the order of [`Columns::times`].
    pub times: Vec<Times>,
    pub acceleration: Vec<Option<[f64; 3]>>,
    pub angular_rate: Vec<Option<[f64; 3]>>,
}

/// The times in one column.
#[derive(Default)]
pub struct Times {
    pub values: Vec<f64>,
    /// Whether the cells are times of day, which are in seconds.
    pub is_clock: bool,
    clock: Clock,
    /// The first cell that is not a time.
    pub error: Option<TableError>,
    /// A cell that repeats the one before.
    pub repeated: Option<String>,
}

/// Reads all rows. A row without acceleration and angular rate counts for nothing.
pub fn read(dialect: &Dialect, columns: &Columns) -> Result<Rows, FormatError> {
    let mut rows = Rows::default();
    rows.times.resize_with(columns.times.len(), Times::default);
    let mut numbers = Numbers::default();
    let mut wearers = Wearers::find(dialect, columns);
    let mut date_column = None;
    dialect.for_each_row(|record, place| {
        let row = Row { record, dialect, place };
        if !row.is_read(columns) {
            return Ok(());
        }
        row.check_length()?;
        let acceleration = numbers.axes(&row, &columns.acceleration)?;
        let rates = columns.angular_rate.as_ref();
        let rates = rates.map(|axes| numbers.axes(&row, axes)).transpose()?.flatten();
        if acceleration.is_none() && rates.is_none() {
            return Ok(());
        }
        if acceleration.is_some() {
            wearers.add(record);
        }
        if rows.acceleration.is_empty() {
            date_column = record.iter().position(|cell| is_date(cell.trim()));
        }
        let date = date_column.and_then(|column| record.get(column)).unwrap_or_default();
        rows.acceleration.push(acceleration);
        rows.angular_rate.push(rates);
        for (times, column) in rows.times.iter_mut().zip(&columns.times) {
            if times.error.is_none() {
                times.push(&row, column, date, &mut numbers);
            }
        }
        Ok(())
    })?;
    numbers.check_thousands()?;
    wearers.check()?;
    Ok(rows)
}

struct Row<'a> {
    record: &'a StringRecord,
    dialect: &'a Dialect<'a>,
    place: usize,
}

impl Row<'_> {
    fn cell(&self, column: &Column) -> &str {
        self.record.get(column.index).unwrap_or_default().trim_end_matches(';').trim()
    }

    fn place(&self) -> Place {
        self.dialect.place(self.place)
    }

    /// Whether the row is of this sensor.
    fn is_of(&self, axes: &Axes) -> bool {
        let is = |only: &Only| self.record.get(only.column).map(str::trim) == Some(&only.cell[..]);
        axes.only.as_ref().is_none_or(is)
    }

    fn is_read(&self, columns: &Columns) -> bool {
        let is_rate = || columns.angular_rate.as_ref().is_some_and(|axes| self.is_of(axes));
        self.is_of(&columns.acceleration) || is_rate()
    }

    /// Cells beyond the header must be empty.
    fn check_length(&self) -> Result<(), TableError> {
        let (cells, columns) = (self.record.len(), self.dialect.columns());
        let is_blank = |cell: &str| matches!(cell.trim(), "" | ";");
        let is_long_enough = cells >= columns || self.record.iter().all(is_blank);
        if is_long_enough && self.record.iter().skip(columns).all(is_blank) {
            return Ok(());
        }
        Err(TableError::Cells { place: self.place(), cells, columns })
    }

    fn not_a_number(&self, column: &Column) -> TableError {
        let value = self.cell(column).chars().take(32).collect();
        TableError::NotANumber { place: self.place(), column: column.name.clone(), value }
    }
}

/// Reads numbers with decimal points or decimal commas, but not both in one table.
#[derive(Default)]
struct Numbers {
    points: bool,
    commas: bool,
    /// Whether a sign stands where none of thousands could.
    is_decimal: bool,
    /// The first number whose sign could be one of thousands.
    thousands: Option<TableError>,
}

impl Numbers {
    fn number(&mut self, row: &Row, column: &Column) -> Result<f64, TableError> {
        let text = row.cell(column);
        let ambiguous = |why| TableError::DecimalSign {
            place: row.place(),
            column: column.name.clone(),
            value: text.chars().take(32).collect(),
            why,
        };
        let (point, comma) = (text.contains('.'), text.contains(','));
        if (comma && (point || self.points)) || (point && self.commas) {
            return Err(ambiguous("the table has both points and commas"));
        }
        let is_thousands = (point || comma) && may_be_thousands(text);
        let thousands =
            || ambiguous("three digits follow each sign in the table, and no number begins with 0");
        let number = if comma { text.replacen(',', ".", 1).parse() } else { text.parse() };
        let number = number.map_err(|_| match is_thousands {
            true => thousands(),
            false => row.not_a_number(column),
        })?;
        if is_thousands && self.thousands.is_none() {
            self.thousands = Some(thousands());
        }
        self.is_decimal |= (point || comma) && !is_thousands;
        self.points |= point;
        self.commas |= comma;
        Ok(number)
    }

    /// Refuses numbers whose signs could all be separators of thousands.
    fn check_thousands(self) -> Result<(), TableError> {
        self.thousands.filter(|_| !self.is_decimal).map_or(Ok(()), Err)
    }

    /// `None` if the row is of another sensor, or all three are blank: other sensors had a sample at
    /// this time.
    fn axes(&mut self, row: &Row, axes: &Axes) -> Result<Option<[f64; 3]>, TableError> {
        let blank = axes.columns.iter().filter(|column| is_missing(row.cell(column)));
        let blank: Vec<&Column> = blank.collect();
        if blank.len() == axes.columns.len() || !row.is_of(axes) {
            return Ok(None);
        }
        if let [column, ..] = blank[..] {
            return Err(TableError::Partial { place: row.place(), column: column.name.clone() });
        }
        let mut values = [0.0; 3];
        for (value, column) in values.iter_mut().zip(&axes.columns) {
            *value = self.number(row, column)?;
        }
        Ok(Some(values))
    }
}

/// Whether a number such as `1,024` is whole if its signs separate thousands.
fn may_be_thousands(text: &str) -> bool {
    let mut groups = text.trim_start_matches(['-', '+']).split([',', '.']);
    let are_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let is_first = |group: &str| {
        (1..=3).contains(&group.len()) && are_digits(group) && !group.starts_with('0')
    };
    groups.next().is_some_and(is_first) && groups.all(|group| group.len() == 3 && are_digits(group))
}

/// Whether a program wrote that there is no value.
fn is_missing(cell: &str) -> bool {
    let ways = ["", "na", "nan", "none", "null"];
    ways.iter().any(|way| cell.eq_ignore_ascii_case(way))
}

impl Times {
    fn push(&mut self, row: &Row, column: &Column, date: &str, numbers: &mut Numbers) {
        let cell = row.cell(column);
        if self.values.is_empty() {
            self.is_clock = Clock::default().seconds(cell, date).is_some();
        }
        let time = match self.is_clock {
            true => self.clock.seconds(cell, date).ok_or_else(|| row.not_a_number(column)),
            false => numbers.number(row, column),
        };
        match time {
            Ok(time) => {
                if self.values.last() == Some(&time) {
                    self.repeated = Some(cell.to_owned());
                }
                self.values.push(time);
            }
            Err(error) => self.error = Some(error),
        }
    }
}

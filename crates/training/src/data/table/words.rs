//! Columns of words, and what they say about the sensor of a row.

use csv::StringRecord;

use super::cells::{is_number, is_value};
use super::columns::{Columns, Only};
use super::dialect::Dialect;
use super::error::TableError;
use super::header::{Kind, kind_of_sensor, words};
use crate::data::recording_file::FormatError;

/// A column with more different cells is no name of sensors or axes.
const MOST_CELLS: usize = 64;

/// Rows that alternate at least so often between the names of a column are of several sensors.
const FEWEST_CHANGES: usize = 20;

/// A column without numbers and times, and its different cells.
#[derive(Default)]
pub struct Words {
    pub column: usize,
    pub cells: Vec<String>,
    /// How often the cell differs from the one in the row before.
    changes: usize,
    last: usize,
}

impl Words {
    /// Finds the columns of words.
    pub fn find(dialect: &Dialect) -> Result<Vec<Self>, FormatError> {
        Self::find_in(dialect, |cell| !is_value(cell))
    }

    fn find_in(
        dialect: &Dialect,
        is_kept: impl Fn(&str) -> bool,
    ) -> Result<Vec<Self>, FormatError> {
        let mut found: Option<Vec<Self>> = None;
        dialect.for_each_row(|record, _| {
            let columns = found.get_or_insert_with(|| {
                let columns = 0..record.len();
                columns.map(|column| Self { column, ..Self::default() }).collect()
            });
            columns.retain_mut(|words| {
                let cell = record.get(words.column).unwrap_or_default().trim();
                cell.is_empty() || (words.add(cell) && is_kept(cell))
            });
            Ok(())
        })?;
        let found = found.unwrap_or_default().into_iter();
        Ok(found.filter(|words| !words.cells.is_empty()).collect())
    }
}

impl Words {
    /// Adds the cell of the next row. Says whether there are still few different ones.
    fn add(&mut self, cell: &str) -> bool {
        let known = self.cells.iter().position(|known| known == cell);
        let at = known.unwrap_or_else(|| {
            self.cells.push(cell.to_owned());
            self.cells.len() - 1
        });
        self.changes += usize::from(at != self.last);
        self.last = at;
        self.cells.len() <= MOST_CELLS
    }
}

/// Whether a cell names an accelerometer.
pub fn is_accelerometer(cell: &str) -> bool {
    matches!(kind_of_sensor(cell), Kind::WithGravity | Kind::Acceleration | Kind::Linear)
}

/// The rows of each sensor, in a table with a row for each sample of one sensor.
pub struct SensorRows {
    pub acceleration: Only,
    pub angular_rate: Option<Only>,
}

impl SensorRows {
    /// Finds the column that names the sensor of each row. `None` if the rows are all of one sensor,
    /// which has no name.
    pub fn find(dialect: &Dialect, is_named: bool) -> Result<Option<Self>, FormatError> {
        let words = Words::find(dialect)?;
        let is_sensor = |cell: &String| kind_of_sensor(cell) != Kind::Unnamed;
        let Some(words) = words.iter().find(|words| words.cells.iter().any(is_sensor)) else {
            check_names(dialect)?;
            return Ok(None);
        };
        let only = |kind: Kind| -> Result<Option<Only>, TableError> {
            let cells = words.cells.iter().filter(|cell| kind_of_sensor(cell) == kind);
            let mut cells: Vec<&String> = cells.collect();
            // Android has both. Whatever the calibration, they measure the same.
            let is_raw = |cell: &&String| cell.to_lowercase().contains("uncal");
            if !cells.iter().all(is_raw) {
                cells.retain(|cell| !is_raw(cell));
            }
            match &cells[..] {
                [] => Ok(None),
                [cell] => Ok(Some(Only { column: words.column, cell: (*cell).clone() })),
                several => Err(TableError::SeveralSensors {
                    column: name(dialect, words.column),
                    cells: several
                        .iter()
                        .map(|cell| format!("{cell:?}"))
                        .collect::<Vec<_>>()
                        .join(" or "),
                }),
            }
        };
        let mut acceleration = None;
        for kind in [Kind::WithGravity, Kind::Acceleration] {
            if acceleration.is_none() {
                acceleration = only(kind)?;
            }
        }
        let sensors = || words.cells.join(", ");
        match acceleration {
            Some(acceleration) => {
                Ok(Some(Self { acceleration, angular_rate: only(Kind::AngularRate)? }))
            }
            // The columns say better what they are.
            None if is_named => Ok(None),
            None if only(Kind::Linear)?.is_some() => Err(TableError::Linear {
                columns: sensors(),
                remedy: "record with the accelerometer itself",
            }
            .into()),
            None if only(Kind::AngularRate)?.is_some() => {
                Err(TableError::OnlyAngularRate { columns: sensors() }.into())
            }
            None => Ok(None),
        }
    }
}

/// Refuses names and numbers of sensors that do not say what they measure.
fn check_names(dialect: &Dialect) -> Result<(), FormatError> {
    let is_named = |column: usize, names: &[&str]| {
        let name = name(dialect, column).to_lowercase().replace(['_', ' ', '-'], "");
        names.contains(&&name[..])
    };
    let is_sensor = |column: usize| {
        is_named(column, &["sensor", "sensorid", "sensortype", "sensorname", "sensornumber"])
    };
    let may_be_sensor = |column: usize| {
        is_named(column, &["device", "deviceid", "id", "kind", "name", "source", "type"])
    };
    if !(0..dialect.header.len()).any(|column| is_sensor(column) || may_be_sensor(column)) {
        return Ok(());
    }
    let words = Words::find_in(dialect, |cell| cell.parse::<i32>().is_ok() || !is_number(cell))?;
    let is_several = |words: &&Words| {
        let alternates = || words.changes >= FEWEST_CHANGES && may_be_sensor(words.column);
        words.cells.len() > 1 && (is_sensor(words.column) || alternates())
    };
    match words.iter().find(is_several) {
        Some(words) => Err(TableError::SeveralSensors {
            column: name(dialect, words.column),
            cells: words.cells.join(" or "),
        }
        .into()),
        None => Ok(()),
    }
}

/// Whether a column says who wore a device, which device it was, or where.
fn names_wearer(cell: &str) -> bool {
    let wearers = [
        "device",
        "limb",
        "location",
        "participant",
        "patient",
        "person",
        "placement",
        "position",
        "side",
        "smartphone",
        "subject",
        "user",
        "volunteer",
        "walker",
        "wearer",
    ];
    let beside = [
        "address", "body", "code", "id", "key", "label", "mac", "model", "name", "no", "number",
        "nr", "phone", "sensor", "serial", "source", "uuid",
    ];
    let words = words(cell);
    let joined = words.concat();
    let is_wearer = |word: &str| {
        let plain = word.strip_suffix("id").or(word.strip_suffix("name")).unwrap_or(word);
        wearers.contains(&plain) || wearers.iter().any(|it| plain.strip_suffix('s') == Some(it))
    };
    ["id", "name", "phone", "source"].contains(&&joined[..])
        || words.iter().any(|word| is_wearer(word))
            && words.iter().all(|word| is_wearer(word) || beside.contains(&&word[..]))
}

/// Whether a cell is no measurement.
fn is_name(cell: &str) -> bool {
    cell.parse::<i64>().is_ok() || !is_value(cell)
}

/// The columns that say who wore which device where, without those that number the rows.
pub fn wearer_columns(dialect: &Dialect) -> Result<Vec<usize>, FormatError> {
    let words = Words::find_in(dialect, is_name)?;
    let columns = words.into_iter().map(|words| words.column);
    let is_wearer = |column: &usize| dialect.header.get(*column).is_some_and(|it| names_wearer(it));
    Ok(columns.filter(is_wearer).collect())
}

/// The columns that say who wore which device where, and their different cells.
pub struct Wearers {
    columns: Vec<(String, Words)>,
}

impl Wearers {
    /// Finds the columns among those that are not read.
    pub fn find(dialect: &Dialect, columns: &Columns) -> Self {
        let is_read = |index: &usize| columns.are_read(*index);
        let all = (0..dialect.header.len()).filter(|index| dialect.has_names() && !is_read(index));
        let named = all.filter(|&column| names_wearer(&dialect.header[column]));
        let columns = named
            .map(|column| (dialect.header[column].clone(), Words { column, ..Words::default() }));
        Self { columns: columns.collect() }
    }

    /// Adds the cells of a row that is read.
    pub fn add(&mut self, record: &StringRecord) {
        self.columns.retain_mut(|(_, words)| {
            let cell = record.get(words.column).unwrap_or_default().trim();
            cell.is_empty() || (is_name(cell) && words.add(cell))
        });
    }

    /// Refuses rows of several.
    pub fn check(self) -> Result<(), TableError> {
        match self.columns.into_iter().find(|(_, words)| words.cells.len() > 1) {
            Some((column, Words { cells, .. })) => {
                Err(TableError::SeveralWalks { column, cells: cells.join(" or ") })
            }
            None => Ok(()),
        }
    }
}

fn name(dialect: &Dialect, column: usize) -> String {
    match dialect.has_names() {
        true => dialect.header.get(column).cloned().unwrap_or_default(),
        false => (column + 1).to_string(),
    }
}

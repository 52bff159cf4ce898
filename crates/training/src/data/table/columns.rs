//! Which columns of a table are read.

use std::fmt;

use super::cells::is_number;
use super::error::TableError;
use super::header::{Kind, Name, kind_of_file};
use super::names::ColumnNames;
use super::time_unit::unknown_time_unit;
use super::unit::{Quantity, Unit};
use super::words::SensorRows;

/// A column to read.
#[derive(Clone, Debug)]
pub struct Column {
    pub index: usize,
    pub name: String,
    pub unit: Option<Unit>,
}

/// Columns of one sensor.
#[derive(Clone, Debug)]
pub struct Axes {
    pub columns: [Column; 3],
    pub unit: Option<Unit>,
    /// What the names of columns and file say.
    pub kind: Kind,
    /// The rows to read; all if `None`.
    pub only: Option<Only>,
}

/// The rows with a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Only {
    pub column: usize,
    pub cell: String,
}

/// The columns to read.
#[derive(Debug)]
pub struct Columns {
    /// Each gives the times. There is none if the caller says a rate.
    pub times: Vec<Column>,
    /// Rate of even sampling, in Hz.
    pub rate_hz: Option<f64>,
    pub acceleration: Axes,
    pub angular_rate: Option<Axes>,
    /// Whether the rows begin with the line that was taken for the header.
    pub no_header: bool,
}

impl Axes {
    pub fn new(columns: [Column; 3], kind: Kind) -> Self {
        let unit = columns[0].unit;
        let same = columns.iter().all(|column| column.unit == unit);
        Self { unit: unit.filter(|_| same), columns, kind, only: None }
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = &self.columns;
        write!(out, "{:?}, {:?}, {:?}", x.name, y.name, z.name)?;
        self.only.as_ref().map_or(Ok(()), |only| write!(out, " of {:?}", only.cell))
    }
}

/// Whether a line can be the header.
pub fn is_header(cells: &[String], named: Option<&ColumnNames>) -> bool {
    match named {
        Some(names) if !names.all().all(|name| name.parse::<usize>().is_ok()) => {
            names.all().all(|name| !positions(cells, name).is_empty())
        }
        _ => has_axes(cells),
    }
}

/// Whether a sensor has all three axes among these names.
pub fn has_axes(names: &[String]) -> bool {
    sensors(names).next().is_some()
}

/// The columns with this name, or else with this name and a unit.
pub fn positions(header: &[String], name: &str) -> Vec<usize> {
    let without_unit = |cell: &String| cell.rsplit_once(" (").is_some_and(|(cell, _)| cell == name);
    let all = |is_it: &dyn Fn(&String) -> bool| -> Vec<usize> {
        (0..header.len()).filter(|&index| is_it(&header[index])).collect()
    };
    let same = all(&|cell| cell == name);
    if same.is_empty() { all(&without_unit) } else { same }
}

/// Finds the columns in the header. `stem` is the file's name without its ending.
pub fn find(
    header: &[String],
    stem: &str,
    named: Option<&ColumnNames>,
) -> Result<Columns, TableError> {
    if let Some(names) = named {
        return names.find(header);
    }
    if let [line] = header {
        return Err(TableError::OneCell { line: line.chars().take(64).collect() });
    }
    if let Some((_, rest)) = header.split_first()
        && rest.iter().filter(|cell| is_number(cell)).count() * 2 > rest.len()
    {
        return Err(TableError::NoHeader { is_transposed: false });
    }
    let acceleration = acceleration(header, stem)?;
    let angular_rate = match &of_kind(header, Kind::AngularRate, stem)[..] {
        [] => None,
        [axes] => Some(axes.clone()),
        several => return Err(several_columns("the angular rate", several)),
    };
    let mut times: Vec<Column> = columns(header)
        .filter(|(_, name)| name.kind == Kind::Time)
        .map(|(column, _)| column)
        .collect();
    // A column that says its unit comes first.
    times.sort_by_key(|column| (column.unit.is_none(), unknown_time_unit(&column.name).is_some()));
    if times.is_empty() {
        return Err(TableError::NoTime { header: joined(header) });
    }
    Ok(Columns { times, rate_hz: None, acceleration, angular_rate, no_header: false })
}

impl Columns {
    /// Whether a column gives times or values, or tells the sensor of a row.
    pub fn are_read(&self, index: usize) -> bool {
        let axes = [Some(&self.acceleration), self.angular_rate.as_ref()].into_iter().flatten();
        let is_of = |axes: &Axes| {
            axes.columns.iter().any(|column| column.index == index)
                || axes.only.as_ref().is_some_and(|only| only.column == index)
        };
        self.times.iter().any(|column| column.index == index) || axes.into_iter().any(is_of)
    }

    /// Reads the rows of each sensor, if a column says which sensor a row is of.
    pub fn of_sensors(mut self, rows: SensorRows) -> Self {
        self.acceleration.only = Some(rows.acceleration);
        let Some(only) = rows.angular_rate else { return self };
        let mut columns = self.acceleration.columns.clone();
        for column in &mut columns {
            column.unit = column.unit.filter(|unit| unit.quantity == Quantity::AngularRate);
        }
        let shared = Axes { only: Some(only), ..Axes::new(columns, Kind::AngularRate) };
        let is_shared = |axes: &Axes| axes.columns[0].index == shared.columns[0].index;
        if self.angular_rate.as_ref().is_none_or(is_shared) {
            self.angular_rate = Some(shared);
        }
        self
    }
}

fn acceleration(header: &[String], stem: &str) -> Result<Axes, TableError> {
    for kind in [Kind::WithGravity, Kind::Acceleration, Kind::Unnamed] {
        match &of_kind(header, kind, stem)[..] {
            [] => {}
            [axes] => return Ok(axes.clone()),
            several => return Err(several_columns("the acceleration", several)),
        }
    }
    if let [axes, ..] = &of_kind(header, Kind::Linear, stem)[..] {
        return Err(TableError::Linear {
            columns: axes.to_string(),
            remedy: match columns(header).any(|(_, name)| name.sensor == "gravity") {
                true => "add the columns of gravity to it, or record with the accelerometer itself",
                false => "record with the accelerometer itself",
            },
        });
    }
    if let [axes, ..] = &of_kind(header, Kind::AngularRate, stem)[..] {
        return Err(TableError::OnlyAngularRate { columns: axes.to_string() });
    }
    let has = |axis: &str| {
        columns(header)
            .any(|(_, name)| name.kind == Kind::Acceleration && name.axis == "xyz".find(axis))
    };
    let axis = ["x", "y", "z"].into_iter().find(|axis| !has(axis)).unwrap_or("x");
    Err(missing(&format!("a{axis}"), header))
}

/// The sensors of this kind that have all axes.
fn of_kind(header: &[String], kind: Kind, stem: &str) -> Vec<Axes> {
    let of_file = kind_of_file(stem);
    let found = sensors(header).map(|mut axes| {
        let is_unnamed = Name::of(&axes.columns[0].name).sensor.is_empty();
        match axes.kind {
            Kind::Unnamed => axes.kind = of_file,
            Kind::Acceleration if is_unnamed && of_file == Kind::Linear => axes.kind = of_file,
            _ => {}
        }
        axes
    });
    found.filter(|axes| axes.kind == kind).collect()
}

fn columns(header: &[String]) -> impl Iterator<Item = (Column, Name)> {
    header.iter().enumerate().map(|(index, cell)| {
        let name = Name::of(cell);
        (Column { index, name: cell.clone(), unit: name.unit }, name)
    })
}

/// Triples of axes with the same sensor and unit. If a name occurs twice, so does the sensor.
fn sensors(header: &[String]) -> impl Iterator<Item = Axes> {
    let mut groups: Vec<(Name, [Vec<Column>; 3])> = Vec::new();
    for (column, name) in columns(header) {
        let Some(axis) = name.axis else { continue };
        if matches!(name.kind, Kind::Time | Kind::Other) {
            continue;
        }
        let same = |it: &Name| it.sensor == name.sensor && it.unit == name.unit;
        let group = groups.iter().position(|(it, _)| same(it)).unwrap_or_else(|| {
            groups.push((name, Default::default()));
            groups.len() - 1
        });
        groups[group].1[axis].push(column);
    }
    groups.into_iter().flat_map(|(name, [x, y, z])| {
        let axes = x.into_iter().zip(y).zip(z);
        axes.map(move |((x, y), z)| Axes::new([x, y, z], name.kind))
    })
}

fn several_columns(what: &'static str, several: &[Axes]) -> TableError {
    let candidates: Vec<_> = several.iter().map(|axes| format!("({axes})")).collect();
    TableError::SeveralColumns { what, candidates: candidates.join(" or ") }
}

pub fn missing(column: &str, header: &[String]) -> TableError {
    TableError::MissingColumn { column: column.to_owned(), header: joined(header) }
}

fn joined(header: &[String]) -> String {
    header.iter().take(16).map(|cell| &cell[..]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(header: &str, stem: &str) -> Result<Columns, TableError> {
        let header: Vec<String> = header.split(';').map(str::to_owned).collect();
        find(&header, stem, None)
    }

    fn indices(axes: &Axes) -> [usize; 3] {
        axes.columns.each_ref().map(|column| column.index)
    }

    #[test]
    fn acceleration_with_gravity_is_chosen() {
        for (header, expected) in [
            ("t;ax;ay;az;gx;gy;gz", [1, 2, 3]),
            ("time;seconds_elapsed;z;y;x", [4, 3, 2]),
            ("time;gFx;gFy;gFz;ax;ay;az;wx;wy;wz;", [1, 2, 3]),
            ("t;ax;ay;az;gFx;gFy;gFz", [4, 5, 6]),
            (
                "ACCELEROMETER X (m/s²);ACCELEROMETER Y (m/s²);ACCELEROMETER Z (m/s²);GRAVITY X (m/s²);GRAVITY Y (m/s²);GRAVITY Z (m/s²);LINEAR ACCELERATION X (m/s²);LINEAR ACCELERATION Y (m/s²);LINEAR ACCELERATION Z (m/s²);Time since start in ms ",
                [0, 1, 2],
            ),
            (
                "t;acceleration.x;acceleration.y;acceleration.z;accelerationIncludingGravity.x;accelerationIncludingGravity.y;accelerationIncludingGravity.z",
                [4, 5, 6],
            ),
            ("t;x (g);y (g);z (g);x (rad/s);y (rad/s);z (rad/s);x (T);y (T);z (T)", [1, 2, 3]),
        ] {
            let found = find_in(header, "walk").unwrap();
            assert_eq!(indices(&found.acceleration), expected, "{header}");
        }
        let found = find_in(
            "epoc (ms);timestamp (-0700);elapsed (s);x-axis (g);y-axis (g);z-axis (g)",
            "Accelerometer",
        )
        .unwrap();
        let times: Vec<_> = found.times.iter().map(|column| column.index).collect();
        assert_eq!(times, [0, 2, 1]);
    }

    #[test]
    fn what_cannot_be_told_is_asked() {
        for (header, stem, expected) in [
            (
                "t;acc x;acc y;acc z;acc2 x;acc2 y;acc2 z",
                "walk",
                "the acceleration could be any of (\"acc x\",",
            ),
            (
                "t;x;y;z;x;y;z",
                "walk",
                "the acceleration could be any of (\"x\", \"y\", \"z\") or (\"x\",",
            ),
            ("t;ax;ay;az;gx;gy;gz;wx;wy;wz", "walk", "the angular rate could be any of"),
            (
                "t;ax;ay;az;ax2;ay2;az2",
                "walk",
                "(\"ax\", \"ay\", \"az\") or (\"ax2\", \"ay2\", \"az2\")",
            ),
            ("t;accX;accY;accZ;accX2;accY2;accZ2", "walk", "or (\"accX2\", \"accY2\", \"accZ2\")"),
            (
                "t;ax;ay;az;wrist_ax;wrist_ay;wrist_az",
                "walk",
                "or (\"wrist_ax\", \"wrist_ay\", \"wrist_az\")",
            ),
            ("t;ax_left;ay_left;az_left;ax_right;ay_right;az_right", "walk", "or (\"ax_right\""),
            ("t;x1;y1;z1;x2;y2;z2", "walk", "the acceleration could be any of (\"x1\""),
            ("t;ax;ay;az;gx;gy;gz;gx2;gy2;gz2", "walk", "the angular rate could be any of"),
            ("t;ax;ay", "walk", "no column az"),
            ("ax;ay;az", "walk", "t=50Hz"),
            ("t;x;y;z", "Gyroscope", "this is angular rate"),
            ("t;gx;gy;gz", "walk", "this is angular rate"),
            ("t;x;y;z", "Linear Accelerometer", "from which gravity was removed"),
            (
                "t;X (m/s^2);Y (m/s^2);Z (m/s^2)",
                "Linear Accelerometer",
                "from which gravity was removed",
            ),
            (
                "t;linear acceleration x;linear acceleration y;linear acceleration z;gx;gy;gz",
                "walk",
                "from which gravity was removed",
            ),
            (
                "gravity.x;gravity.y;gravity.z;userAcceleration.x;userAcceleration.y;userAcceleration.z",
                "walk",
                "add the columns of gravity",
            ),
            ("t ax ay az", "walk", "Separate cells by commas"),
            ("0;1;2;3", "walk", "--columns t=1"),
            ("0;1;2;3;walking;", "walk", "--columns t=1"),
            ("2024-05-07 16:29:36.000;1;2,5;3", "walk", "--columns t=1"),
        ] {
            let message = find_in(header, stem).unwrap_err().to_string();
            assert!(message.contains(expected), "{header}: {message}");
        }
    }
}

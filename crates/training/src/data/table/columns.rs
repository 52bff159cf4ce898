//! Which columns of a table are read.

use std::fmt;
use std::str::FromStr;

use super::error::TableError;
use super::header::{Kind, Name, kind_of_file};
use super::unit::{Quantity, Unit};

/// Columns that the caller names: `t=Time,ax=X,ay=Y,az=Z` and, with a gyroscope, `gx`, `gy`, `gz`.
/// Each is a name of the header, or a number from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnNames {
    time: String,
    acceleration: [String; 3],
    angular_rate: Option<[String; 3]>,
}

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KEYS: [&str; 7] = ["t", "ax", "ay", "az", "gx", "gy", "gz"];
        let mut found: [Option<String>; 7] = Default::default();
        let mut last = None;
        for part in text.split(',') {
            let pair = part.split_once('=');
            let key = pair.and_then(|(key, _)| KEYS.iter().position(|it| *it == key.trim()));
            match (pair, key, last) {
                (Some((_, name)), Some(key), _) => {
                    found[key] = Some(name.trim().to_owned());
                    last = Some(key);
                }
                // A comma in a name.
                (_, None, Some(last)) => {
                    if let Some(name) = &mut found[last] {
                        *name += &format!(",{part}");
                    }
                }
                _ => {
                    return Err(format!(
                        "{part:?} is not one of {}, = and a name",
                        KEYS.join(", ")
                    ));
                }
            }
        }
        match found {
            [Some(time), Some(ax), Some(ay), Some(az), rates @ ..] => {
                let acceleration = [ax, ay, az];
                let angular_rate = match rates {
                    [Some(gx), Some(gy), Some(gz)] => Some([gx, gy, gz]),
                    [None, None, None] => None,
                    _ => return Err("gx, gy and gz are needed, or none of them".to_owned()),
                };
                Ok(Self { time, acceleration, angular_rate })
            }
            _ => Err("t, ax, ay and az are needed".to_owned()),
        }
    }
}

/// A column to read.
#[derive(Clone, Debug)]
pub struct Column {
    pub index: usize,
    pub name: String,
    pub unit: Option<&'static Unit>,
}

/// Columns of one sensor.
#[derive(Clone, Debug)]
pub struct Axes {
    pub columns: [Column; 3],
    pub unit: Option<&'static Unit>,
    /// What the names of columns and file say.
    pub kind: Kind,
}

/// The columns to read.
#[derive(Debug)]
pub struct Columns {
    /// Each gives the times.
    pub times: Vec<Column>,
    pub acceleration: Axes,
    pub angular_rate: Option<Axes>,
    /// Whether the rows begin with the line that was taken for the header.
    pub no_header: bool,
}

impl Axes {
    fn new(columns: [Column; 3], kind: Kind) -> Self {
        let unit = columns[0].unit;
        let same = columns.iter().all(|column| column.unit == unit);
        Self { unit: unit.filter(|_| same), columns, kind }
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = &self.columns;
        write!(out, "{:?}, {:?}, {:?}", x.name, y.name, z.name)
    }
}

/// Whether a line can be the header.
pub fn is_header(cells: &[String], named: Option<&ColumnNames>) -> bool {
    match named {
        Some(names) if !names.all().all(|name| name.parse::<usize>().is_ok()) => {
            names.all().all(|name| cells.iter().any(|cell| cell == name))
        }
        _ => sensors(cells).next().is_some(),
    }
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
    if let Some((first, rest)) = header.split_first()
        && rest.iter().filter(|cell| is_number(cell)).count() * 2 > rest.len()
    {
        let begins_with_digit = first.starts_with(|c: char| c.is_ascii_digit());
        return Err(match is_number(first) || begins_with_digit {
            true => TableError::NoHeader,
            false => TableError::Transposed { row: first.clone() },
        });
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
    times.sort_by_key(|column| column.unit.is_none());
    if times.is_empty() {
        return Err(missing("t", header));
    }
    Ok(Columns { times, acceleration, angular_rate, no_header: false })
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
            remedy: "record with the accelerometer itself",
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

fn is_number(cell: &str) -> bool {
    cell.replace(',', ".").parse::<f64>().is_ok()
}

fn several_columns(what: &'static str, several: &[Axes]) -> TableError {
    let candidates: Vec<_> = several.iter().map(|axes| format!("({axes})")).collect();
    TableError::SeveralColumns { what, candidates: candidates.join(" or ") }
}

fn missing(column: &str, header: &[String]) -> TableError {
    let header = header.iter().take(16).map(|cell| &cell[..]).collect::<Vec<_>>().join(" ");
    TableError::MissingColumn { column: column.to_owned(), header }
}

impl ColumnNames {
    fn all(&self) -> impl Iterator<Item = &String> {
        let rates = self.angular_rate.iter().flatten();
        [&self.time].into_iter().chain(&self.acceleration).chain(rates)
    }

    fn find(&self, header: &[String]) -> Result<Columns, TableError> {
        let is_named = is_header(header, Some(self));
        let column = |name: &String, quantity| {
            let number = name.parse::<usize>().ok();
            let position = match number.filter(|number| (1..=header.len()).contains(number)) {
                Some(number) => Some(number - 1),
                None => header.iter().position(|cell| cell == name),
            };
            let index = position.ok_or_else(|| missing(name, header))?;
            let unit = Name::of(&header[index]).unit.filter(|unit| unit.quantity == quantity);
            Ok(Column { index, name: header[index].clone(), unit })
        };
        let axes = |[x, y, z]: &[String; 3], quantity, kind| {
            let columns = [column(x, quantity)?, column(y, quantity)?, column(z, quantity)?];
            Ok::<_, TableError>(Axes::new(columns, kind))
        };
        let acceleration = axes(&self.acceleration, Quantity::Acceleration, Kind::Acceleration)?;
        let rates = self.angular_rate.as_ref();
        let rates = rates.map(|names| axes(names, Quantity::AngularRate, Kind::AngularRate));
        let mut found = Columns {
            times: vec![column(&self.time, Quantity::Time)?],
            acceleration,
            angular_rate: rates.transpose()?,
            no_header: false,
        };
        let mut columns = found.acceleration.columns.iter();
        if !is_named && columns.all(|column| is_number(&column.name)) {
            found.no_header = true;
            let all = found.times.iter_mut().chain(&mut found.acceleration.columns);
            let rates = found.angular_rate.iter_mut().flat_map(|axes| &mut axes.columns);
            all.chain(rates).for_each(|column| column.name = (column.index + 1).to_string());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(header: &str, stem: &str, named: &str) -> Result<Columns, TableError> {
        let header: Vec<String> = header.split(';').map(str::to_owned).collect();
        let named = (!named.is_empty()).then(|| named.parse().unwrap());
        find(&header, stem, named.as_ref())
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
            let found = find_in(header, "walk", "").unwrap();
            assert_eq!(indices(&found.acceleration), expected, "{header}");
        }
        let found = find_in(
            "epoc (ms);timestamp (-0700);elapsed (s);x-axis (g);y-axis (g);z-axis (g)",
            "Accelerometer",
            "",
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
            ("t;ax;ay", "walk", "no column az"),
            ("ax;ay;az", "walk", "no column t"),
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
            ("t ax ay az", "walk", "Separate cells by commas"),
            ("0;1;2;3", "walk", "--columns t=1"),
            ("0;1;2;3;walking;", "walk", "--columns t=1"),
            ("2024-05-07 16:29:36.000;1;2,5;3", "walk", "--columns t=1"),
            ("t;0;0.02;0.04", "walk", "Transpose the table"),
        ] {
            let message = find_in(header, stem, "").unwrap_err().to_string();
            assert!(message.contains(expected), "{header}: {message}");
        }
    }

    #[test]
    fn columns_can_be_named_or_numbered() {
        let header = "clock;p;q;r;u, v (g)";
        let found = find_in(header, "walk", "t=clock,ax=u, v (g),ay=p,az=2").unwrap();
        assert_eq!((indices(&found.acceleration), found.no_header), ([4, 1, 1], false));
        let found =
            find_in("0;1;2;3;4;5;6", "Gyroscope", "t=1,az=4,ay=3,ax=2,gx=5,gy=6,gz=7").unwrap();
        assert!(found.no_header && found.angular_rate.is_some());
        assert_eq!(found.acceleration.columns[2].name, "4");
        let message = find_in(header, "walk", "t=clock,ax=5,ay=6,az=p").unwrap_err().to_string();
        assert!(message.contains("no column 6"), "{message}");
        for text in ["", "t=1", "t=1,ax=2,ay=3,az=4,gx=5", "q=1", "t"] {
            assert!(text.parse::<ColumnNames>().is_err(), "{text}");
        }
    }
}

//! Columns that the caller names.

use std::str::FromStr;

use super::cells::is_number;
use super::columns::{Axes, Column, Columns, is_header, missing, positions};
use super::error::TableError;
use super::header::{Kind, Name};
use super::unit::Quantity;

/// Columns that the caller names: `t=Time,ax=X,ay=Y,az=Z` and, with a gyroscope, `gx`, `gy`, `gz`.
/// Each is a name of the header, or a number from 1. `t=50Hz` says that sampling is even instead.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnNames {
    time: TimeName,
    acceleration: [String; 3],
    angular_rate: Option<[String; 3]>,
}

#[derive(Clone, Debug, PartialEq)]
enum TimeName {
    Column(String),
    RateHz(f64),
}

impl TimeName {
    fn new(name: String) -> Self {
        let lower = name.to_lowercase();
        let rate = lower.strip_suffix("hz").and_then(|rate| rate.trim().parse().ok());
        match rate.filter(|rate: &f64| (1.0..=10_000.0).contains(rate)) {
            Some(rate_hz) => Self::RateHz(rate_hz),
            None => Self::Column(name),
        }
    }
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
                (Some(_), Some(key), _) if found[key].is_some() => {
                    return Err(format!("{} is named twice", KEYS[key]));
                }
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
                Ok(Self { time: TimeName::new(time), acceleration, angular_rate })
            }
            _ => Err("t, ax, ay and az are needed".to_owned()),
        }
    }
}

impl ColumnNames {
    /// The names, without a rate.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        let time = match &self.time {
            TimeName::Column(name) => Some(name),
            TimeName::RateHz(_) => None,
        };
        let rates = self.angular_rate.iter().flatten();
        time.into_iter().chain(&self.acceleration).chain(rates)
    }

    /// Finds the columns in the header, or by their numbers.
    pub fn find(&self, header: &[String]) -> Result<Columns, TableError> {
        let is_named = is_header(header, Some(self));
        let column = |name: &String, quantity| {
            let number = name.parse::<usize>().ok();
            let index = match number.filter(|number| (1..=header.len()).contains(number)) {
                Some(number) => number - 1,
                None => match positions(header, name)[..] {
                    [] => return Err(missing(name, header)),
                    [index] => index,
                    ref several => return Err(ambiguous(name, several)),
                },
            };
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
        let (times, rate_hz) = match &self.time {
            TimeName::Column(name) => (vec![column(name, Quantity::Time)?], None),
            TimeName::RateHz(rate_hz) => (Vec::new(), Some(*rate_hz)),
        };
        let mut found = Columns {
            times,
            rate_hz,
            acceleration,
            angular_rate: rates.transpose()?,
            no_header: false,
        };
        found.check_repeated()?;
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

impl Columns {
    /// Refuses a column that is read twice.
    fn check_repeated(&self) -> Result<(), TableError> {
        let axes = [Some(&self.acceleration), self.angular_rate.as_ref()];
        let axes = axes.into_iter().flatten().flat_map(|axes| &axes.columns);
        let mut seen: Vec<&Column> = Vec::new();
        for column in self.times.iter().chain(axes) {
            if seen.iter().any(|it| it.index == column.index) {
                let column = column.name.clone();
                return Err(TableError::RepeatedColumn { column });
            }
            seen.push(column);
        }
        Ok(())
    }
}

fn ambiguous(name: &str, several: &[usize]) -> TableError {
    let numbers: Vec<_> = several.iter().map(|index| (index + 1).to_string()).collect();
    TableError::AmbiguousColumn { name: name.to_owned(), numbers: numbers.join(" or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(header: &str, names: &str) -> Result<Columns, TableError> {
        let header: Vec<String> = header.split(';').map(str::to_owned).collect();
        names.parse::<ColumnNames>().unwrap().find(&header)
    }

    fn indices(axes: &Axes) -> [usize; 3] {
        axes.columns.each_ref().map(|column| column.index)
    }

    #[test]
    fn columns_can_be_named_or_numbered() {
        let header = "clock;p;q;r;u, v (g)";
        let found = find_in(header, "t=clock,ax=u, v (g),ay=p,az=3").unwrap();
        assert_eq!((indices(&found.acceleration), found.no_header), ([4, 1, 2], false));
        let found = find_in("0;1;2;3;4;5;6", "t=1,az=4,ay=3,ax=2,gx=5,gy=6,gz=7").unwrap();
        assert!(found.no_header && found.angular_rate.is_some());
        assert_eq!(found.acceleration.columns[2].name, "4");
        let message = find_in(header, "t=clock,ax=5,ay=6,az=p").unwrap_err().to_string();
        assert!(message.contains("no column 6"), "{message}");
        let found = find_in(header, "t=50 Hz,ax=p,ay=q,az=u, v").unwrap();
        assert_eq!((found.rate_hz, indices(&found.acceleration)), (Some(50.0), [1, 2, 4]));
        for text in ["", "t=1", "t=1,ax=2,ay=3,az=4,gx=5", "q=1", "t", "t=1,ax=2,ay=3,az=4,ax=5"] {
            assert!(text.parse::<ColumnNames>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_name_is_of_one_column_and_each_column_of_one_axis() {
        let header = "t;x;y;z;x;y;z (g);z (m/s^2)";
        for (names, expected) in [
            ("t=t,ax=2,ay=2,az=2", "column \"x\" is named twice"),
            ("t=t,ax=2,ay=3,az=t", "column \"t\" is named twice"),
            ("t=1,ax=2,ay=3,az=4,gx=5,gy=6,gz=3", "column \"y\" is named twice"),
            ("t=t,ax=x,ay=3,az=4", "\"x\" is the name of columns 2 or 5"),
            ("t=t,ax=2,ay=3,az=q", "no column q"),
        ] {
            let message = find_in(header, names).unwrap_err().to_string();
            assert!(message.contains(expected), "{names}: {message}");
        }
        let message =
            find_in("t;x;y;z (g);z (m/s^2)", "t=t,ax=x,ay=y,az=z").unwrap_err().to_string();
        assert!(message.contains("\"z\" is the name of columns 4 or 5"), "{message}");
        let found = find_in(header, "t=t,ax=2,ay=3,az=z").unwrap();
        assert_eq!(indices(&found.acceleration), [1, 2, 3]);
    }
}

//! Units of time in the names of columns.

use super::header::{Kind, Name, without_unit, words};
use super::unit::{Quantity, Unit};

/// Units of time that [`Unit`] does not have, as words of a name.
const OTHER_TIME_UNITS: [&str; 18] = [
    "centiseconds",
    "cs",
    "deciseconds",
    "ds",
    "frames",
    "h",
    "hour",
    "hours",
    "hr",
    "hrs",
    "jiffies",
    "min",
    "mins",
    "minute",
    "minutes",
    "tick",
    "ticks",
    "weeks",
];

/// Words beside a unit, or without one: zones, formats and origins.
const REMARKS: [&str; 28] = [
    "midnight",
    "absolute",
    "boot",
    "date",
    "device",
    "elapsed",
    "epoch",
    "gmt",
    "iso",
    "iso8601",
    "local",
    "phone",
    "posix",
    "raw",
    "relative",
    "sensor",
    "since",
    "start",
    "system",
    "text",
    "time",
    "timestamp",
    "txt",
    "unitless",
    "unix",
    "uptime",
    "utc",
    "zone",
];

/// The unit that the name of a time says, if it is none of the known ones.
pub fn unknown_time_unit(cell: &str) -> Option<String> {
    let name = Name::of(cell);
    if name.kind != Kind::Time || name.unit.is_some() {
        return None;
    }
    let (text, said) = without_unit(cell);
    let said = said.or_else(|| text.rsplit_once(" in ").map(|(_, unit)| unit));
    match said.map(str::trim).filter(|said| said.contains(char::is_alphabetic)) {
        Some(said) => (!is_clock_or_zone(said)).then(|| said.to_owned()),
        None => words(text).into_iter().find(|word| OTHER_TIME_UNITS.contains(&&word[..])),
    }
}

/// Whether what is in parentheses after a time is no unit, but a zone, a format or an origin.
fn is_clock_or_zone(said: &str) -> bool {
    let signed = |c: char| "+-".contains(c);
    let lower = said.to_lowercase();
    let is_format = ["hh", "mm:", "yy"].iter().any(|part| lower.contains(part));
    let is_offset =
        said.starts_with(signed) && said[1..].bytes().all(|it| b"0123456789:".contains(&it));
    is_format || is_offset || words(said).iter().any(|word| REMARKS.contains(&&word[..]))
}

/// The unit of time in a text such as `ms since boot`, or the text.
pub fn without_remarks(text: &str) -> &str {
    let text = text.trim();
    let is_origin = |word: &str| ["since", "from", "after"].contains(&word);
    let parts = || text.split([' ', ',']).filter(|word| !word.is_empty());
    let before_origin = parts().take_while(|word| !is_origin(word));
    let mut left = before_origin.filter(|word| !REMARKS.contains(&&word.to_lowercase()[..]));
    match (left.next(), left.next()) {
        (Some(unit), None) if is_time(unit) => unit,
        _ => text,
    }
}

fn is_time(unit: &str) -> bool {
    Unit::spelled(unit).is_some_and(|unit| unit.quantity == Quantity::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_time_that_are_not_known_are_told_from_zones() {
        for (cell, unit) in [
            ("Time (cs)", "cs"),
            ("t [0.1 ms]", "0.1 ms"),
            ("Time (1/10 ms)", "1/10 ms"),
            ("Time (h)", "h"),
            ("Zeit [Std]", "Std"),
            ("time (counts)", "counts"),
            ("time [Hz]", "Hz"),
            ("Time in fortnights", "fortnights"),
            ("elapsed_minutes", "minutes"),
            ("ticks time", "ticks"),
        ] {
            assert_eq!(unknown_time_unit(cell).as_deref(), Some(unit), "{cell}");
        }
        for cell in [
            "t",
            "t ()",
            "time (-)",
            "timestamp (-0700)",
            "Time (UTC+02:00)",
            "time (hh:mm:ss)",
            "loggingTime(txt)",
            "timestamp (unix)",
            "Time in UTC",
            "Time (s)",
            "ax (cs)",
        ] {
            assert_eq!(unknown_time_unit(cell), None, "{cell}");
        }
    }
}

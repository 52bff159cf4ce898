//! Tables that do not have a row for each sample, rewritten so that they do.

use std::collections::HashMap;

use csv::StringRecord;

use super::cells::{is_number, is_value};
use super::columns::has_axes;
use super::dialect::Dialect;
use super::header::{Kind, Name, with_unit};
use super::unit::Unit;
use super::words::{Words, is_accelerometer};
use crate::data::recording_file::FormatError;

/// A line with a name and this many numbers is a channel.
const FEWEST_SAMPLES: usize = 10;

/// Without names, a table with at most so many lines, and this many cells in each, has a line for each
/// channel: nobody walks in so few samples.
const MOST_CHANNELS: usize = 20;
const FEWEST_CELLS: usize = 50;

/// Whether a line is a channel: its name, in one cell or more, and its samples.
pub fn is_channel(cells: &[String]) -> bool {
    let samples = cells.iter().skip_while(|cell| !is_value(cell)).count();
    cells.first().is_some_and(|name| name.contains(char::is_alphabetic))
        && samples < cells.len()
        && samples >= FEWEST_SAMPLES
        && cells.iter().filter(|cell| is_value(cell)).count() * 2 > cells.len()
}

/// The name of a channel and its samples, which some tables separate by the unit.
fn named(cells: &[String]) -> Vec<String> {
    let words = cells.iter().position(|cell| is_value(cell)).unwrap_or_default();
    let name = cells[..words].iter().fold(String::new(), |name, cell| match Unit::spelled(cell) {
        Some(_) if !name.is_empty() => with_unit(&name, cell),
        _ => format!("{name} {cell}").trim().to_owned(),
    });
    [name].into_iter().chain(cells[words..].iter().cloned()).collect()
}

/// A table with a row for each sample, whose cells are separated by tabs.
pub struct Rewritten {
    pub text: String,
    /// How it was written, in words.
    pub layout: &'static str,
}

/// Rewrites a table, if it has no row for each sample.
pub fn with_a_row_for_each_sample(dialect: &Dialect) -> Result<Option<Rewritten>, FormatError> {
    let is_wide =
        dialect.header.len() >= FEWEST_CELLS && dialect.header.iter().all(|it| is_number(it));
    if is_channel(&dialect.header) || is_wide {
        let text = transposed(dialect)?;
        Ok(text.map(|text| Rewritten { text, layout: "a line for each channel; " }))
    } else if has_axes(&dialect.header) {
        Ok(None)
    } else {
        let text = pivoted(dialect)?;
        Ok(text.map(|text| Rewritten { text, layout: "a row for each value; " }))
    }
}

/// From a line for each channel.
fn transposed(dialect: &Dialect) -> Result<Option<String>, FormatError> {
    let mut channels = vec![dialect.header.clone()];
    dialect.for_each_row(|record, _| {
        channels.push(record.iter().map(|cell| cell.trim().to_owned()).collect());
        Ok(())
    })?;
    if channels.iter().all(|cells| cells.iter().all(|cell| is_number(cell))) {
        if channels.len() > MOST_CHANNELS {
            return Ok(None);
        }
    } else {
        channels.retain(|cells| is_channel(cells));
        channels = channels.iter().map(|cells| named(cells)).collect();
    }
    let samples = channels.iter().map(Vec::len).max().unwrap_or_default();
    let row =
        |at: usize| channels.iter().map(move |cells| cells.get(at).map_or("", String::as_str));
    Ok(Some(written((0..samples).map(row))))
}

/// From a row for each value, which says the axis.
fn pivoted(dialect: &Dialect) -> Result<Option<String>, FormatError> {
    let words = Words::find(dialect)?;
    let is_axis = |cell: &String| ["x", "y", "z"].contains(&&cell.to_lowercase()[..]);
    let axis = words.iter().find(|words| words.cells.len() == 3 && words.cells.iter().all(is_axis));
    let channel = words.iter().find(|words| has_axes(&words.cells));
    let key: Vec<usize> = match (axis, channel) {
        (Some(axis), _) => {
            let sensor =
                words.iter().find(|words| words.cells.iter().any(|it| is_accelerometer(it)));
            sensor.into_iter().chain([axis]).map(|words| words.column).collect()
        }
        (None, Some(channel)) => vec![channel.column],
        (None, None) => return Ok(None),
    };
    let is_of = |kind: Kind, at: usize| Name::of(&dialect.header[at]).kind == kind;
    let columns = 0..dialect.header.len();
    let times: Vec<usize> = columns.clone().filter(|&at| is_of(Kind::Time, at)).collect();
    let is_free = |at: &usize| !times.contains(at) && words.iter().all(|it| it.column != *at);
    let free: Vec<usize> = columns.filter(is_free).collect();
    let is_value = |at: &&usize| {
        let name = dialect.header[**at].to_lowercase();
        ["value", "reading", "measurement"].iter().any(|word| name.contains(word))
    };
    let value = match free[..] {
        [value] => value,
        _ => match free.iter().filter(is_value).collect::<Vec<_>>()[..] {
            [&value] => value,
            _ => return Ok(None),
        },
    };

    let cell =
        |record: &StringRecord, at: usize| record.get(at).unwrap_or_default().trim().to_owned();
    let mut names: Vec<String> = Vec::new();
    let mut rows: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    // The axes of a sample have the same times, and so many earlier values with these times.
    let mut earlier: HashMap<(String, Vec<String>), usize> = HashMap::new();
    let mut samples: HashMap<(String, Vec<String>, usize), usize> = HashMap::new();
    dialect.for_each_row(|record, _| {
        let parts: Vec<String> = key.iter().map(|&at| cell(record, at)).collect();
        let name = parts.join(" ");
        let sensor = Name::of(&name).sensor;
        let time: Vec<String> = times.iter().map(|&at| cell(record, at)).collect();
        let count = earlier.entry((name.clone(), time.clone())).or_default();
        let row = *samples.entry((sensor, time.clone(), *count)).or_insert(rows.len());
        *count += 1;
        if row == rows.len() {
            rows.push((time, Vec::new()));
        }
        let column = names.iter().position(|it| *it == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        let cells = &mut rows[row].1;
        cells.resize(cells.len().max(column + 1), String::new());
        cells[column] = cell(record, value);
        Ok(())
    })?;
    for (_, cells) in &mut rows {
        cells.resize(names.len(), String::new());
    }
    let header = (times.iter().map(|&at| dialect.header[at].clone()).collect(), names);
    let rows = [&header].into_iter().chain(&rows);
    Ok(Some(written(rows.map(|(times, cells)| times.iter().chain(cells).map(String::as_str)))))
}

fn written<'a>(rows: impl Iterator<Item = impl Iterator<Item = &'a str>>) -> String {
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    for row in rows {
        // Every row has the same number of cells, and memory can be written to.
        let _ = writer.write_record(row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

//! Tables that do not have a row for each sample, rewritten so that they do.

use std::collections::HashMap;

use csv::StringRecord;

use super::cells::{is_number, is_value};
use super::columns::has_axes;
use super::dialect::Dialect;
use super::header::{Kind, Name, with_unit};
use super::unit::Unit;
use super::words::{Words, is_accelerometer, wearer_columns};
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
    let is_named = is_channel(&dialect.header);
    let mut channels = vec![dialect.header.clone()];
    dialect.for_each_row(|record, _| {
        if is_named || channels.len() <= MOST_CHANNELS {
            channels.push(record.iter().map(|cell| cell.trim().to_owned()).collect());
        }
        Ok(())
    })?;
    if is_named {
        channels.retain(|cells| is_channel(cells));
        channels = channels.iter().map(|cells| named(cells)).collect();
    } else if channels.len() > MOST_CHANNELS {
        return Ok(None);
    }
    let samples = channels.iter().map(Vec::len).max().unwrap_or_default();
    let row =
        |at: usize| channels.iter().map(move |cells| cells.get(at).map_or("", String::as_str));
    Ok(Some(written((0..samples).map(row))))
}

/// The columns of a table with a row for each value.
struct ValueRows {
    /// Name the channel together: sensor and axis, or both in one column.
    channel: Vec<usize>,
    times: Vec<usize>,
    value: usize,
}

impl ValueRows {
    fn find(dialect: &Dialect) -> Result<Option<Self>, FormatError> {
        let words = Words::find(dialect)?;
        let find = |is_meant: &dyn Fn(&[String]) -> bool| {
            words.iter().find(|words| is_meant(&words.cells)).map(|words| words.column)
        };
        let is_axis = |cell: &String| ["x", "y", "z"].contains(&&cell.to_lowercase()[..]);
        let axis = find(&|cells| cells.len() == 3 && cells.iter().all(is_axis));
        let channel: Vec<usize> = match axis {
            Some(axis) => {
                let sensor = find(&|cells| cells.iter().any(|cell| is_accelerometer(cell)));
                sensor.into_iter().chain([axis]).collect()
            }
            None => find(&has_axes).into_iter().collect(),
        };
        let columns = 0..dialect.header.len();
        let is_time = |at: &usize| Name::of(&dialect.header[*at]).kind == Kind::Time;
        let wearers = wearer_columns(dialect)?;
        // Who wore the device stays with the times.
        let is_kept = |at: &usize| is_time(at) || (wearers.contains(at) && !channel.contains(at));
        let times: Vec<usize> = columns.clone().filter(is_kept).collect();
        let is_free = |at: &usize| !times.contains(at) && words.iter().all(|it| it.column != *at);
        let mut values: Vec<usize> = columns.filter(is_free).collect();
        if values.len() > 1 {
            let names = ["value", "reading", "measurement"];
            values.retain(|&at| {
                names.iter().any(|name| dialect.header[at].to_lowercase().contains(name))
            });
        }
        match values[..] {
            [value] if !channel.is_empty() => Ok(Some(Self { channel, times, value })),
            _ => Ok(None),
        }
    }
}

/// From a row for each value.
fn pivoted(dialect: &Dialect) -> Result<Option<String>, FormatError> {
    let Some(columns) = ValueRows::find(dialect)? else { return Ok(None) };
    let joined = |record: &StringRecord, columns: &[usize], between| {
        let cells = columns.iter().map(|&at| record.get(at).unwrap_or_default().trim());
        cells.collect::<Vec<_>>().join(between)
    };
    let (mut channels, mut sensors, mut moments) = <(Numbered, Numbered, Numbered)>::default();
    let mut sensor_of = Vec::new();
    // The axes of a sample have the same times, and so many earlier values with these times.
    let mut earlier: HashMap<(usize, usize), usize> = HashMap::new();
    let mut samples: HashMap<(usize, usize, usize), usize> = HashMap::new();
    let mut rows: Vec<(usize, Vec<String>)> = Vec::new();
    dialect.for_each_row(|record, _| {
        let name = joined(record, &columns.channel, " ");
        let channel = channels.number(&name);
        if channel == sensor_of.len() {
            sensor_of.push(sensors.number(&Name::of(&name).sensor));
        }
        let moment = moments.number(&joined(record, &columns.times, "\t"));
        let count = earlier.entry((channel, moment)).or_default();
        let row = *samples.entry((sensor_of[channel], moment, *count)).or_insert(rows.len());
        *count += 1;
        if row == rows.len() {
            rows.push((moment, Vec::new()));
        }
        let cells = &mut rows[row].1;
        cells.resize(cells.len().max(channel + 1), String::new());
        cells[channel] = joined(record, &[columns.value], "");
        Ok(())
    })?;
    for (_, cells) in &mut rows {
        cells.resize(channels.names.len(), String::new());
    }
    let times = columns.times.iter().map(|&at| &dialect.header[at][..]);
    let header = times.chain(channels.names.iter().map(String::as_str)).collect();
    let rows = rows.iter().map(|(moment, cells)| {
        let times = moments.names[*moment].split('\t').take(columns.times.len());
        times.chain(cells.iter().map(String::as_str)).collect()
    });
    Ok(Some(written([header].into_iter().chain(rows).map(Vec::into_iter))))
}

/// Names in the order in which they came first.
#[derive(Default)]
struct Numbered {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Numbered {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

fn written<'a>(rows: impl Iterator<Item = impl Iterator<Item = &'a str>>) -> String {
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    for row in rows {
        // Every row has the same number of cells, and memory can be written to.
        let _ = writer.write_record(row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

//! Lines and their cells: what separates them.

use csv::{ReaderBuilder, StringRecord};

use super::clock::Clock;

/// What stands between cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    Char(u8),
    /// Spaces and tabs, any number of them.
    Blanks,
}

/// What a line that is no row begins with.
pub const COMMENT: [char; 2] = ['#', '%'];

/// Reads the records of a text.
pub enum Reader<'a> {
    Csv(csv::Reader<&'a [u8]>),
    Blanks { text: &'a str, place: usize },
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str, delimiter: Delimiter) -> Self {
        match delimiter {
            Delimiter::Char(delimiter) => Self::Csv(csv_reader(text, delimiter)),
            Delimiter::Blanks => Self::Blanks { text, place: 0 },
        }
    }

    /// Reads the next record that is neither blank nor a comment. Gives its place in the text.
    pub fn read(&mut self, record: &mut StringRecord) -> Result<Option<usize>, csv::Error> {
        match self {
            Self::Csv(reader) => {
                while reader.read_record(record)? {
                    if !record.get(0).is_some_and(|cell| cell.starts_with(COMMENT)) {
                        let position = record.position();
                        return Ok(Some(position.map_or(0, csv::Position::byte) as usize));
                    }
                }
                Ok(None)
            }
            Self::Blanks { text, place } => {
                while *place < text.len() {
                    let rest = &text[*place..];
                    let line = rest.split(['\n', '\r']).next().unwrap_or_default();
                    let begin = *place;
                    *place += line.len() + 1;
                    if !line.trim().is_empty() && !line.starts_with(COMMENT) {
                        *record = split_blanks(line).into();
                        return Ok(Some(begin));
                    }
                }
                Ok(None)
            }
        }
    }
}

fn csv_reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true).comment(Some(b'#'));
    builder.from_reader(text.as_bytes())
}

/// Cells between blanks. A cell in quotes may have blanks.
fn split_blanks(line: &str) -> Vec<String> {
    let mut cells: Vec<String> = Vec::new();
    let (mut is_quoted, mut is_between) = (false, true);
    for c in line.chars() {
        if c == '"' {
            is_quoted = !is_quoted;
        }
        if c.is_whitespace() && !is_quoted {
            is_between = true;
            continue;
        }
        if std::mem::replace(&mut is_between, false) {
            cells.push(String::new());
        }
        if let Some(cell) = cells.last_mut().filter(|_| c != '"') {
            cell.push(c);
        }
    }
    cells
}

/// A header between blanks. Two blanks separate names with blanks in them, and a unit in parentheses
/// belongs to the name before.
fn split_blank_header(line: &str, is_header: impl Fn(&[String]) -> bool) -> Vec<String> {
    let tidy = line.trim().replace('\t', "  ");
    let names = tidy.split("  ").map(|name| name.trim().replace('"', ""));
    let wide: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if wide.len() >= 4 && is_header(&wide) {
        return wide;
    }
    let mut names: Vec<String> = Vec::new();
    for cell in split_blanks(line) {
        match names.last_mut() {
            Some(name) if cell.starts_with(['(', '[']) => *name += &format!(" {cell}"),
            _ => names.push(cell),
        }
    }
    names
}

/// The delimiter and cells of a line, and whether they are a header.
pub fn best_split(
    line: &str,
    said: Option<u8>,
    is_header: impl Fn(&[String]) -> bool,
) -> (Delimiter, Vec<String>, bool) {
    let delimiters = match said {
        Some(delimiter) => vec![Delimiter::Char(delimiter)],
        None => delimiters(line),
    };
    let mut splits = delimiters.into_iter().map(|delimiter| {
        let cells = match delimiter {
            Delimiter::Char(delimiter) => cells(line, delimiter),
            Delimiter::Blanks => split_blank_header(line, &is_header),
        };
        let is_accepted = is_header(&cells);
        (delimiter, cells, is_accepted)
    });
    let likeliest = splits.next().unwrap_or((Delimiter::Blanks, Vec::new(), false));
    if likeliest.2 {
        return likeliest;
    }
    splits.find(|(_, _, is_accepted)| *is_accepted).unwrap_or(likeliest)
}

fn cells(line: &str, delimiter: u8) -> Vec<String> {
    let mut record = StringRecord::new();
    // A line of a string is always a record.
    let _ = csv_reader(line, delimiter).read_record(&mut record);
    // Some loggers end each line with a semicolon.
    record.iter().map(|cell| cell.trim_end_matches(';').trim().to_owned()).collect()
}

/// The delimiter that a first line such as `sep=;` tells spreadsheets.
pub fn separator(line: &str) -> Option<u8> {
    let line = line.trim_matches('"');
    let name = line.get(..4).filter(|name| name.eq_ignore_ascii_case("sep="))?;
    match &line.as_bytes()[name.len()..] {
        [delimiter @ (b',' | b';' | b'\t' | b'|')] => Some(*delimiter),
        _ => None,
    }
}

/// What may separate the cells of a line, the likeliest first: what occurs most often outside quotes.
fn delimiters(line: &str) -> Vec<Delimiter> {
    // Of equals, the first: names and numbers have commas, but hardly semicolons or tabs.
    let mut counts = [(b'\t', 0), (b';', 0), (b'|', 0), (b',', 0)];
    let mut quoted = false;
    for byte in line.bytes() {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(it, _)| *it == byte && !quoted) {
            *count += 1;
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let found = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut delimiters: Vec<Delimiter> = found.map(|(it, _)| Delimiter::Char(it)).collect();
    let between_blanks = split_blanks(line);
    // Commas may be decimal signs.
    let are_numbers = between_blanks.iter().all(|cell| is_number(cell) && !cell.ends_with(','));
    let position = if are_numbers && between_blanks.len() > 1 { 0 } else { delimiters.len() };
    delimiters.insert(position, Delimiter::Blanks);
    delimiters
}

/// The names in a line such as `ax:0.1,ay:0.2`.
pub fn labels(cells: &[String]) -> Option<Vec<String>> {
    let name = |cell: &String| Some(label(cell)?.0.to_owned());
    let named = cells.iter().filter(|cell| !cell.is_empty()).map(name).collect::<Option<Vec<_>>>();
    named.filter(|names| names.len() > 1)
}

/// The name and the number of a cell such as `ax:0.1`.
pub fn label(cell: &str) -> Option<(&str, &str)> {
    let (name, value) = cell.split_once([':', '='])?;
    let (name, value) = (name.trim(), value.trim());
    (name.starts_with(char::is_alphabetic) && is_number(value)).then_some((name, value))
}

/// Whether a cell is a number, with a decimal point or a decimal comma.
pub fn is_number(cell: &str) -> bool {
    cell.replace(',', ".").parse::<f64>().is_ok()
}

/// Whether a cell is a number or a time of day.
pub fn is_value(cell: &str) -> bool {
    is_number(cell) || Clock::default().seconds(cell, "").is_some()
}

#[cfg(test)]
mod tests {
    use super::Delimiter::{Blanks, Char};
    use super::*;

    #[test]
    fn numbers_between_blanks_may_have_decimal_commas() {
        for (line, expected) in [
            ("0,02 1,5 2,3 9,8", Blanks),
            ("  1.0e+00   2.5", Blanks),
            ("1, 2, 3", Char(b',')),
            ("0.5 m, 2", Char(b',')),
            ("a;1,5;2,5", Char(b';')),
            ("t ax", Blanks),
        ] {
            assert_eq!(delimiters(line)[0], expected, "{line}");
        }
    }
}

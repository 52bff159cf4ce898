//! How a table is written: where its header is, and what stands between cells.

use csv::{ReaderBuilder, StringRecord};

use crate::data::recording_file::FormatError;

/// Lines before the header that may say something else.
const MAX_LINES_BEFORE_HEADER: usize = 40;

/// The way a table is written.
pub struct Dialect<'a> {
    pub delimiter: u8,
    /// Cells of the header; those of the first row if there is no header.
    pub header: Vec<String>,
    /// The lines from the header on.
    lines: &'a str,
    /// Whether the first of them is a header.
    has_header: bool,
    lines_before: usize,
}

impl<'a> Dialect<'a> {
    /// Finds the header: the first line that `is_header` accepts, or else the first that is neither
    /// blank, a comment nor `sep=`. `None` if there is no line.
    pub fn find(text: &'a str, is_header: impl Fn(&[String]) -> bool) -> Option<Self> {
        let (mut said, mut first) = (None, None);
        let (mut rest, mut lines) = (text, 0);
        while !rest.is_empty() && lines < MAX_LINES_BEFORE_HEADER {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            let after = after.strip_prefix("\r\n").unwrap_or(after.get(1..).unwrap_or_default());
            let begin = std::mem::replace(&mut rest, after);
            lines += 1;
            let is_blank = line.trim_matches([' ', '\t', ',', ';', '"']).is_empty();
            if is_blank || line.starts_with('#') {
                continue;
            }
            if let Some(delimiter) = separator(line) {
                said = Some(delimiter);
                continue;
            }
            let delimiter = said.unwrap_or_else(|| most_frequent(line));
            let header = cells(line, delimiter);
            let found = is_header(&header);
            let dialect =
                Self { delimiter, header, lines: begin, has_header: true, lines_before: lines - 1 };
            if found {
                return Some(dialect);
            }
            first = first.or(Some(dialect));
        }
        first
    }

    /// The same table, if its first line turns out to be a row.
    pub fn without_header(self) -> Self {
        Self { has_header: false, ..self }
    }

    /// Cells that a row has at least: those up to the last name.
    pub fn columns(&self) -> usize {
        self.header.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    /// Calls `visit` with each row and its place.
    pub fn for_each_row(
        &self,
        mut visit: impl FnMut(&StringRecord, usize) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut reader = reader(self.lines, self.delimiter);
        let mut record = StringRecord::new();
        if self.has_header {
            reader.read_record(&mut record)?;
        }
        while reader.read_record(&mut record)? {
            visit(&record, record.position().map_or(0, csv::Position::byte) as usize)?;
        }
        Ok(())
    }

    /// The number of the line at a place, from 1. The reader's own count is one less after `\r\n`.
    pub fn line(&self, place: usize) -> usize {
        let (before, row) = self.lines.split_at(place);
        let skipped = &row[..row.len() - row.trim_start_matches(['\r', '\n']).len()];
        let count = |end: char| before.matches(end).count() + skipped.matches(end).count();
        let ends = if self.lines.contains('\n') { count('\n') } else { count('\r') };
        self.lines_before + ends + 1
    }
}

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true).comment(Some(b'#'));
    builder.from_reader(text.as_bytes())
}

fn cells(line: &str, delimiter: u8) -> Vec<String> {
    let mut record = StringRecord::new();
    // A line of a string is always a record.
    let _ = reader(line, delimiter).read_record(&mut record);
    record.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The delimiter that a first line such as `sep=;` tells spreadsheets.
fn separator(line: &str) -> Option<u8> {
    let line = line.trim_matches('"');
    let name = line.get(..4).filter(|name| name.eq_ignore_ascii_case("sep="))?;
    match &line.as_bytes()[name.len()..] {
        [delimiter @ (b',' | b';' | b'\t' | b'|')] => Some(*delimiter),
        _ => None,
    }
}

/// The delimiter that occurs most often outside quotes.
fn most_frequent(line: &str) -> u8 {
    let mut counts = [(b',', 0), (b'|', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in line.bytes() {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(it, _)| *it == byte && !quoted) {
            *count += 1;
        }
    }
    // Of equals, the last: names and numbers have commas, but hardly semicolons or tabs.
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or(b',', |(delimiter, count)| if count == 0 { b',' } else { delimiter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_may_come_late_and_be_quoted() {
        let is_header = |cells: &[String]| cells.iter().any(|cell| cell == "ax");
        for (text, delimiter, columns, rows) in [
            ("t,ax\n1,2\n", b',', 2, &[("1 2", 2)][..]),
            ("sep=;\r\nt;ax\r\n1;2", b';', 2, &[("1 2", 3)]),
            ("t|ax\n1|2", b'|', 2, &[("1 2", 2)]),
            ("\n# made by a phone\n;;\nname;of;phone\n\"t, in s\"\tax\n", b'\t', 2, &[]),
            ("\"t;1\",\"ax\"\r1,2", b',', 2, &[("1 2", 2)]),
            ("sep=,\n\"a;b\",ax,c;d;e\n", b',', 3, &[]),
        ] {
            let dialect = Dialect::find(text, is_header).unwrap();
            let found = (dialect.delimiter, dialect.header.len());
            assert_eq!(found, (delimiter, columns), "{text:?}");
            let mut found = Vec::new();
            let visit = |row: &StringRecord, place| {
                let cells: Vec<_> = row.iter().map(str::to_owned).collect();
                found.push((cells.join(" "), dialect.line(place)));
                Ok(())
            };
            dialect.for_each_row(visit).unwrap();
            assert_eq!(found.iter().map(|(row, line)| (&row[..], *line)).collect::<Vec<_>>(), rows);
        }
        assert!(Dialect::find("", is_header).is_none());
        assert!(Dialect::find("\n\n#\n,,\n", is_header).is_none());
        assert_eq!(Dialect::find("a;b\nc,d,e\n", is_header).unwrap().header, ["a", "b"]);
    }
}

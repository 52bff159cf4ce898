//! How a table is written: where its header is, and what stands between cells.

use csv::StringRecord;

use super::cells::is_value;
use super::cells::{COMMENT, Delimiter, Reader, best_split, label, labels, separator};
use super::error::{Place, TableError};
use super::header::{Name, with_unit};
use super::unit::Unit;
use crate::data::recording_file::FormatError;

/// Lines before the header that may say something else.
const MAX_LINES_BEFORE_HEADER: usize = 40;

/// The way a table is written.
pub struct Dialect<'a> {
    pub delimiter: Delimiter,
    /// Cells of the header; those of the first row if there is no header.
    pub header: Vec<String>,
    /// The lines from the header on.
    lines: &'a str,
    /// Records before the first row: the header, and perhaps a line of units.
    records_before: usize,
    lines_before: usize,
    has_names: bool,
    /// Whether another table was rewritten to this one, whose rows are samples.
    pub is_rewritten: bool,
    /// Whether each cell begins with the name of its column, as in `ax:0.1`.
    is_labelled: bool,
    /// Whether each row begins with its number, which has no name in the header.
    is_numbered: bool,
}

impl<'a> Dialect<'a> {
    /// Finds the header: the first line that `is_header` accepts, or else the first that is neither
    /// blank, a comment nor `sep=`. `None` if there is no line.
    pub fn find(text: &'a str, is_header: impl Fn(&[String]) -> bool) -> Option<Self> {
        let (mut said, mut first, mut comment) = (None, None, None);
        let (mut rest, mut lines) = (text, 0);
        while !rest.is_empty() && lines < MAX_LINES_BEFORE_HEADER {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            let after = after.strip_prefix("\r\n").unwrap_or(after.get(1..).unwrap_or_default());
            let begin = std::mem::replace(&mut rest, after);
            lines += 1;
            let is_blank = line.trim_matches([' ', '\t', ',', ';', '"']).is_empty();
            if is_blank {
                continue;
            }
            if let Some(delimiter) = separator(line) {
                said = Some(delimiter);
                continue;
            }
            let is_comment = line.starts_with(COMMENT);
            let line = line.trim_start_matches(COMMENT);
            let (delimiter, mut header, is_accepted) = best_split(line, said, &is_header);
            if is_comment {
                comment = is_accepted.then_some(header).or(comment);
                continue;
            }
            let labels = labels(&header);
            let mut found = Self {
                delimiter,
                header: Vec::new(),
                lines: begin,
                records_before: usize::from(labels.is_none()),
                lines_before: lines - 1,
                has_names: true,
                is_rewritten: false,
                is_labelled: labels.is_some(),
                is_numbered: false,
            };
            let is_accepted = is_accepted || labels.as_ref().is_some_and(|it| is_header(it));
            header = labels.unwrap_or(header);
            if let Some(comment) = comment.take_if(|it| !is_accepted && it.len() == header.len()) {
                return Some(Self { header: comment, records_before: 0, ..found });
            }
            found.header = header;
            if is_accepted {
                return Some(found.with_units().with_numbers());
            }
            first = first.or(Some(found));
        }
        first
    }

    /// The same table, if its first line turns out to be a row.
    pub fn without_header(self) -> Self {
        Self { records_before: 0, has_names: false, is_numbered: false, ..self }
    }

    /// Cells that a row has at least: those up to the last name.
    pub fn columns(&self) -> usize {
        self.header.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    /// Adds the units to the names, if the line below the header has them.
    fn with_units(mut self) -> Self {
        let row = self.first_rows(1).pop().unwrap_or_default();
        let units = || row.iter().filter(|cell| Unit::spelled(cell).is_some());
        if self.is_labelled || units().next().is_none() || row.iter().any(|cell| is_value(cell)) {
            return self;
        }
        self.records_before += 1;
        for (name, unit) in self.header.iter_mut().zip(&row) {
            if !unit.is_empty() && !name.is_empty() {
                *name = with_unit(name, unit);
            }
        }
        self
    }

    /// R and pandas number the rows, and leave that column out of the header.
    fn with_numbers(mut self) -> Self {
        let number = |row: &Vec<String>| row.first().and_then(|cell| cell.parse::<u32>().ok());
        let is_longer = |row: &Vec<String>| {
            let is_decimal_comma = self.delimiter == Delimiter::Char(b',');
            row.len() == self.columns() + 1
                && (!is_decimal_comma || row.iter().any(|cell| cell.contains('.')))
        };
        let rows = self.first_rows(2);
        self.is_numbered = match &rows[..] {
            [a, b] if is_longer(a) && is_longer(b) => {
                number(a).is_some_and(|first| number(b) == first.checked_add(1))
            }
            _ => false,
        };
        self
    }

    fn first_rows(&self, count: usize) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut reader = Reader::new(self.lines, self.delimiter);
        let mut record = StringRecord::new();
        let mut skipped = 0;
        while rows.len() < count && reader.read(&mut record).is_ok_and(|place| place.is_some()) {
            match skipped < self.records_before {
                true => skipped += 1,
                false => rows.push(record.iter().map(|cell| cell.trim().to_owned()).collect()),
            }
        }
        rows
    }

    /// Calls `visit` with each row and its place.
    pub fn for_each_row(
        &self,
        mut visit: impl FnMut(&StringRecord, usize) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut reader = Reader::new(self.lines, self.delimiter);
        let mut record = StringRecord::new();
        for _ in 0..self.records_before {
            reader.read(&mut record)?;
        }
        while let Some(place) = reader.read(&mut record)? {
            if self.is_labelled {
                record = record.iter().filter(|cell| !cell.trim().is_empty()).collect();
                if !self.has_labels(&record, place)? {
                    continue;
                }
                record = record.iter().map(|cell| label(cell).map_or(cell, |(_, it)| it)).collect();
            }
            if self.is_numbered {
                record = record.iter().skip(1).collect();
            }
            visit(&record, place)?;
        }
        Ok(())
    }

    /// Whether a row's cells have the names of the header. `false` if they are of another sensor.
    fn has_labels(&self, record: &StringRecord, place: usize) -> Result<bool, TableError> {
        let labels: Vec<&str> = record.iter().filter_map(|cell| Some(label(cell)?.0)).collect();
        let expected = |at: usize| self.header.get(at).map(String::as_str);
        let is_same = |(at, cell)| label(cell).is_none_or(|(name, _)| expected(at) == Some(name));
        if record.iter().enumerate().all(is_same) {
            return Ok(true);
        }
        let is_axis = |label: &&str| Name::of(label).axis.is_some();
        let is_known = |label: &str| self.header.iter().any(|name| name == label);
        let mut axes = labels.iter().copied().filter(is_axis).peekable();
        if axes.peek().is_some() && !axes.any(is_known) {
            return Ok(false);
        }
        let (labels, header) = (labels.join(", "), self.header.join(", "));
        Err(TableError::Labels { place: self.place(place), labels, header })
    }

    /// Whether the header has names. If not, columns have numbers.
    pub fn has_names(&self) -> bool {
        self.has_names
    }

    /// The line or sample at a place.
    pub fn place(&self, at: usize) -> Place {
        let line = self.line(at);
        match self.is_rewritten {
            true => Place::Sample(line - usize::from(self.has_names)),
            false => Place::Line(line),
        }
    }

    /// The number of the line at a place, from 1. The reader's own count is one less after `\r\n`.
    fn line(&self, place: usize) -> usize {
        let (before, row) = self.lines.split_at(place);
        let skipped = &row[..row.len() - row.trim_start_matches(['\r', '\n']).len()];
        let count = |end: char| before.matches(end).count() + skipped.matches(end).count();
        let ends = if self.lines.contains('\n') { count('\n') } else { count('\r') };
        self.lines_before + ends + 1
    }
}

#[cfg(test)]
mod tests {
    use super::Delimiter::{Blanks, Char};
    use super::*;

    #[test]
    fn the_header_may_come_late_and_be_quoted() {
        let is_header = |cells: &[String]| cells.iter().any(|cell| cell.starts_with("ax"));
        for (text, delimiter, columns, rows) in [
            ("t,ax\n1,2\n", Char(b','), 2, &[("1 2", 2)][..]),
            ("sep=;\r\nt;ax\r\n1;2", Char(b';'), 2, &[("1 2", 3)]),
            ("t|ax\n1|2", Char(b'|'), 2, &[("1 2", 2)]),
            ("\n# made by a phone\n;;\nname;of;phone\n\"t, in s\"\tax\n", Char(b'\t'), 2, &[]),
            ("\"t;1\",\"ax\"\r1,2", Char(b','), 2, &[("1 2", 2)]),
            ("sep=,\n\"a;b\",ax,c;d;e\n", Char(b','), 3, &[]),
            ("t  ax\n\n 1   2\n3 \t 4 \n", Blanks, 2, &[("1 2", 3), ("3 4", 4)]),
            ("Time (s) ax (m/s^2) ax\n\"1 2\" 3 4", Blanks, 3, &[("1 2 3 4", 2)]),
            ("# t ax\n1 2\n", Blanks, 2, &[("1 2", 2)]),
            ("% t; ax\n% more\n1;2\n", Char(b';'), 2, &[("1 2", 3)]),
            ("t;ax\n[s];(g)\n1;2\n", Char(b';'), 2, &[("1 2", 3)]),
            ("\"t\" \"ax\"\n\"7\" 1 2\n\"8\" 3 4\n", Blanks, 2, &[("1 2", 2), ("3 4", 3)]),
            ("t:1,ax:2\nt:3,ax: 4\n", Char(b','), 2, &[("1 2", 1), ("3 4", 2)]),
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
    #[test]
    fn units_below_the_header_belong_to_it() {
        let is_header = |cells: &[String]| cells.iter().any(|cell| cell == "ax");
        let dialect = Dialect::find("t,ax,no\nms,m/s^2,\n1,2,3\n", is_header).unwrap();
        assert_eq!(dialect.header, ["t (ms)", "ax (m/s^2)", "no"]);
        // A row with a number is a row.
        let dialect = Dialect::find("t,ax,no\n1,g,s\n", is_header).unwrap();
        assert_eq!(dialect.header, ["t", "ax", "no"]);
    }
}

//! Recordings in files: tables, JSON or CBOR, gzipped or not.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bipedalnet_core::cbor::{self, CborError};
use bipedalnet_core::gait::{Recording, RecordingDocument, SignalError};
use flate2::read::GzDecoder;
use serde::de::IgnoredAny;

use super::table::{self, TableError, TableOptions};
use super::text::decode;

/// Largest file that is read, after decompression.
pub const MAX_RECORDING_BYTES: u64 = 64 << 20;

const TABLE_ENDINGS: [&str; 5] = [".csv", ".tsv", ".txt", ".log", ".dat"];

/// Why a file is not a recording.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file cannot be read, or its gzip is damaged.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The ending of the name does not tell the format.
    #[error(
        "has no known ending; .csv, .tsv, .txt, .log, .dat, .json and .cbor are read, gzipped or not. Unpack an archive, and save a spreadsheet as CSV"
    )]
    UnknownEnding,
    /// The file is too large.
    #[error("has more than {MAX_RECORDING_BYTES} bytes; split the recording")]
    TooLarge,
    /// A zip archive.
    #[error("is a zip archive or a spreadsheet; unpack it, or save it as CSV")]
    Archive,
    /// The caller said something about tables, but this is another file.
    #[error("is not a table and says its own units; leave out the options for columns and units")]
    NoTable,
    /// The quotes or the encoding of a table are broken, or a line has too few or too many cells.
    #[error("is not a table: {0}")]
    Csv(#[from] csv::Error),
    /// The table is not a recording.
    #[error(transparent)]
    Table(#[from] TableError),
    /// JSON with a list for each axis.
    #[error(
        "has lists of other lengths than 3: a sample is [x, y, z]. If there is one list for each axis, write one for each sample"
    )]
    NoSamples,
    /// Not the JSON of a recording.
    #[error("is not the JSON of a recording: {0}")]
    Json(#[from] serde_json::Error),
    /// Not the CBOR of a recording.
    #[error("is not the CBOR of a recording: {0}")]
    Cbor(#[from] CborError),
    /// Acceleration and angular rate were recorded at different times.
    #[error("gyroscope and accelerometer do not overlap in time")]
    NoOverlap,
    /// The numbers are not a usable recording.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The numbers of a table are not a usable recording. Says which option or column to change.
    #[error("{0}")]
    Unusable(String),
}

/// A recording, and how its file was understood.
#[derive(Debug, PartialEq)]
pub struct FileContent {
    /// The recording.
    pub recording: Recording,
    /// Columns and units of a table, in words. `None` for other files.
    pub understood: Option<String>,
}

/// Reads a table (`.csv`, `.tsv`, `.txt`, `.log` or `.dat`), or a [`RecordingDocument`] (`.json` or `.cbor`). Each may
/// be gzipped.
///
/// # Errors
/// If the file is not a recording. The error names the fault and its place, and asks for an option if a
/// table could be understood in several ways.
pub fn read_recording(path: &Path, options: &TableOptions) -> Result<FileContent, FormatError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = |name: &str, ending: &str| {
        let begin = name.len().checked_sub(ending.len())?;
        let end = name.get(begin..)?;
        end.eq_ignore_ascii_case(ending).then(|| name[..begin].to_owned())
    };
    let name = ends(&name, ".gz").unwrap_or_else(|| name.into_owned());
    let table_stem = TABLE_ENDINGS.into_iter().find_map(|ending| ends(&name, ending));
    let is_json = ends(&name, ".json").is_some();
    if table_stem.is_none() && !is_json && ends(&name, ".cbor").is_none() {
        return Err(FormatError::UnknownEnding);
    }
    let bytes = bounded(File::open(path)?)?;
    let bytes = match bytes[..] {
        [0x1f, 0x8b, ..] => bounded(GzDecoder::new(&bytes[..]))?,
        [b'P', b'K', 3, 4, ..] => return Err(FormatError::Archive),
        _ => bytes,
    };
    if let Some(stem) = table_stem {
        let (recording, understood) = table::read(&decode(bytes), &stem, options)?;
        return Ok(FileContent { recording, understood: Some(understood) });
    }
    if !options.is_empty() {
        return Err(FormatError::NoTable);
    }
    let document: RecordingDocument = match is_json {
        true => json(&decode(bytes))?,
        false => cbor::from_slice(&bytes)?,
    };
    Ok(FileContent { recording: document.try_into()?, understood: None })
}

fn json(text: &str) -> Result<RecordingDocument, FormatError> {
    serde_json::from_str(text).map_err(|error| {
        // Too many numbers in a sample are no fault of the JSON.
        let is_json = || serde_json::from_str::<IgnoredAny>(text).is_ok();
        if error.is_syntax() && is_json() { FormatError::NoSamples } else { error.into() }
    })
}

/// Reads all bytes, if they are not too many.
pub(super) fn bounded(reader: impl Read) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    reader.take(MAX_RECORDING_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RECORDING_BYTES {
        return Err(FormatError::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Recording, FormatError> {
        let (_folder, path) = file(name, bytes);
        Ok(read_recording(&path, &TableOptions::default())?.recording)
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_ending_reads_the_same_walk() {
        let table = b"t,ax,ay,az,gx,gy,gz\n0,1,2,9.5,0.1,0.2,0.3\n0.02,1.5,2,9.5,0.1,0.2,0.4\n";
        let from_table = read("walk.csv", table).unwrap();
        assert_eq!(from_table.time_seconds(), [0.0, 0.02]);
        assert_eq!(from_table.acceleration_m_s2(), [[1.0, 2.0, 9.5], [1.5, 2.0, 9.5]]);
        assert_eq!(from_table.angular_rate_rad_s(), Some(&[[0.1, 0.2, 0.3], [0.1, 0.2, 0.4]][..]));
        let json = serde_json::to_vec(&RecordingDocument::from(&from_table)).unwrap();
        assert_eq!(read("WALK.CSV.GZ", &zipped(table)).unwrap(), from_table);
        assert_eq!(read("walk.json", &json).unwrap(), from_table);
        assert_eq!(read("walk.json.gz", &zipped(&json)).unwrap(), from_table);
        let cbor = bipedalnet_core::gait::exact(&from_table);
        assert_eq!(read("walk.cbor", &cbor).unwrap(), from_table);
        assert_eq!(read("walk.cbor.gz", &zipped(&cbor)).unwrap(), from_table);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&str, &[u8], &str); 13] = [
            ("walk.xlsx", b"", "save a spreadsheet as CSV"),
            ("walk.csv", b"PK\x03\x04\x14", "is a zip archive"),
            ("walk.csv", b"", "no samples"),
            ("walk.csv", b"t,ax,ay\n", "no column az"),
            ("walk.csv", b"t,ax,ay,az\n", "no sample"),
            ("walk.csv", b"t,ax,ay,az\n0,1,x,3\n", "line 2, column ay: \"x\""),
            ("walk.csv", b"t,ax,ay,az\n0,1,2,NaN\n", "line 2 has no value in column az"),
            ("walk.csv", b"t,ax,ay,az\n0,1,2\n", "line 2 has 3 cells"),
            ("walk.csv", b"t,ax,ay,az\n0,0,1,2,3,5,7\n", "both the delimiter and the decimal sign"),
            ("walk.csv.gz", b"\x1f\x8bt,ax,ay,az\n", "cannot be read"),
            ("walk.json", b"{\"acceleration\": [[1, 2, 3, 4]]}", "one list for each axis"),
            ("walk.json", b"{\"acceleration\": 3}", "not the JSON of a recording"),
            ("walk.cbor", b"\xa1\x6cacceleration", "not the CBOR of a recording"),
        ];
        for (name, bytes, expected) in cases {
            let message = read(name, bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
    }

    #[test]
    fn a_gzip_bomb_is_refused() {
        let bomb = zipped(&vec![b'\n'; MAX_RECORDING_BYTES as usize + 1]);
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(read("walk.csv.gz", &bomb), Err(FormatError::TooLarge)));
    }
}

//! Recordings in files: CSV, JSON or CBOR, gzipped or not, and the logs of the Padova set.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bipedalnet_core::cbor::{self, CborError};
use bipedalnet_core::gait::{Recording, RecordingDocument, SignalError};
use flate2::read::GzDecoder;

/// Largest file that is read, after decompression.
pub const MAX_RECORDING_BYTES: u64 = 64 << 20;

/// Why a file is not a recording.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file cannot be read, or its gzip is damaged.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The ending of the name does not tell the format.
    #[error("has no known ending; .csv, .json and .cbor are read, gzipped with .gz after it")]
    UnknownEnding,
    /// The file is too large.
    #[error("has more than {MAX_RECORDING_BYTES} bytes; split the recording")]
    TooLarge,
    /// The quotes or the encoding of a table are broken, or a line has too few or too many cells.
    #[error("is not a table: {0}")]
    Table(#[from] csv::Error),
    /// A column is missing.
    #[error("has no column {column}; its header is {header:?}")]
    MissingColumn {
        /// The column needed.
        column: String,
        /// The header line.
        header: String,
    },
    /// A cell is not a number.
    #[error("line {line}, column {column}: {value:?} is not a number")]
    NotANumber {
        /// Counts from 1, with the header.
        line: u64,
        /// Name of the column.
        column: String,
        /// The content of the cell.
        value: String,
    },
    /// Not the JSON of a recording.
    #[error("is not the JSON of a recording: {0}")]
    Json(#[from] serde_json::Error),
    /// Not the CBOR of a recording.
    #[error("is not the CBOR of a recording: {0}")]
    Cbor(#[from] CborError),
    /// Acceleration and angular rate were recorded at different times.
    #[error("the logs of gyroscope and accelerometer do not overlap in time")]
    NoOverlap,
    /// The numbers are not a usable recording.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

/// Reads a `.csv`, `.json` or `.cbor` file. If the name ends in `.gz`, the file is gzipped.
///
/// CSV has the header `t,ax,ay,az` or `t,ax,ay,az,gx,gy,gz`: seconds, m/s^2 with gravity, rad/s.
/// JSON and CBOR are a [`RecordingDocument`].
///
/// # Errors
/// If the file is not a recording. The error names the fault and its place.
pub fn read_recording(path: &Path) -> Result<Recording, FormatError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (name, zipped) = match name.strip_suffix(".gz") {
        Some(name) => (name, true),
        None => (&name[..], false),
    };
    let read: fn(Bounded) -> Result<Recording, FormatError> = if name.ends_with(".csv") {
        |bytes| read_csv(bytes)
    } else if name.ends_with(".json") {
        |bytes| read_json(bytes)
    } else if name.ends_with(".cbor") {
        |bytes| Ok(cbor::from_slice::<RecordingDocument>(bytes.get_ref())?.try_into()?)
    } else {
        return Err(FormatError::UnknownEnding);
    };
    let file = File::open(path)?;
    read(if zipped { bounded(GzDecoder::new(file))? } else { bounded(file)? })
}

type Bounded = io::Cursor<Vec<u8>>;

fn bounded(reader: impl Read) -> Result<Bounded, FormatError> {
    let mut bytes = Vec::new();
    reader.take(MAX_RECORDING_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RECORDING_BYTES {
        return Err(FormatError::TooLarge);
    }
    Ok(io::Cursor::new(bytes))
}

fn read_json(reader: impl Read) -> Result<Recording, FormatError> {
    let document: RecordingDocument = serde_json::from_reader(reader)?;
    Ok(document.try_into()?)
}

fn read_csv(reader: impl Read) -> Result<Recording, FormatError> {
    let mut table = csv::Reader::from_reader(reader);
    let names = ["t", "ax", "ay", "az", "gx", "gy", "gz"];
    let has_gyroscope = table.headers()?.iter().any(|name| name.trim() == "gx");
    let names = if has_gyroscope { &names[..] } else { &names[..4] };
    let (mut times, mut acceleration, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for_each_line(&mut table, names, |cells| {
        times.push(cells[0]);
        acceleration.push(axes(&cells[1..4]));
        if has_gyroscope {
            rates.push(axes(&cells[4..7]));
        }
    })?;
    Ok(Recording::new(times, acceleration, has_gyroscope.then_some(rates))?)
}

/// Reads one recording of the Padova set (IDNet, arXiv 1606.03238): a folder such as `u001_w001`
/// with `u001_w001_accelerometer.log` and, if the phone had a gyroscope,
/// `u001_w001_gyroscope.log`.
///
/// The two sensors have different clocks. Angular rates are interpolated at the accelerometer's
/// times, and times that only one sensor recorded are left out. If Android delivered an event
/// twice, the first one counts.
///
/// # Errors
/// If a log is not a recording. The error names the fault and its place.
pub fn read_padova_walk(folder: &Path) -> Result<Recording, FormatError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let log = |sensor: &str| folder.join(format!("{name}_{sensor}.log"));
    let (mut times, mut acceleration) = read_log(&log("accelerometer"), "accelerometer")?;
    let gyroscope = log("gyroscope");
    let mut rates = None;
    if gyroscope.exists() {
        let (rate_times, values) = read_log(&gyroscope, "gyroscope")?;
        let (&[first, ..], &[.., last]) = (&rate_times[..], &rate_times[..]) else {
            return Err(FormatError::NoOverlap);
        };
        let begin = times.partition_point(|&time| time < first);
        let end = times.partition_point(|&time| time <= last);
        if begin >= end {
            return Err(FormatError::NoOverlap);
        }
        times = times[begin..end].to_vec();
        acceleration = acceleration[begin..end].to_vec();
        rates = Some(times.iter().map(|&time| at(&rate_times, &values, time)).collect());
    }
    let origin = times.first().copied().unwrap_or_default();
    times.iter_mut().for_each(|time| *time -= origin);
    Ok(Recording::new(times, acceleration, rates)?)
}

/// Times in seconds and values of one sensor's log.
fn read_log(path: &Path, sensor: &str) -> Result<(Vec<f64>, Vec<[f32; 3]>), FormatError> {
    let mut table =
        csv::ReaderBuilder::new().delimiter(b'\t').from_reader(bounded(File::open(path)?)?);
    let names = ["timestamp", "x_data", "y_data", "z_data"].map(|name| format!("{sensor}_{name}"));
    let names = names.each_ref().map(String::as_str);
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for_each_line(&mut table, &names, |cells| {
        let time = cells[0] * 1e-9;
        if times.last() != Some(&time) {
            times.push(time);
            values.push(axes(&cells[1..4]));
        }
    })?;
    Ok((times, values))
}

/// Interpolates linearly. `time` lies between the first and the last of `times`.
fn at(times: &[f64], values: &[[f32; 3]], time: f64) -> [f32; 3] {
    let right = times.partition_point(|&t| t < time).clamp(1, times.len().max(2) - 1);
    let (Some(&before), Some(&after)) = (values.get(right - 1), values.get(right)) else {
        return values[0];
    };
    let share = (time - times[right - 1]) / (times[right] - times[right - 1]);
    [0, 1, 2].map(|axis| before[axis] + (after[axis] - before[axis]) * share as f32)
}

fn axes(cells: &[f64]) -> [f32; 3] {
    [cells[0] as f32, cells[1] as f32, cells[2] as f32]
}

/// Calls `visit` with the cells of the named columns, line by line.
fn for_each_line<R: Read>(
    table: &mut csv::Reader<R>,
    names: &[&str],
    mut visit: impl FnMut(&[f64]),
) -> Result<(), FormatError> {
    let header = table.headers()?.clone();
    let columns = names
        .iter()
        .map(|name| {
            header.iter().position(|cell| cell.trim() == *name).ok_or_else(|| {
                FormatError::MissingColumn {
                    column: (*name).to_owned(),
                    header: header.iter().take(16).collect::<Vec<_>>().join(" "),
                }
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut record = csv::StringRecord::new();
    let mut cells = vec![0.0; names.len()];
    while table.read_record(&mut record)? {
        for ((cell, &column), name) in cells.iter_mut().zip(&columns).zip(names) {
            let text = record.get(column).unwrap_or_default().trim();
            *cell = text.parse().map_err(|_| FormatError::NotANumber {
                line: record.position().map_or(0, csv::Position::line),
                column: (*name).to_owned(),
                value: text.chars().take(32).collect(),
            })?;
        }
        visit(&cells);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Recording, FormatError> {
        let (_folder, path) = file(name, bytes);
        read_recording(&path)
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
        let cases: [(&str, &[u8], &str); 10] = [
            ("walk.txt", b"", "no known ending"),
            ("walk.csv", b"", "no column t"),
            ("walk.csv", b"t,ax,ay\n", "no column az"),
            ("walk.csv", b"t,ax,ay,az\n", "no sample"),
            ("walk.csv", b"t,ax,ay,az\n0,1,x,3\n", "line 2, column ay: \"x\""),
            ("walk.csv", b"t,ax,ay,az\n0,1,2,NaN\n", "acceleration[0] is not a finite number"),
            ("walk.csv", b"t,ax,ay,az\n0,1,2\n", "not a table"),
            ("walk.csv.gz", b"t,ax,ay,az\n", "cannot be read"),
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

    #[test]
    fn padova_logs_meet_on_the_accelerometers_clock() {
        let folder = tempfile::tempdir().unwrap();
        let walk = folder.path().join("u001_w002");
        std::fs::create_dir(&walk).unwrap();
        let log = |sensor: &str, lines: &[(u64, f32)]| {
            let mut text =
                format!("{sensor}_timestamp\t{sensor}_x_data\t{sensor}_y_data\t{sensor}_z_data\n");
            for (milliseconds, value) in lines {
                text += &format!("{}\t{value}\t0\t9.8\n", milliseconds * 1_000_000);
            }
            std::fs::write(walk.join(format!("u001_w002_{sensor}.log")), text).unwrap();
        };
        log("accelerometer", &[(90, 0.0), (100, 1.0), (100, 7.0), (110, 2.0), (130, 3.0)]);
        let alone = read_padova_walk(&walk).unwrap();
        assert_eq!((alone.time_seconds().len(), alone.angular_rate_rad_s()), (4, None));

        log("gyroscope", &[(95, 10.0), (105, 20.0), (115, 40.0)]);
        let both = read_padova_walk(&walk).unwrap();
        let times: Vec<i64> =
            both.time_seconds().iter().map(|t| (t * 1e3).round() as i64).collect();
        assert_eq!(times, [0, 10]);
        assert_eq!(both.acceleration_m_s2(), [[1.0, 0.0, 9.8], [2.0, 0.0, 9.8]]);
        let rates: Vec<f32> = both.angular_rate_rad_s().unwrap().iter().map(|r| r[0]).collect();
        assert!((rates[0] - 15.0).abs() < 1e-3 && (rates[1] - 30.0).abs() < 1e-3, "{rates:?}");

        log("gyroscope", &[(500, 1.0), (510, 1.0)]);
        assert!(matches!(read_padova_walk(&walk), Err(FormatError::NoOverlap)));
        log("gyroscope", &[]);
        assert!(matches!(read_padova_walk(&walk), Err(FormatError::NoOverlap)));
        log("gyroscope", &[(100, 1.0)]);
        assert_eq!(read_padova_walk(&walk).unwrap().time_seconds().len(), 1);
    }

    proptest! {
        #[test]
        fn any_recording_survives_csv_and_json(
            samples in prop::collection::vec((0.001..1.0f64, prop::array::uniform6(-80.0..80.0f32)), 1..50),
            gyroscope: bool,
        ) {
            let mut time = 0.0;
            let (mut times, mut acceleration, mut rates) = (vec![], vec![], vec![]);
            let mut table = String::from(if gyroscope { "t,ax,ay,az,gx,gy,gz\n" } else { "t,ax,ay,az\n" });
            for (step, values) in samples {
                time += step;
                times.push(time);
                acceleration.push([values[0], values[1], values[2]]);
                rates.push([values[3], values[4], values[5]]);
                let shown: Vec<String> =
                    values[..if gyroscope { 6 } else { 3 }].iter().map(f32::to_string).collect();
                table += &format!("{time},{}\n", shown.join(","));
            }
            let original = Recording::new(times, acceleration, gyroscope.then_some(rates)).unwrap();
            prop_assert_eq!(&read_csv(table.as_bytes()).unwrap(), &original);
            let json = serde_json::to_vec(&RecordingDocument::from(&original)).unwrap();
            let read = read_json(&json[..]).unwrap();
            // JSON's reader may be off by the last bit.
            let near = |a: &[[f32; 3]], b: &[[f32; 3]]| {
                a.len() == b.len()
                    && a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-4)
            };
            prop_assert!(near(read.acceleration_m_s2(), original.acceleration_m_s2()));
            prop_assert_eq!(read.angular_rate_rad_s().is_some(), gyroscope);
            for (a, b) in read.time_seconds().iter().zip(original.time_seconds()) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = read_csv(&bytes[..]);
            let _ = read_json(&bytes[..]);
            let _ = read_csv([b"t,ax,ay,az\n", &bytes[..]].concat().as_slice());
        }
    }
}

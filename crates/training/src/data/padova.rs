//! The Padova set (IDNet, arXiv 1606.03238): two logs for each walk.

use std::fs::File;
use std::path::Path;

use bipedalnet_core::gait::Recording;

use super::recording_file::{FormatError, bounded};
use super::series::{Series, on_one_clock};
use super::table::{Place, TableError};

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
    let mut acceleration = read_log(&log("accelerometer"), "accelerometer")?;
    let gyroscope = log("gyroscope");
    let mut rates = None;
    if gyroscope.exists() {
        let rates = rates.insert(read_log(&gyroscope, "gyroscope")?);
        on_one_clock(&mut acceleration, rates)?;
    }
    let Series { mut times, values } = acceleration;
    let origin = times.first().copied().unwrap_or_default();
    times.iter_mut().for_each(|time| *time -= origin);
    Ok(Recording::new(times, values, rates.map(|rates| rates.values))?)
}

fn read_log(path: &Path, sensor: &str) -> Result<Series, FormatError> {
    let text = bounded(File::open(path)?)?;
    let mut table = csv::ReaderBuilder::new().delimiter(b'\t').from_reader(&text[..]);
    let header = table.headers()?.clone();
    let mut columns = [0; 4];
    for (column, name) in columns.iter_mut().zip(["timestamp", "x_data", "y_data", "z_data"]) {
        let name = format!("{sensor}_{name}");
        *column = header.iter().position(|cell| cell.trim() == name).ok_or_else(|| {
            let header = header.iter().take(16).collect::<Vec<_>>().join(" ");
            TableError::MissingColumn { column: name, header }
        })?;
    }
    let mut series = Series::default();
    let mut record = csv::StringRecord::new();
    while table.read_record(&mut record)? {
        let mut cells = [0.0; 4];
        for (cell, column) in cells.iter_mut().zip(columns) {
            let text = record.get(column).unwrap_or_default().trim();
            *cell = text.parse().map_err(|_| TableError::NotANumber {
                place: Place::Line(record.position().map_or(0, csv::Position::line) as usize),
                column: header[column].to_owned(),
                value: text.chars().take(32).collect(),
            })?;
        }
        let [nanoseconds, x, y, z] = cells;
        let time = nanoseconds * 1e-9;
        if series.times.last() != Some(&time) {
            series.times.push(time);
            series.values.push([x, y, z].map(|value| value as f32));
        }
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_meet_on_the_accelerometers_clock() {
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
}

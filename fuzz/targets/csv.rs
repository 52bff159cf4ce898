//! Recordings in CSV files, gzipped or not.
#![no_main]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bipedalnet_core::gait::Recording;
use bipedalnet_fuzz::{check_exact, check_windows};
use bipedalnet_training::{FormatError, TableOptions, read_recording};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// In memory, if the system has a folder for that.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is a disk")
});

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(name);
    fs::write(&path, bytes).expect("there is a disk");
    path
}

fuzz_target!(|bytes: &[u8]| {
    let read = match read(&written("recording.csv", bytes)) {
        Ok(recording) => recording,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    check_exact(&read);
    check_windows(&read);
    if !read.mends().is_empty() {
        // Its times are not those that were read.
        return;
    }
    let table = table(&read);
    assert_eq!(reread(&written("again.csv", table.as_bytes())), read);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(table.as_bytes()).expect("memory is all that is written to");
    let gzip = gzip.finish().expect("memory is all that is written to");
    assert_eq!(reread(&written("again.csv.gz", &gzip)), read);
});

fn read(path: &Path) -> Result<Recording, FormatError> {
    Ok(read_recording(path, &TableOptions::default())?.recording)
}

fn reread(path: &Path) -> Recording {
    read(path).expect("a written recording can be read")
}

/// A table that says its units, so that they are not told by the values.
fn table(recording: &Recording) -> String {
    let rates = recording.angular_rate_rad_s();
    let mut table = "t (s),ax (m/s^2),ay (m/s^2),az (m/s^2)".to_owned();
    table += if rates.is_some() { ",gx (rad/s),gy (rad/s),gz (rad/s)\n" } else { "\n" };
    for (index, time) in recording.time_seconds().iter().enumerate() {
        let _ = write!(table, "{time}");
        let values = recording.acceleration_m_s2()[index].into_iter();
        for value in values.chain(rates.iter().flat_map(|rates| rates[index])) {
            let _ = write!(table, ",{value}");
        }
        table.push('\n');
    }
    table
}

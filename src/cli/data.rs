//! Recordings that a command reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bipedalnet_core::gait::{AtRest, Mend, Recording};
use bipedalnet_training::{
    ColumnNames, DataSet, Quantity, TableOptions, Unit, read_data, read_recording,
};

use super::Failure;
use super::remote::about;

const HEADING: &str = "Tables that do not say their columns or units";

/// For tables that do not say what is in them.
#[derive(clap::Args)]
pub struct TableArguments {
    /// Columns to read: t=NAME,ax=NAME,ay=NAME,az=NAME, and gx, gy, gz if there is a gyroscope. NAME is
    /// a name in the header, or the number of a column from 1. If no column has times, t=50Hz is the rate
    #[arg(long, value_name = "COLUMNS", help_heading = HEADING)]
    columns: Option<ColumnNames>,
    /// Unit of time: s, ms, us, ns or days
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::Time, text)
    )]
    time_unit: Option<Unit>,
    /// Unit of acceleration: m/s^2, g or mg; or g/16384 if 16384 counts of the sensor are 1 g
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::Acceleration, text)
    )]
    acceleration_unit: Option<Unit>,
    /// Sign of acceleration: up if a phone that lies on its back has +1 g on its z axis, as on Android,
    /// down if it has -1 g, as on iOS
    #[arg(
        long,
        value_name = "SIGN",
        default_value = "up",
        help_heading = HEADING,
        value_parser = at_rest
    )]
    acceleration_at_rest: AtRest,
    /// Unit of angular rate: rad/s or deg/s; or deg/s/131 if 131 counts of the sensor are 1 deg/s
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::AngularRate, text)
    )]
    angular_rate_unit: Option<Unit>,
}

fn at_rest(text: &str) -> Result<AtRest, String> {
    match text {
        "up" => Ok(AtRest::Up),
        "down" => Ok(AtRest::Down),
        _ => Err("up or down is needed".to_owned()),
    }
}

impl TableArguments {
    fn options(&self) -> TableOptions {
        TableOptions {
            columns: self.columns.clone(),
            time_unit: self.time_unit,
            acceleration_unit: self.acceleration_unit,
            acceleration_at_rest: self.acceleration_at_rest,
            angular_rate_unit: self.angular_rate_unit,
        }
    }

    /// Reads all files first, so that nothing is sent if one of them is invalid. Prints how each table
    /// was understood.
    pub fn read_files<'a>(
        &self,
        files: &'a [PathBuf],
    ) -> Result<Vec<(&'a Path, Recording)>, Failure> {
        let options = self.options();
        let read = |path: &'a PathBuf| {
            let content = read_recording(path, &options).map_err(|error| about(path, error))?;
            let recording = content.recording;
            if let Some(understood) = content.understood {
                let (rate, seconds) = (recording.rate_hz(), recording.duration_seconds());
                eprintln!("{}: {rate:.1} Hz, {seconds:.1} s; {understood}", path.display());
            }
            for mend in recording.mends() {
                eprintln!("{}: {mend}", path.display());
            }
            Ok((path.as_path(), recording))
        };
        files.iter().map(read).collect()
    }

    /// Whether none of the options is given.
    pub fn is_empty(&self) -> bool {
        self.options().is_empty()
    }

    /// Reads folders of recordings. Prints how tables were understood, what was mended, and which files
    /// are left out.
    pub fn read_folders(&self, folders: &[PathBuf]) -> Result<DataSet, Failure> {
        let data = read_data(folders, &self.options())?;
        for (understood, read) in &data.tables {
            let (low, high) = (read.lowest_hz, read.highest_hz);
            let files = match read.files {
                1 => "1 table".to_owned(),
                files => format!("{files} tables"),
            };
            eprintln!("{files}: {low:.1} to {high:.1} Hz, {:.1} s; {understood}", read.seconds);
        }
        print_mended(&data.mended);
        for (path, reason) in &data.left_out {
            eprintln!("left out {}: {reason}", path.display());
        }
        Ok(data)
    }
}

/// Prints each fault that was mended, or only the first of each kind if there are many.
fn print_mended(mended: &[(PathBuf, Mend)]) {
    const MOST_OF_A_KIND: usize = 5;
    let mut kinds: BTreeMap<&str, Vec<&(PathBuf, Mend)>> = BTreeMap::new();
    for found in mended {
        kinds.entry(found.1.code()).or_default().push(found);
    }
    for found in kinds.values() {
        let others = if found.len() > MOST_OF_A_KIND { found.len() - 1 } else { 0 };
        for (path, mend) in &found[..found.len() - others] {
            match others {
                0 => eprintln!("{}: {mend}", path.display()),
                _ => eprintln!("{}: {mend}; the like in {others} other recordings", path.display()),
            }
        }
    }
}

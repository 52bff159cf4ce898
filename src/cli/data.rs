//! Recordings that a command reads.

use std::path::{Path, PathBuf};

use bipedalnet_core::gait::{AtRest, Recording};
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
    /// a name in the header, or the number of a column from 1
    #[arg(long, value_name = "COLUMNS", help_heading = HEADING)]
    columns: Option<ColumnNames>,
    /// Unit of time: s, ms, us, ns or days
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::Time, text)
    )]
    time_unit: Option<&'static Unit>,
    /// Unit of acceleration: m/s^2, g or mg
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::Acceleration, text)
    )]
    acceleration_unit: Option<&'static Unit>,
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
    /// Unit of angular rate: rad/s or deg/s
    #[arg(
        long,
        value_name = "UNIT",
        help_heading = HEADING,
        value_parser = |text: &str| Unit::of(Quantity::AngularRate, text)
    )]
    angular_rate_unit: Option<&'static Unit>,
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

    /// Reads folders of recordings. Prints how tables were understood, and which files are left out.
    pub fn read_folders(&self, folders: &[PathBuf]) -> Result<DataSet, Failure> {
        read_folders(folders, &self.options())
    }
}

/// Reads folders of recordings, whose tables say what is in them.
pub fn read(folders: &[PathBuf]) -> Result<DataSet, Failure> {
    read_folders(folders, &TableOptions::default())
}

fn read_folders(folders: &[PathBuf], options: &TableOptions) -> Result<DataSet, Failure> {
    let data = read_data(folders, options)?;
    for (understood, read) in &data.tables {
        let (low, high) = (read.lowest_hz, read.highest_hz);
        let files = match read.files {
            1 => "1 table".to_owned(),
            files => format!("{files} tables"),
        };
        eprintln!("{files}: {low:.1} to {high:.1} Hz, {:.1} s; {understood}", read.seconds);
    }
    for (path, reason) in &data.left_out {
        eprintln!("left out {}: {reason}", path.display());
    }
    Ok(data)
}

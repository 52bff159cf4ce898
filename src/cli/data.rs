//! Folders of recordings that a command reads.

use std::path::PathBuf;

use bipedalnet_training::{DataSet, read_data};

use super::Failure;

/// Reads folders of recordings, and prints which files are left out.
pub fn read(folders: &[PathBuf]) -> Result<DataSet, Failure> {
    let data = read_data(folders)?;
    for (path, reason) in &data.left_out {
        eprintln!("left out {}: {reason}", path.display());
    }
    Ok(data)
}

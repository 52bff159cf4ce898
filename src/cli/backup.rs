//! `bipedalnet backup`

use std::path::PathBuf;

use super::Failure;
use crate::config::ConfigFile;
use crate::store;

/// Copy the database to a new file, even while a server uses it
///
/// To restore a copy: stop the server, replace the database with the copy, and delete the files next to
/// the database that end in -wal and -shm.
#[derive(clap::Args)]
pub struct Arguments {
    /// Database file of the server
    #[arg(long, env = "BIPEDALNET_DATABASE", default_value = "bipedalnet.db", value_name = "FILE")]
    database: PathBuf,
    #[command(flatten)]
    _file: ConfigFile,
    /// File to create
    #[arg(value_name = "FILE")]
    copy: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(store::backup(&arguments.database, &arguments.copy))?;
    println!("copied {} to {}", arguments.database.display(), arguments.copy.display());
    Ok(())
}

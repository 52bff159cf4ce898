//! `bipedalnet backup`

use std::path::PathBuf;

use super::Failure;
use crate::config::ConfigFile;
use crate::store;

/// Copy the database, which may be in use, to a new file
///
/// To restore it, stop the server, put the copy in the database's place, and remove the files beside
/// it that end in -wal and -shm.
#[derive(clap::Args)]
pub struct Arguments {
    /// Database of the server
    #[arg(long, env = "BIPEDALNET_DATABASE", default_value = "bipedalnet.db", value_name = "FILE")]
    database: PathBuf,
    #[command(flatten)]
    _file: ConfigFile,
    /// The copy
    #[arg(value_name = "FILE")]
    copy: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(store::backup(&arguments.database, &arguments.copy))?;
    println!("{} is copied to {}", arguments.database.display(), arguments.copy.display());
    Ok(())
}

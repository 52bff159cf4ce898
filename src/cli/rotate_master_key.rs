//! `bipedalnet rotate-master-key`

use std::path::PathBuf;

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store;

/// Encrypt the keyring with a new master key
///
/// Stop all servers first. Nothing but the keyring is touched. If the program ends at any point, the
/// keyring needs either the old or the new key. Copies of the keyring still need the old one.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    /// File with the master key of now [default: as for `serve`]
    #[arg(long, env = "BIPEDALNET_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// File with the new master key; it is made if it does not exist [default for a file of SQLite:
    /// replaces the file that `serve` made beside the database]
    #[arg(long, value_name = "FILE")]
    new_master_key_file: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { database, master_key_file, new_master_key_file } = arguments;
    let database = database.existing()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let file = runtime.block_on(store::rotate_master_key(
        database,
        master_key_file.as_deref(),
        new_master_key_file.as_deref(),
    ))?;
    println!("the keyring of {database} now needs the master key in {}", file.display());
    Ok(())
}

//! `bipedalnet renew-templates`

use std::path::PathBuf;

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store;

/// Transform all templates with a new secret, so that those that leaked match nothing
///
/// Stop the server first. Users need not enroll again. If the program ends at any point, either all
/// templates are renewed or none is.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    /// File with the master key [default: as for `serve`]
    #[arg(long, env = "BIPEDALNET_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { database, master_key_file } = arguments;
    let path = database.existing()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let renewed = runtime.block_on(store::renew_templates(path, master_key_file.as_deref()))?;
    println!("renewed {renewed} templates of {}", path.display());
    Ok(())
}

//! `bipedalnet renew-templates`

use super::Failure;
use super::server_database::EncryptedDatabase;
use crate::store;

/// Transform all templates with a new secret, so that those that leaked match nothing
///
/// Stop the server first. Users need not enroll again. If the program ends at any point, either all
/// templates are renewed or none is.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: EncryptedDatabase,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let (path, master_key_file) = arguments.database.existing()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let renewed = runtime.block_on(store::renew_templates(path, master_key_file))?;
    println!("renewed {renewed} templates of {}", path);
    Ok(())
}

//! `bipedalnet migrate`

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store;

/// Bring the tables of a database up to date
///
/// A server does the same when it starts. This needs no master key. A file of SQLite must not be in use;
/// servers of PostgreSQL may run.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let address = arguments.database.existing()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (before, now) = runtime.block_on(store::migrate(address))?;
    match before {
        0 => println!("made the tables of {address}, schema {now}"),
        _ if before == now => println!("{address} has schema {now} already"),
        _ => println!("brought {address} from schema {before} to schema {now}"),
    }
    Ok(())
}

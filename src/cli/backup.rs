//! `bipedalnet backup`

use std::path::PathBuf;

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store;

/// Copy the database and its keyring to new files, even while a server uses them
///
/// Both are useless without the master key, which is not copied. Deleted users stay readable as long as
/// a copy of the keyring has their key: keep only the newest one, apart from the copies of the database.
/// To restore: stop the server, replace database and keyring with the copies, and delete the files next
/// to them that end in -wal and -shm.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    /// File for the copy of the keyring; replaced if it exists [default: FILE-keyring, which must not
    /// exist]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// File to create for the copy of the database
    #[arg(value_name = "FILE")]
    copy: PathBuf,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Arguments { database, keyring, copy } = arguments;
    let database = database.path;
    let keyring = runtime.block_on(store::backup(&database, &copy, keyring.as_deref()))?;
    println!("copied {} to {}", database.display(), copy.display());
    if let Some(keyring) = keyring {
        println!("copied its keyring to {}", keyring.display());
    }
    Ok(())
}

//! `bipedalnet backup`

use std::path::PathBuf;

use super::Failure;
use super::server_database::ServerDatabase;
use crate::store::{self, BackedUp, BackupRequest};

/// Copy the database and its keyring to new files, even while a server uses them
///
/// Both are useless without the master key, which is not copied. Deleted users stay readable as long as
/// a copy of the keyring has their key: keep only the newest one, apart from the copies of the database.
/// `bipedalnet restore` puts a copy in place.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    database: ServerDatabase,
    /// File for the copy of the keyring; replaced if it exists [default: FILE-keyring, which must not
    /// exist]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Number of copies to keep, if FILE is a folder. The oldest are deleted
    #[arg(long, value_name = "N", requires = "keyring", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// File to create for the copy of the database, or a folder, in which the copy gets a name with the
    /// time. Without it, only the keyring is copied
    #[arg(value_name = "FILE", required_unless_present = "keyring")]
    copy: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { database, keyring, keep, copy } = arguments;
    if keep.is_some() && !copy.as_ref().is_some_and(|copy| copy.is_dir()) {
        return Err("--keep needs an existing folder for the copies".into());
    }
    let database = database.file()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let BackedUp { copy, keyring, deleted, not_noted } =
        runtime.block_on(store::backup(BackupRequest {
            database,
            copy: copy.as_deref(),
            keyring: keyring.as_deref(),
            keep: keep.map(usize::from),
        }))?;
    if let Some(copy) = copy {
        println!("copied {} to {}", database.display(), copy.display());
    }
    if let Some(keyring) = keyring {
        println!("copied its keyring to {}", keyring.display());
    }
    if deleted > 0 {
        println!("deleted {deleted} older copies");
    }
    if let Some(reason) = not_noted {
        eprintln!("the time of this backup was not noted, so an alert may fire: {reason}");
    }
    Ok(())
}

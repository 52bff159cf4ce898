//! `bipedalnet copy`

use std::path::PathBuf;

use tracing::Level;
use tracing_subscriber::filter::Targets;

use super::Failure;
use crate::config::{ConfigFile, DatabaseAddress};
use crate::store::{self, Copied, CopyRequest};
use crate::telemetry::{self, LogSettings};

/// Copy a database and its keyring to an empty one, from SQLite to PostgreSQL or back
///
/// Stop all servers first. The copy needs the same master key, which is not copied. If the program ends
/// at any point, either everything is copied or nothing is. Afterwards, delete the old database and its
/// keyring: users who are deleted in the new one stay readable in them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Database to copy: a file of SQLite, or postgres://USER@HOST/NAME
    #[arg(long, value_name = "FILE|URL")]
    from: DatabaseAddress,
    /// Where to: a new file, or an empty database of PostgreSQL
    #[arg(long, value_name = "FILE|URL")]
    to: DatabaseAddress,
    /// File with the master key [default: as for `serve`]
    #[arg(long, env = "BIPEDALNET_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    #[command(flatten)]
    _file: ConfigFile,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { from, to, master_key_file, .. } = arguments;
    if from.file().is_some_and(|path| !path.exists()) {
        return Err(format!("{from} does not exist; pass the database to copy with --from").into());
    }
    // They show the progress.
    let filter = Targets::new().with_target(env!("CARGO_CRATE_NAME"), Level::INFO);
    let _logs = telemetry::start_logs(LogSettings { json: false, filter, otlp_endpoint: None })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = CopyRequest { from: &from, to: &to, master_key_file: master_key_file.as_deref() };
    let Copied { tables, keys } = runtime.block_on(store::copy(request))?;
    println!("copied {from} to {to}; both have:");
    for (table, rows) in tables {
        println!("{rows:>12}  {table}");
    }
    println!("{keys:>12}  keys of users");
    println!("the copy needs the master key of {from}, which was not copied");
    Ok(())
}

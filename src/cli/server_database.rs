//! The database of a server, for commands that work on its files.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::ConfigFile;

#[derive(clap::Args)]
pub struct ServerDatabase {
    /// Database file of the server
    #[arg(
        long = "database",
        id = "database",
        env = "BIPEDALNET_DATABASE",
        default_value = "bipedalnet.db",
        value_name = "FILE",
        global = true
    )]
    pub path: PathBuf,
    #[command(flatten)]
    _file: ConfigFile,
}

impl ServerDatabase {
    /// The file, which must exist.
    pub fn existing(&self) -> Result<&Path, Failure> {
        if self.path.exists() {
            return Ok(&self.path);
        }
        let path = self.path.display();
        Err(format!("{path} does not exist; pass the server's database with --database").into())
    }
}

/// The database with its encrypted columns.
#[derive(clap::Args)]
pub struct EncryptedDatabase {
    #[command(flatten)]
    database: ServerDatabase,
    /// File with the master key [default: as for `serve`]
    #[arg(long, env = "BIPEDALNET_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
}

impl EncryptedDatabase {
    /// The file, which need not exist, and the file with the master key.
    pub fn parts(&self) -> (&Path, Option<&Path>) {
        (&self.database.path, self.master_key_file.as_deref())
    }

    /// The file, which must exist, and the file with the master key.
    pub fn existing(&self) -> Result<(&Path, Option<&Path>), Failure> {
        Ok((self.database.existing()?, self.master_key_file.as_deref()))
    }
}

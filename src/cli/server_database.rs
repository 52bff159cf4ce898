//! The database of a server, for commands that work on it without the server.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::ConfigFile;
use crate::config::DatabaseAddress;

#[derive(clap::Args)]
pub struct ServerDatabase {
    /// Database of the server: a file of SQLite, or postgres://USER@HOST/NAME
    #[arg(
        long = "database",
        id = "database",
        env = "BIPEDALNET_DATABASE",
        default_value = "bipedalnet.db",
        value_name = "FILE|URL",
        hide_env_values = true,
        global = true
    )]
    pub address: DatabaseAddress,
    #[command(flatten)]
    _file: ConfigFile,
}

impl ServerDatabase {
    /// The database. If it is a file, it must exist.
    pub fn existing(&self) -> Result<&DatabaseAddress, Failure> {
        match self.address.file() {
            Some(path) if !path.exists() => {
                let path = path.display();
                Err(format!("{path} does not exist; pass the server's database with --database")
                    .into())
            }
            _ => Ok(&self.address),
        }
    }

    /// The file, for commands that only SQLite needs.
    pub fn file(&self) -> Result<&Path, Failure> {
        self.address.file().ok_or_else(|| {
            format!(
                "{} is no file of SQLite; use the tools of PostgreSQL, as docs/scale.md describes",
                self.address
            )
            .into()
        })
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
    /// The file of SQLite, which need not exist, and the file with the master key.
    pub fn parts(&self) -> Result<(&Path, Option<&Path>), Failure> {
        Ok((self.database.file()?, self.master_key_file.as_deref()))
    }

    /// The database, and the file with the master key. If the database is a file, it must exist.
    pub fn existing(&self) -> Result<(&DatabaseAddress, Option<&Path>), Failure> {
        Ok((self.database.existing()?, self.master_key_file.as_deref()))
    }
}

//! Where a database is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// A file of SQLite, or a server of PostgreSQL.
#[derive(Clone)]
pub enum DatabaseAddress {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl DatabaseAddress {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl FromStr for DatabaseAddress {
    type Err = sqlx::Error;

    fn from_str(text: &str) -> Result<Self, sqlx::Error> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            text.parse().map(|options| Self::Postgres(Box::new(options)))
        } else {
            Ok(Self::Sqlite(text.into()))
        }
    }
}

impl From<&Path> for DatabaseAddress {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for DatabaseAddress {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&DatabaseAddress> for DatabaseAddress {
    fn from(address: &DatabaseAddress) -> Self {
        address.clone()
    }
}

/// Without the password.
impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(options) => {
                let url = options.to_url_lossy();
                write!(f, "postgres://{}", url.username())?;
                write!(f, "@{}", url.host_str().unwrap_or_default())?;
                write!(f, ":{}{}", url.port().unwrap_or(5432), url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let text = "postgres://ann:hidden@db.example:6432/gait?sslmode=require";
        let address: DatabaseAddress = text.parse().unwrap();
        assert!(address.file().is_none());
        for shown in [address.to_string(), format!("{address:?}")] {
            assert_eq!(shown, "postgres://ann@db.example:6432/gait");
        }
        let file: DatabaseAddress = "postgres.db".parse().unwrap();
        assert_eq!(file.file(), Some(Path::new("postgres.db")));
        assert!("postgres://ann@db.example:port/gait".parse::<DatabaseAddress>().is_err());
    }
}

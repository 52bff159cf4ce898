//! Brings tables up to date without a server.

use super::sqlite::DatabaseLock;
use super::{Database, DatabaseAddress, StoreError, postgres, sqlite};

/// Brings the tables of a database up to date. Returns their version before and after; 0 is no tables.
///
/// # Errors
/// If a server uses the file, and those of [`Database::open`].
pub async fn migrate(address: &DatabaseAddress) -> Result<(i64, i64), StoreError> {
    let _lock = address.file().map(DatabaseLock::take).transpose()?;
    let before = version(address).await?;
    Database::open(address).await?.close().await;
    Ok((before, version(address).await?))
}

async fn version(address: &DatabaseAddress) -> Result<i64, StoreError> {
    match address {
        DatabaseAddress::Sqlite(path) => sqlite::schema_version(path).await,
        DatabaseAddress::Postgres(server) => postgres::schema_version(server).await,
    }
}

//! The version of the tables, and how they come to it.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row, raw_sql};

use super::super::StoreError;
use super::super::sql::in_time;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// One server migrates at a time.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1112559188)";

/// The migrator names its statements, and behind a pooler the session goes on to others.
const FORGET_NAMES: &str = "DEALLOCATE ALL";

/// A migration changes several tables, while servers of the version before use them in any order. So it has
/// all tables before it begins. It gives up sooner than PostgreSQL looks for a deadlock (a second), so that
/// no other server gets an error.
const LOCK_TABLES: &str = "SET LOCAL lock_timeout = '500ms';
    DO $$ BEGIN
        EXECUTE (SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE',
                string_agg(format('%I.%I', schemaname, tablename), ', '))
            FROM pg_tables WHERE schemaname IN (current_schema(), 'keyring'));
    END $$;
    SET LOCAL lock_timeout TO DEFAULT";

/// SQLSTATE of a lock that was not to be had in time.
const NOT_LOCKED: &str = "55P03";

/// How often to try, and how long to let the others work in between.
const LOCK_TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(200);

/// The version of a database's tables.
pub(super) struct Schema {
    /// The number of the newest migration; 0 without tables.
    pub version: i64,
    /// The oldest version of a program that can use the tables. `None` if they do not say.
    oldest: Option<i64>,
}

/// The version that this program makes.
pub(super) fn own_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

impl Schema {
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let mut schema = Self { version: 0, oldest: None };
        if exists(connection, "SELECT to_regclass('_sqlx_migrations') IS NOT NULL").await? {
            let newest = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
            schema.version = raw_sql(newest).fetch_one(&mut *connection).await?.try_get(0)?;
        }
        if exists(connection, "SELECT to_regclass('compatibility') IS NOT NULL").await? {
            let oldest = "SELECT oldest_schema FROM compatibility";
            schema.oldest = Some(raw_sql(oldest).fetch_one(connection).await?.try_get(0)?);
        }
        Ok(schema)
    }

    /// Whether this program can use the tables as they are.
    pub fn is_usable(&self) -> bool {
        self.version == own_version() || self.is_usable_newer()
    }

    fn is_usable_newer(&self) -> bool {
        self.version > own_version() && self.oldest.is_some_and(|oldest| oldest <= own_version())
    }
}

async fn exists(connection: &mut PgConnection, text: &'static str) -> Result<bool, sqlx::Error> {
    raw_sql(text).fetch_one(connection).await?.try_get(0)
}

async fn lock_tables(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tries = 0;
    loop {
        let mut locks = transaction.begin().await?;
        let Err(error) = raw_sql(LOCK_TABLES).execute(&mut *locks).await else {
            return locks.commit().await;
        };
        locks.rollback().await?;
        tries += 1;
        let code = error.as_database_error().and_then(|error| error.code());
        if code.as_deref() != Some(NOT_LOCKED) || tries == LOCK_TRIES {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Creates or upgrades the tables. Servers that start together take turns.
pub(super) async fn migrate(options: &PgConnectOptions, path: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::Open { path: path.to_owned(), error };
    let mut connection = in_time(options.connect()).await.map_err(fail)?;
    let mut transaction = connection.begin().await.map_err(fail)?;
    raw_sql(LOCK).execute(&mut *transaction).await.map_err(fail)?;
    raw_sql(FORGET_NAMES).execute(&mut *transaction).await.map_err(fail)?;
    let schema = Schema::read(&mut transaction).await.map_err(fail)?;
    if (1..own_version()).contains(&schema.version) {
        lock_tables(&mut transaction).await.map_err(fail)?;
    }
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_locking(false).set_ignore_missing(schema.is_usable_newer());
    migrator.run(&mut *transaction).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
        MigrateError::VersionMissing(found) => {
            StoreError::Newer { path: path.to_owned(), found, known: own_version() }
        }
        error => StoreError::Version { path: path.to_owned(), error },
    })?;
    raw_sql(FORGET_NAMES).execute(&mut *transaction).await.map_err(fail)?;
    transaction.commit().await.map_err(fail)?;
    // What is left is closed with the connection.
    let _ = connection.close().await;
    Ok(())
}

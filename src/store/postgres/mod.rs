//! What is PostgreSQL's alone: connections, migrations, and other servers.
//!
//! | file | what it has |
//! |---|---|
//! | `changes.rs` | what other servers changed |
//! | `servers.rs` | which servers run |
//! | `snapshot.rs` | what a server has seen of the others' changes |

mod changes;
mod servers;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use changes::{Changed, State};
pub use snapshot::{ChangeToken, Snapshot};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::keyring::{Keyring, MasterKey};
use super::sql::{Pool, in_time, query_scalar};
use super::{Database, DatabaseAddress, Engine, FoundKey, Inspection, Store, StoreError, clock};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Begins a transaction that writes. The limits end it if its server or the network is gone. They belong
/// to the transaction, because a connection of PgBouncer does not.
pub(super) const BEGIN: &str =
    "BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '8s';
    SET LOCAL idle_in_transaction_session_timeout = '15s'; SELECT pg_advisory_xact_lock_shared(1112559189)";

/// As [`BEGIN`], while no other server writes. A lock of the transaction: PgBouncer may give the next
/// transaction another session.
pub(super) const BEGIN_ALONE: &str = "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '10s';
    SET LOCAL idle_in_transaction_session_timeout = '15s'; SELECT pg_advisory_xact_lock(1112559189)";

pub(super) const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Connections of one server that write, and that read.
const WRITERS: u32 = 2;
const READERS: u32 = 4;

/// Connections of one server that follow the others.
const FOLLOWERS: u32 = 2;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// One server migrates at a time.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(1112559188)";

/// A server that shares the database with others.
pub(super) struct Server {
    /// Names this process.
    id: String,
    /// PostgreSQL's, as far as this process has seen.
    timeline: AtomicI64,
    /// For what follows other servers. Requests must not make it wait.
    follower: Pool,
}

impl Store {
    /// As [`Store::begin_reading`], beside all requests.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn begin_following(&self) -> Result<super::Transaction, StoreError> {
        let Engine::Postgres(server) = &self.engine else { return self.begin_reading().await };
        let inner = server.follower.begin_with("BEGIN", BEGIN_READING).await?;
        Ok(self.transaction(inner))
    }
}

impl Server {
    fn timeline(&self) -> i64 {
        self.timeline.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.follower.close().await;
    }

    fn note_timeline(&self, timeline: i64) {
        self.timeline.store(timeline, Ordering::Relaxed);
    }
}

/// Opens a database. Creates or upgrades its tables if needed.
///
/// # Errors
/// If the server cannot be reached, or the tables are of another version.
pub(super) async fn open(options: &PgConnectOptions) -> Result<Database, StoreError> {
    let path = name(options);
    let options = options
        .clone()
        .application_name("bipedalnet")
        .log_statements(tracing::log::LevelFilter::Off);
    migrate(&options, &path).await?;
    let pool = |connections| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    // A network that fails in one direction says nothing.
                    let answer = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    Ok(matches!(answer, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(options.clone())
    };
    let writer = Pool::Postgres(pool(WRITERS));
    let now = query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint");
    clock::follow_database(now.fetch_one(&writer).await?);
    Ok(Database {
        writer,
        readers: Pool::Postgres(pool(READERS)),
        path,
        engine: Engine::Postgres(Arc::new(Server {
            id: crate::access::random_hex::<8>()?,
            timeline: AtomicI64::new(0),
            follower: Pool::Postgres(pool(FOLLOWERS)),
        })),
    })
}

/// Opens a database with its keyring. Creates or upgrades them if needed.
///
/// # Errors
/// As [`Store::open`].
pub(super) async fn open_store(
    options: &PgConnectOptions,
    master_key_file: Option<&Path>,
) -> Result<Store, StoreError> {
    let master = MasterKey::find_shared(master_key_file)?;
    let database = open(options).await?;
    let Pool::Postgres(pool) = &database.writer else { unreachable!("it was opened above") };
    let keyring = Keyring::in_postgres(pool.clone(), &database.path, &master).await?;
    Store::prepare(database, keyring, None).await
}

/// As [`Inspection::of`].
pub(super) async fn inspect(
    options: &PgConnectOptions,
    master_key_file: Option<&Path>,
) -> Result<Inspection, StoreError> {
    let path = name(options);
    let fail = |error| StoreError::Open { path: path.clone(), error };
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool.connect_with(options.clone()).await.map_err(fail)?;
    let database = Pool::Postgres(pool.clone());
    let is_new = query_scalar("SELECT to_regclass('_sqlx_migrations') IS NULL");
    let is_new: bool = is_new.fetch_one(&database).await.map_err(fail)?;
    let version = match is_new {
        true => 0,
        false => {
            let newest = query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations");
            newest.fetch_one(&database).await.map_err(fail)?
        }
    };
    let mut inspection = Inspection::new(version, own_version());
    if inspection.is_current() {
        inspection.read_tables(&database, &path).await?;
        let is_made: bool =
            query_scalar("SELECT EXISTS (SELECT 1 FROM keyring.root)").fetch_one(&database).await?;
        inspection.master_key = match MasterKey::find_shared(master_key_file) {
            Err(error) => FoundKey::Unusable(error),
            Ok(_) if !is_made => FoundKey::NotNeeded,
            Ok(master) => match Keyring::open_tables(pool, &path, &master).await {
                Ok(_) => FoundKey::Opens { place: master.place, is_beside_database: false },
                Err(error) => FoundKey::Unusable(error),
            },
        };
    }
    database.close().await;
    Ok(inspection)
}

fn own_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Creates or upgrades the tables. Servers that start together take turns.
async fn migrate(options: &PgConnectOptions, path: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::Open { path: path.to_owned(), error };
    let mut turn = in_time(options.connect()).await.map_err(fail)?;
    let mut turn = turn.begin().await.map_err(fail)?;
    // Of the transaction, not of the session: PgBouncer may give the next statement another session.
    sqlx::query(MIGRATION_LOCK).execute(&mut *turn).await.map_err(fail)?;
    let mut connection = in_time(options.connect()).await.map_err(fail)?;
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_locking(false);
    migrator.run(&mut connection).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
        MigrateError::VersionMissing(found) => {
            StoreError::Newer { path: path.to_owned(), found, known: own_version() }
        }
        error => StoreError::Version { path: path.to_owned(), error },
    })?;
    // What is left is closed with the connections.
    let _ = connection.close().await;
    turn.rollback().await.map_err(fail)
}

/// The address without the password.
fn name(options: &PgConnectOptions) -> PathBuf {
    DatabaseAddress::Postgres(Box::new(options.clone())).to_string().into()
}

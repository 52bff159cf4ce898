//! What is PostgreSQL's alone: connections, migrations, and other servers.
//!
//! | file | what it has |
//! |---|---|
//! | `changes.rs` | what other servers changed |
//! | `schema.rs` | the version of the tables |
//! | `servers.rs` | which servers run |
//! | `snapshot.rs` | what a server has seen of the others' changes |

mod changes;
mod schema;
mod servers;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use changes::{Changed, State};
use schema::{Schema, own_version};
pub use snapshot::{ChangeToken, Snapshot};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::keyring::{Keyring, MasterKey};
use super::sql::{Pool, Statements, in_time, query_scalar};
use super::{Database, DatabaseAddress, Engine, FoundKey, Inspection, Store, StoreError, clock};

/// Begins a transaction that writes. The limits end it if its server or the network is gone. They belong
/// to the transaction, because a connection of PgBouncer does not.
pub(super) const BEGIN: &str =
    "BEGIN; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '8s';
    SET LOCAL idle_in_transaction_session_timeout = '15s'; SELECT pg_advisory_xact_lock_shared(1112559189)";

/// As [`BEGIN`], while no other server writes. A lock of the transaction: PgBouncer may give the next
/// transaction another session.
pub(super) const BEGIN_ALONE: &str = "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '10s';
    SET LOCAL idle_in_transaction_session_timeout = '15s'; SELECT pg_advisory_xact_lock(1112559189)";

/// As [`BEGIN_ALONE`], for as long as a copy takes.
pub(super) const BEGIN_COPYING: &str =
    "BEGIN; SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock(1112559189)";

pub(super) const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Connections of one server that write, and that read.
const WRITERS: u32 = 2;
const READERS: u32 = 4;

/// Connections of one server that follow the others.
const FOLLOWERS: u32 = 2;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is used again unasked. A question takes as long as a short statement.
const TRUSTED_FOR: Duration = Duration::from_millis(200);

/// How long an idle connection may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// SQLSTATE of a statement's name that is taken, and of one that is not known.
const WRONG_NAME: [&str; 2] = ["42P05", "26000"];

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
    let statements = Statements::of(&options);
    if statements == Statements::Named {
        check_names(&options, &path).await?;
    }
    schema::migrate(&options, &path).await?;
    let pool = |connections| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for < TRUSTED_FOR {
                        return Ok(true);
                    }
                    // A network that fails in one direction says nothing.
                    let answer = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    Ok(matches!(answer, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(options.clone())
    };
    let writer = Pool::Postgres(pool(WRITERS), statements);
    let now = query_scalar("SELECT extract(epoch FROM clock_timestamp())::bigint");
    clock::follow_database(now.fetch_one(&writer).await?);
    Ok(Database {
        writer,
        readers: Pool::Postgres(pool(READERS), statements),
        path,
        engine: Engine::Postgres(Arc::new(Server {
            id: crate::access::random_hex::<8>()?,
            timeline: AtomicI64::new(0),
            follower: Pool::Postgres(pool(FOLLOWERS), statements),
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
    let keyring = Keyring::in_postgres(database.writer.clone(), &database.path, &master).await?;
    Store::prepare(database, keyring, None).await
}

/// The version of a database's tables; 0 without tables.
pub(super) async fn schema_version(options: &PgConnectOptions) -> Result<i64, StoreError> {
    let fail = |error| StoreError::Open { path: name(options), error };
    let mut connection = in_time(options.connect()).await.map_err(fail)?;
    let schema = Schema::read(&mut connection).await.map_err(fail)?;
    let _ = connection.close().await;
    Ok(schema.version)
}

/// Refuses tables of a newer version, which may hold what this program does not know.
pub(super) async fn refuse_newer(options: &PgConnectOptions) -> Result<(), StoreError> {
    let (found, known) = (schema_version(options).await?, own_version());
    if found > known {
        return Err(StoreError::Newer { path: name(options), found, known });
    }
    Ok(())
}

/// Writes the keyring's tables to new files, and deletes the old ones.
pub(super) async fn rewrite_keyring(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = in_time(options.connect()).await?;
    sqlx::raw_sql("VACUUM FULL keyring.root, keyring.keys").execute(&mut connection).await?;
    let _ = connection.close().await;
    Ok(())
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
    let mut connection = pool.acquire().await.map_err(fail)?;
    let schema = Schema::read(&mut connection).await.map_err(fail)?;
    drop(connection);
    let database = Pool::Postgres(pool, Statements::of(options));
    let mut inspection = Inspection::new(schema.version, own_version(), schema.is_usable());
    if inspection.is_usable {
        inspection.read_tables(&database, &path).await?;
        inspection.servers = Some(servers::running(&database).await?);
        let is_made: bool =
            query_scalar("SELECT EXISTS (SELECT 1 FROM keyring.root)").fetch_one(&database).await?;
        inspection.master_key = match MasterKey::find_shared(master_key_file) {
            Err(error) => FoundKey::Unusable(error),
            Ok(_) if !is_made => FoundKey::NotNeeded,
            Ok(master) => match Keyring::open_tables(database.clone(), &path, &master).await {
                Ok(_) => FoundKey::Opens { place: master.place, is_beside_database: false },
                Err(error) => FoundKey::Unusable(error),
            },
        };
    }
    database.close().await;
    Ok(inspection)
}

/// Refuses a pooler that gives each transaction another session, unless the address says so. There, a
/// name may stand for a statement of another client.
async fn check_names(options: &PgConnectOptions, path: &Path) -> Result<(), StoreError> {
    let connect = || in_time(options.connect());
    let fail = |error| StoreError::Open { path: path.to_owned(), error };
    let mut connections = [connect().await.map_err(fail)?, connect().await.map_err(fail)?];
    for _ in 0..3 {
        for (connection, (text, expected)) in
            connections.iter_mut().zip([("SELECT $1 + 1", 2), ("SELECT $1 + 2", 3)])
        {
            let answer = sqlx::query_scalar::<_, i64>(text).bind(1_i64).fetch_one(connection);
            let is_wrong = match in_time(answer).await {
                Ok(sum) => Ok(sum != expected),
                Err(error) => match error.as_database_error().and_then(|error| error.code()) {
                    Some(code) if WRONG_NAME.contains(&code.as_ref()) => Ok(true),
                    _ => Err(fail(error)),
                },
            };
            if is_wrong? {
                return Err(StoreError::Pooler { path: path.to_owned() });
            }
        }
    }
    Ok(())
}

/// The address without the password.
fn name(options: &PgConnectOptions) -> PathBuf {
    DatabaseAddress::Postgres(Box::new(options.clone())).to_string().into()
}

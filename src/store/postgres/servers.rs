//! The servers that share the database.

use std::time::Duration;

use super::super::inspection::RunningServer;
use super::super::sql::{Pool, query, query_as, query_scalar};
use super::super::{Database, Engine, Store, StoreError};

/// Selects from the servers that run: those that said so in the last seconds.
macro_rules! running_servers {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM servers WHERE seen_at > clock_timestamp() - interval '3 seconds'"
        )
    };
}

/// How often to look whether a server runs.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The servers that run, by host.
pub(super) async fn running(database: &Pool) -> Result<Vec<RunningServer>, sqlx::Error> {
    let text = concat!(running_servers!("host, version"), " ORDER BY host, version");
    query_as(text).fetch_all(database).await
}

impl Store {
    /// Says that this server runs, and which model it has in memory besides the active one. To be called
    /// once a second.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn note_server(&self, next_model: Option<&str>) -> Result<(), StoreError> {
        let Engine::Postgres(server) = &self.engine else { return Ok(()) };
        let name = rustix::system::uname();
        let noted = query(
            "WITH gone AS (DELETE FROM servers WHERE seen_at < clock_timestamp() - interval '1 hour')
             INSERT INTO servers (id, host, version, seen_at, next_model)
             VALUES ($1, $2, $3, clock_timestamp(), $4)
             ON CONFLICT (id) DO UPDATE
             SET seen_at = excluded.seen_at, next_model = excluded.next_model",
        )
        .bind(&server.id)
        .bind(name.nodename().to_string_lossy().into_owned())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(next_model);
        noted.execute(&server.follower).await?;
        Ok(())
    }

    /// Says that this server stops.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn forget_server(&self) -> Result<(), StoreError> {
        let Engine::Postgres(server) = &self.engine else { return Ok(()) };
        for statement in
            ["DELETE FROM servers WHERE id = $1", "DELETE FROM keeper WHERE server = $1"]
        {
            self.write(query(statement).bind(&server.id).execute(&self.writer)).await?;
        }
        Ok(())
    }

    /// How many servers run, and how many of them do not have a model in memory that is about to become
    /// active.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn servers_without(&self, next_model: &str) -> Result<(i64, i64), StoreError> {
        let Engine::Postgres(server) = &self.engine else { return Ok((1, 0)) };
        let counts = query_as(running_servers!(
            "count(*), count(*) FILTER (WHERE id <> $1 AND next_model IS DISTINCT FROM $2)"
        ));
        Ok(counts.bind(&server.id).bind(next_model).fetch_one(&self.readers).await?)
    }

    /// Whether this server does what one server does for all. It stays the one until it stops.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn is_keeper(&self) -> Result<bool, StoreError> {
        let Engine::Postgres(server) = &self.engine else { return Ok(true) };
        let kept = query(
            "INSERT INTO keeper (server, until)
             VALUES ($1, clock_timestamp() + interval '10 seconds')
             ON CONFLICT (one) DO UPDATE SET server = excluded.server, until = excluded.until
             WHERE keeper.server = excluded.server OR keeper.until < clock_timestamp()",
        );
        Ok(self.write(kept.bind(&server.id).execute(&self.writer)).await? > 0)
    }
}

impl Database {
    /// Refuses what must not happen while servers run. Waits for those that may have been killed just now.
    ///
    /// # Errors
    /// If one runs, or a statement fails.
    pub(in super::super) async fn refuse_running_servers(&self) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.engine else { return Ok(()) };
        let last_seen = || query_scalar(running_servers!("coalesce(max(seen_at)::text, '')"));
        let before: String = last_seen().fetch_one(&self.readers).await?;
        loop {
            let now: String = last_seen().fetch_one(&self.readers).await?;
            if now.is_empty() {
                return Ok(());
            }
            if now != before {
                let path = self.path.clone();
                let servers = query_scalar(running_servers!("count(*)"));
                let servers = servers.fetch_one(&self.readers).await?;
                return Err(StoreError::ServersRun { path, servers });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

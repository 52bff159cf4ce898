//! The servers that share the database.

use super::super::sql::{query, query_as, query_scalar};
use super::super::{Engine, Store, StoreError};

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
        let counts = query_as(
            "SELECT count(*), count(*) FILTER (WHERE id <> $1 AND next_model IS DISTINCT FROM $2)
             FROM servers WHERE seen_at > clock_timestamp() - interval '3 seconds'",
        );
        Ok(counts.bind(&server.id).bind(next_model).fetch_one(&self.readers).await?)
    }

    /// Refuses what must not happen while servers run.
    ///
    /// # Errors
    /// If one runs, or the statement fails.
    pub(in super::super) async fn refuse_running_servers(&self) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.engine else { return Ok(()) };
        let running = query_scalar(
            "SELECT count(*) FROM servers WHERE seen_at > clock_timestamp() - interval '3 seconds'",
        );
        match running.fetch_one(&self.readers).await? {
            0 => Ok(()),
            servers => Err(StoreError::ServersRun { path: self.path.clone(), servers }),
        }
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

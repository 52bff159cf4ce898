//! What other servers changed, as far as it is in this one's memory.
//!
//! Each transaction that changes a user's templates adds a row to `changes`. A reader gets the rows of those
//! that its last snapshot did not have, and its new snapshot, both at one instant. So none is left out,
//! however late it commits, and no transaction makes others wait.

use std::collections::BTreeSet;

use bipedalnet_core::identity::UserId;

use super::super::keyring::key_id;
use super::super::sql::{query, query_as, query_scalar};
use super::super::{Engine, Store, StoreError, Transaction, users};
use super::snapshot::{ChangeToken, Snapshot};

/// What a server reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Templates of these users.
    Users(Vec<UserId>),
    /// Everything: too much time has passed, or a standby was promoted.
    All,
}

/// The state of the database at one instant, for a server's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub snapshot: Snapshot,
    /// Id of the active model.
    pub model: Option<String>,
    /// Id of the model that is about to become active.
    pub next_model: Option<String>,
}

impl Transaction {
    /// The state of this reading transaction. `None` with SQLite, whose only server knows it.
    ///
    /// # Errors
    /// If the database is a standby, or the statement fails.
    pub async fn state(&mut self) -> Result<Option<State>, StoreError> {
        let Engine::Postgres(server) = &self.store.engine else { return Ok(None) };
        // The name of a file of the log begins with the timeline.
        let (text, timeline, model, next_model): (String, i64, Option<String>, Option<String>) =
            query_as(
                "SELECT pg_current_snapshot()::text,
                 ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
                     ::bit(32)::bigint,
                 (SELECT id FROM models WHERE active),
                 (SELECT model FROM next_model WHERE until > clock_timestamp())",
            )
            .fetch_one(&mut self.inner)
            .await?;
        let snapshot = Snapshot::parse(timeline, &text).ok_or_else(|| {
            StoreError::Statement(sqlx::Error::Decode(format!("snapshot {text}").into()))
        })?;
        server.note_timeline(timeline);
        Ok(Some(State { snapshot, model, next_model }))
    }

    /// What changed between an earlier state and that of this reading transaction.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn changes_between(
        &mut self,
        before: &Snapshot,
        now: &Snapshot,
    ) -> Result<Changed, StoreError> {
        if before.timeline() != now.timeline() {
            return Ok(Changed::All);
        }
        let rows: Vec<(String, Option<Vec<u8>>)> = query_as(
            "SELECT DISTINCT user_id, key_id FROM changes
             WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
             AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)",
        )
        .bind(before.text())
        .fetch_all(&mut self.inner)
        .await?;
        let mut changed = BTreeSet::new();
        for (id, key) in rows {
            changed.insert(users::user_id(&self.store.path, id)?);
            if let Some(key) = key.as_deref().and_then(key_id) {
                self.store.keyring.forget(key);
            }
        }
        Ok(Changed::Users(changed.into_iter().collect()))
    }

    /// Makes other servers wait that want to change these users, until this transaction ends. Notes the
    /// change that this transaction is. Does nothing with SQLite, which has one server.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn lock_users(&mut self, users: &[&UserId]) -> Result<(), StoreError> {
        let Engine::Postgres(server) = &self.store.engine else { return Ok(()) };
        let ids: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
        // In the order of their ids, so that no two servers wait for each other.
        let transaction: String = query_scalar(
            "WITH locked AS MATERIALIZED (
                 SELECT 1 FROM users
                 WHERE id IN (SELECT jsonb_array_elements_text($1::text::jsonb))
                 ORDER BY id FOR NO KEY UPDATE
             )
             SELECT pg_current_xact_id()::text FROM (SELECT count(*) FROM locked) AS waited",
        )
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_one(&mut self.inner)
        .await?;
        let timeline = server.timeline();
        self.change = transaction.parse().ok().map(|number| ChangeToken::new(timeline, number));
        Ok(())
    }

    /// The change that this transaction is, once users are locked.
    pub fn change(&self) -> Option<ChangeToken> {
        self.change
    }

    /// Tells other servers that these users' templates changed.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn note_changes(
        &mut self,
        users: impl Iterator<Item = &UserId>,
    ) -> Result<(), StoreError> {
        if let Engine::Sqlite(_) = &self.store.engine {
            return Ok(());
        }
        let ids: Vec<&str> = users.map(UserId::as_str).collect();
        if ids.is_empty() {
            return Ok(());
        }
        query("INSERT INTO changes (user_id) SELECT jsonb_array_elements_text($1::text::jsonb)")
            .bind(serde_json::Value::from(ids).to_string())
            .execute(&mut self.inner)
            .await?;
        Ok(())
    }

    /// As [`Transaction::note_changes`], of a user who is about to be deleted.
    ///
    /// # Errors
    /// If the statement fails.
    pub(in super::super) async fn note_deletion(
        &mut self,
        user: &UserId,
    ) -> Result<(), StoreError> {
        if let Engine::Postgres(_) = &self.store.engine {
            query(
                "INSERT INTO changes (user_id, key_id) SELECT id, key_id FROM users WHERE id = $1",
            )
            .bind(user.as_str())
            .execute(&mut self.inner)
            .await?;
        }
        Ok(())
    }

    /// As [`Transaction::note_changes`], of the user of a walk.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn note_change_of_walk(&mut self, enrollment: i64) -> Result<(), StoreError> {
        if let Engine::Postgres(_) = &self.store.engine {
            query("INSERT INTO changes (user_id) SELECT user_id FROM enrollments WHERE id = $1")
                .bind(enrollment)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(())
    }

    /// Tells other servers which model will become active soon, so that they load it.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn announce_model(&mut self, model: &str) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.store.engine else { return Ok(()) };
        query(
            "INSERT INTO next_model (model, until) VALUES ($1, now() + interval '2 minutes')
             ON CONFLICT (one) DO UPDATE SET model = excluded.model, until = excluded.until",
        )
        .bind(model)
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Deletes rows of the feed that are older than an hour. A server that was away for longer reads
    /// everything.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn prune_changes(&self) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.engine else { return Ok(()) };
        let pruned = query("DELETE FROM changes WHERE at < now() - interval '1 hour'");
        self.write(pruned.execute(&self.writer)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg32;

    use super::super::super::DatabaseAddress;
    use super::super::super::sql::Pool;
    use super::*;

    const WRITERS: u64 = 8;
    const WRITES: usize = 60;

    /// A store in a database of its own, if there is a server to test on.
    async fn store(name: &str) -> Option<Store> {
        let Ok(server) = std::env::var("BIPEDALNET_TEST_POSTGRES") else {
            eprintln!("skipped: BIPEDALNET_TEST_POSTGRES names no server; see tests/postgres.sh");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, [7; 32]).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let pool = sqlx::PgPool::connect(&server).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}_{}", std::process::id()));
        sqlx::query(create).execute(&pool).await.unwrap();
        let (server, _) = server.rsplit_once('/').unwrap();
        let address: DatabaseAddress =
            format!("{server}/{name}_{}", std::process::id()).parse().unwrap();
        Some(Store::open(address, Some(&key)).await.unwrap())
    }

    /// Writers commit in another order than they began, some not at all. Two readers follow them, one of
    /// them with pauses.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_change_is_left_out_and_none_is_read_twice() {
        let Some(store) = store("changes").await else { return };
        let Pool::Postgres(writers, _) = &store.writer else { unreachable!() };
        let options = writers.connect_options().as_ref().clone();
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(WRITERS as u32 + 4);
        let pool = pool.connect_with(options).await.unwrap();
        let running = Arc::new(AtomicUsize::new(WRITERS as usize));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (pool, running) = (pool.clone(), Arc::clone(&running));
            tasks.push(tokio::spawn(async move {
                let mut random = Pcg32::seed_from_u64(writer);
                let mut committed = Vec::new();
                for write in 0..WRITES {
                    let mut transaction = pool.begin().await.unwrap();
                    let user = format!("w{writer}-{write}");
                    sqlx::query("INSERT INTO changes (user_id) VALUES ($1)")
                        .bind(&user)
                        .execute(&mut *transaction)
                        .await
                        .unwrap();
                    // PostgreSQL waits, so that transactions overlap whatever this process does.
                    sqlx::query("SELECT pg_sleep($1)")
                        .bind(f64::from(random.random_range(0..8u32)) / 1000.0)
                        .execute(&mut *transaction)
                        .await
                        .unwrap();
                    if random.random_range(0..5) == 0 {
                        transaction.rollback().await.unwrap();
                    } else {
                        transaction.commit().await.unwrap();
                        committed.push(user);
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
                committed
            }));
        }
        let mut readers = Vec::new();
        for pause in [0.0, 0.02] {
            let (store, pool, running) = (store.clone(), pool.clone(), Arc::clone(&running));
            readers.push(tokio::spawn(async move {
                let mut reading = store.begin_reading().await.unwrap();
                let mut before = reading.state().await.unwrap().unwrap().snapshot;
                // What was there before the first snapshot is in it.
                let all = query_scalar("SELECT user_id FROM changes");
                let there: Vec<String> = all.fetch_all(&mut reading.inner).await.unwrap();
                let mut seen: BTreeMap<String, u32> = there.into_iter().map(|id| (id, 1)).collect();
                drop(reading);
                let mut rounds = 0;
                loop {
                    let is_last = running.load(Ordering::SeqCst) == 0;
                    sqlx::query("SELECT pg_sleep($1)").bind(pause).execute(&pool).await.unwrap();
                    let mut reading = store.begin_reading().await.unwrap();
                    let now = reading.state().await.unwrap().unwrap().snapshot;
                    let changed = reading.changes_between(&before, &now).await.unwrap();
                    let Changed::Users(users) = changed else { panic!("{changed:?}") };
                    for user in users {
                        *seen.entry(user.to_string()).or_default() += 1;
                    }
                    before = now;
                    rounds += 1;
                    if is_last {
                        return (seen, rounds);
                    }
                }
            }));
        }
        let mut expected = BTreeMap::new();
        for task in tasks {
            expected.extend(task.await.unwrap().into_iter().map(|user| (user, 1)));
        }
        assert!(expected.len() < WRITERS as usize * WRITES, "none was rolled back");
        for reader in readers {
            let (seen, rounds) = reader.await.unwrap();
            assert!(rounds > 3, "{rounds}");
            assert_eq!(seen, expected);
        }
    }
}

//! Encrypts a database of an earlier version.

use super::super::sql::{query, query_as, query_scalar};
use super::sealed::Context;
use super::users::ERASURES;
use super::{Engine, Progress, Store, StoreError, Transaction};

/// `PRAGMA user_version` of a database that is encrypted, but may have plain text in free pages.
const SEALED: i64 = 1;
/// And of one that has none.
const CLEAN: i64 = 2;

/// Says that a database is encrypted and holds no plain text.
pub(in crate::store) const MARK_ENCRYPTED: &str = "PRAGMA user_version = 2";

impl Store {
    /// Encrypts what an earlier version stored, in one transaction. Then removes what is left of the
    /// plain text. If the program ends at any point, the next start goes on.
    ///
    /// # Errors
    /// If the disk is full, for example.
    pub(in crate::store) async fn upgrade(&self) -> Result<(), StoreError> {
        let Engine::Sqlite(_) = &self.engine else { return Ok(()) };
        let version: i64 = query_scalar("PRAGMA user_version").fetch_one(&self.writer).await?;
        if version >= CLEAN {
            return Ok(());
        }
        if version < SEALED {
            let mut transaction = self.begin().await?;
            let rows = transaction.seal_all().await?;
            transaction.set_version(if rows == 0 { CLEAN } else { SEALED }).await?;
            transaction.commit().await?;
            if rows == 0 {
                return Ok(());
            }
        }
        tracing::info!("the database is encrypted; removing plain text from its free pages");
        query("VACUUM").execute(&self.writer).await?;
        self.scrub().await?;
        let mut transaction = self.begin().await?;
        transaction.set_version(CLEAN).await?;
        transaction.commit().await?;
        tracing::info!("the database holds no plain text of biometric data any more");
        Ok(())
    }
}

impl Transaction {
    async fn set_version(&mut self, version: i64) -> Result<(), StoreError> {
        query(match version {
            CLEAN => MARK_ENCRYPTED,
            _ => "PRAGMA user_version = 1",
        })
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }

    /// Returns the number of rows that were encrypted.
    async fn seal_all(&mut self) -> Result<usize, StoreError> {
        self.give_keys().await?;
        let mut rows = self.seal_templates().await?;
        rows += self.seal_recordings().await?;
        rows += self.seal_fingerprints().await?;
        rows += self.seal_responses().await?;
        rows += self.seal_checkpoints().await?;
        rows += self.key_erasures().await?;
        Ok(rows)
    }

    /// Gives each user a key.
    async fn give_keys(&mut self) -> Result<(), StoreError> {
        let users: Vec<String> = query_scalar("SELECT id FROM users WHERE key_id IS NULL")
            .fetch_all(&mut self.inner)
            .await?;
        let keys = self.store.keyring.make_keys(users.len()).await?;
        for (user, key) in users.into_iter().zip(keys) {
            query("UPDATE users SET key_id = $1 WHERE id = $2")
                .bind(&key.0[..])
                .bind(user)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(())
    }

    async fn seal_templates(&mut self) -> Result<usize, StoreError> {
        let keys: Vec<(String, i64)> =
            query_as("SELECT model, enrollment_id FROM templates ORDER BY enrollment_id")
                .fetch_all(&mut self.inner)
                .await?;
        let progress = Progress::new("encrypting", "templates", keys.len());
        for (row, (model, enrollment)) in keys.into_iter().enumerate() {
            progress.report(row);
            let Some(owner) = self.owner_of(enrollment).await? else { continue };
            let (template, windows, scale): (Vec<u8>, i64, Option<f64>) = query_as(
                "SELECT template, windows, scale FROM templates
                 WHERE model = $1 AND enrollment_id = $2",
            )
            .bind(&model)
            .bind(enrollment)
            .fetch_one(&mut self.inner)
            .await?;
            let context =
                Context::template(0, &owner.user, &model, enrollment, windows as u32, scale);
            query("UPDATE templates SET template = $1 WHERE model = $2 AND enrollment_id = $3")
                .bind(owner.key.seal_row(&context, &template)?)
                .bind(model)
                .bind(enrollment)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(progress.rows)
    }

    async fn seal_recordings(&mut self) -> Result<usize, StoreError> {
        let keys: Vec<i64> =
            query_scalar("SELECT enrollment_id FROM recordings ORDER BY enrollment_id")
                .fetch_all(&mut self.inner)
                .await?;
        let progress = Progress::new("encrypting", "recordings", keys.len());
        for (row, enrollment) in keys.into_iter().enumerate() {
            progress.report(row);
            let Some(owner) = self.owner_of(enrollment).await? else { continue };
            let recording: Vec<u8> =
                query_scalar("SELECT recording FROM recordings WHERE enrollment_id = $1")
                    .bind(enrollment)
                    .fetch_one(&mut self.inner)
                    .await?;
            let context = Context::recording(&owner.user, enrollment);
            query("UPDATE recordings SET recording = $1 WHERE enrollment_id = $2")
                .bind(owner.key.seal_row(&context, &recording)?)
                .bind(enrollment)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(progress.rows)
    }

    async fn seal_fingerprints(&mut self) -> Result<usize, StoreError> {
        let keys: Vec<i64> = query_scalar("SELECT id FROM fingerprints ORDER BY id")
            .fetch_all(&mut self.inner)
            .await?;
        let progress = Progress::new("encrypting", "fingerprints", keys.len());
        for (row, id) in keys.into_iter().enumerate() {
            progress.report(row);
            let (user, enrollment, fingerprint): (String, Option<i64>, Vec<u8>) = query_as(
                "SELECT user_id, enrollment_id, fingerprint FROM fingerprints WHERE id = $1",
            )
            .bind(id)
            .fetch_one(&mut self.inner)
            .await?;
            let Some(owner) = self.owner(&user).await? else { continue };
            let context = Context::fingerprint(&user, enrollment);
            query("UPDATE fingerprints SET fingerprint = $1 WHERE id = $2")
                .bind(owner.key.seal_row(&context, &fingerprint)?)
                .bind(id)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(progress.rows)
    }

    async fn seal_responses(&mut self) -> Result<usize, StoreError> {
        let keys: Vec<(Vec<u8>, Vec<u8>)> =
            query_as("SELECT key_digest, request_digest FROM replies WHERE body IS NOT NULL")
                .fetch_all(&mut self.inner)
                .await?;
        let progress = Progress::new("encrypting", "stored responses", keys.len());
        for (row, (key, request)) in keys.into_iter().enumerate() {
            progress.report(row);
            let body: Vec<u8> = query_scalar("SELECT body FROM replies WHERE key_digest = $1")
                .bind(&key)
                .fetch_one(&mut self.inner)
                .await?;
            let users: Vec<String> =
                query_scalar("SELECT user_id FROM reply_users WHERE key_digest = $1")
                    .bind(&key)
                    .fetch_all(&mut self.inner)
                    .await?;
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            let (key_id, body) = self.seal_response(&users, &key, &request, &body).await?;
            query("UPDATE replies SET body = $1, key_id = $2 WHERE key_digest = $3")
                .bind(body)
                .bind(key_id)
                .bind(key)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(progress.rows)
    }

    async fn seal_checkpoints(&mut self) -> Result<usize, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> =
            query_as("SELECT job_id, checkpoint FROM training_checkpoints")
                .fetch_all(&mut self.inner)
                .await?;
        let key = self.store.keyring.database_key();
        for (job, checkpoint) in &rows {
            query("UPDATE training_checkpoints SET checkpoint = $1 WHERE job_id = $2")
                .bind(key.seal_row(&Context::checkpoint(*job), checkpoint)?)
                .bind(job)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(rows.len())
    }

    /// Makes digests of erased users such that nobody can guess ids from them.
    async fn key_erasures(&mut self) -> Result<usize, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> =
            query_as("SELECT id, user_digest FROM erasures WHERE keyed = 0")
                .fetch_all(&mut self.inner)
                .await?;
        let secret = self.store.keyring.secret(ERASURES);
        for (id, digest) in &rows {
            query("UPDATE erasures SET user_digest = $1, keyed = 1 WHERE id = $2")
                .bind(&secret.digest(digest)[..])
                .bind(id)
                .execute(&mut self.inner)
                .await?;
        }
        Ok(rows.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bipedalnet_core::identity::UserId;
    use sqlx::SqlitePool;
    use sqlx::migrate::Migrator;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::super::super::{IdempotentRequest, unix_seconds};
    use super::super::MIGRATIONS;
    use super::*;

    const MODEL: &str = "fedcba9876543210";
    const SECRET: &str = "plain text of a person";

    fn request() -> IdempotentRequest {
        let (principal, idempotency_key) = (String::new(), "key".to_owned());
        IdempotentRequest { principal, idempotency_key, digest: [7; 32] }
    }

    /// A database as the version before encryption wrote it.
    async fn make_plain(path: &Path) {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let old = SqlitePool::connect_with(options).await.unwrap();
        let migrations: Vec<_> = MIGRATIONS.iter().filter(|it| it.version <= 9).cloned().collect();
        Migrator { migrations: migrations.into(), ..Migrator::DEFAULT }.run(&old).await.unwrap();
        let rows = format!(
            "INSERT INTO users VALUES ('ann', 1), ('bob', 1);
             INSERT INTO enrollments (id, user_id, created_at_unix_seconds)
             VALUES (7, 'ann', 2), (8, 'bob', 2);
             INSERT INTO models VALUES ('{MODEL}', NULL, '', '', '{{}}', 0, 1, NULL, 1, zeroblob(32),
             x'00');
             INSERT INTO templates VALUES ('{MODEL}', 7, x'0000803f00000040', 9, NULL),
             ('{MODEL}', 8, CAST('{SECRET}..' AS BLOB), 9, 0.5);
             INSERT INTO recordings VALUES (7, CAST(replace(hex(zeroblob(9000)), '0', '{SECRET}')
             AS BLOB), 2);
             INSERT INTO fingerprints VALUES (1, 'ann', 7, CAST('{SECRET}' AS BLOB));
             INSERT INTO erasures VALUES (1, zeroblob(32), zeroblob(16), 1, 1);
             INSERT INTO training_jobs (id, scope, epochs, activate, seed, state,
             created_at_unix_seconds) VALUES (1, 'whole', 1, 0, 1, 'running', 1);
             INSERT INTO training_checkpoints VALUES (1, CAST('{SECRET}' AS BLOB));
             INSERT INTO replies VALUES
             (x'{key}', x'{digest}', 200, NULL, CAST('{SECRET}' AS BLOB), {now}, NULL),
             (zeroblob(32), zeroblob(32), 200, NULL, CAST('{SECRET}' AS BLOB), {now}, NULL);
             INSERT INTO reply_users VALUES ('ann', x'{key}'), ('ann', zeroblob(32)),
             ('bob', zeroblob(32));",
            key = const_hex::encode(request().key_digest()),
            digest = const_hex::encode(request().digest),
            now = unix_seconds(),
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&old).await.unwrap();
        old.close().await;
    }

    fn holds_secret(folder: &Path) -> bool {
        std::fs::read_dir(folder).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
        })
    }

    #[tokio::test]
    async fn a_plain_database_is_encrypted_once_and_reads_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        make_plain(&path).await;
        assert!(holds_secret(folder.path()));

        let ann: UserId = "ann".parse().unwrap();
        for round in 0..3 {
            let store = Store::open(&path, None).await.unwrap();
            assert!(!holds_secret(folder.path()), "{round}");
            let mut transaction = store.begin().await.unwrap();
            let walks = transaction.templates(MODEL, 2).await.unwrap();
            let square: f32 = walks[0].template.values().iter().map(|it| it * it).sum();
            assert!((square - 5.0).abs() < 0.1, "{square}");
            drop(transaction);
            let recording = store.recording(7).await.unwrap().unwrap();
            assert!(recording.starts_with(SECRET.as_bytes()));
            assert_eq!(store.recording_of(&ann, 7).await.unwrap().unwrap(), recording);
            let checkpoint = store.training_checkpoint(1).await.unwrap().unwrap();
            assert_eq!(checkpoint, SECRET.as_bytes());
            let response = store.stored_response(&request()).await.unwrap().unwrap();
            assert_eq!(response.body, SECRET.as_bytes());
            let keyed: i64 = query_scalar(
                "SELECT count(*) FROM erasures WHERE keyed = 1 AND user_digest <> zeroblob(32)",
            )
            .fetch_one(&store.readers)
            .await
            .unwrap();
            assert_eq!(keyed, 1);
            let shared: i64 = query_scalar("SELECT count(*) FROM replies WHERE key_id IS NULL")
                .fetch_one(&store.readers)
                .await
                .unwrap();
            assert_eq!(shared, 1);
            // As if the program had ended before the plain text was removed.
            query("PRAGMA user_version = 1").execute(&store.writer).await.unwrap();
            store.close().await;
        }
    }
}

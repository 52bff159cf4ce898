//! What the replaced database tells about the time since the backup. A restore takes over what was taken
//! away since: users, walks, API keys and models. What was added is lost.
//!
//! The replaced database is attached as `old`, read-only. It may be damaged: what can be read counts.

use std::path::Path;

use bipedalnet_core::identity::UserId;
use sha2::{Digest, Sha256};
use sqlx::{Connection, SqliteConnection};

use super::super::audit::user_digest;
use super::super::error::is_unreadable;
use super::super::sql::{query, query_as, query_scalar};
use super::super::users::ERASURES;
use super::super::{APPLICATION_ID, Store, StoreError, Transaction};

/// How the replaced database and the backup belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// There is none, or it is another's, or nothing of it can be read.
    Useless,
    /// It is the same database. It may be damaged, or from before the backup.
    Related,
    /// It is the backup with what was done since.
    Continuation,
}

/// What was taken over.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub erased_users: u64,
    pub erased_enrollments: u64,
    pub revoked_keys: u64,
    pub deleted_models: u64,
    /// Users and enrollments that were added after the backup.
    pub lost: Option<(i64, i64)>,
    /// What could not be read.
    pub unknown: Vec<&'static str>,
}

/// Attaches the database that is to be replaced, and looks how it belongs to the backup.
pub(super) async fn attach(
    backup: &mut SqliteConnection,
    path: &Path,
    keyring: Option<&[u8]>,
) -> Result<Replaced, StoreError> {
    // An empty one was made for the lock.
    if std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        return Ok(Replaced::Useless);
    }
    match inspect(backup, &read_only_uri(path), keyring).await {
        Err(StoreError::Statement(error)) if is_unreadable(&error) => Ok(Replaced::Useless),
        replaced => replaced,
    }
}

async fn inspect(
    backup: &mut SqliteConnection,
    uri: &str,
    keyring: Option<&[u8]>,
) -> Result<Replaced, StoreError> {
    sqlx::query("ATTACH ? AS old").bind(uri).execute(&mut *backup).await?;
    let application: i32 =
        sqlx::query_scalar("PRAGMA old.application_id").fetch_one(&mut *backup).await?;
    let id: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT id FROM old.keyring").fetch_optional(&mut *backup).await?;
    if application != APPLICATION_ID || id.is_none() || id.as_deref() != keyring {
        return Ok(Replaced::Useless);
    }
    let checked: Result<String, sqlx::Error> =
        sqlx::query_scalar("PRAGMA old.quick_check(1)").fetch_one(&mut *backup).await;
    let continues: Result<bool, sqlx::Error> = sqlx::query_scalar(
        "WITH newest AS (SELECT number, hash FROM main.audit
                         UNION ALL SELECT number, hash FROM main.audit_start
                         ORDER BY number DESC LIMIT 1)
         SELECT EXISTS (SELECT 1 FROM newest JOIN
                        (SELECT number, hash FROM old.audit
                         UNION ALL SELECT number, hash FROM old.audit_start) USING (number, hash))",
    )
    .fetch_one(backup)
    .await;
    let is_whole = checked.is_ok_and(|verdict| verdict == "ok");
    let continues = is_whole && continues.unwrap_or(false);
    Ok(if continues { Replaced::Continuation } else { Replaced::Related })
}

/// Adds what the audit trail recorded since the backup. Entries are chained to one another, so they are
/// taken as they are. Nothing else was added to the backup's trail yet.
pub(super) async fn continue_audit(backup: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut change = backup.begin().await?;
    // With the names of columns: a newer version may have added some.
    for statement in [
        "INSERT INTO main.audit (number, at_unix_seconds, actor, action, user_digest, detail, hash)
         SELECT number, at_unix_seconds, actor, action, user_digest, detail, hash FROM old.audit
         WHERE number > (SELECT coalesce(max(number), 0) FROM main.audit) ORDER BY number",
        "UPDATE main.audit_start SET (number, hash) = (SELECT number, hash FROM old.audit_start)
         WHERE number < (SELECT number FROM old.audit_start)",
        "DELETE FROM main.audit WHERE number <= (SELECT number FROM main.audit_start)",
        "DELETE FROM main.audit_notes",
        "INSERT INTO main.audit_notes (number, at_unix_seconds, action, detail)
         SELECT number, at_unix_seconds, action, detail FROM old.audit_notes",
    ] {
        sqlx::query(statement).execute(&mut *change).await?;
    }
    Ok(change.commit().await?)
}

/// Attaches the replaced database to a store.
pub(super) async fn attach_to(store: &Store, path: &Path) -> Result<(), StoreError> {
    query("ATTACH $1 AS old").bind(read_only_uri(path)).execute(&store.writer).await?;
    Ok(())
}

fn read_only_uri(path: &Path) -> String {
    let path = path.display().to_string();
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?mode=ro")
}

/// The number of the secret that templates of the replaced database are transformed with.
pub(super) async fn generation(store: &Store) -> Result<u32, StoreError> {
    let query = query_scalar("SELECT generation FROM old.template_generation");
    let generation: i64 = query.fetch_one(&store.writer).await?;
    Ok(generation as u32)
}

/// Selects the records of erasures that the backup lacks.
macro_rules! erasures_since {
    () => {
        "SELECT user_digest, salt, enrollments, erased_at_unix_seconds, keyed FROM old.erasures EXCEPT
         SELECT user_digest, salt, enrollments, erased_at_unix_seconds, keyed FROM main.erasures"
    };
}

impl Transaction {
    /// Takes over what was taken away since the backup.
    pub(super) async fn replay(&mut self, replay: &mut Replay) -> Result<(), StoreError> {
        let erased = self.erased_since().await;
        for user in replay.found("deleted users", erased)? {
            self.erase_user(&user).await?;
            replay.erased_users += 1;
        }
        let erased = self.enrollments_erased_since().await;
        for (user, id) in replay.found("deleted enrollments", erased)? {
            match self.erase_enrollment(&user, id).await {
                Ok(()) => replay.erased_enrollments += 1,
                // It went with another.
                Err(StoreError::NoSuchEnrollment { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let deleted = self.models_deleted_since().await;
        for model in replay.found("deleted models", deleted)? {
            match self.delete_model(&model).await {
                Ok(()) => replay.deleted_models += 1,
                Err(StoreError::ModelInUse { .. }) => {
                    replay.unknown.push("a deleted model that the backup has active");
                }
                Err(error) => return Err(error),
            }
        }
        let revoked = self.revoke_keys().await;
        replay.revoked_keys = replay.found("revoked API keys", revoked)?;
        let counted = self.take_over_activity().await;
        replay.found("failed verifications", counted)?;
        let lost = self.added_since().await;
        replay.lost = replay.found("users and enrollments that were added", lost.map(Some))?;
        Ok(())
    }

    /// Users of the backup of whose erasure there is a record that the backup lacks.
    async fn erased_since(&mut self) -> Result<Vec<UserId>, StoreError> {
        let erasures: Vec<(Vec<u8>, Vec<u8>, i64)> = query_as(concat!(
            "SELECT user_digest, salt, erased_at_unix_seconds FROM (",
            erasures_since!(),
            ") WHERE keyed = 1"
        ))
        .fetch_all(&mut self.inner)
        .await?;
        // Others cannot have been erased. Those who were created again have another key.
        let users: Vec<(String, i64)> = query_as(
            "SELECT id, created_at_unix_seconds FROM main.users WHERE NOT EXISTS
             (SELECT 1 FROM old.users WHERE old.users.id = main.users.id
              AND old.users.key_id IS main.users.key_id)",
        )
        .fetch_all(&mut self.inner)
        .await?;
        let secret = self.store.keyring.secret(ERASURES);
        let is_erased = |id: &str, created_at: i64| {
            erasures.iter().filter(|(.., erased_at)| *erased_at >= created_at).any(
                |(digest, salt, _)| {
                    let plain = Sha256::new().chain_update(salt).chain_update(id).finalize();
                    secret.digest(&plain)[..] == digest[..]
                },
            )
        };
        let erased: Vec<UserId> = users
            .iter()
            .filter(|(id, created_at)| is_erased(id, *created_at))
            .filter_map(|(id, _)| UserId::from_stored(id).ok())
            .collect();
        // The record of other erasures stays, too.
        query(concat!(
            "INSERT INTO main.erasures
             (user_digest, salt, enrollments, erased_at_unix_seconds, keyed) ",
            erasures_since!()
        ))
        .execute(&mut self.inner)
        .await?;
        Ok(erased)
    }

    async fn enrollments_erased_since(&mut self) -> Result<Vec<(UserId, i64)>, StoreError> {
        let rows: Vec<(String, i64, Vec<u8>)> = query_as(
            "SELECT user_id, enrollments.id, user_digest
             FROM old.audit JOIN main.enrollments ON enrollments.id = CAST(detail AS INTEGER)
             WHERE action = 'enrollment_deleted' AND at_unix_seconds >= created_at_unix_seconds",
        )
        .fetch_all(&mut self.inner)
        .await?;
        let of_user = |(user, id, digest): (String, i64, Vec<u8>)| {
            let user = UserId::from_stored(&user).ok()?;
            (user_digest(&self.store.keyring, &user) == digest).then_some((user, id))
        };
        Ok(rows.into_iter().filter_map(of_user).collect())
    }

    async fn models_deleted_since(&mut self) -> Result<Vec<String>, StoreError> {
        let query = query_scalar(
            "SELECT DISTINCT detail FROM old.audit WHERE action = 'model_deleted'
             AND detail IN (SELECT id FROM main.models)
             AND detail NOT IN (SELECT id FROM old.models)",
        );
        Ok(query.fetch_all(&mut self.inner).await?)
    }

    /// Keys that were created since are revoked, too: their rows show what there was, and a server that
    /// had keys does not become open to everybody.
    async fn revoke_keys(&mut self) -> Result<u64, StoreError> {
        let revoked = query(
            "UPDATE main.api_keys SET revoked = 1 WHERE revoked = 0
             AND id IN (SELECT id FROM old.api_keys WHERE revoked = 1)",
        )
        .execute(&mut self.inner)
        .await?;
        let added = query(
            "INSERT INTO main.api_keys (id, secret_digest, name, scopes, created_at_unix_seconds,
             expires_at_unix_seconds, revoked, last_used_at_unix_seconds)
             SELECT id, secret_digest, name, scopes, created_at_unix_seconds,
             expires_at_unix_seconds, 1, last_used_at_unix_seconds FROM old.api_keys
             WHERE id NOT IN (SELECT id FROM main.api_keys)",
        )
        .execute(&mut self.inner)
        .await?;
        Ok(revoked + added)
    }

    /// Locks of users, when they were last active, and how far the clock is trusted: nobody may look
    /// inactive for the time since the backup.
    async fn take_over_activity(&mut self) -> Result<(), StoreError> {
        for statement in [
            "UPDATE main.users SET last_active_at_unix_seconds =
             max(main.users.last_active_at_unix_seconds, newer.last_active_at_unix_seconds)
             FROM old.users AS newer
             WHERE newer.id = main.users.id AND newer.key_id = main.users.key_id",
            "DELETE FROM main.failed_verifications WHERE user_id IN
             (SELECT id FROM main.users JOIN old.users USING (id, key_id))",
            "INSERT INTO main.failed_verifications (user_id, api_key, failures, last_at_unix_seconds)
             SELECT user_id, api_key, failures, last_at_unix_seconds FROM old.failed_verifications
             WHERE user_id IN (SELECT id FROM main.users JOIN old.users USING (id, key_id))",
            "UPDATE main.retention_clock SET
             (seen_at_unix_seconds, steady_since_unix_seconds, leapt_from_unix_seconds) =
             (SELECT seen_at_unix_seconds, steady_since_unix_seconds, leapt_from_unix_seconds
              FROM old.retention_clock)",
        ] {
            query(statement).execute(&mut self.inner).await?;
        }
        Ok(())
    }

    async fn added_since(&mut self) -> Result<(i64, i64), StoreError> {
        let query = query_as(
            "SELECT
             (SELECT count(*) FROM old.users WHERE key_id NOT IN
              (SELECT key_id FROM main.users WHERE key_id NOT NULL)),
             (SELECT count(*) FROM old.enrollments WHERE id NOT IN
              (SELECT id FROM main.enrollments))",
        );
        Ok(query.fetch_one(&mut self.inner).await?)
    }
}

impl Replay {
    /// What was found, or nothing if the replaced database is damaged there, or has no such table.
    pub fn found<T: Default>(
        &mut self,
        what: &'static str,
        found: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match found {
            Err(StoreError::Statement(error)) if is_unreadable(&error) => {
                self.unknown.push(what);
                Ok(T::default())
            }
            found => found,
        }
    }
}

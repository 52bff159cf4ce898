//! Puts a backup in place of a database. What was taken away since the backup stays away: above all,
//! nobody who was erased comes back.
//!
//! | file | what it does |
//! |---|---|
//! | `keyrings.rs` | which keyring is the newest, and who was erased by it |
//! | `replaced.rs` | what the replaced database tells about the time since the backup |
//! | `staging.rs` | moves complete files to their place |

mod keyrings;
mod replaced;
mod staging;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bipedalnet_core::identity::UserId;
use keyrings::{BackupUser, Keyrings, Verdict, is_same};
use replaced::{Replaced, Replay};
use sqlx::{ConnectOptions, Connection};
use staging::Staging;
pub(super) use staging::{finish, refuse_unfinished};

use super::audit::COMMAND_LINE;
use super::backup::copy_to;
use super::error::is_unreadable;
use super::keyring::{self, KeyId, MasterKeyPlace, keyring_file};
use super::lock::DatabaseLock;
use super::sql::{query, query_as, query_scalar};
use super::{
    APPLICATION_ID, AuditEvent, Store, StoreError, beside, date_and_time, key_id, open, open_store,
    opening, read_only, unix_seconds, writing_options,
};

/// What to restore, and where.
#[derive(Clone, Copy, Debug)]
pub struct RestoreRequest<'a> {
    /// The database to replace. It need not exist.
    pub database: &'a Path,
    /// A copy of it, such as [`backup`](super::backup) makes. It is only read.
    pub backup: &'a Path,
    /// The newest copy of the keyring.
    pub keyring: Option<&'a Path>,
    pub master_key_file: Option<&'a Path>,
    /// Whether to go on if nothing tells who was erased after the backup.
    pub accept_unknown_erasures: bool,
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct Restored {
    /// The last time at which the backup is known to be up to date.
    pub backup_at: String,
    pub users: i64,
    pub enrollments: i64,
    /// Erased again.
    pub erased_users: u64,
    pub erased_enrollments: u64,
    /// Deleted because no keyring has their key.
    pub users_without_key: u64,
    /// Revoked again, or created after the backup.
    pub revoked_keys: u64,
    pub deleted_models: u64,
    pub renewed_templates: bool,
    /// Users and enrollments that were added after the backup, if they could be counted.
    pub lost: Option<(i64, i64)>,
    /// What may have been taken away after the backup, and could not be found out.
    pub unknown: Vec<&'static str>,
    /// Users who were deleted after this time may be back.
    pub erasures_known_until: Option<String>,
    /// The first entry of the backup's audit trail that is wrong, and why.
    pub broken_audit: Option<String>,
    /// The file that the keyring is from, if it was replaced.
    pub keyring: Option<PathBuf>,
    /// Where the replaced files are now. Names of log files begin with theirs.
    pub kept: Vec<PathBuf>,
}

/// What a replaced database would tell that keyrings do not.
const TOLD_BY_DATABASE: [&str; 4] =
    ["deleted enrollments", "revoked API keys", "deleted models", "renewed templates"];

/// Puts a backup in place of a database. Nothing is changed before the new files are complete; from then
/// on, a crash leaves them to the next start. The replaced database is kept beside the new one.
///
/// # Errors
/// If a server uses the database, the backup is damaged or of a newer version, no keyring fits, nothing
/// tells who was erased after the backup, or a file cannot be written.
pub async fn restore(request: RestoreRequest<'_>) -> Result<Restored, StoreError> {
    check_backup(&request).await?;
    let was_there = request.database.exists();
    let lock = DatabaseLock::take(request.database)?;
    let restored = restore_alone(&request).await;
    if restored.is_err()
        && !was_there
        && std::fs::metadata(request.database).is_ok_and(|it| it.len() == 0)
    {
        // Made for the lock.
        let _ = std::fs::remove_file(request.database);
    }
    drop(lock);
    restored
}

fn refusal(request: &RestoreRequest<'_>, reason: String) -> StoreError {
    StoreError::Restore { path: request.backup.to_owned(), reason }
}

async fn check_backup(request: &RestoreRequest<'_>) -> Result<(), StoreError> {
    let path = request.backup;
    if is_same(path, request.database) {
        return Err(refusal(request, "it is the database itself".to_owned()));
    }
    let damaged = |reason: String| {
        refusal(request, format!("it is damaged: {reason}; choose another backup"))
    };
    let mut backup =
        read_only(path).await.map_err(|error| match opening(path.to_owned(), error) {
            StoreError::Damaged { reason, .. } => damaged(reason),
            error => error,
        })?;
    let checked: Result<(String, i32), sqlx::Error> = async {
        let verdict =
            sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut backup).await?;
        let id = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut backup).await?;
        Ok((verdict, id))
    }
    .await;
    match checked {
        Ok((verdict, _)) if verdict != "ok" => Err(damaged(verdict)),
        Ok((_, APPLICATION_ID)) => Ok(backup.close().await?),
        Ok(_) => Err(StoreError::Foreign { path: path.to_owned() }),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// A backup that is being made into the new database.
struct Restoration<'a> {
    request: &'a RestoreRequest<'a>,
    staging: Staging,
    keyrings: Keyrings,
    replaced: Replaced,
    /// As they are in the backup.
    users: Vec<BackupUser>,
    backup_at_unix_seconds: i64,
}

async fn restore_alone(request: &RestoreRequest<'_>) -> Result<Restored, StoreError> {
    let restoration = Restoration::prepare(request).await?;
    restoration.check_evidence()?;
    let place = MasterKeyPlace { file: request.master_key_file, database: request.database };
    let mut store = open_store(&restoration.staging.database(), place, None).await?;
    let replayed = restoration.replay(&mut store).await;
    store.close().await;
    drop(store);
    let restored = restoration.commit(replayed?).await?;
    // Shows that the two belong together, and destroys keys of erased users.
    let store = open_store(request.database, place, None).await?;
    store.close().await;
    Ok(restored)
}

impl<'a> Restoration<'a> {
    /// Copies the backup and the newest keyring, and compares them with what they replace.
    async fn prepare(request: &'a RestoreRequest<'a>) -> Result<Self, StoreError> {
        let fail = |reason: String| refusal(request, reason);
        let staging = Staging::new(request.database).map_err(|error| fail(error.to_string()))?;
        let path = staging.database();
        copy_to(request.backup, &path, APPLICATION_ID, &fail).await?;
        // Brings it up to date.
        let database = open(&path).await.map_err(|error| match error {
            StoreError::Version { error, .. } => {
                StoreError::Version { path: request.backup.to_owned(), error }
            }
            StoreError::Newer { found, known, .. } => fail(format!(
                "a newer version made it (schema {found}; this one knows {known}); \
                              restore it with that version, or choose an older backup"
            )),
            error => error,
        })?;
        database.close().await;
        let mut backup = writing_options(&path).connect().await?;
        let id: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM keyring").fetch_optional(&mut backup).await?;
        let backup_at_unix_seconds: i64 = sqlx::query_scalar(
            "SELECT max((SELECT succeeded_at_unix_seconds FROM backup_times),
             (SELECT coalesce(max(at_unix_seconds), 0) FROM audit),
             (SELECT coalesce(max(created_at_unix_seconds), 0) FROM users))",
        )
        .fetch_one(&mut backup)
        .await?;
        let users = BackupUser::all(&mut backup).await?;
        let keyrings = Keyrings::find(request, id.as_deref().and_then(key_id)).await?;
        let mut replaced = replaced::attach(&mut backup, request.database, id.as_deref()).await?;
        if replaced == Replaced::Continuation {
            match replaced::continue_audit(&mut backup).await {
                Err(StoreError::Statement(error)) if is_unreadable(&error) => {
                    replaced = Replaced::Related;
                }
                continued => continued?,
            }
        }
        backup.close().await?;
        if let Some(newest) = keyrings.newest() {
            let copy = staging.keyring();
            super::files::make_private(&copy).map_err(|error| fail(error.to_string()))?;
            copy_to(&newest.path, &copy, keyring::APPLICATION_ID, &fail).await?;
            let mut copy = writing_options(&copy).connect().await?;
            for (id, wrapped) in keyrings.missing(&users) {
                sqlx::query("INSERT INTO keys VALUES (?, ?)")
                    .bind(&id.0[..])
                    .bind(wrapped)
                    .execute(&mut copy)
                    .await?;
            }
            copy.close().await?;
        }
        Ok(Self { request, staging, keyrings, replaced, users, backup_at_unix_seconds })
    }

    /// Whether everybody is known who was erased after the backup.
    fn knows_all_erased(&self) -> bool {
        self.replaced == Replaced::Continuation
            || self.keyrings.know_all_since(self.backup_at_unix_seconds)
    }

    fn check_evidence(&self) -> Result<(), StoreError> {
        if self.knows_all_erased()
            || self.keyrings.is_given()
            || self.request.accept_unknown_erasures
            || self.users.is_empty()
        {
            return Ok(());
        }
        let reason = "nothing tells which users were deleted after it, so they would come back: the \
                      database to be replaced cannot be read or is another, and there is no keyring \
                      newer than the backup's. Pass the newest copy of the keyring with --keyring. If \
                      there is none, pass --accept-unknown-erasures, and delete these users again";
        Err(refusal(self.request, reason.to_owned()))
    }

    /// Takes away again what was taken away after the backup.
    async fn replay(&self, store: &mut Store) -> Result<Restored, StoreError> {
        let broken_audit = match store.check_audit().await {
            Ok(_) => None,
            Err(error @ StoreError::AuditBroken { .. }) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let mut restored = Restored { broken_audit, ..Restored::default() };
        let is_related = self.replaced != Replaced::Useless;
        if is_related {
            replaced::attach_to(store, self.request.database).await?;
        }
        if self.replaced != Replaced::Continuation {
            restored.unknown.extend(TOLD_BY_DATABASE);
        }
        let mut transaction = store.begin().await?;
        transaction.act_for(COMMAND_LINE);
        // An operator is here, so the clock is right. Nothing is deleted by it for a day.
        query(
            "UPDATE retention_clock SET seen_at_unix_seconds = $1, steady_since_unix_seconds = $1,
             leapt_from_unix_seconds = NULL",
        )
        .bind(unix_seconds())
        .execute(&mut transaction.inner)
        .await?;
        // The time since the backup does not count as inactivity.
        query("UPDATE users SET last_active_at_unix_seconds = last_active_at_unix_seconds + $1")
            .bind((unix_seconds() - self.backup_at_unix_seconds).max(0))
            .execute(&mut transaction.inner)
            .await?;
        let mut replay = Replay::default();
        for user in &self.users {
            let count = match self.keyrings.judge(user) {
                Verdict::Kept => continue,
                Verdict::Erased => &mut replay.erased_users,
                Verdict::KeyLost => &mut restored.users_without_key,
            };
            *count += 1;
            let id = UserId::from_stored(&user.id).map_err(|_| {
                refusal(self.request, format!("it holds a user with the id {:?}", user.id))
            })?;
            transaction.erase_user(&id).await?;
        }
        if is_related {
            transaction.replay(&mut replay).await?;
        }
        transaction.audit(AuditEvent::DatabaseRestored(self.backup_at_unix_seconds)).await?;
        transaction.commit().await?;
        if is_related {
            restored.renewed_templates = self.renew_templates(store, &mut replay).await?;
        }
        self.note_erased_keys(store).await?;
        restored.erased_users = replay.erased_users;
        restored.erased_enrollments = replay.erased_enrollments;
        restored.revoked_keys = replay.revoked_keys;
        restored.deleted_models = replay.deleted_models;
        restored.lost = replay.lost;
        restored.unknown.append(&mut replay.unknown);
        restored.unknown.sort_unstable();
        restored.unknown.dedup();
        self.describe(store, &mut restored).await?;
        Ok(restored)
    }

    /// Templates that were renewed after the backup had leaked, so they are renewed again.
    async fn renew_templates(
        &self,
        store: &mut Store,
        replay: &mut Replay,
    ) -> Result<bool, StoreError> {
        let wanted = replay.found(TOLD_BY_DATABASE[3], replaced::generation(store).await)?;
        query("DETACH old").execute(&store.writer).await?;
        let is_older = store.template_generation < wanted;
        while store.template_generation < wanted {
            store.renew(COMMAND_LINE).await?;
        }
        Ok(is_older)
    }

    /// The keyring in place still has keys that the store has destroyed in its copy.
    async fn note_erased_keys(&self, store: &Store) -> Result<(), StoreError> {
        let kept: Vec<Vec<u8>> =
            query_scalar("SELECT key_id FROM users").fetch_all(&store.readers).await?;
        let kept: HashSet<KeyId> = kept.iter().filter_map(|id| key_id(id)).collect();
        let mut transaction = store.begin().await?;
        for key in self.users.iter().filter_map(|user| user.key_id).filter(|id| !kept.contains(id))
        {
            query("INSERT OR IGNORE INTO erased_keys VALUES ($1)")
                .bind(&key.0[..])
                .execute(&mut transaction.inner)
                .await?;
        }
        transaction.commit().await
    }

    async fn describe(&self, store: &Store, restored: &mut Restored) -> Result<(), StoreError> {
        restored.backup_at = date_and_time(self.backup_at_unix_seconds);
        if !self.knows_all_erased() {
            let until = self.keyrings.known_until().unwrap_or(0);
            restored.erasures_known_until =
                Some(date_and_time(until.max(self.backup_at_unix_seconds)));
        }
        (restored.users, restored.enrollments) =
            query_as("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM enrollments)")
                .fetch_one(&store.readers)
                .await?;
        Ok(())
    }

    async fn commit(self, mut restored: Restored) -> Result<Restored, StoreError> {
        let Self { request, staging, keyrings, users, .. } = self;
        let keyring_stays = keyrings.in_place_has_all(&users);
        if !keyring_stays {
            restored.keyring = keyrings.newest().map(|newest| newest.path.clone());
        }
        let suffix = format!("-replaced-{}", unix_seconds());
        let committed = staging.commit(&suffix, keyring_stays);
        committed.map_err(|error| refusal(request, error.to_string()))?;
        finish(request.database)?;
        let kept = [request.database.canonicalize(), Ok(keyring_file(request.database))];
        let kept = kept.into_iter().flatten().map(|file| beside(&file, &suffix));
        restored.kept = kept.filter(|file| file.exists()).collect();
        Ok(restored)
    }
}

//! The keyrings that a restore can use: that in place, a newer copy, and the backup's own.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;

use super::super::keyring::{KeyId, KeyringFile, MasterKeyPlace, keyring_file};
use super::super::{StoreError, key_id};
use super::RestoreRequest;

/// A user of the backup.
pub(super) struct BackupUser {
    pub id: String,
    pub key_id: Option<KeyId>,
    pub created_at_unix_seconds: i64,
}

impl BackupUser {
    pub async fn all(backup: &mut SqliteConnection) -> Result<Vec<Self>, StoreError> {
        let rows: Vec<(String, Option<Vec<u8>>, i64)> =
            sqlx::query_as("SELECT id, key_id, created_at_unix_seconds FROM users")
                .fetch_all(backup)
                .await?;
        let user = |(id, key, created_at_unix_seconds): (String, Option<Vec<u8>>, i64)| Self {
            id,
            key_id: key.as_deref().and_then(key_id),
            created_at_unix_seconds,
        };
        Ok(rows.into_iter().map(user).collect())
    }
}

/// What the keyrings tell about a user.
pub(super) enum Verdict {
    Kept,
    Erased,
    /// No keyring is new enough to have the user's key.
    KeyLost,
}

/// All usable keyrings. They belong to the same database.
pub(super) struct Keyrings {
    files: Vec<KeyringFile>,
    in_place: PathBuf,
    is_given: bool,
}

impl Keyrings {
    /// Finds keyrings that the master key opens and that have this id.
    pub async fn find(
        request: &RestoreRequest<'_>,
        needed: Option<KeyId>,
    ) -> Result<Self, StoreError> {
        let place = MasterKeyPlace { file: request.master_key_file, database: request.database };
        let fits = |file: &KeyringFile| needed.is_none_or(|id| id == file.id);
        let in_place = keyring_file(request.database);
        let own = keyring_file(request.backup);
        let given = request.keyring.filter(|given| !is_same(given, &own));
        let mut files = Vec::new();
        // If none can be used, the first reason is the best.
        let mut reason = None;
        for path in given.into_iter().chain([&*in_place, &*own]).filter(|path| path.exists()) {
            match KeyringFile::read(path, place).await {
                Ok(file) if fits(&file) => files.push(file),
                Ok(_) => {
                    let other = StoreError::Keyring {
                        path: path.to_owned(),
                        reason: "it is the keyring of another database than the backup's"
                            .to_owned(),
                    };
                    reason.get_or_insert(other);
                }
                Err(error) => {
                    reason.get_or_insert(error);
                }
            }
            // One that was named must be of use.
            if given == Some(path)
                && let Some(error) = reason.take()
            {
                return Err(error);
            }
        }
        if files.is_empty() && needed.is_some() {
            return Err(reason.unwrap_or_else(|| StoreError::Keyring {
                path: in_place,
                reason:
                    "it is missing, and so is a copy beside the backup; name one with --keyring"
                        .to_owned(),
            }));
        }
        if let Some(given) = request.keyring.filter(|given| !given.exists()) {
            let reason = "there is no such file".to_owned();
            return Err(StoreError::Keyring { path: given.to_owned(), reason });
        }
        Ok(Self { files, in_place, is_given: given.is_some() })
    }

    /// The newest. `None` if the database needs none yet.
    pub fn newest(&self) -> Option<&KeyringFile> {
        // That in place, unless it is a copy: others are copies of it. The last of equal ones counts.
        let is_in_use = |file: &KeyringFile| file.path == self.in_place && file.is_live;
        self.files.iter().rev().max_by_key(|file| (is_in_use(file), file.as_of_unix_seconds))
    }

    /// Whether the keyring in place can stay: no other has a key that it lacks.
    pub fn in_place_has_all(&self, users: &[BackupUser]) -> bool {
        self.newest().is_some_and(|newest| newest.path == self.in_place)
            && self.missing(users).next().is_none()
    }

    /// Keys of users that the newest lacks and another has.
    pub fn missing<'a>(
        &'a self,
        users: &'a [BackupUser],
    ) -> impl Iterator<Item = (KeyId, &'a [u8])> {
        users.iter().filter_map(move |user| {
            let id = user.key_id?;
            if self.newest()?.keys.contains_key(&id) || !matches!(self.judge(user), Verdict::Kept) {
                return None;
            }
            self.files.iter().find_map(|file| Some((id, &file.keys.get(&id)?[..])))
        })
    }

    /// A key that one keyring shows destroyed stays so, even if another still has it.
    pub fn judge(&self, user: &BackupUser) -> Verdict {
        let Some(key) = user.key_id else { return Verdict::Kept };
        let created_at = user.created_at_unix_seconds;
        if self.files.iter().any(|file| file.shows_destroyed(key, created_at)) {
            return Verdict::Erased;
        }
        let is_lost = self.files.iter().all(|file| !file.keys.contains_key(&key));
        if is_lost { Verdict::KeyLost } else { Verdict::Kept }
    }

    /// Whether the keyring in place tells of every user who was erased after a time.
    pub fn know_all_since(&self, unix_seconds: i64) -> bool {
        let in_place = self.files.iter().find(|file| file.path == self.in_place);
        in_place.is_some_and(|file| file.knows_all_since(unix_seconds))
    }

    /// Until when they tell who was erased, if somebody named a keyring as the newest.
    pub fn known_until(&self) -> Option<i64> {
        let newest = self.newest().filter(|_| self.is_given)?;
        newest.as_of_unix_seconds
    }

    /// Whether somebody named a keyring other than the backup's own.
    pub fn is_given(&self) -> bool {
        self.is_given
    }
}

/// Whether two paths lead to one file.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

//! What happened to a keyring: which keys were destroyed, and how new it is. A user whose key was destroyed
//! was erased.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::super::StoreError;
use super::super::sqlite::read_only;
use super::{KeyId, MasterKey, MasterKeyPlace, check_origin, context, key_id, unwrap, wrong};

/// Keyrings of earlier versions get this when they are opened.
const HISTORY: &str = "
    -- One row: since when destroyed keys are recorded; when a key was last made or destroyed; and in a
    -- copy, when it was made.
    CREATE TABLE IF NOT EXISTS history (
        began_at_unix_seconds INTEGER NOT NULL,
        changed_at_unix_seconds INTEGER NOT NULL,
        copied_at_unix_seconds INTEGER
    ) STRICT;
    INSERT INTO history SELECT unixepoch(), unixepoch(), NULL
    WHERE NOT EXISTS (SELECT 1 FROM history);
    CREATE TABLE IF NOT EXISTS destroyed (
        id BLOB PRIMARY KEY
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS key_made AFTER INSERT ON keys BEGIN
        UPDATE history SET changed_at_unix_seconds = max(changed_at_unix_seconds, unixepoch());
    END;
    CREATE TRIGGER IF NOT EXISTS key_destroyed AFTER DELETE ON keys BEGIN
        INSERT OR IGNORE INTO destroyed VALUES (OLD.id);
        UPDATE history SET changed_at_unix_seconds = max(changed_at_unix_seconds, unixepoch());
    END;
    -- Between a copy and its use as a keyring, another keyring may have changed.
    CREATE TABLE IF NOT EXISTS gaps (
        after_unix_seconds INTEGER NOT NULL,
        until_unix_seconds INTEGER NOT NULL
    ) STRICT;
    INSERT INTO gaps SELECT copied_at_unix_seconds, unixepoch() FROM history
    WHERE copied_at_unix_seconds NOT NULL;
    UPDATE history SET changed_at_unix_seconds = max(changed_at_unix_seconds, copied_at_unix_seconds),
    copied_at_unix_seconds = NULL WHERE copied_at_unix_seconds NOT NULL;";

/// Begins or continues the history of a keyring that a server will change.
pub(super) async fn go_live(keyring: &mut SqliteConnection) -> Result<(), StoreError> {
    let is_live: Result<bool, sqlx::Error> =
        sqlx::query_scalar("SELECT copied_at_unix_seconds IS NULL FROM history")
            .fetch_one(&mut *keyring)
            .await;
    if !matches!(is_live, Ok(true)) {
        let mut change = keyring.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(HISTORY).execute(&mut *change).await?;
        change.commit().await?;
    }
    Ok(())
}

/// Notes in a copy when it was made.
pub(in crate::store) const NOTE_COPY: &str = "UPDATE history SET copied_at_unix_seconds = ?";

/// A keyring or a copy of one, as `restore` finds it. Nothing is written to it.
pub(in crate::store) struct KeyringFile {
    pub path: PathBuf,
    pub id: KeyId,
    /// No key was made or destroyed between this time and the copy; `None` in a file of an earlier
    /// version.
    pub as_of_unix_seconds: Option<i64>,
    /// Whether it is no copy, but was last in use.
    pub is_live: bool,
    /// When the last gap in its history ended, 0 if there is none.
    gap_until_unix_seconds: i64,
    /// Keys that were destroyed after this time are in `destroyed`.
    began_at_unix_seconds: Option<i64>,
    destroyed: HashSet<KeyId>,
    /// Encrypted.
    pub keys: HashMap<KeyId, Vec<u8>>,
}

impl KeyringFile {
    /// Reads and checks a keyring.
    ///
    /// # Errors
    /// If it is damaged, is none, or the master key does not open it.
    pub async fn read(path: &Path, place: MasterKeyPlace<'_>) -> Result<Self, StoreError> {
        let wrong = |reason: String| wrong(path, reason);
        let mut file = read_only(path).await.map_err(|error| wrong(error.to_string()))?;
        check_origin(&mut file, path).await?;
        let verdict: String =
            sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut file).await?;
        if verdict != "ok" {
            return Err(wrong(format!("it is damaged: {verdict}")));
        }
        let (id, root): (Vec<u8>, Vec<u8>) =
            sqlx::query_as("SELECT id, wrapped FROM root").fetch_one(&mut file).await?;
        let id = key_id(&id).ok_or_else(|| wrong("it is damaged".to_owned()))?;
        let master = MasterKey::find(place)?;
        let opens =
            |master: &MasterKey| unwrap(&master.key, &context("root", &id), &root).is_some();
        let next = MasterKey::unfinished(&master, place.database)?;
        if !opens(&master) && !next.is_some_and(|next| opens(&next)) {
            return Err(wrong(format!("the master key from {} does not open it", master.place)));
        }
        let history: Option<(i64, i64, bool, i64)> = sqlx::query_as(
            "SELECT began_at_unix_seconds,
             max(changed_at_unix_seconds, coalesce(copied_at_unix_seconds, 0)),
             copied_at_unix_seconds IS NULL,
             (SELECT coalesce(max(until_unix_seconds), 0) FROM gaps) FROM history",
        )
        .fetch_optional(&mut file)
        .await
        .unwrap_or(None);
        let destroyed: Vec<Vec<u8>> = match history {
            Some(_) => sqlx::query_scalar("SELECT id FROM destroyed").fetch_all(&mut file).await?,
            None => Vec::new(),
        };
        let keys: Vec<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT id, wrapped FROM keys").fetch_all(&mut file).await?;
        file.close().await?;
        let keys = keys.into_iter().filter_map(|(id, wrapped)| Some((key_id(&id)?, wrapped)));
        Ok(Self {
            path: path.to_owned(),
            id,
            as_of_unix_seconds: history.map(|(_, as_of, ..)| as_of),
            is_live: history.is_none_or(|(_, _, is_live, _)| is_live),
            gap_until_unix_seconds: history.map_or(0, |(.., until)| until),
            began_at_unix_seconds: history.map(|(began_at, ..)| began_at),
            destroyed: destroyed.iter().filter_map(|id| key_id(id)).collect(),
            keys: keys.collect(),
        })
    }

    /// Whether it tells that the key of a user was destroyed. An earlier version recorded no destroyed
    /// keys: then the user's key is only missing.
    pub fn shows_destroyed(&self, key: KeyId, user_created_at_unix_seconds: i64) -> bool {
        let is_recorded =
            self.began_at_unix_seconds.is_some_and(|it| it <= user_created_at_unix_seconds);
        self.destroyed.contains(&key) || !self.keys.contains_key(&key) && !is_recorded
    }

    /// Whether no key was destroyed after a time without its knowledge.
    pub fn knows_all_since(&self, unix_seconds: i64) -> bool {
        self.is_live && self.gap_until_unix_seconds <= unix_seconds
    }
}

//! The audit trail: who did what, and when. Entries are only added, in the transaction of what they
//! record. Each has a keyed hash of itself and the entry before it.

use super::keyring::{Keyring, SecretKey};
use super::sql::{Tx, either, query, query_as, query_scalar};
use super::{Engine, Store, StoreError, Transaction, date_and_time, postgres, unix_seconds};
use bipedalnet_client::api;
use bipedalnet_core::identity::{CollectionId, UserId};
use futures_util::TryStreamExt;

/// Entries that one transaction prunes, so that other writes need not wait long.
const MAX_PRUNED: i64 = 10_000;

/// Who acts if no request does.
pub(super) const SERVER: &str = "server";
pub(super) const COMMAND_LINE: &str = "command_line";

/// The purposes of the secrets that chain entries and make digests of users.
const CHAIN: &str = "audit";
const USERS: &str = "audit users";

/// Action of the entry that says up to which number entries were pruned.
const PRUNED: &str = "audit_pruned";

/// Something that the audit trail records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent<'a> {
    UserCreated(&'a UserId),
    UserDeleted(&'a UserId),
    ConsentRecorded(&'a UserId),
    /// All data of the user was read.
    UserExported(&'a UserId),
    /// A device may have downloaded the user's templates.
    TemplateRead(&'a UserId),
    /// With the number of the enrollment.
    Enrolled(&'a UserId, i64),
    /// A verification added a walk. With its number.
    TemplateUpdated(&'a UserId, i64),
    EnrollmentDeleted(&'a UserId, i64),
    /// With the decision.
    Verified(&'a UserId, &'static str),
    /// After failed verifications.
    UserLocked(&'a UserId),
    UserUnlocked(&'a UserId),
    /// With the id of the user's tokens, and their scopes.
    TokenCreated(&'a UserId, &'a str, &'a str),
    CollectionCreated(&'a CollectionId),
    /// Its limits were set.
    CollectionChanged(&'a CollectionId),
    CollectionDeleted(&'a CollectionId),
    /// With the key's id, its scopes, and the collections that it is bound to.
    KeyCreated(&'a str, &'a str, Option<&'a str>),
    KeyRevoked(&'a str),
    ModelRegistered(&'a str),
    ModelActivated(&'a str),
    ModelDeleted(&'a str),
    /// With the number of the new transform.
    TemplatesRenewed(u32),
    /// An operator says that it is right: what it showed before a leap, and shows now.
    ClockConfirmed {
        from: i64,
        to: i64,
    },
    /// With the number of the newest entry that was pruned.
    AuditPruned(i64),
    /// With the time of the backup, in seconds since 1970.
    DatabaseRestored(i64),
    /// This database is a copy of one of this kind.
    DatabaseCopied(&'static str),
}

impl<'a> AuditEvent<'a> {
    /// Action, user and detail.
    fn parts(self) -> (&'static str, Option<&'a UserId>, Option<String>) {
        let of_user = |action, user| (action, Some(user), None);
        let walk = |action, user, id: i64| (action, Some(user), Some(id.to_string()));
        let of_system = |action, detail: &str| (action, None, Some(detail.to_owned()));
        match self {
            Self::UserCreated(user) => of_user("user_created", user),
            Self::UserDeleted(user) => of_user("user_deleted", user),
            Self::ConsentRecorded(user) => of_user("consent_recorded", user),
            Self::UserExported(user) => of_user("user_exported", user),
            Self::TemplateRead(user) => of_user("template_read", user),
            Self::Enrolled(user, id) => walk("enrolled", user, id),
            Self::TemplateUpdated(user, id) => walk("template_updated", user, id),
            Self::EnrollmentDeleted(user, id) => walk("enrollment_deleted", user, id),
            Self::Verified(user, decision) => ("verified", Some(user), Some(decision.to_owned())),
            Self::UserLocked(user) => of_user("user_locked", user),
            Self::UserUnlocked(user) => of_user("user_unlocked", user),
            Self::TokenCreated(user, id, scopes) => {
                ("token_created", Some(user), Some(format!("{id} {scopes}")))
            }
            Self::CollectionCreated(id) => of_system("collection_created", id.as_str()),
            Self::CollectionChanged(id) => of_system("collection_changed", id.as_str()),
            Self::CollectionDeleted(id) => of_system("collection_deleted", id.as_str()),
            Self::KeyCreated(key, scopes, None) => {
                ("key_created", None, Some(format!("{key} {scopes}")))
            }
            Self::KeyCreated(key, scopes, Some(collections)) => {
                ("key_created", None, Some(format!("{key} {scopes} in {collections}")))
            }
            Self::KeyRevoked(key) => of_system("key_revoked", key),
            Self::ModelRegistered(model) => of_system("model_registered", model),
            Self::ModelActivated(model) => of_system("model_activated", model),
            Self::ModelDeleted(model) => of_system("model_deleted", model),
            Self::TemplatesRenewed(generation) => {
                ("templates_renewed", None, Some(generation.to_string()))
            }
            Self::ClockConfirmed { from, to } => of_system(
                "clock_confirmed",
                &format!("{} to {}", date_and_time(from), date_and_time(to)),
            ),
            Self::AuditPruned(last) => (PRUNED, None, Some(last.to_string())),
            Self::DatabaseRestored(at) => ("database_restored", None, Some(at.to_string())),
            Self::DatabaseCopied(kind) => of_system("database_copied", kind),
        }
    }

    /// Notes what the command line did. It need not know the master key, so it cannot add an entry:
    /// [`Store::chain_audit_notes`] does.
    pub(super) async fn note(self, transaction: &mut Tx) -> Result<(), StoreError> {
        let (action, _, detail) = self.parts();
        note(transaction, COMMAND_LINE, action, None, detail).await
    }
}

/// Notes what [`Store::chain_audit_notes`] will make an entry of.
async fn note(
    transaction: &mut Tx,
    actor: &str,
    action: &str,
    user_digest: Option<Vec<u8>>,
    detail: Option<String>,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO audit_notes (at_unix_seconds, actor, action, user_digest, detail)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(unix_seconds())
    .bind(actor)
    .bind(action)
    .bind(user_digest)
    .bind(detail)
    .execute(transaction)
    .await?;
    Ok(())
}

/// An entry of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditEntry {
    /// From 1 on, without gaps.
    pub number: i64,
    pub at_unix_seconds: i64,
    /// Id of the API key or of a user's tokens; or `anonymous`, `server` or `command_line`.
    pub actor: String,
    pub action: String,
    pub user_digest: Option<Vec<u8>>,
    pub detail: Option<String>,
    pub hash: Vec<u8>,
}

impl AuditEntry {
    /// The hash that the entry should have after one with the hash `previous`.
    fn chained(&self, secret: &SecretKey, previous: &[u8]) -> [u8; 32] {
        let mut bytes = previous.to_vec();
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.at_unix_seconds.to_be_bytes());
        let fields = [
            Some(self.actor.as_bytes()),
            Some(self.action.as_bytes()),
            self.user_digest.as_deref(),
            self.detail.as_ref().map(String::as_bytes),
        ];
        for field in fields {
            // With its length, so that no two rows give the same bytes; -1 for none.
            let length = field.map_or(-1, |field| field.len() as i64);
            bytes.extend(length.to_be_bytes());
            bytes.extend(field.unwrap_or_default());
        }
        secret.digest(&bytes)
    }
}

/// The digest that stands for a user.
pub(super) fn user_digest(keyring: &Keyring, user: &UserId) -> Vec<u8> {
    keyring.secret(USERS).digest(user.as_str().as_bytes()).to_vec()
}

impl From<AuditEntry> for api::AuditEntry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            number: entry.number,
            at_unix_seconds: entry.at_unix_seconds,
            actor: entry.actor,
            action: entry.action,
            user_digest: entry.user_digest.map(const_hex::encode),
            detail: entry.detail,
            hash: const_hex::encode(entry.hash),
        }
    }
}

impl Transaction {
    /// Names who acts from now on. Before, that is the server itself.
    pub fn act_for(&mut self, actor: &str) {
        actor.clone_into(&mut self.actor);
    }

    /// Adds an entry to the audit trail. In PostgreSQL it is chained later, so that writers need not wait
    /// for one another.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn audit(&mut self, event: AuditEvent<'_>) -> Result<(), StoreError> {
        if let Engine::Sqlite(_) = &self.store.engine {
            return self.chain(event).await;
        }
        let (action, user, detail) = event.parts();
        let user_digest = user.map(|user| user_digest(&self.store.keyring, user));
        note(&mut self.inner, &self.actor, action, user_digest, detail).await
    }

    /// Chains an event at once.
    async fn chain(&mut self, event: AuditEvent<'_>) -> Result<(), StoreError> {
        let (action, user, detail) = event.parts();
        let user_digest = user.map(|user| user_digest(&self.store.keyring, user));
        let entry = AuditEntry {
            at_unix_seconds: unix_seconds(),
            actor: self.actor.clone(),
            action: action.to_owned(),
            user_digest,
            detail,
            ..AuditEntry::default()
        };
        self.append(entry).await
    }

    /// Numbers and chains an entry, and adds it.
    async fn append(&mut self, mut entry: AuditEntry) -> Result<(), StoreError> {
        if let Engine::Postgres(_) = &self.store.engine {
            // One transaction at a time has this row, and chains.
            query("SELECT 1 FROM audit_start FOR UPDATE").execute(&mut self.inner).await?;
        }
        // The newest entry is never pruned, and no other transaction adds one meanwhile.
        let (number, previous) = match self.newest_entry.take() {
            Some(newest) => newest,
            None => query_as("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
                .fetch_optional(&mut self.inner)
                .await?
                .unwrap_or_else(|| (0, vec![0; 32])),
        };
        entry.number = number + 1;
        entry.hash = entry.chained(&self.store.keyring.secret(CHAIN), &previous).to_vec();
        let newest = (entry.number, entry.hash.clone());
        query(
            "INSERT INTO audit (number, at_unix_seconds, actor, action, user_digest, detail, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(entry.number)
        .bind(entry.at_unix_seconds)
        .bind(entry.actor)
        .bind(entry.action)
        .bind(entry.user_digest)
        .bind(entry.detail)
        .bind(entry.hash)
        .execute(&mut self.inner)
        .await?;
        self.newest_entry = Some(newest);
        Ok(())
    }

    /// Deletes the oldest entries, as far as they are from before a time. Returns whether there may be
    /// more of them.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn prune_audit(&mut self, before_unix_seconds: i64) -> Result<bool, StoreError> {
        let start: i64 =
            query_scalar("SELECT number FROM audit_start").fetch_one(&mut self.inner).await?;
        let last: Option<i64> = query_scalar(
            "SELECT coalesce(min(number) FILTER (WHERE at_unix_seconds >= $1) - 1, max(number))
             FROM (SELECT number, at_unix_seconds FROM audit ORDER BY number LIMIT +$2) AS oldest",
        )
        .bind(before_unix_seconds)
        .bind(MAX_PRUNED)
        .fetch_one(&mut self.inner)
        .await?;
        let Some(last) = last.filter(|last| *last > start) else { return Ok(false) };
        // First, so that there is an entry that stays.
        self.chain(AuditEvent::AuditPruned(last)).await?;
        for statement in [
            "UPDATE audit_start
             SET (number, hash) = (SELECT number, hash FROM audit WHERE number = $1)",
            "DELETE FROM audit WHERE number <= $1",
        ] {
            query(statement).bind(last).execute(&mut self.inner).await?;
        }
        Ok(last - start == MAX_PRUNED)
    }
}

impl Store {
    /// Makes entries of what the command line noted.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn chain_audit_notes(&self) -> Result<(), StoreError> {
        let any: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM audit_notes)")
            .fetch_one(&self.readers)
            .await?;
        if !any {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        // Not those that another transaction adds meanwhile. An entry's own number and hash come later.
        let mut notes: Vec<AuditEntry> = query_as(either(
            "DELETE FROM audit_notes RETURNING number, at_unix_seconds, actor, action,
                 user_digest, detail, x'' AS hash",
            "DELETE FROM audit_notes RETURNING number, at_unix_seconds, actor, action,
                 user_digest, detail, ''::bytea AS hash",
        ))
        .fetch_all(&mut transaction.inner)
        .await?;
        notes.sort_by_key(|note| note.number);
        for note in notes {
            transaction.append(note).await?;
        }
        transaction.commit().await
    }

    /// Chains what servers noted, so that a reader finds all that was acknowledged.
    async fn chain_own_notes(&self) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(_) => self.chain_audit_notes().await,
        }
    }

    /// Entries of the audit trail after number `after`, oldest first; only those about `user` if one
    /// is given.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn audit_entries(
        &self,
        after: i64,
        user: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.chain_own_notes().await?;
        let entries = query_as(
            "SELECT * FROM audit WHERE number > $1 AND ($2 IS NULL OR user_digest = $2)
             ORDER BY number LIMIT +$3",
        )
        .bind(after)
        .bind(user.map(|user| user_digest(&self.keyring, user)))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        Ok(entries)
    }

    /// Checks the chain of the audit trail, and returns its newest entry.
    ///
    /// # Errors
    /// If an entry was changed, left out or moved, or the statement fails.
    pub async fn check_audit(&self) -> Result<Option<AuditEntry>, StoreError> {
        self.chain_own_notes().await?;
        let broken = |number, reason| Err(StoreError::AuditBroken { number, reason });
        let secret = self.keyring.secret(CHAIN);
        // One snapshot, as the server may write meanwhile.
        let mut snapshot = self.readers.begin_with("BEGIN", postgres::BEGIN_READING).await?;
        let (start, mut hash): (i64, Vec<u8>) =
            query_as("SELECT number, hash FROM audit_start").fetch_one(&mut snapshot).await?;
        let mut entries = query_as("SELECT * FROM audit ORDER BY number").fetch(&mut snapshot);
        let (mut pruned, mut newest) = (0, None::<AuditEntry>);
        while let Some(entry) = entries.try_next().await? {
            let entry: AuditEntry = entry;
            let expected = newest.map_or(start, |newest| newest.number) + 1;
            if entry.number != expected {
                return broken(expected, "it is missing");
            }
            if entry.hash != entry.chained(&secret, &hash) {
                return broken(entry.number, "it was changed or moved");
            }
            if entry.action == PRUNED {
                pruned = entry.detail.as_ref().and_then(|last| last.parse().ok()).unwrap_or(0);
            }
            hash.clone_from(&entry.hash);
            newest = Some(entry);
        }
        if pruned != start {
            return broken(start, "no entry says that it was pruned");
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_unix_seconds: i64) -> AuditEntry {
        AuditEntry { at_unix_seconds, ..AuditEntry::default() }
    }

    #[tokio::test]
    async fn old_entries_are_pruned_and_the_rest_of_the_chain_stays_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("test.db"), None).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        // The clock was wrong for a while: the entry of 5 stays until those before it go.
        for at in [10, 20, 30, 5, 40] {
            transaction.append(entry(at)).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let prune = async |before| {
            let mut transaction = store.begin().await.unwrap();
            assert!(!transaction.prune_audit(before).await.unwrap());
            transaction.commit().await.unwrap();
            let numbers = store.audit_entries(0, None, 100).await.unwrap();
            let newest = store.check_audit().await.unwrap();
            assert_eq!(newest.as_ref(), numbers.last());
            numbers.into_iter().map(|entry| entry.number).collect::<Vec<_>>()
        };
        assert_eq!(prune(10).await, [1, 2, 3, 4, 5]);
        assert_eq!(prune(30).await, [3, 4, 5, 6], "6 says that 1 and 2 are gone");
        assert_eq!(prune(30).await, [3, 4, 5, 6]);
        assert_eq!(prune(31).await, [5, 6, 7]);
        assert_eq!(prune(i64::MAX).await, [8]);
        assert_eq!(prune(0).await, [8]);
    }

    #[tokio::test]
    async fn only_so_many_entries_are_pruned_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("test.db"), None).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        for _ in 0..MAX_PRUNED + 5 {
            transaction.append(entry(1)).await.unwrap();
        }
        assert!(transaction.prune_audit(2).await.unwrap());
        assert!(!transaction.prune_audit(2).await.unwrap());
        transaction.commit().await.unwrap();
        let left = store.audit_entries(0, None, 100).await.unwrap();
        assert_eq!(left.iter().map(|entry| entry.number).collect::<Vec<_>>(), [10_006, 10_007]);
        store.check_audit().await.unwrap();
    }
}

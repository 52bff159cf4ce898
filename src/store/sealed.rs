//! What each encrypted column is bound to. A text that is moved to another table, row, user or model
//! does not open there, and neither does one with a changed bit in what it is bound to.

use std::sync::Arc;

use super::keyring::{KeyId, Keyring, SecretKey, key_id};
use super::sql::{query_as, query_scalar};
use super::{StoreError, Transaction};

/// The purpose of the key for rows that are no single user's.
const DATABASE: &str = "database";

/// What a text is bound to.
pub(super) struct Context(Vec<u8>);

impl Context {
    /// `generation` is that of its transform, 0 for none.
    pub fn template(
        generation: u32,
        user: &str,
        model: &str,
        enrollment: i64,
        windows: u32,
        scale: Option<f64>,
    ) -> Self {
        let scale = scale.map(f64::to_le_bytes);
        let plain = Self::new("templates")
            .with(user.as_bytes())
            .with(model.as_bytes())
            .with(&enrollment.to_le_bytes())
            .with(&windows.to_le_bytes())
            .with(scale.as_ref().map_or(&[], |scale| scale));
        // An earlier version bound templates to the rest only.
        if generation == 0 { plain } else { plain.with(&generation.to_le_bytes()) }
    }

    pub fn recording(user: &str, enrollment: i64) -> Self {
        Self::new("recordings").with(user.as_bytes()).with(&enrollment.to_le_bytes())
    }

    /// `enrollment` is `None` for a verified walk.
    pub fn fingerprint(user: &str, enrollment: Option<i64>) -> Self {
        let enrollment = enrollment.map(i64::to_le_bytes);
        Self::new("fingerprints")
            .with(user.as_bytes())
            .with(enrollment.as_ref().map_or(&[], |enrollment| enrollment))
    }

    /// `session` is whose it is, and its name.
    pub fn session_walk(
        generation: u32,
        user: &str,
        session: [&[u8]; 2],
        of_features: bool,
        model: &str,
    ) -> Self {
        let [principal, name] = session;
        Self::new("session_walks")
            .with(&generation.to_le_bytes())
            .with(user.as_bytes())
            .with(principal)
            .with(name)
            .with(&[of_features.into()])
            .with(model.as_bytes())
    }

    pub fn response(key_digest: &[u8], request_digest: &[u8]) -> Self {
        Self::new("replies").with(key_digest).with(request_digest)
    }

    pub fn checkpoint(job: i64) -> Self {
        Self::new("training_checkpoints").with(&job.to_le_bytes())
    }

    fn new(table: &str) -> Self {
        Self(Vec::new()).with(table.as_bytes())
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }
}

impl SecretKey {
    /// As [`SecretKey::seal`], bound to a row.
    pub(super) fn seal_row(&self, context: &Context, text: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.seal(&context.0, text)
    }

    /// Opens what [`SecretKey::seal_row`] made. `None` if it is of another row, or a bit changed.
    pub(super) fn open_row(&self, context: &Context, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(&context.0, sealed)
    }
}

impl Keyring {
    /// The key for rows that are no single user's.
    pub(super) fn database_key(&self) -> SecretKey {
        self.secret(DATABASE)
    }

    /// Opens a row that was sealed with a user's key. `None` if the user has no key, it was destroyed, or
    /// a bit changed.
    pub(super) fn open_row(
        &self,
        key: Option<&[u8]>,
        context: &Context,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        self.key(key_id(key?)?)?.open_row(context, sealed)
    }
}

/// Whose a row is.
#[derive(Clone)]
pub(super) struct Owner {
    pub user: String,
    pub key_id: KeyId,
    pub key: Arc<SecretKey>,
    /// The walk that this transaction added for them last.
    pub newest_walk: Option<i64>,
}

impl Transaction {
    /// The owner of a walk. `None` if it was deleted.
    pub(super) async fn owner_of(&mut self, enrollment: i64) -> Result<Option<Owner>, StoreError> {
        if let Some(owner) = self.owner.as_ref().filter(|it| it.newest_walk == Some(enrollment)) {
            return Ok(Some(owner.clone()));
        }
        let row: Option<(String, Option<Vec<u8>>)> = query_as(
            "SELECT user_id, key_id FROM enrollments JOIN users ON users.id = user_id
             WHERE enrollments.id = $1",
        )
        .bind(enrollment)
        .fetch_optional(&mut self.inner)
        .await?;
        let Some((user, key)) = row else { return Ok(None) };
        self.owner_with(user, key).await.map(Some)
    }

    /// A user with their key. `None` if they were deleted.
    pub(super) async fn owner(&mut self, user: &str) -> Result<Option<Owner>, StoreError> {
        if let Some(owner) = self.owner.as_ref().filter(|owner| owner.user == user) {
            return Ok(Some(owner.clone()));
        }
        let key: Option<Option<Vec<u8>>> = query_scalar("SELECT key_id FROM users WHERE id = $1")
            .bind(user)
            .fetch_optional(&mut self.inner)
            .await?;
        let Some(key) = key else { return Ok(None) };
        self.owner_with(user.to_owned(), key).await.map(Some)
    }

    /// Makes a user the one whose key was needed last.
    pub(super) async fn owner_with(
        &mut self,
        user: String,
        key: Option<Vec<u8>>,
    ) -> Result<Owner, StoreError> {
        let keyring = &self.store.keyring;
        keyring.learn([key.as_deref()].into_iter()).await?;
        let found = key.as_deref().and_then(key_id).and_then(|id| Some((id, keyring.key(id)?)));
        let (key_id, key) = found.ok_or(StoreError::KeyLost)?;
        let owner = Owner { user, key_id, key, newest_walk: None };
        self.owner = Some(owner.clone());
        Ok(owner)
    }
}

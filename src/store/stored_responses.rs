//! Responses to writes, stored for retries.

use std::collections::BTreeSet;
use std::sync::Arc;

use bipedalnet_core::identity::UserId;
use sha2::{Digest, Sha256};

use super::sealed::Context;
use super::sql::{query, query_as, query_scalar};
use super::{ChangeToken, Engine, Store, StoreError, Transaction, unix_seconds};

/// How long a response is stored.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A write with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Id of the API key, or empty.
    pub principal: String,
    /// Chosen by the client.
    pub idempotency_key: String,
    /// SHA-256 of everything that makes up the request.
    pub digest: [u8; 32],
}

/// A response as it is sent, opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its status code.
    pub status: u16,
    /// Media type of the body, if there is one.
    pub content_type: Option<String>,
    /// Empty if there is none.
    pub body: Vec<u8>,
    /// Path of a created resource.
    pub location: Option<String>,
    /// The change that it tells of, for other servers of the same database.
    pub change: Option<ChangeToken>,
}

impl StoredResponse {
    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: None, body: Vec::new(), location: None, change: None }
    }
}

impl IdempotentRequest {
    /// The primary key of the response.
    pub(super) fn key_digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(&self.principal)
            .chain_update([0])
            .chain_update(&self.idempotency_key)
            .finalize()
            .into()
    }
}

#[derive(sqlx::FromRow)]
struct ResponseRow {
    request_digest: Vec<u8>,
    #[sqlx(try_from = "i64")]
    status: u16,
    content_type: Option<String>,
    body: Option<Vec<u8>>,
    key_id: Option<Vec<u8>>,
    location: Option<String>,
    change: Option<String>,
}

impl Store {
    /// The response to a request of the last 24 hours.
    ///
    /// # Errors
    /// If the key was used for another request, the response named a user who was deleted since or is
    /// damaged, or the statement fails.
    pub async fn stored_response(
        &self,
        request: &IdempotentRequest,
    ) -> Result<Option<StoredResponse>, StoreError> {
        let row: Option<ResponseRow> = query_as(
            "SELECT request_digest, status, content_type, body, key_id, location, change FROM replies
             WHERE key_digest = $1 AND created_at_unix_seconds > $2",
        )
        .bind(&request.key_digest()[..])
        .bind(unix_seconds() - KEPT_SECONDS)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.request_digest != request.digest {
            return Err(StoreError::OtherRequest);
        }
        self.keyring.learn([row.key_id.as_deref()].into_iter()).await?;
        let context = Context::response(&request.key_digest(), &row.request_digest);
        let open = |body: Vec<u8>| match &row.key_id {
            Some(key) => self.keyring.open_row(Some(key), &context, &body),
            None => self.keyring.database_key().open_row(&context, &body),
        };
        Ok(Some(StoredResponse {
            status: row.status,
            content_type: row.content_type,
            body: row.body.and_then(open).ok_or(StoreError::AnswerErased)?,
            location: row.location,
            change: row.change.and_then(|change| change.parse().ok()),
        }))
    }
}

impl Transaction {
    /// Refuses a request that another server has carried out meanwhile. To be called once its users are
    /// locked.
    ///
    /// # Errors
    /// [`StoreError::AnsweredElsewhere`], or if the statement fails.
    pub async fn refuse_answered(&mut self, request: &IdempotentRequest) -> Result<(), StoreError> {
        let Engine::Postgres(_) = &self.store.engine else { return Ok(()) };
        let answered = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM replies
             WHERE key_digest = $1 AND created_at_unix_seconds > $2)",
        );
        let key = request.key_digest();
        let answered = answered.bind(&key[..]).bind(unix_seconds() - KEPT_SECONDS);
        match answered.fetch_one(&mut self.inner).await? {
            true => Err(StoreError::AnsweredElsewhere),
            false => Ok(()),
        }
    }

    /// Stores the response to this change, which names `users`. Deletes old responses.
    ///
    /// # Errors
    /// If another server carried the request out meanwhile, or a statement fails.
    pub async fn keep_response(
        &mut self,
        request: &IdempotentRequest,
        users: &BTreeSet<UserId>,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        let now = unix_seconds();
        query("DELETE FROM replies WHERE created_at_unix_seconds <= $1")
            .bind(now - KEPT_SECONDS)
            .execute(&mut self.inner)
            .await?;
        let key = request.key_digest();
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let (key_id, body) =
            self.seal_response(&names, &key, &request.digest, &response.body).await?;
        let kept = query(
            "INSERT INTO replies
             (key_digest, request_digest, status, content_type, body, key_id, location,
              created_at_unix_seconds, change)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (key_digest) DO NOTHING",
        )
        .bind(&key[..])
        .bind(&request.digest[..])
        .bind(response.status)
        .bind(&response.content_type)
        .bind(body)
        .bind(key_id)
        .bind(&response.location)
        .bind(now)
        .bind(response.change.map(|change| change.to_string()))
        .execute(&mut self.inner)
        .await?;
        if kept == 0 {
            return Err(StoreError::AnsweredElsewhere);
        }
        for user in users {
            query("INSERT INTO reply_users (user_id, key_digest) VALUES ($1, $2)")
                .bind(user.as_str())
                .bind(&key[..])
                .execute(&mut self.inner)
                .await?;
        }
        Ok(())
    }

    /// Encrypts the body of a response, with the user's key if it names exactly one user. Returns the id
    /// of the user's key and the sealed body.
    pub(super) async fn seal_response(
        &mut self,
        users: &[&str],
        key_digest: &[u8],
        request_digest: &[u8],
        body: &[u8],
    ) -> Result<(Option<Vec<u8>>, Vec<u8>), StoreError> {
        let context = Context::response(key_digest, request_digest);
        let owner = match users {
            [user] => self.owner(user).await?,
            _ => None,
        };
        let (key_id, key) = match owner {
            Some(owner) => (Some(owner.key_id.0.to_vec()), owner.key),
            None => (None, Arc::new(self.store.keyring.database_key())),
        };
        Ok((key_id, key.seal_row(&context, body)?))
    }

    /// Deletes bodies and locations of responses that name a user. The rest stays, to recognise retries.
    pub(super) async fn erase_responses(&mut self, user: &UserId) -> Result<(), StoreError> {
        for statement in [
            "UPDATE replies SET body = NULL, location = NULL WHERE key_digest IN
             (SELECT key_digest FROM reply_users WHERE user_id = $1)",
            "DELETE FROM reply_users WHERE user_id = $1",
        ] {
            query(statement).bind(user.as_str()).execute(&mut self.inner).await?;
        }
        Ok(())
    }
}

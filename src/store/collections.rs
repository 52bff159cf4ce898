//! Collections of users.

use bipedalnet_core::identity::{CollectionId, UserIdError};

use super::error::broken_reference;
use super::sql::{query, query_as, query_scalar};
use super::{AuditEvent, Database, Store, StoreError, Transaction, unix_seconds};

/// Limits of a collection. `None` is no limit but the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionLimits {
    pub max_users: Option<u64>,
    /// Replaces the server's limit.
    pub max_enrollments_per_user: Option<u64>,
}

/// A collection, and how many users it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub id: CollectionId,
    pub limits: CollectionLimits,
    pub users: u64,
    pub created_at_unix_seconds: i64,
}

#[derive(sqlx::FromRow)]
struct CollectionRow {
    id: String,
    max_users: Option<i64>,
    max_enrollments_per_user: Option<i64>,
    users: i64,
    created_at_unix_seconds: i64,
}

impl CollectionRow {
    fn collection(self, store: &Store) -> Result<Collection, StoreError> {
        Ok(Collection {
            id: store.collection_id(&self.id)?,
            limits: CollectionLimits {
                max_users: self.max_users.map(i64::unsigned_abs),
                max_enrollments_per_user: self.max_enrollments_per_user.map(i64::unsigned_abs),
            },
            users: self.users.unsigned_abs(),
            created_at_unix_seconds: self.created_at_unix_seconds,
        })
    }
}

/// Selects [`CollectionRow`]s.
macro_rules! collections_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, max_users, max_enrollments_per_user,
             (SELECT count(*) FROM users WHERE users.collection = collections.id) AS users,
             created_at_unix_seconds
             FROM collections WHERE ",
            $condition
        )
    };
}

impl Database {
    /// Ids of all collections, the oldest first.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn collection_ids(&self) -> Result<Vec<CollectionId>, StoreError> {
        let ids: Vec<String> =
            query_scalar("SELECT id FROM collections ORDER BY created_at_unix_seconds, id")
                .fetch_all(&self.readers)
                .await?;
        ids.iter().map(|id| self.collection_id(id)).collect()
    }

    fn collection_id(&self, id: &str) -> Result<CollectionId, StoreError> {
        id.parse().map_err(|reason: UserIdError| StoreError::Row {
            path: self.path.clone(),
            row: format!("collection {id:?}"),
            reason: reason.to_string(),
        })
    }
}

impl Store {
    /// At most `limit` collections in the order of their ids, beginning after `after`.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn collections(
        &self,
        after: Option<&CollectionId>,
        limit: u32,
    ) -> Result<Vec<Collection>, StoreError> {
        let rows: Vec<CollectionRow> =
            query_as(collections_where!("id > $1 ORDER BY id LIMIT +$2"))
                .bind(after.map_or("", CollectionId::as_str))
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter().map(|row| row.collection(self)).collect()
    }

    /// A collection.
    ///
    /// # Errors
    /// If it does not exist, or the statement fails.
    pub async fn collection(&self, id: &CollectionId) -> Result<Collection, StoreError> {
        let row: Option<CollectionRow> = query_as(collections_where!("id = $1"))
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.ok_or_else(|| StoreError::NoSuchCollection(id.clone()))?.collection(self)
    }

    /// A mark that changes if a collection is created or deleted.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn collections_mark(&self) -> Result<(i64, i64), StoreError> {
        let mark = query_as(
            "SELECT count(*), CAST(coalesce(sum(created_at_unix_seconds), 0) AS BIGINT)
             FROM collections",
        );
        Ok(mark.fetch_one(&self.readers).await?)
    }

    /// The number of users of each collection that has any.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn users_by_collection(&self) -> Result<Vec<(CollectionId, u64)>, StoreError> {
        let counts: Vec<(String, i64)> =
            query_as("SELECT collection, count(*) FROM users GROUP BY collection")
                .fetch_all(&self.readers)
                .await?;
        let count =
            |(id, users): (String, i64)| Ok((self.collection_id(&id)?, users.unsigned_abs()));
        counts.into_iter().map(count).collect()
    }
}

impl Transaction {
    /// Sets the limits of a collection. Creates it if there are fewer than `most`. Returns whether it is
    /// new.
    ///
    /// # Errors
    /// If there are too many collections, or a statement fails.
    pub async fn put_collection(
        &mut self,
        id: &CollectionId,
        limits: CollectionLimits,
        most: u64,
    ) -> Result<bool, StoreError> {
        let known = query(
            "UPDATE collections SET max_users = $1, max_enrollments_per_user = $2 WHERE id = $3",
        )
        .bind(limits.max_users.map(|most| most as i64))
        .bind(limits.max_enrollments_per_user.map(|most| most as i64))
        .bind(id.as_str())
        .execute(&mut self.inner)
        .await?;
        if known > 0 {
            self.audit(AuditEvent::CollectionChanged(id)).await?;
            return Ok(false);
        }
        let collections: i64 =
            query_scalar("SELECT count(*) FROM collections").fetch_one(&mut self.inner).await?;
        if collections.unsigned_abs() >= most {
            return Err(StoreError::TooManyCollections { most });
        }
        query(
            "INSERT INTO collections
             (id, max_users, max_enrollments_per_user, created_at_unix_seconds)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(id.as_str())
        .bind(limits.max_users.map(|most| most as i64))
        .bind(limits.max_enrollments_per_user.map(|most| most as i64))
        .bind(unix_seconds())
        .execute(&mut self.inner)
        .await?;
        self.audit(AuditEvent::CollectionCreated(id)).await?;
        Ok(true)
    }

    /// A collection, as this transaction leaves it.
    ///
    /// # Errors
    /// If it does not exist, or the statement fails.
    pub async fn collection(&mut self, id: &CollectionId) -> Result<Collection, StoreError> {
        let row: Option<CollectionRow> = query_as(collections_where!("id = $1"))
            .bind(id.as_str())
            .fetch_optional(&mut self.inner)
            .await?;
        row.ok_or_else(|| StoreError::NoSuchCollection(id.clone()))?.collection(&self.store)
    }

    /// Deletes an empty collection.
    ///
    /// # Errors
    /// If it does not exist, has users or is the default one, or a statement fails.
    pub async fn delete_collection(&mut self, id: &CollectionId) -> Result<(), StoreError> {
        let users = self.collection(id).await?.users;
        if id.is_default() || users > 0 {
            return Err(StoreError::CollectionInUse { collection: id.clone(), users });
        }
        query("DELETE FROM collections WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut self.inner)
            .await
            .map_err(|error| {
                // Another server created a user just now.
                let in_use = StoreError::CollectionInUse { collection: id.clone(), users: 1 };
                broken_reference(error, in_use)
            })?;
        self.audit(AuditEvent::CollectionDeleted(id)).await
    }
}

//! Users, and the record of their erasure.

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, unix_seconds};
use crate::identity::{UserId, UserIdError};

/// A user, and how much is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub id: UserId,
    /// When they were made.
    pub created_at_unix_seconds: i64,
    /// Walks kept.
    pub enrollments: u64,
    /// Windows of walking in them.
    pub windows: u64,
}

impl Store {
    /// Makes a user; tells whether it is new.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn put_user(&self, user: &UserId) -> Result<bool, StoreError> {
        let result = sqlx::query(
            "INSERT INTO users (id, created_at_unix_seconds) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(user.as_str())
        .bind(unix_seconds())
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// A user.
    ///
    /// # Errors
    /// When there is no such user, or the statement fails.
    pub async fn user(&self, user: &UserId) -> Result<User, StoreError> {
        let row = sqlx::query("SELECT * FROM user_summaries WHERE id = ?")
            .bind(user.as_str())
            .fetch_optional(&self.pool)
            .await?;
        self.user_of(&row.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?)
    }

    /// Users in the order of their ids, from the one that follows `after` on.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
        let rows = sqlx::query("SELECT * FROM user_summaries WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.map_or("", UserId::as_str))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| self.user_of(row)).collect()
    }

    /// Erases a user with all that is held about them, from the file's free space too.
    ///
    /// # Errors
    /// When there is no such user, or a statement fails; nothing is erased then.
    pub async fn erase_user(&self, user: &UserId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let salt: Vec<u8> =
            sqlx::query_scalar("SELECT randomblob(16)").fetch_one(&mut *transaction).await?;
        let digest = Sha256::new().chain_update(&salt).chain_update(user.as_str()).finalize();
        let enrollments: i64 =
            sqlx::query_scalar("SELECT count(*) FROM enrollments WHERE user_id = ?")
                .bind(user.as_str())
                .fetch_one(&mut *transaction)
                .await?;
        let erased = sqlx::query("DELETE FROM users WHERE id = ?")
            .bind(user.as_str())
            .execute(&mut *transaction)
            .await?;
        if erased.rows_affected() == 0 {
            return Err(StoreError::NoSuchUser(user.clone()));
        }
        sqlx::query(
            "INSERT INTO erasures (user_digest, salt, enrollments, erased_at_unix_seconds)
             VALUES (?, ?, ?, ?)",
        )
        .bind(&digest[..])
        .bind(salt)
        .bind(enrollments)
        .bind(unix_seconds())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.scrub_log().await
    }

    fn user_of(&self, row: &SqliteRow) -> Result<User, StoreError> {
        let id: String = row.try_get("id")?;
        let id = id.parse().map_err(|reason: UserIdError| StoreError::Row {
            path: self.path.clone(),
            row: format!("user {id:?}"),
            reason: reason.to_string(),
        })?;
        Ok(User {
            id,
            created_at_unix_seconds: row.try_get("created_at_unix_seconds")?,
            enrollments: row.try_get("enrollments")?,
            windows: row.try_get("windows")?,
        })
    }
}

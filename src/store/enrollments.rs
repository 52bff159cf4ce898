//! Walks of users; what models made of them is in `templates`.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Writing, unix_seconds};
use crate::identity::UserId;

/// A walk that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// Its number.
    pub id: i64,
    /// Windows of walking in it, as the active model found them; 0 where it cannot use the walk.
    pub windows: u32,
    /// Id of the active model, where it can use the walk.
    pub model: Option<String>,
    /// When it was enrolled.
    pub created_at_unix_seconds: i64,
}

/// A walk that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEnrollment {
    /// Its number.
    pub id: i64,
    /// Walks of its user, this one included.
    pub enrollments: u64,
    /// When its user was made.
    pub user_created_at_unix_seconds: i64,
}

impl Store {
    /// A user's walks, in the order of enrollment; none for a user that does not exist.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn enrollments_of(&self, user: &UserId) -> Result<Vec<Enrollment>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, coalesce(windows, 0) AS windows, model, created_at_unix_seconds
             FROM enrollments LEFT JOIN templates ON enrollment_id = enrollments.id
             AND model = (SELECT models.id FROM models WHERE active = 1)
             WHERE user_id = ? ORDER BY enrollments.id",
        )
        .bind(user.as_str())
        .fetch_all(&self.readers)
        .await?;
        let enrollment = |row: &SqliteRow| {
            Ok(Enrollment {
                id: row.try_get("id")?,
                windows: row.try_get("windows")?,
                model: row.try_get("model")?,
                created_at_unix_seconds: row.try_get("created_at_unix_seconds")?,
            })
        };
        rows.iter().map(enrollment).collect()
    }
}

impl Writing {
    /// Makes a walk of a user, unless they have `most` already. A refusal changes nothing: the change
    /// may go on.
    ///
    /// # Errors
    /// When there is no such user, they have too many walks, or a statement fails.
    pub async fn add_enrollment(
        &mut self,
        user: &UserId,
        most: u64,
    ) -> Result<NewEnrollment, StoreError> {
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT created_at_unix_seconds,
             (SELECT count(*) FROM enrollments WHERE user_id = users.id) FROM users WHERE id = ?",
        )
        .bind(user.as_str())
        .fetch_optional(&mut *self.transaction)
        .await?;
        let (user_created_at_unix_seconds, walks) =
            found.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?;
        if walks as u64 >= most {
            return Err(StoreError::TooManyEnrollments { user: user.clone(), most });
        }
        let result =
            sqlx::query("INSERT INTO enrollments (user_id, created_at_unix_seconds) VALUES (?, ?)")
                .bind(user.as_str())
                .bind(unix_seconds())
                .execute(&mut *self.transaction)
                .await?;
        Ok(NewEnrollment {
            id: result.last_insert_rowid(),
            enrollments: walks as u64 + 1,
            user_created_at_unix_seconds,
        })
    }

    /// Erases one walk of a user. [`Store::scrub_log`] is due after it.
    ///
    /// # Errors
    /// When the user has no such walk, or the statement fails.
    pub async fn erase_enrollment(&mut self, user: &UserId, id: i64) -> Result<(), StoreError> {
        let erased = sqlx::query("DELETE FROM enrollments WHERE user_id = ? AND id = ?")
            .bind(user.as_str())
            .bind(id)
            .execute(&mut *self.transaction)
            .await?;
        if erased.rows_affected() == 0 {
            return Err(StoreError::NoSuchEnrollment { user: user.clone(), id });
        }
        Ok(())
    }
}

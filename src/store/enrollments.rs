//! Walks of users, kept as templates.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Writing, unix_seconds};
use crate::identity::{Template, TemplateError, UserId, UserIdError};

/// A walk that is kept, without its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// Its number.
    pub id: i64,
    /// Windows of walking in it.
    pub windows: u32,
    /// Id of the model that its template belongs to.
    pub model: String,
    /// When it was enrolled.
    pub created_at_unix_seconds: i64,
}

/// A walk that is kept, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTemplate {
    /// What is known of it.
    pub enrollment: Enrollment,
    /// Whose it is.
    pub user: UserId,
    /// The sum of its windows' features.
    pub template: Template,
}

impl Store {
    /// A user's walks without their templates, in the order of enrollment; none for a user that does
    /// not exist.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn enrollments_of(&self, user: &UserId) -> Result<Vec<Enrollment>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, windows, model, created_at_unix_seconds FROM enrollments
             WHERE user_id = ? ORDER BY id",
        )
        .bind(user.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(enrollment_of).collect()
    }

    /// A user's templates, in the order of enrollment; none for a user that does not exist.
    ///
    /// # Errors
    /// As [`Store::templates`].
    pub async fn templates_of(
        &self,
        user: &UserId,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let rows = sqlx::query("SELECT * FROM enrollments WHERE user_id = ? ORDER BY id")
            .bind(user.as_str())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| self.template_of(row, model, feature_len)).collect()
    }

    /// All templates, in the order of enrollment.
    ///
    /// # Errors
    /// When there are templates of another model, or rows that make no sense.
    pub async fn templates(
        &self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM enrollments ORDER BY id").fetch_all(&self.readers).await?;
        rows.iter().map(|row| self.template_of(row, model, feature_len)).collect()
    }

    fn template_of(
        &self,
        row: &SqliteRow,
        model: &str,
        feature_len: usize,
    ) -> Result<StoredTemplate, StoreError> {
        let enrollment = enrollment_of(row)?;
        if enrollment.model != model {
            return Err(StoreError::OtherModel {
                path: self.path.clone(),
                found: enrollment.model,
                wanted: model.to_owned(),
            });
        }
        let wrong = |reason: String| StoreError::Row {
            path: self.path.clone(),
            row: format!("enrollment {}", enrollment.id),
            reason,
        };
        let user: String = row.try_get("user_id")?;
        let user = user.parse().map_err(|error: UserIdError| wrong(error.to_string()))?;
        let bytes: &[u8] = row.try_get("template")?;
        let values = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let template = Template::from_values(values.collect(), enrollment.windows, feature_len)
            .map_err(|error: TemplateError| wrong(error.to_string()))?;
        Ok(StoredTemplate { enrollment, user, template })
    }
}

fn enrollment_of(row: &SqliteRow) -> Result<Enrollment, StoreError> {
    Ok(Enrollment {
        id: row.try_get("id")?,
        windows: row.try_get("windows")?,
        model: row.try_get("model")?,
        created_at_unix_seconds: row.try_get("created_at_unix_seconds")?,
    })
}

impl Writing {
    /// Keeps a template, unless the user has `most` already; gives its number.
    ///
    /// # Errors
    /// When there is no such user, they have too many walks, or a statement fails.
    pub async fn add_enrollment(
        &mut self,
        user: &UserId,
        model: &str,
        template: &Template,
        most: u64,
    ) -> Result<i64, StoreError> {
        let walks: i64 = sqlx::query_scalar("SELECT count(*) FROM enrollments WHERE user_id = ?")
            .bind(user.as_str())
            .fetch_one(&mut *self.transaction)
            .await?;
        if walks as u64 >= most {
            return Err(StoreError::TooManyEnrollments { user: user.clone(), most });
        }
        let bytes: Vec<u8> =
            template.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let result = sqlx::query(
            "INSERT INTO enrollments (user_id, model, template, windows, created_at_unix_seconds)
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(user.as_str())
        .bind(model)
        .bind(bytes)
        .bind(template.windows())
        .bind(unix_seconds())
        .execute(&mut *self.transaction)
        .await
        .map_err(|error| super::no_such_user(error, user))?;
        Ok(result.last_insert_rowid())
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

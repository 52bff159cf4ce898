//! Templates: one for each walk and each model that read it.

use std::path::Path;

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{Template, TemplateError, UserId, UserIdError};

use super::text::Text;
use super::{Store, StoreError, Transaction};

/// A model's template of a walk.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTemplate {
    /// Number of the enrollment.
    pub enrollment: i64,
    pub user: UserId,
    /// The sum of its windows' features.
    pub template: Template,
}

/// A template with the model that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedTemplate {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Id of the model.
    pub model: String,
    /// Windows of walking.
    pub windows: u32,
    /// The sum of the windows' features.
    pub values: Vec<f32>,
}

/// Selects [`TemplateRow`]s.
macro_rules! templates_where {
    ($condition:literal) => {
        concat!(
            "SELECT enrollment_id, user_id, template, scale, windows
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE ",
            $condition,
            " ORDER BY enrollment_id"
        )
    };
}

#[derive(sqlx::FromRow)]
struct TemplateRow {
    enrollment_id: i64,
    user_id: String,
    template: Vec<u8>,
    scale: Option<f64>,
    windows: u32,
}

#[derive(sqlx::FromRow)]
struct ExportRow {
    enrollment_id: i64,
    model: String,
    windows: u32,
    template: Vec<u8>,
    scale: Option<f64>,
}

impl Store {
    /// A model's templates of walks with a kept recording, in the order of enrollment.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn templates_of_recordings(
        &self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let query = sqlx::query_as(templates_where!(
            "model = ? AND enrollment_id IN (SELECT recordings.enrollment_id FROM recordings)"
        ));
        let rows: Vec<TemplateRow> = query.bind(model).fetch_all(&self.readers).await?;
        rows.into_iter().map(|row| row.template(&self.path, feature_len)).collect()
    }

    /// All models' templates of a user's walk.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn all_templates_of(
        &self,
        user: &UserId,
        enrollment: i64,
    ) -> Result<Vec<ExportedTemplate>, StoreError> {
        let rows: Vec<ExportRow> = sqlx::query_as(
            "SELECT enrollment_id, model, windows, template, scale
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE user_id = ?1 AND enrollment_id = ?2 ORDER BY model",
        )
        .bind(user.as_str())
        .bind(enrollment)
        .fetch_all(&self.readers)
        .await?;
        let exported = |row: ExportRow| ExportedTemplate {
            values: values(&row.template, row.scale),
            enrollment: row.enrollment_id,
            model: row.model,
            windows: row.windows,
        };
        Ok(rows.into_iter().map(exported).collect())
    }

    /// At most `limit` recordings that a model has not read, of enrollments after `after`, in the order
    /// of enrollment.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn unread_recordings(
        &self,
        model: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT enrollment_id, recording FROM recordings WHERE enrollment_id > ?2
             AND NOT EXISTS (SELECT 1 FROM templates
                             WHERE model = ?1 AND enrollment_id = recordings.enrollment_id)
             ORDER BY enrollment_id LIMIT ?3",
        );
        Ok(query.bind(model).bind(after).bind(limit).fetch_all(&self.readers).await?)
    }
}

impl Transaction {
    /// Stores a model's template of a walk, unless the model or the walk was deleted.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn add_template(
        &mut self,
        model: &str,
        enrollment: i64,
        template: &Template,
    ) -> Result<(), StoreError> {
        let (scale, mut steps) = template.pack();
        steps.resize(steps.len().next_multiple_of(4), 0);
        sqlx::query(
            "INSERT OR IGNORE INTO templates (model, enrollment_id, template, scale, windows)
             SELECT models.id, enrollments.id, ?, ?, ? FROM models, enrollments
             WHERE models.id = ? AND enrollments.id = ?",
        )
        .bind(steps)
        .bind(scale)
        .bind(template.windows())
        .bind(model)
        .bind(enrollment)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// A model's templates of a user's walks, in the order of enrollment. Only of one source if given.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn templates_of(
        &mut self,
        user: &UserId,
        model: &str,
        feature_len: usize,
        source: Option<WalkSource>,
    ) -> Result<Vec<Template>, StoreError> {
        let query = sqlx::query_as(templates_where!(
            "model = ?1 AND user_id = ?2 AND source = coalesce(?3, source)"
        ));
        let query = query.bind(model).bind(user.as_str()).bind(source.map(Text));
        let rows: Vec<TemplateRow> = query.fetch_all(&mut *self.inner).await?;
        let template = |row: TemplateRow| Ok(row.template(&self.path, feature_len)?.template);
        rows.into_iter().map(template).collect()
    }

    /// All templates of a model, in the order of enrollment.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn templates(
        &mut self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let query = sqlx::query_as(templates_where!("model = ?"));
        let rows: Vec<TemplateRow> = query.bind(model).fetch_all(&mut *self.inner).await?;
        rows.into_iter().map(|row| row.template(&self.path, feature_len)).collect()
    }

    /// Checks that there are no templates of other models.
    ///
    /// # Errors
    /// If there are, or the statement fails.
    pub async fn refuse_other_models(&mut self, model: &str) -> Result<(), StoreError> {
        let other = sqlx::query_scalar("SELECT model FROM templates WHERE model <> ? LIMIT 1");
        match other.bind(model).fetch_optional(&mut *self.inner).await? {
            Some(found) => Err(StoreError::OtherModel {
                path: self.path.clone(),
                found,
                wanted: model.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// How many enrolled walks, and of how many users, one model can read and another cannot. Updates
    /// are not counted: no other model can read them.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn lost_walks(&mut self, from: &str, to: &str) -> Result<(u64, u64), StoreError> {
        let counts = sqlx::query_as(
            "SELECT count(*), count(DISTINCT user_id)
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE model = ?1 AND source = 'enrollment' AND NOT EXISTS
             (SELECT 1 FROM templates AS other
              WHERE other.model = ?2 AND other.enrollment_id = templates.enrollment_id)",
        );
        Ok(counts.bind(from).bind(to).fetch_one(&mut *self.inner).await?)
    }
}

impl TemplateRow {
    fn template(self, path: &Path, feature_len: usize) -> Result<StoredTemplate, StoreError> {
        let wrong = |reason: String| StoreError::Row {
            path: path.to_owned(),
            row: format!("enrollment {}", self.enrollment_id),
            reason,
        };
        let user = self.user_id.parse().map_err(|error: UserIdError| wrong(error.to_string()))?;
        let mut sum = values(&self.template, self.scale);
        // Packed templates are padded to a multiple of four values.
        if sum.len() == feature_len.next_multiple_of(4) {
            sum.truncate(feature_len);
        }
        let template = Template::from_values(sum, self.windows, feature_len)
            .map_err(|error: TemplateError| wrong(error.to_string()))?;
        Ok(StoredTemplate { enrollment: self.enrollment_id, user, template })
    }
}

/// The values of a stored template. Without a scale they are plain floats.
fn values(bytes: &[u8], scale: Option<f64>) -> Vec<f32> {
    let floats = || bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    scale.map_or_else(floats, |scale| Template::unpack(scale as f32, bytes))
}

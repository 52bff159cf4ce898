//! What models made of walks.

use std::path::Path;

use super::text::Text;
use super::{Store, StoreError, Transaction};
use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{Template, TemplateError, UserId, UserIdError};

/// What a model made of a walk.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTemplate {
    /// Number of the walk.
    pub enrollment: i64,
    /// Whose it is.
    pub user: UserId,
    /// The sum of its windows' features.
    pub template: Template,
}

/// What a model made of a walk, of whatever model.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedTemplate {
    /// Number of the walk.
    pub enrollment: i64,
    /// Id of the model.
    pub model: String,
    /// Windows of walking that it found.
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
    /// What a model made of walks whose recordings are kept, in the order of enrollment.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
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

    /// What all models made of a user's walks; nothing for a user that does not exist.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn all_templates_of(
        &self,
        user: &UserId,
    ) -> Result<Vec<ExportedTemplate>, StoreError> {
        let rows: Vec<ExportRow> = sqlx::query_as(
            "SELECT enrollment_id, model, windows, template, scale
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE user_id = ? ORDER BY enrollment_id, model",
        )
        .bind(user.as_str())
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

    /// Recordings of which a model made nothing yet, at most `limit`, of enrollments that follow
    /// `after`, in their order.
    ///
    /// # Errors
    /// When the statement fails.
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
    /// Keeps what a model made of a walk, unless either is gone.
    ///
    /// # Errors
    /// When the statement fails.
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

    /// What a model made of a user's walks, in the order of enrollment, of one source alone if given.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
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

    /// All that a model made of walks, in the order of enrollment.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn templates(
        &mut self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let query = sqlx::query_as(templates_where!("model = ?"));
        let rows: Vec<TemplateRow> = query.bind(model).fetch_all(&mut *self.inner).await?;
        rows.into_iter().map(|row| row.template(&self.path, feature_len)).collect()
    }

    /// Makes sure that no model but this made anything of a walk.
    ///
    /// # Errors
    /// When another one did, or the statement fails.
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

    /// How many enrolled walks of how many users one model can use and another not. Updates are never
    /// kept for another model.
    ///
    /// # Errors
    /// When the statement fails.
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

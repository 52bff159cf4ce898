//! Templates: one for each walk and each model that read it.

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{Template, UserId};

use super::damage::DamagedRow;
use super::sealed::{Context, Owner};
use super::sql::{query, query_as, query_scalar};
use super::text::{MaybeText, Text};
use super::walks::RecordingRow;
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
            "SELECT enrollment_id, user_id, key_id, model, template, scale, windows
             FROM templates LEFT JOIN enrollments ON enrollments.id = enrollment_id
             LEFT JOIN users ON users.id = user_id
             WHERE ",
            $condition,
            " ORDER BY enrollment_id, model"
        )
    };
}

#[derive(sqlx::FromRow)]
struct TemplateRow {
    enrollment_id: i64,
    /// `None` if the walk is not there, or the text is no UTF-8.
    #[sqlx(try_from = "MaybeText")]
    user_id: Option<String>,
    key_id: Option<Vec<u8>>,
    model: String,
    template: Vec<u8>,
    scale: Option<f64>,
    #[sqlx(try_from = "i64")]
    windows: u32,
}

impl Store {
    /// A model's templates of walks with a kept recording, in the order of enrollment.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn templates_of_recordings(
        &self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let query = query_as(templates_where!(
            "model = $1 AND enrollment_id IN (SELECT recordings.enrollment_id FROM recordings)"
        ));
        let rows: Vec<TemplateRow> = query.bind(model).fetch_all(&self.readers).await?;
        TemplateRow::learn_keys(self, &rows).await?;
        Ok(rows.into_iter().filter_map(|row| row.template(self, feature_len)).collect())
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
        let query = query_as(templates_where!("user_id = $1 AND enrollment_id = $2"));
        let query = query.bind(user.as_str()).bind(enrollment);
        let rows: Vec<TemplateRow> = query.fetch_all(&self.readers).await?;
        TemplateRow::learn_keys(self, &rows).await?;
        Ok(rows.into_iter().filter_map(|row| row.export(self)).collect())
    }

    /// At most `limit` recordings that a model has not read, in the order of enrollment, beginning after
    /// enrollment `after`. A damaged recording is `None`.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn unread_recordings(
        &self,
        model: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Option<Vec<u8>>)>, StoreError> {
        let query = query_as(
            "SELECT enrollment_id, user_id, key_id, recording
             FROM recordings JOIN enrollments ON enrollments.id = enrollment_id
             LEFT JOIN users ON users.id = user_id
             WHERE enrollment_id > $2 AND NOT EXISTS
             (SELECT 1 FROM templates WHERE model = $1 AND NOT damaged
              AND templates.enrollment_id = recordings.enrollment_id)
             ORDER BY enrollment_id LIMIT +$3",
        );
        let rows: Vec<RecordingRow> =
            query.bind(model).bind(after).bind(limit).fetch_all(&self.readers).await?;
        RecordingRow::open_all(self, rows).await
    }
}

impl Transaction {
    /// Stores a model's template of a walk, unless the model or the walk was deleted. Replaces only a
    /// damaged one.
    ///
    /// # Errors
    /// If the user's key is missing, or the statement fails.
    pub async fn add_template(
        &mut self,
        model: &str,
        enrollment: i64,
        template: &Template,
    ) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(enrollment).await? else { return Ok(()) };
        let generation = self.store.template_generation;
        let (scale, sealed) = seal(&owner, generation, model, enrollment, template)?;
        query(
            "INSERT INTO templates (model, enrollment_id, template, scale, windows)
             SELECT models.id, enrollments.id, $1, $2, $3 FROM models, enrollments
             WHERE models.id = $4 AND enrollments.id = $5
             ON CONFLICT (model, enrollment_id) DO UPDATE SET template = excluded.template,
             scale = excluded.scale, windows = excluded.windows, damaged = FALSE WHERE templates.damaged",
        )
        .bind(sealed)
        .bind(scale)
        .bind(template.windows())
        .bind(model)
        .bind(enrollment)
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }

    /// A model's templates of a user's walks, in the order of enrollment. Only of one source if given.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn templates_of(
        &mut self,
        user: &UserId,
        model: &str,
        feature_len: usize,
        source: Option<WalkSource>,
    ) -> Result<Vec<Template>, StoreError> {
        let query = query_as(templates_where!(
            "model = $1 AND user_id = $2 AND source = coalesce($3, source)"
        ));
        let query = query.bind(model).bind(user.as_str()).bind(source.map(Text));
        let rows: Vec<TemplateRow> = query.fetch_all(&mut self.inner).await?;
        TemplateRow::learn_keys(&self.store, &rows).await?;
        let template = |row: TemplateRow| Some(row.template(&self.store, feature_len)?.template);
        Ok(rows.into_iter().filter_map(template).collect())
    }

    /// A model's template of a walk. `None` if it is damaged.
    pub(super) async fn template_of(
        &mut self,
        model: &str,
        enrollment: i64,
        feature_len: usize,
    ) -> Result<Option<Template>, StoreError> {
        let query = query_as(templates_where!("model = $1 AND enrollment_id = $2"));
        let row: Option<TemplateRow> =
            query.bind(model).bind(enrollment).fetch_optional(&mut self.inner).await?;
        TemplateRow::learn_keys(&self.store, row.as_slice()).await?;
        let stored = row.and_then(|row| row.template(&self.store, feature_len));
        Ok(stored.map(|stored| stored.template))
    }

    /// Replaces a model's template of a walk by one of another generation.
    pub(super) async fn replace_template(
        &mut self,
        generation: u32,
        model: &str,
        enrollment: i64,
        template: &Template,
    ) -> Result<(), StoreError> {
        let Some(owner) = self.owner_of(enrollment).await? else { return Ok(()) };
        let (scale, sealed) = seal(&owner, generation, model, enrollment, template)?;
        query(
            "UPDATE templates SET template = $1, scale = $2 WHERE model = $3 AND enrollment_id = $4",
        )
        .bind(sealed)
        .bind(scale)
        .bind(model)
        .bind(enrollment)
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }

    /// All templates of a model, in the order of enrollment.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn templates(
        &mut self,
        model: &str,
        feature_len: usize,
    ) -> Result<Vec<StoredTemplate>, StoreError> {
        let query = query_as(templates_where!("model = $1"));
        let rows: Vec<TemplateRow> = query.bind(model).fetch_all(&mut self.inner).await?;
        TemplateRow::learn_keys(&self.store, &rows).await?;
        let unknown: Vec<(String, i64)> = query_as(
            "SELECT model, enrollment_id FROM templates WHERE model NOT IN (SELECT id FROM models)",
        )
        .fetch_all(&mut self.inner)
        .await?;
        for (model, enrollment) in unknown {
            self.store.damage.note(DamagedRow::Template { model, enrollment });
        }
        Ok(rows.into_iter().filter_map(|row| row.template(&self.store, feature_len)).collect())
    }

    /// Checks that there are no templates of other models.
    ///
    /// # Errors
    /// If there are, or the statement fails.
    pub async fn refuse_other_models(&mut self, model: &str) -> Result<(), StoreError> {
        let other = query_scalar("SELECT model FROM templates WHERE model <> $1 LIMIT 1");
        match other.bind(model).fetch_optional(&mut self.inner).await? {
            Some(found) => Err(StoreError::OtherModel {
                path: self.store.path.clone(),
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
        let counts = query_as(
            "SELECT count(*), count(DISTINCT user_id)
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE model = $1 AND source = 'enrollment' AND NOT damaged AND NOT EXISTS
             (SELECT 1 FROM templates AS other
              WHERE other.model = $2 AND NOT other.damaged AND other.enrollment_id = templates.enrollment_id)",
        );
        let (walks, users): (i64, i64) =
            counts.bind(from).bind(to).fetch_one(&mut self.inner).await?;
        Ok((walks as u64, users as u64))
    }
}

impl TemplateRow {
    /// Must be called before rows are opened.
    async fn learn_keys(store: &Store, rows: &[Self]) -> Result<(), StoreError> {
        store.keyring.learn(rows.iter().map(|row| row.key_id.as_deref())).await
    }

    /// `None` if the row is damaged, which sets it aside.
    fn template(self, store: &Store, feature_len: usize) -> Option<StoredTemplate> {
        let (enrollment, windows) = (self.enrollment_id, self.windows);
        let read = || {
            let user = UserId::from_stored(self.user()?).ok()?;
            let mut sum = self.values(store)?;
            // Packed templates are padded to a multiple of four values.
            if sum.len() == feature_len.next_multiple_of(4) {
                sum.truncate(feature_len);
            }
            let template = Template::from_values(sum, windows, feature_len).ok()?;
            Some(StoredTemplate { enrollment, user, template })
        };
        read().or_else(|| self.set_aside(store))
    }

    /// `None` if the row is damaged, which sets it aside.
    fn export(self, store: &Store) -> Option<ExportedTemplate> {
        let Some(values) = self.values(store) else { return self.set_aside(store) };
        let Self { enrollment_id: enrollment, model, windows, .. } = self;
        Some(ExportedTemplate { enrollment, model, windows, values })
    }

    fn user(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    fn values(&self, store: &Store) -> Option<Vec<f32>> {
        let Self { enrollment_id, model, windows, scale, .. } = self;
        let generation = store.template_generation;
        let context =
            Context::template(generation, self.user()?, model, *enrollment_id, *windows, *scale);
        let key = self.key_id.as_deref();
        let bytes = store.keyring.open_row(key, &context, &self.template)?;
        Some(values(&bytes, *scale))
    }

    fn set_aside<T>(&self, store: &Store) -> Option<T> {
        let (model, enrollment) = (self.model.clone(), self.enrollment_id);
        store.damage.note(DamagedRow::Template { model, enrollment });
        None
    }
}

/// Packs and encrypts a template. Returns the scale, too.
fn seal(
    owner: &Owner,
    generation: u32,
    model: &str,
    enrollment: i64,
    template: &Template,
) -> Result<(f64, Vec<u8>), StoreError> {
    let (scale, mut steps) = template.pack();
    steps.resize(steps.len().next_multiple_of(4), 0);
    let scale = f64::from(scale);
    let windows = template.windows();
    let context =
        Context::template(generation, &owner.user, model, enrollment, windows, Some(scale));
    Ok((scale, owner.key.seal_row(&context, &steps)?))
}

/// The values of a stored template. Without a scale they are plain floats.
fn values(bytes: &[u8], scale: Option<f64>) -> Vec<f32> {
    let floats = || bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    scale.map_or_else(floats, |scale| Template::unpack(scale as f32, bytes))
}

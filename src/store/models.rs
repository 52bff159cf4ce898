//! Networks, of which one serves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Store, StoreError, Transaction, unix_seconds};
use bipedalnet_core::bnn::Model;

/// A model that is kept, without its file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// Its id.
    pub id: String,
    /// Id of the model that it was made from, which may be gone.
    pub parent: Option<String>,
    /// Name for people.
    pub name: String,
    /// What it was trained on.
    pub training_data: String,
    /// Measured figures by name.
    pub metrics: BTreeMap<String, f32>,
    /// Whether it ships with the program.
    pub shipped: bool,
    /// Whether it serves.
    pub active: bool,
    /// With the model that served when it was last to take over.
    pub comparison: Option<Comparison>,
    /// When it was registered.
    pub created_at_unix_seconds: i64,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// Length of its file.
    pub size_bytes: u64,
}

/// Two models on the same recordings, none of which was enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Id of the model that served.
    pub served: String,
    /// Recordings, one a user.
    pub recordings: u32,
    /// What the model that served made of them.
    pub old: Outcomes,
    /// What the other made of them.
    pub new: Outcomes,
}

/// What a model made of recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Identified as who walks.
    pub right: u32,
    /// Identified as someone else.
    pub wrong: u32,
    /// Identified as someone else where who walks is not enrolled.
    pub strangers: u32,
}

#[derive(sqlx::FromRow)]
struct ModelRow {
    id: String,
    parent: Option<String>,
    name: String,
    training_data: String,
    metrics: String,
    shipped: bool,
    active: bool,
    comparison: Option<String>,
    created_at_unix_seconds: i64,
    sha256: Vec<u8>,
    size_bytes: u64,
}

impl Store {
    /// All models, the oldest first.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn models(&self) -> Result<Vec<StoredModel>, StoreError> {
        // Without the files.
        let rows: Vec<ModelRow> = sqlx::query_as(
            "SELECT id, parent, name, training_data, metrics, shipped, active, comparison,
             created_at_unix_seconds, sha256, length(file) AS size_bytes
             FROM models ORDER BY created_at_unix_seconds, rowid",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(|row| self.model_of(row)).collect()
    }

    /// A model.
    ///
    /// # Errors
    /// When there is no such model, or as [`Store::models`].
    pub async fn model(&self, id: &str) -> Result<StoredModel, StoreError> {
        // There are only a few.
        let found = self.models().await?.into_iter().find(|model| model.id == id);
        found.ok_or_else(|| StoreError::NoSuchModel(id.to_owned()))
    }

    /// A model's file as it lies in the database, where it may have been altered.
    ///
    /// # Errors
    /// When there is no such model, or the statement fails.
    pub async fn model_file(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let file = sqlx::query_scalar("SELECT file FROM models WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?;
        file.ok_or_else(|| StoreError::NoSuchModel(id.to_owned()))
    }

    fn model_of(&self, row: ModelRow) -> Result<StoredModel, StoreError> {
        let wrong = |reason: String| StoreError::Row {
            path: self.path.clone(),
            row: format!("model {}", row.id),
            reason,
        };
        let json = |error: serde_json::Error| wrong(error.to_string());
        let comparison = row.comparison.as_deref().map(serde_json::from_str);
        let sha256 = <[u8; 32]>::try_from(&row.sha256[..]);
        Ok(StoredModel {
            metrics: serde_json::from_str(&row.metrics).map_err(json)?,
            comparison: comparison.transpose().map_err(json)?,
            sha256: sha256.map_err(|_| wrong("its digest is cut".to_owned()))?,
            id: row.id,
            parent: row.parent,
            name: row.name,
            training_data: row.training_data,
            shipped: row.shipped,
            active: row.active,
            created_at_unix_seconds: row.created_at_unix_seconds,
            size_bytes: row.size_bytes,
        })
    }
}

impl Transaction {
    /// Keeps a model and its file. Where it is kept already its file is mended, should it have been
    /// altered.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn put_model(
        &mut self,
        model: &Model,
        file: &[u8],
        parent: Option<&str>,
        shipped: bool,
    ) -> Result<(), StoreError> {
        if shipped {
            // What an earlier version shipped is a model like others.
            sqlx::query("UPDATE models SET shipped = 0").execute(&mut *self.inner).await?;
        }
        let metrics = serde_json::to_string(&model.metadata.metrics);
        sqlx::query(
            "INSERT INTO models
             (id, parent, name, training_data, metrics, shipped, created_at_unix_seconds, sha256, file)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE
             SET shipped = max(shipped, excluded.shipped), sha256 = excluded.sha256, file = excluded.file",
        )
        .bind(model.id())
        .bind(parent)
        .bind(&model.metadata.name)
        .bind(&model.metadata.training_data)
        .bind(metrics.expect("names and finite numbers"))
        .bind(shipped)
        .bind(unix_seconds())
        .bind(&Sha256::digest(file)[..])
        .bind(file)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Drops the oldest models that neither serve, nor ship with the program, nor are `newest`, until
    /// there are no more than `most`; gives their ids. The one that the serving model was made from
    /// stays, since retraining starts from it.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn drop_old_models(
        &mut self,
        most: u32,
        newest: &str,
    ) -> Result<Vec<String>, StoreError> {
        let dropped: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM models WHERE active = 0 AND shipped = 0 AND id <> ?
             AND id NOT IN (SELECT parent FROM models WHERE active = 1 AND parent IS NOT NULL)
             ORDER BY created_at_unix_seconds, rowid
             LIMIT max(0, (SELECT count(*) FROM models) - ?)",
        )
        .bind(newest)
        .bind(most)
        .fetch_all(&mut *self.inner)
        .await?;
        for id in &dropped {
            self.delete_model(id).await?;
        }
        Ok(dropped)
    }

    /// Deletes a model and what it made of walks.
    ///
    /// # Errors
    /// When it serves, it ships with the program, there is no such model, or a statement fails.
    pub async fn delete_model(&mut self, id: &str) -> Result<(), StoreError> {
        let found: Option<(bool, bool)> =
            sqlx::query_as("SELECT active, shipped FROM models WHERE id = ?")
                .bind(id)
                .fetch_optional(&mut *self.inner)
                .await?;
        let reason = match found.ok_or_else(|| StoreError::NoSuchModel(id.to_owned()))? {
            (true, _) => "serves",
            (_, true) => "ships with the program",
            (false, false) => {
                for statement in
                    ["DELETE FROM models WHERE id = ?", "DELETE FROM templates WHERE model = ?"]
                {
                    sqlx::query(statement).bind(id).execute(&mut *self.inner).await?;
                }
                return Ok(());
            }
        };
        Err(StoreError::ModelInUse { model: id.to_owned(), reason })
    }

    /// Id of the model that serves; none in a new database, or before the first start of this version.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn active_model(&mut self) -> Result<Option<String>, StoreError> {
        let active = sqlx::query_scalar("SELECT id FROM models WHERE active = 1");
        Ok(active.fetch_optional(&mut *self.inner).await?)
    }

    /// Makes a model the one that serves.
    ///
    /// # Errors
    /// When there is no such model, or a statement fails.
    pub async fn activate_model(&mut self, id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE models SET active = 0 WHERE active = 1")
            .execute(&mut *self.inner)
            .await?;
        let activated = sqlx::query("UPDATE models SET active = 1 WHERE id = ?")
            .bind(id)
            .execute(&mut *self.inner)
            .await?;
        if activated.rows_affected() == 0 {
            return Err(StoreError::NoSuchModel(id.to_owned()));
        }
        Ok(())
    }

    /// Keeps how a model did beside the one that serves.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn keep_comparison(
        &mut self,
        id: &str,
        comparison: Option<&Comparison>,
    ) -> Result<(), StoreError> {
        let json = comparison.map(serde_json::to_string).transpose();
        sqlx::query("UPDATE models SET comparison = ? WHERE id = ?")
            .bind(json.expect("numbers and a name"))
            .bind(id)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }
}

//! Models. One is active.

use std::collections::BTreeMap;

use bipedalnet_core::bnn::Model;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sql::{query, query_as, query_scalar};
use super::{AuditEvent, Store, StoreError, Transaction, unix_seconds};

/// A stored model, without its file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    pub id: String,
    /// Id of the model that it was trained from, which may be deleted.
    pub parent: Option<String>,
    /// Name for people.
    pub name: String,
    /// What it was trained on.
    pub training_data: String,
    /// Measured metrics by name.
    pub metrics: BTreeMap<String, f32>,
    /// Whether it ships with the program.
    pub shipped: bool,
    /// Whether it is active.
    pub active: bool,
    /// Comparison with the active model at the last attempt to activate it.
    pub comparison: Option<Comparison>,
    /// When it was registered.
    pub created_at_unix_seconds: i64,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// Length of its file.
    pub size_bytes: u64,
}

/// Two models compared on the same recordings, none of them enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Id of the active model.
    pub served: String,
    /// Recordings, one per user.
    pub recordings: u32,
    /// Outcomes of the active model.
    pub old: Outcomes,
    /// Outcomes of the other model.
    pub new: Outcomes,
}

/// How many recordings a model identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// As the right user.
    pub right: u32,
    /// As another user.
    pub wrong: u32,
    /// As another user, if the walker is not enrolled.
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
    #[sqlx(try_from = "i64")]
    size_bytes: u64,
}

impl Store {
    /// All models, in the order in which they were stored.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn models(&self) -> Result<Vec<StoredModel>, StoreError> {
        // Without the files.
        let rows: Vec<ModelRow> = query_as(
            "SELECT id, parent, name, training_data, metrics, shipped, active, comparison,
             created_at_unix_seconds, sha256, CAST(length(file) AS BIGINT) AS size_bytes
             FROM models ORDER BY rowid",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(|row| self.model_of(row)).collect()
    }

    /// A model.
    ///
    /// # Errors
    /// If the model does not exist, or as [`Store::models`].
    pub async fn model(&self, id: &str) -> Result<StoredModel, StoreError> {
        // There are only a few.
        let found = self.models().await?.into_iter().find(|model| model.id == id);
        found.ok_or_else(|| StoreError::NoSuchModel(id.to_owned()))
    }

    /// A model's file. It may have been altered in the database.
    ///
    /// # Errors
    /// If the model does not exist, or the statement fails.
    pub async fn model_file(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let file = query_scalar("SELECT file FROM models WHERE id = $1")
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
    /// Stores a model and its file. Repairs the file if the model is stored already.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn put_model(
        &mut self,
        model: &Model,
        file: &[u8],
        parent: Option<&str>,
        shipped: bool,
    ) -> Result<(), StoreError> {
        if shipped {
            // The model that an earlier version shipped is a model like others.
            query("UPDATE models SET shipped = FALSE").execute(&mut self.inner).await?;
        }
        let is_known: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM models WHERE id = $1)")
            .bind(model.id())
            .fetch_one(&mut self.inner)
            .await?;
        let metrics = serde_json::to_string(&model.metadata.metrics);
        query(
            "INSERT INTO models
             (id, parent, name, training_data, metrics, shipped, created_at_unix_seconds, sha256, file)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (id) DO UPDATE
             SET shipped = models.shipped OR excluded.shipped, sha256 = excluded.sha256, file = excluded.file",
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
        .execute(&mut self.inner)
        .await?;
        if !is_known {
            self.audit(AuditEvent::ModelRegistered(model.id())).await?;
        }
        Ok(())
    }

    /// Deletes the oldest models until there are at most `most`. Returns their ids. These stay: the
    /// active model and its parent, from which retraining starts, the shipped model, and `newest`.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn drop_old_models(
        &mut self,
        most: u32,
        newest: &str,
    ) -> Result<Vec<String>, StoreError> {
        let dropped: Vec<String> = query_scalar(
            "SELECT id FROM models WHERE NOT active AND NOT shipped AND id <> $1
             AND id NOT IN (SELECT parent FROM models WHERE active AND parent IS NOT NULL)
             ORDER BY rowid
             LIMIT CASE WHEN (SELECT count(*) FROM models) > $2
                 THEN (SELECT count(*) FROM models) - $2 ELSE 0 END",
        )
        .bind(newest)
        .bind(most)
        .fetch_all(&mut self.inner)
        .await?;
        for id in &dropped {
            self.delete_model(id).await?;
        }
        Ok(dropped)
    }

    /// Deletes a model and its templates.
    ///
    /// # Errors
    /// If it is active, it ships with the program, there is no such model, or a statement fails.
    pub async fn delete_model(&mut self, id: &str) -> Result<(), StoreError> {
        let found: Option<(bool, bool)> =
            query_as("SELECT active, shipped FROM models WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut self.inner)
                .await?;
        let reason = match found.ok_or_else(|| StoreError::NoSuchModel(id.to_owned()))? {
            (true, _) => "is active",
            (_, true) => "ships with the program",
            (false, false) => {
                for statement in
                    ["DELETE FROM models WHERE id = $1", "DELETE FROM templates WHERE model = $1"]
                {
                    query(statement).bind(id).execute(&mut self.inner).await?;
                }
                return self.audit(AuditEvent::ModelDeleted(id)).await;
            }
        };
        Err(StoreError::ModelInUse { model: id.to_owned(), reason })
    }

    /// Id of the active model. `None` in a new database, and in one from before there were models.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn active_model(&mut self) -> Result<Option<String>, StoreError> {
        let active = query_scalar("SELECT id FROM models WHERE active");
        Ok(active.fetch_optional(&mut self.inner).await?)
    }

    /// Makes a model the active one.
    ///
    /// # Errors
    /// If the model does not exist, or a statement fails.
    pub async fn activate_model(&mut self, id: &str) -> Result<(), StoreError> {
        query("UPDATE models SET active = FALSE WHERE active").execute(&mut self.inner).await?;
        let activated = query("UPDATE models SET active = TRUE WHERE id = $1")
            .bind(id)
            .execute(&mut self.inner)
            .await?;
        if activated == 0 {
            return Err(StoreError::NoSuchModel(id.to_owned()));
        }
        self.audit(AuditEvent::ModelActivated(id)).await
    }

    /// Stores the comparison of a model with the active one.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn keep_comparison(
        &mut self,
        id: &str,
        comparison: Option<&Comparison>,
    ) -> Result<(), StoreError> {
        let json = comparison.map(serde_json::to_string).transpose();
        query("UPDATE models SET comparison = $1 WHERE id = $2")
            .bind(json.expect("numbers and a name"))
            .bind(id)
            .execute(&mut self.inner)
            .await?;
        Ok(())
    }
}

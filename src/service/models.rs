//! The registry of models: list, read, delete.

use std::sync::Arc;

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::Model;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::active_model::{ActiveModel, LoadedModel, model_from_file};
use super::idempotency::Reservation;
use super::pool::{Admission, Cost, Pool};
use super::thresholds::Fit;
use super::write::{Write, Writes};
use super::{ServiceError, StartError};
use crate::store::Store;
pub use crate::store::{Comparison, Outcomes, StoredModel};
use crate::telemetry::Metrics;

/// The model that the service is started with.
#[derive(Clone, Debug)]
pub struct GivenModel {
    /// The bytes of the model file.
    pub file: Vec<u8>,
    /// Whether it ships with the program.
    pub shipped: bool,
}

/// Manages models. Clones share all state.
#[derive(Clone)]
pub struct Models {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) writes: Writes,
    pub(super) pool: Pool,
    pub(super) metrics: Arc<Metrics>,
    /// Locked during an activation.
    pub(super) activating: Arc<Mutex<()>>,
}

/// Registers the given model, and loads the active one with its gallery.
pub(super) async fn load_active(
    given: GivenModel,
    store: &Store,
    max_models: u32,
    metrics: &Metrics,
) -> Result<LoadedModel, StartError> {
    let GivenModel { file, shipped } = given;
    let given = GaitModel::new(Model::from_bytes(&file)?)?;
    let given_id = given.id().to_owned();
    let mut transaction = store.begin().await?;
    transaction.put_model(&given.file, &file, None, shipped).await?;
    let active = transaction.active_model().await?;
    let is_first = active.is_none();
    let model = match active {
        Some(active) if active == given_id => given,
        Some(active) => {
            let file = store.model_file(&active).await?;
            let read = model_from_file(&active, &file);
            read.map_err(|reason| StartError::Kept { model: active, reason })?
        }
        None => {
            // The database may have walks from before it had models.
            transaction.refuse_other_models(&given_id).await?;
            transaction.activate_model(&given_id).await?;
            given
        }
    };
    let model = LoadedModel::new(model, &store.template_secret());
    transaction.drop_old_models(max_models, &given_id).await?;
    for walk in transaction.templates(model.id(), model.feature_len()).await? {
        model.gallery_mut().add(&walk.user, &walk.template);
    }
    Fit::of(&model).show(metrics);
    if model.id() != given_id {
        tracing::info!(
            given = given_id,
            active = model.id(),
            "the given model is registered but not active; activate it with \
             POST /v1/models/{given_id}/activate"
        );
    }
    for done in [transaction.commit().await, store.set_damaged_aside().await] {
        match done {
            // The database has all that is needed to serve. The next start tries again.
            Err(error) if error.is_disk_full() && !is_first => {
                tracing::warn!(%error, "the given model was not stored");
            }
            done => done?,
        }
    }
    Ok(model)
}

impl Models {
    /// All models, the oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self) -> Result<Vec<StoredModel>, ServiceError> {
        Ok(self.store.models().await?)
    }

    /// A model.
    ///
    /// # Errors
    /// If the model does not exist, or the database fails.
    pub async fn get(&self, id: &str) -> Result<StoredModel, ServiceError> {
        Ok(self.store.model(id).await?)
    }

    /// A model's file.
    ///
    /// # Errors
    /// If the model does not exist, its file is damaged, or the pool or the database fails.
    pub async fn file(&self, id: &str) -> Result<Vec<u8>, ServiceError> {
        let StoredModel { id, sha256, .. } = self.get(id).await?;
        let file = self.store.model_file(&id).await?;
        let cost = Admission::Costing(Cost::of_bytes(file.len()));
        let check = move |_: &mut _| (Sha256::digest(&file)[..] == sha256).then_some(file);
        self.pool.run(cost, check).await?.ok_or_else(|| {
            ServiceError::UnusableModel(
                "its file was altered in the database; restore a backup, or start the server once \
                 with `--model` and its file"
                    .to_owned(),
            )
        })
    }

    /// Deletes a model and its templates.
    ///
    /// # Errors
    /// If the model does not exist, is active or ships with the program, or the database fails.
    pub async fn delete(&self, reservation: Reservation, id: &str) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        write.transaction.delete_model(id).await?;
        Ok(write)
    }

    /// Reads a model file that is to be registered.
    pub(super) async fn read(&self, file: Vec<u8>) -> Result<(Model, Vec<u8>), ServiceError> {
        let read = move |_: &mut _| {
            let model = Model::from_bytes(&file).map_err(|error| error.to_string())?;
            Ok((GaitModel::new(model).map_err(|error| error.to_string())?, file))
        };
        let read: Result<_, String> = self.pool.run(Admission::Always, read).await?;
        let (model, file) = read.map_err(ServiceError::UnusableModel)?;
        Ok((model.file, file))
    }
}

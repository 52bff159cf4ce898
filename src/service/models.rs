//! The registry of models: list, read, delete.

use std::sync::Arc;

use bipedalnet_core::GaitModel;
use bipedalnet_core::bnn::Model;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::active_model::{ActiveModel, LoadedModel, model_from_file};
use super::idempotency::Reservation;
use super::pool::{Admission, Cost, Pool};
use super::replica::Replica;
use super::thresholds::fit_all;
use super::write::{Write, Writes};
use super::{ServiceError, StartError};
pub use crate::store::{Comparison, Outcomes, StoredModel};
use crate::store::{State, Store, StoreError};
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
    pub(super) replica: Replica,
    /// Locked during an activation.
    pub(super) activating: Arc<Mutex<()>>,
}

/// Stores the given model. If none is active yet, it becomes active.
async fn register(
    given: &Model,
    file: &[u8],
    shipped: bool,
    store: &Store,
    max_models: u32,
) -> Result<(), StoreError> {
    // Several servers may start at the same time.
    let mut transaction = store.begin_alone().await?;
    transaction.put_model(given, file, None, shipped).await?;
    if transaction.active_model().await?.is_none() {
        // The database may have walks from before it had models.
        transaction.refuse_other_models(given.id()).await?;
        transaction.activate_model(given.id()).await?;
    }
    transaction.drop_old_models(max_models, given.id()).await?;
    transaction.commit().await
}

/// Registers the given model, and loads the active one with its gallery. If nothing can be written for now,
/// the next start registers the given one.
pub(super) async fn load_active(
    given: GivenModel,
    store: &Store,
    max_models: u32,
    pool: &Pool,
) -> Result<(LoadedModel, Option<State>), StartError> {
    let GivenModel { file, shipped } = given;
    let given = GaitModel::new(Model::from_bytes(&file)?)?;
    let given_id = given.id().to_owned();
    let registered = register(&given.file, &file, shipped, store, max_models).await;
    let mut transaction = store.begin_reading().await?;
    let active = transaction.active_model().await?;
    let is_registered = registered.is_ok();
    if let Err(error) = registered {
        if active.is_none() || !error.is_temporary() {
            return Err(error.into());
        }
        tracing::warn!(%error, "the given model was not stored");
    }
    let model = match active {
        Some(active) if active != given_id => {
            let file = store.model_file(&active).await?;
            let read = model_from_file(&active, &file);
            read.map_err(|reason| StartError::Kept { model: active, reason })?
        }
        _ => given,
    };
    let model = LoadedModel::new(model, &store.template_secret());
    let state = transaction.state().await?;
    let walks = transaction.templates(model.id(), model.feature_len()).await?;
    model.galleries.fill(&walks);
    drop(walks);
    if let Err(error) = fit_all(pool, &model).await {
        tracing::error!(%error, "thresholds were not fitted to the galleries");
    }
    if is_registered && model.id() != given_id {
        tracing::info!(
            given = given_id,
            active = model.id(),
            "the given model is registered but not active; activate it with \
             POST /v1/models/{given_id}/activate"
        );
    }
    match store.set_damaged_aside().await {
        Err(error) if !error.is_temporary() => Err(error.into()),
        _ => Ok((model, state)),
    }
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

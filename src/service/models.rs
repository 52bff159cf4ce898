//! The registry of models: what there is, what comes and what goes.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

use super::pool::Entry;
use super::serving::Serving;
use super::writing::Answer;
use super::{IdempotentRequest, Service, ServiceError, Shared, StartError, StoredResponse};
use crate::store::Store;
pub use crate::store::{Comparison, Outcomes, StoredModel};
use bipedalnet_core::bnn::Model;

/// A model that the service is started with.
#[derive(Clone, Debug)]
pub struct GivenModel {
    /// Its file.
    pub file: Vec<u8>,
    /// Whether it ships with the program.
    pub shipped: bool,
}

/// Registers the model that the service is started with, and makes the one ready that serves.
pub(super) async fn start(
    given: GivenModel,
    store: &Store,
    max_models: u32,
) -> Result<Serving, StartError> {
    let GivenModel { file, shipped } = given;
    let given = Serving::new(Model::from_bytes(&file)?)?;
    let given_id = given.model.id().to_owned();
    let mut writing = store.write().await?;
    writing.put_model(&given.model.file, &file, None, shipped).await?;
    let serving = match writing.active_model().await? {
        Some(active) if active == given_id => given,
        Some(active) => {
            let file = store.model_file(&active).await?;
            let kept = usable(&active, &file);
            kept.map_err(|reason| StartError::Kept { model: active, reason })?
        }
        None => {
            // Walks may be there from before there was a registry.
            writing.refuse_other_models(&given_id).await?;
            writing.activate_model(&given_id).await?;
            given
        }
    };
    writing.drop_old_models(max_models, &given_id).await?;
    let (id, feature_len) = (serving.model.id(), serving.feature_len());
    for walk in writing.templates(id, feature_len).await? {
        serving.gallery_mut().add(&walk.user, &walk.template);
    }
    let tails = serving.gallery().cohort().tails();
    serving.gallery_mut().set_tails(tails);
    if id != given_id {
        tracing::info!(
            given = given_id,
            serves = id,
            "the model given is registered, but another serves: POST /v1/models/{given_id}/activate \
             lets it take over"
        );
    }
    writing.commit().await?;
    Ok(serving)
}

/// A model ready to serve, or why it is not.
pub(super) fn usable(id: &str, file: &[u8]) -> Result<Serving, String> {
    let model = Model::from_bytes(file).map_err(|error| error.to_string())?;
    if model.id() != id {
        return Err(format!("the file is that of model {}", model.id()));
    }
    Serving::new(model).map_err(|error| error.to_string())
}

impl Service {
    /// All models, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn models(&self) -> Result<Vec<StoredModel>, ServiceError> {
        Ok(self.shared.store.models().await?)
    }

    /// A model.
    ///
    /// # Errors
    /// When there is no such model, or the database fails.
    pub async fn model(&self, id: &str) -> Result<StoredModel, ServiceError> {
        Ok(self.shared.store.model(id).await?)
    }

    /// A model's file.
    ///
    /// # Errors
    /// When there is no such model, its file was altered, there is no compute, or the database fails.
    pub async fn model_file(&self, id: &str) -> Result<Vec<u8>, ServiceError> {
        let StoredModel { id, sha256, .. } = self.model(id).await?;
        let file = self.shared.store.model_file(&id).await?;
        let check = move || (Sha256::digest(&file)[..] == sha256).then_some(file);
        self.compute(check).await?.ok_or_else(|| {
            ServiceError::UnusableModel(
                "its file was altered in the database; restore a backup, or start the server once \
                 with `--model` and its file"
                    .to_owned(),
            )
        })
    }

    /// Deletes a model, and what it made of walks.
    ///
    /// # Errors
    /// When there is no such model, it serves or ships with the program, the request's key stands for
    /// another request, or the database fails.
    pub async fn delete_model(
        &self,
        id: String,
        request: Option<IdempotentRequest>,
        reply: StoredResponse,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, |_, mut turn| async move {
            turn.writing.delete_model(&id).await?;
            turn.commit(&BTreeSet::new(), &reply).await?;
            Ok(reply)
        })
        .await
    }
}

impl Shared {
    /// Reads a model file that is to be registered.
    pub async fn read_model(&self, file: Vec<u8>) -> Result<(Model, Vec<u8>), ServiceError> {
        let read = move |_: &mut _| {
            let model = Model::from_bytes(&file).map_err(|error| error.to_string())?;
            Ok((Serving::new(model).map_err(|error| error.to_string())?, file))
        };
        let read: Result<_, String> = self.pool.run(Entry::Always, read).await?;
        let (Serving { model, .. }, file) = read.map_err(ServiceError::UnusableModel)?;
        Ok((model.file, file))
    }
}

//! Activation: replaces the active model while requests are served.
//!
//! First, the new model reads all kept recordings, and its templates are stored next to those of the
//! active model. Then one transaction makes it active in the database. Last, it replaces the active
//! model in memory. If the program crashes at any step, the next start finds one of the two models,
//! complete.

use std::sync::Arc;

use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::Recording;
use bipedalnet_core::identity::Template;

use super::ServiceError;
use super::active_model::{LoadedModel, model_from_file};
use super::crash::crash_point;
use super::idempotency::Reservation;
use super::model_comparison::{compare, is_worse};
use super::models::Models;
use super::pool::Admission;
use super::thresholds::fit_all;
use super::walk_reader::unpack;
use super::write::Write;
use crate::store::Comparison;
use crate::telemetry::Metrics;

/// Recordings in memory at a time, and templates in one transaction.
const PAGE: u32 = 16;

/// The result of an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Id of the model that is active now.
    pub model: String,
    /// Id of the model that was active before. The same if it was active already.
    pub previous: String,
    /// The two models compared. `None` if they are the same, or too few recordings are kept.
    pub comparison: Option<Comparison>,
    /// Enrolled walks that the model cannot read.
    pub lost_walks: u64,
    /// Users who have lost walks.
    pub lost_users: u64,
}

/// A model's templates of some recordings.
struct Page {
    /// Each with its enrollment. Recordings without a walk have none.
    templates: Vec<(i64, Template)>,
    last: i64,
}

impl Models {
    /// Activates a model: it answers all requests that begin after the commit.
    ///
    /// # Errors
    /// If the model does not exist or cannot be used, or the pool or the database fails. Unless
    /// `force` is set, also if walks would be lost or the model does worse than the active one.
    pub async fn activate(
        &self,
        reservation: Reservation,
        id: String,
        force: bool,
    ) -> Result<(Activation, Write), ServiceError> {
        let one_at_a_time = Arc::clone(&self.activating).lock_owned().await;
        let active = self.active.get();
        if active.id() == id {
            let mut write = self.writes.begin(reservation).await?;
            write.after_commit(move || drop(one_at_a_time));
            let activation = Activation {
                model: id.clone(),
                previous: id,
                comparison: None,
                lost_walks: 0,
                lost_users: 0,
            };
            return Ok((activation, write));
        }
        let file = self.store.model_file(&id).await?;
        let load = move |_: &mut _| model_from_file(&id, &file);
        let next = self.pool.run(Admission::Always, load).await?;
        let next = next.map_err(ServiceError::UnusableModel)?;
        let next = Arc::new(LoadedModel::new(next, &self.store.template_secret()));
        self.read_all(&next).await?;
        crash_point("walks read");
        let comparison = compare(&self.store, &self.pool, &active, &next).await?;
        self.keep_comparison(&next, comparison.as_ref()).await?;
        crash_point("models compared");
        self.replica.announce(next.id()).await?;
        let (activation, mut write) = self.switch(reservation, next, comparison, force).await?;
        write.after_commit(move || drop(one_at_a_time));
        Ok((activation, write))
    }

    async fn switch(
        &self,
        reservation: Reservation,
        next: Arc<LoadedModel>,
        comparison: Option<Comparison>,
        force: bool,
    ) -> Result<(Activation, Write), ServiceError> {
        let mut write = self.writes.begin_alone(reservation).await?;
        let active = self.active.get();
        let (old, new) = (active.id().to_owned(), next.id().to_owned());
        // Walks that were enrolled meanwhile.
        let mut last = 0;
        while let Some(page) = self.read_page(&next, last).await? {
            for (enrollment, template) in &page.templates {
                write.transaction.add_template(&new, *enrollment, template).await?;
                write.transaction.note_change_of_walk(*enrollment).await?;
            }
            last = page.last;
        }
        let (lost_walks, lost_users) = write.transaction.lost_walks(&old, &new).await?;
        if lost_walks > 0 && !force {
            return Err(ServiceError::WalksLost { walks: lost_walks, users: lost_users });
        }
        if let Some(comparison) = comparison.as_ref().filter(|both| is_worse(both) && !force) {
            return Err(ServiceError::WorseModel(comparison.clone()));
        }
        let templates = write.transaction.templates(&new, next.feature_len()).await?;
        let filled = Arc::clone(&next);
        let fill = move |_: &mut _| filled.galleries.fill(&templates);
        self.pool.run(Admission::Always, fill).await?;
        fit_all(&self.pool, &next).await?;
        write.transaction.activate_model(&new).await?;
        write.transaction.lock_users(&[]).await?;
        write.is_change = true;
        crash_point("switch not committed");
        let active = self.active.clone();
        let (model, previous) = (new.clone(), old.clone());
        write.after_commit(move || {
            crash_point("switch committed");
            tracing::info!(model, previous, force, "another model is active");
            active.exchange(next);
        });
        let activation =
            Activation { model: new, previous: old, comparison, lost_walks, lost_users };
        Ok((activation, write))
    }

    /// Stores a model's templates of all recordings that it has not read.
    async fn read_all(&self, next: &Arc<LoadedModel>) -> Result<(), ServiceError> {
        let mut last = 0;
        while let Some(page) = self.read_page(next, last).await? {
            let mut transaction = self.store.begin().await?;
            for (enrollment, template) in &page.templates {
                transaction.add_template(next.id(), *enrollment, template).await?;
            }
            transaction.commit().await?;
            last = page.last;
            crash_point("page of walks read");
        }
        Ok(())
    }

    /// Reads the next recordings that a model has not read. `None` after the last.
    async fn read_page(
        &self,
        next: &Arc<LoadedModel>,
        after: i64,
    ) -> Result<Option<Page>, ServiceError> {
        let unread = self.store.unread_recordings(next.id(), after, PAGE).await?;
        let Some(&(last, _)) = unread.last() else { return Ok(None) };
        let mut templates = Vec::new();
        for (enrollment, kept) in unread {
            let next = Arc::clone(next);
            let metrics = Arc::clone(&self.metrics);
            let read = move |scratch: &mut Scratch| template(&next, &kept?, scratch, &metrics);
            let template = self.pool.run(Admission::Always, read).await?;
            templates.extend(template.map(|template| (enrollment, template)));
        }
        Ok(Some(Page { templates, last }))
    }

    async fn keep_comparison(
        &self,
        next: &LoadedModel,
        comparison: Option<&Comparison>,
    ) -> Result<(), ServiceError> {
        let mut transaction = self.store.begin().await?;
        transaction.keep_comparison(next.id(), comparison).await?;
        Ok(transaction.commit().await?)
    }
}

/// A model's template of a kept recording. `None` if it finds no walk.
fn template(
    next: &LoadedModel,
    kept: &[u8],
    scratch: &mut Scratch,
    metrics: &Metrics,
) -> Option<Template> {
    let recording = Recording::try_from(unpack(kept)?).ok()?;
    next.read(&recording, scratch, metrics).ok().map(|(reading, _)| reading.template)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bipedalnet_core::bnn::{self, LayerParameters, Metadata, Model};
    use bipedalnet_core::gait::simulator::{Conditions, Walker};
    use bipedalnet_core::gait::{RecordingDocument, cut_windows};
    use bipedalnet_core::identity::UserId;
    use bipedalnet_core::{GaitModel, UnfitModel};

    use super::super::{Enrolled, Evidence, GivenModel, Permit, Service, StoredModel};
    use super::*;
    use crate::access::Principal;
    use crate::config::{Config, Live};
    use crate::store::{Store, StoredResponse};

    const SHIPPED: &[u8] = include_bytes!("../../models/bipedalnet-openset.safetensors");

    /// Another network: its first feature is shifted.
    fn other(shift: f32, change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
        let (mut metadata, mut parameters) = bnn::decode(SHIPPED).unwrap();
        change(&mut metadata);
        let mut norms = parameters.layers.iter_mut().flatten().filter_map(|layer| match layer {
            LayerParameters::BatchNorm { beta, .. } => Some(beta),
            _ => None,
        });
        norms.next_back().unwrap()[0] += shift;
        bnn::encode(&metadata, &parameters).unwrap()
    }

    async fn service(folder: &Path) -> Service {
        let store = Store::open(&folder.join("test.db"), None).await.unwrap();
        let settings = Live::new(Config::throwaway(folder).service);
        let given = GivenModel { file: SHIPPED.to_vec(), shipped: true };
        Service::start(given, store, settings).await.unwrap()
    }

    fn nothing(_: Enrolled) -> StoredResponse {
        StoredResponse::empty(204)
    }

    async fn register(service: &Service, file: Vec<u8>) -> Result<StoredModel, ServiceError> {
        let (model, file) = service.models.read(file).await?;
        let mut transaction = service.store.begin().await?;
        transaction.put_model(&model, &file, Some("0123456789abcdef"), false).await?;
        transaction.commit().await?;
        service.models.get(model.id()).await
    }

    async fn activate(service: &Service, model: &str) {
        let none = Reservation::default();
        let (_, write) = service.models.activate(none, model.to_owned(), true).await.unwrap();
        write.commit().await.unwrap();
    }

    fn features(loaded: &LoadedModel, recording: &Recording) -> Vec<Vec<f32>> {
        let GaitModel { file, recipe, .. } = &loaded.model;
        let cut = cut_windows(recording, recipe, recipe.samples / 2).unwrap();
        let mut scratch = Scratch::default();
        let windows = cut.windows.iter();
        windows
            .map(|it| file.network.run(&it.values, &mut scratch).unwrap().feature.to_vec())
            .collect()
    }

    #[tokio::test]
    async fn a_walk_read_by_one_model_is_written_as_the_next_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let service = service(folder.path()).await;
        let ann: UserId = "ann".parse().unwrap();
        let put = service.users.put(Reservation::default(), ann.clone(), None).await.unwrap();
        put.2.commit().await.unwrap();
        let next = register(&service, other(5.0, |_| {})).await.unwrap().id;

        let recording = Walker::new(11).walk(1, &Conditions::default());
        let evidence = Evidence::Recording(RecordingDocument::from(&recording));
        let (enroll, shipped) = (&service.enroll, service.active.get());
        let permit = Permit::new(&Principal::anonymous(), false, false).unwrap();
        let walk = enroll.read(Arc::clone(&shipped), &ann, evidence, &permit).await.unwrap();
        let features = Evidence::Features {
            model: shipped.id().to_owned(),
            windows: features(&shipped, &Walker::new(11).walk(2, &Conditions::default())),
        };
        let of_features = enroll.read(shipped, &ann, features, &permit).await.unwrap();
        activate(&service, &next).await;

        let write = async |walk: super::super::walk_reader::ReadWalk| {
            enroll
                .batches
                .enroll(Reservation::default(), ann.clone(), walk, permit.clone(), nothing)
                .await
        };
        write(walk).await.unwrap();
        let refused = write(of_features).await;
        assert!(matches!(refused, Err(ServiceError::OtherModel { .. })), "{refused:?}");
        let active = service.active.get();
        let scratch = &mut Scratch::default();
        let expected = active.read(&recording, scratch, &service.metrics).unwrap();
        let stored = service.store.all_templates_of(&ann, 1).await.unwrap();
        let [only] = &stored[..] else { panic!("{stored:?}") };
        assert_eq!((&only.model, &only.values[..]), (&next, expected.0.template.values()));
    }

    #[tokio::test]
    async fn only_a_model_that_can_serve_is_registered() {
        let folder = tempfile::tempdir().unwrap();
        let service = service(folder.path()).await;
        let made = register(&service, other(1.0, |_| {})).await.unwrap();
        assert_eq!(made.parent.as_deref(), Some("0123456789abcdef"));
        assert!(!made.active && !made.shipped);
        assert_eq!(register(&service, other(1.0, |_| {})).await.unwrap(), made);
        let without = other(1.0, |metadata| {
            metadata.metrics.remove("strangers_eer");
        });
        assert!(register(&service, without).await.is_ok());

        let deaf = other(1.0, |metadata| metadata.metrics.clear());
        let rows = other(1.0, |metadata| metadata.rows = "upside down".to_owned());
        for bad in [&SHIPPED[..SHIPPED.len() / 2], b"", &deaf, &rows] {
            let refused = register(&service, bad.to_vec()).await;
            assert!(matches!(refused, Err(ServiceError::UnusableModel(_))), "{refused:?}");
        }
        let unfit = GaitModel::new(Model::from_bytes(&deaf).unwrap()).err().unwrap();
        assert!(matches!(unfit, UnfitModel::Calibration { .. }), "{unfit}");
        assert_eq!(service.models.list().await.unwrap().len(), 3);
    }
}

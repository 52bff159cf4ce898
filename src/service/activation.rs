//! Another model takes over, while requests are served.
//!
//! What it makes of all walks is computed and stored first, beside what the serving one made of them.
//! The change itself is small, and is made twice: in the database, in one transaction, and then in
//! memory. Whenever the program ends, the next start finds one model or the other, whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::crash::crash_point;
use super::evidence::unpack;
use super::gate::is_worse;
use super::models::usable;
use super::pool::Entry;
use super::serving::Serving;
use super::writing::{Answer, Start, Ticket, Turn};
use super::{
    Comparison, IdempotentRequest, PoolError, Service, ServiceError, Shared, StoredResponse,
};
use crate::store::JobEnd;
use crate::telemetry::Metrics;
use bipedalnet_client::api::JobState;
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::Recording;
use bipedalnet_core::identity::Template;

/// Recordings that are in memory at a time, and templates of one transaction.
const PAGE: u32 = 16;

/// A model that took over.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Id of the model that serves now.
    pub model: String,
    /// Id of the model that served before; the same where it served already.
    pub previous: String,
    /// Between the two; `None` where too little is kept to compare them on, or they are the same.
    pub comparison: Option<Comparison>,
    /// Walks that counted before and do not now.
    pub lost_walks: u64,
    /// Users whose walks they are.
    pub lost_users: u64,
}

/// What a model made of some recordings.
struct Page {
    /// Of each that is walking to it still, by enrollment.
    templates: Vec<(i64, Template)>,
    last: i64,
}

impl Service {
    /// Lets a model take over: all requests that begin later are answered by it. Goes on where the
    /// caller does not wait for it.
    ///
    /// # Errors
    /// When there is no such model or it cannot be used; unless it is forced, when walks would be
    /// lost or the model does worse than the one that serves; when there is no compute, the database
    /// fails, or the request's key stands for another request. The serving model serves on then.
    pub async fn activate(
        &self,
        id: String,
        force: bool,
        request: Option<IdempotentRequest>,
        answer: impl FnOnce(&Activation) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let service = self.clone();
        let task =
            tokio::spawn(async move { service.take_over(ticket, id, force, None, answer).await });
        task.await.map_err(|_| PoolError::Failed)?
    }

    /// Lets a model take over, and ends the training job that it came of, if any, with the same
    /// stroke. Whoever drops this before its end leaves the serving model as it is, or the change
    /// whole.
    pub(super) async fn take_over(
        &self,
        ticket: Ticket,
        id: String,
        force: bool,
        job: Option<i64>,
        answer: impl FnOnce(&Activation) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.activating.lock().await;
        let served = shared.serving();
        if served.model.id() == id {
            return self
                .write(ticket, move |_, mut turn| async move {
                    turn.end_job(job).await?;
                    let activation = Activation {
                        model: id.clone(),
                        previous: id,
                        comparison: None,
                        lost_walks: 0,
                        lost_users: 0,
                    };
                    let reply = answer(&activation);
                    turn.commit(&BTreeSet::new(), &reply).await?;
                    Ok(reply)
                })
                .await;
        }
        let file = shared.store.model_file(&id).await?;
        let load = move |_: &mut _| usable(&id, &file);
        let next = shared.pool.run(Entry::Always, load).await?;
        let next = Arc::new(next.map_err(ServiceError::UnusableModel)?);
        shared.prepare(&next).await?;
        crash_point("walks read");
        let comparison = shared.compare(&served, &next).await?;
        shared.keep_comparison(&next, comparison.as_ref()).await?;
        crash_point("models compared");
        self.switch(ticket, next, comparison, force, job, answer).await
    }

    async fn switch(
        &self,
        ticket: Ticket,
        next: Arc<Serving>,
        comparison: Option<Comparison>,
        force: bool,
        job: Option<i64>,
        answer: impl FnOnce(&Activation) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        self.write(ticket, move |shared, mut turn| async move {
            let served = shared.serving();
            let (old, new) = (served.model.id(), next.model.id());
            // Of walks that were enrolled meanwhile.
            let mut last = 0;
            while let Some(page) = shared.page(&next, last).await? {
                for (enrollment, template) in &page.templates {
                    turn.writing.add_template(new, *enrollment, template).await?;
                }
                last = page.last;
            }
            let (walks, users) = turn.writing.lost_walks(old, new).await?;
            if walks > 0 && !force {
                return Err(ServiceError::WalksLost { walks, users });
            }
            if let Some(comparison) = comparison.as_ref().filter(|both| is_worse(both) && !force) {
                return Err(ServiceError::WorseModel(comparison.clone()));
            }
            if job.is_some() && comparison.is_none() {
                return Err(ServiceError::NotCompared);
            }
            let templates = turn.writing.templates(new, next.feature_len()).await?;
            let filled = Arc::clone(&next);
            let fill = move |_: &mut _| {
                let mut gallery = filled.gallery_mut();
                templates.iter().for_each(|walk| gallery.add(&walk.user, &walk.template));
                let tails = gallery.cohort().tails();
                gallery.set_tails(tails);
            };
            shared.pool.run(Entry::Always, fill).await?;
            turn.writing.activate_model(new).await?;
            turn.end_job(job).await?;
            let activation = Activation {
                model: new.to_owned(),
                previous: old.to_owned(),
                comparison,
                lost_walks: walks,
                lost_users: users,
            };
            let reply = answer(&activation);
            crash_point("switch not committed");
            turn.commit(&BTreeSet::new(), &reply).await?;
            crash_point("switch committed");
            tracing::info!(model = new, previous = old, force, "another model serves");
            shared.exchange(next);
            shared.gallery_changed();
            Ok(reply)
        })
        .await
    }
}

impl Turn {
    /// Ends the training job whose model takes over in this change.
    async fn end_job(&mut self, job: Option<i64>) -> Result<(), ServiceError> {
        let end = JobEnd::Succeeded { activated: true, reason: None };
        match job {
            Some(job) if !self.writing.end_training_job(job, &end).await? => {
                Err(ServiceError::JobOver { job, state: JobState::Cancelled.name() })
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// Lets a model read all recordings that it has not read, and keeps what it makes of them.
    async fn prepare(&self, next: &Arc<Serving>) -> Result<(), ServiceError> {
        let mut last = 0;
        while let Some(page) = self.page(next, last).await? {
            let mut writing = self.store.write().await?;
            for (enrollment, template) in &page.templates {
                writing.add_template(next.model.id(), *enrollment, template).await?;
            }
            writing.commit().await?;
            last = page.last;
            crash_point("page of walks read");
        }
        Ok(())
    }

    /// What a model makes of the next recordings that it has not read; `None` after the last.
    async fn page(&self, next: &Arc<Serving>, after: i64) -> Result<Option<Page>, ServiceError> {
        let unread = self.store.unread_recordings(next.model.id(), after, PAGE).await?;
        let Some(&(last, _)) = unread.last() else { return Ok(None) };
        let mut templates = Vec::new();
        for (enrollment, kept) in unread {
            let next = Arc::clone(next);
            let metrics = Arc::clone(&self.metrics);
            let read = move |scratch: &mut Scratch| template(&next, &kept, scratch, &metrics);
            let template = self.pool.run(Entry::Always, read).await?;
            templates.extend(template.map(|template| (enrollment, template)));
        }
        Ok(Some(Page { templates, last }))
    }

    async fn keep_comparison(
        &self,
        next: &Serving,
        comparison: Option<&Comparison>,
    ) -> Result<(), ServiceError> {
        let mut writing = self.store.write().await?;
        writing.keep_comparison(next.model.id(), comparison).await?;
        Ok(writing.commit().await?)
    }
}

/// What a model makes of a kept recording; `None` where it finds no walk in it.
fn template(
    next: &Serving,
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

    use bipedalnet_core::UnfitModel;

    use super::super::{Evidence, GivenModel, StoredModel};
    use super::*;
    use crate::config::{Config, Live};
    use crate::store::Store;
    use bipedalnet_core::bnn::{self, LayerParameters, Metadata, Model};
    use bipedalnet_core::gait::RecordingDocument;
    use bipedalnet_core::gait::simulator::{Conditions, Walker};
    use bipedalnet_core::identity::UserId;

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
        let store = Store::open(&folder.join("test.db")).await.unwrap();
        let settings = Live::new(Config::throwaway(folder).service);
        let given = GivenModel { file: SHIPPED.to_vec(), shipped: true };
        Service::new(given, store, settings).await.unwrap()
    }

    fn nothing<T>(_: T) -> StoredResponse {
        StoredResponse::empty(204)
    }

    async fn register(service: &Service, file: Vec<u8>) -> Result<StoredModel, ServiceError> {
        let (model, file) = service.shared.read_model(file).await?;
        let mut writing = service.shared.store.write().await?;
        writing.put_model(&model, &file, Some("0123456789abcdef"), false).await?;
        writing.commit().await?;
        service.model(model.id()).await
    }

    async fn activate(service: &Service, model: &str) {
        service.activate(model.to_owned(), true, None, |done| nothing(done)).await.unwrap();
    }

    #[tokio::test]
    async fn a_walk_read_by_one_model_is_written_as_the_next_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let service = service(folder.path()).await;
        let ann: UserId = "ann".parse().unwrap();
        service.put_user(ann.clone(), None, |_, _| nothing(())).await.unwrap();
        let next = register(&service, other(5.0, |_| {})).await.unwrap().id;

        let recording = Walker::new(11).walk(1, &Conditions::default());
        let evidence = Evidence::Recording(RecordingDocument::from(&recording));
        let shipped = service.shared.serving();
        let walk =
            service.walk_of(Arc::clone(&shipped), &ann, evidence, Entry::Always).await.unwrap();
        let features = Evidence::Features {
            model: shipped.model.id().to_owned(),
            windows: vec![vec![1.0; shipped.feature_len()]],
        };
        let of_features = service.walk_of(shipped, &ann, features, Entry::Always).await.unwrap();
        activate(&service, &next).await;

        let write = async |walk: super::super::evidence::Walk| {
            let Start::New(ticket) = service.start(None).await.unwrap() else { panic!() };
            let user = ann.clone();
            service.enroll_together(ticket, user, walk, |_| nothing(())).await
        };
        write(walk).await.unwrap();
        let refused = write(of_features).await;
        assert!(matches!(refused, Err(ServiceError::OtherModel { .. })), "{refused:?}");
        let metrics = service.metrics();
        let serving = service.shared.serving();
        let expected = serving.read(&recording, &mut Scratch::default(), metrics).unwrap();
        let stored = service.shared.store.all_templates_of(&ann).await.unwrap();
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
        let unfit = Serving::new(Model::from_bytes(&deaf).unwrap()).err().unwrap();
        assert!(matches!(unfit, UnfitModel::Calibration { .. }), "{unfit}");
        assert_eq!(service.models().await.unwrap().len(), 3);
    }
}

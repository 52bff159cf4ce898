//! The use cases: users, enrollment, identification, verification, models, training. Knows no HTTP.
//!
//! One struct per use case, which holds what it needs and no more. [`Service::start`] builds them all.
//! An identification reads the gallery of the active model on a thread of the
//! pool. All changes go through `write`.

mod activation;
mod active_model;
mod activity;
mod attempts;
mod batch;
mod batch_writer;
mod challenges;
mod collections;
mod crash;
mod enroll;
mod error;
mod galleries;
mod idempotency;
mod identify;
mod keys;
mod maintenance;
mod metrics;
mod model_comparison;
mod models;
mod pool;
mod replica;
mod sessions;
mod storage_watch;
mod template_update;
mod thresholds;
mod trainer;
mod training_jobs;
mod user_tokens;
mod users;
mod verify;
mod walk_admission;
mod walk_reader;
mod write;

use std::sync::Arc;
use std::time::Duration;

pub use activation::Activation;
use active_model::ActiveModel;
use activity::Activity;
pub use attempts::{Attempts, GuessLimit, Lock};
pub use batch::{Batch, Item, Outcome};
pub use challenges::Challenges;
pub use collections::Collections;
pub use enroll::{Enroll, Enrolled};
pub use error::{ServiceError, StartError};
pub use idempotency::{Idempotency, Reservation, Reserved};
pub use identify::{Identification, Identify};
pub use keys::{AccessError, Keys};
use maintenance::LogScrubber;
pub use models::{Comparison, GivenModel, Models, Outcomes, StoredModel};
pub use pool::{Admission, Cost, Pool, PoolError, Sender, sender, sent_by, until};
use replica::Replica;
pub use sessions::SessionId;
use storage_watch::Disk;
pub use thresholds::Thresholds;
use trainer::Trainer;
use training_jobs::JobSignals;
pub use training_jobs::{Follower, JobLength, JobRequest, JobStatus, ShortUser, TrainingJobs};
pub use user_tokens::UserTokens;
pub use users::{Consent, Enrollment, Export, ExportedTemplate, ExportedWalk, UserStatus, Users};
pub use verify::{Claim, Verification, Verify};
pub use walk_admission::Permit;
pub use walk_reader::Evidence;
use walk_reader::WalkReader;
use write::Writes;

use crate::access::random_hex;
use crate::config::{Live, ServiceSettings};
use crate::store::{AuditEntry, ChangeToken, PoolUse, Store, StoreError};
pub use crate::store::{Collection, CollectionLimits, IdempotentRequest, StoredResponse};
use crate::telemetry::Metrics;

/// All use cases, and the work in the background.
pub struct Service {
    /// API keys.
    pub keys: Keys,
    /// Tokens for users' phones.
    pub user_tokens: UserTokens,
    /// Idempotency keys.
    pub idempotency: Idempotency,
    /// Collections of users.
    pub collections: Collections,
    /// Users and their enrollments.
    pub users: Users,
    /// Enrollment.
    pub enroll: Enroll,
    /// Identification (1:N).
    pub identify: Identify,
    /// Verification (1:1).
    pub verify: Verify,
    /// Limits on failed verifications.
    pub attempts: Attempts,
    /// Challenges for verifications.
    pub challenges: Challenges,
    /// Several of these in one request.
    pub batch: Batch,
    /// Models.
    pub models: Models,
    /// Training jobs.
    pub training_jobs: TrainingJobs,
    /// Thresholds of the active model.
    pub thresholds: Thresholds,
    /// Threads for compute.
    pub pool: Pool,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    settings: Live<ServiceSettings>,
    writes: Writes,
    store: Store,
    active: ActiveModel,
    log: LogScrubber,
    signals: Arc<JobSignals>,
    trainer: Trainer,
    replica: Replica,
    disk: Disk,
}

impl Service {
    /// Builds the service over a database. The database names the active model; in a new database that
    /// is the given one.
    ///
    /// # Errors
    /// If a model does not suit this version, or the database cannot be used.
    pub async fn start(
        given: GivenModel,
        store: Store,
        settings: Live<ServiceSettings>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let max_models = settings.get().max_models;
        let pool = Pool::new(Arc::clone(&metrics));
        let (model, state) = models::load_active(given, &store, max_models, &pool).await?;
        let active = ActiveModel::new(model);
        let replica =
            Replica::new(store.clone(), active.clone(), pool.clone(), Arc::clone(&metrics), state);
        let log = LogScrubber::new(store.clone());
        let signals = Arc::<JobSignals>::default();
        let challenges = Challenges::new(store.clone(), active.clone());
        let writes = Writes::new(
            store.clone(),
            active.clone(),
            pool.clone(),
            Arc::clone(&metrics),
            log.clone(),
            replica.clone(),
        );
        let reader = WalkReader {
            settings: settings.clone(),
            metrics: Arc::clone(&metrics),
            pool: pool.clone(),
        };
        let attempts = Attempts {
            store: store.clone(),
            settings: settings.clone(),
            writes: writes.clone(),
            metrics: Arc::clone(&metrics),
        };
        let enroll = Enroll::new(
            store.clone(),
            active.clone(),
            reader.clone(),
            attempts.clone(),
            writes.clone(),
        );
        let activity = Activity::default();
        let identify = Identify {
            store: store.clone(),
            active: active.clone(),
            reader: reader.clone(),
            activity: activity.clone(),
        };
        let verify = Verify {
            store: store.clone(),
            active: active.clone(),
            reader,
            challenges: challenges.clone(),
            attempts: attempts.clone(),
            writes: writes.clone(),
            activity: activity.clone(),
        };
        let models = Models {
            store: store.clone(),
            active: active.clone(),
            writes: writes.clone(),
            pool: pool.clone(),
            metrics: Arc::clone(&metrics),
            replica: replica.clone(),
            activating: Arc::default(),
        };
        Ok(Self {
            keys: Keys::new(store.clone()).await?,
            user_tokens: UserTokens { store: store.clone(), writes: writes.clone() },
            idempotency: Idempotency::new(store.clone()),
            collections: Collections::new(store.clone(), active.clone(), writes.clone(), &metrics)
                .await?,
            users: Users {
                store: store.clone(),
                active: active.clone(),
                writes: writes.clone(),
                settings: settings.clone(),
                pool: pool.clone(),
                activity,
            },
            batch: Batch {
                enroll: enroll.clone(),
                identify: identify.clone(),
                verify: verify.clone(),
                writes: writes.clone(),
                pool: pool.clone(),
            },
            training_jobs: TrainingJobs {
                store: store.clone(),
                active: active.clone(),
                writes: writes.clone(),
                settings: settings.clone(),
                pool: pool.clone(),
                signals: Arc::clone(&signals),
            },
            thresholds: Thresholds::new(active.clone(), pool.clone()),
            trainer: Trainer {
                store: store.clone(),
                models: models.clone(),
                settings: settings.clone(),
                signals: Arc::clone(&signals),
                metrics: Arc::clone(&metrics),
                log: log.clone(),
                holder: random_hex::<8>().map_err(StoreError::from)?.into(),
            },
            enroll,
            identify,
            verify,
            attempts,
            challenges,
            models,
            pool,
            writes,
            metrics,
            settings,
            store,
            active,
            log,
            signals,
            replica,
            disk: Disk::default(),
        })
    }

    /// Entries of the audit trail after number `after`, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn audit_entries(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, ServiceError> {
        Ok(self.store.audit_entries(after, None, limit).await?)
    }

    /// Id of the active model.
    pub fn model_id(&self) -> String {
        self.active.get().id().to_owned()
    }

    /// Enrolled users that have a template.
    pub fn gallery_len(&self) -> usize {
        let galleries = self.active.get().galleries.all();
        galleries.iter().map(|(_, gallery)| gallery.read().len()).sum()
    }

    /// Does the work in the background: maintenance, thresholds, training. Never returns; drop
    /// it when the server stops.
    pub async fn work_in_background(&self) {
        tokio::select! {
            () = self.maintain() => {}
            () = self.watch_storage() => {}
            () = self.thresholds.follow_galleries() => {}
            () = self.trainer.run() => {}
            () = self.replica.follow() => {}
        }
    }

    /// Waits until the memory has a change that another server may have made. Returns whether it has it.
    pub async fn wait_for(&self, change: ChangeToken) -> bool {
        self.replica.wait_for(change).await
    }

    /// How old the galleries are, if that is more than it should be.
    pub fn behind(&self) -> Option<Duration> {
        self.replica.behind()
    }

    /// Refuses a request because there is no memory for its body.
    pub fn refuse_body(&self) -> PoolError {
        self.metrics.shed.memory.inc();
        self.pool.refusal()
    }

    /// Whether requests should be sent here.
    pub fn is_ready(&self) -> bool {
        !self.signals.current.borrow().stopping
    }

    /// Connections to the database: those that write, and those that read.
    pub fn database_connections(&self) -> (PoolUse, PoolUse) {
        self.store.connections()
    }

    /// Writes that wait for their turn.
    pub fn writes_waiting(&self) -> usize {
        self.writes.waiting()
    }

    /// Whether the files of the database are still where they were opened.
    pub fn has_its_files(&self) -> bool {
        self.store.check_files().is_ok()
    }

    /// Returns once a thread of the pool has looked at the galleries. It never returns if the runtime, the
    /// pool or a gallery's lock are stuck. It waits for no disk: a server whose disk hangs still
    /// identifies.
    pub async fn prove_that_it_works(&self) {
        let active = self.active.get();
        let look = move |_: &mut _| {
            active.galleries.all().iter().map(|(_, gallery)| gallery.read().len()).sum::<usize>()
        };
        // A panic is logged where it happens.
        let _ = self.pool.run(Admission::Always, look).await;
    }

    /// Announces that the server stops. Requests are answered as before. Event streams end, and
    /// training resumes after the next start.
    pub fn stop(&self) {
        self.signals.current.send_modify(|current| current.stopping = true);
    }

    /// Finishes writes and closes the database.
    pub async fn close(&self) {
        if let Err(error) = self.users.store_activity().await {
            tracing::error!(%error, "it was not stored who was recognised of late");
        }
        self.trainer.release().await;
        if let Err(error) = self.store.forget_server().await {
            tracing::error!(%error, "other servers were not told of the stop");
        }
        if let Err(error) = self.store.note_clock().await {
            tracing::error!(%error, "the time was not stored");
        }
        self.store.close().await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::sync::Barrier;

    use bipedalnet_core::gait::{Recording, RecordingDocument};
    use bipedalnet_core::identity::CollectionId;
    use futures_util::FutureExt;

    use super::*;
    use crate::access::Principal;
    use crate::config::Config;

    pub const SHIPPED: &[u8] = include_bytes!("../../models/bipedalnet-openset.safetensors");

    /// A server that keeps recordings, with a database that others may have open.
    pub async fn server(folder: &Path, model: &[u8]) -> Service {
        let store = Store::open(&folder.join("test.db"), None).await.unwrap();
        let settings =
            ServiceSettings { keep_recordings_days: 30, ..Config::throwaway(folder).service };
        let given = GivenModel { file: model.to_vec(), shipped: true };
        Service::start(given, store, Live::new(settings)).await.unwrap()
    }

    /// Enrolls a recording, and creates the user if needed.
    pub async fn enroll(server: &Service, user: &str, recording: &Recording) {
        let evidence = Evidence::Recording(RecordingDocument::from(recording));
        let permit = Permit::new(&Principal::anonymous(), false, true).unwrap();
        let (held, user) = (Reservation::default(), user.parse().unwrap());
        let response = |_| StoredResponse::empty(201);
        server.enroll.run(held, user, evidence, permit, response).await.unwrap();
    }

    #[tokio::test]
    async fn a_stuck_pool_and_a_stuck_gallery_prove_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let service = server(folder.path(), SHIPPED).await;
        service.prove_that_it_works().await;

        let active = service.active.get();
        active.galleries.change(&CollectionId::default(), |_| {
            assert!(service.prove_that_it_works().now_or_never().is_none());
        });
        service.prove_that_it_works().await;

        service.pool.observe();
        let threads = service.metrics.pool.threads.get() as usize;
        let gate = Arc::new(Barrier::new(threads + 1));
        let stuck = (0..threads).map(|_| {
            let (pool, gate) = (service.pool.clone(), Arc::clone(&gate));
            tokio::spawn(async move { pool.run(Admission::Always, move |_| gate.wait()).await })
        });
        let stuck: Vec<_> = stuck.collect();
        while service.metrics.pool.running.get() < threads as i64 {
            tokio::task::yield_now().await;
            service.pool.observe();
        }
        assert!(service.prove_that_it_works().now_or_never().is_none());
        gate.wait();
        service.prove_that_it_works().await;
        for job in stuck {
            assert!(job.await.unwrap().is_ok());
        }
    }
}

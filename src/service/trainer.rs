//! Carries training jobs out, one at a time, whatever ends in between: a job goes on from its last
//! epoch, or from its model.

use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::crash::crash_point;
use super::evidence::unpack;
use super::jobs::is_enough;
use super::models::usable;
use super::writing::Start;
use super::{JobLength, Service, ServiceError, Shared, StoredResponse, TrainingJob};
use crate::store::{JobEnd, JobEvent, StoreError, Trainee};
use bipedalnet_client::api::{JobState, TrainingScope};
use bipedalnet_core::gait::Recording;
use bipedalnet_training::{
    Checkpoint, Event, Length, Progress, RetrainingError, RetrainingOptions, Users,
    low_priority_pool, retrain, retrained_model,
};

/// Pause after the database failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often whoever follows a job is told how far it is.
const PROGRESS: Duration = Duration::from_millis(250);

/// How often a job is begun anew because recordings that it learned from are gone.
const MOST_ATTEMPTS: u32 = 4;

/// How often a job is taken up again without getting on: it may be what ends the program.
const MOST_RESUMPTIONS: u32 = 8;

/// Why a job is not carried out to its end.
enum Stop {
    /// It was called off, or the service ends.
    Over,
    /// Not now: the database or the pool is busy.
    Busy(String),
    /// It cannot be.
    Failed(String),
}

/// Why an attempt to learn gave no model.
enum Attempt {
    Stop(Stop),
    /// Without these users, by their places.
    Without(Vec<usize>),
    /// What it learned from, or went on from, is not there any more.
    Anew(String),
    /// Somebody whose walks it learned from was erased.
    Erased,
}

impl From<Stop> for Attempt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl<E: Into<ServiceError>> From<E> for Stop {
    fn from(error: E) -> Self {
        let error = error.into();
        let reason = error.to_string();
        if error.is_transient() { Self::Busy(reason) } else { Self::Failed(reason) }
    }
}

impl Service {
    /// Carries out training jobs, one at a time. Never returns: to be dropped with the server, after
    /// [`Service::stop`].
    pub async fn train(&self) {
        let shared = &self.shared;
        // Taken up by this run of the program.
        let mut taken_up = None;
        loop {
            let job = match shared.store.next_training_job().await {
                Ok(Some(job)) => job,
                Ok(None) => {
                    shared.jobs.posted.notified().await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "training jobs were not read");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let id = job.id;
            shared.jobs.current.send_modify(|current| current.job = Some(id));
            tracing::info!(job = id, resumed = job.state == JobState::Running, "training");
            let first_time = taken_up.replace(id) != Some(id);
            match self.carry_out(id, first_time).await {
                Ok(()) => tracing::info!(job = id, "the training job is done"),
                Err(Stop::Over) => tracing::info!(job = id, "the training job is not done"),
                Err(Stop::Busy(reason)) => {
                    tracing::warn!(job = id, reason, "the training job waits");
                    tokio::time::sleep(RETRY).await;
                }
                Err(Stop::Failed(reason)) => {
                    tracing::error!(job = id, reason, "the training job failed");
                    shared
                        .jobs
                        .current
                        .send_modify(|current| current.failed = Some(reason.clone()));
                    shared.end_by_all_means(id, JobEnd::Failed { reason }).await;
                }
            }
            shared.jobs.current.send_modify(|current| {
                current.events += 1;
                (current.job, current.progress, current.failed) = (None, None, None);
                current.cancelled = false;
            });
            if shared.jobs.current.borrow().closing {
                std::future::pending::<()>().await;
            }
        }
    }

    /// `first_time` tells whether this run of the program has not tried before.
    async fn carry_out(&self, id: i64, first_time: bool) -> Result<(), Stop> {
        let shared = &self.shared;
        // Anew: it may have been called off before that could be told to the one that runs.
        let mut job = shared.store.training_job(id).await?;
        if job.state.is_over() {
            return Err(Stop::Over);
        }
        if job.state == JobState::Running && first_time {
            let mut writing = shared.store.write().await?;
            let resumptions = writing.count_resumption(id).await?;
            writing.commit().await?;
            if resumptions > MOST_RESUMPTIONS {
                let reason = format!("it did not get on after {MOST_RESUMPTIONS} restarts");
                return Err(Stop::Failed(reason));
            }
        }
        if job.state == JobState::Queued {
            let parent = self.model_id();
            let last = shared.store.last_enrollment().await?;
            let mut writing = shared.store.write().await?;
            if !writing.begin_training_job(job.id, &parent, last).await? {
                return Err(Stop::Over);
            }
            writing.commit().await?;
            shared.jobs.stored_event();
            (job.parent, job.last_enrollment) = (Some(parent), Some(last));
            crash_point("job begun");
        }
        let model = match &job.model {
            Some(model) => model.clone(),
            None => shared.learn(&job).await?,
        };
        crash_point("model registered");
        if !job.request.activate {
            return shared.end(job.id, JobEnd::Succeeded { activated: false, reason: None }).await;
        }
        match self.let_it_serve(job.id, model).await {
            Ok(()) => Ok(()),
            Err(
                reason @ (ServiceError::WorseModel(_)
                | ServiceError::WalksLost { .. }
                | ServiceError::NotCompared),
            ) => {
                let reason = Some(reason.to_string());
                shared.end(job.id, JobEnd::Succeeded { activated: false, reason }).await
            }
            Err(ServiceError::JobOver { .. }) => Err(Stop::Over),
            Err(error) => Err(error.into()),
        }
    }

    /// Activates a job's model, which ends the job, unless it is called off before.
    async fn let_it_serve(&self, job: i64, model: String) -> Result<(), ServiceError> {
        let over = || ServiceError::JobOver { job, state: JobState::Cancelled.name() };
        let Start::New(ticket) = self.start(None).await? else { return Err(over()) };
        let mut current = self.shared.jobs.current.subscribe();
        tokio::select! {
            done = self.take_over(ticket, model, false, Some(job), |_| StoredResponse::empty(204)) => {
                done.map(|_| ())
            }
            _ = current.wait_for(|current| current.cancelled || current.closing) => Err(over()),
        }
    }
}

impl Shared {
    async fn end(&self, job: i64, end: JobEnd) -> Result<(), Stop> {
        let mut writing = self.store.write().await?;
        let ended = writing.end_training_job(job, &end).await?;
        writing.commit().await?;
        if ended { Ok(()) } else { Err(Stop::Over) }
    }

    /// Writes the end of a job down, however long the database fails: its disk may be full.
    async fn end_by_all_means(&self, job: i64, end: JobEnd) {
        while let Err(Stop::Failed(error) | Stop::Busy(error)) = self.end(job, end.clone()).await {
            tracing::error!(job, error, "the end of the training job was not written");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Trains a job's model and registers it.
    async fn learn(self: &Arc<Self>, job: &TrainingJob) -> Result<String, Stop> {
        let served = job.parent.as_deref().unwrap_or_default();
        let last = job.last_enrollment.unwrap_or_default();
        let (parent, file) = self.origin(served).await?;
        let mut excluded = Vec::new();
        let mut reason = String::new();
        let mut attempts = 0;
        while attempts < MOST_ATTEMPTS {
            let trainees = self.store.trainees(served, last).await?;
            let all = trainees.len();
            let is_in = |trainee: &Trainee| is_enough(trainee) && !excluded.contains(&trainee.user);
            let trainees: Vec<Trainee> = trainees.into_iter().filter(is_in).collect();
            let mut writing = self.store.write().await?;
            writing
                .count_trainees(job.id, trainees.len() as u32, (all - trainees.len()) as u32)
                .await?;
            writing.commit().await?;
            let recordings: Arc<[Vec<i64>]> =
                trainees.iter().map(|trainee| trainee.recordings.clone()).collect();
            let made = match self.attempt(job, (&parent, &file), &recordings).await {
                Ok(made) => made,
                Err(Attempt::Stop(stop)) => return Err(stop),
                Err(Attempt::Without(places)) => {
                    attempts += 1;
                    reason = "users have too little walking".to_owned();
                    excluded.extend(places.into_iter().map(|place| trainees[place].user.clone()));
                    continue;
                }
                Err(Attempt::Erased) => {
                    self.forget_erased(job.id).await?;
                    continue;
                }
                Err(Attempt::Anew(why)) => {
                    attempts += 1;
                    tracing::warn!(job = job.id, why, "the training begins anew");
                    self.drop_checkpoint(job.id).await?;
                    reason = why;
                    continue;
                }
            };
            crash_point("network trained");
            let (model, made) = self.read_model(made).await?;
            let mut writing = self.store.write().await?;
            if !writing.are_enrolled(&recordings.concat()).await? {
                drop(writing);
                self.forget_erased(job.id).await?;
                continue;
            }
            writing.put_model(&model, &made, Some(&parent), false).await?;
            writing.drop_old_models(self.settings.get().max_models, model.id()).await?;
            if !writing.set_job_model(job.id, model.id()).await? {
                return Err(Stop::Over);
            }
            writing.drop_checkpoint(job.id).await?;
            writing.commit().await?;
            return Ok(model.id().to_owned());
        }
        Err(Stop::Failed(format!(
            "it began anew {MOST_ATTEMPTS} times, the last time since {reason}"
        )))
    }

    /// The model from which a job starts, with its file: the one that served. If that was refitted to
    /// users, the one that it was made from: else users would count twice, and who was erased would
    /// still count.
    async fn origin(&self, served: &str) -> Result<(String, Vec<u8>), Stop> {
        let file = self.store.model_file(served).await.map_err(|error| match error {
            StoreError::NoSuchModel(model) => {
                Stop::Failed(format!("model {model}, which it was to go out from, was deleted"))
            }
            error => error.into(),
        })?;
        let model = usable(served, &file).map_err(Stop::Failed)?.model;
        if model.file.metadata.architecture.classes() == 0 {
            let models = self.store.models().await?;
            let of = |id: &str| models.iter().find(|model| model.id == id);
            let parent = of(served).and_then(|model| of(model.parent.as_deref()?));
            if let Some(parent) = parent {
                return Ok((parent.id.clone(), self.store.model_file(&parent.id).await?));
            }
        }
        Ok((served.to_owned(), file))
    }

    /// Begins anew where somebody was erased: what was learned from them is in the checkpoint.
    async fn forget_erased(&self, job: i64) -> Result<(), StoreError> {
        tracing::info!(job, "walks were erased: the training begins anew without them");
        self.drop_checkpoint(job).await?;
        self.scrub_due.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn drop_checkpoint(&self, job: i64) -> Result<(), StoreError> {
        let mut writing = self.store.write().await?;
        writing.drop_checkpoint(job).await?;
        writing.commit().await
    }

    /// Trains on these recordings, by user, and makes a model file of the network.
    async fn attempt(
        self: &Arc<Self>,
        job: &TrainingJob,
        (parent_id, parent): (&str, &[u8]),
        recordings: &Arc<[Vec<i64>]>,
    ) -> Result<Vec<u8>, Attempt> {
        let stored = self.store.training_checkpoint(job.id).await.map_err(Stop::from)?;
        let run = Run {
            shared: Arc::clone(self),
            runtime: Handle::current(),
            job: job.id,
            parent_id: parent_id.to_owned(),
            parent: parent.to_vec(),
            options: options(job, self.settings.get().training_memory_bytes()),
            recordings: Arc::clone(recordings),
        };
        let threads = self.settings.get().training_threads();
        let pool = low_priority_pool(threads)
            .map_err(|error| Stop::Failed(format!("no threads to train on: {error}")))?;
        let (sender, receiver) = oneshot::channel();
        pool.spawn(move || {
            // Nobody waits any more when the service ends.
            let _ = sender.send(run.run(stored));
        });
        receiver.await.unwrap_or_else(|_| {
            Err(Stop::Failed("a defect of this program; its log says more".to_owned()).into())
        })
    }
}

fn options(job: &TrainingJob, memory_bytes: usize) -> RetrainingOptions {
    RetrainingOptions {
        last_layers_only: job.request.scope == TrainingScope::LastLayers,
        length: match job.request.length {
            JobLength::Epochs(epochs) => {
                Length::Epochs(NonZeroU16::new(epochs).unwrap_or(NonZeroU16::MIN))
            }
            JobLength::BudgetSeconds(seconds) => {
                Length::Budget(Duration::from_secs(seconds.into()))
            }
        },
        seed: job.request.seed.into(),
        memory_bytes,
    }
}

/// What became of a checkpoint.
enum Kept {
    Stored,
    /// The job is over.
    Over,
    /// It has learned from somebody who was erased.
    Erased,
}

/// An attempt to learn, on threads of its own.
struct Run {
    shared: Arc<Shared>,
    runtime: Handle,
    job: i64,
    parent_id: String,
    /// The parent's file.
    parent: Vec<u8>,
    options: RetrainingOptions,
    recordings: Arc<[Vec<i64>]>,
}

impl Run {
    fn run(self, stored: Option<Vec<u8>>) -> Result<Vec<u8>, Attempt> {
        let parent = usable(&self.parent_id, &self.parent).map_err(Stop::Failed)?.model;
        let checkpoint = match stored.map(|bytes| Checkpoint::from_bytes(&bytes)).transpose() {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Err(Attempt::Anew(error.to_string())),
        };
        let read =
            |enrollment: i64| -> Result<Recording, Box<dyn std::error::Error + Send + Sync>> {
                let kept = loop {
                    match self.runtime.block_on(self.shared.store.recording(enrollment)) {
                        Err(error) if error.is_transient() && !self.is_over() => {
                            std::thread::sleep(RETRY);
                        }
                        kept => break kept?,
                    }
                };
                let recording = kept.and_then(|kept| unpack(&kept)).map(Recording::try_from);
                Ok(recording
                    .ok_or_else(|| format!("that of enrollment {enrollment} is gone"))??)
            };
        let users = Users { recordings: &self.recordings, read: &read };
        let (mut failure, mut erased) = (None, false);
        let mut told = Instant::now();
        let observe = |event: Event<'_>| match event {
            Event::Progress(progress) => self.tell(progress, &mut told),
            Event::Checkpoint(checkpoint) => match self.keep(checkpoint) {
                Ok(Kept::Stored) => ControlFlow::Continue(()),
                Ok(Kept::Over) => ControlFlow::Break(()),
                Ok(Kept::Erased) => {
                    erased = true;
                    ControlFlow::Break(())
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(job = self.job, %error, "an epoch's checkpoint was not kept");
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(format!("a checkpoint could not be kept: {error}"));
                    ControlFlow::Break(())
                }
            },
        };
        let retrained = retrain(&self.parent, &users, &self.options, checkpoint, observe);
        match (retrained, failure) {
            (_, Some(reason)) => Err(Stop::Failed(reason).into()),
            (Ok(None), None) if erased => Err(Attempt::Erased),
            (Ok(None), None) => Err(Stop::Over.into()),
            (Ok(Some(retrained)), None) => retrained_model(&parent.file, &retrained)
                .map_err(|error| Stop::Failed(error.to_string()).into()),
            (Err(RetrainingError::TooLittle { users, .. }), None)
                if !users.is_empty() && users.len() < self.recordings.len() =>
            {
                Err(Attempt::Without(users.into_iter().map(|short| short.user).collect()))
            }
            (
                Err(error @ (RetrainingError::Recording(_) | RetrainingError::Checkpoint(_))),
                None,
            ) => Err(Attempt::Anew(error.to_string())),
            (Err(error), None) => Err(Stop::Failed(error.to_string()).into()),
        }
    }

    /// Whether the job was called off, or the service ends.
    fn is_over(&self) -> bool {
        let current = self.shared.jobs.current.borrow();
        current.cancelled || current.closing
    }

    fn tell(&self, progress: &Progress, told: &mut Instant) -> ControlFlow<()> {
        if self.is_over() {
            return ControlFlow::Break(());
        }
        let current = &self.shared.jobs.current;
        // Before its first step there is nothing to tell.
        if progress.steps > 0 && told.elapsed() >= PROGRESS {
            *told = Instant::now();
            current.send_modify(|current| current.progress = Some(*progress));
        }
        ControlFlow::Continue(())
    }

    fn keep(&self, checkpoint: &Checkpoint) -> Result<Kept, StoreError> {
        let event = JobEvent {
            // Given when it is stored.
            number: 0,
            state: JobState::Running,
            epoch: checkpoint.epoch(),
            epochs: Some(checkpoint.epochs()),
            loss: checkpoint.loss(),
            validation_accuracy: checkpoint.validation_accuracy(),
        };
        let bytes = checkpoint.to_bytes();
        let kept = self.runtime.block_on(async {
            let mut writing = self.shared.store.write().await?;
            if !writing.are_enrolled(&self.recordings.concat()).await? {
                return Ok(Kept::Erased);
            }
            let kept = writing.keep_checkpoint(self.job, &event, &bytes).await?;
            writing.commit().await?;
            Ok::<_, StoreError>(if kept { Kept::Stored } else { Kept::Over })
        })?;
        self.shared.jobs.stored_event();
        crash_point("checkpoint kept");
        Ok(kept)
    }
}

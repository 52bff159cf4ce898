//! Runs training jobs, one at a time on all servers together. If its server ends, a job resumes from its
//! last epoch or its model, there or on another one.

mod attempt;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use attempt::NoModel;
use bipedalnet_client::api::JobState;
use tokio::time::MissedTickBehavior;

use super::ServiceError;
use super::active_model::model_from_file;
use super::crash::crash_point;
use super::idempotency::Reservation;
use super::maintenance::LogScrubber;
use super::models::Models;
use super::training_jobs::{JobSignals, has_enough};
use crate::config::{Live, ServiceSettings};
use crate::store::{JobEnd, Lease, Store, StoreError, Trainee, TrainingJob, Transaction};
use crate::telemetry::Metrics;

/// Pause after the database failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often a server says that it still runs a job, and looks whether the job was cancelled on another
/// one.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often a server looks for a job that was added on another one, or whose server has died.
const POLL: Duration = Duration::from_secs(1);

/// How often a job starts again because recordings that it learned from are gone.
const MAX_ATTEMPTS: u32 = 4;

/// How often a job is resumed without progress. The job may be the cause of crashes.
const MAX_RESUMPTIONS: u32 = 8;

/// Why a job did not run to its end.
enum Stop {
    /// It was cancelled, another server runs it, or the service stops.
    Over,
    /// The database or the pool is busy.
    Busy(String),
    /// It failed.
    Failed(String),
}

impl<E: Into<ServiceError>> From<E> for Stop {
    fn from(error: E) -> Self {
        let error = error.into();
        let reason = error.to_string();
        if error.is_transient() { Self::Busy(reason) } else { Self::Failed(reason) }
    }
}

/// Runs training jobs.
#[derive(Clone)]
pub(super) struct Trainer {
    pub store: Store,
    pub models: Models,
    pub settings: Live<ServiceSettings>,
    pub signals: Arc<JobSignals>,
    pub metrics: Arc<Metrics>,
    pub log: LogScrubber,
    /// The random name of this process, among the servers with this database.
    pub holder: Arc<str>,
}

impl Trainer {
    /// Runs training jobs, one at a time. Never returns.
    pub async fn run(&self) {
        // The last job that this process began or resumed.
        let mut resumed = None;
        // Why it waits, which is logged once.
        let mut waits_for = String::new();
        loop {
            let (job, lease) = match self.next_job().await {
                Ok(Some(next)) => next,
                Ok(None) => {
                    // Either may be first.
                    let _ = tokio::time::timeout(POLL, self.signals.added.notified()).await;
                    continue;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != waits_for {
                        tracing::error!(reason, "training jobs were not read");
                        waits_for = reason;
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let id = job.id;
            let current = &self.signals.current;
            current.send_modify(|current| current.job = Some(id));
            tracing::info!(job = id, resumed = job.state == JobState::Running, "training");
            let first_time = resumed.replace(id) != Some(id) || lease == Lease::Taken;
            // A job that waits for the database, and tries again each second, makes no progress.
            if first_time {
                self.metrics.training.progressed();
            }
            let outcome = tokio::select! {
                outcome = self.run_job(id, first_time) => outcome,
                () = self.heartbeat(id) => Err(Stop::Over),
            };
            let waits = matches!(outcome, Err(Stop::Busy(_)));
            match outcome {
                Ok(()) => tracing::info!(job = id, "the training job succeeded"),
                Err(Stop::Over) => tracing::info!(job = id, "the training job was interrupted"),
                Err(Stop::Busy(reason)) => {
                    if reason != waits_for {
                        tracing::warn!(job = id, reason, "the training job waits");
                        waits_for = reason;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Err(Stop::Failed(reason)) => {
                    tracing::error!(job = id, reason, "the training job failed");
                    current.send_modify(|current| current.failed = Some(reason.clone()));
                    self.end_with_retries(id, JobEnd::Failed { reason }).await;
                }
            }
            if !waits {
                self.metrics.training.ended();
                self.release().await;
            }
            current.send_modify(|current| {
                current.events += 1;
                (current.job, current.progress, current.failed) = (None, None, None);
                current.is_over = false;
            });
            if current.borrow().stopping {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lets another server run jobs.
    pub async fn release(&self) {
        if let Err(error) = self.store.release_training_lease(&self.holder).await {
            // It ends by itself.
            tracing::debug!(%error, "the lease for training was not given back");
        }
    }

    /// The next job, if this server may run it.
    async fn next_job(&self) -> Result<Option<(TrainingJob, Lease)>, StoreError> {
        if self.store.next_training_job().await?.is_none() {
            return Ok(None);
        }
        let lease = self.store.take_training_lease(&self.holder).await?;
        if lease == Lease::Elsewhere {
            return Ok(None);
        }
        // The one that had the lease may have ended it.
        Ok(self.store.next_training_job().await?.map(|job| (job, lease)))
    }

    /// Keeps the lease. Notes if the job was cancelled on another server, or another one runs it. Never
    /// returns.
    async fn heartbeat(&self, job: i64) {
        let mut timer = tokio::time::interval(HEARTBEAT);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let current = &self.signals.current;
        loop {
            timer.tick().await;
            match self.still_runs(job).await {
                Ok(true) => {}
                Ok(false) => current.send_modify(|current| current.is_over = true),
                // The database may be back before another server takes the lease. Nothing is stored
                // without it.
                Err(error) => tracing::debug!(job, %error, "no sign of life was stored"),
            }
        }
    }

    async fn still_runs(&self, job: i64) -> Result<bool, StoreError> {
        let progress = self.signals.current.borrow().progress.map(|progress| (job, progress));
        Ok((self.store.is_alone()
            || self.store.keep_training_lease(&self.holder, progress).await?)
            && self.store.training_job(job).await?.state != JobState::Cancelled)
    }

    /// Begins a change that only the server with the lease may make.
    async fn begin(&self) -> Result<Transaction, Stop> {
        let mut transaction = self.store.begin().await?;
        match transaction.hold_training_lease(&self.holder).await? {
            true => Ok(transaction),
            false => Err(Stop::Over),
        }
    }

    /// `first_time` says whether this process has not tried the job before.
    async fn run_job(&self, id: i64, first_time: bool) -> Result<(), Stop> {
        // Read again: it may have been cancelled before `current` named it.
        let mut job = self.store.training_job(id).await?;
        if job.state.is_over() {
            return Err(Stop::Over);
        }
        if job.state == JobState::Running && first_time {
            let mut transaction = self.begin().await?;
            let resumptions = transaction.count_resumption(id).await?;
            transaction.commit().await?;
            if resumptions > MAX_RESUMPTIONS {
                let reason = format!("it made no progress after {MAX_RESUMPTIONS} restarts");
                return Err(Stop::Failed(reason));
            }
        }
        if job.state == JobState::Queued {
            let parent = self.models.active.get().id().to_owned();
            let last = self.store.last_enrollment().await?;
            let mut transaction = self.begin().await?;
            if !transaction.begin_training_job(job.id, &parent, last).await? {
                return Err(Stop::Over);
            }
            transaction.commit().await?;
            self.signals.job_changed();
            (job.parent, job.last_enrollment) = (Some(parent), Some(last));
            crash_point("job begun");
        }
        let model = match &job.model {
            Some(model) => model.clone(),
            None => self.train(&job).await?,
        };
        crash_point("model registered");
        if !job.request.activate {
            return self.end(job.id, JobEnd::Succeeded { activated: false, reason: None }).await;
        }
        match self.activate_unless_cancelled(job.id, model).await {
            Ok(()) => Ok(()),
            Err(
                reason @ (ServiceError::WorseModel(_)
                | ServiceError::WalksLost { .. }
                | ServiceError::NotCompared),
            ) => {
                let reason = Some(reason.to_string());
                self.end(job.id, JobEnd::Succeeded { activated: false, reason }).await
            }
            Err(ServiceError::JobOver { .. }) => Err(Stop::Over),
            Err(error) => Err(error.into()),
        }
    }

    async fn activate_unless_cancelled(&self, job: i64, model: String) -> Result<(), ServiceError> {
        let mut current = self.signals.current.subscribe();
        tokio::select! {
            done = self.activate(job, model) => done,
            _ = current.wait_for(|current| current.is_over || current.stopping) => {
                Err(ServiceError::JobOver { job, state: JobState::Cancelled.name() })
            }
        }
    }

    /// Activates a job's model and ends the job, in one transaction.
    async fn activate(&self, job: i64, model: String) -> Result<(), ServiceError> {
        let (activation, mut write) =
            self.models.activate(Reservation::default(), model, false).await?;
        if activation.comparison.is_none() && activation.model != activation.previous {
            return Err(ServiceError::NotCompared);
        }
        let end = JobEnd::Succeeded { activated: true, reason: None };
        if !write.transaction.hold_training_lease(&self.holder).await?
            || !write.transaction.end_training_job(job, &end).await?
        {
            return Err(ServiceError::JobOver { job, state: JobState::Cancelled.name() });
        }
        write.commit().await
    }

    async fn end(&self, job: i64, end: JobEnd) -> Result<(), Stop> {
        let mut transaction = self.begin().await?;
        let ended = transaction.end_training_job(job, &end).await?;
        transaction.commit().await?;
        if ended { Ok(()) } else { Err(Stop::Over) }
    }

    /// Stores the end of a job, however long the database fails: the disk may be full.
    async fn end_with_retries(&self, job: i64, end: JobEnd) {
        while let Err(Stop::Failed(error) | Stop::Busy(error)) = self.end(job, end.clone()).await {
            tracing::error!(job, error, "the end of the training job was not stored");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Trains a job's model and registers it. Returns its id.
    async fn train(&self, job: &TrainingJob) -> Result<String, Stop> {
        let active = job.parent.as_deref().unwrap_or_default();
        let last = job.last_enrollment.unwrap_or_default();
        let (parent, file) = self.parent(active).await?;
        let mut excluded = Vec::new();
        let mut reason = String::new();
        let mut attempts = 0;
        while attempts < MAX_ATTEMPTS {
            let trainees = self.store.trainees(active, last).await?;
            let all = trainees.len();
            let is_in =
                |trainee: &Trainee| has_enough(trainee) && !excluded.contains(&trainee.user);
            let trainees: Vec<Trainee> = trainees.into_iter().filter(is_in).collect();
            let left_out = (all - trainees.len()) as u32;
            let mut transaction = self.begin().await?;
            transaction.count_trainees(job.id, trainees.len() as u32, left_out).await?;
            transaction.commit().await?;
            let recordings: Arc<[Vec<i64>]> =
                trainees.iter().map(|trainee| trainee.recordings.clone()).collect();
            match self.attempt(job, (&parent, &file), &recordings).await {
                Ok(trained) => {
                    crash_point("network trained");
                    if let Some(id) = self.register(job.id, &parent, trained, &recordings).await? {
                        return Ok(id);
                    }
                    self.forget_deleted(job.id).await?;
                }
                Err(NoModel::Stop(stop)) => return Err(stop),
                Err(NoModel::TooLittleOf(places)) => {
                    attempts += 1;
                    reason = "users have too little walking".to_owned();
                    excluded.extend(places.into_iter().map(|place| trainees[place].user.clone()));
                }
                Err(NoModel::Deleted) => self.forget_deleted(job.id).await?,
                Err(NoModel::StartAgain(why)) => {
                    attempts += 1;
                    tracing::warn!(job = job.id, why, "the training starts again");
                    self.drop_checkpoint(job.id).await?;
                    reason = why;
                }
            }
        }
        Err(Stop::Failed(format!(
            "it started again {MAX_ATTEMPTS} times, the last time because {reason}"
        )))
    }

    /// Registers a job's model. `None` if one of the recordings was deleted since.
    async fn register(
        &self,
        job: i64,
        parent: &str,
        trained: Vec<u8>,
        recordings: &[Vec<i64>],
    ) -> Result<Option<String>, Stop> {
        let (model, file) = self.models.read(trained).await?;
        let mut transaction = self.begin().await?;
        if !transaction.are_enrolled(&recordings.concat()).await? {
            return Ok(None);
        }
        transaction.put_model(&model, &file, Some(parent), false).await?;
        transaction.drop_old_models(self.settings.get().max_models, model.id()).await?;
        if !transaction.set_job_model(job, model.id()).await? {
            return Err(Stop::Over);
        }
        transaction.drop_checkpoint(job).await?;
        transaction.commit().await?;
        Ok(Some(model.id().to_owned()))
    }

    /// The model that training starts from, with its file: the one that was active. If that was
    /// refitted to users, its parent: otherwise users would count twice, and deleted users would still
    /// count.
    async fn parent(&self, active: &str) -> Result<(String, Vec<u8>), Stop> {
        let file = self.store.model_file(active).await.map_err(|error| match error {
            StoreError::NoSuchModel(model) => {
                Stop::Failed(format!("model {model}, from which it starts, was deleted"))
            }
            error => error.into(),
        })?;
        let model = model_from_file(active, &file).map_err(Stop::Failed)?;
        if model.file.metadata.architecture.classes() == 0 {
            let models = self.store.models().await?;
            let of = |id: &str| models.iter().find(|model| model.id == id);
            let parent = of(active).and_then(|model| of(model.parent.as_deref()?));
            if let Some(parent) = parent {
                return Ok((parent.id.clone(), self.store.model_file(&parent.id).await?));
            }
        }
        Ok((active.to_owned(), file))
    }

    /// Starts again after a deletion: the checkpoint has learned from what was deleted.
    async fn forget_deleted(&self, job: i64) -> Result<(), Stop> {
        tracing::info!(job, "walks were deleted: the training starts again without them");
        self.drop_checkpoint(job).await?;
        self.log.set_due();
        Ok(())
    }

    async fn drop_checkpoint(&self, job: i64) -> Result<(), Stop> {
        let mut transaction = self.begin().await?;
        transaction.drop_checkpoint(job).await?;
        Ok(transaction.commit().await?)
    }
}

//! Training jobs: create, read, follow, cancel. The trainer runs them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bipedalnet_client::api::JobState;
use bipedalnet_core::identity::UserId;
use bipedalnet_training::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, Progress};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ServiceError;
use super::active_model::ActiveModel;
use super::idempotency::Reservation;
use super::pool::Pool;
use super::write::{Write, Writes};
use crate::config::{Live, ServiceSettings};
use crate::store::{JobEnd, JobEvent, Store, StoreError, Trainee};
pub use crate::store::{JobLength, JobRequest, TrainingJob};

/// Jobs that may wait for the running one.
const MAX_QUEUED: u32 = 8;

/// Clients that may follow jobs at a time.
const MAX_FOLLOWERS: usize = 256;

/// The wait for a place in the queue if the running job's time is not known.
const UNKNOWN_WAIT_SECONDS: u64 = 60;

const MAX_WAIT_SECONDS: u64 = 3600;

/// How often followers look for what other servers did.
const POLL: Duration = Duration::from_secs(1);

/// A training job, and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    pub job: TrainingJob,
    /// Only of the running job.
    pub progress: Option<Progress>,
}

/// A user with too little walking to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortUser {
    pub user: UserId,
    /// Kept recordings.
    pub recordings: usize,
    /// Windows of walking in them.
    pub windows: u64,
}

/// State that the trainer shares with the followers of jobs.
pub(super) struct JobSignals {
    /// There may be a new job.
    pub added: Notify,
    pub current: watch::Sender<Current>,
}

/// State that is not in the database, or not yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    /// The running job.
    pub job: Option<i64>,
    pub progress: Option<Progress>,
    /// It was cancelled, or another server runs it.
    pub is_over: bool,
    /// It failed, which could not be stored yet.
    pub failed: Option<String>,
    /// Counts changes to all jobs in the database.
    pub events: u64,
    /// The service stops.
    pub stopping: bool,
}

impl Default for JobSignals {
    fn default() -> Self {
        Self { added: Notify::new(), current: watch::Sender::default() }
    }
}

impl JobSignals {
    /// Notes that a job changed in the database.
    pub fn job_changed(&self) {
        self.current.send_modify(|current| current.events += 1);
    }
}

impl Current {
    fn status(&self, mut job: TrainingJob) -> JobStatus {
        let mut progress = None;
        if self.job == Some(job.id) && !job.state.is_over() {
            progress = self.progress;
            // The state changes only once it is on disk, because a restart would resume the job.
            job.reason = job.reason.or_else(|| self.failed.clone());
        }
        JobStatus { job, progress }
    }
}

/// Manages training jobs.
pub struct TrainingJobs {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) writes: Writes,
    pub(super) settings: Live<ServiceSettings>,
    pub(super) pool: Pool,
    pub(super) signals: Arc<JobSignals>,
}

impl TrainingJobs {
    /// Adds a job that trains a new model on all users. The trainer runs it in the background.
    ///
    /// # Errors
    /// If all users together have too little kept walking; if one user has, unless
    /// `skip_short_users` is set; if the model could not become active without losing walks; if too
    /// many jobs wait, or the database fails.
    pub async fn add(
        &self,
        reservation: Reservation,
        asked: JobRequest,
        skip_short_users: bool,
    ) -> Result<(JobStatus, Write), ServiceError> {
        let model = self.active.get().id().to_owned();
        let trainees = self.store.trainees(&model, i64::MAX).await?;
        self.refuse_too_little(trainees, skip_short_users)?;
        if asked.activate {
            // Better refused before the training than after it.
            let (walks, users) = self.store.unkept_walks(&model).await?;
            if walks > 0 {
                return Err(ServiceError::WalksLost { walks, users });
            }
        }
        let mut write = self.writes.begin(reservation).await?;
        let job = write.transaction.add_training_job(&asked, MAX_QUEUED).await;
        let job = job.map_err(|error| match error {
            StoreError::TooManyJobs { most } => {
                ServiceError::TooManyJobs { most, seconds: self.seconds_to_a_place() }
            }
            error => error.into(),
        })?;
        let signals = Arc::clone(&self.signals);
        write.after_commit(move || {
            signals.job_changed();
            signals.added.notify_one();
        });
        Ok((JobStatus { job, progress: None }, write))
    }

    /// All kept jobs, the newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self) -> Result<Vec<JobStatus>, ServiceError> {
        let mut jobs = Vec::new();
        for job in self.store.training_jobs().await? {
            jobs.push(self.status(job).await?);
        }
        Ok(jobs)
    }

    /// A job.
    ///
    /// # Errors
    /// If the job does not exist, or the database fails.
    pub async fn get(&self, id: i64) -> Result<JobStatus, ServiceError> {
        let job = self.store.training_job(id).await?;
        self.status(job).await
    }

    async fn status(&self, job: TrainingJob) -> Result<JobStatus, ServiceError> {
        let JobStatus { job, mut progress } = self.signals.current.borrow().status(job);
        if progress.is_none() && job.state == JobState::Running {
            progress = self.store.training_progress(job.id).await?;
        }
        Ok(JobStatus { job, progress })
    }

    /// Cancels a job. Its model, if it has one already, does not become active.
    ///
    /// # Errors
    /// If the job does not exist, it ended in another way, or the database fails.
    pub async fn cancel(&self, reservation: Reservation, id: i64) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        let job = self.store.training_job(id).await?;
        if !write.transaction.end_training_job(id, &JobEnd::Cancelled).await?
            && job.state != JobState::Cancelled
        {
            return Err(ServiceError::JobOver { job: id, state: job.state.name() });
        }
        let signals = Arc::clone(&self.signals);
        write.after_commit(move || {
            signals.current.send_modify(|current| {
                current.events += 1;
                current.is_over |= current.job == Some(id);
            });
        });
        Ok(write)
    }

    /// Follows a job, beginning after its event number `after`.
    ///
    /// # Errors
    /// If the job does not exist, too many clients follow jobs, or the database fails.
    pub async fn follow(&self, id: i64, after: i64) -> Result<Follower, ServiceError> {
        let current = self.signals.current.subscribe();
        if self.signals.current.receiver_count() > MAX_FOLLOWERS {
            return Err(self.pool.refusal().into());
        }
        let job = self.store.training_job(id).await?;
        let is_over = job.state.is_over() && after >= job.event.number;
        Ok(Follower {
            store: self.store.clone(),
            _signals: Arc::clone(&self.signals),
            job,
            after,
            current,
            seen: None,
            poll_at: Instant::now(),
            pending: VecDeque::new(),
            is_over,
        })
    }

    fn refuse_too_little(
        &self,
        trainees: Vec<Trainee>,
        skip_short_users: bool,
    ) -> Result<(), ServiceError> {
        if trainees.is_empty() {
            return Err(ServiceError::NobodyToTrainOn);
        }
        let (long, short): (Vec<_>, Vec<_>) = trainees.into_iter().partition(has_enough);
        let windows = long.iter().map(|trainee| trainee.windows).sum();
        let is_short = !short.is_empty() && !skip_short_users;
        if windows >= FEWEST_WINDOWS as u64 && !is_short {
            return Ok(());
        }
        let short = short.into_iter().map(|Trainee { user, recordings, windows }| ShortUser {
            user,
            recordings: recordings.len(),
            windows,
        });
        Err(ServiceError::TooLittleToTrainOn {
            users: short.collect(),
            windows,
            keeps_recordings: self.settings.get().keeps_recordings(),
        })
    }

    fn seconds_to_a_place(&self) -> u64 {
        let current = self.signals.current.borrow();
        let left =
            current.progress.map_or(UNKNOWN_WAIT_SECONDS, |job| job.seconds_left.ceil() as u64);
        left.clamp(1, MAX_WAIT_SECONDS)
    }
}

/// Whether a user has enough walking to train on.
pub(super) fn has_enough(trainee: &Trainee) -> bool {
    trainee.windows >= FEWEST_WINDOWS_A_USER as u64
}

/// Follows a job.
pub struct Follower {
    store: Store,
    /// Keeps the sender of `current`.
    _signals: Arc<JobSignals>,
    job: TrainingJob,
    after: i64,
    current: watch::Receiver<Current>,
    /// The count of changes when the job was last read.
    seen: Option<u64>,
    /// When to read it again in any case.
    poll_at: Instant,
    pending: VecDeque<JobEvent>,
    is_over: bool,
}

impl Follower {
    /// Whether no more events will come.
    pub fn is_over(&self) -> bool {
        self.is_over && self.pending.is_empty()
    }

    /// Waits for the next event. Returns its number and the job as it was then, or the job in training
    /// without a number. `None` after the last event, and when the service stops.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn next(&mut self) -> Result<Option<(Option<i64>, JobStatus)>, ServiceError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.after = event.number;
                // The job's result belongs to its last event.
                let job = TrainingJob { state: event.state, event, ..self.job.clone() };
                let job = if event.state.is_over() { job } else { not_over(job) };
                return Ok(Some((Some(event.number), JobStatus { job, progress: None })));
            }
            let current = self.current.borrow_and_update().clone();
            if self.is_over || current.stopping {
                return Ok(None);
            }
            if self.seen != Some(current.events) || self.poll_at <= Instant::now() {
                match self.read().await {
                    Err(error) if error.is_transient() && self.seen.is_some() => {}
                    read => read?,
                }
                self.seen = Some(current.events);
                self.poll_at = Instant::now() + POLL;
                continue;
            }
            // Fails only without a sender, which this keeps.
            let changed = tokio::time::timeout_at(self.poll_at, self.current.changed()).await;
            let current = self.current.borrow().clone();
            if self.seen != Some(current.events) || current.stopping {
                continue;
            }
            if current.job == Some(self.job.id) {
                if changed.is_ok() {
                    return Ok(Some((None, current.status(self.job.clone()))));
                }
            } else if changed.is_err()
                && let Some(progress) = self.store.training_progress(self.job.id).await?
            {
                let job = self.job.clone();
                return Ok(Some((None, JobStatus { job, progress: Some(progress) })));
            }
        }
    }

    /// Reads the job and its next events.
    async fn read(&mut self) -> Result<(), StoreError> {
        loop {
            // Read the job first: if it is over, its last event is then among the events.
            self.job = self.store.training_job(self.job.id).await?;
            let events = self.store.training_events(self.job.id, self.after).await?;
            let ended = events.last().is_some_and(|event| event.state.is_over());
            if ended && !self.job.state.is_over() {
                // It ended between the two reads: the job read lacks the result.
                continue;
            }
            self.is_over = self.job.state.is_over();
            self.pending = events.into();
            return Ok(());
        }
    }
}

/// A job as it was before it ended.
fn not_over(job: TrainingJob) -> TrainingJob {
    TrainingJob { model: None, activated: false, reason: None, ended_at_unix_seconds: None, ..job }
}

//! Training jobs: asked for, read, followed, called off. `trainer` carries them out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::writing::{Answer, Start};
use super::{IdempotentRequest, Service, ServiceError, Shared, StoredResponse};
use crate::store::{JobEnd, JobEvent, StoreError, Trainee};
pub use crate::store::{JobLength, JobRequest, TrainingJob};
use bipedalnet_client::api::JobState;
use bipedalnet_training::{FEWEST_WINDOWS, FEWEST_WINDOWS_A_USER, Progress};

/// Jobs that may wait for the one that runs.
const MOST_QUEUED: u32 = 8;

/// Clients that may follow jobs at a time.
const MOST_FOLLOWERS: usize = 256;

/// A wait for a place among the jobs where nothing is known of the one that runs.
const UNKNOWN_WAIT_SECONDS: u64 = 60;

const LONGEST_WAIT_SECONDS: u64 = 3600;

/// A training job, and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    /// The job.
    pub job: TrainingJob,
    /// Of the one that is in training now.
    pub progress: Option<Progress>,
}

/// A user with too little walking to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortUser {
    /// The user.
    pub user: String,
    /// Recordings of theirs that are kept.
    pub recordings: usize,
    /// Windows of walking in these.
    pub windows: u64,
}

/// What jobs and those who follow them share.
pub(super) struct Jobs {
    /// There may be a job to carry out.
    pub posted: Notify,
    pub current: watch::Sender<Current>,
}

/// What is not, or not yet, in the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    /// The job that is being carried out.
    pub job: Option<i64>,
    pub progress: Option<Progress>,
    /// It was called off.
    pub cancelled: bool,
    /// It failed, which could not be written down yet.
    pub failed: Option<String>,
    /// Counts events of all jobs in the database.
    pub events: u64,
    /// The service ends.
    pub closing: bool,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { posted: Notify::new(), current: watch::Sender::default() }
    }
}

impl Jobs {
    /// Something of a job changed in the database.
    pub fn stored_event(&self) {
        self.current.send_modify(|current| current.events += 1);
    }
}

impl Current {
    fn status(&self, mut job: TrainingJob) -> JobStatus {
        let mut progress = None;
        if self.job == Some(job.id) && !job.state.is_over() {
            progress = self.progress;
            // Not failed before that is on disk: until then a restart would go on with it.
            job.reason = job.reason.or_else(|| self.failed.clone());
        }
        JobStatus { job, progress }
    }
}

impl Service {
    /// Asks for a new network, that knows all users. It is trained in the background, by
    /// [`Service::train`].
    ///
    /// # Errors
    /// When there is too little to learn from, of all users or, unless they may be skipped, of some;
    /// when its model could not take over without walks being lost, too many jobs wait, the request's key stands for another request, or the database fails.
    pub async fn add_training_job(
        &self,
        asked: JobRequest,
        skip_short_users: bool,
        request: Option<IdempotentRequest>,
        answer: impl FnOnce(JobStatus) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let model = self.model_id();
        let trainees = self.shared.store.trainees(&model, i64::MAX).await?;
        self.shared.refuse_too_little(trainees, skip_short_users)?;
        if asked.activate {
            // Said before the training, not after.
            let (walks, users) = self.shared.store.unkept_walks(&model).await?;
            if walks > 0 {
                return Err(ServiceError::WalksLost { walks, users });
            }
        }
        self.write(ticket, move |shared, mut turn| async move {
            let job = turn.writing.add_training_job(&asked, MOST_QUEUED).await;
            let job = job.map_err(|error| match error {
                StoreError::TooManyJobs { most } => {
                    ServiceError::TooManyJobs { most, seconds: shared.seconds_to_a_place() }
                }
                error => error.into(),
            })?;
            let reply = answer(JobStatus { job, progress: None });
            turn.commit(&BTreeSet::new(), &reply).await?;
            shared.jobs.stored_event();
            shared.jobs.posted.notify_one();
            Ok(reply)
        })
        .await
    }

    /// All jobs that are kept, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn training_jobs(&self) -> Result<Vec<JobStatus>, ServiceError> {
        let jobs = self.shared.store.training_jobs().await?;
        let current = self.shared.jobs.current.borrow();
        Ok(jobs.into_iter().map(|job| current.status(job)).collect())
    }

    /// A job.
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub async fn training_job(&self, id: i64) -> Result<JobStatus, ServiceError> {
        let job = self.shared.store.training_job(id).await?;
        Ok(self.shared.jobs.current.borrow().status(job))
    }

    /// Calls a job off. Its model, where it has one already, will not take over.
    ///
    /// # Errors
    /// When there is no such job, it is over and was not called off, the request's key stands for
    /// another request, or the database fails.
    pub async fn cancel_training_job(
        &self,
        id: i64,
        request: Option<IdempotentRequest>,
        reply: StoredResponse,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, move |shared, mut turn| async move {
            let job = shared.store.training_job(id).await?;
            if !turn.writing.end_training_job(id, &JobEnd::Cancelled).await?
                && job.state != JobState::Cancelled
            {
                return Err(ServiceError::JobOver { job: id, state: job.state.name() });
            }
            turn.commit(&BTreeSet::new(), &reply).await?;
            shared.jobs.current.send_modify(|current| {
                current.events += 1;
                current.cancelled |= current.job == Some(id);
            });
            Ok(reply)
        })
        .await
    }

    /// What happens to a job, after its event number `after`.
    ///
    /// # Errors
    /// When there is no such job, too many clients follow jobs, or the database fails.
    pub async fn follow_training_job(&self, id: i64, after: i64) -> Result<Follower, ServiceError> {
        let current = self.shared.jobs.current.subscribe();
        if self.shared.jobs.current.receiver_count() > MOST_FOLLOWERS {
            return Err(self.shared.pool.refusal().into());
        }
        let job = self.shared.store.training_job(id).await?;
        let is_over = job.state.is_over() && after >= job.event.number;
        Ok(Follower {
            shared: Arc::clone(&self.shared),
            job,
            after,
            current,
            seen: None,
            pending: VecDeque::new(),
            is_over,
        })
    }
}

impl Shared {
    fn refuse_too_little(
        &self,
        trainees: Vec<Trainee>,
        skip_short_users: bool,
    ) -> Result<(), ServiceError> {
        if trainees.is_empty() {
            return Err(ServiceError::NobodyToTrainOn);
        }
        let (long, short): (Vec<_>, Vec<_>) = trainees.into_iter().partition(is_enough);
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
        let current = self.jobs.current.borrow();
        let left =
            current.progress.map_or(UNKNOWN_WAIT_SECONDS, |job| job.seconds_left.ceil() as u64);
        left.clamp(1, LONGEST_WAIT_SECONDS)
    }
}

/// Whether there is enough of a user to learn from.
pub(super) fn is_enough(trainee: &Trainee) -> bool {
    trainee.windows >= FEWEST_WINDOWS_A_USER as u64
}

/// Tells what happens to a job.
pub struct Follower {
    shared: Arc<Shared>,
    job: TrainingJob,
    after: i64,
    current: watch::Receiver<Current>,
    /// How many events of all jobs were in the database when it was read.
    seen: Option<u64>,
    pending: VecDeque<JobEvent>,
    is_over: bool,
}

impl Follower {
    /// Whether there is nothing more to come.
    pub fn is_over(&self) -> bool {
        self.is_over && self.pending.is_empty()
    }

    /// The job, at its next event, with the event's number, or as it is in training, without one;
    /// `None` after the last event and when the service ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<(Option<i64>, JobStatus)>, ServiceError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.after = event.number;
                // What came of the job belongs to its last event.
                let job = TrainingJob { state: event.state, event, ..self.job.clone() };
                let job = if event.state.is_over() { job } else { not_over(job) };
                return Ok(Some((Some(event.number), JobStatus { job, progress: None })));
            }
            let current = self.current.borrow_and_update().clone();
            if self.is_over || current.closing {
                return Ok(None);
            }
            if self.seen != Some(current.events) {
                // In this order: where the job is over, its last event is among those read.
                self.job = self.shared.store.training_job(self.job.id).await?;
                let events = self.shared.store.training_events(self.job.id, self.after).await?;
                let ended = events.last().is_some_and(|event| event.state.is_over());
                if ended && !self.job.state.is_over() {
                    // Between the two readings: what came of it is not in the job yet.
                    continue;
                }
                self.is_over = self.job.state.is_over();
                self.pending = events.into();
                self.seen = Some(current.events);
                continue;
            }
            let changed = self.current.changed();
            // The sender is in what this holds.
            let _ = changed.await;
            let current = self.current.borrow().clone();
            if self.seen == Some(current.events)
                && current.job == Some(self.job.id)
                && !current.closing
            {
                return Ok(Some((None, current.status(self.job.clone()))));
            }
        }
    }
}

/// A job as it was before it ended.
fn not_over(job: TrainingJob) -> TrainingJob {
    TrainingJob { model: None, activated: false, reason: None, ended_at_unix_seconds: None, ..job }
}

//! Training jobs: what was asked for, how far they are, and what they go on from.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Writing, unix_seconds};

/// Jobs that are kept: the newest.
const KEPT: i64 = 100;

/// What a training job is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// What changes.
    pub scope: JobScope,
    /// When it ends.
    pub length: JobLength,
    /// Whether its model takes over where it does no worse than the one that serves.
    pub activate: bool,
    /// Everything random follows from it.
    pub seed: u32,
}

/// What a training changes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobScope {
    /// All layers.
    Whole,
    /// The feature's and the last.
    LastLayers,
}

/// When a training ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobLength {
    /// After so many passes over the data.
    Epochs(u16),
    /// After so many seconds, and whole passes.
    BudgetSeconds(u32),
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// It is being carried out.
    Running,
    /// There is a new model.
    Succeeded,
    /// There is none: see the reason.
    Failed,
    /// It was called off.
    Cancelled,
}

/// A training job.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingJob {
    /// Its number.
    pub id: i64,
    /// What it was asked for.
    pub request: JobRequest,
    /// How far it is.
    pub state: JobState,
    /// Id of the model that it goes out from, once it runs; it may be gone.
    pub parent: Option<String>,
    /// The last enrollment that it learns from, once it runs.
    pub last_enrollment: Option<i64>,
    /// People that it learns to tell apart, once they are counted.
    pub users: Option<u32>,
    /// Users with too little walking to learn from.
    pub users_left_out: Option<u32>,
    /// How it was at its last event.
    pub event: JobEvent,
    /// Id of the model that came of it, which may be gone.
    pub model: Option<String>,
    /// Whether that model took over.
    pub activated: bool,
    /// Why it failed, or its model did not take over.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at_unix_seconds: i64,
    /// When it began.
    pub started_at_unix_seconds: Option<i64>,
    /// When it ended.
    pub ended_at_unix_seconds: Option<i64>,
}

/// Something that happened to a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JobEvent {
    /// From 1 on.
    pub number: i64,
    /// How far the job was.
    pub state: JobState,
    /// Epochs done.
    pub epoch: u32,
    /// Of so many, where that is known.
    pub epochs: Option<u32>,
    /// Mean cross-entropy over the last epoch.
    pub loss: Option<f32>,
    /// Share of the windows of users' last walks that were named right after it.
    pub validation_accuracy: Option<f32>,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// With a model that was registered before; where it did not take over, the reason.
    Succeeded {
        /// Whether it took over.
        activated: bool,
        /// Why not, if it was asked to.
        reason: Option<String>,
    },
    /// Without one.
    Failed {
        /// Why.
        reason: String,
    },
    /// Called off.
    Cancelled,
}

/// A user to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainee {
    /// The user's id.
    pub user: String,
    /// Enrollments with a kept recording, in their order.
    pub recordings: Vec<i64>,
    /// Windows of walking that a model found in these.
    pub windows: u64,
}

impl JobState {
    const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether the job is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// As it is stored, and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl JobScope {
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::LastLayers => "last_layers",
        }
    }
}

/// Rows of [`Store::job_of`].
macro_rules! jobs_where {
    ($rest:literal) => {
        concat!(
            "SELECT training_jobs.*, number, epoch, events.epochs AS event_epochs, loss,
             validation_accuracy
             FROM training_jobs JOIN training_events AS events ON job_id = id
             AND number = (SELECT max(number) FROM training_events WHERE job_id = id) ",
            $rest
        )
    };
}

impl Store {
    /// All jobs, the newest first.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn training_jobs(&self) -> Result<Vec<TrainingJob>, StoreError> {
        let query = sqlx::query(jobs_where!("ORDER BY id DESC"));
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| self.job_of(row)).collect()
    }

    /// How many of the jobs that are kept are in each state.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn count_training_jobs(&self) -> Result<[(JobState, i64); 5], StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM training_jobs GROUP BY state")
                .fetch_all(&self.readers)
                .await?;
        Ok(JobState::ALL.map(|state| {
            let counted = rows.iter().find(|(name, _)| name == state.name());
            (state, counted.map_or(0, |(_, count)| *count))
        }))
    }

    /// A job.
    ///
    /// # Errors
    /// When there is no such job, a row makes no sense, or the statement fails.
    pub async fn training_job(&self, id: i64) -> Result<TrainingJob, StoreError> {
        let query = sqlx::query(jobs_where!("WHERE id = ?")).bind(id);
        let row = query.fetch_optional(&self.readers).await?;
        self.job_of(&row.ok_or(StoreError::NoSuchJob(id))?)
    }

    /// The job to go on with or to begin, if there is one.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn next_training_job(&self) -> Result<Option<TrainingJob>, StoreError> {
        let query = sqlx::query(jobs_where!(
            "WHERE training_jobs.state IN ('running', 'queued')
             ORDER BY training_jobs.state = 'running' DESC, id LIMIT 1"
        ));
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| self.job_of(&row)).transpose()
    }

    /// What happened to a job after its event number `after`.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn training_events(&self, job: i64, after: i64) -> Result<Vec<JobEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, state, epoch, epochs AS event_epochs, loss, validation_accuracy
             FROM training_events WHERE job_id = ? AND number > ? ORDER BY number",
        )
        .bind(job)
        .bind(after)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| self.event_of(job, row)).collect()
    }

    /// What a job goes on from, as it was given to [`Writing::keep_checkpoint`].
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn training_checkpoint(&self, job: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT checkpoint FROM training_checkpoints WHERE job_id = ?");
        Ok(query.bind(job).fetch_optional(&self.readers).await?)
    }

    /// Users with walks up to the enrollment `last`, in the order of their ids, with those of their
    /// recordings that are kept, and the windows that a model found in these.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn trainees(&self, model: &str, last: i64) -> Result<Vec<Trainee>, StoreError> {
        let rows: Vec<(String, Option<i64>, Option<i64>)> = sqlx::query_as(
            "SELECT user_id, recordings.enrollment_id, windows FROM enrollments
             LEFT JOIN recordings ON recordings.enrollment_id = enrollments.id
             LEFT JOIN templates
             ON templates.enrollment_id = recordings.enrollment_id AND model = ?
             WHERE enrollments.id <= ? ORDER BY user_id, enrollments.id",
        )
        .bind(model)
        .bind(last)
        .fetch_all(&self.readers)
        .await?;
        let mut trainees: Vec<Trainee> = Vec::new();
        for (user, recording, windows) in rows {
            if trainees.last().is_none_or(|last| last.user != user) {
                trainees.push(Trainee { user, recordings: Vec::new(), windows: 0 });
            }
            if let Some(trainee) = trainees.last_mut() {
                trainee.recordings.extend(recording);
                trainee.windows += windows.unwrap_or(0).unsigned_abs();
            }
        }
        Ok(trainees)
    }

    /// The recording of an enrollment as it was given to [`Writing::add_recording`]; `None` where it
    /// is not kept.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn recording(&self, enrollment: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query_scalar("SELECT recording FROM recordings WHERE enrollment_id = ?");
        Ok(query.bind(enrollment).fetch_optional(&self.readers).await?)
    }

    /// How many enrolled walks of how many users a model can use of which no recording is kept.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn unkept_walks(&self, model: &str) -> Result<(u64, u64), StoreError> {
        let counts = sqlx::query_as(
            "SELECT count(*), count(DISTINCT user_id)
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE model = ? AND source = 'enrollment' AND NOT EXISTS
             (SELECT 1 FROM recordings WHERE recordings.enrollment_id = enrollments.id)",
        );
        Ok(counts.bind(model).fetch_one(&self.readers).await?)
    }

    /// The last enrollment that there is, 0 where there is none.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn last_enrollment(&self) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM enrollments");
        Ok(query.fetch_one(&self.readers).await?)
    }

    fn job_of(&self, row: &SqliteRow) -> Result<TrainingJob, StoreError> {
        let id = row.try_get("id")?;
        let event = self.event_of(id, row)?;
        let length = match row.try_get("epochs")? {
            Some(epochs) => JobLength::Epochs(epochs),
            None => JobLength::BudgetSeconds(row.try_get("budget_seconds")?),
        };
        let whole = row.try_get::<&str, _>("scope")? == JobScope::Whole.name();
        let scope = if whole { JobScope::Whole } else { JobScope::LastLayers };
        Ok(TrainingJob {
            id,
            request: JobRequest {
                scope,
                length,
                activate: row.try_get("activate")?,
                seed: row.try_get("seed")?,
            },
            state: event.state,
            parent: row.try_get("parent")?,
            last_enrollment: row.try_get("last_enrollment")?,
            users: row.try_get("users")?,
            users_left_out: row.try_get("users_left_out")?,
            event,
            model: row.try_get("model")?,
            activated: row.try_get("activated")?,
            reason: row.try_get("reason")?,
            created_at_unix_seconds: row.try_get("created_at_unix_seconds")?,
            started_at_unix_seconds: row.try_get("started_at_unix_seconds")?,
            ended_at_unix_seconds: row.try_get("ended_at_unix_seconds")?,
        })
    }

    fn event_of(&self, job: i64, row: &SqliteRow) -> Result<JobEvent, StoreError> {
        let state: &str = row.try_get("state")?;
        let wrong = || StoreError::Row {
            path: self.path.clone(),
            row: format!("training job {job}"),
            reason: format!("no job is {state:?}"),
        };
        Ok(JobEvent {
            number: row.try_get("number")?,
            state: JobState::of(state).ok_or_else(wrong)?,
            epoch: row.try_get("epoch")?,
            epochs: row.try_get("event_epochs")?,
            loss: row.try_get("loss")?,
            validation_accuracy: row.try_get("validation_accuracy")?,
        })
    }
}

impl Writing {
    /// Adds a job, and drops the oldest that are over.
    ///
    /// # Errors
    /// When `most` jobs wait already, or a statement fails.
    pub async fn add_training_job(
        &mut self,
        request: &JobRequest,
        most: u32,
    ) -> Result<TrainingJob, StoreError> {
        let queued: u32 =
            sqlx::query_scalar("SELECT count(*) FROM training_jobs WHERE state = 'queued'")
                .fetch_one(&mut *self.transaction)
                .await?;
        if queued >= most {
            return Err(StoreError::TooManyJobs { most });
        }
        let (epochs, budget_seconds) = match request.length {
            JobLength::Epochs(epochs) => (Some(epochs), None),
            JobLength::BudgetSeconds(seconds) => (None, Some(seconds)),
        };
        let now = unix_seconds();
        let id = sqlx::query(
            "INSERT INTO training_jobs
             (scope, epochs, budget_seconds, activate, seed, state, created_at_unix_seconds)
             VALUES (?, ?, ?, ?, ?, 'queued', ?)",
        )
        .bind(request.scope.name())
        .bind(epochs)
        .bind(budget_seconds)
        .bind(request.activate)
        .bind(request.seed)
        .bind(now)
        .execute(&mut *self.transaction)
        .await?
        .last_insert_rowid();
        sqlx::query(
            "INSERT INTO training_events (job_id, number, state, epoch, epochs)
             VALUES (?, 1, 'queued', 0, ?)",
        )
        .bind(id)
        .bind(epochs)
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "DELETE FROM training_jobs WHERE ended_at_unix_seconds IS NOT NULL AND id NOT IN
             (SELECT id FROM training_jobs ORDER BY id DESC LIMIT ?)",
        )
        .bind(KEPT)
        .execute(&mut *self.transaction)
        .await?;
        let (state, epochs) = (JobState::Queued, epochs.map(u32::from));
        Ok(TrainingJob {
            id,
            request: *request,
            state,
            parent: None,
            last_enrollment: None,
            users: None,
            users_left_out: None,
            event: JobEvent {
                number: 1,
                state,
                epoch: 0,
                epochs,
                loss: None,
                validation_accuracy: None,
            },
            model: None,
            activated: false,
            reason: None,
            created_at_unix_seconds: now,
            started_at_unix_seconds: None,
            ended_at_unix_seconds: None,
        })
    }

    /// Begins a job that waits. Tells whether it did: it may have been called off.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn begin_training_job(
        &mut self,
        job: i64,
        parent: &str,
        last_enrollment: i64,
    ) -> Result<bool, StoreError> {
        let begun = sqlx::query(
            "UPDATE training_jobs SET state = 'running', parent = ?, last_enrollment = ?,
             started_at_unix_seconds = ? WHERE id = ? AND state = 'queued'",
        )
        .bind(parent)
        .bind(last_enrollment)
        .bind(unix_seconds())
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        if begun.rows_affected() == 0 {
            return Ok(false);
        }
        self.add_state_event(job).await?;
        Ok(true)
    }

    /// Counts that a job was taken up again; tells how often since it last got on.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn count_resumption(&mut self, job: i64) -> Result<u32, StoreError> {
        let query = "UPDATE training_jobs SET resumptions = resumptions + 1 WHERE id = ?
                     RETURNING resumptions";
        let count = sqlx::query_scalar(query).bind(job).fetch_optional(&mut *self.transaction);
        Ok(count.await?.unwrap_or(0))
    }

    /// Says how many people a job learns from, and how many it leaves out.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn count_trainees(
        &mut self,
        job: i64,
        users: u32,
        left_out: u32,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE training_jobs SET users = ?, users_left_out = ? WHERE id = ?")
            .bind(users)
            .bind(left_out)
            .bind(job)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Keeps what a running job can go on from after an epoch. Tells whether it did: the job may have
    /// been called off.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn keep_checkpoint(
        &mut self,
        job: i64,
        event: &JobEvent,
        checkpoint: &[u8],
    ) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "INSERT OR REPLACE INTO training_checkpoints (job_id, checkpoint)
             SELECT id, ? FROM training_jobs WHERE id = ? AND state = 'running'",
        )
        .bind(checkpoint)
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        if kept.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("UPDATE training_jobs SET resumptions = 0 WHERE id = ?")
            .bind(job)
            .execute(&mut *self.transaction)
            .await?;
        sqlx::query(
            "INSERT INTO training_events
             (job_id, number, state, epoch, epochs, loss, validation_accuracy)
             SELECT ?1, max(number) + 1, 'running', ?2, ?3, ?4, ?5
             FROM training_events WHERE job_id = ?1",
        )
        .bind(job)
        .bind(event.epoch)
        .bind(event.epochs)
        .bind(event.loss)
        .bind(event.validation_accuracy)
        .execute(&mut *self.transaction)
        .await?;
        Ok(true)
    }

    /// Drops what a job would go on from.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn drop_checkpoint(&mut self, job: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM training_checkpoints WHERE job_id = ?")
            .bind(job)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Says which model came of a running job. Tells whether it did: the job may have been called off.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn set_job_model(&mut self, job: i64, model: &str) -> Result<bool, StoreError> {
        let set = sqlx::query(
            "UPDATE training_jobs SET model = ?, resumptions = 0
                              WHERE id = ? AND state = 'running'",
        )
        .bind(model)
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        Ok(set.rows_affected() > 0)
    }

    /// Ends a job. Tells whether it did: it may be over.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn end_training_job(&mut self, job: i64, end: &JobEnd) -> Result<bool, StoreError> {
        let (state, activated, reason) = match end {
            JobEnd::Succeeded { activated, reason } => {
                (JobState::Succeeded, *activated, reason.as_deref())
            }
            JobEnd::Failed { reason } => (JobState::Failed, false, Some(&reason[..])),
            JobEnd::Cancelled => (JobState::Cancelled, false, None),
        };
        let ended = sqlx::query(
            "UPDATE training_jobs SET state = ?, activated = ?, reason = ?,
             ended_at_unix_seconds = ? WHERE id = ? AND state IN ('queued', 'running')",
        )
        .bind(state.name())
        .bind(activated)
        .bind(reason)
        .bind(unix_seconds())
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        self.drop_checkpoint(job).await?;
        self.add_state_event(job).await?;
        Ok(true)
    }

    /// An event that tells the job's state, and is else like the one before.
    async fn add_state_event(&mut self, job: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO training_events
             SELECT job_id, number + 1, (SELECT state FROM training_jobs WHERE id = ?1),
                    epoch, epochs, loss, validation_accuracy
             FROM training_events WHERE job_id = ?1 ORDER BY number DESC LIMIT 1",
        )
        .bind(job)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Whether all of these enrollments are still there.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn are_enrolled(&mut self, enrollments: &[i64]) -> Result<bool, StoreError> {
        let json = serde_json::to_string(enrollments).expect("numbers");
        let gone: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM json_each(?)
             WHERE value NOT IN (SELECT id FROM enrollments))",
        )
        .bind(json)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(!gone)
    }
}

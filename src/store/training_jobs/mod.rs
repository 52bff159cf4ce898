//! Training jobs: what was asked for, how far they are, and what they go on from.

mod changes;

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::text::Text;
use super::{Store, StoreError};
use bipedalnet_client::api::{JobState, TrainingScope};

/// What a training job is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct JobRequest {
    /// Which layers change.
    #[sqlx(try_from = "Text<TrainingScope>")]
    pub scope: TrainingScope,
    /// When the training ends.
    #[sqlx(flatten)]
    pub length: JobLength,
    /// Whether its model takes over where it does no worse than the one that serves.
    pub activate: bool,
    /// Everything random follows from it.
    pub seed: u32,
}

/// When a training ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobLength {
    /// After so many passes over the data.
    Epochs(u16),
    /// After so many seconds, and whole passes.
    BudgetSeconds(u32),
}

/// A training job.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct TrainingJob {
    /// Its number.
    pub id: i64,
    /// What the client asked for.
    #[sqlx(flatten)]
    pub request: JobRequest,
    /// How far it is.
    #[sqlx(try_from = "Text<JobState>")]
    pub state: JobState,
    /// Id of the model that it goes out from, once it runs; it may be gone.
    pub parent: Option<String>,
    /// The last enrollment that it learns from, once it runs.
    pub last_enrollment: Option<i64>,
    /// People that it learns to tell apart, once they are counted.
    pub users: Option<u32>,
    /// Users with too little walking to learn from.
    pub users_left_out: Option<u32>,
    /// Its last event.
    #[sqlx(flatten)]
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
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub struct JobEvent {
    /// From 1 on.
    pub number: i64,
    /// How far the job was.
    #[sqlx(try_from = "Text<JobState>")]
    pub state: JobState,
    /// Epochs done.
    pub epoch: u32,
    /// Epochs in all, if known.
    #[sqlx(rename = "event_epochs")]
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

impl From<Text<JobState>> for JobState {
    fn from(Text(state): Text<JobState>) -> Self {
        state
    }
}

impl From<Text<TrainingScope>> for TrainingScope {
    fn from(Text(scope): Text<TrainingScope>) -> Self {
        scope
    }
}

impl<'r> FromRow<'r, SqliteRow> for JobLength {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(match row.try_get("epochs")? {
            Some(epochs) => Self::Epochs(epochs),
            None => Self::BudgetSeconds(row.try_get("budget_seconds")?),
        })
    }
}

/// Selects [`TrainingJob`]s, each with its last event.
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
        let query = sqlx::query_as(jobs_where!("ORDER BY id DESC"));
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// How many of the jobs that are kept are in each state.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn count_training_jobs(&self) -> Result<[(JobState, i64); 5], StoreError> {
        let rows: Vec<(Text<JobState>, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM training_jobs GROUP BY state")
                .fetch_all(&self.readers)
                .await?;
        Ok(JobState::ALL.map(|state| {
            let counted = rows.iter().find(|(Text(counted), _)| *counted == state);
            (state, counted.map_or(0, |(_, count)| *count))
        }))
    }

    /// A job.
    ///
    /// # Errors
    /// When there is no such job, a row makes no sense, or the statement fails.
    pub async fn training_job(&self, id: i64) -> Result<TrainingJob, StoreError> {
        let query = sqlx::query_as(jobs_where!("WHERE id = ?")).bind(id);
        query.fetch_optional(&self.readers).await?.ok_or(StoreError::NoSuchJob(id))
    }

    /// The job to go on with or to begin, if there is one.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn next_training_job(&self) -> Result<Option<TrainingJob>, StoreError> {
        let query = sqlx::query_as(jobs_where!(
            "WHERE training_jobs.state IN ('running', 'queued')
             ORDER BY training_jobs.state = 'running' DESC, id LIMIT 1"
        ));
        Ok(query.fetch_optional(&self.readers).await?)
    }

    /// What happened to a job after its event number `after`.
    ///
    /// # Errors
    /// When a row makes no sense, or the statement fails.
    pub async fn training_events(&self, job: i64, after: i64) -> Result<Vec<JobEvent>, StoreError> {
        let query = sqlx::query_as(
            "SELECT number, state, epoch, epochs AS event_epochs, loss, validation_accuracy
             FROM training_events WHERE job_id = ? AND number > ? ORDER BY number",
        );
        Ok(query.bind(job).bind(after).fetch_all(&self.readers).await?)
    }

    /// What a job goes on from, as it was given to [`Transaction::keep_checkpoint`].
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn training_checkpoint(&self, job: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT checkpoint FROM training_checkpoints WHERE job_id = ?");
        Ok(query.bind(job).fetch_optional(&self.readers).await?)
    }
}

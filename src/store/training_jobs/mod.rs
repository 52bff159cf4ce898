//! Training jobs, their events and their checkpoints.

mod changes;
mod lease;

use bipedalnet_client::api::{JobState, TrainingScope};
pub use lease::Lease;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::sealed::Context;
use super::sql::{query_as, query_scalar};
use super::text::Text;
use super::{Number, Store, StoreError};

/// What a client asks of a training job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct JobRequest {
    /// Which layers change.
    #[sqlx(try_from = "Text<TrainingScope>")]
    pub scope: TrainingScope,
    /// When the training ends.
    #[sqlx(flatten)]
    pub length: JobLength,
    /// Whether its model is activated if it does no worse than the active one.
    pub activate: bool,
    /// Seed of everything random.
    #[sqlx(try_from = "i64")]
    pub seed: u32,
}

/// When a training ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobLength {
    /// After this many passes over the data.
    Epochs(u16),
    /// After the last whole pass that fits in this many seconds.
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
    /// Id of the model that was active when it began. It may be deleted.
    pub parent: Option<String>,
    /// The last enrollment that it learns from, once it has begun.
    pub last_enrollment: Option<i64>,
    /// Users that it learns from, once they are counted.
    #[sqlx(try_from = "Number")]
    pub users: Option<u32>,
    /// Users that it leaves out, since they have too little walking.
    #[sqlx(try_from = "Number")]
    pub users_left_out: Option<u32>,
    /// Its last event.
    #[sqlx(flatten)]
    pub event: JobEvent,
    /// Id of its model, which may be deleted.
    pub model: Option<String>,
    /// Whether its model was activated.
    pub activated: bool,
    /// Why it failed, or why its model was not activated.
    pub reason: Option<String>,
    /// When it was added.
    pub created_at_unix_seconds: i64,
    /// When it began.
    pub started_at_unix_seconds: Option<i64>,
    /// When it ended.
    pub ended_at_unix_seconds: Option<i64>,
}

/// An event of a job: a new state or a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub struct JobEvent {
    /// Counts from 1.
    pub number: i64,
    /// How far the job was.
    #[sqlx(try_from = "Text<JobState>")]
    pub state: JobState,
    /// Epochs done.
    #[sqlx(try_from = "i64")]
    pub epoch: u32,
    /// Epochs in all, if known.
    #[sqlx(rename = "event_epochs", try_from = "Number")]
    pub epochs: Option<u32>,
    /// Mean cross-entropy over the last epoch.
    pub loss: Option<f32>,
    /// Share of the windows of users' last walks that were recognised after it.
    pub validation_accuracy: Option<f32>,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// With a registered model.
    Succeeded {
        /// Whether it was activated.
        activated: bool,
        /// Why not, if it should have been.
        reason: Option<String>,
    },
    /// Without a model.
    Failed {
        /// Why.
        reason: String,
    },
    /// A client cancelled it.
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

impl<'r, R: Row> FromRow<'r, R> for JobLength
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let number = |column| row.try_get::<Option<i64>, _>(column);
        let is_wrong = |error: std::num::TryFromIntError| sqlx::Error::Decode(error.into());
        Ok(match number("epochs")? {
            Some(epochs) => Self::Epochs(epochs.try_into().map_err(is_wrong)?),
            None => {
                let seconds = number("budget_seconds")?.ok_or(sqlx::Error::RowNotFound)?;
                Self::BudgetSeconds(seconds.try_into().map_err(is_wrong)?)
            }
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
    /// If a row is invalid, or the statement fails.
    pub async fn training_jobs(&self) -> Result<Vec<TrainingJob>, StoreError> {
        let query = query_as(jobs_where!("ORDER BY id DESC"));
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// How many kept jobs are in each state.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn count_training_jobs(&self) -> Result<[(JobState, i64); 5], StoreError> {
        let rows: Vec<(Text<JobState>, i64)> =
            query_as("SELECT state, count(*) FROM training_jobs GROUP BY state")
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
    /// If the job does not exist, a row is invalid, or the statement fails.
    pub async fn training_job(&self, id: i64) -> Result<TrainingJob, StoreError> {
        let query = query_as(jobs_where!("WHERE id = $1")).bind(id);
        query.fetch_optional(&self.readers).await?.ok_or(StoreError::NoSuchJob(id))
    }

    /// The job to resume or to begin, if there is one.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn next_training_job(&self) -> Result<Option<TrainingJob>, StoreError> {
        let query = query_as(jobs_where!(
            "WHERE training_jobs.state IN ('running', 'queued')
             ORDER BY training_jobs.state = 'running' DESC, id LIMIT 1"
        ));
        Ok(query.fetch_optional(&self.readers).await?)
    }

    /// A job's events after number `after`.
    ///
    /// # Errors
    /// If a row is invalid, or the statement fails.
    pub async fn training_events(&self, job: i64, after: i64) -> Result<Vec<JobEvent>, StoreError> {
        let query = query_as(
            "SELECT number, state, epoch, epochs AS event_epochs, loss, validation_accuracy
             FROM training_events WHERE job_id = $1 AND number > $2 ORDER BY number",
        );
        Ok(query.bind(job).bind(after).fetch_all(&self.readers).await?)
    }

    /// A job's checkpoint, as `Transaction::keep_checkpoint` got it. `None` if it is damaged.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn training_checkpoint(&self, job: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let query = query_scalar("SELECT checkpoint FROM training_checkpoints WHERE job_id = $1");
        let sealed: Option<Vec<u8>> = query.bind(job).fetch_optional(&self.readers).await?;
        let key = self.keyring.database_key();
        Ok(sealed.and_then(|sealed| key.open_row(&Context::checkpoint(job), &sealed)))
    }
}

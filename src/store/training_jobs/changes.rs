//! Changes to training jobs.

use bipedalnet_client::api::JobState;

use super::{JobEnd, JobEvent, JobLength, JobRequest, TrainingJob};
use crate::store::sealed::Context;
use crate::store::sql::{query, query_scalar};
use crate::store::text::Text;
use crate::store::{StoreError, Transaction, unix_seconds};

/// Jobs that are kept. The oldest make room.
const KEPT: i64 = 100;

impl Transaction {
    /// Adds a job, and deletes the oldest ended ones.
    ///
    /// # Errors
    /// If `most` jobs wait already, or a statement fails.
    pub async fn add_training_job(
        &mut self,
        request: &JobRequest,
        most: u32,
    ) -> Result<TrainingJob, StoreError> {
        let queued: i64 = query_scalar("SELECT count(*) FROM training_jobs WHERE state = 'queued'")
            .fetch_one(&mut self.inner)
            .await?;
        if queued >= i64::from(most) {
            return Err(StoreError::TooManyJobs { most });
        }
        let (epochs, budget_seconds) = match request.length {
            JobLength::Epochs(epochs) => (Some(epochs), None),
            JobLength::BudgetSeconds(seconds) => (None, Some(seconds)),
        };
        let now = unix_seconds();
        let id: i64 = query_scalar(
            "INSERT INTO training_jobs
             (scope, epochs, budget_seconds, activate, seed, state, created_at_unix_seconds)
             VALUES ($1, $2, $3, $4, $5, 'queued', $6) RETURNING id",
        )
        .bind(Text(request.scope))
        .bind(epochs)
        .bind(budget_seconds)
        .bind(request.activate)
        .bind(request.seed)
        .bind(now)
        .fetch_one(&mut self.inner)
        .await?;
        query(
            "INSERT INTO training_events (job_id, number, state, epoch, epochs)
             VALUES ($1, 1, 'queued', 0, $2)",
        )
        .bind(id)
        .bind(epochs)
        .execute(&mut self.inner)
        .await?;
        query(
            "DELETE FROM training_jobs WHERE ended_at_unix_seconds IS NOT NULL AND id NOT IN
             (SELECT id FROM training_jobs ORDER BY id DESC LIMIT +$1)",
        )
        .bind(KEPT)
        .execute(&mut self.inner)
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

    /// Begins a job. Returns whether it did: the job may have been cancelled.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn begin_training_job(
        &mut self,
        job: i64,
        parent: &str,
        last_enrollment: i64,
    ) -> Result<bool, StoreError> {
        let begun = query(
            "UPDATE training_jobs SET state = 'running', parent = $1, last_enrollment = $2,
             started_at_unix_seconds = $3 WHERE id = $4 AND state = 'queued'",
        )
        .bind(parent)
        .bind(last_enrollment)
        .bind(unix_seconds())
        .bind(job)
        .execute(&mut self.inner)
        .await?;
        if begun == 0 {
            return Ok(false);
        }
        self.add_state_event(job).await?;
        Ok(true)
    }

    /// Counts that a job was resumed. Returns how often since it last made progress.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn count_resumption(&mut self, job: i64) -> Result<u32, StoreError> {
        let query = "UPDATE training_jobs SET resumptions = resumptions + 1 WHERE id = $1
                     RETURNING resumptions";
        let count: Option<i64> =
            query_scalar(query).bind(job).fetch_optional(&mut self.inner).await?;
        Ok(count.map_or(0, |count| count as u32))
    }

    /// Stores how many users a job learns from, and how many it leaves out.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn count_trainees(
        &mut self,
        job: i64,
        users: u32,
        left_out: u32,
    ) -> Result<(), StoreError> {
        query("UPDATE training_jobs SET users = $1, users_left_out = $2 WHERE id = $3")
            .bind(users)
            .bind(left_out)
            .bind(job)
            .execute(&mut self.inner)
            .await?;
        Ok(())
    }

    /// Stores the checkpoint of a running job after an epoch. Returns whether it did: the job may have
    /// been cancelled.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn keep_checkpoint(
        &mut self,
        job: i64,
        event: &JobEvent,
        checkpoint: &[u8],
    ) -> Result<bool, StoreError> {
        let key = self.store.keyring.database_key();
        let kept = query(
            "INSERT INTO training_checkpoints (job_id, checkpoint)
             SELECT id, $1 FROM training_jobs WHERE id = $2 AND state = 'running'
             ON CONFLICT (job_id) DO UPDATE SET checkpoint = excluded.checkpoint",
        )
        .bind(key.seal_row(&Context::checkpoint(job), checkpoint)?)
        .bind(job)
        .execute(&mut self.inner)
        .await?;
        if kept == 0 {
            return Ok(false);
        }
        query("UPDATE training_jobs SET resumptions = 0 WHERE id = $1")
            .bind(job)
            .execute(&mut self.inner)
            .await?;
        query(
            "INSERT INTO training_events
             (job_id, number, state, epoch, epochs, loss, validation_accuracy)
             SELECT $1, max(number) + 1, 'running', $2, $3, $4, $5
             FROM training_events WHERE job_id = $1",
        )
        .bind(job)
        .bind(event.epoch)
        .bind(event.epochs)
        .bind(event.loss)
        .bind(event.validation_accuracy)
        .execute(&mut self.inner)
        .await?;
        Ok(true)
    }

    /// Deletes a job's checkpoint.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn drop_checkpoint(&mut self, job: i64) -> Result<(), StoreError> {
        query("DELETE FROM training_checkpoints WHERE job_id = $1")
            .bind(job)
            .execute(&mut self.inner)
            .await?;
        Ok(())
    }

    /// Stores a running job's model. Returns whether it did: the job may have been cancelled.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn set_job_model(&mut self, job: i64, model: &str) -> Result<bool, StoreError> {
        let set = query(
            "UPDATE training_jobs SET model = $1, resumptions = 0
                              WHERE id = $2 AND state = 'running'",
        )
        .bind(model)
        .bind(job)
        .execute(&mut self.inner)
        .await?;
        Ok(set > 0)
    }

    /// Ends a job. Returns whether it did: the job may have ended already.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn end_training_job(&mut self, job: i64, end: &JobEnd) -> Result<bool, StoreError> {
        let (state, activated, reason) = match end {
            JobEnd::Succeeded { activated, reason } => {
                (JobState::Succeeded, *activated, reason.as_deref())
            }
            JobEnd::Failed { reason } => (JobState::Failed, false, Some(&reason[..])),
            JobEnd::Cancelled => (JobState::Cancelled, false, None),
        };
        let ended = query(
            "UPDATE training_jobs SET state = $1, activated = $2, reason = $3,
             ended_at_unix_seconds = $4 WHERE id = $5 AND state IN ('queued', 'running')",
        )
        .bind(Text(state))
        .bind(activated)
        .bind(reason)
        .bind(unix_seconds())
        .bind(job)
        .execute(&mut self.inner)
        .await?;
        if ended == 0 {
            return Ok(false);
        }
        self.drop_checkpoint(job).await?;
        self.add_state_event(job).await?;
        Ok(true)
    }

    /// Adds an event with the job's state. Everything else is as in the event before.
    async fn add_state_event(&mut self, job: i64) -> Result<(), StoreError> {
        query(
            "INSERT INTO training_events
             SELECT job_id, number + 1, (SELECT state FROM training_jobs WHERE id = $1),
                    epoch, epochs, loss, validation_accuracy
             FROM training_events WHERE job_id = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(job)
        .execute(&mut self.inner)
        .await?;
        Ok(())
    }
}

//! The lease for training: of all servers with one database, one runs jobs. If it dies, its lease ends,
//! and another one goes on.

use bipedalnet_training::Progress;

use crate::store::sql::{query, query_as};
use crate::store::{Store, StoreError, Transaction, unix_seconds};

/// How long a lease lasts without a sign of life.
const LEASE_SECONDS: i64 = 15;

/// Whether a server may run jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It had the lease already.
    Kept,
    /// It has the lease now, so another server or process ran jobs before.
    Taken,
    /// Another server has it.
    Elsewhere,
}

#[derive(sqlx::FromRow)]
struct ProgressRow {
    step: i64,
    steps: i64,
    epoch: i64,
    loss: Option<f32>,
    validation_accuracy: Option<f32>,
    samples_per_second: f32,
    seconds_left: f32,
}

impl Store {
    /// Takes the lease if no other server has it. If the database is locked to this server, the lease of
    /// an earlier process is void.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn take_training_lease(&self, holder: &str) -> Result<Lease, StoreError> {
        if self.keep_training_lease(holder, None).await? {
            return Ok(Lease::Kept);
        }
        let now = unix_seconds();
        let taken = query(
            "UPDATE training_lease SET holder = $1, ends_at_unix_seconds = $2
             WHERE ends_at_unix_seconds < $3",
        )
        .bind(holder)
        .bind(now + LEASE_SECONDS)
        .bind(if self.is_alone() { i64::MAX } else { now });
        let taken = self.write(taken.execute(&self.writer)).await?;
        Ok(if taken > 0 { Lease::Taken } else { Lease::Elsewhere })
    }

    /// Keeps the lease, and says how far a job is. Returns whether the server still has the lease.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn keep_training_lease(
        &self,
        holder: &str,
        job: Option<(i64, Progress)>,
    ) -> Result<bool, StoreError> {
        let (job, progress) = job.unzip();
        let progress: Option<Progress> = progress;
        let kept = query(
            "UPDATE training_lease SET ends_at_unix_seconds = $2, job_id = $3, step = $4, steps = $5,
             epoch = $6, loss = $7, validation_accuracy = $8, samples_per_second = $9,
             seconds_left = $10 WHERE holder = $1",
        )
        .bind(holder)
        .bind(unix_seconds() + LEASE_SECONDS)
        .bind(job)
        .bind(progress.map(|progress| progress.step as i64))
        .bind(progress.map(|progress| progress.steps as i64))
        .bind(progress.map(|progress| progress.epoch as i64))
        .bind(progress.and_then(|progress| progress.loss))
        .bind(progress.and_then(|progress| progress.validation_accuracy))
        .bind(progress.map(|progress| progress.samples_per_second))
        .bind(progress.map(|progress| progress.seconds_left));
        Ok(self.write(kept.execute(&self.writer)).await? > 0)
    }

    /// Gives the lease back, so that another server need not wait for its end.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn release_training_lease(&self, holder: &str) -> Result<(), StoreError> {
        let released = query(
            "UPDATE training_lease SET holder = '', ends_at_unix_seconds = 0, job_id = NULL
             WHERE holder = $1",
        );
        self.write(released.bind(holder).execute(&self.writer)).await?;
        Ok(())
    }

    /// How far a job is, as the server that runs it last said.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn training_progress(&self, job: i64) -> Result<Option<Progress>, StoreError> {
        let row: Option<ProgressRow> = query_as(
            "SELECT step, steps, epoch, loss, validation_accuracy, samples_per_second, seconds_left
             FROM training_lease WHERE job_id = $1 AND ends_at_unix_seconds >= $2",
        )
        .bind(job)
        .bind(unix_seconds())
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map(|row| Progress {
            step: row.step as usize,
            steps: row.steps as usize,
            epoch: row.epoch as usize,
            loss: row.loss,
            validation_accuracy: row.validation_accuracy,
            samples_per_second: row.samples_per_second,
            seconds_left: row.seconds_left,
        }))
    }
}

impl Transaction {
    /// Keeps the lease until the transaction ends: no other server takes it meanwhile. Returns whether
    /// the server still has it.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn hold_training_lease(&mut self, holder: &str) -> Result<bool, StoreError> {
        let held = query("UPDATE training_lease SET ends_at_unix_seconds = $2 WHERE holder = $1")
            .bind(holder)
            .bind(unix_seconds() + LEASE_SECONDS)
            .execute(&mut self.inner)
            .await?;
        Ok(held > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_server_has_the_lease_until_it_ends_or_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let one = Store::open(&path, None).await.unwrap();
        let other = Store::open(&path, None).await.unwrap();
        let take = async |store: &Store, holder| store.take_training_lease(holder).await.unwrap();
        assert_eq!(take(&one, "one").await, Lease::Taken);
        assert_eq!(take(&other, "other").await, Lease::Elsewhere);
        assert_eq!(take(&one, "one").await, Lease::Kept);

        let progress = Progress { step: 3, steps: 9, loss: Some(0.5), ..Progress::default() };
        assert!(one.keep_training_lease("one", Some((7, progress))).await.unwrap());
        assert_eq!(other.training_progress(7).await.unwrap(), Some(progress));
        assert_eq!(other.training_progress(8).await.unwrap(), None);

        let end = async |seconds: i64| {
            let end = query("UPDATE training_lease SET ends_at_unix_seconds = $1");
            end.bind(unix_seconds() - seconds).execute(&one.writer).await.unwrap();
        };
        // It has not given a sign of life for long, but nobody took its place.
        end(100).await;
        assert_eq!(other.training_progress(7).await.unwrap(), None);
        assert!(one.keep_training_lease("one", None).await.unwrap());
        end(100).await;
        assert_eq!(take(&other, "other").await, Lease::Taken);
        assert!(!one.keep_training_lease("one", None).await.unwrap());
        let mut write = one.begin().await.unwrap();
        assert!(!write.hold_training_lease("one").await.unwrap());
        drop(write);
        assert_eq!(take(&one, "one").await, Lease::Elsewhere);
        end(1).await;
        let mut write = other.begin().await.unwrap();
        assert!(write.hold_training_lease("other").await.unwrap());
        write.commit().await.unwrap();
        assert_eq!(take(&one, "one").await, Lease::Elsewhere);

        // What it no longer has it cannot give back.
        one.release_training_lease("one").await.unwrap();
        assert_eq!(take(&one, "one").await, Lease::Elsewhere);
        other.release_training_lease("other").await.unwrap();
        assert!(!other.keep_training_lease("other", None).await.unwrap());
        assert_eq!(take(&one, "one").await, Lease::Taken);
        one.close().await;
        other.close().await;

        // A database that is locked to one server waits for nobody.
        let alone = Store::open_alone(&path, None).await.unwrap();
        assert_eq!(take(&alone, "alone").await, Lease::Taken);
    }
}

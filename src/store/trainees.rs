//! What a training job learns from.

use bipedalnet_core::identity::UserId;

use super::sql::{either, query_as, query_scalar};
use super::users::user_id;
use super::walks::RecordingRow;
use super::{Store, StoreError, Transaction};

/// A user to learn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainee {
    pub user: UserId,
    /// Enrollments with a kept recording, the oldest first.
    pub recordings: Vec<i64>,
    /// Windows of walking that a model found in them.
    pub windows: u64,
}

impl Store {
    /// Users with walks up to the enrollment `last`, in the order of their ids. With their kept
    /// recordings, and the windows that a model found in these.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn trainees(&self, model: &str, last: i64) -> Result<Vec<Trainee>, StoreError> {
        let rows: Vec<(String, Option<i64>, Option<i64>)> = query_as(
            "SELECT user_id, recordings.enrollment_id, windows FROM enrollments
             LEFT JOIN recordings
             ON recordings.enrollment_id = enrollments.id AND NOT recordings.damaged
             LEFT JOIN templates
             ON templates.enrollment_id = recordings.enrollment_id AND model = $1 AND NOT templates.damaged
             WHERE enrollments.id <= $2 ORDER BY user_id, enrollments.id",
        )
        .bind(model)
        .bind(last)
        .fetch_all(&self.readers)
        .await?;
        let mut trainees: Vec<Trainee> = Vec::new();
        for (user, recording, windows) in rows {
            if trainees.last().is_none_or(|last| last.user.as_str() != user) {
                let user = user_id(&self.path, user)?;
                trainees.push(Trainee { user, recordings: Vec::new(), windows: 0 });
            }
            if let Some(trainee) = trainees.last_mut() {
                trainee.recordings.extend(recording);
                trainee.windows += windows.unwrap_or(0).unsigned_abs();
            }
        }
        Ok(trainees)
    }

    /// The recording of an enrollment, as `Transaction::add_recording` got it. `None` if it is not kept
    /// or damaged.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn recording(&self, enrollment: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let query = query_as(
            "SELECT enrollment_id, user_id, key_id, recording FROM recordings
             JOIN enrollments ON enrollments.id = enrollment_id
             JOIN users ON users.id = user_id WHERE enrollment_id = $1",
        );
        let row: Option<RecordingRow> =
            query.bind(enrollment).fetch_optional(&self.readers).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(RecordingRow::open_all(self, vec![row]).await?.pop().and_then(|(_, opened)| opened))
    }

    /// How many enrolled walks that a model can read have no kept recording, and of how many users.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn unkept_walks(&self, model: &str) -> Result<(u64, u64), StoreError> {
        let counts = query_as(
            "SELECT count(*), count(DISTINCT user_id)
             FROM templates JOIN enrollments ON enrollments.id = enrollment_id
             WHERE model = $1 AND source = 'enrollment' AND NOT damaged AND NOT EXISTS
             (SELECT 1 FROM recordings
              WHERE recordings.enrollment_id = enrollments.id AND NOT recordings.damaged)",
        );
        let (walks, users): (i64, i64) = counts.bind(model).fetch_one(&self.readers).await?;
        Ok((walks as u64, users as u64))
    }

    /// The last enrollment; 0 if there is none.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn last_enrollment(&self) -> Result<i64, StoreError> {
        let query = query_scalar("SELECT coalesce(max(id), 0) FROM enrollments");
        Ok(query.fetch_one(&self.readers).await?)
    }
}

impl Transaction {
    /// Whether all of these enrollments still exist.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn are_enrolled(&mut self, enrollments: &[i64]) -> Result<bool, StoreError> {
        let json = serde_json::to_string(enrollments).expect("numbers");
        let gone: bool = query_scalar(either(
            "SELECT EXISTS (SELECT 1 FROM json_each($1)
                 WHERE value NOT IN (SELECT id FROM enrollments))",
            "SELECT EXISTS (SELECT 1 FROM jsonb_array_elements_text($1::jsonb) AS value
                 WHERE value::bigint NOT IN (SELECT id FROM enrollments))",
        ))
        .bind(json)
        .fetch_one(&mut self.inner)
        .await?;
        Ok(!gone)
    }
}

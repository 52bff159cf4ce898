//! Rows that cannot be decrypted: a bit changed, or their user's key is missing. They are set aside, and
//! everything else is served.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::sql::{query, query_scalar};
use super::{Store, StoreError};

/// A row that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DamagedRow {
    Template { model: String, enrollment: i64 },
    Recording { enrollment: i64 },
    Fingerprint { id: i64 },
}

/// Rows that were found damaged and are not marked yet. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Damage(Arc<Mutex<BTreeSet<DamagedRow>>>);

impl Damage {
    pub fn note(&self, row: DamagedRow) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
    }

    fn take(&self) -> BTreeSet<DamagedRow> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Gives rows that were set aside before another chance: a key may be back.
    pub(super) async fn forget_damage(&self) -> Result<(), StoreError> {
        if self.damaged_rows().await? == 0 {
            return Ok(());
        }
        for statement in [
            "UPDATE templates SET damaged = FALSE WHERE damaged",
            "UPDATE recordings SET damaged = FALSE WHERE damaged",
            "UPDATE fingerprints SET damaged = FALSE WHERE damaged",
        ] {
            self.write(query(statement).execute(&self.writer)).await?;
        }
        Ok(())
    }

    /// Marks the rows that were found damaged since the last call, so that they no longer count, and
    /// logs them.
    ///
    /// # Errors
    /// If a statement fails.
    pub async fn set_damaged_aside(&self) -> Result<(), StoreError> {
        let found = self.damage.take();
        if found.is_empty() {
            return Ok(());
        }
        let (mut walks, mut recordings, mut fingerprints) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut transaction = self.begin().await?;
        for row in found {
            let marked = match &row {
                DamagedRow::Template { model, enrollment } => query(
                    "UPDATE templates SET damaged = TRUE
                     WHERE enrollment_id = $1 AND NOT damaged AND model = $2",
                )
                .bind(*enrollment)
                .bind(model.clone()),
                DamagedRow::Recording { enrollment } => query(
                    "UPDATE recordings SET damaged = TRUE WHERE enrollment_id = $1 AND NOT damaged",
                )
                .bind(*enrollment),
                DamagedRow::Fingerprint { id } => {
                    query("UPDATE fingerprints SET damaged = TRUE WHERE id = $1 AND NOT damaged")
                        .bind(*id)
                }
            };
            if marked.execute(&mut transaction.inner).await? > 0 {
                match row {
                    DamagedRow::Template { enrollment, .. } => walks.insert(enrollment),
                    DamagedRow::Recording { enrollment } => recordings.insert(enrollment),
                    DamagedRow::Fingerprint { id } => fingerprints.insert(id),
                };
            }
        }
        transaction.commit().await?;
        let rows = walks.len() + recordings.len() + fingerprints.len();
        if rows > 0 {
            tracing::warn!(
                rows,
                templates_of_enrollments = first(&walks),
                recordings_of_enrollments = first(&recordings),
                fingerprints = first(&fingerprints),
                "damaged rows, or rows without a key, are set aside; restore a backup, or delete and \
                 enroll these walks again"
            );
        }
        Ok(())
    }

    /// How many rows are set aside.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn damaged_rows(&self) -> Result<u64, StoreError> {
        let query = query_scalar(
            "SELECT (SELECT count(*) FROM templates WHERE damaged)
                  + (SELECT count(*) FROM recordings WHERE damaged)
                  + (SELECT count(*) FROM fingerprints WHERE damaged)",
        );
        let rows: i64 = query.fetch_one(&self.readers).await?;
        Ok(rows as u64)
    }
}

/// At most the first twenty numbers, for the log.
fn first(numbers: &BTreeSet<i64>) -> String {
    let shown: Vec<String> = numbers.iter().take(20).map(i64::to_string).collect();
    let more = if numbers.len() > shown.len() { ", ..." } else { "" };
    shown.join(", ") + more
}

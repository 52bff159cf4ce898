//! Enrollment: adds a walk to a user's template.

use std::sync::Arc;

use bipedalnet_core::gait::{Mend, SignalError};
use bipedalnet_core::identity::UserId;

use super::ServiceError;
use super::active_model::{ActiveModel, LoadedModel};
use super::attempts::Attempts;
use super::batch_writer::BatchWriter;
use super::idempotency::Reservation;
use super::users::UserStatus;
use super::walk_admission::{Permit, WalkAdmission};
use super::walk_reader::{Evidence, Purpose, ReadWalk, WalkReader};
use super::write::{Write, Writes};
use crate::store::{Store, StoredResponse, User, unix_seconds};

/// A walk that was enrolled.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolled {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows of walking in it.
    pub windows: u32,
    /// Windows that are not walking: one error of each kind, and its number of windows.
    pub refused: Vec<(SignalError, usize)>,
    /// What was mended in the recording.
    pub mends: Vec<Mend>,
    /// The user after the enrollment.
    pub status: UserStatus,
}

/// Enrolls walks.
#[derive(Clone)]
pub struct Enroll {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) reader: WalkReader,
    pub(super) admission: WalkAdmission,
    pub(super) batches: BatchWriter,
}

impl Enroll {
    pub(super) fn new(
        store: Store,
        active: ActiveModel,
        reader: WalkReader,
        attempts: Attempts,
        writes: Writes,
    ) -> Self {
        let admission = WalkAdmission { active: active.clone(), reader: reader.clone(), attempts };
        let batches = BatchWriter::new(active.clone(), reader.clone(), admission.clone(), writes);
        Self { store, active, reader, admission, batches }
    }

    /// Enrolls a walk. Its response is stored in a transaction that it may share with other
    /// enrollments. Only `encode` can make the response in time: a transaction that waited for each
    /// client's task would be as slow as the slowest.
    ///
    /// # Errors
    /// If the user does not exist or has too many walks, the evidence is no walk, or one that may not
    /// join the earlier ones, or the pool or the database fails.
    pub async fn run(
        &self,
        reservation: Reservation,
        user: UserId,
        evidence: Evidence,
        permit: Permit,
        encode: impl Fn(Enrolled) -> StoredResponse + Send + 'static,
    ) -> Result<StoredResponse, ServiceError> {
        let admitted = self.reader.pool.admit(evidence.cost(Purpose::Enroll))?;
        let walk = self.read(self.active.get(), &user, evidence, &permit).await?;
        drop(admitted);
        self.batches.enroll(reservation, user, walk, permit, encode).await
    }

    /// Reads a walk of a user, and compares it with those that are enrolled. The walk is admitted
    /// already.
    pub(super) async fn read(
        &self,
        model: Arc<LoadedModel>,
        user: &UserId,
        evidence: Evidence,
        permit: &Permit,
    ) -> Result<ReadWalk, ServiceError> {
        // First, so that a request with a wrong name costs little.
        if !permit.creates_user && !model.gallery(&user.collection()).read().contains(user) {
            self.store.user(user).await?;
        }
        let earlier = self.store.newest_enrolled_fingerprints(user).await?;
        let mut walk = self.reader.read_on_pool(&model, evidence, Purpose::Enroll).await?;
        walk.newest_compared = earlier.first().map_or(0, |(number, _)| *number);
        let marks = earlier.iter().map(|(_, mark)| mark);
        match self.reader.is_replay(&walk.fingerprints, marks).await? {
            true => Err(ServiceError::WalkAlreadyEnrolled(user.clone())),
            false => Ok(walk),
        }
    }
}

impl Write {
    /// Adds a walk, read by the active model, to a user's template. A walk that is refused changes
    /// nothing.
    pub(super) async fn add_enrollment(
        &mut self,
        active: &ActiveModel,
        max_enrollments: u64,
        user: &UserId,
        walk: &ReadWalk,
    ) -> Result<Enrolled, ServiceError> {
        let transaction = &mut self.transaction;
        let enrollment = transaction.add_enrollment(user, max_enrollments).await?;
        transaction.add_template(&walk.model, enrollment.id, &walk.template).await?;
        for fingerprint in &walk.fingerprints {
            transaction.add_fingerprint(user, Some(enrollment.id), fingerprint).await?;
        }
        if let Some(recording) = &walk.kept {
            transaction.add_recording(enrollment.id, recording).await?;
        }
        self.gallery.enrolled += 1;
        let model = active.get();
        let shared = model.gallery(&user.collection());
        let gallery = shared.read();
        // The gallery holds what the database does, without this write.
        let earlier = || gallery.templates(user).cloned().unwrap_or_default();
        let templates = self.gallery.users.entry(user.clone()).or_insert_with(earlier);
        templates.add(&walk.template, gallery.calibration());
        let user = User {
            id: user.clone(),
            created_at_unix_seconds: enrollment.user_created_at_unix_seconds,
            enrollments: enrollment.enrollments,
            windows: templates.windows().into(),
            occasions: enrollment.occasions,
            consent: enrollment.consent,
            last_active_at_unix_seconds: unix_seconds(),
        };
        Ok(Enrolled {
            enrollment: enrollment.id,
            windows: walk.template.windows(),
            refused: walk.refused.clone(),
            mends: walk.mends.clone(),
            status: user.into(),
        })
    }
}

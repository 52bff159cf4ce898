//! Users and their enrollments: create, read, export, delete.

use std::collections::VecDeque;

use bipedalnet_core::gait::{Fingerprint, RecordingDocument};
use bipedalnet_core::identity::{
    CollectionId, DeviceTemplate, READY_WINDOWS, UserId, UserTemplates,
};

use super::ServiceError;
use super::active_model::ActiveModel;
use super::activity::Activity;
use super::idempotency::Reservation;
use super::pool::{Admission, Pool};
use super::walk_reader::unpack;
use super::write::{Write, Writes};
use crate::access::Principal;
use crate::config::{Live, ServiceSettings};
use crate::store::{AuditEvent, DAY_SECONDS, Store, unix_seconds};
pub use crate::store::{Consent, Enrollment, ExportedTemplate, User};

/// Inactive users who are erased in one transaction, so that other writes need not wait long.
const MAX_ERASED: u32 = 32;

/// A user, and whether they are ready to be recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserStatus {
    pub user: User,
    /// Windows of walking that are still missing; 0 if the user is ready.
    pub windows_missing: u64,
}

/// Everything stored about a user. Walks are read one at a time, because all of them may be large.
pub struct Export {
    /// The user.
    pub status: UserStatus,
    /// Fingerprints of enrolled and of verified walks.
    pub fingerprints: Vec<Fingerprint>,
    enrollments: VecDeque<Enrollment>,
    store: Store,
    pool: Pool,
}

impl Export {
    /// The next walk. If it was deleted since the export began, only its number is left.
    ///
    /// # Errors
    /// If the user was deleted, or the pool or the database fails.
    pub async fn next_walk(&mut self) -> Result<Option<ExportedWalk>, ServiceError> {
        let user = &self.status.user.id;
        let Some(enrollment) = self.enrollments.pop_front() else { return Ok(None) };
        let kept = self.store.recording_of(user, enrollment.id).await?;
        let templates = self.store.all_templates_of(user, enrollment.id).await?;
        if templates.is_empty() {
            self.store.user(user).await?;
        }
        let unpack = move |_: &mut _| kept.and_then(|kept| unpack(&kept));
        let recording = self.pool.run(Admission::Always, unpack).await?;
        Ok(Some(ExportedWalk { enrollment, templates, recording }))
    }
}

/// Everything stored about a walk.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedWalk {
    pub enrollment: Enrollment,
    /// One for each model that read the walk.
    pub templates: Vec<ExportedTemplate>,
    /// The recording, if it is kept.
    pub recording: Option<RecordingDocument>,
}

impl From<User> for UserStatus {
    fn from(user: User) -> Self {
        let windows_missing = READY_WINDOWS.saturating_sub(user.windows);
        Self { user, windows_missing }
    }
}

/// Manages users and their enrollments.
pub struct Users {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) writes: Writes,
    pub(super) settings: Live<ServiceSettings>,
    pub(super) pool: Pool,
    pub(super) activity: Activity,
}

pub(super) fn days_ago(days: u32) -> i64 {
    unix_seconds() - i64::from(days) * DAY_SECONDS
}

impl Users {
    /// Creates a user, and returns whether they are new. Records their consent, if it is given.
    ///
    /// # Errors
    /// If there are too many users, or the database fails.
    pub async fn put(
        &self,
        reservation: Reservation,
        user: UserId,
        consent: Option<Consent>,
    ) -> Result<(bool, UserStatus, Write), ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        let is_new = write.transaction.put_user(&user, self.settings.get().max_users).await?;
        if let Some(consent) = consent {
            write.transaction.record_consent(&user, &consent).await?;
        }
        let status = write.transaction.user(&user).await?.into();
        write.named_users.insert(user);
        Ok((is_new, status, write))
    }

    /// A user.
    ///
    /// # Errors
    /// If the user does not exist, or the database fails.
    pub async fn get(&self, user: &UserId) -> Result<UserStatus, ServiceError> {
        Ok(self.store.user(user).await?.into())
    }

    /// Users of a collection in the order of their names, beginning after `after`. With `inactive_days`,
    /// only those who were not active for so long.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(
        &self,
        collection: &CollectionId,
        after: Option<&UserId>,
        inactive_days: Option<u32>,
        limit: u32,
    ) -> Result<Vec<UserStatus>, ServiceError> {
        let since = inactive_days.map(days_ago);
        let users = self.store.users(collection, after, since, limit).await?;
        Ok(users.into_iter().map(UserStatus::from).collect())
    }

    /// Everything stored about a user. First, the audit trail gets an entry.
    ///
    /// # Errors
    /// If the user does not exist, or the database fails.
    pub async fn export(
        &self,
        principal: Principal,
        user: &UserId,
    ) -> Result<Export, ServiceError> {
        let mut write = self.writes.begin(Reservation::of(principal)).await?;
        write.transaction.user(user).await?;
        write.transaction.audit(AuditEvent::UserExported(user)).await?;
        write.commit().await?;
        Ok(Export {
            status: self.get(user).await?,
            fingerprints: self.store.fingerprints(user).await?,
            enrollments: self.store.enrollments_of(user).await?.into(),
            store: self.store.clone(),
            pool: self.pool.clone(),
        })
    }

    /// What a device needs to verify a user offline, and for how many days it may. First, the audit
    /// trail gets an entry.
    ///
    /// # Errors
    /// If the settings do not allow it, the user does not exist or has no walk, or the database fails.
    pub async fn device_template(
        &self,
        principal: Principal,
        user: &UserId,
    ) -> Result<(DeviceTemplate, u32), ServiceError> {
        let valid_days = self.settings.get().device_template_days;
        if valid_days == 0 {
            return Err(ServiceError::NoDeviceTemplates);
        }
        let mut write = self.writes.begin(Reservation::of(principal)).await?;
        write.claim(&[user]).await?;
        write.transaction.user(user).await?;
        let model = self.active.get();
        let template = {
            let gallery = model.gallery(&user.collection());
            model.model.device_template(&gallery.read(), user)
        };
        let template = template.ok_or_else(|| ServiceError::NotEnrolled(user.clone()))?;
        write.transaction.audit(AuditEvent::TemplateRead(user)).await?;
        write.commit().await?;
        Ok((template, valid_days))
    }

    /// A user's enrollments.
    ///
    /// # Errors
    /// If the user does not exist, or the database fails.
    pub async fn enrollments(&self, user: &UserId) -> Result<Vec<Enrollment>, ServiceError> {
        self.get(user).await?;
        Ok(self.store.enrollments_of(user).await?)
    }

    /// Deletes a user and everything stored about them.
    ///
    /// # Errors
    /// If the user does not exist, or the database fails.
    pub async fn delete(
        &self,
        reservation: Reservation,
        user: UserId,
    ) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        write.claim(&[&user]).await?;
        self.erase(&mut write, user).await?;
        Ok(write)
    }

    async fn erase(&self, write: &mut Write, user: UserId) -> Result<(), ServiceError> {
        write.transaction.erase_user(&user).await?;
        write.gallery.users.insert(user, UserTemplates::default());
        write.scrubs_log = true;
        Ok(())
    }

    /// Stores who was recognised of late.
    pub(super) async fn store_activity(&self) -> Result<(), ServiceError> {
        let mut write = self.writes.begin(Reservation::default()).await?;
        self.activity.store(&mut write.transaction).await?;
        write.commit().await
    }

    /// Deletes some users who were not active for so many days, as [`Users::delete`] does. Returns how
    /// many.
    pub(super) async fn erase_inactive(&self, days: u32) -> Result<usize, ServiceError> {
        let mut write = self.writes.begin(Reservation::default()).await?;
        let inactive = write.transaction.inactive_users(days_ago(days), MAX_ERASED).await?;
        let erased = inactive.len();
        for user in inactive {
            self.erase(&mut write, user).await?;
        }
        write.commit().await?;
        Ok(erased)
    }

    /// Deletes an enrollment. If it is not an update, all updates are deleted too, because it helped
    /// to accept them.
    ///
    /// # Errors
    /// If the user has no such enrollment, or the database fails.
    pub async fn delete_enrollment(
        &self,
        reservation: Reservation,
        user: UserId,
        id: i64,
    ) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        write.claim(&[&user]).await?;
        let model = self.active.get();
        write.transaction.erase_enrollment(&user, id).await?;
        let (model_id, feature_len) = (model.id(), model.feature_len());
        let left = write.transaction.templates_of(&user, model_id, feature_len, None).await?;
        write.gallery.users.insert(user.clone(), model.galleries.templates(&left));
        write.named_users.insert(user);
        write.scrubs_log = true;
        Ok(write)
    }
}

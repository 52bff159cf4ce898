//! Users and their walks: made, read, erased.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::evidence::{Evidence, Purpose, Walk, unpack};
use super::pool::Entry;
use super::serving::Serving;
use super::writing::{Answer, Start};
use super::{Service, ServiceError, Shared};
use crate::store::Transaction;
pub use crate::store::{Enrollment, ExportedTemplate, IdempotentRequest, StoredResponse, User};
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::{Fingerprint, RecordingDocument, SignalError};
use bipedalnet_core::identity::{READY_WINDOWS, UserId, UserTemplates};

/// A user, and whether they are known well enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserStatus {
    /// The user.
    pub user: User,
    /// Windows of walking that are still missing; 0 where the user is ready.
    pub windows_missing: u64,
}

/// A walk that was enrolled.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolled {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows of walking in it.
    pub windows: u32,
    /// Other windows: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
    /// The user, now.
    pub status: UserStatus,
}

/// All that is held about one person.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// The user.
    pub status: UserStatus,
    /// Their walks.
    pub walks: Vec<ExportedWalk>,
    /// Of enrolled and of verified walks.
    pub fingerprints: Vec<Fingerprint>,
}

/// A walk with all that is held of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedWalk {
    /// The walk.
    pub enrollment: Enrollment,
    /// What models made of it.
    pub templates: Vec<ExportedTemplate>,
    /// The recording, where it is kept.
    pub recording: Option<RecordingDocument>,
}

impl From<User> for UserStatus {
    fn from(user: User) -> Self {
        let windows_missing = READY_WINDOWS.saturating_sub(user.windows);
        Self { user, windows_missing }
    }
}

impl Service {
    /// Makes a user. `answer` is given whether the user is new.
    ///
    /// # Errors
    /// When the request's key stands for another request, or the database fails.
    pub async fn put_user(
        &self,
        user: UserId,
        request: Option<IdempotentRequest>,
        answer: impl FnOnce(bool, UserStatus) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, |shared, mut turn| async move {
            let new = turn.writing.put_user(&user, shared.settings.get().max_users).await?;
            let reply = answer(new, turn.writing.user(&user).await?.into());
            turn.commit(&BTreeSet::from([user]), &reply).await?;
            Ok(reply)
        })
        .await
    }

    /// A user.
    ///
    /// # Errors
    /// When there is no such user, or the database fails.
    pub async fn user(&self, user: &UserId) -> Result<UserStatus, ServiceError> {
        Ok(self.shared.store.user(user).await?.into())
    }

    /// Users in the order of their ids, from the one that follows `after` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<UserStatus>, ServiceError> {
        let users = self.shared.store.users(after, limit).await?;
        Ok(users.into_iter().map(UserStatus::from).collect())
    }

    /// All that is held about a user.
    ///
    /// # Errors
    /// When there is no such user, there is no compute for it, or the database fails.
    pub async fn export(&self, user: &UserId) -> Result<Export, ServiceError> {
        let status = self.user(user).await?;
        let store = &self.shared.store;
        let enrollments = store.enrollments_of(user).await?;
        let templates = store.all_templates_of(user).await?;
        let fingerprints = store.fingerprints(user).await?;
        let mut recordings = store.recordings_of(user).await?;
        let unpack = move || -> Vec<ExportedWalk> {
            let walk = |enrollment: Enrollment| {
                let kept = recordings.remove(&enrollment.id);
                let of_it = |template: &&ExportedTemplate| template.enrollment == enrollment.id;
                ExportedWalk {
                    templates: templates.iter().filter(of_it).cloned().collect(),
                    recording: kept.and_then(|kept| unpack(&kept)),
                    enrollment,
                }
            };
            enrollments.into_iter().map(walk).collect()
        };
        Ok(Export { status, walks: self.compute(unpack).await?, fingerprints })
    }

    /// A user's walks.
    ///
    /// # Errors
    /// When there is no such user, or the database fails.
    pub async fn enrollments(&self, user: &UserId) -> Result<Vec<Enrollment>, ServiceError> {
        self.user(user).await?;
        Ok(self.shared.store.enrollments_of(user).await?)
    }

    /// Enrolls a walk of a user, who is recognised from then on.
    ///
    /// # Errors
    /// When the user does not exist, the evidence is no walk, there is no compute for it, or the
    /// request's key stands for another request.
    pub async fn enroll(
        &self,
        user: UserId,
        evidence: Evidence,
        request: Option<IdempotentRequest>,
        answer: impl Fn(Enrolled) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let serving = self.shared.serving();
        let walk = self.walk_of(serving, &user, evidence, Entry::IfFree).await?;
        self.enroll_together(ticket, user, walk, answer).await
    }

    /// Reads a walk of a user.
    pub(super) async fn walk_of(
        &self,
        serving: Arc<Serving>,
        user: &UserId,
        evidence: Evidence,
        entry: Entry,
    ) -> Result<Walk, ServiceError> {
        // Before any compute, so that a wrong name costs little.
        if !serving.gallery().contains(user) {
            self.user(user).await?;
        }
        let shared = Arc::clone(&self.shared);
        let read =
            move |scratch: &mut Scratch| shared.read(&serving, evidence, Purpose::Enroll, scratch);
        self.shared.pool.run(entry, read).await?
    }

    /// Erases a user with all that is held about them.
    ///
    /// # Errors
    /// When there is no such user, the request's key stands for another request, or the database
    /// fails.
    pub async fn erase_user(
        &self,
        user: UserId,
        request: Option<IdempotentRequest>,
        reply: StoredResponse,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, |shared, mut turn| async move {
            turn.writing.erase_user(&user).await?;
            turn.commit(&BTreeSet::new(), &reply).await?;
            let serving = shared.serving();
            serving.gallery_mut().replace(&user, UserTemplates::default());
            shared.gallery_changed();
            serving.sessions().forget(&user);
            shared.challenges().forget(&user);
            shared.scrub_log().await;
            Ok(reply)
        })
        .await
    }

    /// Erases one walk of a user; with an enrolled one all updates, which were judged by it.
    ///
    /// # Errors
    /// When the user has no such walk, the request's key stands for another request, or the database
    /// fails.
    pub async fn erase_enrollment(
        &self,
        user: UserId,
        id: i64,
        request: Option<IdempotentRequest>,
        reply: StoredResponse,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, move |shared, mut turn| async move {
            let serving = shared.serving();
            let (model, feature_len) = (serving.model.id(), serving.feature_len());
            turn.writing.erase_enrollment(&user, id).await?;
            let left = turn.writing.templates_of(&user, model, feature_len, None).await?;
            turn.commit(&BTreeSet::from([user.clone()]), &reply).await?;
            serving.replace(&user, &left);
            shared.gallery_changed();
            shared.scrub_log().await;
            Ok(reply)
        })
        .await
    }
}

/// Walks that a change adds, to be known once it is on disk.
#[derive(Default)]
pub(super) struct Walks {
    /// Of each user who has one of them, all that is known after the change.
    pub known: BTreeMap<UserId, UserTemplates>,
    pub enrolled: u64,
    pub updates: u64,
}

impl Walks {
    /// Puts a walk among a user's, in this change, as the model reads it that serves meanwhile. One
    /// that is refused leaves the change as it was.
    pub async fn add(
        &mut self,
        shared: &Shared,
        writing: &mut Transaction,
        user: &UserId,
        walk: &Walk,
    ) -> Result<Enrolled, ServiceError> {
        let most = shared.settings.get().max_enrollments_per_user;
        let enrollment = writing.add_enrollment(user, most).await?;
        writing.add_template(&walk.model, enrollment.id, &walk.template).await?;
        for fingerprint in &walk.fingerprints {
            writing.add_fingerprint(user, Some(enrollment.id), fingerprint).await?;
        }
        if let Some(recording) = &walk.kept {
            writing.add_recording(enrollment.id, recording).await?;
        }
        self.enrolled += 1;
        let serving = shared.serving();
        let gallery = serving.gallery();
        // The gallery knows what the database does, but for this change.
        let earlier = || gallery.templates(user).cloned().unwrap_or_default();
        let known = self.known.entry(user.clone()).or_insert_with(earlier);
        known.add(&walk.template, gallery.calibration());
        let user = User {
            id: user.clone(),
            created_at_unix_seconds: enrollment.user_created_at_unix_seconds,
            enrollments: enrollment.enrollments,
            windows: known.windows().into(),
            occasions: enrollment.occasions,
        };
        Ok(Enrolled {
            enrollment: enrollment.id,
            windows: walk.template.windows(),
            refused: walk.refused.clone(),
            status: user.into(),
        })
    }

    /// Lets the users be recognised by them.
    pub fn show(self, shared: &Shared) {
        if self.known.is_empty() {
            return;
        }
        shared.metrics.walks.enrollments.inc_by(self.enrolled);
        shared.metrics.walks.template_updates.inc_by(self.updates);
        if self.updates > 0 {
            // Older ones may have made room.
            shared.scrub_due.store(true, Ordering::Relaxed);
        }
        let serving = shared.serving();
        let mut gallery = serving.gallery_mut();
        for (user, templates) in self.known {
            gallery.replace(&user, templates);
        }
        shared.gallery_changed();
    }
}

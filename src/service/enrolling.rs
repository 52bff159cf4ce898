//! Users and their walks: made, read, erased.

use std::sync::Arc;

use super::writing::{Answer, Start};
use super::{Service, ServiceError, Shared};
use crate::bnn::Scratch;
use crate::gait::{Recording, SignalError};
use crate::identity::{READY_WINDOWS, Template, UserId};
use crate::store::StoreError;
pub use crate::store::{Enrollment, Reply, Request, StoredTemplate, User};

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
    pub walks: Vec<StoredTemplate>,
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
        request: Option<Request>,
        answer: impl FnOnce(bool, UserStatus) -> Reply + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, |_, mut turn| async move {
            let new = turn.writing.put_user(&user).await?;
            let reply = answer(new, turn.writing.user(&user).await?.into());
            turn.commit(Some(&user), &reply).await?;
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
    /// When there is no such user, or the database fails.
    pub async fn export(&self, user: &UserId) -> Result<Export, ServiceError> {
        Ok(Export { status: self.user(user).await?, walks: self.shared.walks(user).await? })
    }

    /// A user's walks.
    ///
    /// # Errors
    /// When there is no such user, or the database fails.
    pub async fn enrollments(&self, user: &UserId) -> Result<Vec<Enrollment>, ServiceError> {
        let walks = self.export(user).await?.walks;
        Ok(walks.into_iter().map(|walk| walk.enrollment).collect())
    }

    /// Enrolls a walk of a user, who is recognised from then on.
    ///
    /// # Errors
    /// When the user does not exist, the recording is no walk, there is no compute for it, or the
    /// request's key stands for another request.
    pub async fn enroll(
        &self,
        user: UserId,
        recording: Recording,
        request: Option<Request>,
        answer: impl FnOnce(Enrolled) -> Reply + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let claim = match self.claim(request).await? {
            Start::New(claim) => claim,
            Start::Answered(answer) => return Ok(answer),
        };
        // Before any compute, so that a wrong name costs little.
        self.user(&user).await?;
        let shared = Arc::clone(&self.shared);
        let compute = move |scratch: &mut Scratch| shared.template(&recording, scratch);
        let (template, refused) = self.shared.pool.run(compute).await??;
        self.write(claim, |shared, mut turn| async move {
            let model = shared.model.id();
            let enrollment = turn.writing.add_enrollment(&user, model, &template).await?;
            let status = turn.writing.user(&user).await?.into();
            let windows = template.windows();
            let reply = answer(Enrolled { enrollment, windows, refused, status });
            turn.commit(Some(&user), &reply).await?;
            shared.gallery_mut().add(&user, &template);
            Ok(reply)
        })
        .await
    }

    /// Erases a user with all that is held about them.
    ///
    /// # Errors
    /// When there is no such user, the request's key stands for another request, or the database
    /// fails.
    pub async fn erase_user(
        &self,
        user: UserId,
        request: Option<Request>,
        reply: Reply,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, |shared, mut turn| async move {
            turn.writing.erase_user(&user).await?;
            turn.commit(None, &reply).await?;
            shared.gallery_mut().replace(&user, None);
            shared.sessions().forget(&user);
            shared.scrub_log().await;
            Ok(reply)
        })
        .await
    }

    /// Erases one walk of a user.
    ///
    /// # Errors
    /// When the user has no such walk, the request's key stands for another request, or the database
    /// fails.
    pub async fn erase_enrollment(
        &self,
        user: UserId,
        id: i64,
        request: Option<Request>,
        reply: Reply,
    ) -> Result<Answer, ServiceError> {
        self.write_once(request, move |shared, mut turn| async move {
            turn.writing.erase_enrollment(&user, id).await?;
            turn.commit(Some(&user), &reply).await?;
            let mut left = Template::empty(shared.feature_len());
            for walk in shared.walks(&user).await? {
                left.add(&walk.template);
            }
            let left = (left.windows() > 0).then_some(&left);
            shared.gallery_mut().replace(&user, left);
            shared.scrub_log().await;
            Ok(reply)
        })
        .await
    }
}

impl Shared {
    /// The data is gone from the tables already: a failure here is the operator's to mend, and none
    /// of the client's.
    async fn scrub_log(&self) {
        if let Err(error) = self.store.scrub_log().await {
            tracing::error!(%error, "the write-ahead log still holds erased data");
        }
    }

    async fn walks(&self, user: &UserId) -> Result<Vec<StoredTemplate>, StoreError> {
        self.store.templates_of(user, self.model.id(), self.feature_len()).await
    }
}

//! Users and their walks: made, read, erased.

use std::sync::Arc;

use super::{PoolError, Service, ServiceError, Shared};
use crate::bnn::Scratch;
use crate::gait::{Recording, SignalError};
use crate::identity::{READY_WINDOWS, Template, UserId};
use crate::store::StoreError;
pub use crate::store::{Enrollment, StoredTemplate, User};

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
pub struct EnrolledWalk {
    /// Number of the enrollment.
    pub enrollment: i64,
    /// Windows of walking in it.
    pub windows: u32,
    /// Other windows: one of each reason, and how many it holds for.
    pub refused: Vec<(SignalError, usize)>,
}

/// What came of a request to enroll.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolled {
    /// The walk.
    pub walk: EnrolledWalk,
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
    /// Makes a user; tells whether it is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_user(&self, user: &UserId) -> Result<(bool, UserStatus), ServiceError> {
        let new = self.shared.store.put_user(user).await?;
        Ok((new, self.user(user).await?))
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
    /// When the user does not exist, the recording is no walk, or there is no compute for it.
    pub async fn enroll(
        &self,
        user: UserId,
        recording: Recording,
    ) -> Result<Enrolled, ServiceError> {
        // Before any compute, so that a wrong name costs little.
        self.user(&user).await?;
        let shared = Arc::clone(&self.shared);
        let compute = move |scratch: &mut Scratch| shared.template(&recording, scratch);
        let (template, refused) = self.shared.pool.run(compute).await??;
        self.write(|shared| async move {
            let id = shared.store.add_enrollment(&user, shared.model.id(), &template).await?;
            shared.gallery_mut().add(&user, &template);
            let walk = EnrolledWalk { enrollment: id, windows: template.windows(), refused };
            Ok(Enrolled { walk, status: shared.store.user(&user).await?.into() })
        })
        .await
    }

    /// Erases a user with all that is held about them.
    ///
    /// # Errors
    /// When there is no such user, or the database fails.
    pub async fn erase_user(&self, user: UserId) -> Result<(), ServiceError> {
        self.write(|shared| async move {
            shared.store.erase_user(&user).await?;
            shared.gallery_mut().replace(&user, None);
            shared.sessions().forget(&user);
            Ok(())
        })
        .await
    }

    /// Erases one walk of a user.
    ///
    /// # Errors
    /// When the user has no such walk, or the database fails.
    pub async fn erase_enrollment(&self, user: UserId, id: i64) -> Result<(), ServiceError> {
        self.write(move |shared| async move {
            shared.store.erase_enrollment(&user, id).await?;
            let mut left = Template::empty(shared.feature_len());
            for walk in shared.walks(&user).await? {
                left.add(&walk.template);
            }
            let left = (left.windows() > 0).then_some(&left);
            shared.gallery_mut().replace(&user, left);
            Ok(())
        })
        .await
    }

    /// Changes database and gallery, one change at a time, in a task of its own: a client that hangs
    /// up cannot part the two.
    async fn write<T, F>(
        &self,
        change: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> Result<T, ServiceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let _turn = shared.writing.lock().await;
            change(Arc::clone(&shared)).await
        });
        task.await.map_err(|_| PoolError::Failed)?
    }
}

impl Shared {
    async fn walks(&self, user: &UserId) -> Result<Vec<StoredTemplate>, StoreError> {
        self.store.templates_of(user, self.model.id(), self.feature_len()).await
    }
}

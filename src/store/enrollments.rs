//! Walks of users. Their templates are in `templates`.

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::UserId;

use super::sealed::Owner;
use super::sql::{query, query_as, query_scalar};
use super::text::Text;
use super::users::Consent;
use super::{AuditEvent, Store, StoreError, Transaction, unix_seconds};

/// A stored walk.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Enrollment {
    /// Its number.
    pub id: i64,
    /// Windows of walking, as the active model found them; 0 if it cannot read the walk, or its template
    /// is damaged.
    #[sqlx(try_from = "i64")]
    pub windows: u32,
    /// Id of the active model, if it can read the walk.
    pub model: Option<String>,
    /// The request that added it.
    #[sqlx(try_from = "Text<WalkSource>")]
    pub source: WalkSource,
    /// When it was added.
    pub created_at_unix_seconds: i64,
}

/// A walk that was just added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEnrollment {
    /// Its number.
    pub id: i64,
    /// The user's walks, this one included.
    pub enrollments: u64,
    /// The user's occasions, this one included.
    pub occasions: u64,
    /// When the user was created.
    pub user_created_at_unix_seconds: i64,
    /// The user's consent.
    pub consent: Option<Consent>,
}

/// A user before an enrollment.
#[derive(sqlx::FromRow)]
struct UserRow {
    key_id: Option<Vec<u8>>,
    created_at_unix_seconds: i64,
    walks: i64,
    enrolled: i64,
    /// Most enrollments of a user of their collection, if it has a limit of its own.
    most: Option<i64>,
}

impl From<Text<WalkSource>> for WalkSource {
    fn from(Text(source): Text<WalkSource>) -> Self {
        source
    }
}

impl Store {
    /// A user's walks, in the order of enrollment. Empty if the user does not exist.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn enrollments_of(&self, user: &UserId) -> Result<Vec<Enrollment>, StoreError> {
        let walks = query_as(
            "SELECT id, coalesce(windows, 0) AS windows, model, source,
             created_at_unix_seconds
             FROM enrollments LEFT JOIN templates ON enrollment_id = enrollments.id
             AND model = (SELECT models.id FROM models WHERE active) AND NOT damaged
             WHERE user_id = $1 ORDER BY enrollments.id",
        )
        .bind(user.as_str())
        .fetch_all(&self.readers)
        .await?;
        Ok(walks)
    }
}

impl Transaction {
    /// Adds an enrolled walk, unless the user has as many as the collection allows, or else `most`. A
    /// refusal changes nothing, so the transaction can continue.
    ///
    /// # Errors
    /// If the user does not exist, their key is missing, they have too many walks, or a statement fails.
    pub async fn add_enrollment(
        &mut self,
        user: &UserId,
        most: u64,
    ) -> Result<NewEnrollment, StoreError> {
        let found: Option<UserRow> = query_as(
            "SELECT key_id, users.created_at_unix_seconds, count(enrollments.id) AS walks,
             count(enrollments.id) FILTER (WHERE source = 'enrollment') AS enrolled,
             (SELECT max_enrollments_per_user FROM collections WHERE collections.id = collection)
             AS most
             FROM users LEFT JOIN enrollments ON user_id = users.id
             WHERE users.id = $1 GROUP BY users.id",
        )
        .bind(user.as_str())
        .fetch_optional(&mut self.inner)
        .await?;
        let found = found.ok_or_else(|| StoreError::NoSuchUser(user.clone()))?;
        let most = found.most.map_or(most, i64::unsigned_abs);
        if found.enrolled as u64 >= most {
            return Err(StoreError::TooManyEnrollments { user: user.clone(), most });
        }
        let owner = self.owner_with(user.as_str().to_owned(), found.key_id).await?;
        let id = self.insert_walk(user, WalkSource::Enrollment).await?;
        self.owner = Some(Owner { newest_walk: Some(id), ..owner });
        let (occasions, reference, given_at): (i64, Option<String>, Option<i64>) = query_as(
            "SELECT occasions, consent_reference, consent_at_unix_seconds
             FROM user_summaries JOIN users USING (id) WHERE id = $1",
        )
        .bind(user.as_str())
        .fetch_one(&mut self.inner)
        .await?;
        Ok(NewEnrollment {
            id,
            enrollments: found.walks as u64 + 1,
            occasions: occasions.unsigned_abs(),
            user_created_at_unix_seconds: found.created_at_unix_seconds,
            consent: Consent::of(reference, given_at),
        })
    }

    /// When a user's newest update was added.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn newest_update(&mut self, user: &UserId) -> Result<Option<i64>, StoreError> {
        let query = query_scalar(
            "SELECT max(created_at_unix_seconds) FROM enrollments
             WHERE user_id = $1 AND source = 'verification'",
        );
        Ok(query.bind(user.as_str()).fetch_one(&mut self.inner).await?)
    }

    /// Adds an update of a user, and returns its number. Keeps the `most` newest updates.
    /// [`Store::scrub`] is due after it.
    ///
    /// # Errors
    /// If the user does not exist, or a statement fails.
    pub async fn add_update(&mut self, user: &UserId, most: u32) -> Result<i64, StoreError> {
        let id = self.insert_walk(user, WalkSource::Verification).await?;
        query(
            "DELETE FROM enrollments WHERE id IN
             (SELECT id FROM enrollments WHERE user_id = $1 AND source = 'verification'
              ORDER BY id DESC LIMIT 1000000 OFFSET $2)",
        )
        .bind(user.as_str())
        .bind(most)
        .execute(&mut self.inner)
        .await?;
        Ok(id)
    }

    async fn insert_walk(&mut self, user: &UserId, source: WalkSource) -> Result<i64, StoreError> {
        let id: i64 = query_scalar(
            "INSERT INTO enrollments (user_id, source, created_at_unix_seconds)
             VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(user.as_str())
        .bind(Text(source))
        .bind(unix_seconds())
        .fetch_one(&mut self.inner)
        .await
        .map_err(|error| super::no_such_user(error, user))?;
        query("UPDATE users SET last_active_at_unix_seconds = $1 WHERE id = $2")
            .bind(unix_seconds())
            .bind(user.as_str())
            .execute(&mut self.inner)
            .await?;
        self.audit(match source {
            WalkSource::Enrollment => AuditEvent::Enrolled(user, id),
            WalkSource::Verification => AuditEvent::TemplateUpdated(user, id),
        })
        .await?;
        Ok(id)
    }

    /// Deletes a walk of a user. If it is an enrolled walk, all updates are deleted too, because it
    /// helped to accept them. [`Store::scrub`] is due after it.
    ///
    /// # Errors
    /// If the user has no such walk, or the statement fails.
    pub async fn erase_enrollment(&mut self, user: &UserId, id: i64) -> Result<(), StoreError> {
        self.store.release_reserve();
        let erased = query(
            "DELETE FROM enrollments WHERE user_id = $1 AND
             (id = $2 OR source = 'verification' AND EXISTS
              (SELECT 1 FROM enrollments
               WHERE user_id = $1 AND id = $2 AND source = 'enrollment'))",
        )
        .bind(user.as_str())
        .bind(id)
        .execute(&mut self.inner)
        .await?;
        if erased == 0 {
            return Err(StoreError::NoSuchEnrollment { user: user.clone(), id });
        }
        self.owner = None;
        self.audit(AuditEvent::EnrollmentDeleted(user, id)).await
    }
}

//! Failed verifications: by user and API key until the user is accepted, and by client for an hour.

use std::collections::BTreeMap;

use bipedalnet_core::identity::{CollectionId, UserId};

use super::sql::{Target, query, query_as};
use super::users::user_id;
use super::{Store, StoreError, Transaction, unix_seconds};

/// How long the failures of a client count, from the first on.
pub const CLIENT_SECONDS: i64 = 3600;

/// Failed verifications of a user with one API key.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct FailuresByKey {
    /// Id of the API key.
    pub api_key: String,
    /// Their number.
    #[sqlx(try_from = "i64")]
    pub failures: u32,
    /// When the last one was.
    pub last_at_unix_seconds: i64,
}

/// Failed verifications of a client, for all users.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ClientFailures {
    /// The API key or the address.
    pub client: String,
    /// Their number within [`CLIENT_SECONDS`].
    #[sqlx(try_from = "i64")]
    pub failures: u32,
    /// When the first one was.
    pub since_unix_seconds: i64,
}

impl Store {
    /// A user's failed verifications, by API key.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn failures_of_user(&self, user: &UserId) -> Result<Vec<FailuresByKey>, StoreError> {
        failures_of_user(user, &self.readers).await
    }

    /// The failed verifications of these clients in the last hour.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn failures_of_clients(
        &self,
        clients: &[String; 2],
    ) -> Result<Vec<ClientFailures>, StoreError> {
        failures_of_clients(clients, &self.readers).await
    }

    /// Users of a collection, or of all, with at least `most` failed verifications in all, or `most_of_key`
    /// with one API key: at most `limit`, in the order of their ids.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn locked_users(
        &self,
        collection: Option<&CollectionId>,
        most: u32,
        most_of_key: u32,
        limit: u32,
    ) -> Result<BTreeMap<UserId, Vec<FailuresByKey>>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            user_id: String,
            #[sqlx(flatten)]
            failures: FailuresByKey,
        }
        let rows: Vec<Row> = query_as(
            "SELECT * FROM failed_verifications WHERE user_id IN
             (SELECT user_id FROM failed_verifications WHERE $4 IS NULL OR EXISTS
              (SELECT 1 FROM users WHERE users.id = user_id AND collection = $4)
              GROUP BY user_id HAVING sum(failures) >= $1 OR max(failures) >= $2
              ORDER BY user_id LIMIT +$3)
             ORDER BY user_id, api_key",
        )
        .bind(most)
        .bind(most_of_key)
        .bind(limit)
        .bind(collection.map(CollectionId::as_str))
        .fetch_all(&self.readers)
        .await?;
        let mut users: BTreeMap<UserId, Vec<FailuresByKey>> = BTreeMap::new();
        for Row { user_id: user, failures } in rows {
            users.entry(user_id(&self.path, user)?).or_default().push(failures);
        }
        Ok(users)
    }

    /// Forgets clients without a failure in the last hour.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn forget_failing_clients(&self) -> Result<(), StoreError> {
        let forgotten = query("DELETE FROM failing_clients WHERE since_unix_seconds <= $1")
            .bind(unix_seconds() - CLIENT_SECONDS);
        self.write(forgotten.execute(&self.writer)).await?;
        Ok(())
    }
}

impl Transaction {
    /// As [`Store::failures_of_user`], as this transaction leaves them.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn failures_of_user(
        &mut self,
        user: &UserId,
    ) -> Result<Vec<FailuresByKey>, StoreError> {
        failures_of_user(user, &mut self.inner).await
    }

    /// As [`Store::failures_of_clients`], as this transaction leaves them.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn failures_of_clients(
        &mut self,
        clients: &[String; 2],
    ) -> Result<Vec<ClientFailures>, StoreError> {
        failures_of_clients(clients, &mut self.inner).await
    }

    /// Counts a failed verification.
    ///
    /// # Errors
    /// If the user does not exist, or a statement fails.
    pub async fn add_failure(
        &mut self,
        user: &UserId,
        api_key: &str,
        clients: &[String; 2],
    ) -> Result<(), StoreError> {
        let now = unix_seconds();
        query(
            "INSERT INTO failed_verifications VALUES ($1, $2, 1, $3)
             ON CONFLICT (user_id, api_key) DO UPDATE
             SET failures = failed_verifications.failures + 1,
             last_at_unix_seconds = excluded.last_at_unix_seconds",
        )
        .bind(user.as_str())
        .bind(api_key)
        .bind(now)
        .execute(&mut self.inner)
        .await
        .map_err(|error| super::no_such_user(error, user))?;
        for client in clients {
            query(
                "INSERT INTO failing_clients VALUES ($1, 1, $2)
                 ON CONFLICT (client) DO UPDATE SET
                 failures = CASE WHEN failing_clients.since_unix_seconds > $2 - $3
                     THEN failing_clients.failures + 1 ELSE 1 END,
                 since_unix_seconds = CASE WHEN failing_clients.since_unix_seconds > $2 - $3
                     THEN failing_clients.since_unix_seconds ELSE $2 END",
            )
            .bind(client)
            .bind(now)
            .bind(CLIENT_SECONDS)
            .execute(&mut self.inner)
            .await?;
        }
        Ok(())
    }

    /// Forgets the failed verifications of a user, and returns whether there were any.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn forget_failures(&mut self, user: &UserId) -> Result<bool, StoreError> {
        let forgotten = query("DELETE FROM failed_verifications WHERE user_id = $1")
            .bind(user.as_str())
            .execute(&mut self.inner)
            .await?;
        Ok(forgotten > 0)
    }
}

async fn failures_of_user<'c>(
    user: &UserId,
    connection: impl Into<Target<'c>>,
) -> Result<Vec<FailuresByKey>, StoreError> {
    let query = query_as(
        "SELECT api_key, failures, last_at_unix_seconds FROM failed_verifications
         WHERE user_id = $1",
    );
    Ok(query.bind(user.as_str()).fetch_all(connection).await?)
}

async fn failures_of_clients<'c>(
    clients: &[String; 2],
    connection: impl Into<Target<'c>>,
) -> Result<Vec<ClientFailures>, StoreError> {
    let query = query_as(
        "SELECT * FROM failing_clients WHERE client IN ($1, $2) AND since_unix_seconds > $3",
    );
    let [key, address] = clients;
    let query = query.bind(key).bind(address).bind(unix_seconds() - CLIENT_SECONDS);
    Ok(query.fetch_all(connection).await?)
}

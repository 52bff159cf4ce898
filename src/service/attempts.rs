//! Limits on guessing by verification (NIST SP 800-63B-4, section 3.2.2, "Rate limiting").
//!
//! A user has few failed verifications until the next one is delayed, and at most
//! `max_failed_verifications` until the user is locked. One API key can use up only half of them, so
//! that it cannot lock a user out for the other keys. A genuine accept starts again. A key or an
//! address has a number of failures an hour, for all users together, so that it cannot try one guess
//! on each of them.
//!
//! Failures with a token count for the API key that made it, so that a key gets no more attempts by
//! tokens.
//!
//! A server without API keys has no limits: everybody may export templates there.

use std::sync::Arc;

use bipedalnet_core::identity::{CollectionId, UserId};

use super::ServiceError;
use super::idempotency::Reservation;
use super::write::{Write, Writes};
use crate::access::Principal;
use crate::config::{Live, ServiceSettings};
use crate::store::{
    AuditEvent, CLIENT_SECONDS, ClientFailures, FailuresByKey, Store, StoreError, unix_seconds,
};
use crate::telemetry::Metrics;

/// Failures without a delay.
const FREE_FAILURES: u32 = 5;

/// The first delay. Each further one is twice as long.
const FIRST_DELAY_SECONDS: i64 = 30;

const LONGEST_DELAY_SECONDS: i64 = 900;

/// Locked users in one list.
const MOST_LISTED: u32 = 1000;

/// Why a verification is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuessLimit {
    /// The user's last verifications with this API key failed.
    #[error("the last verifications of this user failed; wait {seconds} s")]
    Delayed {
        /// Time to wait.
        seconds: u64,
    },
    /// The user is locked, at least for this API key.
    #[error("too many verifications of this user failed, so the user is locked")]
    Locked,
    /// Too many verifications failed for this API key.
    #[error("{failures} verifications with this API key failed within an hour; wait {seconds} s")]
    Key {
        /// Number of failures.
        failures: u32,
        /// Time to wait.
        seconds: u64,
    },
    /// Too many verifications failed for this address.
    #[error("{failures} verifications from this address failed within an hour; wait {seconds} s")]
    Address {
        /// Number of failures.
        failures: u32,
        /// Time to wait.
        seconds: u64,
    },
}

/// A user who is locked for all API keys, or for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The user.
    pub user: UserId,
    /// Failed verifications since the last genuine accept.
    pub failures: u32,
    /// When the last one was.
    pub last_at_unix_seconds: i64,
    /// Whether the user is locked for all API keys.
    pub for_all_keys: bool,
    /// Ids of the API keys that the user is locked for by their own failures.
    pub for_keys: Vec<String>,
}

/// Counts failed verifications.
#[derive(Clone)]
pub struct Attempts {
    pub(super) store: Store,
    pub(super) settings: Live<ServiceSettings>,
    pub(super) writes: Writes,
    pub(super) metrics: Arc<Metrics>,
}

/// What a verification means for the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The walk matches at the strictest rate, and is new.
    Genuine,
    /// It tells a guesser something, and did not succeed.
    Failed,
    /// Neither.
    Neutral,
}

impl Attempts {
    /// Refuses a verification that is one too many.
    ///
    /// # Errors
    /// If a limit is reached, or the database fails.
    pub(super) async fn check(
        &self,
        user: &UserId,
        principal: &Principal,
    ) -> Result<(), ServiceError> {
        if principal.is_anonymous() {
            return Ok(());
        }
        let of_user = self.store.failures_of_user(user).await?;
        let of_clients = self.store.failures_of_clients(&clients(principal)).await?;
        self.refuse(principal, &of_user, &of_clients)
    }

    /// As [`Attempts::check`], now that no other write is under way. Then counts the verification.
    ///
    /// # Errors
    /// As [`Attempts::check`].
    pub(super) async fn count(
        &self,
        write: &mut Write,
        user: &UserId,
        principal: &Principal,
        attempt: Attempt,
    ) -> Result<(), ServiceError> {
        if principal.is_anonymous() {
            return Ok(());
        }
        let (transaction, clients) = (&mut write.transaction, clients(principal));
        let of_user = transaction.failures_of_user(user).await?;
        let of_clients = transaction.failures_of_clients(&clients).await?;
        self.refuse(principal, &of_user, &of_clients)?;
        match attempt {
            Attempt::Neutral => {}
            Attempt::Genuine if of_user.is_empty() => {}
            Attempt::Genuine => {
                transaction.forget_failures(user).await?;
            }
            Attempt::Failed => {
                transaction.add_failure(user, &principal.key, &clients).await?;
                let after = transaction.failures_of_user(user).await?;
                if self.is_locked(&after, principal) {
                    transaction.audit(AuditEvent::UserLocked(user)).await?;
                    write.after_commit(|| {
                        tracing::warn!("a user is locked: too many verifications failed");
                    });
                }
            }
        }
        Ok(())
    }

    fn refuse(
        &self,
        principal: &Principal,
        of_user: &[FailuresByKey],
        of_clients: &[ClientFailures],
    ) -> Result<(), ServiceError> {
        let now = unix_seconds();
        let refused = &self.metrics.guesses;
        if self.is_locked(of_user, principal) {
            refused.locked.inc();
            return Err(GuessLimit::Locked.into());
        }
        let of_key = of_user.iter().find(|of_key| of_key.api_key == principal.key);
        if let Some(seconds) = of_key.and_then(|of_key| delay(of_key, now)) {
            refused.delayed.inc();
            return Err(GuessLimit::Delayed { seconds }.into());
        }
        let most = self.settings.get().failed_verifications_per_hour;
        let is_key = |client: &&ClientFailures| client.client == key_client(principal);
        let exhausted = of_clients.iter().filter(|client| most > 0 && client.failures >= most);
        // Of the two, the key.
        let Some(client) = exhausted.max_by_key(is_key) else { return Ok(()) };
        let failures = client.failures;
        let end = client.since_unix_seconds + CLIENT_SECONDS;
        let seconds = (end - now).clamp(1, CLIENT_SECONDS) as u64;
        Err(if is_key(&client) {
            refused.key.inc();
            GuessLimit::Key { failures, seconds }.into()
        } else {
            refused.address.inc();
            GuessLimit::Address { failures, seconds }.into()
        })
    }

    fn is_locked(&self, of_user: &[FailuresByKey], principal: &Principal) -> bool {
        let most = self.settings.get().max_failed_verifications;
        let of_key = of_user.iter().find(|of_key| of_key.api_key == principal.key);
        total(of_user) >= most || of_key.is_some_and(|of_key| of_key.failures >= share(most))
    }

    /// Locked users of a collection, or of all, in the order of their ids: at most 1,000.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn locks(&self, collection: Option<&CollectionId>) -> Result<Vec<Lock>, StoreError> {
        let most = self.settings.get().max_failed_verifications;
        let users = self.store.locked_users(collection, most, share(most), MOST_LISTED).await?;
        let lock = |(user, by_key): (UserId, Vec<FailuresByKey>)| Lock {
            user,
            failures: total(&by_key),
            last_at_unix_seconds: by_key
                .iter()
                .map(|it| it.last_at_unix_seconds)
                .max()
                .unwrap_or(0),
            for_all_keys: total(&by_key) >= most,
            for_keys: by_key
                .into_iter()
                .filter(|of_key| of_key.failures >= share(most))
                .map(|of_key| of_key.api_key)
                .collect(),
        };
        Ok(users.into_iter().map(lock).collect())
    }

    /// Forgets a user's failed verifications, so that they are neither locked nor delayed.
    ///
    /// # Errors
    /// If the user does not exist, or the database fails.
    pub async fn release(
        &self,
        reservation: Reservation,
        user: UserId,
    ) -> Result<Write, ServiceError> {
        let mut write = self.writes.begin(reservation).await?;
        write.transaction.user(&user).await?;
        write.transaction.forget_failures(&user).await?;
        // They may hold walks of the guesser.
        write.transaction.forget_sessions(&user).await?;
        write.transaction.audit(AuditEvent::UserUnlocked(&user)).await?;
        write.named_users.insert(user);
        Ok(write)
    }
}

/// Most failures with one API key.
fn share(most: u32) -> u32 {
    most.div_ceil(2)
}

fn total(by_key: &[FailuresByKey]) -> u32 {
    by_key.iter().map(|of_key| of_key.failures).sum()
}

/// Seconds until the next verification is allowed. `None` if it is.
fn delay(of_key: &FailuresByKey, now_unix_seconds: i64) -> Option<u64> {
    let doublings = of_key.failures.checked_sub(FREE_FAILURES)?;
    let delay = FIRST_DELAY_SECONDS << doublings.min(16);
    // A clock that was set back does not lengthen the delay.
    let passed = (now_unix_seconds - of_key.last_at_unix_seconds).max(0);
    let left = delay.min(LONGEST_DELAY_SECONDS) - passed;
    (left > 0).then_some(left as u64)
}

fn clients(principal: &Principal) -> [String; 2] {
    let address = principal.network.map_or_else(String::new, |network| network.to_string());
    [key_client(principal), format!("address {address}")]
}

fn key_client(principal: &Principal) -> String {
    format!("key {}", principal.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(failures: u32) -> FailuresByKey {
        FailuresByKey { api_key: "a".into(), failures, last_at_unix_seconds: 1000 }
    }

    #[test]
    fn a_delay_grows_from_thirty_seconds_to_fifteen_minutes() {
        let after = |number| delay(&failures(number), 1000);
        assert_eq!([1, 4].map(after), [None; 2]);
        assert_eq!([5, 6, 7, 9, 10, 1000].map(after), [30, 60, 120, 480, 900, 900].map(Some));
        assert_eq!(delay(&failures(5), 1029), Some(1));
        assert_eq!(delay(&failures(5), 1030), None);
        assert_eq!(delay(&failures(5), 0), Some(30), "the clock was set back");
    }
}

//! Nonces that make a verification good once: a request overheard yesterday has none that is still
//! good.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Service, ServiceError, Shared};
use crate::access::random_hex;
use crate::identity::UserId;

/// How long a challenge is good: time to walk, and to send it over a bad network.
const GOOD_FOR: Duration = Duration::from_secs(120);

/// Challenges that are open at a time, of all users.
const MAX_OPEN: usize = 16_384;

/// Challenges that were given and not yet used.
#[derive(Default)]
pub(super) struct Challenges {
    open: HashMap<String, (UserId, Instant)>,
}

/// A nonce, to be sent with a verification of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The nonce.
    pub nonce: String,
    /// How long it is good.
    pub good_for: Duration,
}

impl Challenges {
    fn add(&mut self, nonce: String, user: UserId, now: Instant) -> Result<(), ServiceError> {
        if self.open.len() >= MAX_OPEN {
            self.open.retain(|_, (_, end)| now < *end);
        }
        if self.open.len() >= MAX_OPEN {
            return Err(ServiceError::TooManyChallenges);
        }
        self.open.insert(nonce, (user, now + GOOD_FOR));
        Ok(())
    }

    /// Whether a challenge is good for the user.
    pub fn is_good(&self, nonce: &str, user: &UserId, now: Instant) -> bool {
        self.open.get(nonce).is_some_and(|(owner, end)| owner == user && now < *end)
    }

    /// Uses a challenge up; tells whether it was good for the user. Another user's stays good: a
    /// guess must not use it up.
    pub fn redeem(&mut self, nonce: &str, user: &UserId, now: Instant) -> bool {
        let good = self.is_good(nonce, user, now);
        if good {
            self.open.remove(nonce);
        }
        good
    }

    /// Drops a user's challenges.
    pub fn forget(&mut self, user: &UserId) {
        self.open.retain(|_, (owner, _)| owner != user);
    }
}

impl Service {
    /// A new challenge for a verification of a user.
    ///
    /// # Errors
    /// When there is no such user, or too many challenges are open.
    pub async fn challenge(&self, user: &UserId) -> Result<Challenge, ServiceError> {
        self.user(user).await?;
        let nonce = random_hex::<16>()?;
        self.shared.challenges().add(nonce.clone(), user.clone(), Instant::now())?;
        Ok(Challenge { nonce, good_for: GOOD_FOR })
    }
}

impl Shared {
    pub(super) fn challenges(&self) -> MutexGuard<'_, Challenges> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_for_its_user_and_for_a_time() {
        let mut challenges = Challenges::default();
        let (ann, bob): (UserId, UserId) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let now = Instant::now();
        for nonce in ["a", "b", "c"] {
            challenges.add(nonce.to_owned(), ann.clone(), now).unwrap();
        }
        assert!(!challenges.redeem("a", &bob, now));
        assert!(challenges.redeem("a", &ann, now));
        assert!(!challenges.redeem("a", &ann, now), "used");
        assert!(!challenges.redeem("b", &ann, now + GOOD_FOR), "expired");
        challenges.forget(&ann);
        assert!(!challenges.redeem("c", &ann, now), "forgotten");
    }

    #[test]
    fn open_challenges_are_bounded_and_expired_ones_make_room() {
        let mut challenges = Challenges::default();
        let ann: UserId = "ann".parse().unwrap();
        let now = Instant::now();
        for number in 0..MAX_OPEN {
            challenges.add(number.to_string(), ann.clone(), now).unwrap();
        }
        assert!(matches!(
            challenges.add("more".into(), ann.clone(), now),
            Err(ServiceError::TooManyChallenges)
        ));
        challenges.add("later".into(), ann, now + GOOD_FOR).unwrap();
        assert_eq!(challenges.open.len(), 1);
    }
}

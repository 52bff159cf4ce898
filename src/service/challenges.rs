//! Nonces that make a verification good once: a request overheard yesterday has none that is still
//! good.

use std::collections::{HashMap, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Service, ServiceError, Shared};
use crate::access::random_hex;
use bipedalnet_core::identity::UserId;

/// How long a challenge is good: time to walk, and to send it over a bad network.
const GOOD_FOR: Duration = Duration::from_secs(120);

/// Challenges that are open at a time, of all users.
const MAX_OPEN: usize = 65_536;

/// Challenges of one user that are open at a time; the oldest makes room.
const MAX_OPEN_OF_USER: usize = 8;

/// Challenges that were given and not yet used.
#[derive(Default)]
pub(super) struct Challenges {
    /// Each with its end, the oldest first.
    open: HashMap<UserId, VecDeque<(String, Instant)>>,
    count: usize,
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
        if self.count >= MAX_OPEN {
            self.sweep(now);
        }
        if self.count >= MAX_OPEN {
            return Err(ServiceError::TooManyChallenges);
        }
        let of_user = self.open.entry(user).or_default();
        if of_user.len() == MAX_OPEN_OF_USER {
            of_user.pop_front();
            self.count -= 1;
        }
        of_user.push_back((nonce, now + GOOD_FOR));
        self.count += 1;
        Ok(())
    }

    /// Whether a challenge is good for the user.
    pub fn is_good(&self, nonce: &str, user: &UserId, now: Instant) -> bool {
        let of_user = self.open.get(user).into_iter().flatten();
        of_user.into_iter().any(|(open, end)| open == nonce && now < *end)
    }

    /// Uses a challenge up.
    pub fn redeem(&mut self, nonce: &str, user: &UserId) {
        self.retain(|owner, open, _| owner != user || open != nonce);
    }

    /// Drops a user's challenges.
    pub fn forget(&mut self, user: &UserId) {
        self.retain(|owner, _, _| owner != user);
    }

    /// Drops challenges that are too old.
    pub fn sweep(&mut self, now: Instant) {
        self.retain(|_, _, end| now < end);
    }

    fn retain(&mut self, keeps: impl Fn(&UserId, &str, Instant) -> bool) {
        self.open.retain(|user, of_user| {
            of_user.retain(|(nonce, end)| keeps(user, nonce, *end));
            !of_user.is_empty()
        });
        self.count = self.open.values().map(VecDeque::len).sum();
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

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn a_challenge_is_good_once_for_its_user_and_for_a_time() {
        let mut challenges = Challenges::default();
        let (ann, bob) = (user("ann"), user("bob"));
        let now = Instant::now();
        for nonce in ["a", "b", "c"] {
            challenges.add(nonce.to_owned(), ann.clone(), now).unwrap();
        }
        challenges.redeem("a", &bob);
        assert!(!challenges.is_good("a", &bob, now));
        assert!(challenges.is_good("a", &ann, now));
        challenges.redeem("a", &ann);
        assert!(!challenges.is_good("a", &ann, now), "used");
        assert!(challenges.is_good("b", &ann, now));
        assert!(!challenges.is_good("b", &ann, now + GOOD_FOR), "expired");
        challenges.forget(&ann);
        assert!(!challenges.is_good("c", &ann, now), "forgotten");
        assert_eq!(challenges.count, 0);
    }

    #[test]
    fn open_challenges_are_bounded_and_old_ones_make_room() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        for number in 0..=MAX_OPEN_OF_USER {
            challenges.add(number.to_string(), user("ann"), now).unwrap();
        }
        assert!(!challenges.is_good("0", &user("ann"), now));
        assert!(challenges.is_good("1", &user("ann"), now));
        for number in MAX_OPEN_OF_USER..MAX_OPEN {
            challenges.add("x".into(), user(&format!("user{number}")), now).unwrap();
        }
        assert!(matches!(
            challenges.add("more".into(), user("bob"), now),
            Err(ServiceError::TooManyChallenges)
        ));
        challenges.add("later".into(), user("bob"), now + GOOD_FOR).unwrap();
        assert_eq!(challenges.count, 1);
    }
}

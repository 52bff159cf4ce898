//! Nonces that make each verification unique: a recorded request has none that is still valid.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bipedalnet_core::identity::UserId;

use super::ServiceError;
use crate::access::random_hex;
use crate::store::Store;

/// How long a challenge is valid: time to walk, and to send the walk over a bad network.
const VALID_FOR: Duration = Duration::from_secs(120);

/// Open challenges of all users.
const MAX_OPEN: usize = 65_536;

/// Open challenges of one user. The oldest makes room.
const MAX_OPEN_OF_USER: usize = 8;

/// Creates challenges. Clones share the open ones.
#[derive(Clone)]
pub struct Challenges {
    store: Store,
    open: Arc<Mutex<OpenChallenges>>,
}

/// Challenges that are not used yet.
#[derive(Default)]
pub(super) struct OpenChallenges {
    /// Each with its end, the oldest first.
    by_user: HashMap<UserId, VecDeque<(String, Instant)>>,
    count: usize,
}

/// A nonce for one verification of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The client sends it with the verification.
    pub nonce: String,
    /// How long it is valid.
    pub valid_for: Duration,
}

impl OpenChallenges {
    fn add(&mut self, nonce: String, user: UserId, now: Instant) -> Result<(), ServiceError> {
        if self.count >= MAX_OPEN {
            self.sweep(now);
        }
        if self.count >= MAX_OPEN {
            return Err(ServiceError::TooManyChallenges);
        }
        let of_user = self.by_user.entry(user).or_default();
        if of_user.len() == MAX_OPEN_OF_USER {
            of_user.pop_front();
            self.count -= 1;
        }
        of_user.push_back((nonce, now + VALID_FOR));
        self.count += 1;
        Ok(())
    }

    /// Whether a challenge is valid for the user.
    pub fn is_valid(&self, nonce: &str, user: &UserId, now: Instant) -> bool {
        let of_user = self.by_user.get(user).into_iter().flatten();
        of_user.into_iter().any(|(open, end)| open == nonce && now < *end)
    }

    /// Uses up a challenge.
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
        self.by_user.retain(|user, of_user| {
            of_user.retain(|(nonce, end)| keeps(user, nonce, *end));
            !of_user.is_empty()
        });
        self.count = self.by_user.values().map(VecDeque::len).sum();
    }
}

impl Challenges {
    pub(super) fn new(store: Store) -> Self {
        Self { store, open: Arc::default() }
    }

    /// Creates a challenge for a verification of a user.
    ///
    /// # Errors
    /// If the user does not exist, too many challenges are open, or the database fails.
    pub async fn create(&self, user: &UserId) -> Result<Challenge, ServiceError> {
        self.store.user(user).await?;
        let nonce = random_hex::<16>()?;
        self.open().add(nonce.clone(), user.clone(), Instant::now())?;
        Ok(Challenge { nonce, valid_for: VALID_FOR })
    }

    pub(super) fn open(&self) -> MutexGuard<'_, OpenChallenges> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn a_challenge_is_valid_once_for_its_user_and_for_a_time() {
        let mut challenges = OpenChallenges::default();
        let (ann, bob) = (user("ann"), user("bob"));
        let now = Instant::now();
        for nonce in ["a", "b", "c"] {
            challenges.add(nonce.to_owned(), ann.clone(), now).unwrap();
        }
        challenges.redeem("a", &bob);
        assert!(!challenges.is_valid("a", &bob, now));
        assert!(challenges.is_valid("a", &ann, now));
        challenges.redeem("a", &ann);
        assert!(!challenges.is_valid("a", &ann, now), "used");
        assert!(challenges.is_valid("b", &ann, now));
        assert!(!challenges.is_valid("b", &ann, now + VALID_FOR), "expired");
        challenges.forget(&ann);
        assert!(!challenges.is_valid("c", &ann, now), "forgotten");
        assert_eq!(challenges.count, 0);
    }

    #[test]
    fn open_challenges_are_bounded_and_old_ones_make_room() {
        let mut challenges = OpenChallenges::default();
        let now = Instant::now();
        for number in 0..=MAX_OPEN_OF_USER {
            challenges.add(number.to_string(), user("ann"), now).unwrap();
        }
        assert!(!challenges.is_valid("0", &user("ann"), now));
        assert!(challenges.is_valid("1", &user("ann"), now));
        for number in MAX_OPEN_OF_USER..MAX_OPEN {
            challenges.add("x".into(), user(&format!("user{number}")), now).unwrap();
        }
        assert!(matches!(
            challenges.add("more".into(), user("bob"), now),
            Err(ServiceError::TooManyChallenges)
        ));
        challenges.add("later".into(), user("bob"), now + VALID_FOR).unwrap();
        assert_eq!(challenges.count, 1);
    }
}

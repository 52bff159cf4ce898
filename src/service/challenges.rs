//! Nonces that make each verification unique: a recorded request has none that is still valid.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bipedalnet_core::identity::UserId;

use super::ServiceError;
use super::active_model::ActiveModel;
use crate::access::{Principal, random_hex};
use crate::store::Store;

/// How long a challenge is valid: time to walk, and to send the walk over a bad network.
const VALID_FOR: Duration = Duration::from_secs(120);

/// Open challenges of all users.
const MAX_OPEN: usize = 65_536;

/// Open challenges of one user that one API key created. The oldest makes room.
const MAX_OPEN_OF_USER: usize = 8;

/// Creates challenges. Clones share the open ones.
#[derive(Clone)]
pub struct Challenges {
    store: Store,
    active: ActiveModel,
    open: Arc<Mutex<OpenChallenges>>,
}

/// Challenges that are not used yet.
#[derive(Default)]
pub(super) struct OpenChallenges {
    /// Each with its end, the oldest first.
    by_owner: HashMap<Owner, VecDeque<(String, Instant)>>,
    count: usize,
}

/// Who may use a challenge: it is for a user, and for the API key that created it and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub user: UserId,
    /// Id of the API key, or empty.
    pub key: String,
}

/// A nonce for one verification of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The client sends it with the verification.
    pub nonce: String,
    /// How long it is valid.
    pub valid_for: Duration,
    /// Id of the active model, which features must be from.
    pub model: String,
}

impl OpenChallenges {
    fn add(&mut self, nonce: String, owner: Owner, now: Instant) -> Result<(), ServiceError> {
        if self.count >= MAX_OPEN {
            self.sweep(now);
        }
        if self.count >= MAX_OPEN {
            return Err(ServiceError::TooManyChallenges);
        }
        let of_owner = self.by_owner.entry(owner).or_default();
        if of_owner.len() == MAX_OPEN_OF_USER {
            of_owner.pop_front();
            self.count -= 1;
        }
        of_owner.push_back((nonce, now + VALID_FOR));
        self.count += 1;
        Ok(())
    }

    /// Whether a challenge is valid for its owner.
    pub fn is_valid(&self, nonce: &str, owner: &Owner, now: Instant) -> bool {
        let of_owner = self.by_owner.get(owner).into_iter().flatten();
        of_owner.into_iter().any(|(open, end)| open == nonce && now < *end)
    }

    /// Uses up a challenge.
    pub fn redeem(&mut self, nonce: &str, owner: &Owner) {
        self.retain(|other, open, _| other != owner || open != nonce);
    }

    /// Drops a user's challenges.
    pub fn forget(&mut self, user: &UserId) {
        self.retain(|owner, _, _| owner.user != *user);
    }

    /// Drops challenges that are too old.
    pub fn sweep(&mut self, now: Instant) {
        self.retain(|_, _, end| now < end);
    }

    fn retain(&mut self, keeps: impl Fn(&Owner, &str, Instant) -> bool) {
        self.by_owner.retain(|owner, of_owner| {
            of_owner.retain(|(nonce, end)| keeps(owner, nonce, *end));
            !of_owner.is_empty()
        });
        self.count = self.by_owner.values().map(VecDeque::len).sum();
    }
}

impl Challenges {
    pub(super) fn new(store: Store, active: ActiveModel) -> Self {
        Self { store, active, open: Arc::default() }
    }

    /// Creates a challenge for a verification of a user with the same API key.
    ///
    /// # Errors
    /// If the user does not exist, too many challenges are open, or the database fails.
    pub async fn create(
        &self,
        user: UserId,
        principal: &Principal,
    ) -> Result<Challenge, ServiceError> {
        self.store.user(&user).await?;
        let nonce = random_hex::<16>()?;
        let owner = Owner { user, key: principal.key.clone() };
        self.open().add(nonce.clone(), owner, Instant::now())?;
        let model = self.active.get().id().to_owned();
        Ok(Challenge { nonce, valid_for: VALID_FOR, model })
    }

    pub(super) fn open(&self) -> MutexGuard<'_, OpenChallenges> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &str) -> Owner {
        Owner { user: user.parse().unwrap(), key: "a".to_owned() }
    }

    #[test]
    fn a_challenge_is_valid_once_for_its_user_and_for_a_time() {
        let mut challenges = OpenChallenges::default();
        let (ann, bob) = (owner("ann"), owner("bob"));
        let other_key = Owner { key: "b".to_owned(), ..ann.clone() };
        let now = Instant::now();
        for nonce in ["a", "b", "c"] {
            challenges.add(nonce.to_owned(), ann.clone(), now).unwrap();
        }
        challenges.redeem("a", &bob);
        challenges.redeem("a", &other_key);
        assert!(!challenges.is_valid("a", &bob, now));
        assert!(!challenges.is_valid("a", &other_key, now));
        assert!(challenges.is_valid("a", &ann, now));
        challenges.redeem("a", &ann);
        assert!(!challenges.is_valid("a", &ann, now), "used");
        assert!(challenges.is_valid("b", &ann, now));
        assert!(!challenges.is_valid("b", &ann, now + VALID_FOR), "expired");
        challenges.forget(&ann.user);
        assert!(!challenges.is_valid("c", &ann, now), "forgotten");
        assert_eq!(challenges.count, 0);
    }

    #[test]
    fn open_challenges_are_bounded_and_old_ones_make_room() {
        let mut challenges = OpenChallenges::default();
        let now = Instant::now();
        for number in 0..=MAX_OPEN_OF_USER {
            challenges.add(number.to_string(), owner("ann"), now).unwrap();
        }
        assert!(!challenges.is_valid("0", &owner("ann"), now));
        assert!(challenges.is_valid("1", &owner("ann"), now));
        let other_key = Owner { key: "b".to_owned(), ..owner("ann") };
        challenges.add("of another key".into(), other_key, now).unwrap();
        assert!(challenges.is_valid("1", &owner("ann"), now), "other keys make no room");
        for number in MAX_OPEN_OF_USER + 1..MAX_OPEN {
            challenges.add("x".into(), owner(&format!("user{number}")), now).unwrap();
        }
        assert!(matches!(
            challenges.add("more".into(), owner("bob"), now),
            Err(ServiceError::TooManyChallenges)
        ));
        challenges.add("later".into(), owner("bob"), now + VALID_FOR).unwrap();
        assert_eq!(challenges.count, 1);
    }
}

//! Verifications whose evidence comes in several requests.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::identity::{Template, UserId};

/// Sessions kept at a time; the one that was quiet longest makes room.
const MAX_SESSIONS: usize = 4096;

/// Walks that a session remembers; the oldest makes room.
const MAX_WALKS: usize = 16;

/// A session that is quiet for so long is over: someone else may carry the phone by then.
const QUIET: Duration = Duration::from_secs(300);

/// Name of a session, chosen by the client: as a [`UserId`] is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(UserId);

/// A session as it is kept apart from others: principals cannot see into each other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    /// Id of the API key, or empty.
    pub principal: String,
    pub user: UserId,
    pub session: SessionId,
}

impl FromStr for SessionId {
    type Err = <UserId as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Open sessions of all users. They end where another model takes over: walks of two models do not
/// add up.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<SessionKey, Session>,
}

struct Session {
    last_used: Instant,
    walks: Vec<Template>,
}

impl Sessions {
    /// Whether a session holds a walk already: then it is a retry.
    pub fn holds(&self, key: &SessionKey, walk: &Template) -> bool {
        self.open.get(key).is_some_and(|session| {
            session.last_used.elapsed() < QUIET && session.walks.contains(walk)
        })
    }

    /// Adds a walk to a session and gives all of its walks as one. A walk that is there already
    /// is a retry, and counts once.
    pub fn add(&mut self, key: SessionKey, walk: Template) -> Template {
        let now = Instant::now();
        if !self.open.contains_key(&key) && self.open.len() == MAX_SESSIONS {
            self.open.retain(|_, session| now - session.last_used < QUIET);
            let quietest = self.open.iter().min_by_key(|(_, session)| session.last_used);
            if self.open.len() == MAX_SESSIONS
                && let Some((key, _)) = quietest
            {
                let key = key.clone();
                self.open.remove(&key);
            }
        }
        let session =
            self.open.entry(key).or_insert_with(|| Session { last_used: now, walks: Vec::new() });
        if now - session.last_used >= QUIET {
            session.walks.clear();
        }
        session.last_used = now;
        let mut sum = Template::empty(walk.values().len());
        if !session.walks.contains(&walk) {
            if session.walks.len() == MAX_WALKS {
                session.walks.remove(0);
            }
            session.walks.push(walk);
        }
        session.walks.iter().for_each(|walk| sum.add(walk));
        sum
    }

    /// Drops a user's sessions.
    pub fn forget(&mut self, user: &UserId) {
        self.open.retain(|key, _| key.user != *user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(value: f32) -> Template {
        let mut walk = Template::empty(2);
        walk.add_window(&[value, 1.0]);
        walk
    }

    fn named(user: &str, session: &str) -> SessionKey {
        let (user, session) = (user.parse().unwrap(), session.parse().unwrap());
        SessionKey { principal: String::new(), user, session }
    }

    #[test]
    fn each_walk_of_a_session_counts_once() {
        let mut sessions = Sessions::default();
        let one = named("ann", "one");
        assert!(!sessions.holds(&one, &walk(1.0)));
        assert_eq!(sessions.add(one.clone(), walk(1.0)), walk(1.0));
        assert!(sessions.holds(&one, &walk(1.0)));
        assert_eq!(sessions.add(one.clone(), walk(1.0)).windows(), 1);
        assert_eq!(sessions.add(one.clone(), walk(2.0)).windows(), 2);
        assert_eq!(sessions.add(named("bob", "one"), walk(3.0)).windows(), 1);
        let of_another_key = SessionKey { principal: "key".to_owned(), ..one.clone() };
        assert_eq!(sessions.add(of_another_key, walk(3.0)).windows(), 1);
        sessions.forget(&one.user);
        assert_eq!(sessions.add(one, walk(1.0)).windows(), 1);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut sessions = Sessions::default();
        for number in 0..MAX_SESSIONS + 10 {
            sessions.add(named("ann", &number.to_string()), walk(1.0));
        }
        assert_eq!(sessions.open.len(), MAX_SESSIONS);
        let last = named("ann", &(MAX_SESSIONS + 9).to_string());
        for value in 0..MAX_WALKS + 10 {
            assert!(sessions.add(last.clone(), walk(value as f32)).windows() <= 16);
        }
        assert_eq!(sessions.open[&last].walks.len(), MAX_WALKS);
    }
}

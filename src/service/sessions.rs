//! Sessions: verifications with walks from several requests.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::{Template, UserId};

/// Open sessions. The one that was quiet longest makes room.
const MAX_SESSIONS: usize = 4096;

/// Walks of a session. The oldest makes room.
const MAX_WALKS: usize = 16;

/// A session ends when it was quiet for this long: someone else may carry the phone by then.
const QUIET: Duration = Duration::from_secs(300);

/// Name of a session, chosen by the client. It has the form of a [`UserId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(UserId);

/// Identifies a session. Principals do not share sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    /// Id of the API key, or empty.
    pub principal: String,
    pub user: UserId,
    pub session: SessionId,
    /// Whether its walks are sent as features. They do not add up with recordings, as the decision would
    /// say more than one about features may.
    pub of_features: bool,
}

impl FromStr for SessionId {
    type Err = <UserId as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Open sessions of all users. They end when another model becomes active: templates of two models
/// cannot be added.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<SessionKey, Session>,
}

struct Session {
    last_used: Instant,
    walks: Vec<SessionWalk>,
}

struct SessionWalk {
    template: Template,
    fingerprints: Vec<Fingerprint>,
}

/// The result of adding a walk to a session.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Addition {
    /// It counts, once even if it was sent before. With the sum of all walks of the session, and all
    /// their fingerprints.
    Counts(Template, Vec<Fingerprint>),
    /// It is another copy of a walk in the session.
    Replay,
}

impl Sessions {
    /// Whether a session holds exactly this walk: then it is a retry.
    pub fn holds(&self, key: &SessionKey, walk: &Template) -> bool {
        self.open.get(key).is_some_and(|session| {
            session.last_used.elapsed() < QUIET
                && session.walks.iter().any(|held| held.template == *walk)
        })
    }

    /// Adds a walk to a session.
    pub fn add(
        &mut self,
        key: SessionKey,
        walk: Template,
        fingerprints: Vec<Fingerprint>,
    ) -> Addition {
        let now = Instant::now();
        if !self.open.contains_key(&key) && self.open.len() == MAX_SESSIONS {
            self.sweep();
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
        if !session.walks.iter().any(|held| held.template == walk) {
            let held = session.walks.iter().flat_map(|held| &held.fingerprints);
            if is_replay(&fingerprints, held) {
                return Addition::Replay;
            }
            if session.walks.len() == MAX_WALKS {
                session.walks.remove(0);
            }
            session.walks.push(SessionWalk { template: walk.clone(), fingerprints });
        }
        let mut sum = Template::empty(walk.values().len());
        session.walks.iter().for_each(|held| sum.add(&held.template));
        let fingerprints = session.walks.iter().flat_map(|held| held.fingerprints.clone());
        Addition::Counts(sum, fingerprints.collect())
    }

    /// Drops ended sessions.
    pub fn sweep(&mut self) {
        self.open.retain(|_, session| session.last_used.elapsed() < QUIET);
    }

    /// Drops a user's sessions.
    pub fn forget(&mut self, user: &UserId) {
        self.open.retain(|key, _| key.user != *user);
    }
}

/// Whether a walk is a copy of an earlier one.
pub(super) fn is_replay<'a>(
    walk: &[Fingerprint],
    earlier: impl Iterator<Item = &'a Fingerprint> + Clone,
) -> bool {
    walk.iter().any(|minute| minute.is_replay_of_any(earlier.clone()))
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn walk(value: f32) -> Template {
        let mut walk = Template::empty(2);
        walk.add_window(&[value, 1.0]);
        walk
    }

    fn named(user: &str, session: &str) -> SessionKey {
        let (user, session) = (user.parse().unwrap(), session.parse().unwrap());
        SessionKey { principal: String::new(), user, session, of_features: false }
    }

    /// Windows that count after a walk without fingerprints.
    fn add(sessions: &mut Sessions, key: &SessionKey, walk: Template) -> u32 {
        match sessions.add(key.clone(), walk, Vec::new()) {
            Addition::Counts(sum, _) => sum.windows(),
            Addition::Replay => panic!("nothing to tell a replay by"),
        }
    }

    #[test]
    fn each_walk_of_a_session_counts_once() {
        let mut sessions = Sessions::default();
        let one = named("ann", "one");
        assert!(!sessions.holds(&one, &walk(1.0)));
        assert_eq!(add(&mut sessions, &one, walk(1.0)), 1);
        assert!(sessions.holds(&one, &walk(1.0)));
        assert_eq!(add(&mut sessions, &one, walk(1.0)), 1);
        assert_eq!(add(&mut sessions, &one, walk(2.0)), 2);
        assert_eq!(add(&mut sessions, &named("bob", "one"), walk(3.0)), 1);
        let of_another_key = SessionKey { principal: "key".to_owned(), ..one.clone() };
        assert_eq!(add(&mut sessions, &of_another_key, walk(3.0)), 1);
        sessions.forget(&one.user);
        assert_eq!(add(&mut sessions, &one, walk(1.0)), 1);
    }

    #[test]
    fn a_copy_within_a_session_is_a_replay() {
        let mut sessions = Sessions::default();
        let recording = Walker::new(1).walk(1, &Conditions::default());
        let prints = |start| vec![Fingerprint::of(&recording.part(start, 8.0).unwrap()).unwrap()];
        let key = named("ann", "one");
        let first = sessions.add(key.clone(), walk(1.0), prints(0.0));
        assert_eq!(first, Addition::Counts(walk(1.0), prints(0.0)));
        assert_eq!(sessions.add(key.clone(), walk(2.0), prints(0.5)), Addition::Replay);
        assert_eq!(sessions.add(key.clone(), walk(1.0), prints(0.0)), first);
        assert!(matches!(sessions.add(key, walk(3.0), prints(9.0)), Addition::Counts(..)));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut sessions = Sessions::default();
        for number in 0..MAX_SESSIONS + 10 {
            add(&mut sessions, &named("ann", &number.to_string()), walk(1.0));
        }
        assert_eq!(sessions.open.len(), MAX_SESSIONS);
        let last = named("ann", &(MAX_SESSIONS + 9).to_string());
        for value in 0..MAX_WALKS + 10 {
            assert!(add(&mut sessions, &last, walk(value as f32)) <= 16);
        }
        assert_eq!(sessions.open[&last].walks.len(), MAX_WALKS);
    }
}

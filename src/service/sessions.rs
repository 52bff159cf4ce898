//! Sessions: verifications with walks from several requests. Their walks are in the database, so that
//! any server may get the next one.

use std::collections::HashMap;
use std::str::FromStr;

use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::{Template, UserId};

use super::ServiceError;
use super::walk_reader::WalkReader;
use super::write::Write;
use crate::store::{MAX_SESSION_WALKS, SessionKey, SessionWalk, Store, StoreError};

/// Name of a session, chosen by the client. It has the form of a [`UserId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId(pub(super) UserId);

impl FromStr for SessionId {
    type Err = <UserId as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Walks that a batch adds to sessions. They are not in the database yet.
pub(super) type NewWalks = HashMap<SessionKey, Vec<SessionWalk>>;

/// A session as a verification finds it.
pub(super) struct Session {
    key: SessionKey,
    /// Oldest first.
    walks: Vec<SessionWalk>,
    /// Number of the newest walk in the database.
    newest: i64,
}

/// What a verification changes in a session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SessionUse {
    key: SessionKey,
    /// The walk, unless the session has it, or a copy of it.
    walk: Option<SessionWalk>,
    newest: i64,
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

/// What other requests did to a session since the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing that matters.
    Nothing,
    /// They added exactly this walk: this request is a retry.
    SameWalk,
    /// They added another copy of this walk.
    Copy,
}

impl Session {
    /// Reads a session of walks that a model read.
    pub async fn read(
        store: &Store,
        key: SessionKey,
        model: &str,
        new_walks: &NewWalks,
    ) -> Result<Self, ServiceError> {
        let stored = store.session_walks(&key, model).await?;
        let newest = stored.last().map_or(0, |(number, _)| *number);
        let mut walks: Vec<SessionWalk> = stored.into_iter().map(|(_, walk)| walk).collect();
        walks.extend(new_walks.get(&key).into_iter().flatten().cloned());
        Ok(Self { key, walks, newest })
    }

    /// Whether it holds exactly this walk: then it is a retry.
    pub fn holds(&self, walk: &Template) -> bool {
        self.walks.iter().any(|held| held.template == *walk)
    }

    /// Adds a walk.
    pub fn add(
        mut self,
        template: Template,
        fingerprints: Vec<Fingerprint>,
    ) -> (Addition, SessionUse) {
        let mut walk = None;
        if !self.holds(&template) {
            let held = self.walks.iter().flat_map(|held| &held.fingerprints);
            if is_replay(&fingerprints, held) {
                return (Addition::Replay, SessionUse { key: self.key, walk, newest: self.newest });
            }
            let added = SessionWalk { template: template.clone(), fingerprints };
            self.walks.push(added.clone());
            walk = Some(added);
        }
        let counted = &self.walks[self.walks.len().saturating_sub(MAX_SESSION_WALKS)..];
        let mut sum = Template::empty(template.values().len());
        counted.iter().for_each(|held| sum.add(&held.template));
        let fingerprints = counted.iter().flat_map(|held| held.fingerprints.clone()).collect();
        let used = SessionUse { key: self.key, walk, newest: self.newest };
        (Addition::Counts(sum, fingerprints), used)
    }
}

impl SessionUse {
    /// Notes the walk for the rest of a batch.
    pub fn note(&self, new_walks: &mut NewWalks) {
        if let Some(walk) = &self.walk {
            new_walks.entry(self.key.clone()).or_default().push(walk.clone());
        }
    }

    /// Keeps the session open, and says what happened since the decision, now that no other write to
    /// the user is under way.
    pub async fn renew(
        &self,
        write: &mut Write,
        reader: &WalkReader,
        model: &str,
    ) -> Result<Since, ServiceError> {
        let Self { key, walk, newest } = self;
        write.transaction.use_session(key, model).await?;
        let Some(walk) = walk else { return Ok(Since::Nothing) };
        let mut newer = write.transaction.session_walks_after(key, model, *newest).await?;
        // The decision knew those of the same batch.
        newer.retain(|(number, _)| !write.session_walks.contains(number));
        if newer.iter().any(|(_, held)| held.template == walk.template) {
            return Ok(Since::SameWalk);
        }
        let held = newer.iter().flat_map(|(_, held)| &held.fingerprints);
        if reader.is_replay(&walk.fingerprints, held).await? {
            return Ok(Since::Copy);
        }
        Ok(Since::Nothing)
    }

    /// Adds the walk, if it is new.
    pub async fn add(self, write: &mut Write, model: &str) -> Result<(), StoreError> {
        if let Some(walk) = &self.walk {
            let number = write.transaction.add_session_walk(&self.key, model, walk).await?;
            write.session_walks.push(number);
        }
        Ok(())
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
    use std::path::Path;

    use bipedalnet_core::gait::simulator::{Conditions, Walker};
    use bipedalnet_core::gait::{Recording, RecordingDocument};
    use bipedalnet_core::identity::Verdict;

    use super::*;
    use crate::access::Principal;
    use crate::service::tests::{SHIPPED, enroll, server};
    use crate::service::{Claim, Evidence, Reservation, Service, Verification};

    fn recording(person: u64, walk: u64, seconds: f64) -> Recording {
        Walker::new(person).walk(walk, &Conditions { seconds, ..Conditions::default() })
    }

    fn phone() -> Principal {
        Principal { id: "phone".into(), key: "phone".into(), ..Principal::anonymous() }
    }

    /// A claim to be ann, in the session "s".
    fn claim(walk: &Recording) -> Claim {
        Claim {
            principal: phone(),
            user: "ann".parse().unwrap(),
            evidence: Evidence::Recording(RecordingDocument::from(walk)),
            fmr: 0.01,
            session: Some("s".parse().unwrap()),
            challenge: None,
        }
    }

    /// Two servers with one database, in which ann is enrolled.
    async fn servers(folder: &Path) -> [Service; 2] {
        let one = server(folder, SHIPPED).await;
        enroll(&one, "ann", &recording(11, 1, 20.0)).await;
        let other = server(folder, SHIPPED).await;
        assert_eq!(other.gallery_len(), 1);
        [one, other]
    }

    async fn decide(server: &Service, walk: &Recording) -> Verification {
        let model = server.active.get();
        server.verify.decide(model, claim(walk), &mut NewWalks::new()).await.unwrap()
    }

    async fn settle(server: &Service, mut verification: Verification) -> Verification {
        let mut write = server.writes.begin(Reservation::default()).await.unwrap();
        server.verify.settle(&mut write, &mut verification).await.unwrap();
        write.commit().await.unwrap();
        verification
    }

    async fn verify(server: &Service, walk: &Recording) -> Verification {
        settle(server, decide(server, walk).await).await
    }

    async fn failures(server: &Service) -> u32 {
        let failures = server.store.failures_of_user(&"ann".parse().unwrap()).await.unwrap();
        failures.iter().map(|failures| failures.failures).sum()
    }

    #[tokio::test]
    async fn walks_add_up_whichever_server_gets_them() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = servers(folder.path()).await;
        let [first, second, third] = [1, 2, 3].map(|number| recording(40, number, 8.0));
        assert_eq!(verify(&one, &first).await.windows, 7);
        assert_eq!(verify(&other, &second).await.windows, 14);
        assert_eq!(verify(&other, &first).await.windows, 14, "a retry");
        assert_eq!(verify(&one, &third).await.windows, 21);
        // A copy of the first walk.
        let copy = verify(&other, &first.part(0.3, 7.0).unwrap()).await;
        assert_eq!(copy.verdict, Verdict::SuspectedReplay);

        // A user who is unlocked starts again.
        let user: UserId = "ann".parse().unwrap();
        let released = other.attempts.release(Reservation::default(), user).await.unwrap();
        released.commit().await.unwrap();
        assert_eq!(verify(&one, &recording(40, 4, 8.0)).await.windows, 7);
    }

    #[tokio::test]
    async fn the_same_walk_at_the_same_time_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = servers(folder.path()).await;
        let walk = recording(40, 1, 8.0);
        let [first, again] = [decide(&one, &walk).await, decide(&other, &walk).await];
        let first = settle(&one, first).await;
        assert_ne!(first.verdict, Verdict::Accept);
        assert_eq!(failures(&one).await, 1);
        let again = settle(&other, again).await;
        assert_eq!((again.verdict, again.windows), (first.verdict, first.windows));
        assert_eq!(failures(&one).await, 1, "a retry fails no second time");
        let more = verify(&other, &recording(40, 2, 8.0)).await;
        assert_eq!(more.windows, 2 * first.windows);
        // Likewise an accepted one: a retry is no replay.
        let walk = recording(11, 2, 8.0);
        let [first, again] = [decide(&one, &walk).await, decide(&other, &walk).await];
        let verdicts = [settle(&one, first).await.verdict, settle(&other, again).await.verdict];
        assert_eq!(verdicts[0], verdicts[1]);
        assert_ne!(verdicts[0], Verdict::SuspectedReplay);
    }

    #[tokio::test]
    async fn copies_at_the_same_time_do_not_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = servers(folder.path()).await;
        let clip = recording(40, 1, 9.0);
        let [cut, copy] = [0.0, 0.3].map(|start| clip.part(start, 8.0).unwrap());
        let [cut, copy] = [decide(&one, &cut).await, decide(&other, &copy).await];
        assert_ne!(copy.verdict, Verdict::SuspectedReplay);
        let cut = settle(&one, cut).await;
        assert_ne!(cut.verdict, Verdict::SuspectedReplay);
        assert_eq!(settle(&other, copy).await.verdict, Verdict::SuspectedReplay);
        assert_eq!(failures(&one).await, 1);
        let more = verify(&one, &recording(40, 2, 8.0)).await;
        assert_eq!(more.windows, 2 * cut.windows);
    }

    #[test]
    fn the_newest_walks_of_a_session_count() {
        let walk = |value: f32| {
            let mut template = Template::empty(2);
            template.add_window(&[value, 1.0]);
            template
        };
        let key = SessionKey {
            principal: String::new(),
            user: "ann".parse().unwrap(),
            name: "s".into(),
            of_features: false,
        };
        let mut new_walks = NewWalks::new();
        for number in 0..20 {
            let walks = new_walks.get(&key).cloned().unwrap_or_default();
            let session = Session { key: key.clone(), walks, newest: 0 };
            assert!(!session.holds(&walk(number as f32)));
            let (addition, used) = session.add(walk(number as f32), Vec::new());
            let Addition::Counts(sum, _) = addition else { panic!("nothing to tell a replay by") };
            assert_eq!(sum.windows(), (number + 1).min(16));
            used.note(&mut new_walks);
        }
    }
}

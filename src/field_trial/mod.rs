//! Field trial: sends the recordings of a data set to a server and counts its decisions by person.
//!
//! Recordings are sent in pieces of ten seconds, as a phone sends them. A verification keeps
//! fingerprints of the recordings that it accepted, so each false match rate needs a new server.

mod questions;
mod rates;
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use bipedalnet_client::{Client, ClientError};
use bipedalnet_core::gait::Recording;
use bipedalnet_training::evaluation::{FEWEST_PEOPLE, Protocol};
use bipedalnet_training::{SplitError, SubjectRecording, sessions_exist};
pub use questions::{Identifications, Verifications};
pub use rates::{Outcome, Rates};
use requests::{Counter, accepted, count, each};

/// Which recordings are sent, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Sessions to enroll, in order: the first thirty seconds of walking in each.
    pub enroll: Vec<String>,
    /// Session to probe with. If it is also enrolled, only later recordings are probes.
    pub probe: String,
    /// Remove the gyroscope's data from enrolled recordings.
    pub enroll_without_gyroscope: bool,
    /// Remove the gyroscope's data from probes.
    pub probe_without_gyroscope: bool,
    /// Decides which users are claimed.
    pub seed: u64,
}

/// Why a field trial has no result.
#[derive(Debug, thiserror::Error)]
pub enum FieldTrialError {
    /// A session has no recording.
    #[error(transparent)]
    UnknownSession(#[from] SplitError),
    /// A session would be enrolled twice.
    #[error("session {0} is to be enrolled twice")]
    SessionTwice(String),
    /// Too few people have the sessions.
    #[error("people with recordings of {sessions}: {found}; at least {FEWEST_PEOPLE} are needed")]
    TooFewPeople {
        /// People with all sessions.
        found: usize,
        sessions: String,
    },
    /// Too few people have enough walking in the sessions.
    #[error(
        "{found} of {people} people became ready and have recordings left to probe with; at least \
         {FEWEST_PEOPLE} are needed. Each session to enroll needs 30 s of walking in pieces of 10 s"
    )]
    TooFewReady {
        /// People with enough walking.
        found: usize,
        /// People with all sessions.
        people: usize,
    },
    /// The server did not answer, or its answer is an error.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Number of refused recordings by type of problem.
pub type Refusals = BTreeMap<String, usize>;

/// The people of a data set who have all sessions.
#[derive(Debug)]
pub struct FieldTrial {
    setup: Setup,
    people: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    name: String,
    /// Id on the server. A name may have characters that an id must not have.
    user: String,
    walks: Vec<SubjectRecording>,
}

/// People enrolled on a server.
#[derive(Debug)]
pub struct Enrolled<'a> {
    client: &'a Client,
    seed: u64,
    participants: Vec<Participant>,
    /// People without enough walking in each enrolled session. What was enrolled of it stays.
    pub never_ready: Vec<String>,
    /// People who are ready and have no recording left to probe with.
    pub without_probes: Vec<String>,
    /// Recordings that were not enrolled.
    pub refused: Refusals,
}

#[derive(Debug)]
struct Participant {
    user: String,
    probes: Vec<Recording>,
}

impl FieldTrial {
    /// Selects the people who have all sessions.
    ///
    /// # Errors
    /// If a session does not exist or is enrolled twice, or too few people have all.
    pub fn new(walks: Vec<SubjectRecording>, setup: Setup) -> Result<Self, FieldTrialError> {
        let Setup { enroll, probe, .. } = &setup;
        sessions_exist(&walks, enroll.iter().chain([probe]))?;
        let mut sessions = BTreeSet::new();
        if let Some(twice) = enroll.iter().find(|session| !sessions.insert(&session[..])) {
            return Err(FieldTrialError::SessionTwice(twice.clone()));
        }
        sessions.insert(probe);
        let mut people: BTreeMap<String, Vec<SubjectRecording>> = BTreeMap::new();
        for walk in walks {
            people.entry(walk.subject.clone()).or_default().push(walk);
        }
        let has = |walks: &[SubjectRecording], session: &str| {
            walks.iter().any(|walk| walk.session == session)
        };
        people.retain(|_, walks| sessions.iter().all(|session| has(walks, session)));
        if people.len() < FEWEST_PEOPLE {
            let sessions = sessions.into_iter().collect::<Vec<_>>().join(" and ");
            return Err(FieldTrialError::TooFewPeople { found: people.len(), sessions });
        }
        let person = |(number, (name, walks))| {
            let user = format!("u{number}");
            Subject { name, user, walks }
        };
        Ok(Self { people: people.into_iter().enumerate().map(person).collect(), setup })
    }

    /// Number of people who have all sessions.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// Enrolls everybody until each session has enough walking. `progress` gets the number of people
    /// who are done, and of all people.
    ///
    /// # Errors
    /// If the server fails, or too few people become ready.
    pub async fn enroll<'a>(
        &self,
        client: &'a Client,
        progress: impl Fn(usize, usize),
    ) -> Result<Enrolled<'a>, FieldTrialError> {
        let done = Counter::new(self.people.len(), progress);
        let enroll = async |person: &Subject| {
            let enrollment = self.enroll_person(client, person).await?;
            done.step();
            Ok(enrollment)
        };
        let mut enrolled = Enrolled {
            client,
            seed: self.setup.seed,
            participants: Vec::new(),
            never_ready: Vec::new(),
            without_probes: Vec::new(),
            refused: Refusals::new(),
        };
        for (person, (probes, refused)) in self.people.iter().zip(each(&self.people, enroll).await?)
        {
            count(&mut enrolled.refused, refused);
            let Some(probes) = probes else {
                enrolled.never_ready.push(person.name.clone());
                continue;
            };
            let without_gyroscope = self.setup.probe_without_gyroscope;
            let probes: Vec<Recording> =
                probes.into_iter().map(|probe| as_sent(probe, without_gyroscope)).collect();
            if probes.is_empty() {
                enrolled.without_probes.push(person.name.clone());
            } else {
                enrolled.participants.push(Participant { user: person.user.clone(), probes });
            }
        }
        match enrolled.participants.len() {
            found if found < FEWEST_PEOPLE => {
                Err(FieldTrialError::TooFewReady { found, people: self.people.len() })
            }
            _ => Ok(enrolled),
        }
    }

    /// Enrolls a person. Gives their probes, if enough of each session was enrolled, and the types of
    /// problem of refused pieces.
    async fn enroll_person(
        &self,
        client: &Client,
        person: &Subject,
    ) -> Result<(Option<Vec<Recording>>, Vec<String>), ClientError> {
        client.put_user(&person.user).await?;
        let walks: Vec<&SubjectRecording> = person.walks.iter().collect();
        let (mut probes, mut refused) = (None, Vec::new());
        for session in &self.setup.enroll {
            let protocol = Protocol { enroll: session.clone(), probe: self.setup.probe.clone() };
            let (mut windows, mut last) = (0, None);
            for piece in protocol.to_enroll(&walks) {
                let recording =
                    as_sent(piece.recording.clone(), self.setup.enroll_without_gyroscope);
                match accepted(client.enroll(&person.user, &recording).await)? {
                    Ok(answer) => windows += u64::from(answer.windows_accepted),
                    Err(problem) => refused.push(problem),
                }
                if windows >= Protocol::ENROLLED_WINDOWS {
                    last = Some(piece);
                    break;
                }
            }
            let Some(last) = last else { return Ok((None, refused)) };
            // If the probe session is also enrolled, only later recordings are probes.
            if probes.is_none() || protocol.is_same_session() {
                probes = Some(protocol.probes(&walks, &last));
            }
        }
        Ok((probes, refused))
    }
}

fn as_sent(recording: Recording, without_gyroscope: bool) -> Recording {
    if without_gyroscope { recording.without_angular_rate() } else { recording }
}

//! Identifications and verifications of enrolled people.

use bipedalnet_client::api::{Identified, Verified};
use bipedalnet_client::{ClientError, VerifyOptions};
use bipedalnet_core::gait::Recording;
use bipedalnet_training::evaluation::SESSION_PIECES;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::requests::{Counter, accepted, count, each};
use super::{Enrolled, Outcome, Rates, Refusals};

/// Most other users that each session of a walker claims to be.
const OTHER_CLAIMS: usize = 8;

/// Outcomes of identifications.
#[derive(Clone, Debug)]
pub struct Identifications {
    /// Pieces of enrolled people, among all users.
    pub enrolled: Rates,
    /// The same pieces among all other ready users, as if the walker were not enrolled.
    pub strangers: Rates,
    /// Pieces that the service refused.
    pub refused: Refusals,
}

/// Outcomes of verifications.
#[derive(Clone, Debug)]
pub struct Verifications {
    /// Sessions of the claimed user.
    pub own: Rates,
    /// Sessions of other people.
    pub others: Rates,
}

/// A session of a walker who claims to be a user.
struct Claim {
    walker: usize,
    session: usize,
}

impl Enrolled<'_> {
    /// Number of people who are ready and have probes.
    pub fn participants(&self) -> usize {
        self.participants.len()
    }

    /// Identifies each probe by itself, among all users and among all other users.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn identify(
        &self,
        progress: impl Fn(usize, usize),
    ) -> Result<Identifications, ClientError> {
        use Outcome::{Inconclusive, Named, Refused, Right, Unknown, Wrong};
        let pieces: Vec<(usize, &Recording)> = (self.participants.iter().enumerate())
            .flat_map(|(walker, person)| person.probes.iter().map(move |probe| (walker, probe)))
            .collect();
        let done = Counter::new(pieces.len(), progress);
        let identify = async |(walker, probe): (usize, &Recording)| {
            let user = &self.participants[walker].user;
            let users = self.participants.iter().map(|person| &person.user[..]);
            let others: Vec<&str> = users.filter(|other| other != user).collect();
            let among_all = accepted(self.client.identify(probe, None).await)?;
            let among_others = accepted(self.client.identify(probe, Some(&others)).await)?;
            done.step();
            let problem = among_all.as_ref().err().cloned();
            let own = match among_all {
                Ok(answer) => match answer.decision {
                    Identified::Identified if answer.user.as_ref() == Some(user) => Right,
                    Identified::Identified => Wrong,
                    Identified::Unknown => Unknown,
                    Identified::Inconclusive => Inconclusive,
                },
                Err(_) => Refused,
            };
            let stranger = match among_others {
                Ok(answer) => match answer.decision {
                    Identified::Identified => Named,
                    Identified::Unknown => Unknown,
                    Identified::Inconclusive => Inconclusive,
                },
                Err(_) => Refused,
            };
            Ok((walker, own, stranger, problem))
        };
        let mut own = vec![Vec::new(); self.participants.len()];
        let (mut strangers, mut refused) = (own.clone(), Refusals::new());
        for (walker, outcome, stranger, problem) in each(pieces, identify).await? {
            own[walker].push(outcome);
            strangers[walker].push(stranger);
            count(&mut refused, problem);
        }
        let enrolled = self.rates(&own, &[Right, Wrong, Unknown, Inconclusive, Refused]);
        let strangers = self.rates(&strangers, &[Named, Unknown, Inconclusive, Refused]);
        Ok(Identifications { enrolled, strangers, refused })
    }

    /// Verifies sessions of up to thirty seconds. Each walker claims to be themselves, and to be
    /// others.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn verify(
        &self,
        fmr: f64,
        progress: impl Fn(usize, usize),
    ) -> Result<Verifications, ClientError> {
        use Outcome::{Accepted, Inconclusive, Refused, Rejected, SuspectedReplay};
        let claims = self.claims();
        let done = Counter::new(claims.iter().map(Vec::len).sum(), progress);
        // A verification changes the state of the claimed user. So the claims of one user are made
        // one after the other, and the same seed gives the same outcomes.
        let verify = async |(user, claims): (usize, Vec<Claim>)| {
            let mut outcomes = Vec::new();
            for claim in claims {
                outcomes.push((user, claim.walker, self.session(user, &claim, fmr).await?));
                done.step();
            }
            Ok(outcomes)
        };
        let mut own = vec![Vec::new(); self.participants.len()];
        let mut others = own.clone();
        let outcomes = each(claims.into_iter().enumerate(), verify).await?;
        for (user, walker, outcome) in outcomes.into_iter().flatten() {
            let claims = if walker == user { &mut own } else { &mut others };
            claims[walker].push(outcome);
        }
        let possible = [Accepted, Rejected, Inconclusive, SuspectedReplay, Refused];
        Ok(Verifications {
            own: self.rates(&own, &possible),
            others: self.rates(&others, &possible),
        })
    }

    /// All claims, by claimed user.
    fn claims(&self) -> Vec<Vec<Claim>> {
        let mut random = Pcg64Mcg::seed_from_u64(self.seed);
        let mut claims: Vec<Vec<Claim>> = self.participants.iter().map(|_| Vec::new()).collect();
        for (walker, person) in self.participants.iter().enumerate() {
            for session in 0..person.probes.len().div_ceil(SESSION_PIECES) {
                let mut users: Vec<usize> =
                    (0..self.participants.len()).filter(|user| *user != walker).collect();
                users.shuffle(&mut random);
                users.truncate(OTHER_CLAIMS);
                users.push(walker);
                users.into_iter().for_each(|user| claims[user].push(Claim { walker, session }));
            }
        }
        claims
    }

    /// Sends pieces of a session until the service decides.
    async fn session(&self, user: usize, claim: &Claim, fmr: f64) -> Result<Outcome, ClientError> {
        let Claim { walker, session } = *claim;
        let options = VerifyOptions {
            fmr: Some(fmr),
            session: Some(format!("u{walker}-s{session}")),
            challenge: None,
        };
        let user = &self.participants[user].user;
        let pieces = self.participants[walker].probes.chunks(SESSION_PIECES).nth(session);
        let mut outcome = Outcome::Refused;
        for piece in pieces.unwrap_or_default() {
            let Ok(answer) = accepted(self.client.verify(user, piece, &options).await)? else {
                continue;
            };
            outcome = match answer.decision {
                Verified::Accept => return Ok(Outcome::Accepted),
                Verified::Reject => return Ok(Outcome::Rejected),
                Verified::Inconclusive => Outcome::Inconclusive,
                Verified::SuspectedReplay => Outcome::SuspectedReplay,
            };
        }
        Ok(outcome)
    }

    fn rates(&self, outcomes: &[Vec<Outcome>], possible: &[Outcome]) -> Rates {
        Rates::new(outcomes, possible, self.seed).expect("everybody has a probe")
    }
}

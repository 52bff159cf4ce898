//! Who is walking: among all (1:N), or whether it is the one (1:1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::evidence::Evidence;
use super::sessions::SessionKey;
use super::writing::{Answer, Start, Turn};
use super::{FALSE_MATCH_RATES, Reply, Request, Service, ServiceError, SessionId, Shared};
use crate::bnn::Scratch;
use crate::gait::Fingerprint;
use crate::identity::{Candidate, Decision, UserId, Verdict};

/// Candidates in an answer.
const CANDIDATES: usize = 5;

/// An answer to "who is walking?".
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// Who it is.
    pub decision: Decision,
    /// The nearest users, nearest first.
    pub candidates: Vec<Candidate>,
    /// Windows of walking that it rests on.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
}

/// A claim to be a user, to be verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Id of the API key that asks, or empty.
    pub principal: String,
    /// Who the walker is said to be.
    pub user: UserId,
    /// The walk.
    pub evidence: Evidence,
    /// One of [`FALSE_MATCH_RATES`].
    pub fmr: f64,
    /// Walks of one session count together, each once, however often it is sent.
    pub session: Option<SessionId>,
    /// From [`Service::challenge`].
    pub challenge: Option<String>,
}

/// An answer to "is it this user who walks?".
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Who the walker is said to be.
    pub user: UserId,
    /// Whether it is so.
    pub verdict: Verdict,
    /// Cosine between the walk and the user's template, from -1 to 1.
    pub score: f32,
    /// The false match rate that decided.
    pub fmr: f64,
    /// Windows of walking that it rests on, earlier requests of the session included.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
    /// To be used up before the answer is given.
    challenge: Option<String>,
    /// By which the walk is known should it be sent again; none where that need not be remembered.
    remembered: Vec<Fingerprint>,
}

impl Service {
    /// Tells who is walking, among all enrolled users or `among` some. Does not touch the database.
    ///
    /// # Errors
    /// When the evidence is no walk, or there is no compute for it.
    pub async fn identify(
        &self,
        evidence: Evidence,
        among: Option<BTreeSet<UserId>>,
    ) -> Result<Identification, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let probe = shared.read(evidence, scratch)?.template;
            let candidates = shared.gallery().rank(&probe, among.as_ref(), CANDIDATES);
            Ok(Identification {
                decision: Decision::new(candidates.first(), shared.threshold, probe.windows()),
                candidates,
                windows: probe.windows(),
                model: shared.model.id().to_owned(),
            })
        };
        self.shared.pool.run(decide).await?
    }

    /// Tells whether a walk is a user's, and remembers it, so that it is known should it be sent
    /// again.
    ///
    /// # Errors
    /// When the user does not exist or has no walk, there is no threshold for the rate, the challenge
    /// is not good, the evidence is no walk, there is no compute for it, or the request's key stands
    /// for another request.
    pub async fn verify(
        &self,
        claim: Claim,
        request: Option<Request>,
        answer: impl FnOnce(&Verification) -> Reply + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let verification = self.decide(claim).await?;
        if !ticket.is_repeatable() && verification.remembered.is_empty() {
            self.shared.redeem(&verification)?;
            return Ok(Answer { reply: answer(&verification), replayed: false });
        }
        // From here on the client may hang up: what is used up is answered, should it ask again.
        self.write(ticket, |shared, mut turn| async move {
            shared.redeem(&verification)?;
            turn.remember(&verification).await?;
            let reply = answer(&verification);
            turn.commit(&[verification.user], &reply).await?;
            Ok(reply)
        })
        .await
    }

    /// A verification without what is written of it.
    pub(super) async fn decide(&self, claim: Claim) -> Result<Verification, ServiceError> {
        let Claim { principal, user, evidence, fmr, session, challenge } = claim;
        let point = FALSE_MATCH_RATES.iter().position(|rate| *rate == fmr);
        let point = point.ok_or(ServiceError::UnknownRate { fmr })?;
        match &challenge {
            Some(nonce) if !self.shared.challenges().is_good(nonce, &user, Instant::now()) => {
                return Err(ServiceError::BadChallenge);
            }
            None if self.shared.settings.require_challenge => {
                return Err(ServiceError::ChallengeNeeded);
            }
            _ => {}
        }
        if self.user(&user).await?.user.enrollments == 0 {
            return Err(ServiceError::NotEnrolled(user));
        }
        let earlier = self.shared.store.fingerprints(&user).await?;
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let walk = shared.read(evidence, scratch)?;
            let key = session.map(|session| SessionKey { principal, user: user.clone(), session });
            let retried =
                key.as_ref().is_some_and(|key| shared.sessions().holds(key, &walk.template));
            let replayed = !retried
                && walk
                    .fingerprints
                    .iter()
                    .any(|minute| earlier.iter().any(|earlier| minute.is_replay_of(earlier)));
            let probe = match key {
                Some(key) if !replayed => shared.sessions().add(key, walk.template),
                _ => walk.template,
            };
            let score = shared.gallery().score(&user, &probe);
            // Erased since it was looked up.
            let score = score.ok_or_else(|| ServiceError::NotEnrolled(user.clone()))?;
            let verdict = match replayed {
                true => Verdict::SuspectedReplay,
                false => {
                    Verdict::new(score, shared.verification_thresholds[point], probe.windows())
                }
            };
            let counts = matches!(verdict, Verdict::Accept | Verdict::Inconclusive);
            Ok(Verification {
                user,
                verdict,
                score,
                fmr,
                windows: probe.windows(),
                model: shared.model.id().to_owned(),
                challenge,
                remembered: if counts && !retried { walk.fingerprints } else { Vec::new() },
            })
        };
        self.shared.pool.run(decide).await?
    }
}

impl Shared {
    /// Uses up the challenge of a verification: not before it is decided, so that a recording that is
    /// no walk does not cost one.
    pub(super) fn redeem(&self, verification: &Verification) -> Result<(), ServiceError> {
        match &verification.challenge {
            Some(nonce) if !self.challenges().redeem(nonce, &verification.user, Instant::now()) => {
                Err(ServiceError::BadChallenge)
            }
            _ => Ok(()),
        }
    }
}

impl Turn {
    /// Keeps what tells the walk should it be sent again.
    pub(super) async fn remember(
        &mut self,
        verification: &Verification,
    ) -> Result<(), ServiceError> {
        for fingerprint in &verification.remembered {
            self.writing.add_fingerprint(&verification.user, None, fingerprint).await?;
        }
        Ok(())
    }
}

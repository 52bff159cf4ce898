//! Who is walking: among all (1:N), or whether it is the one (1:1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::evidence::Evidence;
use super::serving::Serving;
use super::sessions::SessionKey;
use super::writing::{Answer, Start};
use super::{FALSE_MATCH_RATES, Reply, Request, Service, ServiceError, SessionId};
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
    /// By which the walk is known should it be sent again; none where that need not be remembered.
    pub(super) remembered: Vec<Fingerprint>,
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
        self.identify_with(self.shared.serving(), evidence, among).await
    }

    pub(super) async fn identify_with(
        &self,
        serving: Arc<Serving>,
        evidence: Evidence,
        among: Option<BTreeSet<UserId>>,
    ) -> Result<Identification, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let probe = shared.read(&serving, evidence, scratch)?.template;
            let candidates = serving.gallery().rank(&probe, among.as_ref(), CANDIDATES);
            Ok(Identification {
                decision: Decision::new(candidates.first(), serving.threshold, probe.windows()),
                candidates,
                windows: probe.windows(),
                model: serving.model.id().to_owned(),
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
        let verification = self.decide(self.shared.serving(), claim).await?;
        let reply = answer(&verification);
        if !ticket.is_repeatable() && verification.remembered.is_empty() {
            return Ok(Answer { reply, replayed: false });
        }
        self.write(ticket, |_, mut turn| async move {
            let user = verification.user;
            for fingerprint in &verification.remembered {
                turn.writing.add_fingerprint(&user, None, fingerprint).await?;
            }
            turn.commit(&[user], &reply).await?;
            Ok(reply)
        })
        .await
    }

    /// A verification without what is written of it.
    pub(super) async fn decide(
        &self,
        serving: Arc<Serving>,
        claim: Claim,
    ) -> Result<Verification, ServiceError> {
        let Claim { principal, user, evidence, fmr, session, challenge } = claim;
        let point = FALSE_MATCH_RATES.iter().position(|rate| *rate == fmr);
        let point = point.ok_or(ServiceError::UnknownRate { fmr })?;
        if challenge.is_none() && self.shared.settings.require_challenge {
            return Err(ServiceError::ChallengeNeeded);
        }
        if self.user(&user).await?.user.enrollments == 0 {
            return Err(ServiceError::NotEnrolled(user));
        }
        let earlier = self.shared.store.fingerprints(&user).await?;
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let walk = shared.read(&serving, evidence, scratch)?;
            // Not before: a recording that is no walk must not cost the challenge.
            if let Some(nonce) = challenge
                && !shared.challenges().redeem(&nonce, &user, Instant::now())
            {
                return Err(ServiceError::BadChallenge);
            }
            let key = session.map(|session| SessionKey { principal, user: user.clone(), session });
            let retried =
                key.as_ref().is_some_and(|key| serving.sessions().holds(key, &walk.template));
            let replayed = !retried
                && walk
                    .fingerprints
                    .iter()
                    .any(|minute| earlier.iter().any(|earlier| minute.is_replay_of(earlier)));
            let probe = match key {
                Some(key) if !replayed => serving.sessions().add(key, walk.template),
                _ => walk.template,
            };
            let score = serving.gallery().score(&user, &probe);
            // Erased since it was looked up.
            let score = score.ok_or_else(|| ServiceError::NotEnrolled(user.clone()))?;
            let verdict = match replayed {
                true => Verdict::SuspectedReplay,
                false => {
                    Verdict::new(score, serving.verification_thresholds[point], probe.windows())
                }
            };
            let counts = matches!(verdict, Verdict::Accept | Verdict::Inconclusive);
            Ok(Verification {
                user,
                verdict,
                score,
                fmr,
                windows: probe.windows(),
                model: serving.model.id().to_owned(),
                remembered: if counts && !retried { walk.fingerprints } else { Vec::new() },
            })
        };
        self.shared.pool.run(decide).await?
    }
}

//! Who is walking: among all (1:N), or whether it is the one (1:1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::enrolling::Walks;
use super::evidence::{Evidence, Purpose, Walk};
use super::observing::{count_identification, count_verification};
use super::pool::Entry;
use super::serving::Serving;
use super::sessions::{SessionKey, Standing, replays};
use super::updating::may_update;
use super::writing::{Answer, Start, Turn};
use super::{IdempotentRequest, Service, ServiceError, SessionId, Shared, StoredResponse};
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::Fingerprint;
use bipedalnet_core::identity::{Decision, FALSE_MATCH_RATES, Tails, Template, UserId, Verdict};

/// Candidates in an answer.
const CANDIDATES: usize = 5;

/// A user whom a walker may be.
#[derive(Clone, Debug, PartialEq)]
pub struct NearUser {
    /// The user.
    pub user: UserId,
    /// Cosine between the walk and the user's template, from -1 to 1.
    pub score: f32,
    /// Of other people's walks, an upper estimate of the share that scores as high or higher.
    pub estimated_fmr: f64,
}

/// An answer to "who is walking?".
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// Who it is.
    pub decision: Decision,
    /// The nearest users, nearest first.
    pub candidates: Vec<NearUser>,
    /// Windows of walking that it rests on.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
    /// The thresholds that decided.
    pub tails: Tails,
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
    /// Of other people's walks, an upper estimate of the share that scores as high or higher.
    pub estimated_fmr: f64,
    /// The false match rate that decided.
    pub fmr: f64,
    /// Windows of walking that it rests on, earlier requests of the session included.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
    /// The thresholds that decided.
    pub tails: Tails,
    /// Number of the walk among the user's, where it was added to them.
    pub enrollment: Option<i64>,
    trace: Trace,
}

/// What a verification leaves behind.
#[derive(Clone, Debug, PartialEq)]
struct Trace {
    /// The challenge, to be used up with the answer.
    challenge: Option<String>,
    /// By which accepted walks are known should they be sent again: those not yet remembered.
    fingerprints: Vec<Fingerprint>,
    /// The walk by itself, where it may be added to the user's.
    update: Option<Template>,
    /// Whether the session had the walk already.
    retried: bool,
    /// Number of the newest fingerprint that the walk was compared with.
    seen: i64,
}

impl Shared {
    /// An identification with one model. Costs compute: for the pool.
    pub fn look(
        &self,
        serving: &Serving,
        evidence: Evidence,
        among: Option<&BTreeSet<UserId>>,
        scratch: &mut Scratch,
    ) -> Result<Identification, ServiceError> {
        let probe = self.read(serving, evidence, Purpose::Identify, scratch)?.template;
        let begin = Instant::now();
        let gallery = serving.gallery();
        let candidates = gallery.rank(&probe, among, CANDIDATES);
        let compared = gallery.count(among);
        let tails = gallery.tails();
        let decision =
            Decision::new(&candidates, compared, &probe, gallery.calibration(), &tails.single);
        drop(gallery);
        self.metrics.stages.gallery.observe(begin.elapsed().as_secs_f64());
        let candidates = candidates.into_iter().map(|candidate| NearUser {
            estimated_fmr: tails.single.fmr(candidate.strength),
            user: candidate.user,
            score: candidate.score,
        });
        let identification = Identification {
            decision,
            candidates: candidates.collect(),
            windows: probe.windows(),
            model: serving.model.id().to_owned(),
            tails,
        };
        count_identification(&self.metrics.decisions, &identification);
        Ok(identification)
    }
}

/// Longest walk that is verified at once: comparing it with earlier ones is what costs most.
const LONGEST_CLAIM_SECONDS: f64 = 120.0;

impl Service {
    /// Tells who is walking, among all enrolled users or some. Does not touch the database. `question`
    /// gives the evidence and the users to choose from; it may compute, such as decode.
    ///
    /// # Errors
    /// Those of `question`; when the evidence is no walk, or there is no compute for it.
    pub async fn identify<E: From<ServiceError> + Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<(Evidence, Option<BTreeSet<UserId>>), E> + Send + 'static,
    ) -> Result<Identification, E> {
        let (shared, serving) = (Arc::clone(&self.shared), self.shared.serving());
        let look = move |scratch: &mut Scratch| {
            let (evidence, among) = question()?;
            Ok(shared.look(&serving, evidence, among.as_ref(), scratch)?)
        };
        self.shared.pool.run(Entry::IfFree, look).await.map_err(ServiceError::from)?
    }

    /// Tells whether a walk is a user's, and remembers it, so that it is known should it be sent
    /// again.
    ///
    /// # Errors
    /// When the user does not exist or has no walk, the rate is not offered, the challenge is not
    /// good, the evidence is no walk, there is no compute for it, or the request's key stands
    /// for another request.
    pub async fn verify(
        &self,
        claim: Claim,
        request: Option<IdempotentRequest>,
        answer: impl FnOnce(&Verification) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let mut verification = self.decide(self.shared.serving(), claim, Entry::IfFree).await?;
        if !ticket.is_repeatable() && verification.leaves_nothing() {
            count_verification(&self.shared.metrics.decisions, &verification);
            return Ok(Answer { reply: answer(&verification), replayed: false });
        }
        // From here on the client may hang up: what is used up is answered, should it ask again.
        self.write(ticket, |shared, mut turn| async move {
            let mut walks = Walks::default();
            turn.settle(&shared, &mut verification, &mut walks).await?;
            let reply = answer(&verification);
            turn.commit(&BTreeSet::from([verification.user.clone()]), &reply).await?;
            shared.redeem(&verification);
            walks.show(&shared);
            Ok(reply)
        })
        .await
    }

    /// A verification without what is written of it.
    pub(super) async fn decide(
        &self,
        serving: Arc<Serving>,
        claim: Claim,
        entry: Entry,
    ) -> Result<Verification, ServiceError> {
        let Claim { principal, user, evidence, fmr, session, challenge } = claim;
        if !FALSE_MATCH_RATES.contains(&fmr) {
            return Err(ServiceError::UnknownRate { fmr });
        }
        // Features have nothing in them to tell a replay by.
        let by_features = matches!(evidence, Evidence::Features { .. });
        match &challenge {
            Some(nonce) if !self.shared.challenges().is_good(nonce, &user, Instant::now()) => {
                return Err(ServiceError::BadChallenge);
            }
            None if by_features || self.shared.settings.get().require_challenge => {
                return Err(ServiceError::ChallengeNeeded);
            }
            _ => {}
        }
        let known = serving.gallery().contains(&user);
        if !known && self.user(&user).await?.user.enrollments == 0 {
            return Err(ServiceError::NotEnrolled(user));
        }
        let earlier = self.shared.store.newest_fingerprints(&user).await?;
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let walk = shared.read(&serving, evidence, Purpose::Verify, scratch)?;
            let Walk { template, fingerprints, seconds, .. } = walk;
            if seconds > LONGEST_CLAIM_SECONDS {
                let allowed_seconds = LONGEST_CLAIM_SECONDS;
                return Err(ServiceError::TooLong { seconds, allowed_seconds });
            }
            let seen = earlier.first().map_or(0, |(number, _)| *number);
            let earlier: Vec<Fingerprint> = earlier.into_iter().map(|(_, mark)| mark).collect();
            let key = session.map(|session| SessionKey { principal, user: user.clone(), session });
            let retried = key.as_ref().is_some_and(|key| serving.sessions().holds(key, &template));
            let in_session = key.is_some();
            // What is learned must be known should it be sent again: features never are.
            let is_new = !retried && !fingerprints.is_empty();
            let updates = shared.settings.get().update_templates && is_new;
            let update = (updates && may_update(&template)).then(|| template.clone());
            let standing = match key {
                _ if !retried && replays(&fingerprints, earlier.iter()) => Standing::Replay,
                Some(key) => serving.sessions().add(key, template.clone(), fingerprints),
                None => Standing::Counts(template.clone(), fingerprints),
            };
            let (probe, fingerprints) = match standing {
                Standing::Counts(probe, fingerprints) => (probe, Some(fingerprints)),
                Standing::Replay => (template, None),
            };
            let begin = Instant::now();
            let gallery = serving.gallery();
            let candidate = gallery.compare(&user, &probe);
            let tails = gallery.tails();
            // A session is looked at again and again.
            let tail = if in_session { tails.session } else { tails.single };
            shared.metrics.stages.gallery.observe(begin.elapsed().as_secs_f64());
            let Some(candidate) = candidate else {
                // Erased since it was looked up.
                serving.sessions().forget(&user);
                return Err(ServiceError::NotEnrolled(user));
            };
            let (calibration, strength) = (gallery.calibration(), candidate.strength);
            let verdict = match fingerprints {
                Some(_) => Verdict::new(strength, &probe, fmr, calibration, &tail),
                None => Verdict::SuspectedReplay,
            };
            let mut fingerprints =
                fingerprints.filter(|_| verdict == Verdict::Accept).unwrap_or_default();
            fingerprints.retain(|mark| !earlier.contains(mark));
            Ok(Verification {
                user,
                verdict,
                score: candidate.score,
                estimated_fmr: tail.fmr(strength),
                fmr,
                windows: probe.windows(),
                model: serving.model.id().to_owned(),
                tails,
                enrollment: None,
                trace: Trace {
                    challenge,
                    fingerprints,
                    update: update.filter(|_| verdict == Verdict::Accept),
                    retried,
                    seen,
                },
            })
        };
        self.shared.pool.run(entry, decide).await?
    }
}

impl Verification {
    /// Whether there is nothing to be written, but for the answer.
    fn leaves_nothing(&self) -> bool {
        self.trace.challenge.is_none() && self.trace.fingerprints.is_empty()
    }

    /// The challenge that it uses up.
    pub(super) fn challenge(&self) -> Option<&str> {
        self.trace.challenge.as_deref()
    }
}

impl Shared {
    /// Uses up the challenge of a verification that is on disk. A recording that is no walk, or a
    /// change that failed, does not cost one.
    pub(super) fn redeem(&self, verification: &Verification) {
        if let Some(nonce) = verification.challenge() {
            self.challenges().redeem(nonce, &verification.user);
        }
    }
}

impl Turn {
    /// Looks again at what may have changed since a verification was decided, now that no other
    /// change is under way, and keeps what tells its walks should they be sent again, and the walk
    /// itself where it is an update.
    pub(super) async fn settle(
        &mut self,
        shared: &Shared,
        verification: &mut Verification,
        walks: &mut Walks,
    ) -> Result<(), ServiceError> {
        let Verification { user, verdict, model, enrollment, trace, .. } = verification;
        self.writing.user(user).await?;
        if let Some(nonce) = &trace.challenge
            && !shared.challenges().is_good(nonce, user, Instant::now())
        {
            return Err(ServiceError::BadChallenge);
        }
        let newer = match trace.fingerprints.is_empty() {
            true => Vec::new(),
            false => self.writing.fingerprints_after(user, trace.seen).await?,
        };
        trace.fingerprints.retain(|mark| !(trace.retried && newer.contains(mark)));
        if !newer.is_empty() {
            let walk = trace.fingerprints.clone();
            let compare = move |_: &mut Scratch| replays(&walk, newer.iter());
            if shared.pool.run(Entry::Always, compare).await? {
                *verdict = Verdict::SuspectedReplay;
                trace.fingerprints.clear();
                trace.update = None;
            }
        }
        for fingerprint in &trace.fingerprints {
            self.writing.add_fingerprint(user, None, fingerprint).await?;
        }
        if let Some(walk) = &trace.update {
            *enrollment = walks.update(shared, &mut self.writing, user, model, walk).await?;
        }
        count_verification(&shared.metrics.decisions, verification);
        Ok(())
    }
}

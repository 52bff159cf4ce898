//! Verification (1:1): whether the walker is the claimed user.

use std::sync::Arc;
use std::time::Instant;

use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::{Fingerprint, Mend};
use bipedalnet_core::identity::{
    Doubt, FALSE_MATCH_RATES, FEATURES_FMR, FIRST_WINDOWS, STRICTEST_FMR, Tails, Template, UserId,
    Verdict,
};

use super::active_model::{ActiveModel, LoadedModel};
use super::activity::Activity;
use super::attempts::{Attempt, Attempts};
use super::challenges::{self, Challenges, Owner};
use super::idempotency::Reservation;
use super::pool::{Admission, Cost};
use super::sessions::{Addition, NewWalks, Session, SessionUse, Since};
use super::template_update::is_long_enough;
use super::walk_reader::{Evidence, Purpose, ReadWalk, WalkReader};
use super::write::{Write, Writes};
use super::{ServiceError, SessionId};
use crate::access::Principal;
use crate::store::{AuditEvent, COMPARED, SessionKey, Store};

/// The longest walk that is verified. Longer ones would cost too much: each minute is compared with
/// earlier walks.
const MAX_SECONDS: f64 = 120.0;

/// A claim to be a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Who makes the claim.
    pub principal: Principal,
    /// The claimed user.
    pub user: UserId,
    /// The walk.
    pub evidence: Evidence,
    /// One of [`FALSE_MATCH_RATES`].
    pub fmr: f64,
    /// All walks of a session count together. A walk that is sent twice counts once.
    pub session: Option<SessionId>,
    /// From [`Challenges::create`].
    pub challenge: Option<String>,
}

impl Claim {
    /// What it costs to decide, at most.
    pub(super) fn cost(&self) -> Cost {
        let seconds = self.evidence.seconds().min(MAX_SECONDS);
        self.evidence.cost(Purpose::Verify) + Cost::of_fingerprints(seconds, COMPARED)
    }
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// The claimed user.
    pub user: UserId,
    /// Whether the claim holds.
    pub verdict: Verdict,
    /// Cosine between the walk and the user's template, from -1 to 1.
    pub score: f32,
    /// Upper estimate of the share of other people's walks that score at least as high.
    pub estimated_fmr: f64,
    /// The false match rate that decided.
    pub fmr: f64,
    /// Windows of walking, those of earlier requests in the session included.
    pub windows: u32,
    /// What was mended in the recording.
    pub mends: Vec<Mend>,
    /// Id of the model that decided.
    pub model: String,
    /// The thresholds that decided.
    pub tails: Tails,
    /// Number of the enrollment, if the walk was added to the user's template.
    pub enrollment: Option<i64>,
    pending: Box<PendingChanges>,
}

/// What a verification writes.
#[derive(Clone, Debug, PartialEq)]
struct PendingChanges {
    /// Who made the claim.
    principal: Principal,
    /// What it counts as.
    attempt: Attempt,
    /// The challenge that is used up.
    challenge: Option<String>,
    /// New fingerprints of the accepted walks, to detect replays.
    fingerprints: Vec<Fingerprint>,
    /// The walk, if it may be added to the user's template.
    update: Option<Template>,
    /// Whether the session had the walk already.
    is_retry: bool,
    /// What changes in its session.
    session: Option<SessionUse>,
    /// Number of the newest fingerprint that the walk was compared with.
    newest_compared: i64,
}

/// A claim whose walk is read.
struct Probe {
    principal: Principal,
    user: UserId,
    walk: ReadWalk,
    /// Whether the walk was sent before.
    is_replay: bool,
    /// Fingerprints of earlier walks with their numbers, the newest first.
    earlier: Vec<(i64, Fingerprint)>,
    fmr: f64,
    session: Option<Session>,
    challenge: Option<String>,
}

impl PendingChanges {
    /// Another request has sent the walk in this session since the decision.
    fn become_retry(&mut self) {
        self.is_retry = true;
        self.update = None;
        if self.attempt == Attempt::Failed {
            self.attempt = Attempt::Neutral;
        }
    }

    /// The walk is a replay after all.
    fn become_replay(&mut self) {
        self.attempt = Attempt::Neutral;
        self.fingerprints.clear();
        self.update = None;
    }
}

/// Verifies claims.
#[derive(Clone)]
pub struct Verify {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) reader: WalkReader,
    pub(super) challenges: Challenges,
    pub(super) attempts: Attempts,
    pub(super) writes: Writes,
    pub(super) activity: Activity,
}

impl Verify {
    /// Verifies a claim. Counts it if it failed, and stores fingerprints of an accepted walk, so that a
    /// replay is detected.
    ///
    /// # Errors
    /// If the user does not exist or has no walk, too many verifications failed, the false match rate
    /// is not supported, the challenge is missing or invalid, the evidence is no walk, or the pool or
    /// the database fails.
    pub async fn run(
        &self,
        reservation: Reservation,
        claim: Claim,
    ) -> Result<(Verification, Write), ServiceError> {
        let admitted = self.reader.pool.admit(claim.cost())?;
        let mut verification = self.decide(self.active.get(), claim, &mut NewWalks::new()).await?;
        drop(admitted);
        let mut write = self.writes.begin(reservation).await?;
        write.claim(&[&verification.user]).await?;
        self.settle(&mut write, &mut verification).await?;
        Ok((verification, write))
    }

    /// Decides a claim that is admitted already, and writes nothing yet. `new_walks` are those of the same
    /// batch.
    pub(super) async fn decide(
        &self,
        model: Arc<LoadedModel>,
        claim: Claim,
        new_walks: &mut NewWalks,
    ) -> Result<Verification, ServiceError> {
        self.check(&claim).await?;
        let user = &claim.user;
        let is_in_gallery = model.gallery(&user.collection()).read().contains(user);
        if !is_in_gallery && self.store.user(user).await?.enrollments == 0 {
            return Err(ServiceError::NotEnrolled(user.clone()));
        }
        self.attempts.check(user, &claim.principal).await?;
        let earlier = self.store.newest_fingerprints(user).await?;
        let Claim { principal, user, evidence, fmr, session, challenge } = claim;
        let session = match session {
            Some(SessionId(name)) => {
                let key = SessionKey {
                    principal: principal.id.clone(),
                    user: user.clone(),
                    name: name.to_string(),
                    of_features: matches!(evidence, Evidence::Features { .. }),
                };
                Some(Session::read(&self.store, key, model.id(), new_walks).await?)
            }
            None => None,
        };
        let walk = self.read(&model, evidence).await?;
        let marks = earlier.iter().map(|(_, mark)| mark);
        let is_replay = self.reader.is_replay(&walk.fingerprints, marks).await?;
        let probe = Probe { principal, user, walk, is_replay, earlier, fmr, session, challenge };
        let reader = self.reader.clone();
        let compare = move |scratch: &mut Scratch| compare(&reader, &model, probe, scratch);
        let verification = self.reader.pool.run(Admission::Always, compare).await??;
        if let Some(session) = &verification.pending.session {
            session.note(new_walks);
        }
        Ok(verification)
    }

    async fn read(
        &self,
        model: &Arc<LoadedModel>,
        evidence: Evidence,
    ) -> Result<ReadWalk, ServiceError> {
        let walk = self.reader.read_on_pool(model, evidence, Purpose::Verify).await?;
        if walk.seconds > MAX_SECONDS {
            let seconds = walk.seconds;
            return Err(ServiceError::TooLong { seconds, allowed_seconds: MAX_SECONDS });
        }
        Ok(walk)
    }

    async fn check(&self, claim: &Claim) -> Result<(), ServiceError> {
        if !FALSE_MATCH_RATES.contains(&claim.fmr) {
            return Err(ServiceError::UnknownRate { fmr: claim.fmr });
        }
        // A replay of features cannot be detected.
        let needs_challenge = matches!(claim.evidence, Evidence::Features { .. })
            || self.reader.settings.get().require_challenge;
        match &claim.challenge {
            Some(nonce) => {
                self.challenges.check(nonce, &owner(&claim.user, &claim.principal)).await
            }
            None if needs_challenge => Err(ServiceError::ChallengeNeeded),
            None => Ok(()),
        }
    }

    /// Checks again what may have changed since the decision, now that no other write to this user is under
    /// way.
    /// Then writes the result of the verification.
    pub(super) async fn settle(
        &self,
        write: &mut Write,
        verification: &mut Verification,
    ) -> Result<(), ServiceError> {
        let Verification { user, verdict, model, enrollment, pending, .. } = verification;
        write.transaction.user(user).await?;
        if let Some(nonce) = &pending.challenge {
            // An invalid recording, or a write that fails, does not use a challenge up.
            let owner = owner(user, &pending.principal);
            challenges::redeem(&mut write.transaction, nonce, &owner).await?;
        }
        // Walks that an earlier model read count no more.
        let session = pending.session.take().filter(|_| self.active.get().id() == model);
        let since = match &session {
            Some(session) => session.renew(write, &self.reader, model).await?,
            None => Since::Nothing,
        };
        if since == Since::SameWalk {
            pending.become_retry();
        }
        let newer = match pending.fingerprints.is_empty() {
            true => Vec::new(),
            false => write.transaction.fingerprints_after(user, pending.newest_compared).await?,
        };
        pending.fingerprints.retain(|mark| !(pending.is_retry && newer.contains(mark)));
        if since == Since::Copy
            || self.reader.is_replay(&pending.fingerprints, newer.iter()).await?
        {
            *verdict = Verdict::SuspectedReplay;
            pending.become_replay();
        } else if let Some(session) = session
            && since == Since::Nothing
        {
            session.add(write, model).await?;
        }
        // The answer of a verification that is one too many would help a guesser.
        self.attempts.count(write, user, &pending.principal, pending.attempt).await?;
        for fingerprint in &pending.fingerprints {
            write.transaction.add_fingerprint(user, None, fingerprint).await?;
        }
        if let Some(walk) = &pending.update {
            *enrollment = write.update_template(&self.active, user, model, walk).await?;
        }
        write.transaction.audit(AuditEvent::Verified(user, name(*verdict))).await?;
        write.named_users.insert(user.clone());
        self.count(verification);
        Ok(())
    }

    fn count(&self, answer: &Verification) {
        if answer.verdict == Verdict::Accept {
            self.activity.note(&answer.user);
        }
        let metrics = &self.reader.metrics.decisions;
        match answer.verdict {
            Verdict::Accept => &metrics.accept,
            Verdict::Reject => &metrics.reject,
            Verdict::Inconclusive(_) => &metrics.verify_inconclusive,
            Verdict::SuspectedReplay => &metrics.suspected_replay,
        }
        .inc();
        let collection = answer.user.collection();
        self.reader.metrics.collections.decided(&collection, "verify", name(answer.verdict));
        metrics.verify_score.observe(answer.score.into());
    }
}

/// Name of a decision in the audit trail and in metrics.
fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Inconclusive(_) => "inconclusive",
        Verdict::SuspectedReplay => "suspected_replay",
    }
}

fn owner(user: &UserId, principal: &Principal) -> Owner {
    Owner { user: user.clone(), key: principal.key.clone() }
}

/// Compares a walk with the claimed user's template. Runs on the pool.
fn compare(
    reader: &WalkReader,
    model: &LoadedModel,
    probe: Probe,
    scratch: &mut Scratch,
) -> Result<Verification, ServiceError> {
    let Probe { principal, user, walk, is_replay, earlier, fmr, session, challenge } = probe;
    let of_features = walk.recording.is_none();
    let fmr = if of_features { fmr.min(FEATURES_FMR) } else { fmr };
    let ReadWalk { template, fingerprints, mends, recording, .. } = walk;
    let newest_compared = earlier.first().map_or(0, |(number, _)| *number);
    let earlier: Vec<Fingerprint> = earlier.into_iter().map(|(_, mark)| mark).collect();
    let is_retry = session.as_ref().is_some_and(|session| session.holds(&template));
    let in_session = session.is_some();
    // Without fingerprints a replay of the update could not be detected.
    let may_update =
        reader.settings.get().update_templates && !is_retry && !fingerprints.is_empty();
    let update = (may_update && is_long_enough(&template)).then(|| template.clone());
    let (addition, session) = match session {
        _ if !is_retry && is_replay => (Addition::Replay, None),
        Some(session) => {
            let (addition, used) = session.add(template.clone(), fingerprints);
            (addition, Some(used))
        }
        None => (Addition::Counts(template.clone(), fingerprints), None),
    };
    let (probe, fingerprints) = match addition {
        Addition::Counts(probe, fingerprints) => (probe, Some(fingerprints)),
        Addition::Replay => (template, None),
    };
    let begin = Instant::now();
    let shared = model.gallery(&user.collection());
    let gallery = shared.read();
    let candidate = gallery.compare(&user, &probe);
    let tails = gallery.tails();
    // A session is decided several times: its threshold is stricter.
    let tail = if in_session { tails.session } else { tails.single };
    reader.metrics.stages.gallery.ended(begin);
    let Some(candidate) = candidate else {
        // Deleted since the request began.
        return Err(ServiceError::NotEnrolled(user));
    };
    let strength = candidate.strength;
    let verdict = match fingerprints {
        Some(_) if of_features => {
            gallery.verdict(&candidate, &probe, fmr, &tail).of_features(probe.windows())
        }
        Some(_) => gallery.verdict(&candidate, &probe, fmr, &tail),
        None => Verdict::SuspectedReplay,
    };
    drop(gallery);
    let doubtful =
        recording.filter(|_| matches!(verdict, Verdict::Reject | Verdict::Inconclusive(_)));
    // A looser rate would call too many strangers mirrored.
    let is_mirrored = doubtful.is_some_and(|recording| {
        reader.is_mirrored(model, recording, scratch, |mirrored| {
            let gallery = shared.read();
            gallery.compare(&user, mirrored).is_some_and(|candidate| {
                candidate.strength > strength
                    && gallery.verdict(&candidate, mirrored, STRICTEST_FMR, &tail)
                        == Verdict::Accept
            })
        })
    });
    let verdict = if is_mirrored { Verdict::Inconclusive(Doubt::Mirrored) } else { verdict };
    let is_accepted = verdict == Verdict::Accept;
    let mut fingerprints = fingerprints.filter(|_| is_accepted).unwrap_or_default();
    fingerprints.retain(|mark| !earlier.contains(mark));
    Ok(Verification {
        user,
        verdict,
        score: candidate.score,
        estimated_fmr: tail.fmr(strength),
        fmr,
        windows: probe.windows(),
        mends,
        model: model.id().to_owned(),
        tails,
        enrollment: None,
        pending: Box::new(PendingChanges {
            principal,
            attempt: attempt(verdict, tail.fmr(strength), &probe, !of_features, is_retry),
            challenge,
            fingerprints,
            update: update.filter(|_| is_accepted),
            is_retry,
            session,
            newest_compared,
        }),
    })
}

/// What a verification counts as, with the rate of false matches at its strength.
fn attempt(
    verdict: Verdict,
    fmr: f64,
    probe: &Template,
    is_recording: bool,
    is_retry: bool,
) -> Attempt {
    match verdict {
        // A guesser could reset the count by a match at a rate of one in ten, or by features that they
        // made up.
        Verdict::Accept if is_recording && fmr <= STRICTEST_FMR => Attempt::Genuine,
        // With fewer windows nothing is decided, and a retry gets the decision that it had.
        Verdict::Reject | Verdict::Inconclusive(_)
            if probe.windows() >= FIRST_WINDOWS && !is_retry =>
        {
            Attempt::Failed
        }
        _ => Attempt::Neutral,
    }
}

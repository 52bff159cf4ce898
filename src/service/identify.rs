//! Identification (1:N): who of many users is walking.

use std::collections::BTreeSet;
use std::time::Instant;

use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::gait::Mend;
use bipedalnet_core::identity::{CollectionId, Decision, Doubt, Tails, UserId};

use super::ServiceError;
use super::active_model::{ActiveModel, LoadedModel};
use super::activity::Activity;
use super::walk_reader::{Evidence, Purpose, ReadWalk, WalkReader};
use crate::store::Store;

/// Candidates in a result.
const CANDIDATES: usize = 5;

/// An identification among fewer users would be a verification whose failures do not count.
const FEWEST_AMONG: usize = 5;

/// A user who may be the walker.
#[derive(Clone, Debug, PartialEq)]
pub struct NearUser {
    pub user: UserId,
    /// Cosine between the walk and the user's template, from -1 to 1.
    pub score: f32,
    /// Upper estimate of the share of other people's walks that score at least as high.
    pub estimated_fmr: f64,
}

/// The result of an identification.
#[derive(Clone, Debug, PartialEq)]
pub struct Identification {
    /// Who it is.
    pub decision: Decision,
    /// The nearest users, nearest first.
    pub candidates: Vec<NearUser>,
    /// Windows of walking.
    pub windows: u32,
    /// What was mended in the recording.
    pub mends: Vec<Mend>,
    /// Id of the model that decided.
    pub model: String,
    /// The thresholds that decided.
    pub tails: Tails,
}

/// Identifies walkers.
#[derive(Clone)]
pub struct Identify {
    pub(super) store: Store,
    pub(super) active: ActiveModel,
    pub(super) reader: WalkReader,
    pub(super) activity: Activity,
}

impl Identify {
    /// Checks that users to compare a walk with exist. Reads the database only if one of them has no walk.
    ///
    /// # Errors
    /// If one does not exist, or the database fails.
    pub async fn check_named(
        &self,
        collection: &CollectionId,
        among: Option<&BTreeSet<UserId>>,
    ) -> Result<(), ServiceError> {
        let Some(users) = among else { return Ok(()) };
        if self.active.get().gallery(collection).read().count(among) == users.len() {
            return Ok(());
        }
        match self.store.unknown_user(users).await? {
            Some(user) => Err(ServiceError::UnknownAmong(user)),
            None => Ok(()),
        }
    }

    /// Identifies a walker among all users of a collection, or among some of them. Does not touch the database. Runs on the
    /// pool, in one job with the decoding of the body.
    ///
    /// # Errors
    /// If the evidence is no walk, or `among` has too few enrolled users.
    pub fn run(
        &self,
        collection: &CollectionId,
        evidence: Evidence,
        among: Option<&BTreeSet<UserId>>,
        scratch: &mut Scratch,
    ) -> Result<Identification, ServiceError> {
        self.decide(&self.active.get(), collection, evidence, among, scratch)
    }

    /// Like [`Identify::run`], with this model.
    pub(super) fn decide(
        &self,
        model: &LoadedModel,
        collection: &CollectionId,
        evidence: Evidence,
        among: Option<&BTreeSet<UserId>>,
        scratch: &mut Scratch,
    ) -> Result<Identification, ServiceError> {
        let shared = model.gallery(collection);
        if among.is_some() {
            let enrolled = shared.read().count(among);
            if enrolled < FEWEST_AMONG {
                return Err(ServiceError::TooFewUsers { enrolled, needed: FEWEST_AMONG });
            }
        }
        let of_features = matches!(evidence, Evidence::Features { .. });
        let ReadWalk { template: probe, recording, mends, .. } =
            self.reader.read(model, evidence, Purpose::Identify, scratch)?;
        let begin = Instant::now();
        let gallery = shared.read();
        let candidates = gallery.rank(&probe, among, CANDIDATES);
        let compared = gallery.count(among);
        let tails = gallery.tails();
        let decision = gallery.decision(&candidates, compared, &probe);
        let decision = if of_features {
            let nearest = candidates.first().map_or(1.0, |first| tails.single.fmr(first.strength));
            decision.of_features(nearest, probe.windows())
        } else {
            decision
        };
        drop(gallery);
        self.reader.metrics.stages.gallery.ended(begin);
        let strength = candidates.first().map(|candidate| candidate.strength);
        let doubtful =
            recording.zip(strength).filter(|_| !matches!(decision, Decision::Identified(_)));
        let is_mirrored = doubtful.is_some_and(|(recording, strength)| {
            self.reader.is_mirrored(model, recording, scratch, |mirrored| {
                let gallery = shared.read();
                let candidates = gallery.rank(mirrored, among, CANDIDATES);
                let decision = gallery.decision(&candidates, gallery.count(among), mirrored);
                candidates.first().is_some_and(|candidate| candidate.strength > strength)
                    && matches!(decision, Decision::Identified(_))
            })
        });
        let decision = if is_mirrored { Decision::Inconclusive(Doubt::Mirrored) } else { decision };
        let candidates = candidates.into_iter().map(|candidate| NearUser {
            estimated_fmr: tails.single.fmr(candidate.strength),
            user: candidate.user,
            score: candidate.score,
        });
        let identification = Identification {
            decision,
            candidates: candidates.collect(),
            windows: probe.windows(),
            mends,
            model: model.id().to_owned(),
            tails,
        };
        self.count(collection, &identification);
        Ok(identification)
    }

    fn count(&self, collection: &CollectionId, answer: &Identification) {
        if let Decision::Identified(user) = &answer.decision {
            self.activity.note(user);
        }
        let metrics = &self.reader.metrics.decisions;
        let (counter, decision) = match answer.decision {
            Decision::Identified(_) => (&metrics.identified, "identified"),
            Decision::Unknown => (&metrics.unknown, "unknown"),
            Decision::Inconclusive(_) => (&metrics.identify_inconclusive, "inconclusive"),
        };
        counter.inc();
        self.reader.metrics.collections.decided(collection, "identify", decision);
        if let Some(nearest) = answer.candidates.first() {
            metrics.identify_score.observe(nearest.score.into());
        }
    }
}

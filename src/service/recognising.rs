//! Who is walking: among all (1:N), or whether it is the one (1:1).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{FALSE_MATCH_RATES, Service, ServiceError, SessionId};
use crate::bnn::Scratch;
use crate::gait::Recording;
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

/// An answer to "is it this user who walks?".
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Whether it is.
    pub verdict: Verdict,
    /// Cosine between the walk and the user's template, from -1 to 1.
    pub score: f32,
    /// Windows of walking that it rests on, earlier requests of the session included.
    pub windows: u32,
    /// Id of the model that decided.
    pub model: String,
}

impl Service {
    /// Tells who is walking, among all enrolled users or `among` some. Does not touch the database.
    ///
    /// # Errors
    /// When the recording is no walk, or there is no compute for it.
    pub async fn identify(
        &self,
        recording: Recording,
        among: Option<BTreeSet<UserId>>,
    ) -> Result<Identification, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let (probe, _) = shared.template(&recording, scratch)?;
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

    /// Tells whether a walk is a user's, at a false match rate of [`FALSE_MATCH_RATES`]. Walks of one
    /// session count together, each once, however often it is sent.
    ///
    /// # Errors
    /// When the user does not exist or has no walk, there is no threshold for the rate, the recording
    /// is no walk, or there is no compute for it.
    pub async fn verify(
        &self,
        user: UserId,
        recording: Recording,
        fmr: f64,
        session: Option<SessionId>,
    ) -> Result<Verification, ServiceError> {
        let point = FALSE_MATCH_RATES.iter().position(|rate| *rate == fmr);
        let point = point.ok_or(ServiceError::UnknownRate { fmr })?;
        if self.user(&user).await?.user.enrollments == 0 {
            return Err(ServiceError::NotEnrolled(user));
        }
        let shared = Arc::clone(&self.shared);
        let decide = move |scratch: &mut Scratch| {
            let (mut probe, _) = shared.template(&recording, scratch)?;
            if let Some(session) = session {
                probe = shared.sessions().add(&user, session, probe);
            }
            let score = shared.gallery().score(&user, &probe);
            // Erased since it was looked up.
            let score = score.ok_or_else(|| ServiceError::NotEnrolled(user))?;
            let threshold = shared.verification_thresholds[point];
            Ok(Verification {
                verdict: Verdict::new(score, threshold, probe.windows()),
                score,
                windows: probe.windows(),
                model: shared.model.id().to_owned(),
            })
        };
        self.shared.pool.run(decide).await?
    }
}

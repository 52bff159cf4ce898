//! Several pieces of work in one request.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::enrolling::Walks;
use super::evidence::Walk;
use super::pool::Entry;
use super::serving::Serving;
use super::writing::{Answer, Start, Turn};
use super::{
    Claim, Enrolled, Evidence, IdempotentRequest, Identification, Service, ServiceError, Shared,
    StoredResponse, Verification,
};
use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::identity::{Decision, UserId};

/// A piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// As [`Service::enroll`].
    Enroll {
        /// Whose walk it is.
        user: UserId,
        /// The walk.
        evidence: Evidence,
    },
    /// As [`Service::identify`].
    Identify {
        /// The walk.
        evidence: Evidence,
        /// Users to choose from.
        among: Option<BTreeSet<UserId>>,
    },
    /// As [`Service::verify`].
    Verify(Claim),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A walk that was enrolled.
    Enrolled(Enrolled),
    /// Who is walking.
    Identified(Identification),
    /// Whether a claim holds.
    Verified(Verification),
}

/// An item whose compute is done.
enum Done {
    Read(UserId, Walk),
    Identified(Identification),
    Verified(Verification),
}

/// What a batch changes.
#[derive(Default)]
struct Written {
    /// Whom its answer names.
    users: BTreeSet<UserId>,
    walks: Walks,
    /// Challenges to be used up, each with its user.
    challenges: Vec<(String, UserId)>,
}

impl Service {
    /// Carries out each item, and puts in the database together, at the end, what is to be written:
    /// an item that fails is an outcome like others, but of a batch that cannot be written nothing is.
    ///
    /// # Errors
    /// When there is no compute, the database fails, or the request's key stands for another request.
    pub async fn batch(
        &self,
        items: Vec<Item>,
        request: Option<IdempotentRequest>,
        answer: impl FnOnce(Vec<Result<Outcome, ServiceError>>) -> StoredResponse + Send + 'static,
    ) -> Result<Answer, ServiceError> {
        let ticket = match self.start(request).await? {
            Start::New(ticket) => ticket,
            Start::Answered(answer) => return Ok(answer),
        };
        let serving = self.shared.serving();
        let mut done = Vec::with_capacity(items.len());
        // One after the other: a batch takes no more of the pool than any other request.
        for item in items {
            match self.compute_item(&serving, item).await {
                // Not an outcome that a retry should get again.
                Err(error @ (ServiceError::Pool(_) | ServiceError::Store(_))) => return Err(error),
                result => done.push(result),
            }
        }
        self.write(ticket, |shared, mut turn| async move {
            let mut written = Written::default();
            let mut outcomes = Vec::with_capacity(done.len());
            for item in done {
                let outcome = match item {
                    Ok(item) => turn.write_item(&shared, item, &mut written).await,
                    Err(error) => Err(error),
                };
                match outcome {
                    Err(error @ ServiceError::Store(_)) => return Err(error),
                    outcome => outcomes.push(outcome),
                }
            }
            let reply = answer(outcomes);
            turn.commit(&written.users, &reply).await?;
            for (nonce, user) in &written.challenges {
                shared.challenges().redeem(nonce, user);
            }
            written.walks.show(&shared);
            Ok(reply)
        })
        .await
    }

    async fn compute_item(&self, serving: &Arc<Serving>, item: Item) -> Result<Done, ServiceError> {
        let serving = Arc::clone(serving);
        Ok(match item {
            Item::Enroll { user, evidence } => {
                let walk = self.walk_of(serving, &user, evidence, Entry::Always).await?;
                Done::Read(user, walk)
            }
            Item::Identify { evidence, among } => {
                let shared = Arc::clone(&self.shared);
                let look = move |scratch: &mut Scratch| {
                    shared.look(&serving, evidence, among.as_ref(), scratch)
                };
                Done::Identified(self.shared.pool.run(Entry::Always, look).await??)
            }
            Item::Verify(claim) => {
                Done::Verified(self.decide(serving, claim, Entry::Always).await?)
            }
        })
    }
}

impl Turn {
    async fn write_item(
        &mut self,
        shared: &Shared,
        item: Done,
        written: &mut Written,
    ) -> Result<Outcome, ServiceError> {
        Ok(match item {
            Done::Read(user, mut walk) => {
                shared.read_by_who_serves(&mut walk).await?;
                let enrolled = written.walks.add(shared, &mut self.writing, &user, &walk).await?;
                written.users.insert(user);
                Outcome::Enrolled(enrolled)
            }
            Done::Identified(mut identification) => {
                // Whoever was erased since is not named.
                let serving = shared.serving();
                let gallery = serving.gallery();
                identification.candidates.retain(|candidate| gallery.contains(&candidate.user));
                if let Decision::Identified(user) = &identification.decision
                    && !gallery.contains(user)
                {
                    identification.decision = Decision::Unknown;
                }
                let named = identification.candidates.iter();
                written.users.extend(named.map(|candidate| candidate.user.clone()));
                Outcome::Identified(identification)
            }
            Done::Verified(mut verification) => {
                if let Some(nonce) = verification.challenge() {
                    if written.challenges.iter().any(|(used, _)| used == nonce) {
                        return Err(ServiceError::BadChallenge);
                    }
                    written.challenges.push((nonce.to_owned(), verification.user.clone()));
                }
                self.settle(shared, &mut verification, &mut written.walks).await?;
                written.users.insert(verification.user.clone());
                Outcome::Verified(verification)
            }
        })
    }
}

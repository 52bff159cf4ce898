//! Several pieces of work in one request.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::evidence::Walk;
use super::serving::Serving;
use super::writing::{Answer, Start};
use super::{
    Claim, Enrolled, Evidence, Identification, Reply, Request, Service, ServiceError, Verification,
};
use crate::identity::UserId;

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

impl Service {
    /// Carries out each item, and puts in the database together, at the end, what is to be written:
    /// an item that fails is an outcome like others, but of a batch that cannot be written nothing is.
    ///
    /// # Errors
    /// When there is no compute, the database fails, or the request's key stands for another request.
    pub async fn batch(
        &self,
        items: Vec<Item>,
        request: Option<Request>,
        answer: impl FnOnce(Vec<Result<Outcome, ServiceError>>) -> Reply + Send + 'static,
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
            let mut users = Vec::new();
            let mut templates = Vec::new();
            let mut outcomes = Vec::with_capacity(done.len());
            for item in done {
                outcomes.push(match item {
                    Ok(Done::Read(user, mut walk)) => {
                        match turn.enroll(&shared, &user, &mut walk).await {
                            Ok(enrolled) => {
                                users.push(user.clone());
                                templates.push((user, walk.template));
                                Ok(Outcome::Enrolled(enrolled))
                            }
                            Err(error @ (ServiceError::Pool(_) | ServiceError::Store(_))) => {
                                return Err(error);
                            }
                            // The user was erased since, or another model took over.
                            Err(error) => Err(error),
                        }
                    }
                    Ok(Done::Identified(identification)) => {
                        let named = identification.candidates.iter();
                        users.extend(named.map(|candidate| candidate.user.clone()));
                        Ok(Outcome::Identified(identification))
                    }
                    Ok(Done::Verified(verification)) => {
                        let user = &verification.user;
                        for fingerprint in &verification.remembered {
                            turn.writing.add_fingerprint(user, None, fingerprint).await?;
                        }
                        users.push(user.clone());
                        Ok(Outcome::Verified(verification))
                    }
                    Err(error) => Err(error),
                });
            }
            let reply = answer(outcomes);
            turn.commit(&users, &reply).await?;
            let serving = shared.serving();
            let mut gallery = serving.gallery_mut();
            for (user, template) in &templates {
                gallery.add(user, template);
            }
            drop(gallery);
            Ok(reply)
        })
        .await
    }

    async fn compute_item(&self, serving: &Arc<Serving>, item: Item) -> Result<Done, ServiceError> {
        let serving = Arc::clone(serving);
        Ok(match item {
            Item::Enroll { user, evidence } => {
                let walk = self.walk_of(serving, &user, evidence).await?;
                Done::Read(user, walk)
            }
            Item::Identify { evidence, among } => {
                let identification = self.identify_with(serving, evidence, among).await?;
                Done::Identified(identification)
            }
            Item::Verify(claim) => Done::Verified(self.decide(serving, claim).await?),
        })
    }
}

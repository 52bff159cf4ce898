//! Several enrollments, identifications and verifications in one request.

use std::collections::BTreeSet;
use std::sync::Arc;

use bipedalnet_core::bnn::Scratch;
use bipedalnet_core::identity::{CollectionId, Decision, UserId};

use super::ServiceError;
use super::active_model::LoadedModel;
use super::enroll::{Enroll, Enrolled};
use super::idempotency::Reservation;
use super::identify::{Identification, Identify};
use super::pool::{Admission, Cost, Pool};
use super::sessions::NewWalks;
use super::verify::{Claim, Verification, Verify};
use super::walk_admission::Permit;
use super::walk_reader::{Evidence, Purpose, ReadWalk};
use super::write::{Write, Writes};

/// One item of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Like [`Enroll::run`].
    Enroll {
        user: UserId,
        /// The walk.
        evidence: Evidence,
        permit: Permit,
    },
    /// Like [`Identify::run`].
    Identify {
        collection: CollectionId,
        /// The walk.
        evidence: Evidence,
        /// Users to compare the walk with. `None` means all users.
        among: Option<BTreeSet<UserId>>,
    },
    /// Like [`Verify::run`].
    Verify(Claim),
}

/// The result of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The new enrollment.
    Enrolled(Enrolled),
    /// The result of an identification.
    Identified(Identification),
    /// The result of a verification.
    Verified(Box<Verification>),
}

impl Item {
    fn cost(&self) -> Cost {
        match self {
            Self::Enroll { evidence, .. } => evidence.cost(Purpose::Enroll),
            Self::Identify { evidence, .. } => evidence.cost(Purpose::Identify),
            Self::Verify(claim) => claim.cost(),
        }
    }
}

/// An item that is computed but not written.
enum Computed {
    Walk(UserId, Box<ReadWalk>, Permit),
    Identification(CollectionId, Identification),
    Verification(Verification),
}

impl Computed {
    /// The user whom it changes.
    fn user(&self) -> Option<&UserId> {
        match self {
            Self::Walk(user, ..) => Some(user),
            Self::Identification(..) => None,
            Self::Verification(verification) => Some(&verification.user),
        }
    }
}

/// Carries out batches.
pub struct Batch {
    pub(super) enroll: Enroll,
    pub(super) identify: Identify,
    pub(super) verify: Verify,
    pub(super) writes: Writes,
    pub(super) pool: Pool,
}

impl Batch {
    /// Computes each item, and then writes all of them in one transaction. An item that fails has an
    /// error for its outcome.
    ///
    /// # Errors
    /// If the pool or the database fails.
    pub async fn run(
        &self,
        reservation: Reservation,
        items: Vec<Item>,
    ) -> Result<(Vec<Result<Outcome, ServiceError>>, Write), ServiceError> {
        let model = self.identify.active.get();
        let costs: Vec<Cost> = items.iter().map(Item::cost).collect();
        let cost = costs.iter().fold(Cost::default(), |all, cost| all + *cost);
        let mut admitted = self.pool.admit(cost)?;
        let mut computed = Vec::with_capacity(items.len());
        let mut new_walks = NewWalks::new();
        // One after the other: a batch takes no more of the pool than any other request.
        for (item, cost) in items.into_iter().zip(costs) {
            let result = self.compute(&model, item, &mut new_walks).await;
            admitted.spend(cost);
            match result {
                // A retry should not get such an outcome again.
                Err(error @ (ServiceError::Pool(_) | ServiceError::Store(_))) => return Err(error),
                result => computed.push(result),
            }
        }
        let mut write = self.writes.begin(reservation).await?;
        let users: Vec<&UserId> = computed.iter().flatten().filter_map(Computed::user).collect();
        write.claim(&users).await?;
        let mut outcomes = Vec::with_capacity(computed.len());
        for item in computed {
            let outcome = match item {
                Ok(item) => self.write(&mut write, item).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error @ (ServiceError::Pool(_) | ServiceError::Store(_))) => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        Ok((outcomes, write))
    }

    async fn compute(
        &self,
        model: &Arc<LoadedModel>,
        item: Item,
        new_walks: &mut NewWalks,
    ) -> Result<Computed, ServiceError> {
        let model = Arc::clone(model);
        Ok(match item {
            Item::Enroll { user, evidence, permit } => {
                let walk = self.enroll.read(model, &user, evidence, &permit).await?;
                Computed::Walk(user, Box::new(walk), permit)
            }
            Item::Identify { collection, evidence, among } => {
                self.identify.check_named(&collection, among.as_ref()).await?;
                let (identify, within) = (self.identify.clone(), collection.clone());
                let decide = move |scratch: &mut Scratch| {
                    identify.decide(&model, &within, evidence, among.as_ref(), scratch)
                };
                let identification = self.pool.run(Admission::Always, decide).await??;
                Computed::Identification(collection, identification)
            }
            Item::Verify(claim) => {
                let verification = self.verify.decide(model, claim, new_walks).await?;
                Computed::Verification(verification)
            }
        })
    }

    async fn write(&self, write: &mut Write, item: Computed) -> Result<Outcome, ServiceError> {
        Ok(match item {
            Computed::Walk(user, mut walk, permit) => {
                let Enroll { active, reader, .. } = &self.enroll;
                reader.read_again(active, &mut walk).await?;
                self.enroll.admission.admit(write, &permit, &user, &walk).await?;
                let max_enrollments = reader.settings.get().max_enrollments_per_user;
                let enrolled = write.add_enrollment(active, max_enrollments, &user, &walk).await?;
                write.named_users.insert(user);
                Outcome::Enrolled(enrolled)
            }
            Computed::Identification(collection, mut identification) => {
                // A user who was deleted since is not named.
                let model = self.identify.active.get();
                let shared = model.gallery(&collection);
                let gallery = shared.read();
                identification.candidates.retain(|candidate| gallery.contains(&candidate.user));
                if let Decision::Identified(user) = &identification.decision
                    && !gallery.contains(user)
                {
                    identification.decision = Decision::Unknown;
                }
                let named = identification.candidates.iter();
                write.named_users.extend(named.map(|candidate| candidate.user.clone()));
                Outcome::Identified(identification)
            }
            Computed::Verification(mut verification) => {
                self.verify.settle(write, &mut verification).await?;
                Outcome::Verified(Box::new(verification))
            }
        })
    }
}

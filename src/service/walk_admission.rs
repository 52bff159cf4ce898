//! Which walks may join a user's templates.
//!
//! A walk of somebody else opens the user's account to them, and may shut the user out. Three rules
//! limit that:
//!
//! - A walk counts once. A copy of an enrolled walk would only add weight.
//! - A user who is ready needs no more walks, so only some keys may add one.
//! - A walk must resemble the earlier ones, or somebody else must vouch for it. One that does not is a
//!   failed guess, as in a verification.

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{READY_WINDOWS, UserId};

use super::ServiceError;
use super::active_model::ActiveModel;
use super::attempts::{Attempt, Attempts};
use super::walk_reader::{ReadWalk, WalkReader};
use super::write::Write;
use crate::access::{Principal, Scope};

/// A walk joins a user's earlier walks if at most this share of other people's walks resembles them as
/// much. A lower rate would refuse more genuine walks in other shoes or at another pace.
const MAX_FMR: f64 = 0.1;

/// Two walks without fingerprints are copies if their templates have at least this cosine. In six data
/// sets, walks of 8 to 58 windows that follow each other reach 0.95. A copy that begins one window
/// later has 0.97 and more from 19 windows on.
const SAME_COSINE: f32 = 0.97;

/// Decides which walks are enrolled.
#[derive(Clone)]
pub(super) struct WalkAdmission {
    pub active: ActiveModel,
    pub reader: WalkReader,
    pub attempts: Attempts,
}

/// What a sender may add to a user's walks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    sender: Principal,
    may_extend: bool,
    is_confirmed: bool,
    /// Whether the user is created if they do not exist.
    pub(super) creates_user: bool,
}

impl Permit {
    /// The permit of a sender. If they confirm a walk, it need not resemble the earlier ones. They may
    /// ask to create the user, which needs no other scope than to enroll.
    ///
    /// # Errors
    /// If they confirm a walk but lack the scope for it.
    pub fn new(
        sender: &Principal,
        confirms: bool,
        creates_user: bool,
    ) -> Result<Self, ServiceError> {
        if confirms && !sender.scopes.contains(Scope::Admin) {
            return Err(ServiceError::MissingScope(Scope::Admin));
        }
        let may_extend = confirms || sender.scopes.contains(Scope::Extend);
        // On a server without keys everybody may erase a user and enroll them anew.
        let is_confirmed = confirms || sender.is_anonymous();
        Ok(Self { sender: sender.clone(), may_extend, is_confirmed, creates_user })
    }
}

impl WalkAdmission {
    /// Checks that a walk, read by the active model, may join a user's walks: those in the database,
    /// and those of this write. Then creates the user if asked to. A refusal that a guesser learns from is
    /// counted in the write, which must be committed for it to count.
    pub async fn admit(
        &self,
        write: &mut Write,
        permit: &Permit,
        user: &UserId,
        walk: &ReadWalk,
    ) -> Result<(), ServiceError> {
        self.check(write, permit, user, walk).await?;
        if permit.creates_user {
            write.transaction.put_user(user, self.reader.settings.get().max_users).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        write: &mut Write,
        permit: &Permit,
        user: &UserId,
        walk: &ReadWalk,
    ) -> Result<(), ServiceError> {
        if self.has_copy(write, user, walk).await? {
            return Err(ServiceError::WalkAlreadyEnrolled(user.clone()));
        }
        let Some(is_alike) = self.is_alike(write, permit, user, walk)? else { return Ok(()) };
        let attempt = if is_alike { Attempt::Neutral } else { Attempt::Failed };
        self.attempts.count(write, user, &permit.sender, attempt).await?;
        if is_alike { Ok(()) } else { Err(ServiceError::UnlikeEarlierWalks(user.clone())) }
    }

    /// Whether a walk resembles the earlier ones. `None` if it need not.
    fn is_alike(
        &self,
        write: &Write,
        permit: &Permit,
        user: &UserId,
        walk: &ReadWalk,
    ) -> Result<Option<bool>, ServiceError> {
        let model = self.active.get();
        let shared = model.gallery(&user.collection());
        let gallery = shared.read();
        let written = write.gallery.users.get(user);
        let Some(earlier) = written.or_else(|| gallery.templates(user)) else {
            return Ok(None);
        };
        if u64::from(earlier.windows()) >= READY_WINDOWS && !permit.may_extend {
            return Err(ServiceError::MissingScope(Scope::Extend));
        }
        if permit.is_confirmed || earlier.is_empty() {
            return Ok(None);
        }
        let strength = gallery.compare_with(user, earlier, &walk.template).strength;
        Ok(Some(gallery.tails().single.fmr(strength) <= MAX_FMR))
    }

    /// Whether a walk was enrolled since it was read. Without fingerprints, as for features and
    /// recordings of less than 3.4 s: whether it was enrolled at all.
    async fn has_copy(
        &self,
        write: &mut Write,
        user: &UserId,
        walk: &ReadWalk,
    ) -> Result<bool, ServiceError> {
        if walk.fingerprints.is_empty() {
            let feature_len = self.active.get().feature_len();
            let enrolled = Some(WalkSource::Enrollment);
            let templates =
                write.transaction.templates_of(user, &walk.model, feature_len, enrolled).await?;
            return Ok(templates.iter().any(|it| it.cosine(&walk.template) >= SAME_COSINE));
        }
        let newer =
            write.transaction.enrolled_fingerprints_after(user, walk.newest_compared).await?;
        Ok(self.reader.is_replay(&walk.fingerprints, newer.iter()).await?)
    }
}

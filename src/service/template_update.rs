//! Template update: if the operator turns it on, a walk that a verification accepts beyond doubt is
//! added to the user's template, since gait, shoes and phones change.
//!
//! The risk is a walk of someone else. Three rules limit the damage:
//!
//! - Each walk is judged by the enrolled walks alone, never by earlier updates. So an impostor who is
//!   accepted once cannot lead the template away step by step.
//! - A user has few updates. The oldest makes room, so a mistake does not stay for ever.
//! - Enrolled walks always stay.

use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{READY_WINDOWS, Template, UserId, Verdict};

use super::ServiceError;
use super::active_model::ActiveModel;
use super::write::Write;
use crate::store::unix_seconds;

/// The highest estimated false match rate of an update. A tenth of the strictest rate that a
/// verification can ask for, since a wrong update would let its walker in again.
const MAX_FMR: f64 = 1e-4;

/// Most updates of a user. A wrong update is gone after this number of later ones.
const MAX_UPDATES: u32 = 4;

/// Time between two updates of a user: walks of one day are much alike, and each costs a write.
const INTERVAL_SECONDS: i64 = 24 * 60 * 60;

/// Whether a walk has as many windows as a user needs to be ready.
pub(super) fn is_long_enough(walk: &Template) -> bool {
    u64::from(walk.windows()) >= READY_WINDOWS
}

impl Write {
    /// Adds an accepted walk, read by `model`, to the user's template if that is due and beyond
    /// doubt. Returns its number then.
    pub(super) async fn update_template(
        &mut self,
        active: &ActiveModel,
        user: &UserId,
        model: &str,
        walk: &Template,
    ) -> Result<Option<i64>, ServiceError> {
        let newest = self.transaction.newest_update(user).await?;
        let is_due = newest.is_none_or(|newest| unix_seconds() - newest >= INTERVAL_SECONDS);
        let loaded = active.get();
        // The recording is gone: a model that became active meanwhile cannot read it.
        if !is_due || loaded.id() != model {
            return Ok(None);
        }
        let (feature_len, only) = (loaded.feature_len(), Some(WalkSource::Enrollment));
        let enrolled = self.transaction.templates_of(user, model, feature_len, only).await?;
        let (enrolled, verdict) = {
            let shared = loaded.gallery(&user.collection());
            let gallery = shared.read();
            let enrolled = loaded.galleries.templates(&enrolled);
            let candidate = gallery.compare_with(user, &enrolled, walk);
            let (calibration, tails) = (gallery.calibration(), gallery.tails());
            let verdict =
                Verdict::new(candidate.strength, walk, MAX_FMR, calibration, &tails.single);
            (enrolled, verdict)
        };
        if u64::from(enrolled.windows()) < READY_WINDOWS || verdict != Verdict::Accept {
            return Ok(None);
        }
        let id = self.transaction.add_update(user, MAX_UPDATES).await?;
        self.transaction.add_template(model, id, walk).await?;
        let all = self.transaction.templates_of(user, model, feature_len, None).await?;
        self.gallery.users.insert(user.clone(), loaded.galleries.templates(&all));
        self.gallery.updates += 1;
        Ok(Some(id))
    }
}

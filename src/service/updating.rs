//! Template update: where the operator wants it, a walk that a verification accepts beyond doubt
//! joins those of the user, since gait, shoes and phones change.
//!
//! A walk that is learned by mistake is the risk. It must not make room for more like it: so each is
//! judged by the enrolled walks alone, never by what was learned before. Whoever is let in by chance
//! cannot lead a template away step by step. And it must not stay for ever, nor push away what is
//! known for certain: updates are few, the oldest makes room, and enrolled walks stay.

use super::enrolling::Walks;
use super::{ServiceError, Shared};
use crate::store::{Transaction, unix_seconds};
use bipedalnet_client::api::WalkSource;
use bipedalnet_core::identity::{READY_WINDOWS, Template, UserId, UserTemplates, Verdict};

/// The estimated false match rate above which there is doubt: a tenth of the strictest that a
/// verification can ask for, since what is learned lets in again.
const MOST_FMR: f64 = 1e-4;

/// Updates of a user: a mistake is gone after so many more, and each weighs the less.
const MOST_UPDATES: u32 = 4;

/// From one update of a user to the next: walks of one day are much alike, and each costs a write.
const INTERVAL_SECONDS: i64 = 24 * 60 * 60;

/// Whether a walk by itself is as long as what it takes to be known at all. The rest is found in the
/// database, when it is written.
pub(super) fn may_update(walk: &Template) -> bool {
    u64::from(walk.windows()) >= READY_WINDOWS
}

impl Walks {
    /// Puts a walk that was accepted as a user's among theirs, in this change, where that is beyond
    /// doubt and due; gives its number then. `model` is the one that read it.
    pub async fn update(
        &mut self,
        shared: &Shared,
        writing: &mut Transaction,
        user: &UserId,
        model: &str,
        walk: &Template,
    ) -> Result<Option<i64>, ServiceError> {
        let newest = writing.newest_update(user).await?;
        let is_due = newest.is_none_or(|newest| unix_seconds() - newest >= INTERVAL_SECONDS);
        let serving = shared.serving();
        // The recording is gone: another model that took over meanwhile cannot read it.
        if !is_due || serving.model.id() != model {
            return Ok(None);
        }
        let (feature_len, only) = (serving.feature_len(), Some(WalkSource::Enrollment));
        let enrolled = writing.templates_of(user, model, feature_len, only).await?;
        let (enrolled, verdict) = {
            let gallery = serving.gallery();
            let enrolled = UserTemplates::new(&enrolled, gallery.calibration());
            let candidate = gallery.compare_with(user, &enrolled, walk);
            let (calibration, tails) = (gallery.calibration(), gallery.tails());
            let verdict =
                Verdict::new(candidate.strength, walk, MOST_FMR, calibration, &tails.single);
            (enrolled, verdict)
        };
        if u64::from(enrolled.windows()) < READY_WINDOWS || verdict != Verdict::Accept {
            return Ok(None);
        }
        let id = writing.add_update(user, MOST_UPDATES).await?;
        writing.add_template(model, id, walk).await?;
        let known = writing.templates_of(user, model, feature_len, None).await?;
        let known = UserTemplates::new(&known, serving.gallery().calibration());
        self.known.insert(user.clone(), known);
        self.updates += 1;
        Ok(Some(id))
    }
}

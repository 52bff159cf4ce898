//! The galleries of a model: one for each collection, each with its own thresholds and its own lock, so
//! that a change in one collection delays nobody in another.

use std::collections::HashMap;
use std::iter::zip;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bipedalnet_core::identity::{
    Calibration, CollectionId, FALSE_MATCH_RATES, Gallery, Template, UserTemplates,
};

use crate::store::StoredTemplate;

/// The gallery of a collection.
pub(super) struct CollectionGallery {
    gallery: RwLock<Gallery>,
    matches: Mutex<Matches>,
}

/// How many comparisons of a gallery's users with one another each false match rate accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Matches {
    /// For each of [`FALSE_MATCH_RATES`].
    pub accepted: [usize; FALSE_MATCH_RATES.len()],
    pub comparisons: usize,
}

impl AddAssign for Matches {
    fn add_assign(&mut self, other: Self) {
        zip(&mut self.accepted, other.accepted).for_each(|(sum, accepted)| *sum += accepted);
        self.comparisons += other.comparisons;
    }
}

/// All galleries of a model.
pub(super) struct Galleries {
    feature_len: usize,
    calibration: Calibration,
    by_collection: RwLock<HashMap<CollectionId, Arc<CollectionGallery>>>,
    /// Stands for each collection in which nobody is enrolled.
    empty: Arc<CollectionGallery>,
}

impl CollectionGallery {
    fn new(feature_len: usize, calibration: &Calibration) -> Self {
        let gallery = RwLock::new(Gallery::new(feature_len, calibration.clone()));
        Self { gallery, matches: Mutex::default() }
    }

    // A panic under a lock is logged where it happens. Each change is whole before anything in it can
    // panic, so what a lock guards is still valid.
    pub fn read(&self) -> RwLockReadGuard<'_, Gallery> {
        self.gallery.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Gallery) -> T) -> T {
        change(&mut self.gallery.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fits the thresholds to the gallery. Runs on the pool.
    pub fn fit(&self) {
        let cohort = self.read().cohort();
        let strengths = cohort.impostor_strengths();
        let tails = cohort.tails_of(&strengths);
        self.change(|gallery| gallery.set_tails(tails));
        let accepted = tails
            .single
            .strengths()
            .map(|threshold| strengths.iter().filter(|strength| **strength >= threshold).count());
        let matches = Matches { accepted, comparisons: strengths.len() };
        *self.matches.lock().unwrap_or_else(PoisonError::into_inner) = matches;
    }

    /// As the thresholds were last fitted.
    pub fn matches(&self) -> Matches {
        *self.matches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Galleries {
    pub fn new(feature_len: usize, calibration: Calibration) -> Self {
        let empty = Arc::new(CollectionGallery::new(feature_len, &calibration));
        Self { feature_len, calibration, by_collection: RwLock::default(), empty }
    }

    /// The gallery of a collection.
    pub fn of(&self, collection: &CollectionId) -> Arc<CollectionGallery> {
        let by_collection = self.by_collection.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_collection.get(collection).unwrap_or(&self.empty))
    }

    /// All galleries that somebody was enrolled in.
    pub fn all(&self) -> Vec<(CollectionId, Arc<CollectionGallery>)> {
        let by_collection = self.by_collection.read().unwrap_or_else(PoisonError::into_inner);
        by_collection.iter().map(|(id, gallery)| (id.clone(), Arc::clone(gallery))).collect()
    }

    /// Changes the gallery of a collection.
    pub fn change<T>(
        &self,
        collection: &CollectionId,
        change: impl FnOnce(&mut Gallery) -> T,
    ) -> T {
        let gallery = {
            let mut galleries = self.by_collection.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(CollectionGallery::new(self.feature_len, &self.calibration));
            Arc::clone(galleries.entry(collection.clone()).or_insert_with(new))
        };
        gallery.change(change)
    }

    /// Adds stored walks.
    pub fn fill(&self, walks: &[StoredTemplate]) {
        for walk in walks {
            self.change(&walk.user.collection(), |gallery| {
                gallery.add(&walk.user, &walk.template);
            });
        }
    }

    /// Forgets the gallery of a collection that was deleted.
    pub fn forget(&self, collection: &CollectionId) {
        self.by_collection.write().unwrap_or_else(PoisonError::into_inner).remove(collection);
    }

    /// Templates of a user made of these walks.
    pub fn templates(&self, walks: &[Template]) -> UserTemplates {
        UserTemplates::new(walks, &self.calibration)
    }
}

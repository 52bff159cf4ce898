//! The templates of one user.

use super::{Calibration, READY_WINDOWS, Template};

/// Most templates of one user.
pub(super) const MOST_TEMPLATES: usize = 4;

/// A walk joins a template with at least this similarity. Half of the walks on another day, with the
/// same pace and pocket, reach it; few walks with another pace do.
const LEAST_SIMILARITY: f32 = 0.5;

/// A walk with fewer windows does not start a template, because it says too little.
const FEWEST_WINDOWS: u32 = 4;

/// The most windows that one walk counts for: about a minute, twice what makes a user ready. Otherwise
/// one long walk would outweigh all others.
const MOST_WEIGHT: u32 = 2 * READY_WINDOWS as u32;

/// A user's walks as one to four templates: one for each way of walking, such as slow and fast, or
/// with the phone in another pocket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserTemplates {
    templates: Vec<Template>,
    windows: u32,
}

impl UserTemplates {
    /// Templates from walks in the order of their enrollment.
    pub fn new<'a>(
        walks: impl IntoIterator<Item = &'a Template>,
        calibration: &Calibration,
    ) -> Self {
        let mut templates = Self::default();
        walks.into_iter().for_each(|walk| templates.add(walk, calibration));
        templates
    }

    /// Adds a walk to the most similar template, or starts a new one.
    pub fn add(&mut self, walk: &Template, calibration: &Calibration) {
        if walk.windows() == 0 {
            return;
        }
        self.windows = self.windows.saturating_add(walk.windows());
        let walk = &walk.with_at_most(MOST_WEIGHT);
        let is_full = self.templates.len() == MOST_TEMPLATES;
        let is_short = |template: &Template| template.windows() < FEWEST_WINDOWS;
        let ranked = self.templates.iter_mut().map(|it| (similarity(it, walk, calibration), it));
        match ranked.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
            Some((similarity, nearest))
                if similarity >= LEAST_SIMILARITY
                    || is_full
                    || is_short(walk)
                    || is_short(nearest) =>
            {
                nearest.add(walk);
            }
            _ => self.templates.push(walk.as_ref().clone()),
        }
    }

    /// The templates as a slice.
    pub fn as_slice(&self) -> &[Template] {
        &self.templates
    }

    /// Number of windows of all walks, however much they weigh.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// Whether there are no walks.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }
}

/// Cosine of two walks, corrected for their numbers of windows.
pub(super) fn similarity(a: &Template, b: &Template, calibration: &Calibration) -> f32 {
    let attenuation = calibration.attenuation(a.windows()) * calibration.attenuation(b.windows());
    a.cosine(b) / attenuation
}

#[cfg(test)]
mod tests {
    use super::super::calibration::tests::calibration;
    use super::*;

    fn walk(feature: [f32; 2], windows: usize) -> Template {
        let mut template = Template::empty(2);
        (0..windows).for_each(|_| template.add_window(&feature));
        template
    }

    fn windows(walks: &[Template]) -> Vec<u32> {
        let templates = UserTemplates::new(walks, &calibration());
        assert_eq!(templates.windows(), walks.iter().map(Template::windows).sum::<u32>());
        templates.as_slice().iter().map(Template::windows).collect()
    }

    #[test]
    fn each_way_of_walking_has_a_template() {
        let (slow, quick) = ([1.0, 0.0], [0.0, 1.0]);
        assert_eq!(windows(&[walk(slow, 9), walk(quick, 9), walk(slow, 5)]), [14, 9]);
        assert_eq!(windows(&[walk(slow, 2), walk(quick, 9)]), [11]);
        assert_eq!(windows(&[walk(slow, 9), walk(quick, 3)]), [12]);
        assert_eq!(windows(&[Template::empty(2)]), [0; 0]);
        let ways = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.6, -0.8]];
        assert_eq!(windows(&ways.map(|way| walk(way, 9))), [9, 9, 9, 18]);
    }

    #[test]
    fn a_long_walk_does_not_outweigh_the_others() {
        let short = walk([1.0, 0.0], 29);
        let mut templates = UserTemplates::new([&short, &short], &calibration());
        templates.add(&walk([0.6, 0.8], 900), &calibration());
        assert_eq!((templates.as_slice().len(), templates.windows()), (1, 958));
        let sum = &templates.as_slice()[0];
        assert_eq!(sum.windows(), 116);
        assert!(sum.cosine(&short) > 0.89, "{}", sum.cosine(&short));
    }
}

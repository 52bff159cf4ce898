//! Shares of outcomes, with intervals over people.

use std::collections::BTreeMap;

use bipedalnet_training::evaluation::{Figure, bootstrap};
use serde::Serialize;

/// Outcome of a request to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An enrolled walker was identified.
    Right,
    /// An enrolled walker was identified as another user.
    Wrong,
    /// A stranger was identified as a user.
    Named,
    /// The walker is unknown to the service.
    Unknown,
    /// A claim was accepted.
    Accepted,
    /// A claim was rejected.
    Rejected,
    /// The service needed more walking, and there was none left.
    Inconclusive,
    /// A recording was taken for a copy of an earlier one.
    SuspectedReplay,
    /// No recording was usable.
    Refused,
}

/// How frequent each outcome was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Number of requests.
    pub asked: usize,
    /// Share of each possible outcome.
    #[serde(flatten)]
    pub shares: BTreeMap<Outcome, Figure>,
}

impl Rates {
    /// Counts all people's outcomes. `None` if there are none.
    pub(super) fn new(people: &[Vec<Outcome>], possible: &[Outcome], seed: u64) -> Option<Self> {
        let count = |of: &dyn Fn(&Outcome) -> bool| -> Vec<usize> {
            people.iter().map(|outcomes| outcomes.iter().filter(|it| of(it)).count()).collect()
        };
        let asked = count(&|_| true);
        let share = |outcome: Outcome| {
            let found = count(&|it| *it == outcome);
            let drawn = |counts: &[usize], times: &[usize]| -> usize {
                counts.iter().zip(times).map(|(count, times)| count * times).sum()
            };
            let [figure] = bootstrap(people.len(), seed, |times| {
                let asked = drawn(&asked, times);
                (asked > 0).then(|| [drawn(&found, times) as f32 / asked as f32])
            })?;
            Some((outcome, figure))
        };
        let shares = possible.iter().map(|outcome| share(*outcome)).collect::<Option<_>>()?;
        Some(Self { asked: asked.iter().sum(), shares })
    }

    /// The share of an outcome, if it is possible.
    pub fn share(&self, outcome: Outcome) -> Option<&Figure> {
        self.shares.get(&outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Accepted, Refused, Rejected};
    use super::*;

    #[test]
    fn outcomes_are_shares_of_all_that_was_asked() {
        let mut people = vec![vec![Accepted, Accepted, Rejected], vec![Accepted]];
        people.extend([vec![Accepted], vec![Accepted], vec![Accepted, Accepted]]);
        let rates = Rates::new(&people, &[Accepted, Rejected, Refused], 1).unwrap();
        assert_eq!(rates.asked, 8);
        assert_eq!(rates.share(Accepted).unwrap().value, 0.875);
        let rejected = rates.share(Rejected).unwrap();
        assert!(rejected.value == 0.125 && rejected.low == 0.0 && rejected.high > 0.125);
        assert_eq!(rates.share(Refused).unwrap().high, 0.0);
        assert_eq!(rates.share(Outcome::Named), None);
        let json = serde_json::to_value(&rates).unwrap();
        assert_eq!((&json["asked"], &json["rejected"]["value"]), (&8.into(), &0.125.into()));
        assert_eq!(Rates::new(&[vec![], vec![]], &[Accepted], 1), None);
    }
}

use std::collections::{BTreeMap, HashSet};
use std::sync::{PoisonError, RwLock};

use bipedalnet_core::identity::CollectionId;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{counters, gauges};

/// Collections with lines of their own: the oldest, so that a line begins once and stays.
const MOST_SHOWN: usize = 50;

/// The label of all others. It is no id of a collection.
const OTHER: &str = "(other)";

const DECISIONS: [(&str, &str); 7] = [
    ("identify", "identified"),
    ("identify", "unknown"),
    ("identify", "inconclusive"),
    ("verify", "accept"),
    ("verify", "reject"),
    ("verify", "inconclusive"),
    ("verify", "suspected_replay"),
];

/// Metrics by collection.
#[derive(Debug)]
pub struct CollectionMetrics {
    shown: RwLock<HashSet<CollectionId>>,
    users: IntGaugeVec,
    templates: IntGaugeVec,
    decisions: IntCounterVec,
}

impl CollectionMetrics {
    pub fn new(registry: &Registry) -> Self {
        let of = |name, help| gauges(registry, name, help, &["collection"]);
        Self {
            shown: RwLock::default(),
            users: of("collection_users", "Users, by collection"),
            templates: of(
                "collection_templates",
                "Templates that identifications in the collection are compared with",
            ),
            decisions: counters(
                registry,
                "collection_decisions_total",
                "Decisions of identifications and verifications, by collection",
                &["collection", "operation", "decision"],
            ),
        }
    }

    /// Sets which collections there are. Each of the oldest has its own lines, the rest share theirs.
    pub fn show(&self, oldest_first: &[CollectionId]) {
        let next: HashSet<CollectionId> = oldest_first.iter().take(MOST_SHOWN).cloned().collect();
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&next) {
            for (operation, decision) in DECISIONS {
                // It was shown, so it has these lines.
                let _ = self.decisions.remove_label_values(&[gone.as_str(), operation, decision]);
            }
        }
        let labels = next.iter().map(CollectionId::as_str).chain([OTHER]);
        for label in labels {
            for (operation, decision) in DECISIONS {
                self.decisions.with_label_values(&[label, operation, decision]);
            }
        }
        *shown = next;
    }

    /// Counts a decision.
    pub fn decided(&self, collection: &CollectionId, operation: &str, decision: &str) {
        // Locked until it is counted, so that no line comes back.
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let label = label(&shown, collection);
        self.decisions.with_label_values(&[label, operation, decision]).inc();
    }

    pub fn count_users(&self, counts: &[(CollectionId, u64)]) {
        self.set(&self.users, counts);
    }

    pub fn count_templates(&self, counts: &[(CollectionId, u64)]) {
        self.set(&self.templates, counts);
    }

    fn set(&self, metric: &IntGaugeVec, counts: &[(CollectionId, u64)]) {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let labels = shown.iter().map(CollectionId::as_str).chain([OTHER]);
        let mut sums: BTreeMap<&str, u64> = labels.map(|label| (label, 0)).collect();
        for (collection, count) in counts {
            *sums.entry(label(&shown, collection)).or_default() += count;
        }
        metric.reset();
        for (label, sum) in sums {
            metric.with_label_values(&[label]).set(sum as i64);
        }
    }
}

fn label<'a>(shown: &HashSet<CollectionId>, collection: &'a CollectionId) -> &'a str {
    if shown.contains(collection) { collection.as_str() } else { OTHER }
}

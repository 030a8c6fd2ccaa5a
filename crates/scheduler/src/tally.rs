//! Counts of nodes that were left out, by reason and by node class.
//!
//! # Invariants
//!
//! - Every node that was left out is counted once under its reason.

use std::collections::BTreeMap;

use cos_model::{AllocMetric, Node};

use crate::feasibility::Rejection;

/// Nodes that were left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    reasons: BTreeMap<Rejection, u32>,
    class_filtered: BTreeMap<String, u32>,
    class_exhausted: BTreeMap<String, u32>,
}

impl Tally {
    /// Counts a node.
    pub(crate) fn add(&mut self, reason: &Rejection, node: &Node) {
        self.add_many(reason, 1);
        if !node.node_class.is_empty() {
            *self.classes(reason).entry(node.node_class.clone()).or_default() += 1;
        }
    }

    /// Counts nodes whose classes do not matter.
    pub(crate) fn add_many(&mut self, reason: &Rejection, nodes: u32) {
        match self.reasons.get_mut(reason) {
            Some(count) => *count += nodes,
            None => drop(self.reasons.insert(reason.clone(), nodes)),
        }
    }

    /// Takes back what [`Tally::add`] counted.
    pub(crate) fn remove(&mut self, reason: &Rejection, node: &Node) {
        take_one(&mut self.reasons, reason);
        take_one(self.classes(reason), &node.node_class);
    }

    /// Writes the counts into a metric.
    pub(crate) fn write(&self, metric: &mut AllocMetric) {
        for (reason, count) in &self.reasons {
            let (total, by_words) = if reason.is_filter() {
                (&mut metric.nodes_filtered, &mut metric.constraint_filtered)
            } else {
                (&mut metric.nodes_exhausted, &mut metric.dimension_exhausted)
            };
            *total += count;
            *by_words.entry(reason.to_string()).or_default() += count;
        }
        metric.class_filtered.clone_from(&self.class_filtered);
        metric.class_exhausted.clone_from(&self.class_exhausted);
    }

    fn classes(&mut self, reason: &Rejection) -> &mut BTreeMap<String, u32> {
        if reason.is_filter() { &mut self.class_filtered } else { &mut self.class_exhausted }
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

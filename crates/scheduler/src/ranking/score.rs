//! What one node alone contributes to its score: how well it is packed, how many siblings are on
//! it, how much the job likes it.
//!
//! A node's score is the mean of the scorers that have something to say. A scorer that has nothing
//! to say does not weigh in as zero, except that it is shown so.

use std::collections::BTreeMap;

use cos_model::{Node, Resources};

use super::counts::as_f64;

/// The best value of the packing scorer before it is brought to the range from 0 to 1.
const PACKING_MAX: f64 = 18.0;

/// What a node alone contributes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnScore {
    /// How well the node is packed, or how empty it is; always present.
    pub(super) packing: f64,
    /// Against nodes with siblings.
    pub(super) anti_affinity: Option<f64>,
    /// For nodes that the job likes, against those that it dislikes.
    pub(super) affinity: Option<f64>,
}

/// The largest number of scorers of a node alone.
pub(super) const OWN_SCORERS_MAX: usize = 3;

impl OwnScore {
    /// The sum over the scorers that weigh in.
    pub(super) fn sum(&self) -> f64 {
        self.packing + self.anti_affinity.unwrap_or(0.0) + self.affinity.unwrap_or(0.0)
    }

    /// How many weigh in.
    pub(super) fn scorers(&self) -> usize {
        1 + usize::from(self.anti_affinity.is_some()) + usize::from(self.affinity.is_some())
    }

    /// Each scorer's value by the name that clients show.
    pub(super) fn named(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("binpack".to_owned(), self.packing),
            ("job-anti-affinity".to_owned(), self.anti_affinity.unwrap_or(0.0)),
            ("node-affinity".to_owned(), self.affinity.unwrap_or(0.0)),
        ])
    }
}

/// Rates a node of which `used` will be taken: from 0 to 1, higher for fuller nodes, or for emptier
/// ones if `spread`.
pub(super) fn packing(node: &Node, used: &Resources, spread: bool) -> f64 {
    let cpu = free_share(used.cpu_mhz, node.capacity.cpu_mhz);
    let memory = free_share(used.memory_mib, node.capacity.memory_mib);
    let emptiness = 10_f64.powf(cpu) + 10_f64.powf(memory);
    let raw = if spread { emptiness - 2.0 } else { 20.0 - emptiness };
    raw.clamp(0.0, PACKING_MAX) / PACKING_MAX
}

/// Rates siblings on a node, or says nothing if there are none.
pub(super) fn anti_affinity(siblings: u32, count: u32) -> Option<f64> {
    (siblings > 0).then(|| -f64::from(siblings + 1) / f64::from(count.max(1)))
}

fn free_share(used: u64, capacity: u64) -> f64 {
    if capacity == 0 { 1.0 } else { 1.0 - as_f64(used) / as_f64(capacity) }
}

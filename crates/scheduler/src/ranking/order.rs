//! The order of nodes: by score, then by a number drawn from the evaluation and the node, then by
//! the node itself.

use std::cmp::Ordering;

use cos_model::NodeId;

/// A node in a heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The own part of the node's score.
    pub(super) own: f64,
    /// Decides among equals.
    pub(super) tie: u64,
    /// The node.
    pub(super) slot: usize,
    /// The node's version when the entry was made.
    pub(super) version: u32,
}

/// A node that could take the instance, with its score.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// The node.
    pub(crate) slot: usize,
    /// Its score.
    pub(super) score: f64,
    /// The part that comes from its bucket.
    pub(super) spread: f64,
    /// Whether an earlier instance failed on it.
    pub(super) penalised: bool,
    /// Its entry in the heap.
    pub(super) entry: Entry,
    /// The heap it was taken from.
    pub(super) shelf: usize,
}

impl Ranked {
    /// Says which of two is better.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then_with(|| self.entry.tie.cmp(&other.entry.tie))
            .then_with(|| other.slot.cmp(&self.slot))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.own
            .total_cmp(&other.own)
            .then_with(|| self.tie.cmp(&other.tie))
            .then_with(|| other.slot.cmp(&self.slot))
            .then_with(|| self.version.cmp(&other.version))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// Draws a number from an evaluation's seed and a node, so that each evaluation prefers other nodes
/// among equals.
pub(crate) fn mix(seed: u64, node: NodeId) -> u64 {
    let (high, low) = (node.bits() >> 64, node.bits() & u128::from(u64::MAX));
    [high, low].into_iter().fold(seed, |hash, part| {
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        // The finaliser of the splitmix64 generator.
        let mut hash = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    })
}

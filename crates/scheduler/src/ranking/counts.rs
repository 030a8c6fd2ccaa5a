//! Instances by the value of a property: for `spread`, which scores it, and for
//! `distinct_property`, which limits it.
//!
//! # Invariants
//!
//! - A value's number never changes within a plan, so nodes can be put into buckets by it.
//! - The counts are kept up to date one by one and never counted anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{Node, Spread};

use crate::constraint::Target;
use crate::demand::DistinctProperty;
use crate::feasibility::Rejection;

/// The worst score that one spread gives.
const WORST: f64 = -1.0;

/// Instances by the value of one property.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    target: Target,
    numbers: BTreeMap<String, usize>,
    used: Vec<u32>,
}

/// One spread wish, and how far it is fulfilled.
#[derive(Clone, Debug)]
pub(super) struct SpreadCounts {
    pub(super) counts: Counts,
    goal: Goal,
}

#[derive(Clone, Debug)]
enum Goal {
    Even,
    Shares {
        /// Wanted instances by value.
        desired: BTreeMap<String, f64>,
        /// Wanted instances of each value that is not named, if any are left for those.
        others: Option<f64>,
        /// This wish's part of all wishes' weight.
        weight: f64,
    },
}

/// One limit, and how far it is used up.
#[derive(Clone, Debug)]
pub(super) struct PropertyCounts {
    pub(super) counts: Counts,
    pub(super) rule: DistinctProperty,
}

impl Counts {
    fn new(target: Target) -> Self {
        Self { target, numbers: BTreeMap::new(), used: Vec::new() }
    }

    /// Returns the number of a node's value, or nothing if the node has none.
    pub(super) fn number_of(&mut self, node: &Node) -> Option<usize> {
        let value = self.target.resolve(node)?;
        if let Some(number) = self.numbers.get(value.as_ref()) {
            return Some(*number);
        }
        self.numbers.insert(value.into_owned(), self.used.len());
        self.used.push(0);
        Some(self.used.len() - 1)
    }

    /// Counts an instance that appeared on a node, or is about to leave it.
    pub(super) fn change(&mut self, node: &Node, appeared: bool) {
        if let Some(number) = self.number_of(node) {
            let used = &mut self.used[number];
            *used = if appeared { used.saturating_add(1) } else { used.saturating_sub(1) };
        }
    }

    fn value(&self, number: usize) -> &str {
        let found = self.numbers.iter().find(|(_, known)| **known == number);
        found.map_or("", |(value, _)| value.as_str())
    }
}

impl SpreadCounts {
    /// Starts with no instances.
    pub(super) fn new(spread: &Spread, count: u32, weight_sum: f64) -> Self {
        let counts = Counts::new(Target::parse(&spread.attribute));
        if spread.targets.is_empty() {
            return Self { counts, goal: Goal::Even };
        }
        let count = f64::from(count);
        let desired: BTreeMap<String, f64> = spread
            .targets
            .iter()
            .map(|target| (target.value.clone(), f64::from(target.percent) / 100.0 * count))
            .collect();
        let named: f64 = desired.values().sum();
        let others = (named > 0.0 && named < count).then_some(count - named);
        let weight = if weight_sum > 0.0 { f64::from(spread.weight) / weight_sum } else { 0.0 };
        Self { counts, goal: Goal::Shares { desired, others, weight } }
    }

    /// Rates one more instance for every value, in the order of the values' numbers.
    pub(super) fn scores(&self) -> Vec<f64> {
        let used = self.counts.used.iter().copied();
        match &self.goal {
            Goal::Even => {
                let present = || self.counts.used.iter().copied().filter(|used| *used > 0);
                let range = present().min().zip(present().max());
                used.map(|used| even_score(used, range)).collect()
            }
            Goal::Shares { desired, others, weight } => {
                let mut wanted = vec![*others; self.counts.used.len()];
                for (value, number) in &self.counts.numbers {
                    if let Some(share) = desired.get(value) {
                        wanted[*number] = Some(*share);
                    }
                }
                used.zip(wanted).map(|(used, wanted)| share_score(used, wanted, *weight)).collect()
            }
        }
    }
}

impl PropertyCounts {
    /// Starts with no instances.
    pub(super) fn new(rule: &DistinctProperty) -> Self {
        Self { counts: Counts::new(rule.target.clone()), rule: rule.clone() }
    }

    /// Whether no further instance may have the value.
    pub(super) fn is_used_up(&self, number: usize) -> bool {
        self.counts.used[number] >= self.rule.limit
    }

    /// The reason for leaving out nodes with the value.
    pub(super) fn rejection(&self, number: usize) -> Rejection {
        let (value, used) = (self.counts.value(number), self.counts.used[number]);
        let words = format!("{}={value} used by {used} allocs", self.rule.text);
        Rejection::DistinctProperty(Arc::from(words))
    }
}

/// Rates a value by its distance from the least used one, or, if it is that one, by how far the most
/// used one is ahead.
///
/// Where all are used alike there is nothing to say. To speak against all alike would not be the
/// same: a score is a mean, so it would weaken what the other scorers say of crowded nodes.
fn even_score(used: u32, range: Option<(u32, u32)>) -> f64 {
    let Some((least, most)) = range else { return 0.0 };
    let compared_with = if used == least { most } else { least };
    (f64::from(compared_with) - f64::from(used)) / f64::from(least)
}

/// Rates a value by how much of its share is still missing.
fn share_score(used: u32, wanted: Option<f64>, weight: f64) -> f64 {
    match wanted {
        Some(wanted) if wanted > 0.0 => (wanted - f64::from(used) - 1.0) / wanted * weight,
        _ => WORST,
    }
}

/// The score that a node without the property gets.
pub(super) const MISSING: f64 = WORST;

/// Turns an amount into a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "amounts are far below 2^52")]
pub(super) fn as_f64(amount: u64) -> f64 {
    amount as f64
}

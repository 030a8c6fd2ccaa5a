//! Taking stock: what each node is to one group, and what changes when instances come and go.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use cos_model::Node;

use super::order::{Entry, mix};
use super::score::{self, OWN_SCORERS_MAX, OwnScore};
use super::{Bucket, Candidate, Ranker, Standing};
use crate::demand::Scope;
use crate::feasibility::{
    Rejection, fixed_rejection, is_in_datacenter, is_in_pool, passing_rejection,
};
use crate::nodes::{NodeTable, Slot};

/// The buckets that are known, by the values of their nodes.
type KnownBuckets = BTreeMap<(Vec<Option<usize>>, Vec<usize>), usize>;

impl Ranker {
    /// Counts the instances that live now.
    pub(super) fn count_live(&mut self, table: &NodeTable<'_>) {
        for (node, groups) in table.live_before() {
            let Some(node) = table.node(*node) else { continue };
            for (group, live) in groups {
                for _ in 0..*live {
                    self.count(node, group, true);
                }
            }
        }
        for change in table.changes() {
            if let Some(node) = table.node(change.node) {
                self.count(node, &change.group, change.appeared);
            }
        }
    }

    /// Counts an instance that appeared on a node, or is about to leave it.
    pub(super) fn count(&mut self, node: &Node, group: &str, appeared: bool) {
        let is_own = *self.demand.group == *group;
        if is_own {
            for spread in &mut self.spreads {
                spread.counts.change(node, appeared);
            }
        }
        for property in &mut self.properties {
            if is_own || property.rule.scope == Scope::Job {
                property.counts.change(node, appeared);
            }
        }
    }

    /// Looks at every node that takes work.
    pub(super) fn take_stock(&mut self, table: &NodeTable<'_>) {
        let job = Arc::clone(&self.demand.job);
        self.metric.node_pool.clone_from(&job.node_pool);
        for datacenter in job.datacenters.iter().filter(|name| !name.contains(['*', '?'])) {
            self.metric.nodes_available.insert(datacenter.clone(), 0);
        }
        let mut known = KnownBuckets::new();
        for (index, slot) in table.slots().iter().enumerate() {
            let node = slot.node;
            let in_pool = is_in_pool(&job, node);
            self.metric.nodes_in_pool += u32::from(in_pool);
            let standing = if in_pool && is_in_datacenter(&job, node) {
                self.metric.nodes_evaluated += 1;
                *self.metric.nodes_available.entry(node.datacenter.clone()).or_default() += 1;
                Standing::Open
            } else {
                Standing::Elsewhere
            };
            let is_near = matches!(standing, Standing::Open);
            let (affinity, bucket, own, version) = (None, 0, OwnScore::default(), 0);
            self.candidates.push(Candidate { standing, affinity, own, bucket, version });
            if is_near {
                self.admit(index, slot, &mut known);
            }
        }
    }

    /// Finds a node's fixed place among the others, or leaves it out for good.
    fn admit(&mut self, index: usize, slot: &Slot<'_>, known: &mut KnownBuckets) {
        match self.assess(slot.node, known) {
            Ok((bucket, affinity)) => {
                self.candidates[index].bucket = bucket;
                self.candidates[index].affinity = affinity;
                self.buckets[bucket].open += 1;
                self.look_again(index, slot);
            }
            Err(reason) => {
                self.tally.add(&reason, slot.node);
                self.candidates[index].standing = Standing::Unfit(reason);
            }
        }
    }

    /// Says what is fixed about a node: its bucket and how much the job likes it.
    fn assess(
        &mut self,
        node: &Node,
        known: &mut KnownBuckets,
    ) -> Result<(usize, Option<f64>), Rejection> {
        if let Some(reason) = fixed_rejection(&self.demand, node) {
            return Err(reason);
        }
        // A node that lacks one of the properties was left out by the rules.
        let properties: Vec<usize> =
            self.properties.iter_mut().filter_map(|p| p.counts.number_of(node)).collect();
        let spreads: Vec<Option<usize>> =
            self.spreads.iter_mut().map(|spread| spread.counts.number_of(node)).collect();
        let bucket = *known.entry((spreads.clone(), properties.clone())).or_insert_with(|| {
            self.buckets.push(Bucket { spreads, properties, open: 0 });
            self.shelves.extend((0..OWN_SCORERS_MAX).map(|_| BinaryHeap::new()));
            self.buckets.len() - 1
        });
        let affinities = &self.demand.affinities;
        let weights: f64 = affinities.iter().map(|(_, weight)| weight.abs()).sum();
        let liked = affinities.iter().filter(|(rule, _)| rule.is_met_by(node));
        let total: f64 = liked.map(|(_, weight)| weight).sum();
        Ok((bucket, (total.abs() > 0.0).then(|| total / weights)))
    }

    /// Takes a node into account as it is now.
    pub(super) fn look_again(&mut self, index: usize, slot: &Slot<'_>) {
        if matches!(self.candidates[index].standing, Standing::Elsewhere | Standing::Unfit(_)) {
            return;
        }
        if let Some(reason) = passing_rejection(&self.demand, slot) {
            self.set_standing(index, slot.node, Standing::Full(reason));
            return;
        }
        self.set_standing(index, slot.node, Standing::Open);
        let used = slot.usage.resources.saturating_add(&self.demand.resources_on(slot.node));
        let siblings = slot.live_of_group(&self.demand.group);
        let candidate = &mut self.candidates[index];
        candidate.own = OwnScore {
            packing: score::packing(slot.node, &used, self.spread_algorithm),
            anti_affinity: score::anti_affinity(siblings, self.demand.count),
            affinity: candidate.affinity,
        };
        let entry = Entry {
            own: candidate.own.sum(),
            tie: mix(self.seed, slot.node.id),
            slot: index,
            version: candidate.version,
        };
        let shelf = candidate.bucket * OWN_SCORERS_MAX + candidate.own.scorers() - 1;
        self.shelves[shelf].push(entry);
    }

    /// Changes a node's standing, keeps the counts, and makes its old heap entries invalid.
    pub(super) fn set_standing(&mut self, index: usize, node: &Node, standing: Standing) {
        let candidate = &mut self.candidates[index];
        candidate.version += 1;
        let open = &mut self.buckets[candidate.bucket].open;
        match &candidate.standing {
            Standing::Open => *open -= 1,
            Standing::Full(reason) | Standing::Unfit(reason) => self.tally.remove(reason, node),
            Standing::Elsewhere => {}
        }
        match &standing {
            Standing::Open => *open += 1,
            Standing::Full(reason) | Standing::Unfit(reason) => self.tally.add(reason, node),
            Standing::Elsewhere => {}
        }
        candidate.standing = standing;
    }
}

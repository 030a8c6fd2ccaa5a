//! Ranking: which of the nodes that could take one more instance should take it?
//!
//! A [`Ranker`] looks at every node once and afterwards only at nodes that changed. A node's score
//! has a part of its own (packing, siblings, affinity) and a part that it shares with all nodes of
//! the same bucket: those with the same values of the properties that `spread` and
//! `distinct_property` name. Each bucket keeps its nodes in heaps by the own part, so the best node
//! overall is the best of the heaps' tops, and a placement costs the number of buckets, not of
//! nodes.
//!
//! # Invariants
//!
//! - **Exact.** [`Ranker::best`] returns what scoring every node anew would return.
//! - **In order.** Equal scores are ordered by a number drawn from the evaluation and the node, then
//!   by the node, so that the order of the input never matters.
//! - A heap entry is valid if it carries its node's current version; older ones are dropped when
//!   they surface.

use std::collections::{BTreeSet, BinaryHeap};

use cos_model::metric::NodeScore;
use cos_model::{AllocMetric, Node, NodeId, Spread};

use crate::demand::Demand;
use crate::feasibility::{Rejection, passing_rejection};
use crate::nodes::{NodeTable, Slot};
use crate::tally::Tally;

mod counts;
mod order;
mod score;
mod stock;

use counts::{MISSING, PropertyCounts, SpreadCounts};
use order::Entry;
pub(crate) use order::{Ranked, mix};
use score::{OWN_SCORERS_MAX, OwnScore};

/// How many nodes' scores are kept with a placement.
const SCORES_KEPT: usize = 5;

/// The score of a node on which an earlier instance failed.
const PENALTY: f64 = -1.0;

/// Ranks nodes for one group of one job version.
#[derive(Debug)]
pub(crate) struct Ranker {
    /// What an instance needs.
    pub(crate) demand: Demand,
    spread_algorithm: bool,
    seed: u64,
    candidates: Vec<Candidate>,
    buckets: Vec<Bucket>,
    spreads: Vec<SpreadCounts>,
    properties: Vec<PropertyCounts>,
    /// One heap for each bucket and number of own scorers.
    shelves: Vec<BinaryHeap<Entry>>,
    tally: Tally,
    /// What does not change: pool and datacenter counts.
    metric: AllocMetric,
    /// How many of the table's changes are taken into account.
    seen: usize,
}

/// One node as this group sees it.
#[derive(Debug)]
struct Candidate {
    standing: Standing,
    affinity: Option<f64>,
    own: OwnScore,
    bucket: usize,
    version: u32,
}

#[derive(Debug)]
enum Standing {
    /// Not in the job's pool or datacenters.
    Elsewhere,
    /// Left out for the whole plan.
    Unfit(Rejection),
    /// Left out as things are now.
    Full(Rejection),
    /// Could take an instance, unless its bucket is used up.
    Open,
}

/// Nodes with the same values of all properties that matter.
#[derive(Debug)]
struct Bucket {
    spreads: Vec<Option<usize>>,
    properties: Vec<usize>,
    /// How many of its nodes are open.
    open: u32,
}

impl Ranker {
    /// Looks at every node once.
    pub(crate) fn new(
        demand: Demand,
        table: &NodeTable<'_>,
        spread_algorithm: bool,
        seed: u64,
    ) -> Self {
        let group = demand.job.group(&demand.group);
        let wishes: Vec<&Spread> =
            demand.job.spreads.iter().chain(group.iter().flat_map(|g| &g.spreads)).collect();
        let weight_sum: f64 = wishes.iter().map(|wish| f64::from(wish.weight)).sum();
        let mut ranker = Self {
            spreads: wishes
                .iter()
                .map(|wish| SpreadCounts::new(wish, demand.count, weight_sum))
                .collect(),
            properties: demand.distinct_properties.iter().map(PropertyCounts::new).collect(),
            demand,
            spread_algorithm,
            seed,
            candidates: Vec::with_capacity(table.slots().len()),
            buckets: Vec::new(),
            shelves: Vec::new(),
            tally: Tally::default(),
            metric: AllocMetric::default(),
            seen: table.changes().len(),
        };
        ranker.count_live(table);
        ranker.take_stock(table);
        ranker
    }

    /// Brings the ranker up to date with what the plan has changed since it was last asked.
    pub(crate) fn catch_up(&mut self, table: &NodeTable<'_>) {
        let mut touched: BTreeSet<usize> = BTreeSet::new();
        for change in &table.changes()[self.seen..] {
            if let Some(node) = table.node(change.node) {
                self.count(node, &change.group, change.appeared);
            }
            touched.extend(table.slot_of(change.node));
        }
        self.seen = table.changes().len();
        for slot in touched {
            self.look_again(slot, &table.slots()[slot]);
        }
    }

    /// Takes the best nodes off the heaps, best first. They must be given back.
    pub(crate) fn best(
        &mut self,
        table: &NodeTable<'_>,
        penalised: &BTreeSet<NodeId>,
    ) -> Vec<Ranked> {
        let spread_scores: Vec<Vec<f64>> = self.spreads.iter().map(SpreadCounts::scores).collect();
        let mut aside: Vec<Ranked> = Vec::new();
        let mut tops: Vec<Option<Ranked>> = Vec::with_capacity(self.shelves.len());
        for shelf in 0..self.shelves.len() {
            tops.push(self.top_of(shelf, table, &spread_scores, penalised, &mut aside));
        }
        let mut best: Vec<Ranked> = Vec::with_capacity(SCORES_KEPT);
        while best.len() < SCORES_KEPT {
            let top = tops.iter().flatten().max_by(|a, b| a.compare(b));
            let put_off = aside.iter().max_by(|a, b| a.compare(b));
            let Some(ranked) = top.into_iter().chain(put_off).max_by(|a, b| a.compare(b)) else {
                break;
            };
            let ranked = ranked.clone();
            if ranked.penalised {
                aside.retain(|other| other.slot != ranked.slot);
            } else {
                let shelf = ranked.shelf;
                self.shelves[shelf].pop();
                tops[shelf] = self.top_of(shelf, table, &spread_scores, penalised, &mut aside);
            }
            best.push(ranked);
        }
        self.give_back(aside);
        best
    }

    /// Puts nodes back on the heaps.
    pub(crate) fn give_back(&mut self, ranked: impl IntoIterator<Item = Ranked>) {
        for ranked in ranked {
            self.shelves[ranked.shelf].push(ranked.entry);
        }
    }

    /// Leaves a node out although it seemed open.
    pub(crate) fn leave_out(&mut self, slot: usize, node: &Node, reason: Rejection) {
        self.set_standing(slot, node, Standing::Full(reason));
    }

    /// Returns why a node cannot take an instance, or none if it can or is of no concern.
    pub(crate) fn rejection(&self, slot: usize) -> Option<Rejection> {
        let candidate = &self.candidates[slot];
        match &candidate.standing {
            Standing::Elsewhere => None,
            Standing::Unfit(reason) | Standing::Full(reason) => Some(reason.clone()),
            Standing::Open => self.used_up(&self.buckets[candidate.bucket]),
        }
    }

    /// Whether a node is in the job's pool and datacenters.
    pub(crate) fn concerns(&self, slot: usize) -> bool {
        !matches!(self.candidates[slot].standing, Standing::Elsewhere)
    }

    /// Whether a node could take an instance if it were as `slot` says.
    pub(crate) fn would_fit(&self, at: usize, slot: &Slot<'_>) -> bool {
        let candidate = &self.candidates[at];
        matches!(candidate.standing, Standing::Open | Standing::Full(_))
            && passing_rejection(&self.demand, slot).is_none()
            && !self.is_used_up(&self.buckets[candidate.bucket])
    }

    /// Describes a decision among `ranked`, the first of which was chosen.
    pub(crate) fn metric(&self, table: &NodeTable<'_>, ranked: &[Ranked]) -> AllocMetric {
        let mut metric = self.bare_metric();
        let mut tally = self.tally.clone();
        for bucket in self.buckets.iter().filter(|bucket| bucket.open > 0) {
            if let Some(reason) = self.used_up(bucket) {
                tally.add_many(&reason, bucket.open);
            }
        }
        tally.write(&mut metric);
        metric.scores = ranked.iter().map(|ranked| self.describe(table, ranked)).collect();
        metric
    }

    /// The metric without reasons and scores.
    pub(crate) fn bare_metric(&self) -> AllocMetric {
        self.metric.clone()
    }

    /// Describes the score of a single node that was not ranked against others.
    pub(crate) fn describe_single(&self, table: &NodeTable<'_>, slot: usize) -> NodeScore {
        let own = self.candidates[slot].own;
        NodeScore {
            node_id: table.slots()[slot].node.id,
            scores: own.named(),
            normalized: own.sum() / scorers(own.scorers()),
        }
    }

    fn describe(&self, table: &NodeTable<'_>, ranked: &Ranked) -> NodeScore {
        let mut scores = self.candidates[ranked.slot].own.named();
        if !self.spreads.is_empty() {
            scores.insert("allocation-spread".to_owned(), ranked.spread);
        }
        let penalty = if ranked.penalised { PENALTY } else { 0.0 };
        scores.insert("node-reschedule-penalty".to_owned(), penalty);
        NodeScore { node_id: table.slots()[ranked.slot].node.id, scores, normalized: ranked.score }
    }

    /// Finds the best valid node of a heap, which stays there; penalised ones are taken off and go
    /// aside with a score of their own.
    fn top_of(
        &mut self,
        shelf: usize,
        table: &NodeTable<'_>,
        spread_scores: &[Vec<f64>],
        penalised: &BTreeSet<NodeId>,
        aside: &mut Vec<Ranked>,
    ) -> Option<Ranked> {
        let bucket = &self.buckets[shelf / OWN_SCORERS_MAX];
        if self.shelves[shelf].is_empty() || self.is_used_up(bucket) {
            return None;
        }
        let spread: f64 = bucket
            .spreads
            .iter()
            .zip(spread_scores)
            .map(|(number, scores)| number.map_or(MISSING, |number| scores[number]))
            .sum();
        let own_scorers = shelf % OWN_SCORERS_MAX + 1;
        while let Some(entry) = self.shelves[shelf].peek().copied() {
            let candidate = &self.candidates[entry.slot];
            if candidate.version != entry.version || !matches!(candidate.standing, Standing::Open) {
                self.shelves[shelf].pop();
                continue;
            }
            let penalised =
                !penalised.is_empty() && penalised.contains(&table.slots()[entry.slot].node.id);
            let extra = usize::from(spread.abs() > 0.0) + usize::from(penalised);
            let sum = entry.own + spread + if penalised { PENALTY } else { 0.0 };
            let score = sum / scorers(own_scorers + extra);
            let ranked = Ranked { slot: entry.slot, score, spread, penalised, entry, shelf };
            if !penalised {
                return Some(ranked);
            }
            self.shelves[shelf].pop();
            aside.push(ranked);
        }
        None
    }

    fn is_used_up(&self, bucket: &Bucket) -> bool {
        let mut limits = self.properties.iter().zip(&bucket.properties);
        limits.any(|(property, number)| property.is_used_up(*number))
    }

    /// Returns the first limit that a bucket's values have used up.
    fn used_up(&self, bucket: &Bucket) -> Option<Rejection> {
        self.properties
            .iter()
            .zip(&bucket.properties)
            .find(|(property, number)| property.is_used_up(**number))
            .map(|(property, number)| property.rejection(*number))
    }
}

fn scorers(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

//! The nodes as the plan has changed them so far: what is used, and which instances of the job live
//! where.
//!
//! # Invariants
//!
//! - `usage` holds everything that occupies the node, plus what this plan has placed. What the plan
//!   stops still counts; see the crate's header.
//! - Every change is in the log, so that whoever ranks nodes can catch up instead of starting anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::fit::Usage;
use cos_model::{Allocation, Node, NodeId};

use crate::problem::Problem;

/// All nodes of the cluster, and those that take work.
#[derive(Debug)]
pub(crate) struct NodeTable<'p> {
    /// Sorted by id.
    all: Vec<&'p Node>,
    /// Those that take work, sorted by id.
    slots: Vec<Slot<'p>>,
    /// Where instances of the job live now.
    live: BTreeMap<NodeId, BTreeMap<Arc<str>, u32>>,
    changes: Vec<Change>,
}

/// A node that takes work.
#[derive(Debug)]
pub(crate) struct Slot<'p> {
    /// The node.
    pub(crate) node: &'p Node,
    /// What is used of it.
    pub(crate) usage: Usage,
    /// What occupied it before the plan.
    residents: &'p [Arc<Allocation>],
    /// Live instances of the job, by group.
    live: BTreeMap<Arc<str>, u32>,
}

/// An instance of the job appeared on a node, or is about to leave it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The node.
    pub(crate) node: NodeId,
    /// The instance's group.
    pub(crate) group: Arc<str>,
    /// Whether it appeared.
    pub(crate) appeared: bool,
}

impl<'p> NodeTable<'p> {
    /// Takes stock.
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let mut all: Vec<&Node> = problem.nodes.iter().map(AsRef::as_ref).collect();
        all.sort_by_key(|node| node.id);
        let mut live: BTreeMap<NodeId, BTreeMap<Arc<str>, u32>> = BTreeMap::new();
        for alloc in problem.job_allocs.iter().filter(|alloc| !alloc.is_terminal()) {
            let groups = live.entry(alloc.node_id).or_default();
            *groups.entry(Arc::clone(&alloc.group)).or_default() += 1;
        }
        let slots = all.iter().filter(|node| node.takes_work()).map(|node| {
            let residents = problem.node_allocs.get(&node.id).map_or(&[][..], Vec::as_slice);
            let mut usage = Usage::of_node(node);
            for alloc in residents {
                usage.add(alloc);
            }
            let live = live.get(&node.id).cloned().unwrap_or_default();
            Slot { node, usage, residents, live }
        });
        let slots = slots.collect();
        Self { all, slots, live, changes: Vec::new() }
    }

    /// Finds any node.
    pub(crate) fn node(&self, id: NodeId) -> Option<&'p Node> {
        let at = self.all.binary_search_by_key(&id, |node| node.id).ok()?;
        Some(self.all[at])
    }

    /// Whether nothing is heard of a node, or it is gone.
    pub(crate) fn is_lost(&self, id: NodeId) -> bool {
        self.node(id).is_none_or(|node| node.status.is_away())
    }

    /// The nodes that take work.
    pub(crate) fn slots(&self) -> &[Slot<'p>] {
        &self.slots
    }

    /// Finds a node that takes work.
    pub(crate) fn slot_of(&self, id: NodeId) -> Option<usize> {
        self.slots.binary_search_by_key(&id, |slot| slot.node.id).ok()
    }

    /// Live instances of the job, by node and group, as they were before the plan.
    pub(crate) fn live_before(&self) -> &BTreeMap<NodeId, BTreeMap<Arc<str>, u32>> {
        &self.live
    }

    /// What happened so far.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Notes that the plan places an instance.
    pub(crate) fn place(&mut self, slot: usize, alloc: &Allocation) {
        self.slots[slot].usage.add(alloc);
        self.change(alloc, true);
    }

    /// Notes that a live instance is about to leave.
    pub(crate) fn leave(&mut self, alloc: &Allocation) {
        self.change(alloc, false);
    }

    /// Notes that an instance that was about to leave stays after all.
    pub(crate) fn come_back(&mut self, alloc: &Allocation) {
        self.change(alloc, true);
    }

    fn change(&mut self, alloc: &Allocation, appeared: bool) {
        if let Some(slot) = self.slot_of(alloc.node_id) {
            let count = self.slots[slot].live.entry(Arc::clone(&alloc.group)).or_default();
            *count = if appeared { *count + 1 } else { count.saturating_sub(1) };
        }
        let group = Arc::clone(&alloc.group);
        self.changes.push(Change { node: alloc.node_id, group, appeared });
    }

    /// Returns the node as it will be when an allocation that is about to leave has gone and the
    /// plan's placements have come.
    pub(crate) fn slot_without(
        &self,
        alloc: &Allocation,
        placements: &[Allocation],
    ) -> Option<Slot<'p>> {
        let slot = &self.slots[self.slot_of(alloc.node_id)?];
        let mut usage = Usage::of_node(slot.node);
        for resident in slot.residents.iter().filter(|resident| resident.id != alloc.id) {
            usage.add(resident);
        }
        for planned in placements.iter().filter(|planned| planned.node_id == alloc.node_id) {
            usage.add(planned);
        }
        Some(Slot { node: slot.node, usage, residents: &[], live: slot.live.clone() })
    }
}

impl Slot<'_> {
    /// How many live instances of a group are here.
    pub(crate) fn live_of_group(&self, group: &str) -> u32 {
        self.live.get(group).copied().unwrap_or(0)
    }

    /// How many live instances of the job are here.
    pub(crate) fn live_of_job(&self) -> u32 {
        self.live.values().sum()
    }
}

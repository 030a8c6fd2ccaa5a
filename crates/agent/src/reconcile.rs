//! What has to change on this machine, given what the servers want.
//!
//! # Invariants
//!
//! - **Pure.**
//! - **Fenced.** A message whose generation is older than one already taken changes nothing.
//! - **Repeatable.** Taking the same message twice gives no action the second time.
//! - **Complete means complete.** What a complete message leaves out is stopped and forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{AllocId, Allocation, DeploymentId, DesiredStatus, DesiredTransition, NodeId};

/// What the servers want of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The state index it comes from.
    pub generation: u64,
    /// Whether it lists everything.
    pub complete: bool,
    /// Allocations that are new or changed.
    pub allocs: Vec<Arc<Allocation>>,
    /// Allocations that are to be forgotten.
    pub removed: Vec<AllocId>,
}

/// What this machine knows of an allocation, as far as reconciling goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The generation fence.
    generation: u64,
    /// For each allocation, what the scheduler said of it when it was taken last.
    allocs: BTreeMap<AllocId, Taken>,
}

/// What the scheduler says of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    index: u64,
    desired: DesiredStatus,
    transition: DesiredTransition,
    canary: bool,
    deployment: Option<DeploymentId>,
}

impl Taken {
    fn of(alloc: &Allocation) -> Self {
        Self {
            index: alloc.alloc_modify_index,
            desired: alloc.desired,
            transition: alloc.transition,
            canary: alloc.canary,
            deployment: alloc.deployment_id,
        }
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Begin to run it.
    Start(Arc<Allocation>),
    /// Take its new description.
    Update(Arc<Allocation>),
    /// Stop it if it runs, and forget it.
    Remove(AllocId),
}

impl Known {
    /// Starts with what an earlier agent kept.
    pub fn restored<'a>(allocs: impl IntoIterator<Item = &'a Allocation>) -> Self {
        let allocs = allocs.into_iter().map(|alloc| (alloc.id, Taken::of(alloc))).collect();
        Self { generation: 0, allocs }
    }

    /// The generation that was taken last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether an allocation is known.
    pub fn contains(&self, id: AllocId) -> bool {
        self.allocs.contains_key(&id)
    }

    /// Forgets an allocation that this machine removed by itself. A later mention by the servers
    /// must not start it again, which [`Known::take`] sees to: it only starts what shall run.
    pub fn forget(&mut self, id: AllocId) {
        self.allocs.remove(&id);
    }

    /// Takes a message and says what has to be done. Allocations of other nodes are ignored.
    pub fn take(&mut self, desired: &Desired, node: NodeId) -> Vec<Action> {
        if desired.generation < self.generation {
            return Vec::new();
        }
        self.generation = desired.generation;
        let mut actions = Vec::new();
        for alloc in desired.allocs.iter().filter(|alloc| alloc.node_id == node) {
            actions.extend(self.take_one(alloc));
        }
        let absent: Vec<AllocId> = self
            .allocs
            .keys()
            .filter(|id| desired.complete && !desired.allocs.iter().any(|a| a.id == **id))
            .copied()
            .collect();
        for id in desired.removed.iter().chain(&absent) {
            if self.allocs.remove(id).is_some() {
                actions.push(Action::Remove(*id));
            }
        }
        actions
    }

    fn take_one(&mut self, alloc: &Arc<Allocation>) -> Option<Action> {
        let news = Taken::of(alloc);
        match self.allocs.get_mut(&alloc.id) {
            Some(taken) if taken.index > news.index || *taken == news => None,
            Some(taken) => {
                *taken = news;
                Some(Action::Update(Arc::clone(alloc)))
            }
            // It is over, or shall not run, and nothing of it is here.
            None if alloc.is_client_terminal() => None,
            None => {
                self.allocs.insert(alloc.id, news);
                Some(Action::Start(Arc::clone(alloc)))
            }
        }
    }
}

#[cfg(test)]
mod tests;

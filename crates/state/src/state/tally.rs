//! Counts per job, kept up with every change, so that neither a job's status nor its summary needs
//! a walk over its instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{Allocation, ClientStatus, EvalStatus, Evaluation};

use super::query::GroupSummary;

/// What a job has, by count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Allocations.
    pub(super) allocs: u32,
    /// Allocations that are not over and need not end.
    pub(super) live: u32,
    /// Evaluations.
    pub(super) evals: u32,
    /// Evaluations that something follows.
    pub(super) open: u32,
    /// Evaluations that wait for room.
    pub(super) blocked: u32,
    /// Allocations by group and state; a group without any is absent.
    pub(super) groups: BTreeMap<Arc<str>, GroupSummary>,
}

impl Tally {
    /// Whether there is nothing left to count.
    pub(super) fn is_empty(&self) -> bool {
        self.allocs == 0 && self.evals == 0
    }

    /// Counts an allocation in.
    pub(super) fn add_alloc(&mut self, alloc: &Allocation) {
        self.allocs += 1;
        self.live += u32::from(!alloc.is_terminal());
        *self.groups.entry(Arc::clone(&alloc.group)).or_default().count_of(alloc) += 1;
    }

    /// Counts an allocation out that was counted in, in the state it had then.
    pub(super) fn remove_alloc(&mut self, alloc: &Allocation) {
        self.allocs -= 1;
        self.live -= u32::from(!alloc.is_terminal());
        if let Some(counts) = self.groups.get_mut(&alloc.group) {
            *counts.count_of(alloc) -= 1;
            if *counts == GroupSummary::default() {
                self.groups.remove(&alloc.group);
            }
        }
    }

    /// Counts an evaluation in.
    pub(super) fn add_eval(&mut self, eval: &Evaluation) {
        self.evals += 1;
        self.open += u32::from(!eval.is_terminal());
        self.blocked += u32::from(eval.status == EvalStatus::Blocked);
    }

    /// Counts an evaluation out that was counted in, in the state it had then.
    pub(super) fn remove_eval(&mut self, eval: &Evaluation) {
        self.evals -= 1;
        self.open -= u32::from(!eval.is_terminal());
        self.blocked -= u32::from(eval.status == EvalStatus::Blocked);
    }
}

impl GroupSummary {
    /// The count that an allocation belongs to.
    fn count_of(&mut self, alloc: &Allocation) -> &mut u32 {
        match alloc.client_status {
            // It was stopped before its agent began: over, and nothing failed.
            ClientStatus::Pending if alloc.is_desired_terminal() => &mut self.complete,
            ClientStatus::Pending => &mut self.starting,
            ClientStatus::Running => &mut self.running,
            ClientStatus::Complete => &mut self.complete,
            ClientStatus::Failed => &mut self.failed,
            ClientStatus::Lost => &mut self.lost,
            ClientStatus::Unknown => &mut self.unknown,
        }
    }
}

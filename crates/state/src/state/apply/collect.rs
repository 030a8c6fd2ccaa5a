//! Collecting: removing what is over.
//!
//! # Invariants
//!
//! - What is live stays, whoever asks: an evaluation that something follows, an allocation whose
//!   processes may run, a deployment under way, a job that has any of these, a node that can be
//!   reached or has work.
//!
//! # Deliberately absent
//!
//! - Ages. The proposer decides what is old enough.

use cos_model::node::NodeStatus;
use cos_model::{AllocId, Allocation, DeploymentId, EvalId, JobKey, JobStatus, NodeId};

use super::Step;
use crate::command::Reply;
use crate::event::Event;

/// What to remove.
pub(super) struct Targets<'a> {
    pub(super) evals: &'a [EvalId],
    pub(super) allocs: &'a [AllocId],
    pub(super) deployments: &'a [DeploymentId],
    pub(super) jobs: &'a [JobKey],
    pub(super) nodes: &'a [NodeId],
}

impl Step<'_> {
    pub(super) fn collect(&mut self, targets: &Targets<'_>) -> Reply {
        self.collecting = true;
        for id in targets.evals {
            self.collect_eval(*id);
        }
        for id in targets.allocs {
            self.collect_alloc(*id);
        }
        for id in targets.deployments {
            self.collect_deployment(*id);
        }
        // Jobs and nodes come last: they go when nothing of theirs is left alive.
        for key in targets.jobs {
            self.collect_job(key);
        }
        for id in targets.nodes {
            self.collect_node(*id);
        }
        Reply::Done
    }

    fn collect_eval(&mut self, id: EvalId) {
        if self.state.evals.get(&id).is_some_and(|eval| eval.is_terminal())
            && let Some(eval) = self.state.remove_eval(id)
        {
            self.touch(&eval.job);
            self.state.tables.evals = self.index;
            self.events.push(Event::EvalRemoved(id));
        }
    }

    fn collect_alloc(&mut self, id: AllocId) {
        if self.state.allocs.get(&id).is_some_and(|alloc| self.is_over(alloc))
            && let Some(alloc) = self.state.remove_alloc(id)
        {
            self.touch(alloc.job_key());
            self.state.tables.allocs = self.index;
            self.events.push(Event::AllocRemoved { id, node: alloc.node_id });
        }
    }

    /// Whether no process of an allocation can be left. An agent that is gone for good will never
    /// say so of those it was told to stop.
    fn is_over(&self, alloc: &Allocation) -> bool {
        alloc.is_client_terminal()
            || alloc.is_desired_terminal() && !self.state.nodes.contains_key(&alloc.node_id)
    }

    fn collect_deployment(&mut self, id: DeploymentId) {
        if self.state.deployments.get(&id).is_some_and(|deployment| !deployment.is_active())
            && self.state.remove_deployment(id).is_some()
        {
            self.state.tables.deployments = self.index;
            self.events.push(Event::DeploymentRemoved(id));
        }
    }

    fn collect_job(&mut self, key: &JobKey) {
        // The status is settled after the command, so what was removed above is counted here.
        let tally = self.state.tally(key);
        let is_dead = self.state.jobs.get(key).is_some_and(|job| job.status == JobStatus::Dead);
        if is_dead && tally.live == 0 && tally.open == 0 {
            self.remove_job(key);
        }
    }

    fn collect_node(&mut self, id: NodeId) {
        let Some(node) = self.state.nodes.get(&id).cloned() else { return };
        let has_work = self.state.allocs_on_node(id).any(|alloc| !alloc.is_terminal());
        if node.status != NodeStatus::Down || has_work {
            return;
        }
        self.leave_catalog(&node);
        self.state.nodes.remove(&id);
        self.state.tables.nodes = self.index;
        self.events.push(Event::NodeRemoved(id));
    }
}

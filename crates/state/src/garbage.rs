//! The garbage collector: what is over and old enough to be forgotten.
//!
//! Pure: (state, now) in, one command out.
//!
//! # Invariants
//!
//! - An allocation goes only if nothing can ask about it again: it ended, and it was stopped,
//!   replaced, or its job is gone. A finished batch instance stays, or it would run again.
//! - An evaluation goes only together with all its allocations.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{Command, State};
use cos_model::{
    AllocId, Allocation, DeploymentId, EvalId, Evaluation, Job, JobKey, JobKind, JobStatus, Node,
    NodeId, NodeStatus, Timestamp,
};

/// How old something must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Evaluations that are over.
    pub evals: Duration,
    /// Evaluations of batch jobs that are over.
    pub batch_evals: Duration,
    /// Jobs that are dead.
    pub jobs: Duration,
    /// Nodes that are down.
    pub nodes: Duration,
    /// Deployments that are over.
    pub deployments: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            evals: Duration::from_hours(1),
            batch_evals: Duration::from_hours(24),
            jobs: Duration::from_hours(4),
            nodes: Duration::from_hours(24),
            deployments: Duration::from_hours(1),
        }
    }
}

impl Thresholds {
    /// Everything that is over, however young, as a user may ask for.
    pub const FORCED: Self = Self {
        evals: Duration::ZERO,
        batch_evals: Duration::ZERO,
        jobs: Duration::ZERO,
        nodes: Duration::ZERO,
        deployments: Duration::ZERO,
    };
}

/// What may be forgotten.
#[derive(Debug, Default, PartialEq)]
struct Garbage {
    evals: BTreeSet<EvalId>,
    allocs: BTreeSet<AllocId>,
    deployments: BTreeSet<DeploymentId>,
    jobs: BTreeSet<JobKey>,
    nodes: BTreeSet<NodeId>,
}

/// Returns the command that forgets what is over and old enough, or `None` if there is nothing.
pub fn collect(state: &State, now: Timestamp, thresholds: &Thresholds) -> Option<Command> {
    let old = |at: Timestamp, age: Duration| now.since(at) >= age;
    let mut garbage = Garbage::default();
    for job in state.jobs().filter(|job| is_job_over(state, job)) {
        if old(last_change(state, job), thresholds.jobs) {
            garbage.take_job(state, &job.key);
        }
    }
    for eval in state.evals().filter(|eval| eval.is_terminal()) {
        let is_batch = matches!(eval.kind, JobKind::Batch | JobKind::SysBatch);
        let age = if is_batch { thresholds.batch_evals } else { thresholds.evals };
        if old(eval.modify_time, age) {
            garbage.take_eval(state, eval, |alloc| old(alloc.modify_time, age));
        }
    }
    for deployment in state.deployments() {
        let is_used = state
            .allocs_of_job(&deployment.job)
            .any(|alloc| alloc.deployment_id == Some(deployment.id) && !alloc.is_terminal());
        if !deployment.is_active()
            && !is_used
            && old(deployment.modify_time, thresholds.deployments)
        {
            garbage.deployments.insert(deployment.id);
        }
    }
    for node in state.nodes().filter(|node| is_node_over(state, node)) {
        if old(node.status_updated_at, thresholds.nodes) {
            garbage.nodes.insert(node.id);
        }
    }
    garbage.into_command()
}

impl Garbage {
    fn take_job(&mut self, state: &State, key: &JobKey) {
        self.jobs.insert(key.clone());
        self.evals.extend(state.evals_of_job(key).map(|eval| eval.id));
        self.allocs.extend(state.allocs_of_job(key).map(|alloc| alloc.id));
        self.deployments.extend(state.deployments_of_job(key).map(|deployment| deployment.id));
    }

    fn take_eval(
        &mut self,
        state: &State,
        eval: &Evaluation,
        is_old: impl Fn(&Allocation) -> bool,
    ) {
        let may_go = |alloc: &Allocation| is_old(alloc) && is_alloc_over(state, alloc);
        if state.allocs_of_eval(eval.id).all(|alloc| may_go(alloc)) {
            self.allocs.extend(state.allocs_of_eval(eval.id).map(|alloc| alloc.id));
            self.evals.insert(eval.id);
        }
    }

    fn into_command(self) -> Option<Command> {
        let is_empty = self == Self::default();
        (!is_empty).then(|| Command::Collect {
            evals: self.evals.into_iter().collect(),
            allocs: self.allocs.into_iter().collect(),
            deployments: self.deployments.into_iter().collect(),
            jobs: self.jobs.into_iter().collect(),
            nodes: self.nodes.into_iter().collect(),
        })
    }
}

fn is_alloc_over(state: &State, alloc: &Allocation) -> bool {
    let is_settled = alloc.is_desired_terminal()
        || alloc.next.is_some()
        || state.job(alloc.job_key()).is_none_or(|job| job.stop);
    alloc.is_client_terminal() && is_settled
}

fn is_job_over(state: &State, job: &Job) -> bool {
    job.status == JobStatus::Dead
        && (job.stop || !job.is_template())
        && state.evals_of_job(&job.key).all(|eval| eval.is_terminal())
        && state.allocs_of_job(&job.key).all(|alloc| alloc.is_client_terminal())
}

fn last_change(state: &State, job: &Job) -> Timestamp {
    let evals = state.evals_of_job(&job.key).map(|eval| eval.modify_time);
    let allocs = state.allocs_of_job(&job.key).map(|alloc| alloc.modify_time);
    evals.chain(allocs).max().unwrap_or_default().max(job.submit_time)
}

fn is_node_over(state: &State, node: &Node) -> bool {
    node.status == NodeStatus::Down
        && state.allocs_on_node(node.id).all(|alloc| alloc.is_terminal())
}

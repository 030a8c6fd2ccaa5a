//! Makes the evaluations that must be recorded together with a change: of a job, or of a node.
//!
//! Servers and edges build the same evaluations from here, so that a drain asked over HTTP and a
//! missed heartbeat lead to the same work.
//!
//! # Invariants
//!
//! - Pure: ids and time are arguments.
//! - One evaluation per job, however many of its allocations are concerned.
//!
//! # Deliberately absent
//!
//! - Indexes. They are set when the evaluation is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::{EvalId, EvalStatus, Evaluation, Job, JobKey, JobKind, NodeId, Timestamp, Trigger};

use crate::state::State;

/// Makes a pending evaluation of a job.
pub fn eval_for_job(job: &Job, trigger: Trigger, id: u128, now: Timestamp) -> Evaluation {
    Evaluation {
        id: EvalId::from_bits(id),
        job: job.key.clone(),
        kind: job.kind,
        priority: job.priority,
        trigger,
        job_modify_index: job.job_modify_index,
        node_id: None,
        deployment_id: None,
        status: EvalStatus::Pending,
        status_description: String::new(),
        wait_until: Timestamp::NEVER,
        next: None,
        previous: None,
        blocked: None,
        failed_groups: BTreeMap::new(),
        queued: BTreeMap::new(),
        snapshot_index: 0,
        create_time: now,
        modify_time: now,
        create_index: 0,
        modify_index: 0,
    }
}

/// Makes one evaluation for each job that a change of a node concerns: those with allocations that
/// occupy it, and all system jobs that are not stopped, as they may have to start or end there.
pub fn evals_for_node(
    state: &State,
    node: NodeId,
    trigger: Trigger,
    ids: &mut dyn FnMut() -> u128,
    now: Timestamp,
) -> Vec<Evaluation> {
    let on_node = state.allocs_on_node(node).filter(|alloc| alloc.occupies_node());
    // A purged job has no record left, but its allocations still carry it.
    let mut jobs: BTreeMap<JobKey, Arc<Job>> =
        on_node.map(|alloc| (alloc.job.key.clone(), Arc::clone(&alloc.job))).collect();
    let known: BTreeSet<JobKey> = jobs.keys().cloned().collect();
    for key in known {
        if let Some(current) = state.job(&key) {
            jobs.insert(key, Arc::clone(current));
        }
    }
    for job in state.jobs().filter(|job| is_on_every_node(job) && !job.stop) {
        jobs.insert(job.key.clone(), Arc::clone(job));
    }
    jobs.values()
        .map(|job| Evaluation { node_id: Some(node), ..eval_for_job(job, trigger, ids(), now) })
        .collect()
}

fn is_on_every_node(job: &Job) -> bool {
    matches!(job.kind, JobKind::System | JobKind::SysBatch) && !job.is_template()
}

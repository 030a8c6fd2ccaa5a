//! The drainer: empties nodes group by group without taking a service below what it promised.
//!
//! Pure: (state, now) in, commands out. Asked again about the same state it says the same; an
//! allocation that was told to move carries the hint and is not told twice.
//!
//! # Invariants
//!
//! - Before the deadline at most `migrate.max_parallel` instances of a group are missing because
//!   of drains, over all draining nodes together.
//! - Batch instances stay until the deadline. System instances go last, or stay if the drain says so.
//!
//! # Deliberately absent
//!
//! - Placing replacements. The hint and its evaluation let the scheduler do it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::{
    AllocId, Allocation, ClientStatus, DesiredTransition, DrainState, Evaluation, JobKey, JobKind,
    Node, NodeId, Timestamp, Trigger,
};
use cos_state::evaluations::eval_for_job;
use cos_state::{Command, State};

use crate::evals::Ids;

/// How many instances move at once if the group does not say.
const PARALLEL_DEFAULT: usize = 1;

/// Decides what is to be done about all draining nodes now.
pub fn decide(state: &State, now: Timestamp, ids: Ids<'_>) -> Vec<Command> {
    let mut moving: BTreeSet<AllocId> = BTreeSet::new();
    let mut commands = Vec::new();
    for (node, drain) in draining(state) {
        let left = remaining(state, node, drain);
        if left.is_empty() {
            commands.push(finish(node.id));
            continue;
        }
        for alloc in chosen(state, &left, drain, now, &moving) {
            moving.insert(alloc);
        }
    }
    if let Some(command) = migrate(state, &moving, ids, now) {
        commands.push(command);
    }
    commands
}

/// When a drain has to be looked at again although nothing happens.
pub fn next_deadline(state: &State, now: Timestamp) -> Option<Timestamp> {
    draining(state)
        .map(|(_, drain)| force_time(drain))
        .filter(|at| !at.is_never() && *at > now)
        .min()
}

/// Whether any node is being emptied.
pub fn is_under_way(state: &State) -> bool {
    draining(state).next().is_some()
}

/// Whether the deadline of a drain has passed.
pub fn is_overdue(state: &State, now: Timestamp) -> bool {
    draining(state).any(|(_, drain)| {
        let at = force_time(drain);
        !at.is_never() && at <= now
    })
}

fn draining(state: &State) -> impl Iterator<Item = (&Node, &DrainState)> {
    state.nodes().filter_map(|node| Some((&**node, node.drain.as_ref()?)))
}

/// When everything left is stopped.
fn force_time(drain: &DrainState) -> Timestamp {
    match drain.spec.deadline {
        Some(Duration::ZERO) => drain.started_at,
        _ => drain.force_at,
    }
}

/// What still has to leave the node.
fn remaining<'a>(state: &'a State, node: &Node, drain: &DrainState) -> Vec<&'a Arc<Allocation>> {
    state
        .allocs_on_node(node.id)
        .filter(|alloc| !alloc.is_client_terminal())
        .filter(|alloc| !(drain.spec.ignore_system_jobs && alloc.job.is_system()))
        .collect()
}

/// Chooses what leaves a node now.
fn chosen(
    state: &State,
    left: &[&Arc<Allocation>],
    drain: &DrainState,
    now: Timestamp,
    moving: &BTreeSet<AllocId>,
) -> Vec<AllocId> {
    let untold = || left.iter().filter(|alloc| is_untold(alloc));
    let force_at = force_time(drain);
    if !force_at.is_never() && force_at <= now {
        return untold().map(|alloc| alloc.id).collect();
    }
    if left.iter().all(|alloc| alloc.job.is_system()) {
        return untold().map(|alloc| alloc.id).collect();
    }
    let mut groups: BTreeMap<(&JobKey, &str), Vec<&Arc<Allocation>>> = BTreeMap::new();
    for alloc in untold().filter(|alloc| alloc.job.kind == JobKind::Service) {
        groups.entry((alloc.job_key(), &alloc.group)).or_default().push(alloc);
    }
    let mut chosen: Vec<AllocId> = Vec::new();
    for ((job, group), allocs) in groups {
        let room = room_to_move(state, job, group, moving);
        // One that does not serve costs nothing by leaving.
        let (serving, others): (Vec<_>, Vec<_>) =
            allocs.into_iter().partition(|alloc| serves(state, alloc));
        chosen.extend(serving.iter().take(room).chain(&others).map(|alloc| alloc.id));
    }
    chosen
}

/// Whether it is wanted and was not told to move.
fn is_untold(alloc: &Allocation) -> bool {
    !alloc.is_desired_terminal() && !alloc.transition.migrate
}

/// How many instances of a group may leave now so that enough others serve.
fn room_to_move(state: &State, job: &JobKey, group: &str, moving: &BTreeSet<AllocId>) -> usize {
    let Some(spec) = state.job(job).and_then(|job| job.group(group)) else {
        // Nobody asks for this group any more; it may go.
        return usize::MAX;
    };
    let parallel = spec
        .migrate
        .as_ref()
        .map_or(PARALLEL_DEFAULT, |migrate| usize::try_from(migrate.max_parallel).unwrap_or(1));
    let serving = state
        .allocs_of_job(job)
        .filter(|alloc| *alloc.group == *group && is_untold(alloc))
        .filter(|alloc| !moving.contains(&alloc.id) && serves(state, alloc))
        .count();
    let needed = (spec.count as usize).saturating_sub(parallel.max(1));
    serving.saturating_sub(needed)
}

/// Whether users may count on it now.
fn serves(state: &State, alloc: &Allocation) -> bool {
    let is_judged = alloc
        .deployment_id
        .is_some_and(|id| state.deployment(id).is_some_and(|deployment| deployment.is_active()));
    alloc.client_status == ClientStatus::Running
        && !alloc.is_unhealthy()
        && (!is_judged || alloc.is_healthy())
}

fn finish(node: NodeId) -> Command {
    Command::SetNodeDrain { id: node, drain: None, mark_eligible: false, evals: Vec::new() }
}

/// Tells allocations to move, with one evaluation per job.
fn migrate(
    state: &State,
    moving: &BTreeSet<AllocId>,
    ids: Ids<'_>,
    now: Timestamp,
) -> Option<Command> {
    if moving.is_empty() {
        return None;
    }
    let mut transitions = BTreeMap::new();
    let mut evals: BTreeMap<&JobKey, Evaluation> = BTreeMap::new();
    for alloc in moving.iter().filter_map(|id| state.alloc(*id)) {
        transitions.insert(alloc.id, DesiredTransition { migrate: true, ..alloc.transition });
        evals.entry(alloc.job_key()).or_insert_with(|| {
            let job = state.job(alloc.job_key()).unwrap_or(&alloc.job);
            Evaluation {
                node_id: Some(alloc.node_id),
                ..eval_for_job(job, Trigger::NodeDrain, ids(), now)
            }
        });
    }
    Some(Command::SetTransitions { transitions, evals: evals.into_values().collect() })
}

#[cfg(test)]
mod tests;

//! Planning system and sysbatch jobs: one instance on every node that can take it.
//!
//! # Invariants
//!
//! - A node that breaks a rule is no failure; a node that has too little left is, and is waited for.
//! - Updates are paced by `max_parallel` and `stagger`: within one stagger no more than
//!   `max_parallel` nodes get the new version, however often the job is looked at.
//!
//! # Deliberately absent
//!
//! - Deployments. A system job's update is watched by its pace alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{
    Allocation, ClientStatus, DesiredStatus, Job, JobKind, NodeId, TaskGroup, Timestamp, Update,
};

use crate::demand::Demand;
use crate::difference;
use crate::draft::Draft;
use crate::feasibility::{fixed_rejection, is_in_datacenter, is_in_pool};
use crate::generic;
use crate::nodes::NodeTable;
use crate::presence::{Away, Presence, presence};
use crate::reconcile::{Cause, Stop, Wanted};
use crate::tally::Tally;
use crate::words;

/// What is to be done about one group.
#[derive(Debug, Default)]
struct Changes {
    stops: Vec<Stop>,
    in_place: Vec<Arc<Allocation>>,
    place: Vec<(NodeId, Wanted)>,
    outdated: Vec<Arc<Allocation>>,
    /// Instances that are waited for from now on, and when they are given up.
    expiring: Vec<(Timestamp, Arc<Allocation>)>,
    /// Nodes that got a replacement within the last stagger, and when the first did.
    recent: u32,
    next_at: Option<Timestamp>,
    /// Whether something lives, or has done its work.
    has_instances: bool,
}

/// What became of one group.
#[derive(Debug, Default)]
struct Results {
    /// Nodes that cannot take an instance.
    tally: Tally,
    /// How many of them have too little left.
    full: u32,
    /// Whether the group has an instance anywhere, or has done its work.
    runs_somewhere: bool,
}

/// Plans a system or sysbatch job.
pub(crate) fn plan(draft: &mut Draft<'_, '_>, job: &Arc<Job>) {
    let problem = draft.problem;
    let removed = problem.job_allocs.iter().filter(|alloc| job.group(&alloc.group).is_none());
    for alloc in removed.filter(|alloc| !alloc.is_terminal()) {
        let stop = leave(&draft.table, alloc, words::NOT_NEEDED);
        draft.stop(&stop);
    }
    for group in &job.groups {
        draft.mention(&group.name);
        let changes = compare(draft, job, group);
        carry_out(draft, group, changes);
    }
}

/// Looks at every instance of a group and every node without one.
fn compare(draft: &Draft<'_, '_>, job: &Arc<Job>, group: &TaskGroup) -> Changes {
    let problem = draft.problem;
    let demand = Demand::new(job, group);
    let mut changes = Changes::default();
    let mut by_node: BTreeMap<NodeId, Vec<&Arc<Allocation>>> = BTreeMap::new();
    for alloc in problem.job_allocs.iter().filter(|alloc| *alloc.group == *group.name) {
        by_node.entry(alloc.node_id).or_default().push(alloc);
    }
    for allocs in by_node.values_mut() {
        allocs.sort_by_key(|alloc| (alloc.create_index, alloc.create_time, alloc.id));
        let live = allocs.iter().rev().filter(|alloc| !alloc.is_terminal());
        for (at, alloc) in live.enumerate() {
            if at > 0 || group.count == 0 {
                changes.stops.push(leave(&draft.table, alloc, words::NOT_NEEDED));
            } else {
                judge(&draft.table, job, &demand, alloc, problem.now, &mut changes);
            }
        }
    }
    note_pace(&mut changes, rolling(group), job, &by_node, problem.now);
    if group.count > 0 {
        want_missing(draft, job, &demand, &by_node, &mut changes);
    }
    changes
}

/// Decides about one live instance.
fn judge(
    table: &NodeTable<'_>,
    job: &Job,
    demand: &Demand,
    alloc: &Arc<Allocation>,
    now: Timestamp,
    changes: &mut Changes,
) {
    let node = match (presence(table, alloc, now), table.node(alloc.node_id)) {
        (Presence::Here, Some(node)) => node,
        (Presence::Away(away), _) => {
            changes.has_instances = true;
            return wait_for(alloc, away, changes);
        }
        _ => return changes.stops.push(lost(alloc)),
    };
    if alloc.transition.migrate {
        let draining = !node.takes_work();
        let words = if draining { words::NODE_TAINTED } else { words::NOT_NEEDED };
        return changes.stops.push(leave(table, alloc, words));
    }
    changes.has_instances = true;
    if is_current(alloc, job) {
        return;
    }
    let suits = is_in_pool(job, node)
        && is_in_datacenter(job, node)
        && fixed_rejection(demand, node).is_none();
    if !suits {
        changes.stops.push(leave(table, alloc, words::NOT_NEEDED));
    } else if !difference::is_destructive(&alloc.job, job, &demand.group) {
        changes.in_place.push(Arc::clone(alloc));
    } else if node.takes_work() {
        changes.outdated.push(Arc::clone(alloc));
    }
}

/// Notes that an instance is out of reach from now on. It has no other node to be replaced on.
fn wait_for(alloc: &Arc<Allocation>, away: Away, changes: &mut Changes) {
    if !away.is_new {
        return;
    }
    let client_status = Some(ClientStatus::Unknown);
    changes.stops.push(Stop { alloc: Arc::clone(alloc), words: words::UNKNOWN, client_status });
    changes.expiring.extend(away.until.map(|until| (until, Arc::clone(alloc))));
}

fn lost(alloc: &Arc<Allocation>) -> Stop {
    let client_status = Some(ClientStatus::Lost);
    Stop { alloc: Arc::clone(alloc), words: words::LOST, client_status }
}

/// Counts updates of the last stagger against the next batch.
fn note_pace(
    changes: &mut Changes,
    update: Option<&Update>,
    job: &Job,
    by_node: &BTreeMap<NodeId, Vec<&Arc<Allocation>>>,
    now: Timestamp,
) {
    let Some(update) = update else { return };
    let replacements = by_node
        .values()
        .flatten()
        .filter(|alloc| alloc.previous.is_some() && is_current(alloc, job) && !alloc.is_terminal());
    for alloc in replacements.filter(|alloc| now.since(alloc.create_time) < update.stagger) {
        changes.recent += 1;
        let due = alloc.create_time + update.stagger;
        changes.next_at = Some(changes.next_at.map_or(due, |known| known.min(due)));
    }
}

/// Asks for an instance on every node that has none and may take one.
fn want_missing(
    draft: &Draft<'_, '_>,
    job: &Arc<Job>,
    demand: &Demand,
    by_node: &BTreeMap<NodeId, Vec<&Arc<Allocation>>>,
    changes: &mut Changes,
) {
    let stopping: Vec<_> = changes.stops.iter().map(|stop| stop.alloc.id).collect();
    for slot in draft.table.slots() {
        let allocs = by_node.get(&slot.node.id).map_or(&[][..], Vec::as_slice);
        if allocs.iter().any(|alloc| !alloc.is_terminal() && !stopping.contains(&alloc.id)) {
            continue;
        }
        if job.kind == JobKind::SysBatch && allocs.iter().any(|alloc| is_done(alloc, job)) {
            changes.has_instances = true;
            continue;
        }
        let (previous, cause) = predecessor(allocs);
        // A node that waits for its old instance to end counts as being updated.
        changes.recent += u32::from(previous.is_some() && cause == Cause::Missing);
        changes.place.push((slot.node.id, wanted(job, &demand.group, previous, cause)));
    }
}

/// What a new instance on a node takes over from: one that failed, or one that was stopped for it.
fn predecessor(allocs: &[&Arc<Allocation>]) -> (Option<Arc<Allocation>>, Cause) {
    let last = allocs.last().filter(|alloc| alloc.next.is_none());
    let Some(last) = last else { return (None, Cause::Missing) };
    let is_wanted = last.desired == DesiredStatus::Run;
    if is_wanted && last.client_status == ClientStatus::Failed {
        (Some(Arc::clone(last)), Cause::Rescheduled)
    } else if !is_wanted && last.desired_description == words::UPDATING {
        (Some(Arc::clone(last)), Cause::Missing)
    } else {
        (None, Cause::Missing)
    }
}

/// Stops, updates and places what was decided.
fn carry_out(draft: &mut Draft<'_, '_>, group: &TaskGroup, changes: Changes) {
    for stop in &changes.stops {
        draft.stop(stop);
    }
    generic::delay(draft, changes.expiring.iter(), Draft::expire);
    let Some(job) = draft.problem.job.clone() else { return };
    for alloc in &changes.in_place {
        draft.update_in_place(alloc, &job);
    }
    let update = rolling(group);
    let limit = update
        .map_or(usize::MAX, |update| update.max_parallel.saturating_sub(changes.recent) as usize);
    let mut results = Results { runs_somewhere: changes.has_instances, ..Results::default() };
    for (node, wanted) in &changes.place {
        place_one(draft, *node, wanted, &mut results);
    }
    let name: Arc<str> = group.name.as_str().into();
    let mut begun = 0;
    let mut left = changes.outdated.len();
    for alloc in changes.outdated {
        if begun == limit {
            break;
        }
        left -= 1;
        let node = alloc.node_id;
        let wanted = wanted(&job, &name, Some(alloc), Cause::Updated);
        // A node that cannot be updated does not hold up the others.
        begun += usize::from(place_one(draft, node, &wanted, &mut results));
    }
    report(draft, group, &results);
    if let (true, Some(update)) = (left > 0, update) {
        let now = draft.problem.now;
        let next_at = changes.next_at.filter(|_| limit == 0).unwrap_or(now + update.stagger);
        draft.roll_on(next_at);
    }
}

/// Places an instance on its node, or counts why that node cannot take it. Says whether the node is
/// on its way to have it.
fn place_one(
    draft: &mut Draft<'_, '_>,
    node: NodeId,
    wanted: &Wanted,
    results: &mut Results,
) -> bool {
    let Some(slot) = draft.table.slot_of(node) else { return false };
    if !draft.ready_ranker(wanted).concerns(slot) {
        return false;
    }
    draft.set_out(wanted);
    let ports = match draft.ready_ranker(wanted).rejection(slot) {
        Some(reason) => Err(reason),
        None => draft.ports_on(wanted, slot),
    };
    match ports {
        Ok(ports) => {
            draft.stop_previous(wanted);
            draft.place_on(wanted, slot, ports);
            results.runs_somewhere = true;
            true
        }
        Err(reason) => {
            results.full += u32::from(!reason.is_filter());
            results.tally.add(&reason, draft.table.slots()[slot].node);
            draft.turn_back(wanted)
        }
    }
}

/// Reports full nodes, or that the group runs nowhere at all.
fn report(draft: &mut Draft<'_, '_>, group: &TaskGroup, results: &Results) {
    let Results { tally, full, runs_somewhere } = results;
    if (*full == 0 && *runs_somewhere) || group.count == 0 {
        return;
    }
    let Some(job) = draft.problem.job.clone() else { return };
    let name: Arc<str> = group.name.as_str().into();
    let mut metric = draft.ready_ranker(&wanted(&job, &name, None, Cause::Missing)).bare_metric();
    tally.write(&mut metric);
    if *full == 0 {
        return draft.fail(&group.name, metric, false);
    }
    for _ in 0..*full {
        draft.fail(&group.name, metric.clone(), true);
    }
}

fn wanted(
    job: &Arc<Job>,
    group: &Arc<str>,
    previous: Option<Arc<Allocation>>,
    cause: Cause,
) -> Wanted {
    let (job, group) = (Arc::clone(job), Arc::clone(group));
    Wanted { job, group, index: 0, previous, cause, canary: false }
}

/// Makes the stop of an instance, as lost if its node is.
fn leave(table: &NodeTable<'_>, alloc: &Arc<Allocation>, words: &'static str) -> Stop {
    let lost = table.is_lost(alloc.node_id);
    Stop {
        alloc: Arc::clone(alloc),
        words: if lost { words::LOST } else { words },
        client_status: lost.then_some(ClientStatus::Lost),
    }
}

fn is_current(alloc: &Allocation, job: &Job) -> bool {
    alloc.job.job_modify_index == job.job_modify_index && alloc.job.create_index == job.create_index
}

/// Whether an instance of a sysbatch job has had its run under this version.
fn is_done(alloc: &Allocation, job: &Job) -> bool {
    is_current(alloc, job)
        && matches!(alloc.client_status, ClientStatus::Complete | ClientStatus::Failed)
}

fn rolling(group: &TaskGroup) -> Option<&Update> {
    group.update.as_ref().filter(|update| update.max_parallel > 0)
}

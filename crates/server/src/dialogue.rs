//! What is said on an agent's stream, and which commands follow from what an agent says.
//!
//! Pure: state and events in, messages and commands out. Ids and time are arguments.
//!
//! # Invariants
//!
//! - An agent is told everything once and every change after it; `told` is the index up to which it
//!   has been told.
//! - Of the reasons for an evaluation of one job in one report one is enough.
//!
//! # Deliberately absent
//!
//! - Streams, queues and proposals; see `agents` and `reports`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::CatalogChange;
use cos_model::link::{AllocUpdate, ToAgent};
use cos_model::node::{Node, NodeStatus};
use cos_model::{AllocId, Allocation, EvalStatus, Evaluation, JobKey, NodeId, Timestamp, Trigger};
use cos_state::evaluations::evals_for_node;
use cos_state::{Command, Event, State};

use crate::evals::Ids;
use crate::{deployments, evals};

/// The command that records a node as it says it is, ready for work.
pub fn registration(state: &State, node: Node, ids: Ids<'_>, now: Timestamp) -> Command {
    let id = node.id;
    let node = Box::new(Node { status: NodeStatus::Ready, ..node });
    let evals = if is_news(state.node(id).map(|known| &**known), &node) {
        let mut evals = evals_for_node(state, id, Trigger::NodeUpdate, ids, now);
        // A node that is new to this server is not in its state yet.
        evals.retain(|eval| {
            state.job(&eval.job).is_none_or(|job| {
                evals::may_use(job, &node)
                    || state.allocs_on_node(id).any(|alloc| *alloc.job_key() == eval.job)
            })
        });
        evals
    } else {
        Vec::new()
    };
    Command::RegisterNode { node, evals }
}

/// Whether a registration changes what may run where.
fn is_news(known: Option<&Node>, node: &Node) -> bool {
    known.is_none_or(|known| {
        let facts = |node: &Node| Node {
            status: NodeStatus::Ready,
            eligible: true,
            drain: None,
            status_updated_at: Timestamp::NEVER,
            events: Vec::new(),
            create_index: 0,
            modify_index: 0,
            ..node.clone()
        };
        known.status != NodeStatus::Ready || facts(known) != facts(node)
    })
}

/// The command that takes reports over. One evaluation per job is enough, whether something failed
/// in it, is back or got healthy.
pub fn reports(state: &State, updates: Vec<AllocUpdate>, ids: Ids<'_>, now: Timestamp) -> Command {
    let failed = evals::for_failures(state, &updates, &mut *ids, now);
    let back = evals::for_reconnects(state, &updates, &mut *ids, now);
    let healthy = deployments::for_health(state, &updates, &mut *ids, now);
    let mut by_job: BTreeMap<JobKey, Evaluation> = BTreeMap::new();
    for eval in failed.into_iter().chain(back).chain(healthy) {
        by_job.entry(eval.job.clone()).or_insert(eval);
    }
    let evals: Vec<Evaluation> = by_job.into_values().collect();
    debug_assert!(evals.iter().all(|eval| eval.status == EvalStatus::Pending));
    Command::UpdateAllocs { updates, evals }
}

/// All that a node should run, as of the state's index.
pub fn everything(state: &State, id: NodeId) -> ToAgent {
    let allocs = state.allocs_on_node(id).cloned().collect();
    ToAgent::Desired { generation: state.index(), complete: true, allocs, removed: Vec::new() }
}

/// What changed for a node after `told`, if anything. `index` is that of the last entry applied.
pub fn news(index: u64, events: &[(u64, Event)], told: u64, id: NodeId) -> Option<ToAgent> {
    let mut allocs: BTreeMap<AllocId, Arc<Allocation>> = BTreeMap::new();
    let mut removed = Vec::new();
    for (_, event) in events.iter().filter(|(index, _)| *index > told) {
        match event {
            Event::AllocPlanned(alloc) if alloc.node_id == id => {
                allocs.insert(alloc.id, Arc::clone(alloc));
            }
            Event::AllocRemoved { id: alloc, node } if *node == id => {
                allocs.remove(alloc);
                removed.push(*alloc);
            }
            _ => {}
        }
    }
    if allocs.is_empty() && removed.is_empty() {
        return None;
    }
    let allocs = allocs.into_values().collect();
    Some(ToAgent::Desired { generation: index, complete: false, allocs, removed })
}

/// The changes of the catalog among these events, each with its index.
pub fn catalog_changes(events: &[(u64, Event)]) -> Vec<(u64, CatalogChange)> {
    let of = |(index, event): &(u64, Event)| match event {
        Event::CatalogChanged(change) => Some((*index, (**change).clone())),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

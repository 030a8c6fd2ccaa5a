//! Nodes: registration, reachability, eligibility, drains.
//!
//! # Invariants
//!
//! - Eligibility and drain belong to operators: no registration changes them.
//! - Each change of a node is one event in its history, in the words that clients know; a command
//!   that changes nothing leaves none.
//!
//! # Deliberately absent
//!
//! - What happens to the allocations of a node. The evaluations that come with a command see to it.
//! - How a node appears in the catalog; see `apply::catalog`.

use std::sync::Arc;

use cos_model::node::{DrainState, NodeEvent, NodeStatus};
use cos_model::{Evaluation, Node, NodeId};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;

/// The part of the cluster that an event of registration, heartbeat or eligibility comes from.
const CLUSTER: &str = "Cluster";

/// The part of the cluster that an event of a drain comes from.
const DRAIN: &str = "Drain";

impl Step<'_> {
    pub(super) fn register_node(
        &mut self,
        node: &Node,
        evals: &[Evaluation],
    ) -> Result<Reply, Refused> {
        let registered = match self.state.nodes.get(&node.id).cloned() {
            None => self.new_node(node),
            Some(known) if known.secret != node.secret => {
                let message = "node secret ID does not match. Not registering node.";
                return Err(Refused::Invalid(message.to_owned()));
            }
            Some(known) => {
                if known.name != node.name {
                    self.leave_catalog(&known);
                }
                self.known_node(&known, node)
            }
        };
        if self.state.nodes.get(&node.id).is_none_or(|known| **known != registered) {
            self.put_node(Node { modify_index: self.index, ..registered.clone() });
        }
        self.enter_catalog(&registered);
        Ok(self.put_evals(evals))
    }

    pub(super) fn set_node_status(
        &mut self,
        id: NodeId,
        status: NodeStatus,
        message: &str,
        evals: &[Evaluation],
    ) -> Result<Reply, Refused> {
        let mut node = self.node_to_change(id)?;
        if node.status != status {
            node.status = status;
            node.status_updated_at = self.at;
            self.note(&mut node, CLUSTER, message);
            self.put_node(node.clone());
            self.set_alive_in_catalog(&node);
        }
        Ok(self.put_evals(evals))
    }

    pub(super) fn set_node_eligibility(
        &mut self,
        id: NodeId,
        eligible: bool,
        evals: &[Evaluation],
    ) -> Result<Reply, Refused> {
        let mut node = self.node_to_change(id)?;
        if eligible && node.drain.is_some() {
            let message =
                "can not set node's scheduling eligibility to eligible while it is draining";
            return Err(Refused::Invalid(message.to_owned()));
        }
        if node.eligible != eligible {
            node.eligible = eligible;
            self.note(&mut node, CLUSTER, eligibility_message(eligible));
            self.put_node(node);
        }
        Ok(self.put_evals(evals))
    }

    pub(super) fn set_node_drain(
        &mut self,
        id: NodeId,
        drain: Option<&DrainState>,
        mark_eligible: bool,
        evals: &[Evaluation],
    ) -> Result<Reply, Refused> {
        let mut node = self.node_to_change(id)?;
        let before = (node.drain.clone(), node.eligible);
        let message = match (&node.drain, drain) {
            (None, Some(_)) => "Node drain strategy set",
            (Some(_), Some(_)) => "Node drain strategy updated",
            (Some(old), None) if self.is_empty_but_for_system(id, old) => "Node drain complete",
            (Some(_), None) => "Node drain disabled",
            (None, None) => eligibility_message(true),
        };
        node.eligible = drain.is_none() && (node.eligible || mark_eligible);
        node.drain = drain.cloned();
        if before != (node.drain.clone(), node.eligible) {
            self.note(&mut node, DRAIN, message);
            self.put_node(node);
        }
        Ok(self.put_evals(evals))
    }

    fn new_node(&self, node: &Node) -> Node {
        let mut new = Node {
            drain: None,
            status_updated_at: self.at,
            events: Vec::new(),
            create_index: self.index,
            modify_index: self.index,
            ..node.clone()
        };
        self.note(&mut new, CLUSTER, "Node registered");
        new
    }

    /// A known node with its new facts. What the cluster decided about it stays.
    fn known_node(&self, known: &Node, node: &Node) -> Node {
        let mut new = Node {
            status: known.status,
            eligible: known.eligible,
            drain: known.drain.clone(),
            status_updated_at: known.status_updated_at,
            events: known.events.clone(),
            create_index: known.create_index,
            modify_index: known.modify_index,
            ..node.clone()
        };
        if known.status.is_away() && !node.status.is_away() {
            new.status = node.status;
            new.status_updated_at = self.at;
            self.note(&mut new, CLUSTER, "Node re-registered");
        }
        new
    }

    /// Whether nothing is left on a node that its drain was to move away.
    fn is_empty_but_for_system(&self, id: NodeId, drain: &DrainState) -> bool {
        let ignored = drain.spec.ignore_system_jobs;
        self.state
            .allocs_on_node(id)
            .all(|alloc| alloc.is_terminal() || ignored && alloc.job.is_system())
    }

    fn node_to_change(&self, id: NodeId) -> Result<Node, Refused> {
        let node = self.state.nodes.get(&id);
        let node = node.ok_or_else(|| Refused::NotFound(format!("node \"{id}\"")))?;
        Ok(Node { modify_index: self.index, ..Node::clone(node) })
    }

    fn note(&self, node: &mut Node, subsystem: &str, message: &str) {
        let (subsystem, message) = (subsystem.to_owned(), message.to_owned());
        node.push_event(NodeEvent { at: self.at, subsystem, message });
    }

    fn put_node(&mut self, node: Node) {
        self.events.push(Event::NodeChanged(node.id));
        self.state.nodes.insert(node.id, Arc::new(node));
        self.state.tables.nodes = self.index;
    }
}

fn eligibility_message(eligible: bool) -> &'static str {
    if eligible {
        "Node marked as eligible for scheduling"
    } else {
        "Node marked as ineligible for scheduling"
    }
}

//! The looks at everything that may have to be done, and the errands that follow.

use std::sync::Arc;
use std::time::Duration;

use cos_model::{DeploymentId, EvalStatus, Evaluation, Node, NodeId, NodeStatus, Trigger};
use cos_state::evaluations::evals_for_node;
use cos_state::{Command, garbage};

use super::{CONFLICTS_EVERY, Duties, Effect, Sight, Subject};
use crate::{absence, deployments, drain, follow_up, metrics};

/// The wait before a node that is waited for no more is looked at again.
const DISCONNECTED_AGAIN: Duration = Duration::from_millis(500);

impl Duties {
    pub(super) fn look_at_deployments(&mut self, sight: &mut Sight<'_>) {
        self.deployments.extend(self.deadlines.take_due(sight.date));
        let due: Vec<DeploymentId> = self
            .deployments
            .iter()
            .copied()
            .filter(|id| !self.running.contains(&Subject::Deployment(*id)))
            .collect();
        for id in due {
            self.deployments.remove(&id);
            self.deadlines.cancel(id);
            let Some(deployment) = sight.state.deployment(id) else { continue };
            if let Some(at) = deployments::next_deadline(deployment).filter(|at| *at > sight.date) {
                self.deadlines.set(id, at);
            }
            if let Some(command) = deployments::decide(sight.state, id, sight.date, &mut *sight.ids)
            {
                self.run_errand(Subject::Deployment(id), vec![command]);
            }
        }
    }

    pub(super) fn look_at_drains(&mut self, sight: &mut Sight<'_>) {
        let is_due =
            self.drains_changed || (self.has_drains && drain::is_overdue(sight.state, sight.date));
        if !is_due || self.running.contains(&Subject::Drains) {
            return;
        }
        self.drains_changed = false;
        let commands = drain::decide(sight.state, sight.date, &mut *sight.ids);
        if !commands.is_empty() {
            self.run_errand(Subject::Drains, commands);
        }
    }

    /// Expects heartbeats of a node that is there, and the end of the wait for one that is not.
    pub(super) fn watch_node(&mut self, node: &Node, sight: &Sight<'_>) {
        if !node.status.is_away() {
            self.disconnected.cancel(node.id);
            return self.heartbeats.expect(node.id, sight.clock);
        }
        self.heartbeats.forget(node.id);
        if node.status == NodeStatus::Disconnected {
            let (_, end) = absence::status_of_silent(sight.state, node.id, sight.date);
            self.disconnected.set(node.id, end.unwrap_or(sight.date));
        }
    }

    /// Takes nodes down that were silent for too long, or are waited for no more.
    pub(super) fn look_at_nodes(&mut self, sight: &mut Sight<'_>) {
        for id in self.disconnected.take_due(sight.date) {
            self.look_at_disconnected(id, sight);
        }
        for id in self.heartbeats.missed(sight.clock) {
            let is_up = sight.state.node(id).is_some_and(|node| !node.status.is_away());
            if !is_up {
                continue;
            }
            // It is looked at again if the errand fails; if it does not, the node is forgotten then.
            self.heartbeats.expect(id, sight.clock);
            if self.running.contains(&Subject::Node(id)) {
                continue;
            }
            tracing::warn!(node = %id, "node missed its heartbeats");
            ::metrics::counter!(metrics::HEARTBEATS_MISSED).increment(1);
            let (status, _) = absence::status_of_silent(sight.state, id, sight.date);
            self.set_node_status(id, status, "Node heartbeat missed", sight);
        }
    }

    /// Takes a disconnected node down once nobody waits for it.
    fn look_at_disconnected(&mut self, id: NodeId, sight: &mut Sight<'_>) {
        let is_disconnected = |node: &Arc<Node>| node.status == NodeStatus::Disconnected;
        if !sight.state.node(id).is_some_and(is_disconnected) {
            return;
        }
        if let (_, Some(end)) = absence::status_of_silent(sight.state, id, sight.date) {
            return self.disconnected.set(id, end);
        }
        // Looked at again if the errand fails; else the event of it ends this.
        self.disconnected.set(id, sight.date + DISCONNECTED_AGAIN);
        if !self.running.contains(&Subject::Node(id)) {
            tracing::warn!(node = %id, "nobody waits for the node any more");
            self.set_node_status(id, NodeStatus::Down, "Node did not reconnect in time", sight);
        }
    }

    /// Ends sessions that were not renewed, and lock delays that are over.
    pub(super) fn look_at_sessions(&mut self, sight: &mut Sight<'_>) {
        if self.running.contains(&Subject::Sessions) {
            return;
        }
        let ops = self.sessions.due(sight.state, sight.clock);
        if !ops.is_empty() {
            self.run_errand(Subject::Sessions, ops.into_iter().map(Command::Session).collect());
        }
    }

    /// Brings a node up that was given up or has never been up, and is there.
    pub(super) fn bring_up(&mut self, id: NodeId, sight: &mut Sight<'_>) {
        if !self.running.contains(&Subject::Node(id)) {
            let message = "Node reregistered by heartbeat";
            self.set_node_status(id, NodeStatus::Ready, message, sight);
        }
    }

    fn set_node_status(
        &mut self,
        id: NodeId,
        status: NodeStatus,
        message: &str,
        sight: &mut Sight<'_>,
    ) {
        let trigger = Trigger::NodeUpdate;
        let evals = evals_for_node(sight.state, id, trigger, &mut *sight.ids, sight.date);
        let message = message.to_owned();
        let command = Command::SetNodeStatus { id, status, message, evals };
        self.run_errand(Subject::Node(id), vec![command]);
    }

    /// Has the consensus group and the catalog compared with the servers that there are.
    pub(super) fn look_at_members(&mut self) {
        if self.members_changed && self.running.insert(Subject::Members) {
            self.members_changed = false;
            self.effects.push(Effect::Members);
        }
    }

    /// Does what is due by the clock alone.
    pub(super) fn look_at_time(&mut self, sight: &mut Sight<'_>) {
        if sight.clock >= self.conflicts_at {
            self.conflicts_at = sight.clock + CONFLICTS_EVERY;
            // A server that could not be taken in is tried again as well.
            self.members_changed = true;
            for eval in self.blocked.wake_conflicts() {
                self.broker.enqueue(&eval, sight.date);
            }
        }
        if sight.clock >= self.collect_at && !self.running.contains(&Subject::Garbage) {
            self.collect_at = sight.clock + self.settings.gc_interval;
            let garbage = garbage::collect(sight.state, sight.date, &self.settings.gc);
            if let Some(command) = garbage {
                self.run_errand(Subject::Garbage, vec![command]);
            }
        }
    }

    /// Records that evaluations are overtaken.
    pub(super) fn cancel(&mut self, evals: &[Arc<Evaluation>], why: &str) {
        if evals.is_empty() {
            return;
        }
        let evals = evals
            .iter()
            .map(|eval| Evaluation {
                status: EvalStatus::Cancelled,
                status_description: why.to_owned(),
                ..Evaluation::clone(eval)
            })
            .collect();
        self.effects.push(Effect::Propose(Box::new(Command::PutEvals { evals })));
    }

    /// Records that an evaluation failed, and the one that follows later.
    pub(super) fn give_up(&mut self, eval: &Evaluation, sight: &mut Sight<'_>) {
        let draw = follow_up::Draw::from(&mut *sight.ids);
        let why = "evaluation reached delivery limit";
        let evals = follow_up::after_failure(sight.state, eval, why, sight.date, draw);
        self.effects.push(Effect::Propose(Box::new(Command::PutEvals { evals })));
    }

    fn run_errand(&mut self, subject: Subject, commands: Vec<Command>) {
        self.running.insert(subject);
        self.effects.push(Effect::Errand(subject, commands));
    }
}

//! The looks at everything that may have to be done, and the errands that follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{DeploymentId, EvalId, EvalStatus, Evaluation, NodeId, NodeStatus, Trigger};
use cos_state::evaluations::evals_for_node;
use cos_state::{Command, garbage};

use super::{CONFLICTS_EVERY, Duties, Effect, Sight, Subject};
use crate::{deployments, drain, metrics};

/// The shortest wait before an evaluation that was given up is followed by another.
const FOLLOW_UP_WAIT: Duration = Duration::from_mins(1);

/// What is added to that at random at most.
const FOLLOW_UP_SPREAD_SECONDS: u64 = 300;

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

    /// Takes nodes down that were silent for too long.
    pub(super) fn look_at_nodes(&mut self, sight: &mut Sight<'_>) {
        for id in self.heartbeats.missed(sight.clock) {
            let is_up = sight.state.node(id).is_some_and(|node| node.status != NodeStatus::Down);
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
            self.set_node_status(id, NodeStatus::Down, "Node heartbeat missed", sight);
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
        let now = sight.date;
        let spread = (sight.ids)() % u128::from(FOLLOW_UP_SPREAD_SECONDS);
        let wait = FOLLOW_UP_WAIT + Duration::from_secs(u64::try_from(spread).unwrap_or(0));
        let next = EvalId::from_bits((sight.ids)());
        let follow_up = Evaluation {
            id: next,
            trigger: Trigger::FailedFollowUp,
            status: EvalStatus::Pending,
            status_description: String::new(),
            wait_until: now + wait,
            previous: Some(eval.id),
            next: None,
            blocked: None,
            failed_groups: BTreeMap::new(),
            queued: BTreeMap::new(),
            create_time: now,
            modify_time: now,
            create_index: 0,
            modify_index: 0,
            ..eval.clone()
        };
        let failed = Evaluation {
            status: EvalStatus::Failed,
            status_description: "evaluation reached delivery limit".to_owned(),
            next: Some(next),
            ..eval.clone()
        };
        let command = Command::PutEvals { evals: vec![failed, follow_up] };
        self.effects.push(Effect::Propose(Box::new(command)));
    }

    fn run_errand(&mut self, subject: Subject, commands: Vec<Command>) {
        self.running.insert(subject);
        self.effects.push(Effect::Errand(subject, commands));
    }
}

//! What the leader's duties set in motion: small tasks that propose and report back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{
    DeploymentId, EvalId, EvalStatus, Evaluation, NodeId, NodeStatus, ServerId, Timestamp, Trigger,
};
use cos_platform::{Fate, entropy};
use cos_state::evaluations::evals_for_node;
use cos_state::{Command, MemberStatus, ProposeError, State, garbage};

use super::{CONFLICTS_EVERY, Duties, Report, Subject};
use crate::gossip::Peer;
use crate::membership::{self, Change};
use crate::registration::{self, ServerEntry};
use crate::shared::{Shared, new_id};
use crate::{deployments, drain, metrics};

/// The shortest wait before an evaluation that was given up is followed by another.
const FOLLOW_UP_WAIT: Duration = Duration::from_mins(1);

/// What is added to that at random at most.
const FOLLOW_UP_SPREAD_SECONDS: u64 = 300;

/// The wait after an errand that failed, so that it is not repeated at full speed.
const FAILED_ERRAND_WAIT: Duration = Duration::from_millis(500);

impl Duties {
    pub(super) fn watch_deployment(&mut self, state: &State, id: DeploymentId, now: Timestamp) {
        if let Some(command) = deployments::decide(state, id, now, &mut new_id) {
            self.run_errand(Subject::Deployment(id), vec![command]);
        }
    }

    pub(super) fn look_at_drains(&mut self) {
        let (state, now) = (self.shared.published.state(), self.shared.now());
        let is_due = self.drains_changed || (self.has_drains && drain::is_overdue(&state, now));
        if !is_due || self.running.contains(&Subject::Drains) {
            return;
        }
        self.drains_changed = false;
        let commands = drain::decide(&state, now, &mut new_id);
        if !commands.is_empty() {
            self.run_errand(Subject::Drains, commands);
        }
    }

    /// Takes nodes down that were silent for too long.
    pub(super) fn look_at_nodes(&mut self) {
        let state = self.shared.published.state();
        for id in self.heartbeats.missed(self.shared.clock.monotonic()) {
            let is_up = state.node(id).is_some_and(|node| node.status != NodeStatus::Down);
            if !is_up {
                continue;
            }
            // It is looked at again if the errand fails; if it does not, the node is forgotten then.
            self.heartbeats.expect(id, self.shared.clock.monotonic());
            if self.running.contains(&Subject::Node(id)) {
                continue;
            }
            tracing::warn!(node = %id, "node missed its heartbeats");
            ::metrics::counter!(metrics::HEARTBEATS_MISSED).increment(1);
            self.set_node_status(&state, id, NodeStatus::Down, "Node heartbeat missed");
        }
    }

    /// Brings a node up that was given up or has never been up, and is there.
    pub(super) fn bring_up(&mut self, id: NodeId) {
        if !self.running.contains(&Subject::Node(id)) {
            let state = self.shared.published.state();
            self.set_node_status(&state, id, NodeStatus::Ready, "Node reregistered by heartbeat");
        }
    }

    fn set_node_status(&mut self, state: &State, id: NodeId, status: NodeStatus, message: &str) {
        let now = self.shared.now();
        let evals = evals_for_node(state, id, Trigger::NodeUpdate, &mut new_id, now);
        let message = message.to_owned();
        let command = Command::SetNodeStatus { id, status, message, evals };
        self.run_errand(Subject::Node(id), vec![command]);
    }

    /// Keeps the consensus group and the catalog as gossip says that servers are.
    pub(super) fn look_at_members(&mut self) {
        if !self.members_changed || self.running.contains(&Subject::Members) {
            return;
        }
        self.members_changed = false;
        let shared = Arc::clone(&self.shared);
        let peers = shared.gossip.peers();
        let members = shared.members();
        let changes = membership::decide(&peers, &shared.config.region, shared.id, &members);
        let commands = catalog_commands(&shared, &peers);
        if changes.is_empty() && commands.is_empty() {
            return;
        }
        self.running.insert(Subject::Members);
        let report = self.report.clone();
        self.shared.tasks.spawn("membership", Fate::Ends, async move {
            for change in changes {
                change_group(&shared, change).await;
            }
            propose_all(&shared, Subject::Members, commands).await;
            let _ = report.send(Report::Ran(Subject::Members)).await;
        });
    }

    /// Does what is due by the clock alone.
    pub(super) fn look_at_time(&mut self) {
        let now = self.shared.clock.monotonic();
        if now >= self.conflicts_at {
            self.conflicts_at = now + CONFLICTS_EVERY;
            // A server that could not be taken in is tried again as well.
            self.members_changed = true;
            let date = self.shared.now();
            for eval in self.blocked.wake_conflicts() {
                self.broker.enqueue(&eval, date);
            }
        }
        if now >= self.collect_at && !self.running.contains(&Subject::Garbage) {
            self.collect_at = now + self.shared.config.timing.gc_interval;
            let state = self.shared.published.state();
            let garbage = garbage::collect(&state, self.shared.now(), &self.shared.config.gc);
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
        self.spawn_proposal(Command::PutEvals { evals });
    }

    /// Records that an evaluation failed, and the one that follows later.
    pub(super) fn give_up(&mut self, eval: &Evaluation) {
        let now = self.shared.now();
        let spread = entropy::draw() % u128::from(FOLLOW_UP_SPREAD_SECONDS);
        let wait = FOLLOW_UP_WAIT + Duration::from_secs(u64::try_from(spread).unwrap_or(0));
        let next = EvalId::from_bits(new_id());
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
        self.spawn_proposal(Command::PutEvals { evals: vec![failed, follow_up] });
    }

    fn spawn_proposal(&self, command: Command) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn("leader's proposal", Fate::Ends, async move {
            if let Err(error) = shared.propose_as_leader(command).await {
                // The next leader finds the same to do in the state.
                tracing::debug!(%error, "proposal of the leader not done");
            }
        });
    }

    /// Proposes commands in order. Until they are done nothing else is started on the subject.
    fn run_errand(&mut self, subject: Subject, commands: Vec<Command>) {
        self.running.insert(subject);
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        self.shared.tasks.spawn("leader's errand", Fate::Ends, async move {
            propose_all(&shared, subject, commands).await;
            let _ = report.send(Report::Ran(subject)).await;
        });
    }
}

async fn propose_all(shared: &Shared, subject: Subject, commands: Vec<Command>) {
    for command in commands {
        match shared.propose_as_leader(command).await {
            Ok(_) => {}
            Err(ProposeError::Refused(refused)) => {
                tracing::info!(?subject, %refused, "leader's command refused");
                tokio::time::sleep(FAILED_ERRAND_WAIT).await;
            }
            Err(error) => {
                tracing::debug!(?subject, %error, "leader's command not done");
                tokio::time::sleep(FAILED_ERRAND_WAIT).await;
                return;
            }
        }
    }
}

async fn change_group(shared: &Shared, change: Change) {
    let (what, id): (_, ServerId) = match &change {
        Change::Add(id, _) => ("add", *id),
        Change::Remove(id) => ("remove", *id),
    };
    let changed = match change {
        Change::Add(id, address) => shared.raft.add_server(id, address).await,
        Change::Remove(id) => shared.raft.remove_server(id).await,
    };
    match changed {
        Ok(()) => tracing::info!(server = %id, what, "consensus group changed"),
        Err(error) => {
            tracing::warn!(server = %id, what, %error, "consensus group not changed");
        }
    }
}

/// What the catalog lacks of the servers that gossip knows.
fn catalog_commands(shared: &Shared, peers: &[Peer]) -> Vec<Command> {
    let own_region = || peers.iter().filter(|peer| peer.tag("region") == shared.config.region);
    let servers: Vec<ServerEntry> =
        own_region().filter(|peer| peer.status != MemberStatus::Left).map(server_entry).collect();
    let is_back = |name: &str| servers.iter().any(|server| server.name == name);
    let gone: Vec<String> = own_region()
        .filter(|peer| peer.status == MemberStatus::Left && !is_back(peer.tag("name")))
        .map(|peer| peer.tag("name").to_owned())
        .collect();
    let state = shared.published.state();
    let changes = registration::decide(state.catalog(), &servers, &gone);
    if changes.is_empty() { Vec::new() } else { vec![Command::Catalog { changes }] }
}

fn server_entry(peer: &Peer) -> ServerEntry {
    let socket = |tag: &str| peer.tag(tag).parse::<SocketAddr>().ok();
    let mut ports = BTreeMap::from([("serf", peer.address.port())]);
    ports.extend(socket("rpc_addr").map(|at| ("rpc", at.port())));
    ports.extend(socket("http").map(|at| ("http", at.port())));
    ServerEntry {
        name: peer.tag("name").to_owned(),
        id: peer.tag("id").to_owned(),
        address: socket("rpc_addr").map_or_else(|| peer.address.ip(), |at| at.ip()).to_string(),
        ports,
        is_alive: peer.is_alive(),
    }
}

//! What a server does for agents and users.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cos_model::catalog::CatalogChange;
use cos_model::link::{ToAgent, ToServer};
use cos_model::{NodeId, Trigger};
use cos_server::config::Timing;
use cos_server::dialogue;
use cos_state::Command;
use cos_state::evaluations::evals_for_node;

use super::{Origin, Server, Stream};
use crate::context::{Answer, Ask, Body, Context, Outcome, Undone};
use crate::network::Peer;

impl Server {
    pub(super) fn take_message(
        &mut self,
        agent: usize,
        stream: u64,
        message: ToServer,
        context: &mut Context,
    ) {
        if let Some(served) = self.streams.get(&stream) {
            self.heard.insert(served.node);
        }
        match message {
            ToServer::Hello { node } => {
                let id = node.id;
                let changes = VecDeque::new();
                let served = Stream { agent, node: id, told: None, changes, is_changing: false };
                self.streams.insert(stream, served);
                let (date, random) = (context.date(self.clock), &mut context.random);
                let ids = &mut || random.id();
                let command = dialogue::registration(&self.state, *node, ids, date);
                self.propose(command, Origin::Registration(stream), context);
                context.trace.note(context.now, &[20, self.number as u64, agent as u64], || {
                    format!("agent {agent} ({}) registers at server {}", id.short(), self.number)
                });
            }
            ToServer::NodeChanged { .. } | ToServer::Heartbeat | ToServer::Leaving => {}
            ToServer::Allocs { sequence, updates } => {
                self.reports.next.push(((stream, sequence), updates));
                self.propose_reports_unless_busy(context);
            }
            ToServer::Catalog { sequence, changes } => {
                if let Some(served) = self.streams.get_mut(&stream) {
                    served.changes.push_back((sequence, changes));
                    self.change_next(stream, context);
                }
            }
        }
    }

    /// Proposes the next changes of a stream, in the order in which they came.
    fn change_next(&mut self, stream: u64, context: &mut Context) {
        if let Some(served) = self.streams.get_mut(&stream)
            && !served.is_changing
            && let Some((sequence, changes)) = served.changes.pop_front()
        {
            served.is_changing = true;
            self.propose_catalog(stream, sequence, changes, context);
        }
    }

    /// Changes of the catalog are committed.
    pub(super) fn changed(
        &mut self,
        stream: u64,
        sequence: u64,
        refused: BTreeMap<u32, String>,
        context: &mut Context,
    ) {
        self.done(stream, sequence, refused, context);
        if let Some(served) = self.streams.get_mut(&stream) {
            served.is_changing = false;
        }
        self.change_next(stream, context);
    }

    /// A node is registered, or could not be.
    pub(super) fn registered(
        &mut self,
        stream: u64,
        result: &Result<(u64, Outcome), Undone>,
        context: &mut Context,
    ) {
        let Some(served) = self.streams.get(&stream) else { return };
        let (agent, node) = (served.agent, served.node);
        if !matches!(result, Ok((_, Ok(_)))) {
            self.streams.remove(&stream);
            return context.close(stream, self.peer(), Peer::Agent(agent));
        }
        self.heard.insert(node);
        let (limits, nodes) = (Timing::default().heartbeats, self.state.node_count());
        let heartbeat_every = limits.heartbeat_every(nodes);
        let reconnect_spread = limits.reconnect_spread(nodes);
        let welcome = ToAgent::Welcome { heartbeat_every, reconnect_spread, servers: Vec::new() };
        self.tell(stream, welcome, context);
        self.tell_all(stream, context);
    }

    pub(super) fn tell_all(&mut self, stream: u64, context: &mut Context) {
        let Some(served) = self.streams.get_mut(&stream) else { return };
        served.told = Some(self.state.index());
        let desired = dialogue::everything(&self.state, served.node);
        let catalog = ToAgent::CatalogAll(Box::new(self.state.catalog().clone()));
        self.tell(stream, desired, context);
        self.tell(stream, catalog, context);
    }

    fn tell(&self, stream: u64, message: ToAgent, context: &mut Context) {
        if let Some(served) = self.streams.get(&stream) {
            let to = Peer::Agent(served.agent);
            context.send_on(stream, self.peer(), to, Body::Down(stream, Arc::new(message)));
        }
    }

    /// A stream ended.
    pub(super) fn lose(&mut self, stream: u64, context: &mut Context) {
        let Some(served) = self.streams.remove(&stream) else { return };
        context.network.close(stream);
        if served.told.is_some() {
            self.heard.remove(&served.node);
            self.tell_leader(Vec::new(), vec![served.node], context);
        }
    }

    fn propose_reports_unless_busy(&mut self, context: &mut Context) {
        if !self.reports.is_busy {
            self.propose_reports(context);
        }
    }

    /// Proposes all reports that are there, over all streams.
    pub(super) fn propose_reports(&mut self, context: &mut Context) {
        for (waiting, updates) in std::mem::take(&mut self.reports.next) {
            self.reports.merged.extend(updates.into_iter().map(|update| (update.id, update)));
            self.reports.waiting.push(waiting);
        }
        if self.reports.waiting.is_empty() {
            return;
        }
        self.reports.is_busy = true;
        let updates = self.reports.merged.values().cloned().collect();
        let (date, random) = (context.date(self.clock), &mut context.random);
        let command = dialogue::reports(&self.state, updates, &mut || random.id(), date);
        self.propose(command, Origin::Reports, context);
    }

    /// The reports are committed.
    pub(super) fn acknowledge(&mut self, context: &mut Context) {
        self.reports.merged.clear();
        self.reports.is_busy = false;
        for (stream, sequence) in std::mem::take(&mut self.reports.waiting) {
            self.done(stream, sequence, BTreeMap::new(), context);
        }
        if !self.reports.next.is_empty() {
            self.propose_reports(context);
        }
    }

    pub(super) fn propose_catalog(
        &mut self,
        stream: u64,
        sequence: u64,
        changes: Vec<CatalogChange>,
        context: &mut Context,
    ) {
        // Changes belong to the stream on which they came.
        if self.streams.contains_key(&stream) {
            let command = Command::Catalog { changes: changes.clone() };
            self.propose(command, Origin::Catalog(stream, sequence, changes), context);
        }
    }

    fn done(
        &self,
        stream: u64,
        sequence: u64,
        refused: BTreeMap<u32, String>,
        context: &mut Context,
    ) {
        self.tell(stream, ToAgent::Done { sequence, refused }, context);
    }

    pub(super) fn take_ask(
        &mut self,
        client: usize,
        number: u64,
        ask: &Ask,
        context: &mut Context,
    ) {
        let origin = Origin::Client(client, number);
        match ask {
            Ask::Write(command) => self.propose(Command::clone(command), origin, context),
            Ask::Drain(id, drain) => {
                let is_over = drain.is_none();
                let evals = if is_over { self.node_evals(*id, context) } else { Vec::new() };
                let (drain, mark_eligible) = (drain.clone(), is_over);
                let command = Command::SetNodeDrain { id: *id, drain, mark_eligible, evals };
                self.propose(command, origin, context);
            }
            Ask::Eligible(id, eligible) => {
                let evals = if *eligible { self.node_evals(*id, context) } else { Vec::new() };
                let (id, eligible) = (*id, *eligible);
                let command = Command::SetNodeEligibility { id, eligible, evals };
                self.propose(command, origin, context);
            }
            Ask::Read => {
                let token = number << 8 | client as u64;
                if !self.raft.read(token) {
                    let leader = self.raft.leader();
                    self.answer(client, number, Answer::NotLeader(leader), context);
                }
            }
            Ask::Group(members) => {
                let leader = self.raft.leader();
                let is_begun = self.raft.change_group(members.clone());
                let answer = if is_begun { Answer::Unknown } else { Answer::NotLeader(leader) };
                self.answer(client, number, answer, context);
            }
            Ask::Transfer(to) => {
                self.raft.hand_over(*to, context.now);
                self.answer(client, number, Answer::Unknown, context);
            }
        }
    }

    fn node_evals(&self, id: NodeId, context: &mut Context) -> Vec<cos_model::Evaluation> {
        let (date, random) = (context.date(self.clock), &mut context.random);
        evals_for_node(&self.state, id, Trigger::NodeUpdate, &mut || random.id(), date)
    }

    pub(super) fn answer_read(&mut self, token: u64, index: u64, context: &mut Context) {
        let (client, number) = (usize::try_from(token & 0xFF).unwrap_or(0), token >> 8);
        if self.applied >= index {
            self.answer(client, number, Answer::Read(self.state.index()), context);
        } else {
            self.reads.entry(index).or_default().push((client, number));
        }
    }

    pub(super) fn refuse_read(&self, token: u64, context: &mut Context) {
        let (client, number) = (usize::try_from(token & 0xFF).unwrap_or(0), token >> 8);
        self.answer(client, number, Answer::NotLeader(None), context);
    }
}

//! One simulated server: the model of consensus below, the shipped state, duties, workers and
//! dialogue with agents above.
//!
//! Only waiting and sending are written here anew; what is decided is decided by `cos-state`,
//! `cos-scheduler` and the pure modules of `cos-server`.
//!
//! # Invariants
//!
//! - A server answers nothing before it has applied it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cos_model::catalog::CatalogChange;
use cos_model::link::{AllocUpdate, ToAgent};
use cos_model::{AllocId, EvalId, NodeId};
use cos_server::dialogue;
use cos_server::duties::{Duties, Subject};
use cos_server::work::Work;
use cos_state::{Applied, Command, Event as StateEvent, State};

use crate::consensus::{Message, Out, Raft};
use crate::context::{Body, Context, Event, Outcome, ServerTimer, Undone};
use crate::disk::{Disk, Entry, Payload, Record, Stored};
use crate::invariants::{AppliedFact, Fact};
use crate::network::Peer;
use crate::planted::Planted;
use crate::random::Random;

mod leading;
mod proposing;
mod serving;

/// After how many entries a snapshot is taken.
const SNAPSHOT_ENTRIES: usize = 60;

/// How often heartbeats are relayed.
const RELAY_EVERY: u64 = 250_000;

/// Who waits for a command.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A worker of a term.
    Work(u64, EvalId),
    /// An errand of a term, and what it proposes afterwards.
    Errand(u64, Subject, Vec<Command>),
    /// Nobody.
    Nobody,
    /// Agents that reported.
    Reports,
    /// An agent that connects.
    Registration(u64),
    /// An agent that changes the catalog, under a number of its stream.
    Catalog(u64, u64, Vec<CatalogChange>),
    /// A user.
    Client(usize, u64),
}

/// Who is answered when an entry is applied.
#[derive(Debug)]
enum Asker {
    Here(Origin),
    There(usize),
}

/// A proposal in this server's log.
#[derive(Debug)]
struct Placed {
    proposal: u64,
    asker: Asker,
}

/// The leader's own.
#[derive(Debug)]
struct Lead {
    term: u64,
    duties: Duties,
    works: BTreeMap<EvalId, Work>,
    wake_at: u64,
}

/// An agent's stream.
#[derive(Debug)]
struct Stream {
    agent: usize,
    node: NodeId,
    /// The index up to which the agent was told; nothing while it registers.
    told: Option<u64>,
    /// Changes of the catalog that wait for those before them.
    changes: VecDeque<(u64, Vec<CatalogChange>)>,
    is_changing: bool,
}

/// Agents' reports on their way into the log.
#[derive(Debug, Default)]
struct Reports {
    merged: BTreeMap<AllocId, AllocUpdate>,
    /// Streams and numbers to acknowledge.
    waiting: Vec<(u64, u64)>,
    /// What came while those above are under way.
    next: Vec<((u64, u64), Vec<AllocUpdate>)>,
    is_busy: bool,
}

/// A simulated server.
#[derive(Debug)]
pub struct Server {
    number: usize,
    /// Counts its lives, so that what an earlier one waited for is ignored.
    pub life: u64,
    /// Whether it runs.
    pub is_up: bool,
    /// Whether it left the group for good.
    pub has_left: bool,
    /// Until when it is stopped, as by SIGSTOP.
    pub paused_until: u64,
    /// How wrong its clock is, in nanoseconds.
    pub clock: i64,
    /// Its disk.
    pub disk: Disk,
    /// Its part in consensus.
    pub raft: Raft,
    /// Its state.
    pub state: State,
    applied: u64,
    snapshot_at: u64,
    gated: VecDeque<Gated>,
    lead: Option<Lead>,
    streams: BTreeMap<u64, Stream>,
    placed: BTreeMap<u64, Placed>,
    forwarded: BTreeMap<u64, Origin>,
    unapplied: BTreeMap<u64, Vec<(Origin, Outcome)>>,
    reads: BTreeMap<u64, Vec<(usize, u64)>>,
    reports: Reports,
    heard: BTreeSet<NodeId>,
    raft_at: u64,
}

/// What waits for the disk.
#[derive(Debug)]
struct Gated {
    number: u64,
    then: Vec<(usize, Message)>,
    durable: Option<(u64, u64)>,
}

impl Server {
    /// Makes a server with an empty disk that knows the first group.
    pub fn new(number: usize, group: BTreeSet<usize>, context: &mut Context) -> Self {
        let random = Random::new(context.random.word());
        let planted = context.options.planted;
        let raft = Raft::start(number, Stored::default(), group, (context.now, random), planted);
        Self {
            number,
            life: 0,
            is_up: false,
            has_left: false,
            paused_until: 0,
            clock: 0,
            disk: Disk::default(),
            raft,
            state: State::default(),
            applied: 0,
            snapshot_at: 0,
            gated: VecDeque::new(),
            lead: None,
            streams: BTreeMap::new(),
            placed: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            unapplied: BTreeMap::new(),
            reads: BTreeMap::new(),
            reports: Reports::default(),
            heard: BTreeSet::new(),
            raft_at: 0,
        }
    }

    /// Who it is.
    pub fn peer(&self) -> Peer {
        Peer::Server(self.number)
    }

    /// Up to which entry it has applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether it does the leader's duties.
    pub fn is_on_duty(&self) -> bool {
        self.lead.is_some()
    }

    /// Whether nothing that agents or its own duties asked for is under way.
    pub fn is_idle(&self) -> bool {
        let is_done = self.lead.as_ref().is_none_or(|lead| lead.works.is_empty());
        is_done && !self.reports.is_busy && self.unapplied.is_empty()
    }

    /// Ends it at once.
    pub fn crash(&mut self, context: &mut Context) {
        if !self.is_up {
            return;
        }
        self.is_up = false;
        self.life += 1;
        for (stream, served) in std::mem::take(&mut self.streams) {
            context.close(stream, self.peer(), Peer::Agent(served.agent));
        }
    }

    /// Starts it from what its disk holds. `group` is the first group, for one whose disk is empty.
    pub fn boot(&mut self, group: BTreeSet<usize>, context: &mut Context) {
        if self.is_up || self.has_left {
            return;
        }
        let planted = context.options.planted;
        let stored = self.disk.crash(&mut context.random, planted);
        let random = Random::new(context.random.word());
        let state = match &stored.snapshot {
            Some(snapshot) => match State::decode_snapshot(&snapshot.bytes) {
                Ok(state) => state,
                Err(error) => return context.watch.fail(format!("snapshot unreadable: {error}")),
            },
            None => State::default(),
        };
        let (life, clock, disk) = (self.life + 1, self.clock, std::mem::take(&mut self.disk));
        let mut fresh = Self::new(self.number, group.clone(), context);
        fresh.raft = Raft::start(self.number, stored, group, (context.now, random), planted);
        fresh.applied = fresh.raft.commit();
        fresh.snapshot_at = fresh.applied;
        (fresh.life, fresh.clock, fresh.disk, fresh.state) = (life, clock, disk, state);
        fresh.is_up = true;
        *self = fresh;
        self.check_restored(context);
        self.wait(RELAY_EVERY, ServerTimer::Relay, context);
        self.settle(context);
    }

    /// A state that came from a snapshot is what the log made at that index.
    fn check_restored(&self, context: &mut Context) {
        let (server, state) = (self.number, &self.state);
        context.tell(&Fact::Restored { server, index: self.applied, state });
        for entry in self.raft.entries() {
            context.tell(&written(entry));
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, from: Peer, body: Body, context: &mut Context) {
        if !self.is_up {
            return;
        }
        match (from, body) {
            (Peer::Server(other), Body::Raft(message)) => {
                self.raft.receive(other, message, context.now);
            }
            (Peer::Server(other), Body::Forward(proposal)) => {
                self.take_forwarded(other, proposal, context);
            }
            (Peer::Server(_), Body::Forwarded(proposal, answer)) => {
                self.take_answer(proposal, answer, context);
            }
            (Peer::Server(_), Body::Liveness(heard, closed)) => {
                self.take_liveness(&heard, &closed, context);
            }
            (Peer::Agent(agent), Body::Up(stream, message)) => {
                self.take_message(agent, stream, *message, context);
            }
            (_, Body::Closed(stream)) => self.lose(stream, context),
            (Peer::Client(client), Body::Ask(number, ask)) => {
                self.take_ask(client, number, &ask, context);
            }
            _ => {}
        }
        self.settle(context);
    }

    /// Takes a timer of one of its lives.
    pub fn wake(&mut self, life: u64, timer: ServerTimer, context: &mut Context) {
        if !self.is_up || life != self.life {
            return;
        }
        match timer {
            ServerTimer::Raft => {
                if context.now >= self.raft.due() {
                    self.raft.tick(context.now);
                }
                self.raft_at = 0;
            }
            ServerTimer::Synced(number) => {
                self.disk.sync(number);
                self.open_gates(context);
            }
            ServerTimer::Duties(term) => self.look(term, context),
            ServerTimer::Planned(term, eval, plan) => self.planned(term, eval, *plan, context),
            ServerTimer::Errand(term, subject, commands) => {
                self.go_on(term, subject, commands, context);
            }
            ServerTimer::Overdue(proposal) => self.give_up(proposal, context),
            ServerTimer::Reports => self.propose_reports(context),
            ServerTimer::Catalog(stream, sequence, changes) => {
                self.propose_catalog(stream, sequence, changes, context);
            }
            ServerTimer::Relay => {
                self.relay(context);
                self.wait(RELAY_EVERY, ServerTimer::Relay, context);
            }
        }
        self.settle(context);
    }

    /// Notices that a stream is broken.
    pub fn broken(&mut self, stream: u64, context: &mut Context) {
        if self.is_up {
            self.lose(stream, context);
            self.settle(context);
        }
    }

    fn wait(&self, wait: u64, timer: ServerTimer, context: &mut Context) {
        context.after(wait, Event::Server(self.number, self.life, timer));
    }

    /// Does all that follows, until nothing does.
    pub fn settle(&mut self, context: &mut Context) {
        while self.is_up {
            let out = self.raft.take_out();
            let has_news = !out.is_empty();
            for out in out {
                self.carry_out(out, context);
            }
            let has_applied = self.is_up && self.apply(context);
            if !has_news && !has_applied {
                break;
            }
        }
        if !self.is_up {
            return;
        }
        self.begin_duties(context);
        let due = self.raft.due();
        if self.raft_at == 0 || due < self.raft_at {
            self.raft_at = due.max(context.now + 1);
            context.at(self.raft_at, Event::Server(self.number, self.life, ServerTimer::Raft));
        }
    }

    fn carry_out(&mut self, out: Out, context: &mut Context) {
        match out {
            Out::Send(to, message) => self.send(to, message, context),
            Out::Write(records, then, durable) => {
                for record in &records {
                    if let Record::Entry(entry) = record {
                        context.tell(&written(entry));
                    }
                }
                let Some(number) = self.disk.write(records) else {
                    // What is stored is only known after a restart.
                    return self.crash(context);
                };
                self.gated.push_back(Gated { number, then, durable });
                if self.disk.is_synced(number)
                    || context.options.planted == Some(Planted::UnsyncedAcknowledged)
                {
                    self.open_gates(context);
                }
                if !self.disk.is_synced(number) {
                    let is_slow = context.is_stormy && context.random.chance(10);
                    let longest = if is_slow { 300_000 } else { 2_000 };
                    let wait = context.random.between(100, longest);
                    self.wait(wait, ServerTimer::Synced(number), context);
                }
            }
            Out::Elected => {
                let term = self.raft.term();
                context.trace.note(context.now, &[10, self.number as u64, term], || {
                    format!("server {} leads term {term}", self.number)
                });
                context.tell(&Fact::Elected { server: self.number, term });
            }
            Out::Deposed => self.lead = None,
            Out::Read(token, index) => self.answer_read(token, index, context),
            Out::ReadLost(token) => self.refuse_read(token, context),
            Out::Replace(snapshot) => match State::decode_snapshot(&snapshot.bytes) {
                Ok(state) => {
                    self.state = state;
                    self.applied = snapshot.index;
                    self.snapshot_at = snapshot.index;
                    self.check_restored(context);
                    self.start_over(context);
                }
                Err(error) => context.watch.fail(format!("snapshot unreadable: {error}")),
            },
        }
    }

    /// Lets out what waited for the disk.
    fn open_gates(&mut self, context: &mut Context) {
        let is_hasty = context.options.planted == Some(Planted::UnsyncedAcknowledged);
        while let Some(gated) = self.gated.front()
            && (is_hasty || self.disk.is_synced(gated.number))
        {
            let Some(gated) = self.gated.pop_front() else { break };
            if let Some(durable) = gated.durable {
                self.raft.synced(durable);
            }
            for (to, message) in gated.then {
                self.send(to, message, context);
            }
        }
    }

    fn send(&mut self, to: usize, message: Message, context: &mut Context) {
        if to == self.number {
            self.raft.receive(to, message, context.now);
        } else {
            context.send(self.peer(), Peer::Server(to), &Body::Raft(message));
        }
    }

    /// Applies what was committed. False if there was nothing.
    fn apply(&mut self, context: &mut Context) -> bool {
        let commit = self.raft.commit();
        if self.applied >= commit {
            return false;
        }
        let mut events: Vec<(u64, StateEvent)> = Vec::new();
        let mut replies = Vec::new();
        while self.applied < commit {
            let index = self.applied + 1;
            let Some(entry) = self.raft.entry(index).cloned() else { break };
            self.applied = index;
            let fingerprint = entry.payload.fingerprint();
            let (server, term) = (self.number, entry.term);
            context.tell(&Fact::Committed { server, index, term, fingerprint });
            match &entry.payload {
                Payload::Noop => {}
                Payload::Members(members) => {
                    if index > context.group_at {
                        context.group_at = index;
                        context.group = Some(members.clone());
                    }
                }
                Payload::Command(proposal) => {
                    let applied = self.state.apply(index, &proposal.request);
                    let is_first = context.watch.is_first(index);
                    if is_first {
                        let request = &proposal.request;
                        context.trace.note(context.now, &[13, index], || {
                            format!("entry {index}: {}", crate::words::command(request, &applied))
                        });
                    }
                    let fact = AppliedFact {
                        server,
                        index,
                        is_first,
                        request: &proposal.request,
                        applied: &applied,
                        state: &self.state,
                        machines: &context.machines,
                    };
                    context.watch.observe(&Fact::Applied(&fact));
                    let Applied { reply, events: happened, .. } = applied;
                    events.extend(happened.into_iter().map(|event| (index, event)));
                    replies.push((index, proposal.id, reply));
                }
            }
        }
        context.trace.note(
            context.now,
            &[11, self.number as u64, self.applied, self.state.hash()],
            || {
                let (number, applied, hash) = (self.number, self.applied, self.state.hash());
                format!("server {number} applied {applied}, hash {hash:016x}")
            },
        );
        self.publish(&events, context);
        // When a proposer has its reply, every reader sees what it says.
        for (index, proposal, reply) in replies {
            self.resolve(index, proposal, reply, context);
        }
        self.resume_waiting(context);
        if self.applied - self.snapshot_at >= SNAPSHOT_ENTRIES as u64 {
            self.take_snapshot(context);
        }
        true
    }

    /// Takes a snapshot now.
    pub fn take_snapshot(&mut self, context: &mut Context) {
        if self.is_up && self.applied > self.snapshot_at {
            self.snapshot_at = self.applied;
            self.raft.snapshot(self.applied, self.state.encode_snapshot());
            context.trace.note(context.now, &[12, self.number as u64, self.applied], || {
                format!("server {} takes a snapshot at {}", self.number, self.applied)
            });
        }
    }

    /// Tells duties and agents what happened.
    fn publish(&mut self, events: &[(u64, StateEvent)], context: &mut Context) {
        let index = self.state.index();
        let peer = self.peer();
        let changes = dialogue::catalog_changes(events);
        let catalog = (!changes.is_empty()).then(|| Arc::new(ToAgent::CatalogChanged(changes)));
        for (id, stream) in &mut self.streams {
            let Some(told) = stream.told.filter(|told| *told < index) else { continue };
            let to = Peer::Agent(stream.agent);
            if let Some(desired) = dialogue::news(index, events, told, stream.node) {
                context.send_on(*id, peer, to, Body::Down(*id, Arc::new(desired)));
            }
            if let Some(catalog) = &catalog {
                context.send_on(*id, peer, to, Body::Down(*id, Arc::clone(catalog)));
            }
            stream.told = Some(index);
        }
        self.happened(index, events, context);
    }

    /// After the state was replaced: everybody is told everything.
    fn start_over(&mut self, context: &mut Context) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        for id in ids {
            self.tell_all(id, context);
        }
        self.resume_waiting(context);
    }
}

fn written(entry: &Entry) -> Fact<'static> {
    let (index, term) = (entry.index, entry.term);
    Fact::Written { index, term, fingerprint: entry.payload.fingerprint() }
}

/// The answer of a leader that did not do it.
fn undone(proposal: u64, why: Undone) -> Body {
    Body::Forwarded(proposal, Err(why))
}

//! What everybody in a simulated cluster shares: time, entropy, the queue of what will happen, the
//! network, the machines, the trace, and those who watch.
//!
//! # Invariants
//!
//! - What happens at the same time happens in the order in which it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::catalog::CatalogChange;
use cos_model::link::{ToAgent, ToServer};
use cos_model::{AllocId, EvalId, NodeId, Plan};
use cos_server::duties::Subject;
use cos_state::{Command, ProposeError, Refused, Reply};

use crate::consensus::Message;
use crate::disk::Proposal;
use crate::invariants::{Fact, Watch};
use crate::machine::Machine;
use crate::network::{Fate, Network, Peer};
use crate::options::Options;
use crate::random::Random;
use crate::trace::Trace;

/// The date at which simulated time begins, in nanoseconds since the Unix epoch.
const EPOCH: i64 = 1_800_000_000_000_000_000;

/// What is sent.
#[derive(Clone, Debug)]
pub enum Body {
    /// Consensus.
    Raft(Message),
    /// A server asks the leader to commit a command.
    Forward(Arc<Proposal>),
    /// The leader's answer: the index and the outcome.
    Forwarded(u64, Result<(u64, Outcome), Undone>),
    /// A server tells the leader which agents it heard of, and which it lost.
    Liveness(Vec<NodeId>, Vec<NodeId>),
    /// From an agent, on a stream.
    Up(u64, Box<ToServer>),
    /// To an agent, on a stream.
    Down(u64, Arc<ToAgent>),
    /// The same again, later.
    Again(u64, Arc<ToAgent>),
    /// The other end of a stream went away.
    Closed(u64),
    /// A user asks something of a server.
    Ask(u64, Arc<Ask>),
    /// The server's answer.
    Answer(u64, Answer),
}

/// What a command answered.
pub type Outcome = Result<Reply, Refused>;

/// Why a command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Nothing was done.
    NotLeader,
    /// Nobody knows.
    Unknown,
}

/// What a user asks.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To commit a command.
    Write(Box<Command>),
    /// To read what is committed.
    Read,
    /// To begin or end a drain; the server adds the evaluations.
    Drain(NodeId, Option<cos_model::node::DrainState>),
    /// To change whether a node takes work; the server adds the evaluations.
    Eligible(NodeId, bool),
    /// To change the group of servers.
    Group(BTreeSet<usize>),
    /// To hand leadership over.
    Transfer(usize),
}

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was committed at this index, and the command answered so.
    Done(u64, Outcome),
    /// The index that was read.
    Read(u64),
    /// Nothing was done; the leader, if known.
    NotLeader(Option<usize>),
    /// Nobody knows.
    Unknown,
}

/// What a server waits for.
#[derive(Clone, Debug)]
pub enum ServerTimer {
    /// Consensus has something to do.
    Raft,
    /// The disk has synced up to a number.
    Synced(u64),
    /// The leader's duties of a term have something to do.
    Duties(u64),
    /// A plan of a term was made.
    Planned(u64, EvalId, Box<Result<Plan, String>>),
    /// The errand of a term goes on.
    Errand(u64, Subject, Vec<Command>),
    /// A proposal took too long.
    Overdue(u64),
    /// Reports are proposed again.
    Reports,
    /// Changes of the catalog are proposed again.
    Catalog(u64, u64, Vec<CatalogChange>),
    /// Heartbeats are relayed.
    Relay,
}

/// What an agent waits for.
#[derive(Clone, Debug)]
pub enum AgentTimer {
    /// To connect.
    Connect,
    /// The welcome took too long on a stream.
    Welcome(u64),
    /// The next heartbeat on a stream.
    Heartbeat(u64),
    /// A report on a stream took too long.
    Report(u64, u64),
    /// What is not yet on disk is written.
    Flush,
    /// The catalog is compared; what differed the last time is repaired.
    Compare(Vec<CatalogChange>),
    /// Something of an allocation.
    Alloc(AllocId, u64, AllocTimer),
}

/// What an allocation's runner waits for.
#[derive(Clone, Debug)]
pub enum AllocTimer {
    /// A task's preparation ended, well or not.
    Prepared(String, bool),
    /// The driver starts a task.
    Launch(String),
    /// The handle of a process is on disk.
    Launched(String, i32),
    /// The driver has looked for a process.
    Recovered(String, bool),
    /// What a task left is removed.
    Cleaned(String),
    /// A change of the catalog was told, or took too long.
    Told(u64),
    /// Something is due.
    Due,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Deliver(Peer, Peer, Body),
    /// A server's timer, of one of its lives.
    Server(usize, u64, ServerTimer),
    /// An agent's timer, of one of its lives.
    Agent(usize, u64, AgentTimer),
    /// A process ends.
    Exit(usize, i32, i32),
    /// A stream that broke is noticed by one end.
    Broken(Peer, u64),
    /// A user does the next thing, or gives up waiting.
    Client(usize, u64),
    /// The next fault.
    Fault,
    /// A fault ends.
    Heal(crate::faults::Ended),
}

/// What everybody shares.
#[derive(Debug)]
pub struct Context {
    /// Microseconds since the beginning.
    pub now: u64,
    /// Entropy.
    pub random: Random,
    /// What will happen.
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    numbers: u64,
    /// The network.
    pub network: Network,
    /// The machines on which agents run.
    pub machines: Vec<Machine>,
    /// The trace.
    pub trace: Trace,
    /// Those who watch.
    pub watch: Watch,
    /// How the run is set up.
    pub options: Options,
    /// Whether faults still happen.
    pub is_stormy: bool,
    /// The servers as agents know them.
    pub servers: Vec<usize>,
    /// The group of servers, if it was changed by what was committed last.
    pub group: Option<BTreeSet<usize>>,
    /// The entry that said so.
    pub group_at: u64,
}

impl Context {
    /// Begins.
    pub fn new(options: Options, trace: Trace) -> Self {
        Self {
            now: 0,
            random: Random::new(options.seed),
            queue: BTreeMap::new(),
            sequence: 0,
            numbers: 0,
            network: Network::default(),
            machines: Vec::new(),
            trace,
            watch: Watch::new(options.is_calm),
            options,
            is_stormy: true,
            servers: (0..options.servers).collect(),
            group: None,
            group_at: 0,
        }
    }

    /// Draws a number that was not drawn before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Has something happen after so many microseconds.
    pub fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Has something happen at a time.
    pub fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Takes what happens next, unless that is after `until`.
    pub fn next(&mut self, until: u64) -> Option<Event> {
        if self.queue.first_key_value().is_none_or(|((at, _), _)| *at > until) {
            self.now = until;
            return None;
        }
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = at;
        Some(event)
    }

    /// The date by a clock that is set wrong by so many nanoseconds.
    pub fn date(&self, offset: i64) -> cos_model::Timestamp {
        let nanos = i64::try_from(self.now).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        cos_model::Timestamp(EPOCH + nanos + offset)
    }

    /// Sends something that may be lost, be late, or come twice.
    pub fn send(&mut self, from: Peer, to: Peer, body: &Body) {
        for at in self.network.datagram(from, to, self.now, &mut self.random) {
            self.at(at, Event::Deliver(from, to, body.clone()));
        }
    }

    /// Sends on a stream.
    pub fn send_on(&mut self, stream: u64, from: Peer, to: Peer, body: Body) {
        match self.network.on_stream(stream, (from, to), self.now, &mut self.random) {
            Fate::Arrives(at) => {
                if let Body::Down(_, message) = &body
                    && matches!(**message, ToAgent::Desired { .. })
                    && self.random.chance(self.network.weather.twice)
                {
                    let again = Body::Again(stream, Arc::clone(message));
                    let wait = self.random.between(1_000, 3_000_000);
                    self.at(at + wait, Event::Deliver(from, to, again));
                }
                self.at(at, Event::Deliver(from, to, body));
            }
            Fate::Breaks => {
                // Each end notices by itself, sooner or later.
                for end in [from, to] {
                    let wait = self.random.between(1_000, 3_000_000);
                    self.after(wait, Event::Broken(end, stream));
                }
            }
            Fate::Lost => {}
        }
    }

    /// Closes a stream from one end; the other learns of it if it can be reached.
    pub fn close(&mut self, stream: u64, from: Peer, to: Peer) {
        if !self.network.close(stream) {
            return;
        }
        if self.network.is_cut(from, to) {
            let wait = self.random.between(1_000, 3_000_000);
            self.after(wait, Event::Broken(to, stream));
        } else {
            let wait = self.random.between(100, 10_000);
            self.after(wait, Event::Deliver(from, to, Body::Closed(stream)));
        }
    }

    /// Shows a fact to those who watch.
    pub fn tell(&mut self, fact: &Fact<'_>) {
        self.watch.observe(fact);
    }
}

/// What a proposal that was not done is to its proposer.
impl From<Undone> for ProposeError {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::NotLeader => Self::NoLeader,
            Undone::Unknown => Self::Unknown("no answer in time".to_owned()),
        }
    }
}

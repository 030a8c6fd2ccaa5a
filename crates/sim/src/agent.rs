//! One simulated agent: its link, its store, and a runner for each allocation.
//!
//! What is decided is decided by `cos-agent`: `reconcile`, `alloc_machine`, `task_machine`,
//! `health` and `services`. Written here anew are only the shells around them: the stream, the disk,
//! the driver's waits.
//!
//! # Invariants
//!
//! - A process outlives its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_agent::reconcile::{Action, Desired, Known};
use cos_agent::services::{Registration, repairs};
use cos_agent::store::{Kept, Write};
use cos_model::catalog::{Catalog, CatalogChange};
use cos_model::link::{AllocUpdate, ToAgent, ToServer};
use cos_model::{AllocId, Node};

use crate::context::{AgentTimer, Body, Context, Event};
use crate::invariants::Fact;
use crate::network::Peer;

mod effects;
mod runner;

use runner::Runner;

/// How long a server may take to welcome.
const WELCOME_WAIT: u64 = 5_000_000;

/// How long a report may stay unanswered.
const REPORT_WAIT: u64 = 10_000_000;

/// How often the catalog is compared, and how long a difference must last.
const COMPARE_EVERY: u64 = 5_000_000;
const SETTLE: u64 = 2_000_000;

/// How long a write that nobody waits for stays in memory.
const FLUSH_AFTER: u64 = 200_000;

/// Who waits for changes of the catalog.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Alloc(AllocId, u64),
    Repair,
}

/// The link to the servers.
#[derive(Debug, Default)]
struct Link {
    /// The stream and the server it leads to.
    stream: Option<(u64, usize)>,
    is_welcome: bool,
    heartbeat_every: u64,
    sequence: u64,
    reports: BTreeMap<AllocId, AllocUpdate>,
    in_flight: Option<(u64, BTreeMap<AllocId, AllocUpdate>)>,
    changes: BTreeMap<u64, Asker>,
    /// The server that is tried next.
    next: usize,
}

/// What is on the agent's disk, and what is not yet.
#[derive(Debug, Default)]
struct Store {
    durable: BTreeMap<AllocId, Kept>,
    unsynced: Vec<Write>,
    is_flushing: bool,
}

/// A simulated agent.
#[derive(Debug)]
pub struct Agent {
    number: usize,
    /// Counts its lives.
    pub life: u64,
    /// Whether it runs.
    pub is_up: bool,
    /// Until when it is stopped, as by SIGSTOP.
    pub paused_until: u64,
    /// How wrong its clock is, in nanoseconds.
    pub clock: i64,
    /// The node as it registers.
    pub node: Arc<Node>,
    name: Arc<str>,
    known: Known,
    runners: BTreeMap<AllocId, Runner>,
    link: Link,
    store: Store,
    catalog: Catalog,
    wanted: BTreeMap<AllocId, Vec<Registration>>,
    /// The processes that this life started or found.
    own: BTreeSet<i32>,
}

impl Agent {
    /// Makes an agent that has never run.
    pub fn new(number: usize, node: Node) -> Self {
        Self {
            number,
            life: 0,
            is_up: false,
            paused_until: 0,
            clock: 0,
            name: Arc::from(node.name.as_str()),
            node: Arc::new(node),
            known: Known::default(),
            runners: BTreeMap::new(),
            link: Link { next: number, ..Link::default() },
            store: Store::default(),
            catalog: Catalog::default(),
            wanted: BTreeMap::new(),
            own: BTreeSet::new(),
        }
    }

    fn peer(&self) -> Peer {
        Peer::Agent(self.number)
    }

    /// What runs here, and what is wanted to be found of it.
    pub fn wanted(&self) -> impl Iterator<Item = &Registration> {
        self.wanted.values().flatten()
    }

    /// How many reports wait.
    pub fn unreported(&self) -> usize {
        self.link.reports.len()
            + self.link.in_flight.as_ref().map_or(0, |(_, updates)| updates.len())
    }

    /// How many allocations it knows.
    pub fn runners(&self) -> usize {
        self.runners.len()
    }

    /// Ends it at once; its processes go on, unless the machine is switched off as well.
    pub fn crash(&mut self, is_reboot: bool, context: &mut Context) {
        if is_reboot {
            context.machines[self.number].reboot();
        }
        if !self.is_up {
            return;
        }
        self.is_up = false;
        self.life += 1;
        if let Some((stream, server)) = self.link.stream.take() {
            context.close(stream, self.peer(), Peer::Server(server));
        }
    }

    /// Starts it from what its disk holds.
    pub fn boot(&mut self, context: &mut Context) {
        if self.is_up {
            return;
        }
        let durable = std::mem::take(&mut self.store.durable);
        let mut fresh = Self::new(self.number, Node::clone(&self.node));
        (fresh.life, fresh.clock) = (self.life + 1, self.clock);
        fresh.is_up = true;
        fresh.known = Known::restored(durable.values().map(|kept| &*kept.alloc));
        fresh.store.durable = durable.clone();
        *self = fresh;
        for kept in durable.into_values() {
            self.restore(kept, context);
        }
        self.wait(1_000, AgentTimer::Connect, context);
        let wait = context.random.between(1, COMPARE_EVERY);
        self.wait(wait, AgentTimer::Compare(Vec::new()), context);
    }

    fn wait(&self, wait: u64, timer: AgentTimer, context: &mut Context) {
        context.after(wait, Event::Agent(self.number, self.life, timer));
    }

    /// Takes a timer of one of its lives.
    pub fn wake(&mut self, life: u64, timer: AgentTimer, context: &mut Context) {
        if !self.is_up || life != self.life {
            return;
        }
        match timer {
            AgentTimer::Connect => self.connect(context),
            AgentTimer::Welcome(stream) => {
                if self.is_on(stream) && !self.link.is_welcome {
                    self.disconnect(context);
                }
            }
            AgentTimer::Heartbeat(stream) => {
                if self.is_on(stream) {
                    self.say(ToServer::Heartbeat, context);
                    self.wait(self.link.heartbeat_every, AgentTimer::Heartbeat(stream), context);
                }
            }
            AgentTimer::Report(stream, sequence) => {
                let is_late = self.link.in_flight.as_ref().is_some_and(|(at, _)| *at == sequence);
                if self.is_on(stream) && is_late {
                    self.disconnect(context);
                }
            }
            AgentTimer::Flush => self.flush(),
            AgentTimer::Compare(before) => self.compare(&before, context),
            AgentTimer::Alloc(id, number, timer) => self.wake_runner(id, number, timer, context),
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, body: Body, context: &mut Context) {
        if !self.is_up {
            return;
        }
        match body {
            Body::Closed(stream) => self.broken(stream, context),
            Body::Down(stream, message) if self.is_on(stream) => self.hear(&message, context),
            // What is said twice, and late, must do no harm.
            Body::Again(stream, message) if self.is_on(stream) => self.hear(&message, context),
            _ => {}
        }
    }

    /// Notices that a stream is broken.
    pub fn broken(&mut self, stream: u64, context: &mut Context) {
        if self.is_up && self.is_on(stream) {
            self.disconnect(context);
        }
    }

    fn is_on(&self, stream: u64) -> bool {
        self.link.stream.is_some_and(|(open, _)| open == stream)
    }

    fn connect(&mut self, context: &mut Context) {
        if self.link.stream.is_some() {
            return;
        }
        let Some(server) =
            context.servers.get(self.link.next % context.servers.len().max(1)).copied()
        else {
            return;
        };
        self.link.next += 1;
        let stream = context.number();
        context.network.open(stream);
        self.link.stream = Some((stream, server));
        self.say(ToServer::Hello { node: Box::new(Node::clone(&self.node)) }, context);
        self.wait(WELCOME_WAIT, AgentTimer::Welcome(stream), context);
    }

    fn disconnect(&mut self, context: &mut Context) {
        let Some((stream, server)) = self.link.stream.take() else { return };
        context.close(stream, self.peer(), Peer::Server(server));
        self.link.is_welcome = false;
        if let Some((_, updates)) = self.link.in_flight.take() {
            for (id, update) in updates {
                self.link.reports.entry(id).or_insert(update);
            }
        }
        for asker in std::mem::take(&mut self.link.changes).into_values() {
            self.told(asker, context);
        }
        let wait = context.random.between(50_000, 400_000);
        self.wait(wait, AgentTimer::Connect, context);
    }

    fn say(&self, message: ToServer, context: &mut Context) {
        if let Some((stream, server)) = self.link.stream {
            let body = Body::Up(stream, Box::new(message));
            context.send_on(stream, self.peer(), Peer::Server(server), body);
        }
    }

    fn hear(&mut self, message: &ToAgent, context: &mut Context) {
        match message {
            ToAgent::Welcome { heartbeat_every, .. } => {
                self.link.is_welcome = true;
                let every = u64::try_from(heartbeat_every.as_micros()).unwrap_or(u64::MAX / 4);
                self.link.heartbeat_every = every;
                if let Some((stream, _)) = self.link.stream {
                    self.wait(every, AgentTimer::Heartbeat(stream), context);
                }
                self.send_reports(context);
            }
            ToAgent::Desired { generation, complete, allocs, removed } => {
                let desired = Desired {
                    generation: *generation,
                    complete: *complete,
                    allocs: allocs.clone(),
                    removed: removed.clone(),
                };
                self.obey(&desired, context);
            }
            ToAgent::CatalogAll(catalog) => self.catalog = Catalog::clone(catalog),
            ToAgent::CatalogChanged(changes) => {
                let fits = changes
                    .iter()
                    .all(|(index, change)| self.catalog.apply(*index, change).is_ok());
                if !fits {
                    self.disconnect(context);
                }
            }
            ToAgent::Done { sequence, .. } => {
                if self.link.in_flight.as_ref().is_some_and(|(at, _)| at == sequence) {
                    self.link.in_flight = None;
                    self.send_reports(context);
                }
                if let Some(asker) = self.link.changes.remove(sequence) {
                    self.told(asker, context);
                }
            }
            ToAgent::Servers(_) => {}
            ToAgent::Refused(why) => context.watch.fail(format!("an agent was refused: {why}")),
        }
    }

    fn obey(&mut self, desired: &Desired, context: &mut Context) {
        let before = self.known.generation();
        let actions = self.known.take(desired, self.node.id);
        context.tell(&Fact::Obeyed {
            agent: self.number,
            before,
            generation: desired.generation,
            acts: actions.len(),
        });
        for action in actions {
            match action {
                Action::Start(alloc) => self.start(alloc, context),
                Action::Update(alloc) => self.update(&alloc, context),
                Action::Remove(id) => self.destroy(id, context),
            }
        }
    }

    fn report(&mut self, update: AllocUpdate, context: &mut Context) {
        self.link.reports.insert(update.id, update);
        self.send_reports(context);
    }

    fn send_reports(&mut self, context: &mut Context) {
        if !self.link.is_welcome || self.link.in_flight.is_some() || self.link.reports.is_empty() {
            return;
        }
        let Some((stream, _)) = self.link.stream else { return };
        let updates = std::mem::take(&mut self.link.reports);
        self.link.sequence += 1;
        let sequence = self.link.sequence;
        let all = updates.values().cloned().collect();
        self.link.in_flight = Some((sequence, updates));
        self.say(ToServer::Allocs { sequence, updates: all }, context);
        self.wait(REPORT_WAIT, AgentTimer::Report(stream, sequence), context);
    }

    /// Asks for changes of the catalog. Without a server the answer comes at once.
    fn change(&mut self, changes: Vec<CatalogChange>, asker: Asker, context: &mut Context) {
        if changes.is_empty() || !self.link.is_welcome {
            return self.told(asker, context);
        }
        self.link.sequence += 1;
        let sequence = self.link.sequence;
        self.link.changes.insert(sequence, asker);
        self.say(ToServer::Catalog { sequence, changes }, context);
    }

    fn told(&mut self, asker: Asker, context: &mut Context) {
        if let Asker::Alloc(id, telling) = asker {
            self.runner_told(id, telling, context);
        }
    }

    /// Compares the catalog with what is wanted, and repairs what differs for the second time.
    fn compare(&mut self, before: &[CatalogChange], context: &mut Context) {
        let has_copy = self.catalog.node(&self.name).is_some();
        let differences = if self.link.is_welcome && has_copy {
            repairs(&self.name, self.wanted.values().flatten(), &self.catalog)
        } else {
            Vec::new()
        };
        let lasting: Vec<CatalogChange> =
            differences.iter().filter(|change| before.contains(change)).cloned().collect();
        if !lasting.is_empty() {
            self.change(lasting, Asker::Repair, context);
        } else if !differences.is_empty() {
            return self.wait(SETTLE, AgentTimer::Compare(differences), context);
        }
        self.wait(COMPARE_EVERY, AgentTimer::Compare(Vec::new()), context);
    }

    fn write(&mut self, writes: Vec<Write>, context: &mut Context) {
        if writes.is_empty() {
            return;
        }
        self.store.unsynced.extend(writes);
        if !self.store.is_flushing {
            self.store.is_flushing = true;
            self.wait(FLUSH_AFTER, AgentTimer::Flush, context);
        }
    }

    fn flush(&mut self) {
        self.store.is_flushing = false;
        for write in std::mem::take(&mut self.store.unsynced) {
            match write {
                Write::Alloc(alloc) => {
                    let kept = self.store.durable.entry(alloc.id).or_insert_with(|| Kept {
                        alloc: Arc::clone(&alloc),
                        records: BTreeMap::new(),
                        handles: BTreeMap::new(),
                    });
                    kept.alloc = alloc;
                }
                Write::Record { alloc, task, record } => {
                    if let Some(kept) = self.store.durable.get_mut(&alloc) {
                        kept.records.insert(task, record);
                    }
                }
                Write::Handle { alloc, task, handle } => {
                    if let Some(kept) = self.store.durable.get_mut(&alloc) {
                        kept.handles.insert(task, handle);
                    }
                }
                Write::NoHandle { alloc, task } => {
                    if let Some(kept) = self.store.durable.get_mut(&alloc) {
                        kept.handles.remove(&task);
                    }
                }
                Write::Forget(id) => {
                    self.store.durable.remove(&id);
                }
            }
        }
    }

    /// The agent's copy of the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Whether a server has welcomed it.
    pub fn is_connected(&self) -> bool {
        self.link.is_welcome
    }
}

//! The whole: servers, agents and users, and the loop that lets one thing happen after another.
//!
//! # Invariants
//!
//! - One thread, one queue, one source of entropy: the seed decides everything.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cos_model::node::DriverState;
use cos_model::{Node, NodeId, Resources, samples};

use crate::agent::Agent;
use crate::context::{Answer, Body, Context, Event};
use crate::invariants::Fact;
use crate::machine::Machine;
use crate::network::Peer;
use crate::options::Options;
use crate::server::Server;
use crate::trace::{Keep, Trace};
use crate::workload::Workload;

mod calm;

/// The longest that a cluster may take to be as it should once faults have ended.
const CALM_MAX: u64 = 420_000_000;

/// How often it is looked whether it is.
const LOOK_EVERY: u64 = 2_000_000;

/// How many events may happen at most: a loop that does not end is a violation.
const EVENTS_MAX: u64 = 3_000_000;

/// After how many events queues are measured.
const MEASURE_EVERY: u64 = 512;

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    /// What everybody shares.
    pub(crate) context: Context,
    /// All servers that there ever were.
    pub(crate) servers: Vec<Server>,
    /// All agents.
    pub(crate) agents: Vec<Agent>,
    /// Who belongs to the group by what was committed last.
    pub(crate) members: BTreeSet<usize>,
    workload: Workload,
    nodes: Vec<NodeId>,
    founders: BTreeSet<usize>,
    handled: u64,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The number of everything that happened.
    pub hash: u64,
    /// How many things happened.
    pub events: u64,
    /// How many entries were committed.
    pub entries: u64,
    /// How many requests users sent, and how many of them were done.
    pub requests: (u64, u64),
    /// What is wrong, if anything.
    pub violation: Option<String>,
    /// The trace in words, as far as it was kept.
    pub lines: Vec<String>,
}

/// Runs a seed.
pub fn run(options: Options, keep: Keep) -> Outcome {
    let mut world = World::new(options, keep);
    // A panic of what is tested is a violation like any other, and its trace is wanted.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.play())) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        world.context.watch.fail(format!("panicked: {}", text.unwrap_or("no words")));
    }
    world.outcome()
}

impl World {
    fn new(options: Options, keep: Keep) -> Self {
        let mut context = Context::new(options, Trace::new(keep));
        let founders: BTreeSet<usize> = (0..options.servers).collect();
        let servers: Vec<Server> = (0..options.servers)
            .map(|number| Server::new(number, founders.clone(), &mut context))
            .collect();
        let nodes: Vec<Node> =
            (1..=options.agents).map(|number| node(number, &mut context)).collect();
        context.machines = nodes.iter().map(|_| Machine::default()).collect();
        let ids = nodes.iter().map(|node| node.id).collect();
        let agents =
            nodes.into_iter().enumerate().map(|(number, node)| Agent::new(number, node)).collect();
        let workload = Workload::new(&mut context);
        let members = founders.clone();
        Self { context, servers, agents, members, workload, nodes: ids, founders, handled: 0 }
    }

    fn play(&mut self) {
        for number in 0..self.servers.len() {
            self.boot_server(number);
        }
        for agent in &mut self.agents {
            agent.boot(&mut self.context);
        }
        let options = self.context.options;
        if !options.is_calm {
            self.context.after(4_000_000, Event::Fault);
        }
        self.run_until(options.storm_until);
        self.context.is_stormy = false;
        self.heal_all();
        self.workload.calm_down(&mut self.context);
        let end = options.storm_until + CALM_MAX;
        let mut missing = String::from("nothing was looked at");
        while self.context.now < end && self.context.watch.violation().is_none() {
            self.run_until((self.context.now + LOOK_EVERY).min(end));
            match self.missing() {
                None => return,
                Some(what) => missing = what,
            }
        }
        self.context.watch.fail(format!("not as it should be long after faults ended: {missing}"));
    }

    fn run_until(&mut self, until: u64) {
        while self.context.watch.violation().is_none()
            && let Some(event) = self.context.next(until)
        {
            self.handled += 1;
            if self.handled > EVENTS_MAX {
                return self.context.watch.fail("too much happens".to_owned());
            }
            if let Some((later, event)) = self.deferred(event) {
                self.context.at(later, event);
                continue;
            }
            if self.handled.is_multiple_of(MEASURE_EVERY) {
                self.measure();
            }
        }
    }

    /// Lets an event happen, or returns it if whom it concerns is paused.
    fn deferred(&mut self, event: Event) -> Option<(u64, Event)> {
        let until = match &event {
            Event::Deliver(_, Peer::Server(number), _)
            | Event::Server(number, ..)
            | Event::Broken(Peer::Server(number), _) => self.servers[*number].paused_until,
            Event::Deliver(_, Peer::Agent(number), _)
            | Event::Agent(number, ..)
            | Event::Broken(Peer::Agent(number), _) => self.agents[*number].paused_until,
            _ => 0,
        };
        if until > self.context.now {
            return Some((until, event));
        }
        self.handle(event);
        None
    }

    fn handle(&mut self, event: Event) {
        let context = &mut self.context;
        match event {
            Event::Deliver(from, Peer::Server(to), body) => {
                if self.servers[to].is_up {
                    self.servers[to].receive(from, body, context);
                    self.follow_group();
                } else {
                    refuse(from, to, &body, context);
                }
            }
            Event::Deliver(_, Peer::Agent(to), body) => self.agents[to].receive(body, context),
            Event::Deliver(_, Peer::Client(to), Body::Answer(number, answer)) => {
                self.workload.receive(to, number, &answer, context);
            }
            Event::Deliver(_, Peer::Client(_), _) => {}
            Event::Server(number, life, timer) => {
                self.servers[number].wake(life, timer, context);
                self.follow_group();
            }
            Event::Agent(number, life, timer) => self.agents[number].wake(life, timer, context),
            Event::Exit(machine, pid, code) => {
                if context.machines[machine].end(pid, code) {
                    context.trace.note(
                        context.now,
                        &[60, machine as u64, pid.unsigned_abs().into()],
                        || format!("process {pid} of machine {machine} ends with {code}"),
                    );
                    self.agents[machine].ended(pid, code, context);
                }
            }
            Event::Broken(Peer::Server(number), stream) => {
                self.servers[number].broken(stream, context);
            }
            Event::Broken(Peer::Agent(number), stream) => {
                self.agents[number].broken(stream, context);
            }
            Event::Broken(Peer::Client(_), _) => {}
            Event::Client(client, number) => {
                let servers = self.servers.len();
                self.workload.wake(client, number, servers, &self.nodes, context);
            }
            Event::Fault => {
                if context.is_stormy {
                    self.fault();
                }
            }
            Event::Heal(ended) => {
                if context.is_stormy {
                    self.heal(ended);
                }
            }
        }
    }

    /// Servers that were let go end.
    fn follow_group(&mut self) {
        let Some(newest) = self.context.group.take() else { return };
        for number in 0..self.servers.len() {
            if self.members.contains(&number) && !newest.contains(&number) {
                self.servers[number].crash(&mut self.context);
                self.servers[number].has_left = true;
            }
        }
        self.context.servers = newest.iter().copied().collect();
        self.members = newest;
    }

    pub(crate) fn is_member(&self, number: usize) -> bool {
        self.members.contains(&number) || !self.servers[number].has_left
    }

    pub(crate) fn boot_server(&mut self, number: usize) {
        let is_founder = self.founders.contains(&number);
        let group = if is_founder { self.founders.clone() } else { BTreeSet::new() };
        self.servers[number].boot(group, &mut self.context);
    }

    /// Starts a server that knows nobody.
    pub(crate) fn add_server(&mut self) -> usize {
        let number = self.servers.len();
        let server = Server::new(number, BTreeSet::new(), &mut self.context);
        self.servers.push(server);
        self.boot_server(number);
        number
    }

    fn measure(&mut self) {
        let Self { servers, agents, context, .. } = self;
        for server in servers.iter().filter(|server| server.is_up) {
            let (length, limit) = (server.raft.log_length(), 4000);
            context.watch.observe(&Fact::Queue { what: "entries in the log", length, limit });
        }
        for agent in agents.iter().filter(|agent| agent.is_up) {
            // One that waits and one that is under way, for each allocation known or just removed.
            let (length, limit) = (agent.unreported(), 2 * agent.runners() + 64);
            context.watch.observe(&Fact::Queue { what: "reports that wait", length, limit });
        }
    }

    fn outcome(self) -> Outcome {
        let violation = self.context.watch.violation().map(str::to_owned);
        let entries = self.servers.iter().map(Server::applied).max().unwrap_or_default();
        Outcome {
            seed: self.context.options.seed,
            hash: self.context.trace.hash(),
            events: self.handled,
            entries,
            requests: (self.workload.sent, self.workload.done),
            violation,
            lines: self.context.trace.into_lines(),
        }
    }
}

/// Nobody listens there: who asked hears that at once.
fn refuse(from: Peer, to: usize, body: &Body, context: &mut Context) {
    match body {
        Body::Up(stream, _) => {
            context.network.close(*stream);
            context.after(500, Event::Broken(from, *stream));
        }
        Body::Ask(number, _) => {
            let answer = Body::Answer(*number, Answer::NotLeader(None));
            context.send(Peer::Server(to), from, &answer);
        }
        _ => {}
    }
}

fn node(number: usize, context: &mut Context) -> Node {
    let size = context.random.between(6, 14) * 100;
    let healthy = DriverState { detected: true, healthy: true, ..DriverState::default() };
    Node {
        capacity: Resources { cpu_mhz: size, memory_mib: size, disk_mib: 1000 },
        drivers: [("mock".to_owned(), healthy)].into(),
        ..samples::node(number as u128)
    }
}

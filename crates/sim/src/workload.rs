//! What users ask, drawn from the seed: one request at a time per user, to any server.
//!
//! # Invariants
//!
//! - A request is sent to one server; its answer is yes, no, "not the leader" or "nobody knows", and
//!   only the first two are believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::kv::KvOp;
use cos_model::network::{Network, Port};
use cos_model::node::{DrainSpec, DrainState};
use cos_model::policy::{DelayFunction, HealthCheckKind, Migrate, Reschedule, Restart, Update};
use cos_model::service::Service;
use cos_model::{
    Job, JobKey, JobKind, NodeId, Resources, RestartMode, Task, TaskGroup, Timestamp, Trigger,
    samples,
};
use cos_state::Command;
use cos_state::evaluations::eval_for_job;

use crate::context::{Answer, Ask, Body, Context, Event};
use crate::invariants::Fact;
use crate::network::Peer;

/// How long a user waits for an answer.
const PATIENCE: u64 = 12_000_000;

/// How many keys there are.
const KEYS: u64 = 4;

/// A user.
#[derive(Debug)]
struct Client {
    /// The request under way, and what had been acknowledged to anybody when it was sent.
    waiting: Option<(u64, u64)>,
    server: usize,
}

/// All users.
#[derive(Debug)]
pub struct Workload {
    clients: Vec<Client>,
    jobs: BTreeMap<u64, Job>,
    /// When each job was last asked for.
    asked: BTreeMap<u64, u64>,
    /// The index at which each key was last written, as users know it.
    keys: BTreeMap<u64, u64>,
    /// The newest index that anybody was told.
    acknowledged: u64,
    /// How many requests were sent and how many of them done.
    pub sent: u64,
    /// How many were done.
    pub done: u64,
    /// A request that must be done for the run to end well.
    fresh: Option<u64>,
    /// Whether it was.
    pub is_fresh_done: bool,
}

impl Workload {
    /// Users who have not begun.
    pub fn new(context: &mut Context) -> Self {
        let clients = context.options.clients;
        for client in 0..clients {
            let wait = context.random.between(2_500_000, 4_000_000);
            context.after(wait, Event::Client(client, 0));
        }
        Self {
            clients: (0..clients).map(|server| Client { waiting: None, server }).collect(),
            jobs: BTreeMap::new(),
            asked: BTreeMap::new(),
            keys: BTreeMap::new(),
            acknowledged: 0,
            sent: 0,
            done: 0,
            fresh: None,
            is_fresh_done: false,
        }
    }

    /// A user does the next thing, or gives up waiting for an answer.
    pub fn wake(
        &mut self,
        client: usize,
        number: u64,
        servers: usize,
        nodes: &[NodeId],
        context: &mut Context,
    ) {
        let is_waiting_for = self.clients[client].waiting.map_or(0, |(number, _)| number);
        if number != is_waiting_for {
            return;
        }
        if number != 0 {
            self.clients[client].waiting = None;
            self.clients[client].server += 1;
        }
        if !context.is_stormy {
            // The one fresh write is repeated until it is done.
            if self.is_fresh_done || client != 0 {
                return;
            }
        }
        let ask = if context.is_stormy {
            self.draw(nodes, context)
        } else {
            set(0, context.random.word())
        };
        let server = self.clients[client].server % servers;
        self.send(client, server, ask, context);
        if !context.is_stormy {
            self.fresh = self.clients[client].waiting.map(|(number, _)| number);
        }
    }

    fn send(&mut self, client: usize, server: usize, ask: Ask, context: &mut Context) {
        let number = context.number();
        self.sent += 1;
        self.clients[client].waiting = Some((number, self.acknowledged));
        context.trace.note(context.now, &[40, client as u64, server as u64, number], || {
            format!("client {client} asks server {server} ({number}): {}", words(&ask))
        });
        let (from, to) = (Peer::Client(client), Peer::Server(server));
        context.send(from, to, &Body::Ask(number, Arc::new(ask)));
        context.after(PATIENCE, Event::Client(client, number));
    }

    /// A server answers.
    pub fn receive(&mut self, client: usize, number: u64, answer: &Answer, context: &mut Context) {
        let Some((_, floor)) = self.clients[client].waiting.filter(|(at, _)| *at == number) else {
            return;
        };
        self.clients[client].waiting = None;
        let mut wait = context.random.between(50_000, 1_200_000);
        match answer {
            Answer::Done(index, outcome) => {
                self.done += 1;
                self.acknowledged = self.acknowledged.max(*index);
                context.tell(&Fact::Acknowledged { number, index: *index });
                if self.fresh == Some(number) && outcome.is_ok() {
                    self.is_fresh_done = true;
                }
                let key = context.random.below(KEYS);
                self.keys.insert(key, *index);
            }
            Answer::Read(index) => {
                self.done += 1;
                context.tell(&Fact::Read { floor, index: *index });
            }
            Answer::NotLeader(leader) => {
                let next = self.clients[client].server + 1;
                self.clients[client].server = leader.unwrap_or(next);
                wait = context.random.between(10_000, 300_000);
            }
            Answer::Unknown => {}
        }
        context.after(wait, Event::Client(client, 0));
    }

    /// The requests end; one more is sent, which must be done.
    pub fn calm_down(&mut self, context: &mut Context) {
        for client in &mut self.clients {
            client.waiting = None;
        }
        context.after(1, Event::Client(0, 0));
    }

    fn draw(&mut self, nodes: &[NodeId], context: &mut Context) -> Ask {
        let is_calm = context.options.is_calm;
        match context.random.below(100) {
            0..45 => self.draw_job(context),
            45..62 => self.draw_key(context),
            62..74 => Ask::Read,
            74..84 if !is_calm => draw_drain(nodes, context),
            84..92 if !is_calm => {
                let node = nodes[context.random.index(nodes.len())];
                Ask::Eligible(node, context.random.chance(700))
            }
            _ => self.draw_key(context),
        }
    }

    fn draw_key(&self, context: &mut Context) -> Ask {
        let number = context.random.below(KEYS);
        let key = format!("sim/{number}");
        let value = context.random.word().to_le_bytes().to_vec();
        let expected = match context.random.below(3) {
            0 => 0,
            1 => self.keys.get(&number).copied().unwrap_or_default(),
            _ => self.acknowledged,
        };
        let op = match context.random.below(10) {
            0..4 => KvOp::Set { key, value, flags: 0 },
            4..8 => KvOp::SetIfUnchanged { key, value, flags: 0, expected },
            8 => KvOp::DeleteIfUnchanged { key, expected },
            _ => KvOp::DeleteTree { prefix: "sim/".to_owned() },
        };
        Ask::Write(Box::new(Command::Kv { ops: vec![op] }))
    }

    fn draw_job(&mut self, context: &mut Context) -> Ask {
        let number = context.random.below(context.options.jobs);
        let (is_calm, date) = (context.options.is_calm, context.date(0));
        let id = context.random.id();
        let draw = context.random.below(100);
        let random = &mut context.random;
        let is_young = self.asked.get(&number).is_some_and(|at| context.now < at + 15_000_000);
        if is_calm && is_young {
            // What is promised of one update is not promised of two at once.
            return Ask::Read;
        }
        self.asked.insert(number, context.now);
        let Some(job) = self.jobs.get_mut(&number) else {
            let job = draw_new(number, is_calm, random);
            self.jobs.insert(number, job.clone());
            return register(job, id, date);
        };
        match draw {
            0..12 if !is_calm => {
                let eval = Some(eval_for_job(job, Trigger::JobDeregister, id, date));
                let purge = draw < 3;
                Ask::Write(Box::new(Command::StopJob { key: job.key.clone(), purge, eval }))
            }
            12..40 if !is_calm && !job.is_system() => {
                job.groups[0].count = u32::try_from(random.between(1, 6)).unwrap_or(1);
                register(job.clone(), id, date)
            }
            _ => {
                let task = &mut job.groups[0].tasks[0];
                task.env.insert("VERSION".to_owned(), random.below(1000).to_string());
                if !is_calm && random.chance(200) {
                    task.resources.cpu_mhz = random.between(1, 4) * 100;
                }
                register(job.clone(), id, date)
            }
        }
    }
}

fn register(job: Job, id: u128, date: Timestamp) -> Ask {
    let eval = Some(eval_for_job(&job, Trigger::JobRegister, id, date));
    Ask::Write(Box::new(Command::RegisterJob { job: Box::new(job), expected_index: None, eval }))
}

fn set(key: u64, value: u64) -> Ask {
    let (key, value) = (format!("sim/{key}"), value.to_le_bytes().to_vec());
    Ask::Write(Box::new(Command::Kv { ops: vec![KvOp::Set { key, value, flags: 0 }] }))
}

fn draw_drain(nodes: &[NodeId], context: &mut Context) -> Ask {
    let (date, random) = (context.date(0), &mut context.random);
    let node = nodes[random.index(nodes.len())];
    if random.chance(500) {
        return Ask::Drain(node, None);
    }
    let deadline = Duration::from_secs(random.between(0, 12));
    let spec = DrainSpec { deadline: Some(deadline), ignore_system_jobs: random.chance(300) };
    Ask::Drain(node, Some(DrainState { spec, started_at: date, force_at: date + deadline }))
}

fn draw_new(number: u64, is_calm: bool, random: &mut crate::random::Random) -> Job {
    let kind = match random.below(10) {
        _ if is_calm => JobKind::Service,
        0..7 => JobKind::Service,
        7..9 => JobKind::Batch,
        _ => JobKind::System,
    };
    let is_service = kind == JobKind::Service;
    let count = if kind == JobKind::System { 1 } else { random.between(1, 5) };
    let task = Task {
        driver: "mock".to_owned(),
        resources: Resources {
            cpu_mhz: random.between(1, 4) * 100,
            memory_mib: random.between(1, 3) * 100,
            disk_mib: 0,
        },
        restart: restart(),
        kill_timeout: Duration::from_secs(2),
        shutdown_delay: Duration::from_millis(if random.chance(300) { 500 } else { 0 }),
        ..samples::task("main")
    };
    let group = TaskGroup {
        count: u32::try_from(count).unwrap_or(1),
        restart: restart(),
        networks: vec![network(number, is_service && random.chance(300))],
        services: vec![service(number)],
        update: is_service.then(|| update(random)),
        reschedule: Some(Reschedule {
            attempts: 0,
            interval: Duration::ZERO,
            delay: Duration::from_secs(1),
            delay_function: DelayFunction::Constant,
            max_delay: Duration::from_secs(5),
            unlimited: true,
        }),
        migrate: is_service.then(|| Migrate {
            max_parallel: 1,
            health_check: HealthCheckKind::TaskStates,
            min_healthy_time: Duration::from_millis(500),
            healthy_deadline: Duration::from_secs(10),
        }),
        ..samples::group("web", vec![task])
    };
    let priority = u8::try_from(random.between(30, 70)).unwrap_or(50);
    Job { priority, ..samples::job(&format!("job{number}"), kind, vec![group]) }
}

fn restart() -> Restart {
    Restart {
        attempts: 1,
        interval: Duration::from_secs(10),
        delay: Duration::from_secs(1),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

fn update(random: &mut crate::random::Random) -> Update {
    Update {
        stagger: Duration::ZERO,
        max_parallel: u32::try_from(random.between(1, 2)).unwrap_or(1),
        health_check: HealthCheckKind::TaskStates,
        min_healthy_time: Duration::from_secs(1),
        healthy_deadline: Duration::from_secs(10),
        progress_deadline: Duration::from_secs(20),
        // A known gap: under faults two instances of a group with canaries may get one number.
        canary: 0,
        auto_revert: random.chance(400),
        auto_promote: true,
    }
}

fn network(number: u64, is_fixed: bool) -> Network {
    let fixed = 8000 + u16::try_from(number).unwrap_or(0);
    let host_port = if is_fixed { fixed } else { 0 };
    let port = Port { label: "http".to_owned(), host_port, ..Port::default() };
    Network { ports: vec![port], ..Network::default() }
}

fn service(number: u64) -> Service {
    Service {
        name: format!("service{number}"),
        tags: Vec::new(),
        canary_tags: Vec::new(),
        port: "http".to_owned(),
        address_mode: "host".to_owned(),
        address: String::new(),
        provider: "consul".to_owned(),
        task: String::new(),
        meta: BTreeMap::new(),
        canary_meta: BTreeMap::new(),
        tagged_addresses: BTreeMap::new(),
        enable_tag_override: false,
        on_update: "require_healthy".to_owned(),
        weight_passing: 1,
        weight_warning: 1,
        checks: Vec::new(),
        extras: BTreeMap::new(),
    }
}

fn words(ask: &Ask) -> String {
    match ask {
        Ask::Write(command) => words_of(command),
        Ask::Read => "read".to_owned(),
        Ask::Drain(node, drain) => {
            let word = if drain.is_some() { "begin" } else { "end" };
            format!("{word} the drain of {node}")
        }
        Ask::Eligible(node, eligible) => format!("eligibility of {node}: {eligible}"),
        Ask::Group(members) => format!("servers shall be {members:?}"),
        Ask::Transfer(to) => format!("hand over to server {to}"),
    }
}

fn words_of(command: &Command) -> String {
    match command {
        Command::RegisterJob { job, .. } => {
            let count = job.groups.first().map_or(0, |group| group.count);
            format!("run {} with {count} instances", job.key.id)
        }
        Command::StopJob { key: JobKey { id, .. }, purge, .. } => {
            format!("stop {id}{}", if *purge { " and forget it" } else { "" })
        }
        Command::Kv { ops } => format!("{ops:?}").chars().take(80).collect(),
        _ => "write".to_owned(),
    }
}

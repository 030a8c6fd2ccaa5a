//! Runs one allocation: feeds its machine with what happens and carries out what it decides.
//!
//! One supervised task per allocation owns the machine. Everything that takes time (preparing,
//! starting, waiting for the end, leaving discovery) runs beside it and sends its result back as a
//! message, so the loop itself never waits.
//!
//! # Invariants
//!
//! - **A start is durable before it is reported.** The handle is on disk before the machine hears
//!   that the task runs.
//! - **Dropping the runner ends no task.** Only an effect of the machine does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::{Driver, TaskHandle};
use cos_model::catalog::Health;
use cos_model::link::AllocUpdate;
use cos_model::{AllocId, Allocation, ClientStatus, DeploymentId, Node, TaskState, Timestamp};
use cos_platform::{Clock, Fate, Tasks, entropy};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::Recovery;
use crate::alloc_machine::{AllocMachine, TaskEffect};
use crate::check_restart::CheckWatch;
use crate::checks::{self, Ran};
use crate::config::Config;
use crate::directories::AllocDirectory;
use crate::environment::Environment;
use crate::health::HealthTracker;
use crate::link::Link;
use crate::metrics;
use crate::registry::Registry;
use crate::services::Registration;
use crate::store::{Kept, Store, Write};
use crate::table::{AllocView, Table};
use crate::task_machine::{Input, Moment, Record, Stage, TaskMachine};
use crate::words;

mod discovery;
mod effects;
mod preparation;
mod script;
mod verdicts;

pub(crate) use script::run_in_task;

/// How many messages wait for a runner.
const MESSAGES_MAX: usize = 64;

/// What all allocations of an agent share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: Arc<Config>,
    pub(crate) drivers: BTreeMap<String, Arc<dyn Driver>>,
    pub(crate) store: Store,
    pub(crate) link: Link,
    pub(crate) registry: Registry,
    pub(crate) checks: checks::Runner,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) node: watch::Receiver<Arc<Node>>,
    pub(crate) table: Table,
}

/// What a runner is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened to a task.
    Task(String, Input),
    /// A task was started.
    Launched(String, TaskHandle),
    /// What a task left outside its directories is removed.
    Cleaned(String),
    /// Templates give these variables.
    Variables(String, BTreeMap<String, String>),
    /// The catalog was told, or could not be.
    Told,
    /// The servers describe the allocation anew.
    Update(Arc<Allocation>),
    /// Somebody wants a restart of one task, or of all that run.
    Restart(Option<String>, oneshot::Sender<Result<(), String>>),
    /// Somebody wants to signal one task, or all that run.
    Signal(Option<String>, String, oneshot::Sender<Result<(), String>>),
    /// The tasks shall end, because the agent ends.
    Stop,
    /// The tasks shall end and everything of the allocation be removed.
    Destroy(oneshot::Sender<()>),
}

/// The runner of one allocation.
struct Runner {
    host: Arc<Host>,
    machine: AllocMachine,
    directory: AllocDirectory,
    messages: mpsc::Sender<Message>,
    handles: BTreeMap<String, TaskHandle>,
    /// Ends the preparation and the template watch of a task.
    preparations: BTreeMap<String, CancellationToken>,
    /// Tasks whose last run is still being removed.
    cleaning: BTreeSet<String>,
    /// Tasks that are to be launched as soon as their last run is removed.
    launch_after: BTreeSet<String>,
    variables: BTreeMap<String, BTreeMap<String, String>>,
    environments: BTreeMap<String, Environment>,
    running_since: BTreeMap<String, Timestamp>,
    registered: Vec<Registration>,
    telling: bool,
    statuses: BTreeMap<Arc<str>, Health>,
    check_watch: CheckWatch,
    health: Option<(DeploymentId, HealthTracker)>,
    verdict: Option<(DeploymentId, bool)>,
    saved: BTreeMap<String, Record>,
    reported: Option<AllocUpdate>,
    destroying: Vec<oneshot::Sender<()>>,
}

/// Starts to run an allocation.
pub(crate) fn start(host: &Arc<Host>, alloc: Arc<Allocation>) -> mpsc::Sender<Message> {
    host.store.write(vec![Write::Alloc(Arc::clone(&alloc))]);
    ::metrics::counter!(metrics::STARTS).increment(1);
    let now = Timestamp(host.clock.unix_nanos());
    let machine = AllocMachine::new(alloc, now);
    spawn(host, machine, BTreeMap::new(), Vec::new(), None)
}

/// Goes on with an allocation that an earlier agent ran.
pub(crate) fn restore(
    host: &Arc<Host>,
    kept: Kept,
    recovery: &Arc<Recovery>,
) -> mpsc::Sender<Message> {
    let now = Timestamp(host.clock.unix_nanos());
    let (live, stale): (BTreeMap<_, _>, BTreeMap<_, _>) =
        kept.handles.into_iter().partition(|(task, handle)| {
            kept.records.get(task).is_none_or(|record| handle.is_live(record))
        });
    let names: BTreeSet<String> = live.keys().cloned().collect();
    let machine = AllocMachine::restore(kept.alloc, &kept.records, &names, now);
    let handles = live.into_iter().map(|(task, kept)| (task, kept.handle)).collect();
    let stale = stale.into_iter().map(|(task, kept)| (task, kept.handle)).collect();
    spawn(host, machine, handles, stale, Some(Arc::clone(recovery)))
}

fn spawn(
    host: &Arc<Host>,
    machine: AllocMachine,
    handles: BTreeMap<String, TaskHandle>,
    stale: Vec<(String, TaskHandle)>,
    recovery: Option<Arc<Recovery>>,
) -> mpsc::Sender<Message> {
    let (sender, inbox) = mpsc::channel(MESSAGES_MAX);
    let directory = AllocDirectory::new(&host.config.alloc_root(), machine.alloc().id);
    let runner = Runner {
        host: Arc::clone(host),
        directory,
        messages: sender.clone(),
        handles,
        preparations: BTreeMap::new(),
        cleaning: BTreeSet::new(),
        launch_after: BTreeSet::new(),
        variables: BTreeMap::new(),
        environments: BTreeMap::new(),
        running_since: BTreeMap::new(),
        registered: Vec::new(),
        telling: false,
        statuses: BTreeMap::new(),
        check_watch: CheckWatch::default(),
        health: None,
        verdict: None,
        saved: BTreeMap::new(),
        reported: None,
        destroying: Vec::new(),
        machine,
    };
    host.table.add(runner.id(), sender.clone());
    // Listened to from here on, so that no result between now and the first look is missed.
    let results = host.checks.subscribe();
    host.tasks.spawn("allocation", Fate::Ends, runner.run(inbox, results, stale, recovery));
    sender
}

impl Runner {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut results: broadcast::Receiver<Ran>,
        stale: Vec<(String, TaskHandle)>,
        recovery: Option<Arc<Recovery>>,
    ) {
        let stop = self.host.tasks.stopping();
        for (task, handle) in stale {
            self.clean(&task, handle);
        }
        self.follow_deployment();
        self.rebuild_environments();
        self.recover(recovery.as_ref());
        drop(recovery);
        let effects = self.machine.begin(self.moment());
        self.carry_out(effects);
        loop {
            self.publish();
            if self.is_destroyed().await {
                return;
            }
            let wait = self.wait();
            // Every arm waits for a queue or the clock and takes nothing before it is ready.
            tokio::select! {
                () = stop.cancelled() => return,
                message = inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Ok(ran) = results.recv(), if !self.registered.is_empty() => self.take_result(&ran),
                () = sleep(wait), if wait.is_some() => {
                    let effects = self.machine.tick(self.moment());
                    self.carry_out(effects);
                }
            }
        }
    }

    fn id(&self) -> AllocId {
        self.machine.alloc().id
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.host.clock.unix_nanos())
    }

    fn moment(&self) -> Moment {
        let bits = entropy::draw();
        Moment { now: self.now(), entropy: u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0) }
    }

    /// The time until something is due.
    fn wait(&self) -> Option<Duration> {
        // `judge` looks no more at an allocation that is to stop; neither may its deadline wake it.
        let judged = self.machine.is_stopping() || self.verdict.is_some();
        let health =
            self.health.as_ref().filter(|_| !judged).and_then(|(_, tracker)| tracker.due());
        let due = [self.machine.due(), health].into_iter().flatten().min()?;
        Some(due.since(self.now()))
    }

    fn step(&mut self, task: &str, input: Input) {
        let effects = self.machine.step(task, input, self.moment());
        self.carry_out(effects);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Task(task, Input::Exited(exit)) => {
                if exit.oom_killed {
                    ::metrics::counter!(metrics::OOM_KILLED).increment(1);
                }
                self.running_since.remove(&task);
                // Cleaning comes first, so that a restart without delay waits for it.
                if let Some(handle) = self.handles.remove(&task) {
                    self.clean(&task, handle);
                }
                self.step(&task, Input::Exited(exit));
            }
            Message::Task(task, Input::Lost(why)) => {
                if let Some(handle) = self.handles.remove(&task) {
                    self.clean(&task, handle);
                }
                self.step(&task, Input::Lost(why));
            }
            Message::Task(task, input) => {
                if input == Input::Recovered {
                    self.recovered(&task);
                }
                self.step(&task, input);
            }
            Message::Launched(task, handle) => {
                self.running_since.insert(task.clone(), self.now());
                self.await_exit(&task, &handle);
                self.handles.insert(task.clone(), handle);
                self.step(&task, Input::Started);
            }
            Message::Cleaned(task) => {
                self.cleaning.remove(&task);
                if self.launch_after.remove(&task) {
                    self.launch(&task);
                }
            }
            Message::Variables(task, variables) => {
                self.variables.insert(task, variables);
                self.rebuild_environments();
            }
            Message::Told => self.told(),
            Message::Update(alloc) => self.update(alloc),
            Message::Restart(task, reply) => {
                let input = |_: &str| Input::Restart(words::USER_RESTART.to_owned());
                // Whoever asked may have gone.
                drop(reply.send(self.ask(task.as_deref(), input)));
            }
            Message::Signal(task, signal, reply) => {
                let input =
                    |_: &str| Input::Signal { signal: signal.clone(), reason: String::new() };
                drop(reply.send(self.ask(task.as_deref(), input)));
            }
            Message::Stop => {
                let effects = self.machine.stop_here(self.moment());
                self.carry_out(effects);
            }
            Message::Destroy(reply) => {
                self.destroying.push(reply);
                let effects = self.machine.stop_here(self.moment());
                self.carry_out(effects);
            }
        }
    }

    /// Gives an input to one running task, or to all.
    fn ask(&mut self, task: Option<&str>, input: impl Fn(&str) -> Input) -> Result<(), String> {
        if let Some(name) = task
            && self.machine.task(name).is_none()
        {
            return Err(format!("Could not find task runner for task: {name}"));
        }
        let names: Vec<String> = self
            .machine
            .tasks()
            .filter(|(name, machine)| {
                task.is_none_or(|wanted| wanted == *name) && *machine.stage() == Stage::Running
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        if names.is_empty() {
            return Err("Task not running".to_owned());
        }
        for name in names {
            self.step(&name, input(&name));
        }
        Ok(())
    }

    fn update(&mut self, alloc: Arc<Allocation>) {
        self.host.store.write(vec![Write::Alloc(Arc::clone(&alloc))]);
        if alloc.client_status == ClientStatus::Unknown {
            // The servers lost sight of it: they are told how it is, though nothing changed here.
            self.reported = None;
        }
        let effects = self.machine.update(alloc, self.moment());
        self.follow_deployment();
        self.rebuild_environments();
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<TaskEffect>) {
        for TaskEffect { task, effect } in effects {
            self.perform(&task, effect);
        }
        let dead: Vec<String> = self
            .preparations
            .keys()
            .filter(|task| self.machine.task(task).is_none_or(TaskMachine::is_dead))
            .cloned()
            .collect();
        for task in dead {
            self.end_preparation(&task);
        }
        self.tell_catalog();
    }

    /// Keeps, shows and reports what changed.
    fn publish(&mut self) {
        self.judge();
        let id = self.id();
        let states: BTreeMap<String, TaskState> = self.machine.task_states();
        let mut writes = Vec::new();
        for (task, machine) in self.machine.tasks() {
            let saved = self.saved.get(task);
            if saved != Some(machine.record()) {
                let record = machine.record().clone();
                let restarts = saved.map_or(record.state.restarts, |saved| saved.state.restarts);
                let more = record.state.restarts.saturating_sub(restarts);
                ::metrics::counter!(metrics::RESTARTS).increment(more);
                self.saved.insert(task.to_owned(), record.clone());
                writes.push(Write::Record { alloc: id, task: task.to_owned(), record });
            }
        }
        self.host.store.write(writes);
        let update = AllocUpdate {
            id,
            client_status: self.machine.status(),
            client_description: self.machine.description().to_owned(),
            task_states: states,
            health: self.verdict,
        };
        self.host.table.show(id, self.view(&update));
        if self.reported.as_ref() != Some(&update) {
            self.reported = Some(update.clone());
            if self.destroying.is_empty() {
                self.report(update);
            }
        }
    }

    /// Reports what changed. That all is over is reported once the disk knows it: an agent that dies
    /// in between would else start again what the cluster counts as ended.
    fn report(&self, update: AllocUpdate) {
        if !update.client_status.is_terminal() {
            return self.host.link.report(update);
        }
        let (store, link) = (self.host.store.clone(), self.host.link.clone());
        self.spawn("final report", async move {
            if let Err(error) = store.write_durably(Vec::new()).await {
                tracing::error!(alloc = %update.id, %error, "the end is reported, but not kept");
            }
            link.report(update);
        });
    }

    fn view(&self, update: &AllocUpdate) -> AllocView {
        AllocView {
            alloc: Arc::clone(self.machine.alloc()),
            status: update.client_status,
            description: update.client_description.clone(),
            task_states: update.task_states.clone(),
            handles: self.handles.clone(),
            over: self.machine.is_over() && self.cleaning.is_empty(),
        }
    }

    /// Removes everything once that was asked for and nothing runs any more.
    async fn is_destroyed(&mut self) -> bool {
        let over = self.machine.is_over() && self.cleaning.is_empty() && !self.telling;
        if self.destroying.is_empty() || !over {
            return false;
        }
        let id = self.id();
        let directory = self.directory.clone();
        let removed = tokio::task::spawn_blocking(move || directory.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(alloc = %id, %error, "allocation directory not removed");
        }
        self.host.store.write(vec![Write::Forget(id)]);
        self.host.table.remove(id);
        for reply in self.destroying.drain(..) {
            // Whoever asked may have gone.
            reply.send(()).ok();
        }
        true
    }
}

async fn sleep(wait: Option<Duration>) {
    tokio::time::sleep(wait.unwrap_or_default()).await;
}

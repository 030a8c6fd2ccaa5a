//! The client part of an agent: starts everything, follows what the servers want, and answers for
//! what runs here.
//!
//! # Invariants
//!
//! - What an earlier agent ran is taken up before the servers are asked.
//! - Stopping the agent's tasks ends no task of a job, unless [`AgentHandle::stop_tasks`] was called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cos_drivers::{Driver, ExecRequest, ExecSession, TaskStats};
use cos_model::catalog::{Catalog, CatalogChange, Health};
use cos_model::id::ParseIdError;
use cos_model::link::ServerAddress;
use cos_model::{AllocId, Node, NodeId};
use cos_platform::rpc::Client;
use cos_platform::{Clock, Fate, Tasks, entropy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::checks::{self, ScriptHost, TtlError};
use crate::config::Config;
use crate::directories::AllocDirectory;
use crate::files::AllocFiles;
use crate::fingerprint::{self, Machine};
use crate::host_stats::{self, HostStats};
use crate::link::{self, Link, LinkError};
use crate::reconcile::{Action, Desired, Known};
use crate::registry::Registry;
use crate::runner::{self, Host, Message, run_in_task};
use crate::store::{Identity, Kept, Store, StoreError};
use crate::table::{AllocView, Table};

/// How often ended allocations are counted.
const COLLECT_EVERY: Duration = Duration::from_mins(1);

/// How long [`AgentHandle::stop_tasks`] waits at most.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// The agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its state cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configured network interface is of no use.
    #[error("network_interface: {0}")]
    Interface(String),
}

/// Why something could not be done with an allocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// It is not on this node.
    #[error("Unknown allocation \"{0}\"")]
    Unknown(AllocId),
    /// It has no such task, or the task does not run.
    #[error("{0}")]
    Refused(String),
}

/// A handle to the running agent. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    host: Arc<Host>,
    identity: Identity,
}

/// Starts the agent's client part. `drivers` are those of this machine, by name.
pub async fn start(
    config: Config,
    drivers: BTreeMap<String, Arc<dyn Driver>>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<AgentHandle, StartError> {
    let config = Arc::new(config);
    let (store, identity, kept) = open_store(&config).await?;
    let machine = look(&config).await;
    if let Some(Err(why)) = &machine.interface {
        return Err(StartError::Interface(why.clone()));
    }
    let states = fingerprint::drivers(&drivers, &config.options).await;
    let node = Arc::new(fingerprint::node(&config, identity, &machine, &states));
    let (node_sender, node) = watch::channel(node);
    let options = link::Options {
        servers: config.servers.clone(),
        identity,
        node: node.clone(),
        client: Client::new(),
    };
    let (link, desired) = Link::start(options, tasks);
    let name: Arc<str> = Arc::from(config.node_name.as_str());
    let registry = Registry::new(Arc::clone(&name), link.clone());
    let table = Table::default();
    let scripts = TaskScripts { table: table.clone(), drivers: drivers.clone() };
    let checks = checks::Runner::start(
        checks::Options {
            node: name,
            catalog: link.catalog(),
            sink: Arc::new(link.clone()),
            scripts: Arc::new(scripts),
            clock: Arc::clone(&clock),
        },
        tasks,
    );
    let host = Arc::new(Host {
        config,
        drivers,
        store,
        link,
        registry: registry.clone(),
        checks,
        clock,
        tasks: tasks.clone(),
        node,
        table,
    });
    let known = Known::restored(kept.iter().map(|kept| &*kept.alloc));
    for kept in kept {
        drop(runner::restore(&host, kept));
    }
    tasks.spawn("allocations", Fate::Vital, follow(Arc::clone(&host), known, identity, desired));
    tasks.spawn("catalog repair", Fate::Vital, registry.repair(tasks.stopping()));
    let work = keep_fingerprint(Arc::clone(&host), identity, machine, node_sender);
    tasks.spawn("fingerprint", Fate::Vital, work);
    Ok(AgentHandle { host, identity })
}

async fn open_store(config: &Config) -> Result<(Store, Identity, Vec<Kept>), StoreError> {
    let path = config.state_file();
    let opened = tokio::task::spawn_blocking({
        let path = path.clone();
        move || Store::open(&path, entropy::draw)
    });
    opened.await.unwrap_or_else(|error| Err(StoreError::Open { path, why: error.to_string() }))
}

async fn look(config: &Arc<Config>) -> Machine {
    let config = Arc::clone(config);
    tokio::task::spawn_blocking(move || Machine::look(&config)).await.unwrap_or_default()
}

/// Does what the servers want, until the agent stops.
async fn follow(
    host: Arc<Host>,
    mut known: Known,
    identity: Identity,
    mut desired: mpsc::Receiver<Desired>,
) {
    let stop = host.tasks.stopping();
    let mut collect = tokio::time::interval(COLLECT_EVERY);
    loop {
        // Every arm waits for a queue or the clock and takes nothing before it is ready.
        let desired = tokio::select! {
            () = stop.cancelled() => return,
            _ = collect.tick() => {
                remove_surplus(&host).await;
                continue;
            }
            desired = desired.recv() => match desired {
                Some(desired) => desired,
                None => return,
            },
        };
        for action in known.take(&desired, identity.node) {
            act(&host, action).await;
        }
    }
}

async fn act(host: &Arc<Host>, action: Action) {
    match action {
        Action::Start(alloc) => drop(runner::start(host, alloc)),
        Action::Update(alloc) => {
            if let Some(runner) = host.table.runner(alloc.id) {
                // A runner that has gone was destroyed by somebody else.
                drop(runner.send(Message::Update(alloc)).await);
            }
        }
        Action::Remove(id) => destroy(host, id).await.map_or((), drop),
    }
}

/// Asks a runner to end and remove everything. The receiver tells when that is done.
async fn destroy(host: &Host, id: AllocId) -> Option<oneshot::Receiver<()>> {
    let runner = host.table.runner(id)?;
    let (reply, done) = oneshot::channel();
    runner.send(Message::Destroy(reply)).await.ok()?;
    Some(done)
}

/// Removes the oldest ended allocations beyond the limit. They stay known, so that a server that
/// still lists them does not start them again.
async fn remove_surplus(host: &Host) {
    let unreported = host.link.unreported();
    let mut over: Vec<Arc<AllocView>> = host
        .table
        .views()
        .into_iter()
        .filter(|view| view.over && !unreported.contains(&view.alloc.id))
        .collect();
    over.sort_by_key(|view| {
        view.task_states.values().map(|state| state.finished_at).max().unwrap_or_default()
    });
    let surplus = over.len().saturating_sub(host.config.gc_max_allocs);
    for view in over.into_iter().take(surplus) {
        tracing::info!(alloc = %view.alloc.id, "removing an ended allocation");
        drop(destroy(host, view.alloc.id).await);
    }
}

/// Looks at the machine and its drivers again and again, and publishes what changed.
async fn keep_fingerprint(
    host: Arc<Host>,
    identity: Identity,
    first: Machine,
    node: watch::Sender<Arc<Node>>,
) {
    let stop = host.tasks.stopping();
    let mut due = tokio::time::interval(host.config.fingerprint_every);
    due.tick().await;
    loop {
        // Waiting for the clock may be cancelled.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
        }
        // Free disk and clock rates change all the time; only what matters for placement is
        // looked at again.
        let states = fingerprint::drivers(&host.drivers, &host.config.options).await;
        let mut machine = first.clone();
        machine.interface = look(&host.config).await.interface.or(machine.interface);
        if matches!(machine.interface, Some(Err(_))) {
            continue;
        }
        let new = fingerprint::node(&host.config, identity, &machine, &states);
        node.send_if_modified(|node| {
            let changed = **node != new;
            if changed {
                *node = Arc::new(new);
            }
            changed
        });
    }
}

impl AgentHandle {
    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.node
    }

    /// The node as it registers now; it holds the secret.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&self.host.node.borrow())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.host.config
    }

    /// This agent's copy of the catalog.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.host.link.catalog()
    }

    /// The servers, the connected one first.
    pub fn servers(&self) -> watch::Receiver<Vec<ServerAddress>> {
        self.host.link.servers()
    }

    /// Whether a server is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.host.link.connected()
    }

    /// The link, for questions to the servers and changes of the catalog.
    pub fn link(&self) -> &Link {
        &self.host.link
    }

    /// The health checks of this node.
    pub fn checks(&self) -> &checks::Runner {
        &self.host.checks
    }

    /// Reports for a TTL check of this node.
    pub async fn update_ttl(
        &self,
        check: &str,
        status: Health,
        output: &str,
    ) -> Result<(), TtlError> {
        self.host.checks.update_ttl(check, status, output).await
    }

    /// Commits changes of the catalog through a server.
    pub async fn change_catalog(
        &self,
        changes: Vec<CatalogChange>,
    ) -> Result<BTreeMap<u32, String>, LinkError> {
        self.host.link.change(changes).await
    }

    /// All allocations on this node.
    pub fn allocs(&self) -> Vec<Arc<AllocView>> {
        self.host.table.views()
    }

    /// One allocation on this node.
    pub fn alloc(&self, id: AllocId) -> Result<Arc<AllocView>, AllocError> {
        self.host.table.view(id).ok_or(AllocError::Unknown(id))
    }

    /// Tells when any allocation changed.
    pub fn allocs_changed(&self) -> watch::Receiver<()> {
        self.host.table.changed()
    }

    /// The files of an allocation.
    pub fn files(&self, id: AllocId) -> Result<AllocFiles, AllocError> {
        let view = self.alloc(id)?;
        let directory = AllocDirectory::new(&self.host.config.alloc_root(), view.alloc.id);
        Ok(AllocFiles::new(directory.root().to_owned()))
    }

    /// Runs a command in a task.
    pub async fn exec(
        &self,
        id: AllocId,
        task: &str,
        request: &ExecRequest,
    ) -> Result<ExecSession, AllocError> {
        let view = self.alloc(id)?;
        if !view.task_states.contains_key(task) {
            return Err(AllocError::Refused(format!("unknown task name {task:?}")));
        }
        let handle = view
            .handles
            .get(task)
            .ok_or_else(|| AllocError::Refused(format!("task {task:?} is not running.")))?;
        let driver = self.driver(&handle.driver)?;
        driver.exec(handle, request).await.map_err(|error| AllocError::Refused(error.to_string()))
    }

    /// Restarts one task of an allocation, or all that run.
    pub async fn restart(&self, id: AllocId, task: Option<&str>) -> Result<(), AllocError> {
        let task = task.map(str::to_owned);
        self.ask(id, |reply| Message::Restart(task, reply)).await
    }

    /// Signals one task of an allocation, or all that run.
    pub async fn signal(
        &self,
        id: AllocId,
        task: Option<&str>,
        signal: &str,
    ) -> Result<(), AllocError> {
        let (task, signal) = (task.map(str::to_owned), signal.to_owned());
        self.ask(id, |reply| Message::Signal(task, signal, reply)).await
    }

    /// Tells what the tasks of an allocation use, by task.
    pub async fn alloc_stats(
        &self,
        id: AllocId,
    ) -> Result<BTreeMap<String, TaskStats>, AllocError> {
        let view = self.alloc(id)?;
        let mut stats = BTreeMap::new();
        for (task, handle) in &view.handles {
            let driver = self.driver(&handle.driver)?;
            // A task that ended a moment ago has no figures any more.
            if let Ok(found) = driver.stats(handle).await {
                stats.insert(task.clone(), found);
            }
        }
        Ok(stats)
    }

    /// Tells what the machine uses.
    pub async fn host_stats(&self) -> Result<HostStats, AllocError> {
        let stats = host_stats::look(&self.host.config, self.host.clock.unix_nanos()).await;
        stats.map_err(|error| AllocError::Refused(error.to_string()))
    }

    /// Removes an ended allocation's files, or those of all ended allocations.
    pub async fn collect_garbage(&self, id: Option<AllocId>) -> Result<(), AllocError> {
        let views = match id {
            Some(id) => vec![self.alloc(id)?],
            None => self.allocs(),
        };
        for view in views.into_iter().filter(|view| view.over) {
            if let Some(done) = destroy(&self.host, view.alloc.id).await {
                // An error means that the runner has gone, and everything with it.
                done.await.ok();
            }
        }
        Ok(())
    }

    /// Ends all tasks, as a development agent does before it stops. Returns when they have ended,
    /// or after a minute.
    pub async fn stop_tasks(&self) {
        for (_, runner) in self.host.table.runners() {
            drop(runner.send(Message::Stop).await);
        }
        let mut changed = self.host.table.changed();
        let all_over = async {
            while !self.host.table.views().iter().all(|view| view.over) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, all_over).await.is_err() {
            tracing::error!("some tasks did not end in time");
        }
    }

    async fn ask(
        &self,
        id: AllocId,
        message: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Message,
    ) -> Result<(), AllocError> {
        let runner = self.host.table.runner(id).ok_or(AllocError::Unknown(id))?;
        let (reply, answer) = oneshot::channel();
        let gone = || AllocError::Unknown(id);
        if runner.send(message(reply)).await.is_err() {
            return Err(gone());
        }
        answer.await.ok().ok_or_else(gone)?.map_err(AllocError::Refused)
    }

    fn driver(&self, name: &str) -> Result<&Arc<dyn Driver>, AllocError> {
        let missing = || AllocError::Refused(format!("driver {name:?} is not available"));
        self.host.drivers.get(name).ok_or_else(missing)
    }
}

/// Runs scripts of checks in the tasks of this agent.
#[derive(Debug)]
struct TaskScripts {
    table: Table,
    drivers: BTreeMap<String, Arc<dyn Driver>>,
}

#[async_trait]
impl ScriptHost for TaskScripts {
    async fn run(
        &self,
        target: &str,
        args: &[String],
        timeout: Duration,
    ) -> Result<(i32, String), String> {
        if target.is_empty() {
            return Err("script checks outside of tasks are not enabled".to_owned());
        }
        let (id, task) = target.split_once('/').ok_or("the target names no task")?;
        let id: AllocId = id.parse().map_err(|error: ParseIdError| error.to_string())?;
        let handle = self.table.handle(id, task).ok_or("the task is not running")?;
        let driver = self.drivers.get(&handle.driver).ok_or("its driver is gone")?;
        run_in_task(driver, &handle, args, timeout).await
    }
}

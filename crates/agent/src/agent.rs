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
use cos_drivers::Driver;
use cos_model::catalog::Catalog;
use cos_model::id::ParseIdError;
use cos_model::{AllocId, Node, Timestamp};
use cos_platform::rpc::{Client, Security};
use cos_platform::tls::Protocol;
use cos_platform::{Clock, Fate, Tasks, entropy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::absence::Absence;
use crate::catalog_copy;
use crate::checks::{self, ScriptHost};
use crate::config::Config;
use crate::fingerprint::{self, Machine};
use crate::link::{self, Link};
use crate::reconcile::{Action, Desired, Known};
use crate::registry::Registry;
use crate::runner::{self, Host, Message, run_in_task};
use crate::store::{Identity, Kept, Store, StoreError, Write};
use crate::table::{AllocView, Table};

mod handle;

/// How often ended allocations are counted.
const COLLECT_EVERY: Duration = Duration::from_mins(1);

/// How often it is looked whether the servers are gone for too long.
const DISCONNECT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is noted that servers are heard of, if an allocation depends on that.
const CONTACT_EVERY: Duration = Duration::from_secs(10);

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

/// Starts the agent's client part. `drivers` are those of this machine, by name; `security` is how
/// servers are called.
pub async fn start(
    config: Config,
    drivers: BTreeMap<String, Arc<dyn Driver>>,
    clock: Arc<dyn Clock>,
    security: Security,
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
        catalog: read_copy(&config).await,
        client: Client::secured(security, Protocol::Agents),
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
    let recovery =
        Arc::new(Recovery::begin(&host, kept.iter().map(|kept| kept.handles.len()).sum()));
    for kept in kept {
        drop(runner::restore(&host, kept, &recovery));
    }
    drop(recovery);
    let copy = catalog_copy::keep(
        host.config.catalog_file(),
        host.link.catalog(),
        host.link.connected(),
        tasks.stopping(),
    );
    tasks.spawn("catalog copy", Fate::Vital, copy);
    tasks.spawn("allocations", Fate::Vital, follow(Arc::clone(&host), known, identity, desired));
    tasks.spawn("catalog repair", Fate::Vital, registry.repair(tasks.stopping()));
    tasks.spawn("lost servers", Fate::Vital, stop_disconnected(Arc::clone(&host)));
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

async fn read_copy(config: &Config) -> Catalog {
    let path = config.catalog_file();
    let read = tokio::task::spawn_blocking(move || catalog_copy::read(&path)).await;
    read.ok().flatten().unwrap_or_default()
}

/// Stops the allocations whose jobs want that after so long a time without servers.
async fn stop_disconnected(host: Arc<Host>) {
    let stop = host.tasks.stopping();
    let mut connected = host.link.connected();
    let date = || Timestamp(host.clock.unix_nanos());
    let kept = host.store.last_contact();
    let mut absence = Absence::restored(host.clock.monotonic(), date(), kept);
    let mut noted: Option<Duration> = None;
    let mut was_connected = false;
    let mut due = tokio::time::interval(DISCONNECT_LOOK_EVERY);
    loop {
        // Every arm waits for a level or the clock and may be cancelled.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {}
            changed = connected.changed() => if changed.is_err() { return },
        }
        let now = host.clock.monotonic();
        let is_connected = *connected.borrow_and_update();
        // The absence begins when the connection ends, not when that was last looked at.
        if is_connected || was_connected {
            absence.end(now);
        }
        let limited: Vec<(AllocId, Duration)> =
            host.table.views().iter().filter_map(|view| stop_after(view)).collect();
        let is_due = noted.is_none_or(|noted| now >= noted + CONTACT_EVERY) || !is_connected;
        if !limited.is_empty() && (is_connected || was_connected) && is_due {
            noted = Some(now);
            host.store.write(vec![Write::Contact(date())]);
        }
        was_connected = is_connected;
        let away = absence.lasted(now);
        for (alloc, _) in limited.iter().filter(|(_, limit)| !is_connected && away >= *limit) {
            if let Some(runner) = host.table.runner(*alloc) {
                tracing::warn!(%alloc, ?away, "stopping an allocation, as no server is heard of");
                drop(runner.send(Message::Stop).await);
            }
        }
    }
}

/// After how long without servers an allocation is to be stopped here, if it is not over.
fn stop_after(view: &AllocView) -> Option<(AllocId, Duration)> {
    let group = view.alloc.task_group().filter(|_| !view.over)?;
    Some((view.alloc.id, group.disconnect.as_ref()?.stop_on_client_after?))
}

/// Tells how long it took to take up the tasks of the earlier agent, when the last of those who
/// take one up has let go of it.
#[derive(Debug)]
pub(crate) struct Recovery {
    host: Arc<Host>,
    began: Duration,
    tasks: usize,
}

impl Recovery {
    fn begin(host: &Arc<Host>, tasks: usize) -> Self {
        Self { host: Arc::clone(host), began: host.clock.monotonic(), tasks }
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        if self.tasks > 0 {
            let took = self.host.clock.monotonic().saturating_sub(self.began);
            tracing::info!(tasks = self.tasks, ?took, "took up the tasks of the earlier agent");
        }
    }
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

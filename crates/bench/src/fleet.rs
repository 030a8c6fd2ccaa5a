//! Many nodes in one process: each speaks the agents' own protocol with its server, on a
//! connection of its own, and says of whatever it should run that it runs.
//!
//! # Deliberately absent
//!
//! - Tasks, checks, services. What is measured is what nodes cost their servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::allocation::{Allocation, ClientStatus, DesiredStatus, TaskPhase, TaskState};
use cos_model::link::{AllocUpdate, ToAgent, ToServer};
use cos_model::node::{DriverState, Node, NodeStatus};
use cos_model::{AllocId, NodeId, Resources, Timestamp};
use cos_platform::rpc::Client;
use cos_platform::{Clock, Fate, SystemClock, Tasks, entropy};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::BenchError;

/// How many nodes register at the same time.
const REGISTERING_MAX: usize = 16;
/// How many events may wait.
const EVENTS_MAX: usize = 65_536;
/// How the message that holds the whole catalog begins: a map of one entry, by that name.
const WHOLE_CATALOG: &[u8] = b"\x81\xaaCatalogAll";
/// And the one that holds changes of it.
const CATALOG_NEWS: &[u8] = b"\x81\xaeCatalogChanged";
/// How long a node may take to be welcomed.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// What a node saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// Which node, by its position.
    pub(crate) node: usize,
    /// When it was told.
    pub(crate) at: Instant,
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Fleet {
    ends: Vec<CancellationToken>,
    events: mpsc::Receiver<Started>,
    /// When each node was told of a change of the catalog.
    changes: mpsc::Receiver<Instant>,
}

/// Where a node says what it saw.
#[derive(Clone, Debug)]
struct Report {
    started: mpsc::Sender<Started>,
    changed: mpsc::Sender<Instant>,
}

impl Fleet {
    /// Registers nodes, spread over the servers, and returns when all were welcomed.
    pub(crate) async fn start(
        count: usize,
        servers: &[SocketAddr],
        tasks: &Tasks,
    ) -> Result<Self, BenchError> {
        let (started, events) = mpsc::channel(EVENTS_MAX);
        let (changed, changes) = mpsc::channel(EVENTS_MAX);
        let report = Report { started, changed };
        let agents = (0..count).map(|number| {
            let (report, end) = (report.clone(), CancellationToken::new());
            let server = servers[number % servers.len()].to_string();
            async move {
                let agent = Agent::connect(number, &server, report).await?;
                let ended = end.clone();
                // At once: from its registration on a node is expected to be heard of.
                tasks.spawn("simulated agent", Fate::Ends, async move {
                    // Dropping the agent closes its connection, as the death of a process does.
                    tokio::select! {
                        () = agent.run() => {}
                        () = ended.cancelled() => {}
                    }
                });
                Ok::<_, BenchError>(end)
            }
        });
        let connected: Vec<_> =
            futures_util::stream::iter(agents).buffered(REGISTERING_MAX).collect().await;
        let ends = connected.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { ends, events, changes })
    }

    /// Ends a node without a good-bye.
    pub(crate) fn kill(&self, node: usize) {
        self.ends[node].cancel();
    }

    /// Waits until so many allocations were started, and returns them.
    pub(crate) async fn started(
        &mut self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Started>, BenchError> {
        let mut started = Vec::with_capacity(count);
        let deadline = Instant::now() + timeout;
        while started.len() < count {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(Some(event)) = event else {
                let seen = started.len();
                return Err(BenchError::Failed(format!(
                    "only {seen} of {count} allocations were started in time"
                )));
            };
            started.push(event);
        }
        Ok(started)
    }
}

impl Fleet {
    /// Forgets the changes of the catalog so far.
    pub(crate) fn forget_changes(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }

    /// Waits until the nodes were told of a change of the catalog, and says when each was.
    pub(crate) async fn changed(&mut self, timeout: Duration) -> Result<Vec<Instant>, BenchError> {
        let mut told = Vec::with_capacity(self.ends.len());
        let deadline = Instant::now() + timeout;
        while told.len() < self.ends.len() {
            let Ok(Some(at)) = tokio::time::timeout_at(deadline, self.changes.recv()).await else {
                let (seen, all) = (told.len(), self.ends.len());
                return Err(BenchError::Failed(format!("{seen} of {all} nodes were told in time")));
            };
            told.push(at);
        }
        Ok(told)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.ends.iter().for_each(CancellationToken::cancel);
    }
}

fn pace(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// One node.
struct Agent {
    number: usize,
    /// Holds the connection.
    _client: Client,
    outbound: mpsc::Sender<Bytes>,
    inbound: mpsc::Receiver<Bytes>,
    heartbeat_every: Duration,
    running: BTreeSet<AllocId>,
    sequence: u64,
    report: Report,
    clock: SystemClock,
}

impl Agent {
    async fn connect(number: usize, server: &str, report: Report) -> Result<Self, BenchError> {
        let client = Client::new();
        let failed = |why: String| BenchError::Failed(format!("node {number} at {server}: {why}"));
        let opened = client.stream(server, "agent.stream").await;
        let (outbound, mut inbound) = opened.map_err(|error| failed(error.to_string()))?;
        let hello = ToServer::Hello { node: Box::new(node(number)) };
        let sent = outbound.send(encode(&hello)).await;
        sent.map_err(|error| failed(error.to_string()))?;
        let welcome = tokio::time::timeout(WELCOME_TIMEOUT, inbound.recv()).await;
        let heartbeat_every = match welcome.ok().flatten().map(|bytes| decode(&bytes)) {
            Some(Ok(ToAgent::Welcome { heartbeat_every, .. })) => heartbeat_every,
            Some(Ok(ToAgent::Refused(why)) | Err(why)) => return Err(failed(why)),
            _ => return Err(failed("not welcomed".to_owned())),
        };
        Ok(Self {
            number,
            _client: client,
            outbound,
            inbound,
            heartbeat_every,
            running: BTreeSet::new(),
            sequence: 0,
            report,
            clock: SystemClock::new(),
        })
    }

    async fn run(mut self) {
        let mut heartbeat = pace(self.heartbeat_every);
        loop {
            // Either arm may be dropped: a message stays in its channel, a tick comes again.
            let goes_on = tokio::select! {
                message = self.inbound.recv() => match message {
                    Some(bytes) => {
                        let before = self.heartbeat_every;
                        let goes_on = self.hear(&bytes).await;
                        if before != self.heartbeat_every {
                            heartbeat = pace(self.heartbeat_every);
                        }
                        goes_on
                    }
                    None => false,
                },
                _ = heartbeat.tick() => self.outbound.send(encode(&ToServer::Heartbeat)).await.is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Takes a message. False ends the node.
    async fn hear(&mut self, bytes: &[u8]) -> bool {
        let at = Instant::now();
        // On real machines every agent reads the catalog by itself; here one process would do it
        // for all, and be what is measured.
        if bytes.starts_with(WHOLE_CATALOG) {
            return true;
        }
        if bytes.starts_with(CATALOG_NEWS) {
            // Only who measures changes takes these; for others the channel fills, and stays full.
            let _ = self.report.changed.try_send(at);
            return true;
        }
        let allocs = match decode(bytes) {
            Ok(ToAgent::Desired { allocs, .. }) => allocs,
            Ok(ToAgent::Refused(_)) | Err(_) => return false,
            Ok(ToAgent::Welcome { heartbeat_every, .. }) => {
                self.heartbeat_every = heartbeat_every;
                return true;
            }
            Ok(_) => return true,
        };
        let updates: Vec<AllocUpdate> =
            allocs.iter().filter_map(|alloc| self.obey(alloc)).collect();
        if updates.is_empty() {
            return true;
        }
        let node = self.number;
        let started =
            updates.iter().filter(|update| update.client_status == ClientStatus::Running).count();
        self.sequence += 1;
        let message = ToServer::Allocs { sequence: self.sequence, updates };
        if self.outbound.send(encode(&message)).await.is_err() {
            return false;
        }
        for _ in 0..started {
            if self.report.started.send(Started { node, at }).await.is_err() {
                return false;
            }
        }
        true
    }

    fn obey(&mut self, alloc: &Arc<Allocation>) -> Option<AllocUpdate> {
        let should_run = alloc.desired == DesiredStatus::Run;
        let (status, phase) = match (should_run, self.running.contains(&alloc.id)) {
            (true, false) => (ClientStatus::Running, TaskPhase::Running),
            (false, true) => (ClientStatus::Complete, TaskPhase::Dead),
            _ => return None,
        };
        if should_run {
            self.running.insert(alloc.id);
        } else {
            self.running.remove(&alloc.id);
        }
        let now = Timestamp(self.clock.unix_nanos());
        let state = TaskState {
            phase,
            failed: false,
            restarts: 0,
            last_restart: Timestamp::NEVER,
            started_at: now,
            finished_at: if should_run { Timestamp::NEVER } else { now },
            events: Vec::new(),
        };
        let tasks = alloc.tasks.keys().map(|task| (task.clone(), state.clone())).collect();
        Some(AllocUpdate {
            id: alloc.id,
            client_status: status,
            client_description: String::new(),
            task_states: tasks,
            health: None,
        })
    }
}

/// A machine of usual size, with the facts that placement looks at.
fn node(number: usize) -> Node {
    let [.., high, low] = number.to_be_bytes();
    let address = format!("127.1.{high}.{low}");
    let driver = DriverState {
        detected: true,
        healthy: true,
        description: "Healthy".to_owned(),
        attributes: BTreeMap::new(),
    };
    let attributes = [
        ("kernel.name", "linux"),
        ("cpu.arch", "amd64"),
        ("cpu.numcores", "16"),
        ("driver.raw_exec", "1"),
    ];
    Node {
        id: NodeId::from_bits(entropy::draw()),
        secret: NodeId::from_bits(entropy::draw()),
        name: format!("bench-node-{number}"),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: String::new(),
        http_address: format!("{address}:4646"),
        address,
        capacity: Resources { cpu_mhz: 40_000, memory_mib: 65_536, disk_mib: 500_000 },
        reserved: Resources::default(),
        cores: 16,
        min_dynamic_port: 20_000,
        max_dynamic_port: 32_000,
        reserved_ports: Vec::new(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        meta: BTreeMap::from([("rack".to_owned(), format!("r{}", number % 50))]),
        drivers: BTreeMap::from([("raw_exec".to_owned(), driver)]),
        host_volumes: BTreeMap::new(),
        status: NodeStatus::Initializing,
        eligible: true,
        drain: None,
        status_updated_at: Timestamp::NEVER,
        events: Vec::new(),
        create_index: 0,
        modify_index: 0,
    }
}

fn encode(message: &ToServer) -> Bytes {
    rmp_serde::to_vec_named(message)
        .expect("plain data with text keys always has a MessagePack form")
        .into()
}

fn decode(bytes: &[u8]) -> Result<ToAgent, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_the_catalog_are_known_by_how_they_begin() {
        let encode = |message: ToAgent| rmp_serde::to_vec_named(&message).unwrap();
        let all = encode(ToAgent::CatalogAll(Box::default()));
        assert!(all.starts_with(WHOLE_CATALOG));
        assert!(encode(ToAgent::CatalogChanged(Vec::new())).starts_with(CATALOG_NEWS));
    }
}

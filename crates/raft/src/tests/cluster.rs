//! A group in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::Disk;
use cos_platform::disk::MemoryDisk;

use crate::log::Layout;
use crate::raft::Disks;
use crate::{
    Config, Encode, Raft, Recovery, StartError, StateMachine, Timings, Transport, TransportError,
};

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SNAPSHOT_ENTRIES: u32 = 16;

pub(super) const TIMINGS: Timings = Timings {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_millis(150),
    election_max: Duration::from_millis(300),
};

/// Waits for something that must happen.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it must not take that long")
}

/// What a machine has seen, visible from outside.
#[derive(Debug, Default)]
struct Seen {
    lines: Vec<String>,
    restored: u64,
}

/// Remembers payloads as lines of text.
struct Machine(Arc<Mutex<Seen>>);

impl StateMachine for Machine {
    fn apply(&mut self, entries: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let mut seen = self.0.lock().unwrap();
        let apply = |(index, payload): (u64, Bytes)| {
            let line = String::from_utf8(payload.into()).unwrap();
            let reply = format!("{line}@{index}");
            seen.lines.push(line);
            reply.into()
        };
        entries.into_iter().map(apply).collect()
    }

    fn snapshot(&self) -> Encode {
        let lines = self.0.lock().unwrap().lines.clone();
        Box::new(move || lines.join("\n").into_bytes())
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut seen = self.0.lock().unwrap();
        seen.lines = text.lines().map(str::to_owned).collect();
        seen.restored = index;
        Ok(())
    }
}

/// Who can be reached by whom.
#[derive(Debug, Default)]
struct Switch {
    servers: BTreeMap<ServerId, Raft>,
    isolated: BTreeSet<ServerId>,
}

struct Cable {
    from: ServerId,
    switch: Arc<Mutex<Switch>>,
}

#[async_trait]
impl Transport for Cable {
    async fn send(
        &self,
        target: ServerId,
        _address: &str,
        method: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let peer = {
            let switch = self.switch.lock().unwrap();
            let cut = switch.isolated.contains(&self.from) || switch.isolated.contains(&target);
            switch.servers.get(&target).filter(|_| !cut).cloned()
        };
        let peer = peer.ok_or_else(|| TransportError::Unreachable("no cable".to_owned()))?;
        match tokio::time::timeout(timeout, peer.handle(method, body)).await {
            Ok(answer) => answer.map_err(|error| TransportError::Failed(error.to_string())),
            Err(_) => Err(TransportError::Failed("no answer in time".to_owned())),
        }
    }
}

struct Server {
    id: ServerId,
    raft: Option<Raft>,
    seen: Arc<Mutex<Seen>>,
    log: MemoryDisk,
    snapshots: MemoryDisk,
}

pub(super) struct Cluster {
    timings: Timings,
    switch: Arc<Mutex<Switch>>,
    servers: Vec<Server>,
}

impl Cluster {
    pub(super) async fn alone() -> Self {
        let cluster = Self::of(1).await;
        cluster.leader().await;
        cluster
    }

    pub(super) async fn of(count: usize) -> Self {
        Self::with(count, TIMINGS).await
    }

    /// A group that waits this long before it believes that its leader is lost.
    pub(super) async fn with(count: usize, timings: Timings) -> Self {
        let mut cluster = Self { timings, switch: Arc::default(), servers: Vec::new() };
        for _ in 0..count {
            cluster.join().await;
        }
        let members: BTreeMap<_, _> = (0..count).map(|server| cluster.address(server)).collect();
        // All at once, as servers that wait for each other do.
        let founded = (0..count).map(|server| cluster.server(server).initialize(members.clone()));
        for outcome in futures_util::future::join_all(founded).await {
            outcome.unwrap();
        }
        cluster
    }

    /// Starts one more server that belongs to no group yet.
    pub(super) async fn join(&mut self) -> usize {
        let position = self.servers.len();
        self.servers.push(Server {
            id: ServerId::from_bits(position as u128 + 1),
            raft: None,
            seen: Arc::default(),
            log: MemoryDisk::new(),
            snapshots: MemoryDisk::new(),
        });
        self.restart(position).await;
        position
    }

    pub(super) async fn restart(&mut self, server: usize) {
        self.try_restart(server).await.unwrap();
    }

    pub(super) async fn try_restart(&mut self, server: usize) -> Result<(), StartError> {
        self.try_recover(server, None).await
    }

    /// Starts a server, perhaps as one of what is left of the group.
    pub(super) async fn try_recover(
        &mut self,
        server: usize,
        recover: Option<Recovery>,
    ) -> Result<(), StartError> {
        let (id, address) = self.address(server);
        let timings = self.timings;
        let server = &mut self.servers[server];
        server.seen = Arc::default();
        let disks = Disks {
            log: Arc::new(server.log.clone()),
            snapshots: Arc::new(server.snapshots.clone()),
        };
        let mut config = Config::new(id, address, "unused");
        config.timings = timings;
        config.snapshot_entries = SNAPSHOT_ENTRIES.into();
        config.recover = recover;
        let machine = Box::new(Machine(Arc::clone(&server.seen)));
        let cable = Arc::new(Cable { from: id, switch: Arc::clone(&self.switch) });
        let layout = Layout { segment_bytes: 2048 };
        let raft = Raft::start_on(disks, layout, config, machine, cable).await?;
        self.switch.lock().unwrap().servers.insert(id, raft.clone());
        server.raft = Some(raft);
        Ok(())
    }

    /// Takes the power away.
    pub(super) async fn kill(&mut self, server: usize) {
        let server = &mut self.servers[server];
        self.switch.lock().unwrap().servers.remove(&server.id);
        (server.log, server.snapshots) = (server.log.crashed(), server.snapshots.crashed());
        let raft = server.raft.take().expect("it runs");
        within(raft.shutdown()).await;
    }

    pub(super) fn isolate(&self, server: usize) {
        self.switch.lock().unwrap().isolated.insert(self.servers[server].id);
    }

    pub(super) fn reconnect(&self, server: usize) {
        self.switch.lock().unwrap().isolated.remove(&self.servers[server].id);
    }

    pub(super) fn break_disk(&self, server: usize) {
        self.servers[server].log.break_syncs();
    }

    pub(super) fn lose_snapshots(&self, server: usize) {
        let disk = &self.servers[server].snapshots;
        for name in disk.names().unwrap() {
            disk.remove(&name).unwrap();
        }
    }

    pub(super) fn server(&self, server: usize) -> &Raft {
        self.servers[server].raft.as_ref().expect("it runs")
    }

    pub(super) fn address(&self, server: usize) -> (ServerId, String) {
        let id = self.servers[server].id;
        (id, format!("server-{server}"))
    }

    /// The lines that a server's machine has seen.
    pub(super) fn state(&self, server: usize) -> Vec<String> {
        self.servers[server].seen.lock().unwrap().lines.clone()
    }

    /// The index of the snapshot that a server's machine got last.
    pub(super) fn restored(&self, server: usize) -> u64 {
        self.servers[server].seen.lock().unwrap().restored
    }

    pub(super) async fn propose(&self, server: usize, line: &str) -> u64 {
        let proposal = self.server(server).propose(Bytes::from(line.to_owned()));
        let (index, reply) = within(proposal).await.unwrap();
        assert_eq!(reply, format!("{line}@{index}"));
        index
    }

    /// Waits until all servers that run agree on a leader that runs.
    pub(super) async fn leader(&self) -> usize {
        self.leader_among(&(0..self.servers.len()).collect::<Vec<_>>()).await
    }

    pub(super) async fn leader_other_than(&self, old: usize) -> usize {
        let others: Vec<usize> = (0..self.servers.len()).filter(|server| *server != old).collect();
        self.leader_among(&others).await
    }

    async fn leader_among(&self, servers: &[usize]) -> usize {
        let running = servers.iter().filter(|server| self.servers[**server].raft.is_some());
        let elected = running.map(|server| {
            let raft = self.server(*server);
            Box::pin(async move {
                let mut metrics = raft.metrics();
                metrics.wait_for(|now| now.is_leader).await.unwrap();
                *server
            })
        });
        within(futures_util::future::select_all(elected)).await.0
    }

    pub(super) async fn applied_everywhere(&self, index: u64) {
        for server in self.servers.iter().filter_map(|server| server.raft.as_ref()) {
            server.wait_applied(index, PATIENCE).await.unwrap();
        }
    }

    /// Waits until a server's log no longer has this entry.
    pub(super) async fn purged(&self, server: usize, index: u64) {
        let mut metrics = self.server(server).metrics();
        within(metrics.wait_for(|now| now.purged_index >= index)).await.unwrap();
    }

    pub(super) async fn stop(mut self) {
        for server in &mut self.servers {
            if let Some(raft) = server.raft.take() {
                self.switch.lock().unwrap().servers.remove(&server.id);
                within(raft.shutdown()).await;
            }
        }
    }
}

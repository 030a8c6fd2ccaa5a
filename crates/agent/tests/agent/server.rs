//! A server that the test plays over the real protocol: it hands out what the test desires, keeps a
//! catalog and keys, and remembers what agents report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::catalog::{Catalog, CatalogChange, CatalogNode, ServiceInstance};
use cos_model::kv::KvEntry;
use cos_model::link::{AllocUpdate, Answer, Query, ToAgent, ToServer};
use cos_model::{AllocId, Allocation};
use cos_platform::rpc::{Peer, RpcError, Security, Service, serve};
use cos_platform::{Fate, Tasks};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// How long a test waits for something to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) catalog: Arc<Mutex<Catalog>>,
    pub(crate) changed: watch::Sender<u64>,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    index: u64,
    desired: BTreeMap<AllocId, Arc<Allocation>>,
    reports: BTreeMap<AllocId, AllocUpdate>,
    changes: Vec<CatalogChange>,
    keys: BTreeMap<String, KvEntry>,
    queries: usize,
    agent: Option<mpsc::Sender<Bytes>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap().to_string(),
            catalog: Arc::default(),
            changed: watch::Sender::new(0),
            world: Arc::default(),
        };
        let tasks = Tasks::new();
        let (service, serving) = (server.clone(), tasks.clone());
        tasks.spawn("server", Fate::Ends, async move {
            serve(listener, Arc::new(service), Security::Plain, &serving).await;
        });
        server
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Says what the agent shall run.
    pub(crate) async fn desire(&self, complete: bool, allocs: Vec<Arc<Allocation>>) {
        let (agent, message) = {
            let mut world = self.world();
            world.index += 1;
            if complete {
                world.desired.clear();
            }
            for alloc in &allocs {
                world.desired.insert(alloc.id, Arc::clone(alloc));
            }
            let generation = world.index;
            let removed = Vec::new();
            (world.agent.clone(), ToAgent::Desired { generation, complete, allocs, removed })
        };
        if let Some(agent) = agent {
            agent.send(encode(&message)).await.unwrap();
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !condition(self) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it happens in time");
    }

    pub(crate) fn report(&self, number: u128) -> Option<AllocUpdate> {
        self.world().reports.get(&AllocId::from_bits(number)).cloned()
    }

    pub(crate) fn catalog(&self) -> Catalog {
        self.catalog.lock().unwrap().clone()
    }

    pub(crate) fn changes(&self) -> Vec<CatalogChange> {
        self.world().changes.clone()
    }

    pub(crate) fn queries(&self) -> usize {
        self.world().queries
    }

    pub(crate) fn put_key(&self, key: &str, value: &str) {
        {
            let mut world = self.world();
            world.index += 1;
            let index = world.index;
            let entry = KvEntry {
                key: key.to_owned(),
                value: value.as_bytes().to_vec(),
                flags: 0,
                lock_index: 0,
                session: None,
                create_index: index,
                modify_index: index,
            };
            world.keys.insert(key.to_owned(), entry);
        }
        self.tell();
    }

    /// Puts a service on the agent's node that no agent put there.
    pub(crate) fn put_stale_service(&self, id: &str) {
        let service = ServiceInstance {
            node: Arc::from("node"),
            id: Arc::from(id),
            name: Arc::from("stale"),
            tags: Vec::new(),
            address: String::new(),
            port: 1,
            meta: BTreeMap::new(),
            tagged_addresses: BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        };
        let mut catalog = self.catalog.lock().unwrap();
        catalog.apply(1, &CatalogChange::PutNode(node("node"))).unwrap();
        catalog.apply(1, &CatalogChange::PutService(service)).unwrap();
    }

    /// Answers one message of the agent.
    fn answer(&self, message: ToServer) -> Vec<ToAgent> {
        match message {
            ToServer::Hello { node: agent } => {
                let mut catalog = self.catalog.lock().unwrap();
                catalog.apply(1, &CatalogChange::PutNode(node(&agent.name))).unwrap();
                let world = self.world();
                let heartbeat_every = Duration::from_secs(1);
                vec![
                    ToAgent::Welcome {
                        heartbeat_every,
                        reconnect_spread: Duration::ZERO,
                        servers: Vec::new(),
                    },
                    ToAgent::CatalogAll(Box::new(catalog.clone())),
                    ToAgent::Desired {
                        generation: world.index,
                        complete: true,
                        allocs: world.desired.values().cloned().collect(),
                        removed: Vec::new(),
                    },
                ]
            }
            ToServer::NodeChanged { .. } | ToServer::Heartbeat | ToServer::Leaving => Vec::new(),
            ToServer::Allocs { sequence, updates } => {
                let mut world = self.world();
                world.reports.extend(updates.into_iter().map(|update| (update.id, update)));
                vec![ToAgent::Done { sequence, refused: BTreeMap::new() }]
            }
            ToServer::Catalog { sequence, changes } => {
                let mut catalog = self.catalog.lock().unwrap();
                let mut world = self.world();
                world.index += 1;
                let index = world.index;
                let mut refused = BTreeMap::new();
                let mut applied = Vec::new();
                for (position, change) in (0..).zip(changes) {
                    match catalog.apply(index, &change) {
                        Ok(_) => applied.push((index, change.clone())),
                        Err(error) => {
                            refused.insert(position, error.to_string());
                        }
                    }
                    world.changes.push(change);
                }
                vec![ToAgent::CatalogChanged(applied), ToAgent::Done { sequence, refused }]
            }
        }
    }
}

fn node(name: &str) -> CatalogNode {
    CatalogNode {
        name: Arc::from(name),
        id: String::new(),
        address: "127.0.0.1".to_owned(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    }
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    Bytes::from(rmp_serde::to_vec_named(message).unwrap())
}

#[async_trait]
impl Service for Server {
    async fn call(&self, _: &Peer, _: &str, body: Bytes) -> Result<Bytes, RpcError> {
        let Query::Kv { key, after, wait, .. } = rmp_serde::from_slice(&body).unwrap();
        let find = || self.world().keys.get(&key).cloned();
        self.world().queries += 1;
        self.tell();
        let mut changed = self.changed.subscribe();
        let news = async {
            while find().is_none_or(|entry| entry.modify_index <= after) {
                changed.changed().await.unwrap();
            }
        };
        if after > 0 {
            tokio::time::timeout(wait, news).await.ok();
        }
        let entries: Vec<KvEntry> = find().into_iter().collect();
        let index = entries.iter().map(|entry| entry.modify_index).max().unwrap_or(1);
        Ok(encode(&Answer::Kv { index, entries }))
    }

    async fn stream(
        &self,
        _: &Peer,
        _: &str,
        mut inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        self.world().agent = Some(outbound.clone());
        while let Some(bytes) = inbound.recv().await {
            for message in self.answer(rmp_serde::from_slice(&bytes).unwrap()) {
                if outbound.send(encode(&message)).await.is_err() {
                    return Ok(());
                }
            }
            self.tell();
        }
        Ok(())
    }
}

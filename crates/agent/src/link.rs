//! The agent's connection to the servers: one stream, to one server at a time.
//!
//! It keeps the stream up, turns from server to server when one does not answer, sends heartbeats,
//! reports and catalog changes, and hands on what the servers want. What it last heard of the
//! catalog stays readable while no server answers.
//!
//! # Invariants
//!
//! - **The newest report wins.** Reports are kept by allocation until a server says that they were
//!   committed, and sent again over a new stream otherwise.
//! - **One report in flight.** What comes meanwhile is coalesced into the next.
//! - **Nobody waits for ever.** A catalog change is answered, if only with "no server".
//!
//! # Deliberately absent
//!
//! - What to do with desired allocations; see `reconcile`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::catalog::{Catalog, CatalogChange};
use cos_model::link::{AllocUpdate, Answer, Query, ServerAddress};
use cos_model::{AllocId, Node, NodeId};
use cos_platform::rpc::{Client, RpcError};
use cos_platform::{Fate, Tasks};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::checks::CatalogSink;
use crate::reconcile::Desired;
use crate::store::Identity;

mod connection;
mod session;
#[cfg(test)]
mod tests;

/// How many requests wait for the stream.
const REQUESTS_MAX: usize = 256;

/// How many desired sets wait for the agent.
const DESIRED_MAX: usize = 64;

/// How long a catalog change may take in all.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time over which agents spread their return, whatever a server says.
const RECONNECT_SPREAD_MAX: Duration = Duration::from_secs(30);

/// How much longer than its own wait a query may take.
const QUERY_SLACK: Duration = Duration::from_secs(5);

/// Why the servers could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No server is connected.
    #[error("no server is connected")]
    Disconnected,
    /// No answer came in time.
    #[error("the servers did not answer in time")]
    Timeout,
    /// The server answered that it will not.
    #[error("{0}")]
    Refused(String),
}

/// What the link needs to begin.
#[derive(Debug)]
pub struct Options {
    /// `host:port` of servers to begin with.
    pub servers: Vec<String>,
    /// Who this node is.
    pub identity: Identity,
    /// The node as it is now.
    pub node: watch::Receiver<Arc<Node>>,
    /// The catalog to begin with, as an earlier agent last knew it.
    pub catalog: Catalog,
    /// The protocol's client.
    pub client: Client,
}

/// A handle to the link.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<Shared>,
    catalog: watch::Receiver<Arc<Catalog>>,
    servers: watch::Receiver<Vec<ServerAddress>>,
    connected: watch::Receiver<bool>,
}

/// What handles and the connection share.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    client: Client,
    requests: mpsc::Sender<ChangeRequest>,
    reports: Mutex<BTreeMap<AllocId, AllocUpdate>>,
    reported: Notify,
    first_servers: Vec<String>,
    /// This agent's copy of the catalog.
    copy: Arc<watch::Sender<Arc<Catalog>>>,
    /// Over how long this cluster's agents spread their return, in microseconds.
    spread_micros: AtomicU64,
}

/// Changes of the catalog and where the answer goes.
#[derive(Debug)]
struct ChangeRequest {
    changes: Vec<CatalogChange>,
    reply: oneshot::Sender<Result<BTreeMap<u32, String>, LinkError>>,
}

/// What the connection publishes.
#[derive(Debug)]
struct Published {
    catalog: Arc<watch::Sender<Arc<Catalog>>>,
    servers: watch::Sender<Vec<ServerAddress>>,
    connected: watch::Sender<bool>,
    desired: mpsc::Sender<Desired>,
}

impl Link {
    /// Starts the link. Desired allocations come out of the receiver.
    pub fn start(options: Options, tasks: &Tasks) -> (Self, mpsc::Receiver<Desired>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (desired, desired_inbox) = mpsc::channel(DESIRED_MAX);
        let (catalog_sender, catalog) = watch::channel(Arc::new(options.catalog));
        let catalog_sender = Arc::new(catalog_sender);
        let (servers_sender, servers) = watch::channel(Vec::new());
        let (connected_sender, connected) = watch::channel(false);
        let shared = Arc::new(Shared {
            identity: options.identity,
            client: options.client,
            requests,
            reports: Mutex::default(),
            reported: Notify::new(),
            first_servers: options.servers,
            copy: Arc::clone(&catalog_sender),
            spread_micros: AtomicU64::new(0),
        });
        let published = Published {
            catalog: catalog_sender,
            servers: servers_sender,
            connected: connected_sender,
            desired,
        };
        let work =
            connection::run(Arc::clone(&shared), published, options.node, inbox, tasks.stopping());
        tasks.spawn("server link", Fate::Vital, work);
        (Self { shared, catalog, servers, connected }, desired_inbox)
    }

    /// Reports an allocation. Returns at once.
    pub fn report(&self, update: AllocUpdate) {
        self.shared.reports().insert(update.id, update);
        self.shared.reported.notify_one();
    }

    /// Whether reports wait or are in flight is not told; this returns the allocations whose
    /// reports have not been sent.
    pub fn unreported(&self) -> Vec<AllocId> {
        self.shared.reports().keys().copied().collect()
    }

    /// The catalog as last heard.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// The servers as last heard, the connected one first.
    pub fn servers(&self) -> watch::Receiver<Vec<ServerAddress>> {
        self.servers.clone()
    }

    /// Whether a server is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Commits changes of the catalog. Returns, by position, what was refused.
    ///
    /// While no server is connected they are made in this agent's own copy, so that its DNS and its
    /// ingress know at least of what happens here, and the caller is told that nobody else knows.
    /// The next server's catalog replaces the copy, and whoever wants the changes finds them
    /// missing there.
    pub async fn change(
        &self,
        changes: Vec<CatalogChange>,
    ) -> Result<BTreeMap<u32, String>, LinkError> {
        if !*self.connected.borrow() {
            self.shared.change_copy(&changes);
            return Err(LinkError::Disconnected);
        }
        let (reply, answer) = oneshot::channel();
        let request = ChangeRequest { changes, reply };
        if self.shared.requests.send(request).await.is_err() {
            return Err(LinkError::Disconnected);
        }
        match tokio::time::timeout(CHANGE_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(LinkError::Disconnected),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    /// Reads keys, waiting for a change if `after` is not zero. Asks one server after another.
    pub async fn keys(
        &self,
        key: &str,
        recurse: bool,
        after: u64,
        wait: Duration,
    ) -> Result<Answer, LinkError> {
        let Identity { node, secret } = self.shared.identity;
        let node: (NodeId, NodeId) = (node, secret);
        let query = Query::Kv { key: key.to_owned(), recurse, after, wait, node };
        let body = Bytes::from(session::encode(&query));
        let known: Vec<String> = self.servers.borrow().iter().map(|s| s.rpc.clone()).collect();
        let addresses = if known.is_empty() { &self.shared.first_servers } else { &known };
        let mut last = LinkError::Disconnected;
        for address in addresses {
            let timeout = wait + QUERY_SLACK;
            match self.shared.client.call(address, "agent.query", body.clone(), timeout).await {
                Ok(answer) => match rmp_serde::from_slice(&answer) {
                    Ok(Answer::Error(why)) => last = LinkError::Refused(why),
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = LinkError::Refused(error.to_string()),
                },
                Err(RpcError::Timeout) => last = LinkError::Timeout,
                Err(error) => last = LinkError::Refused(error.to_string()),
            }
        }
        Err(last)
    }
}

#[async_trait]
impl CatalogSink for Link {
    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, String> {
        Self::change(self, changes).await.map_err(|error| error.to_string())
    }
}

impl Shared {
    fn reports(&self) -> std::sync::MutexGuard<'_, BTreeMap<AllocId, AllocUpdate>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes this agent's own copy of the catalog only.
    fn change_copy(&self, changes: &[CatalogChange]) {
        self.copy.send_if_modified(|catalog| {
            let mut changed = Catalog::clone(catalog);
            let index = changed.index();
            let mut is_changed = false;
            for change in changes {
                // What the copy does not know cannot be changed there.
                is_changed |= changed.apply(index, change).unwrap_or(false);
            }
            if is_changed {
                *catalog = Arc::new(changed);
            }
            is_changed
        });
    }

    fn spread(&self) -> Duration {
        Duration::from_micros(self.spread_micros.load(Ordering::Relaxed))
    }

    fn set_spread(&self, spread: Duration) {
        let spread = spread.min(RECONNECT_SPREAD_MAX);
        let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
        self.spread_micros.store(micros, Ordering::Relaxed);
    }

    /// Takes everything that waits to be reported.
    fn take_reports(&self) -> BTreeMap<AllocId, AllocUpdate> {
        std::mem::take(&mut *self.reports())
    }

    /// Puts back what was not committed, unless something newer waits.
    fn put_back(&self, unsent: BTreeMap<AllocId, AllocUpdate>) {
        let mut reports = self.reports();
        for (id, update) in unsent {
            reports.entry(id).or_insert(update);
        }
    }
}

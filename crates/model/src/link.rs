//! What an agent and its server say to each other on the agent's one stream, and what a client
//! agent asks of a server beside it.
//!
//! Desired state flows down with a generation, observed state flows up; either side may repeat
//! itself, and a repeated or older message changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::allocation::{Allocation, ClientStatus, TaskState};
use crate::catalog::{Catalog, CatalogChange};
use crate::id::{AllocId, DeploymentId, NodeId};
use crate::kv::KvEntry;
use crate::node::Node;

/// What an agent reports of one allocation. Complete: the newest report replaces all before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocUpdate {
    /// The allocation.
    pub id: AllocId,
    /// What happens with it.
    pub client_status: ClientStatus,
    /// Why, in words.
    pub client_description: String,
    /// What happens with each task.
    pub task_states: BTreeMap<String, TaskState>,
    /// The rollout and whether it is healthy in it, once that is known.
    pub health: Option<(DeploymentId, bool)>,
}

/// From an agent to its server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToServer {
    /// The first message: registers the node and asks for its desired allocations.
    Hello {
        /// The node as it is now, secret included.
        node: Box<Node>,
    },
    /// The node's facts changed.
    NodeChanged {
        /// The node as it is now.
        node: Box<Node>,
    },
    /// The agent is alive.
    Heartbeat,
    /// The agent stops, its tasks go on, and it means to be back soon. The last message.
    Leaving,
    /// Allocations changed.
    Allocs {
        /// Counts the reports of this stream, for the acknowledgement.
        sequence: u64,
        /// What changed.
        updates: Vec<AllocUpdate>,
    },
    /// Changes of the catalog that this agent is responsible for.
    Catalog {
        /// Counts the requests of this stream, for the acknowledgement.
        sequence: u64,
        /// The changes, applied in order; one that is refused does not stop the others.
        changes: Vec<CatalogChange>,
    },
}

/// From a server to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The answer to `Hello`, and again when the pace changes.
    Welcome {
        /// How often to send a heartbeat at least.
        heartbeat_every: Duration,
        /// Over how long agents spread their return when they lose this server.
        #[serde(default)]
        reconnect_spread: Duration,
        /// Where the servers are, this one first.
        servers: Vec<ServerAddress>,
    },
    /// The servers changed.
    Servers(Vec<ServerAddress>),
    /// Desired allocations.
    Desired {
        /// The state index they come from; an agent ignores anything older than what it has.
        generation: u64,
        /// Whether this is everything; then what is absent must be stopped and forgotten.
        complete: bool,
        /// Allocations that changed by the scheduler's will. Sent with each job once.
        #[serde(with = "crate::stored")]
        allocs: Vec<Arc<Allocation>>,
        /// Allocations that were collected as garbage.
        removed: Vec<AllocId>,
    },
    /// The whole catalog.
    CatalogAll(Box<Catalog>),
    /// Changes of the catalog since the last message, each with its index.
    CatalogChanged(Vec<(u64, CatalogChange)>),
    /// `Allocs` or `Catalog` with this sequence number was committed.
    Done {
        /// The number.
        sequence: u64,
        /// For `Catalog`, what was refused, by position in the request.
        refused: BTreeMap<u32, String>,
    },
    /// The node is not who it says, or may not register; the words say why.
    Refused(String),
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerAddress {
    /// Its name.
    pub name: String,
    /// `host:port` of the cluster's own protocol.
    pub rpc: String,
    /// `host:port` of the HTTP API.
    pub http: String,
    /// `host:port` of the Consul dialect; empty if it is off.
    pub consul_http: String,
}

/// A question of a client agent to a server, beside the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// Reads keys that begin so, or exactly one.
    Kv {
        /// The key or the beginning.
        key: String,
        /// Whether all keys below are wanted.
        recurse: bool,
        /// Answer only when something changed after this index, or `wait` passed.
        after: u64,
        /// The longest wait.
        wait: Duration,
        /// The asking node and its secret.
        node: (NodeId, NodeId),
    },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Keys, in order.
    Kv {
        /// The index to wait after next.
        index: u64,
        /// What was found.
        entries: Vec<KvEntry>,
    },
    /// Why there is no answer.
    Error(String),
}

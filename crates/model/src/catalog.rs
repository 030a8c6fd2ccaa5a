//! The catalog: which nodes and service instances exist, and how healthy they are.
//!
//! One type serves everybody. The state machine holds it as a table; servers push its changes to
//! every agent, which apply them to a copy with the same code; DNS, ingress and the Consul dialect
//! read either alike. A copy is cheap to clone: its maps are persistent.
//!
//! # Invariants
//!
//! - A check or service belongs to a node that is in the catalog.
//! - A change that changes nothing leaves every index as it was.
//! - `service_index` of a name is at least the `modify_index` of each of its instances and checks,
//!   and is remembered after the last instance left, so that no reader misses the departure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

mod apply;
mod query;
mod stored;

pub use query::Instance;

/// Where a check, an instance or a node stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Health {
    /// Good.
    Passing,
    /// Good enough.
    Warning,
    /// Bad; handed out to nobody.
    #[default]
    Critical,
}

/// A machine in the catalog: every agent, server or client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogNode {
    /// Its name, unique in the catalog.
    pub name: Arc<str>,
    /// An id in UUID text; empty if registered by hand.
    pub id: String,
    /// Its address.
    pub address: String,
    /// Named addresses.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Free facts.
    pub meta: BTreeMap<String, String>,
    /// Index of the registration.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

/// One instance of a service on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceInstance {
    /// The node it is on.
    pub node: Arc<str>,
    /// Unique on the node.
    pub id: Arc<str>,
    /// The service's name.
    pub name: Arc<str>,
    /// Tags, such as `urlprefix-/ping`.
    pub tags: Vec<String>,
    /// Its own address; empty means the node's.
    pub address: String,
    /// Its port; zero if it has none.
    pub port: u16,
    /// Free facts.
    pub meta: BTreeMap<String, String>,
    /// Named addresses with ports.
    pub tagged_addresses: BTreeMap<String, (String, u16)>,
    /// Weight while passing.
    pub weight_passing: u32,
    /// Weight while warning.
    pub weight_warning: u32,
    /// Whether tags set in the catalog win over the agent's.
    pub enable_tag_override: bool,
    /// Index of the registration.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

/// A check of a node or of one of its services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogCheck {
    /// The node it is on.
    pub node: Arc<str>,
    /// Unique on the node.
    pub id: Arc<str>,
    /// Shown name.
    pub name: String,
    /// How it stands.
    pub status: Health,
    /// Free words.
    pub notes: String,
    /// What the last run said.
    pub output: String,
    /// The service it belongs to; empty for a check of the node.
    pub service_id: Arc<str>,
    /// That service's name.
    pub service_name: Arc<str>,
    /// How the node's agent runs it; absent if somebody else reports it.
    pub definition: Option<CheckDefinition>,
    /// Index of the registration.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

/// How an agent runs a check of a service that registered itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// What is asked.
    pub probe: Probe,
    /// Time between two runs.
    pub interval: Duration,
    /// When an unanswered run counts as failed.
    pub timeout: Duration,
    /// How long the check may be critical before its service is deregistered; zero is for ever.
    pub deregister_after: Duration,
    /// Successes in a row before passing.
    pub success_before_passing: u32,
    /// Failures in a row before critical.
    pub failures_before_critical: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Probe {
    /// The service must report in time.
    Ttl(Duration),
    /// An HTTP request; 2xx passes, 429 warns.
    Http {
        /// The whole address.
        url: String,
        /// The method.
        method: String,
        /// Request headers.
        header: BTreeMap<String, Vec<String>>,
        /// Request body.
        body: String,
        /// Whether a wrong certificate is accepted.
        tls_skip_verify: bool,
    },
    /// A connection to `host:port` that opens.
    Tcp(String),
    /// A program with arguments; exit 0 passes, 1 warns. Run in the task named by `alloc/task`
    /// if `target` is set, else on the host.
    Script {
        /// Program and arguments.
        args: Vec<String>,
        /// `alloc/task`, or empty.
        target: String,
    },
}

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CatalogChange {
    /// Adds or replaces a node.
    PutNode(CatalogNode),
    /// Removes a node with everything on it.
    RemoveNode {
        /// Its name.
        node: Arc<str>,
    },
    /// Adds or replaces a service instance. The node must exist.
    PutService(ServiceInstance),
    /// Removes a service instance with its checks.
    RemoveService {
        /// The node's name.
        node: Arc<str>,
        /// The instance's id.
        id: Arc<str>,
    },
    /// Adds or replaces a check. The node must exist, and the service if one is named.
    PutCheck(CatalogCheck),
    /// Removes a check.
    RemoveCheck {
        /// The node's name.
        node: Arc<str>,
        /// The check's id.
        id: Arc<str>,
    },
    /// Changes a check's state.
    SetCheck {
        /// The node's name.
        node: Arc<str>,
        /// The check's id.
        id: Arc<str>,
        /// Its new state.
        status: Health,
        /// What the run said.
        output: String,
    },
}

/// Why a change was refused. Nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CatalogError {
    /// The node is not in the catalog.
    #[error("unknown node `{0}`")]
    UnknownNode(String),
    /// The node has no such service.
    #[error("unknown service ID `{id}` on node `{node}`")]
    UnknownService {
        /// The node's name.
        node: String,
        /// The id that was looked for.
        id: String,
    },
    /// The node has no such check.
    #[error("unknown check ID `{id}` on node `{node}`")]
    UnknownCheck {
        /// The node's name.
        node: String,
        /// The id that was looked for.
        id: String,
    },
}

/// The id of the check that says whether a node's agent is alive.
pub const ALIVE_CHECK: &str = "serfHealth";

/// A node's name and an id on it.
pub type NodeScoped = (Arc<str>, Arc<str>);

/// A key of three names, as the indexes of the catalog use it.
type NameTriple = (Arc<str>, Arc<str>, Arc<str>);

/// All nodes, service instances and checks, with an index per question that is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "stored::Stored", into = "stored::Stored")]
pub struct Catalog {
    index: u64,
    /// The index of the last change of a node.
    nodes_index: u64,
    /// The index of the last change of which names and tags there are, or on what kind of nodes.
    names_index: u64,
    nodes: OrdMap<Arc<str>, Arc<CatalogNode>>,
    services: OrdMap<NodeScoped, Arc<ServiceInstance>>,
    checks: OrdMap<NodeScoped, Arc<CatalogCheck>>,
    /// Instances by (service name, node, id).
    by_name: OrdMap<NameTriple, ()>,
    /// Checks by (node, service id, check id); the service id is empty for node checks.
    by_service: OrdMap<NameTriple, ()>,
    /// The index of the last change that concerns a service name.
    service_index: OrdMap<Arc<str>, u64>,
}

//! The node: a machine that runs tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::resources::Resources;
use crate::time::Timestamp;

/// A client node as it registered, and what the cluster knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which node this is; kept in its data directory.
    pub id: NodeId,
    /// A secret that only the node knows; it authenticates its stream.
    pub secret: NodeId,
    /// Shown name, and its name in the catalog.
    pub name: String,
    /// The datacenter it is in.
    pub datacenter: String,
    /// Its pool, `default` unless said otherwise.
    pub node_pool: String,
    /// A free class name.
    pub node_class: String,
    /// `host:port` of its HTTP API.
    pub http_address: String,
    /// The address at which its tasks are reached.
    pub address: String,
    /// What tasks may take in all: the machine less what is reserved.
    pub capacity: Resources,
    /// What is set aside for everything else, for display.
    pub reserved: Resources,
    /// Processor cores.
    pub cores: u32,
    /// First port of the dynamic range.
    pub min_dynamic_port: u16,
    /// Last port of the dynamic range.
    pub max_dynamic_port: u16,
    /// Ports no task may get.
    pub reserved_ports: Vec<u16>,
    /// Facts found on the machine, such as `kernel.name`.
    pub attributes: BTreeMap<String, String>,
    /// Facts given by the operator.
    pub meta: BTreeMap<String, String>,
    /// Drivers and how they are.
    pub drivers: BTreeMap<String, DriverState>,
    /// Host volumes, by name.
    pub host_volumes: BTreeMap<String, HostVolume>,
    /// Whether it can be reached.
    pub status: NodeStatus,
    /// Whether new work may be placed on it.
    pub eligible: bool,
    /// Set while it is being emptied.
    pub drain: Option<DrainState>,
    /// When `status` last changed.
    pub status_updated_at: Timestamp,
    /// What happened to it, newest last, ten at most.
    pub events: Vec<NodeEvent>,
    /// Index of the first registration.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

/// A driver on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverState {
    /// Whether what it needs was found.
    pub detected: bool,
    /// Whether it works now.
    pub healthy: bool,
    /// Why not, or "Healthy".
    pub description: String,
    /// Facts such as `driver.docker.version`.
    pub attributes: BTreeMap<String, String>,
}

/// A directory that the operator offers to tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostVolume {
    /// Path on the machine.
    pub path: String,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// Whether a node can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeStatus {
    /// Registered, first heartbeat to come.
    Initializing,
    /// Heartbeats arrive.
    Ready,
    /// Heartbeats stopped.
    Down,
    /// Heartbeats stopped, and a job there waits for the node to come back.
    Disconnected,
}

/// How a node is to be emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainSpec {
    /// How long instances may take; absent means no limit, zero means at once.
    pub deadline: Option<Duration>,
    /// Whether system jobs stay.
    pub ignore_system_jobs: bool,
}

/// A drain under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainState {
    /// What was asked.
    pub spec: DrainSpec,
    /// When it began.
    pub started_at: Timestamp,
    /// When everything left is stopped; never if there is no deadline.
    pub force_at: Timestamp,
}

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// When.
    pub at: Timestamp,
    /// `Cluster`, `Drain`, `Heartbeat`, `Driver`.
    pub subsystem: String,
    /// What, in words.
    pub message: String,
}

/// How many events a node keeps.
pub const NODE_EVENTS_MAX: usize = 10;

impl Node {
    /// Whether new work may be placed on it now.
    pub fn takes_work(&self) -> bool {
        self.status == NodeStatus::Ready && self.eligible && self.drain.is_none()
    }

    /// Appends an event and drops the oldest beyond [`NODE_EVENTS_MAX`].
    pub fn push_event(&mut self, event: NodeEvent) {
        self.events.push(event);
        let surplus = self.events.len().saturating_sub(NODE_EVENTS_MAX);
        self.events.drain(..surplus);
    }
}

impl NodeStatus {
    /// Whether nothing is heard of the node.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Down | Self::Disconnected)
    }

    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Disconnected => "disconnected",
        }
    }
}

//! What a group or task asks of the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One `network` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// `host` (also when empty), `none`, `bridge` or `cni/<name>`.
    pub mode: String,
    /// Ports to reserve, in the order of the file.
    pub ports: Vec<Port>,
    /// Bandwidth of old files; kept and shown, without effect.
    pub mbits: Option<u32>,
    /// Host name inside the network namespace.
    pub hostname: String,
    /// Name servers, search domains and options for `/etc/resolv.conf`.
    pub dns: Option<Dns>,
    /// Arguments for CNI plugins.
    pub cni_args: BTreeMap<String, String>,
}

/// A port that a group or task asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The name by which services and environment refer to it.
    pub label: String,
    /// A fixed host port. Zero asks for one from the node's dynamic range.
    pub host_port: u16,
    /// The port inside the task's network namespace: 0 is the host port for host mode, -1 always is.
    pub to: i32,
    /// The named host network on whose address the port is bound.
    pub host_network: String,
    /// Whether several instances may share the fixed port.
    pub ignore_collision: bool,
}

/// Name resolution inside a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

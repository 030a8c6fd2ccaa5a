//! The node, in lists and in full. Its secret never leaves.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;

use super::network::NetworkResource;
use super::{Time, nanos};

/// A node in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NodeStub {
    address: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<BTreeMap<String, String>>,
    datacenter: String,
    name: String,
    node_pool: String,
    node_class: String,
    version: String,
    drain: bool,
    scheduling_eligibility: &'static str,
    status: &'static str,
    status_description: &'static str,
    drivers: BTreeMap<String, Driver>,
    host_volumes: BTreeMap<String, HostVolume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_resources: Option<NodeResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_resources: Option<ReservedResources>,
    last_drain: Option<DrainMetadata>,
    create_index: u64,
    modify_index: u64,
}

/// What lists show of a node beyond the always shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StubFields {
    /// Whether resources are shown.
    pub(crate) resources: bool,
    /// Whether the attributes of the operating system are shown.
    pub(crate) os: bool,
}

impl NodeStub {
    /// Shows a node in a list.
    pub(crate) fn new(node: &model::Node, fields: StubFields) -> Self {
        let attribute = |name: &str| node.attributes.get(name).cloned().unwrap_or_default();
        let os = || BTreeMap::from([("os.name".to_owned(), attribute("os.name"))]);
        Self {
            address: node.address.clone(),
            id: node.id.to_string(),
            attributes: fields.os.then(os),
            datacenter: node.datacenter.clone(),
            name: node.name.clone(),
            node_pool: node.node_pool.clone(),
            node_class: node.node_class.clone(),
            version: attribute("nomad.version"),
            drain: node.drain.is_some(),
            scheduling_eligibility: eligibility(node),
            status: node.status.name(),
            status_description: "",
            drivers: drivers(node),
            host_volumes: host_volumes(node),
            node_resources: fields.resources.then(|| NodeResources::from(node)),
            reserved_resources: fields.resources.then(|| ReservedResources::from(node)),
            last_drain: last_drain(node),
            create_index: node.create_index,
            modify_index: node.modify_index,
        }
    }
}

/// A node in full.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names are Nomad's")]
pub(crate) struct Node {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "SecretID")]
    secret_id: &'static str,
    datacenter: String,
    name: String,
    cgroup_parent: &'static str,
    #[serde(rename = "HTTPAddr")]
    http_addr: String,
    #[serde(rename = "TLSEnabled")]
    tls_enabled: bool,
    attributes: BTreeMap<String, String>,
    resources: LegacyNodeResources,
    reserved: LegacyNodeResources,
    node_resources: NodeResources,
    reserved_resources: ReservedResources,
    links: BTreeMap<String, String>,
    meta: BTreeMap<String, String>,
    node_class: String,
    node_pool: String,
    computed_class: &'static str,
    drain: bool,
    drain_strategy: Option<DrainStrategy>,
    scheduling_eligibility: &'static str,
    status: &'static str,
    status_description: &'static str,
    status_updated_at: i64,
    events: Vec<NodeEvent>,
    drivers: BTreeMap<String, Driver>,
    host_volumes: BTreeMap<String, HostVolume>,
    host_networks: Option<()>,
    last_drain: Option<DrainMetadata>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    attributes: BTreeMap<String, String>,
    detected: bool,
    healthy: bool,
    health_description: String,
    update_time: Time,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostVolume {
    name: String,
    path: String,
    read_only: bool,
    #[serde(rename = "ID")]
    id: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct LegacyNodeResources {
    #[serde(rename = "CPU")]
    cpu: u64,
    #[serde(rename = "MemoryMB")]
    memory: u64,
    #[serde(rename = "DiskMB")]
    disk: u64,
}

impl From<&model::Resources> for LegacyNodeResources {
    fn from(amount: &model::Resources) -> Self {
        Self { cpu: amount.cpu_mhz, memory: amount.memory_mib, disk: amount.disk_mib }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeResources {
    cpu: NodeCpu,
    memory: NodeMemory,
    disk: NodeDisk,
    networks: Vec<NetworkResource>,
    devices: Option<()>,
    min_dynamic_port: u16,
    max_dynamic_port: u16,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeCpu {
    cpu_shares: u64,
    total_cpu_cores: u32,
    reservable_cpu_cores: Option<Vec<u16>>,
}

#[derive(Clone, Debug, Serialize)]
struct NodeMemory {
    #[serde(rename = "MemoryMB")]
    memory: u64,
}

#[derive(Clone, Debug, Serialize)]
struct NodeDisk {
    #[serde(rename = "DiskMB")]
    disk: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReservedResources {
    cpu: ReservedCpu,
    memory: NodeMemory,
    disk: NodeDisk,
    networks: ReservedNetworks,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReservedCpu {
    cpu_shares: u64,
    reserved_cpu_cores: Option<Vec<u16>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReservedNetworks {
    reserved_host_ports: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DrainStrategy {
    deadline: i64,
    ignore_system_jobs: bool,
    force_deadline: Time,
    started_at: Time,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DrainMetadata {
    started_at: Time,
    updated_at: Time,
    status: &'static str,
    #[serde(rename = "AccessorID")]
    accessor_id: &'static str,
    meta: Option<()>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeEvent {
    message: String,
    subsystem: String,
    details: Option<()>,
    timestamp: Time,
    create_index: u64,
}

impl From<&model::Node> for Node {
    fn from(node: &model::Node) -> Self {
        // Old clients add the reserved part to what tasks may take.
        let whole = node.capacity.saturating_add(&node.reserved);
        Self {
            id: node.id.to_string(),
            secret_id: "",
            datacenter: node.datacenter.clone(),
            name: node.name.clone(),
            cgroup_parent: "",
            http_addr: node.http_address.clone(),
            tls_enabled: false,
            attributes: node.attributes.clone(),
            resources: LegacyNodeResources::from(&whole),
            reserved: LegacyNodeResources::from(&node.reserved),
            node_resources: NodeResources::from(node),
            reserved_resources: ReservedResources::from(node),
            links: BTreeMap::new(),
            meta: node.meta.clone(),
            node_class: node.node_class.clone(),
            node_pool: node.node_pool.clone(),
            computed_class: "",
            drain: node.drain.is_some(),
            drain_strategy: node.drain.as_ref().map(DrainStrategy::from),
            scheduling_eligibility: eligibility(node),
            status: node.status.name(),
            status_description: "",
            status_updated_at: node.status_updated_at.unix_nanos() / 1_000_000_000,
            events: node.events.iter().map(NodeEvent::from).collect(),
            drivers: drivers(node),
            host_volumes: host_volumes(node),
            host_networks: None,
            last_drain: last_drain(node),
            create_index: node.create_index,
            modify_index: node.modify_index,
        }
    }
}

impl From<&model::Node> for NodeResources {
    fn from(node: &model::Node) -> Self {
        let whole = node.capacity.saturating_add(&node.reserved);
        let network = NetworkResource {
            mode: "host".to_owned(),
            ip: node.address.clone(),
            ..NetworkResource::default()
        };
        Self {
            cpu: NodeCpu {
                cpu_shares: whole.cpu_mhz,
                total_cpu_cores: node.cores,
                reservable_cpu_cores: None,
            },
            memory: NodeMemory { memory: whole.memory_mib },
            disk: NodeDisk { disk: whole.disk_mib },
            networks: vec![network],
            devices: None,
            min_dynamic_port: node.min_dynamic_port,
            max_dynamic_port: node.max_dynamic_port,
        }
    }
}

impl From<&model::Node> for ReservedResources {
    fn from(node: &model::Node) -> Self {
        let ports: Vec<String> = node.reserved_ports.iter().map(ToString::to_string).collect();
        Self {
            cpu: ReservedCpu { cpu_shares: node.reserved.cpu_mhz, reserved_cpu_cores: None },
            memory: NodeMemory { memory: node.reserved.memory_mib },
            disk: NodeDisk { disk: node.reserved.disk_mib },
            networks: ReservedNetworks { reserved_host_ports: ports.join(",") },
        }
    }
}

impl From<&model::DrainState> for DrainStrategy {
    fn from(drain: &model::DrainState) -> Self {
        // No deadline is 0 here, and "at once" is negative.
        let deadline = match drain.spec.deadline {
            None => 0,
            Some(deadline) if deadline.is_zero() => -1,
            Some(deadline) => nanos(deadline),
        };
        Self {
            deadline,
            ignore_system_jobs: drain.spec.ignore_system_jobs,
            force_deadline: Time(drain.force_at),
            started_at: Time(drain.started_at),
        }
    }
}

impl From<&model::node::NodeEvent> for NodeEvent {
    fn from(event: &model::node::NodeEvent) -> Self {
        Self {
            message: event.message.clone(),
            subsystem: event.subsystem.clone(),
            details: None,
            timestamp: Time(event.at),
            create_index: 0,
        }
    }
}

fn eligibility(node: &model::Node) -> &'static str {
    if node.eligible { "eligible" } else { "ineligible" }
}

fn drivers(node: &model::Node) -> BTreeMap<String, Driver> {
    let shown = |driver: &model::DriverState| Driver {
        attributes: driver.attributes.clone(),
        detected: driver.detected,
        healthy: driver.healthy,
        health_description: driver.description.clone(),
        update_time: Time(node.status_updated_at),
    };
    node.drivers.iter().map(|(name, driver)| (name.clone(), shown(driver))).collect()
}

fn host_volumes(node: &model::Node) -> BTreeMap<String, HostVolume> {
    let shown = |name: &String, volume: &model::node::HostVolume| HostVolume {
        name: name.clone(),
        path: volume.path.clone(),
        read_only: volume.read_only,
        id: "",
    };
    node.host_volumes.iter().map(|(name, volume)| (name.clone(), shown(name, volume))).collect()
}

fn last_drain(node: &model::Node) -> Option<DrainMetadata> {
    node.drain.as_ref().map(|drain| DrainMetadata {
        started_at: Time(drain.started_at),
        updated_at: Time(drain.started_at),
        status: "draining",
        accessor_id: "",
        meta: None,
    })
}

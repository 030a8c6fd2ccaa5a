//! Networks and ports that an allocation got.

use cos_model::network::Network;
use cos_model::{AllocatedPort, Allocation};
use serde::Serialize;

/// A network with the ports that were given out. Empty fields are left out, as Nomad does.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkResource {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) device: String,
    #[serde(rename = "CIDR", skip_serializing_if = "String::is_empty")]
    pub(crate) cidr: String,
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub(crate) ip: String,
    #[serde(rename = "MBits", skip_serializing_if = "Option::is_none")]
    pub(crate) mbits: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reserved_ports: Vec<Port>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dynamic_ports: Vec<Port>,
}

/// A port of a network.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Port {
    label: String,
    #[serde(skip_serializing_if = "is_zero")]
    value: u16,
    #[serde(skip_serializing_if = "is_zero")]
    to: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    host_network: String,
}

/// A port that was given out, as groups list them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortMapping {
    label: String,
    value: u16,
    #[serde(skip_serializing_if = "is_zero")]
    to: u16,
    #[serde(rename = "HostIP", skip_serializing_if = "String::is_empty")]
    host_ip: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl From<&AllocatedPort> for PortMapping {
    fn from(port: &AllocatedPort) -> Self {
        Self {
            label: port.label.clone(),
            value: port.host_port,
            to: port.to,
            host_ip: port.host_ip.clone(),
        }
    }
}

/// The networks of a task, or of the group itself, with the ports that the allocation holds.
pub(crate) fn granted(alloc: &Allocation, task: Option<&str>) -> Vec<NetworkResource> {
    let Some(group) = alloc.task_group() else { return Vec::new() };
    let asked = group.all_networks().filter(|(owner, _)| *owner == task);
    asked.map(|(_, network)| grant(alloc, task, network)).collect()
}

fn grant(alloc: &Allocation, task: Option<&str>, network: &Network) -> NetworkResource {
    let mut granted = NetworkResource {
        mode: network.mode.clone(),
        mbits: network.mbits,
        hostname: network.hostname.clone(),
        ..NetworkResource::default()
    };
    for asked in &network.ports {
        let held = alloc
            .ports
            .iter()
            .find(|port| port.label == asked.label && port.task.as_deref() == task);
        let Some(held) = held else { continue };
        if granted.ip.is_empty() {
            granted.ip.clone_from(&held.host_ip);
        }
        let port = Port {
            label: held.label.clone(),
            value: held.host_port,
            to: held.to,
            host_network: asked.host_network.clone(),
        };
        if asked.host_port == 0 {
            granted.dynamic_ports.push(port);
        } else {
            granted.reserved_ports.push(port);
        }
    }
    granted
}

/// The ports of the group's own network.
pub(crate) fn shared_ports(alloc: &Allocation) -> Option<Vec<PortMapping>> {
    let own = alloc.ports.iter().filter(|port| port.task.is_none());
    let ports: Vec<PortMapping> = own.map(PortMapping::from).collect();
    (!ports.is_empty()).then_some(ports)
}

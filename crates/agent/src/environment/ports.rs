//! The variables that tell a task where its ports and those of its siblings are.
//!
//! Ports of the group's network and ports of old files' `resources { network }` appear under the
//! same names; the latter also with the task's name in front, so that siblings find them.

use std::collections::BTreeMap;

use cos_model::{AllocatedPort, Task, Value};

/// Lists the variables of all ports of an allocation as `task` sees them.
pub(super) fn variables(ports: &[AllocatedPort], task: &Task) -> Vec<(String, String)> {
    let mapped = port_map(&task.config);
    let mut variables = Vec::new();
    for port in ports {
        let own = port.task.as_deref().is_none_or(|owner| owner == task.name);
        if own {
            let inside =
                mapped.get(&port.label).copied().or_else(|| (port.to > 0).then_some(port.to));
            variables.extend(own_port(port, inside.unwrap_or(port.host_port)));
        }
        if let Some(owner) = &port.task {
            variables.extend(sibling_port(port, owner));
        }
    }
    variables
}

/// Reads a docker task's `port_map`, which is a map, a block or a list of either, with numbers
/// that may be quoted.
pub fn port_map(config: &BTreeMap<String, Value>) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    let mut add = |value: &Value| {
        for (label, port) in value.as_map().into_iter().flatten() {
            if let Some(port) = port.to_int().and_then(|port| u16::try_from(port).ok()) {
                ports.insert(label.clone(), port);
            }
        }
    };
    match config.get("port_map") {
        Some(Value::List(list)) => list.iter().for_each(add),
        Some(value) => add(value),
        None => {}
    }
    ports
}

fn own_port(port: &AllocatedPort, inside: u16) -> Vec<(String, String)> {
    let label = &port.label;
    let ip = &port.host_ip;
    let outside = port.host_port;
    let address = join(ip, outside);
    let family = if ip.contains(':') { "NOMAD_IPv6" } else { "NOMAD_IPv4" };
    vec![
        (format!("NOMAD_IP_{label}"), ip.clone()),
        (format!("NOMAD_HOST_IP_{label}"), ip.clone()),
        (format!("{family}_{label}"), ip.clone()),
        (format!("NOMAD_ADDR_{label}"), address.clone()),
        (format!("NOMAD_HOST_ADDR_{label}"), address),
        (format!("NOMAD_PORT_{label}"), inside.to_string()),
        (format!("NOMAD_ALLOC_PORT_{label}"), inside.to_string()),
        (format!("NOMAD_HOST_PORT_{label}"), outside.to_string()),
    ]
}

fn sibling_port(port: &AllocatedPort, owner: &str) -> Vec<(String, String)> {
    let label = &port.label;
    vec![
        (format!("NOMAD_IP_{owner}_{label}"), port.host_ip.clone()),
        (format!("NOMAD_PORT_{owner}_{label}"), port.host_port.to_string()),
        (format!("NOMAD_ADDR_{owner}_{label}"), join(&port.host_ip, port.host_port)),
    ]
}

fn join(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

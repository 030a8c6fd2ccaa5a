//! Host ports: the fixed ones as asked for, the others from the node's dynamic range.
//!
//! # Invariants
//!
//! - No port is handed out that the node reserves, that something on it holds, or that the same
//!   instance already got.
//! - The search starts at a place that depends on the evaluation and the node: two evaluations
//!   planned at the same time seldom want the same port, and a freed port is seldom used again at
//!   once, when somebody may still connect to what held it before.
//!
//! # Deliberately absent
//!
//! - `ignore_collision`. Two instances cannot hold one port here; the second is refused as any
//!   other.

use std::collections::BTreeSet;

use cos_model::fit::Usage;
use cos_model::{AllocatedPort, Network, Node, Port};

use crate::feasibility::Rejection;

/// The dynamic range of a node that names none.
const DYNAMIC_PORTS: (u16, u16) = (20_000, 32_000);

/// Assigns every port that the networks ask for.
pub(crate) fn assign(
    node: &Node,
    usage: &Usage,
    networks: &[(Option<String>, Network)],
    seed: u64,
) -> Result<Vec<AllocatedPort>, Rejection> {
    let wanted: Vec<(&Option<String>, &Port)> = networks
        .iter()
        .flat_map(|(task, network)| network.ports.iter().map(move |port| (task, port)))
        .collect();
    let is_taken = |port: u16| usage.holds(&node.address, port);
    let mut own: BTreeSet<u16> = BTreeSet::new();
    for (_, port) in wanted.iter().filter(|(_, port)| port.host_port != 0) {
        if is_taken(port.host_port) || !own.insert(port.host_port) {
            let words = format!("{}={}", port.label, port.host_port);
            return Err(Rejection::PortTaken(words.into()));
        }
    }
    let mut ports = Vec::with_capacity(wanted.len());
    for (task, port) in wanted {
        let host_port = if port.host_port == 0 {
            let free = |candidate: &u16| !own.contains(candidate) && !is_taken(*candidate);
            let found = candidates(node, seed).find(free).ok_or(Rejection::NoDynamicPort)?;
            own.insert(found);
            found
        } else {
            port.host_port
        };
        ports.push(AllocatedPort {
            label: port.label.clone(),
            task: task.clone(),
            host_port,
            to: inner_port(port, host_port),
            host_ip: node.address.clone(),
        });
    }
    Ok(ports)
}

/// Every port of the dynamic range once, from a place that depends on `seed`.
fn candidates(node: &Node, seed: u64) -> impl Iterator<Item = u16> {
    let (first, last) = match (node.min_dynamic_port, node.max_dynamic_port) {
        (0, 0) => DYNAMIC_PORTS,
        range => range,
    };
    let size = u64::from(last.saturating_sub(first)) + u64::from(last >= first);
    let start = seed.checked_rem(size).unwrap_or(0);
    (0..size).filter_map(move |step| u16::try_from(u64::from(first) + (start + step) % size).ok())
}

/// The port inside the task's network namespace; zero stands for the host port.
fn inner_port(port: &Port, host_port: u16) -> u16 {
    if port.to == -1 { host_port } else { u16::try_from(port.to).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// Assigns `wanted` (`label`, `label=static` or either with `:to`) on a node.
    fn try_assign(node: &Node, wanted: &str, seed: u64) -> String {
        let ports = wanted.split_whitespace().map(testing::port).collect();
        let networks = vec![(None, Network { ports, ..Network::default() })];
        match assign(node, &Usage::of_node(node), &networks, seed) {
            Ok(ports) => ports
                .iter()
                .map(|port| format!("{}={}:{}", port.label, port.host_port, port.to))
                .collect::<Vec<_>>()
                .join(" "),
            Err(reason) => reason.to_string(),
        }
    }

    #[track_caller]
    fn check(range: (u16, u16), reserved: &[u16], wanted: &str, expected: &str) {
        let mut node = testing::node("");
        (node.min_dynamic_port, node.max_dynamic_port) = range;
        node.reserved_ports = reserved.to_vec();
        assert_eq!(try_assign(&node, wanted, 0), expected, "{wanted} of {range:?}");
    }

    #[test]
    fn fixed_ports_are_as_asked_and_others_from_the_range() {
        check((100, 102), &[], "http=80 a b", "http=80:0 a=100:0 b=101:0");
        check((100, 102), &[100], "a b", "a=101:0 b=102:0");
        check((100, 102), &[], "fixed=100 a", "fixed=100:0 a=101:0");
        check((0, 0), &[], "a", "a=20000:0");
    }

    #[test]
    fn the_inner_port_may_be_the_host_port() {
        check((100, 100), &[], "a:-1", "a=100:100");
        check((100, 100), &[], "a:8080", "a=100:8080");
    }

    #[test]
    fn a_port_that_is_not_free_is_refused_by_name() {
        check((100, 102), &[80], "http=80", "network: reserved port collision http=80");
        check((100, 102), &[], "a=80 b=80", "network: reserved port collision b=80");
        check((100, 101), &[100], "a b", "network: dynamic port selection failed");
        check((9, 8), &[], "a", "network: dynamic port selection failed");
    }

    proptest! {
        #[test]
        fn hands_out_each_port_once_and_only_free_ones(
            reserved in prop::collection::btree_set(100_u16..120, 0..20),
            wanted in 0_usize..22, seed in any::<u64>(),
        ) {
            let mut node = testing::node("");
            (node.min_dynamic_port, node.max_dynamic_port) = (100, 119);
            node.reserved_ports = reserved.iter().copied().collect();
            let ports = (0..wanted).map(|n| testing::port(&format!("p{n}"))).collect();
            let networks = vec![(None, Network { ports, ..Network::default() })];
            let free = 20 - reserved.len();
            match assign(&node, &Usage::of_node(&node), &networks, seed) {
                Ok(ports) => {
                    let distinct: BTreeSet<u16> = ports.iter().map(|p| p.host_port).collect();
                    prop_assert_eq!(distinct.len(), wanted);
                    prop_assert!(distinct.iter().all(|p| (100..120).contains(p)));
                    prop_assert!(distinct.is_disjoint(&reserved));
                }
                Err(reason) => prop_assert!(wanted > free, "{reason} with {free} for {wanted}"),
            }
        }
    }
}

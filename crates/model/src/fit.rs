//! Whether a set of allocations fits a node: the one definition that the scheduler plans with and
//! the state machine checks plans with.
//!
//! # Invariants
//!
//! - Sharing this file is what keeps a plan from being refused for ever: both sides ask the same
//!   question of the same data.
//!
//! # Deliberately absent
//!
//! - Rules that do not count anything (datacenter, constraints, drivers); see `scheduler`.

use std::collections::BTreeSet;
use std::fmt;

use crate::allocation::{AllocatedPort, Allocation};
use crate::node::Node;
use crate::resources::{Dimension, Resources};

/// Why allocations do not fit a node together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// Together they take more than the node has.
    Exhausted(Dimension),
    /// Two of them hold the same host port, or one holds a port the operator reserved.
    PortTaken(u16),
}

/// What a node's allocations take, added up step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The sum of amounts.
    pub resources: Resources,
    /// Host ports that are held: (address, port). An empty address holds the port on all.
    pub ports: BTreeSet<(String, u16)>,
}

impl Usage {
    /// Starts with the ports that the operator reserved.
    pub fn of_node(node: &Node) -> Self {
        let ports = node.reserved_ports.iter().map(|port| (String::new(), *port)).collect();
        Self { resources: Resources::default(), ports }
    }

    /// Adds an allocation if it occupies the node, whether or not it fits.
    pub fn add(&mut self, alloc: &Allocation) {
        if alloc.occupies_node() {
            self.resources = self.resources.saturating_add(&alloc.resources);
            self.ports.extend(alloc.ports.iter().map(port_key));
        }
    }

    /// Says whether one more allocation fits besides what was added.
    pub fn check(&self, node: &Node, alloc: &Allocation) -> Result<(), Misfit> {
        if let Some(port) =
            alloc.ports.iter().find(|port| self.holds(&port.host_ip, port.host_port))
        {
            return Err(Misfit::PortTaken(port.host_port));
        }
        let room = node.capacity.saturating_sub(&self.resources);
        match alloc.resources.first_excess_over(&room) {
            Some(dimension) => Err(Misfit::Exhausted(dimension)),
            None => Ok(()),
        }
    }

    /// Whether a host port is held on an address; for the empty address, on any.
    pub fn holds(&self, host_ip: &str, port: u16) -> bool {
        if host_ip.is_empty() {
            return self.ports.iter().any(|(_, held)| *held == port);
        }
        self.ports.contains(&(String::new(), port))
            || self.ports.contains(&(host_ip.to_owned(), port))
    }
}

fn port_key(port: &AllocatedPort) -> (String, u16) {
    (port.host_ip.clone(), port.host_port)
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted(dimension) => write!(f, "{dimension}"),
            Self::PortTaken(port) => write!(f, "network: reserved port collision {port}"),
        }
    }
}

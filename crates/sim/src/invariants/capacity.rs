//! No node takes more than it has, and no host port is given twice.
//!
//! Source: "per node the sum of non-terminal allocations is at most its capacity; every port is given
//! at most once"; what Nomad's plan applier exists for.

use std::collections::BTreeSet;

use cos_model::{NodeId, Resources};
use cos_state::{Event, State};

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Capacity;

impl Invariant for Capacity {
    fn name(&self) -> &'static str {
        "nodes are not over-committed"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        let touched: BTreeSet<NodeId> = applied
            .applied
            .events
            .iter()
            .filter_map(|event| match event {
                Event::AllocPlanned(alloc) | Event::AllocReported(alloc) => Some(alloc.node_id),
                _ => None,
            })
            .collect();
        touched.into_iter().try_for_each(|node| check_node(applied.state, node))
    }
}

/// A second, independent sum beside the one that plans are checked with.
fn check_node(state: &State, id: NodeId) -> Result<(), String> {
    let Some(node) = state.node(id) else { return Ok(()) };
    let mut sum = Resources::default();
    let mut ports = BTreeSet::new();
    for alloc in state.allocs().filter(|alloc| alloc.node_id == id && !alloc.is_client_terminal()) {
        sum.cpu_mhz += alloc.resources.cpu_mhz;
        sum.memory_mib += alloc.resources.memory_mib;
        sum.disk_mib += alloc.resources.disk_mib;
        for port in &alloc.ports {
            if !ports.insert(port.host_port) {
                return Err(format!("port {} of {} is given twice", port.host_port, node.name));
            }
        }
    }
    let room = node.capacity;
    let fits = sum.cpu_mhz <= room.cpu_mhz
        && sum.memory_mib <= room.memory_mib
        && sum.disk_mib <= room.disk_mib;
    if fits { Ok(()) } else { Err(format!("{} takes {sum:?} of {room:?}", node.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{History, check};

    #[test]
    fn a_node_that_takes_too_much_is_found() {
        let mut history = History::with_node();
        history.place(1, |_| {});
        check(Capacity, &[history.last()], false);
        // What is planned for one node appears on another one after the check.
        let mut crowded = History::with_node();
        for number in 1..=11 {
            crowded.place_unchecked(number);
        }
        check(Capacity, &[crowded.last()], true);
    }
}

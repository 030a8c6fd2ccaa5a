//! Whether allocations fit a node together.

use cos_model::fit::Usage;
use cos_model::{Allocation, ClientStatus, DesiredStatus, Node, Resources};
use proptest::prelude::*;

use crate::samples;

fn amounts(cpu_mhz: u64, memory_mib: u64, disk_mib: u64) -> Resources {
    Resources { cpu_mhz, memory_mib, disk_mib }
}

/// Fills a node of (10, 10, 10) with port 22 reserved by `there`, and asks for one more.
#[track_caller]
fn check(there: &[(Resources, &[(&str, u16)])], more: (Resources, &[(&str, u16)]), expected: &str) {
    let node = samples::node(amounts(10, 10, 10), &[22]);
    let mut usage = Usage::of_node(&node);
    for (resources, ports) in there {
        usage.add(&samples::alloc(1, *resources, ports));
    }
    let answer = usage.check(&node, &samples::alloc(2, more.0, more.1));
    let actual = answer.map_or_else(|misfit| misfit.to_string(), |()| "fits".to_owned());
    assert_eq!(actual, expected, "{there:?} and {more:?}");
}

#[test]
fn what_fits_exactly_fits() {
    check(&[], (amounts(10, 10, 10), &[]), "fits");
    check(&[(amounts(4, 4, 4), &[])], (amounts(6, 6, 6), &[]), "fits");
    check(&[(amounts(4, 4, 4), &[])], (amounts(7, 6, 6), &[]), "cpu");
    check(&[(amounts(4, 4, 4), &[])], (amounts(6, 7, 7), &[]), "memory");
    check(&[(amounts(4, 4, 4), &[])], (amounts(6, 6, 7), &[]), "disk");
}

#[test]
fn an_over_committed_node_takes_only_what_takes_nothing() {
    check(&[(amounts(20, 0, 0), &[])], (amounts(0, 5, 5), &[]), "fits");
    check(&[(amounts(20, 0, 0), &[])], (amounts(1, 0, 0), &[]), "cpu");
}

#[test]
fn a_port_is_held_once_on_each_address() {
    let none = amounts(0, 0, 0);
    let taken = "network: reserved port collision 80";
    check(&[(none, &[("10.0.0.1", 80)])], (none, &[("10.0.0.1", 80)]), taken);
    check(&[(none, &[("10.0.0.1", 80)])], (none, &[("10.0.0.2", 80)]), "fits");
    check(&[(none, &[("10.0.0.1", 80)])], (none, &[("10.0.0.1", 81)]), "fits");
    check(&[(none, &[("", 80)])], (none, &[("10.0.0.1", 80)]), taken);
    check(&[(none, &[("10.0.0.1", 80)])], (none, &[("", 80)]), taken);
}

#[test]
fn a_port_that_the_operator_reserved_is_nobodys() {
    let none = amounts(0, 0, 0);
    check(&[], (none, &[("10.0.0.1", 22)]), "network: reserved port collision 22");
    check(&[], (none, &[("", 22)]), "network: reserved port collision 22");
}

#[test]
fn what_is_to_stop_counts_until_it_has_stopped() {
    let node = samples::node(amounts(10, 10, 10), &[]);
    let large = samples::alloc(1, amounts(8, 0, 0), &[("", 80)]);
    let mut stopping = Usage::of_node(&node);
    stopping.add(&Allocation { desired: DesiredStatus::Stop, ..large.clone() });
    assert!(stopping.check(&node, &large).is_err());
    let mut stopped = Usage::of_node(&node);
    stopped.add(&Allocation { client_status: ClientStatus::Complete, ..large.clone() });
    assert_eq!(stopped.check(&node, &large), Ok(()));
}

proptest! {
    /// Against the definition in one expression.
    #[test]
    fn agrees_with_the_plain_definition(allocs in prop::collection::vec(any_alloc(), 1..8)) {
        let node = samples::node(amounts(6, 6, 6), &[3]);
        let mut usage = Usage::of_node(&node);
        let mut there: Vec<&Allocation> = Vec::new();
        for alloc in &allocs {
            let fits = usage.check(&node, alloc).is_ok();
            prop_assert_eq!(fits, fits_plainly(&node, &there, alloc));
            if fits {
                usage.add(alloc);
                there.push(alloc);
            }
        }
    }
}

fn fits_plainly(node: &Node, there: &[&Allocation], alloc: &Allocation) -> bool {
    let sum = |part: fn(&Resources) -> u64| -> u64 {
        there.iter().map(|other| part(&other.resources)).sum::<u64>() + part(&alloc.resources)
    };
    let overlap = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    sum(|r| r.cpu_mhz) <= node.capacity.cpu_mhz
        && sum(|r| r.memory_mib) <= node.capacity.memory_mib
        && sum(|r| r.disk_mib) <= node.capacity.disk_mib
        && alloc.ports.iter().all(|port| {
            !node.reserved_ports.contains(&port.host_port)
                && there.iter().flat_map(|other| &other.ports).all(|other| {
                    other.host_port != port.host_port || !overlap(&other.host_ip, &port.host_ip)
                })
        })
}

fn any_alloc() -> impl Strategy<Value = Allocation> {
    let address = prop::sample::select(vec!["", "10.0.0.1", "10.0.0.2"]);
    let ports = prop::collection::vec((address, 1_u16..5), 0..2);
    ((0_u64..4, 0_u64..4, 0_u64..4), ports).prop_map(|((cpu, memory, disk), ports)| {
        samples::alloc(1, amounts(cpu, memory, disk), &ports)
    })
}

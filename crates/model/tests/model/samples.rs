//! Small valid objects, told apart by what the fit of allocations looks at.

use std::sync::Arc;

use cos_model::{AllocatedPort, Allocation, Job, JobKind, Node, Resources, samples};

pub(crate) fn job() -> Job {
    samples::job("web", JobKind::Service, vec![samples::group("app", Vec::new())])
}

pub(crate) fn alloc(number: u128, resources: Resources, ports: &[(&str, u16)]) -> Allocation {
    let port = |(host_ip, host_port): &(&str, u16)| AllocatedPort {
        label: "http".to_owned(),
        task: None,
        host_port: *host_port,
        to: 0,
        host_ip: (*host_ip).to_owned(),
    };
    Allocation {
        resources,
        ports: ports.iter().map(port).collect(),
        ..samples::alloc(number, 1, &Arc::new(job()))
    }
}

pub(crate) fn node(capacity: Resources, reserved_ports: &[u16]) -> Node {
    Node { capacity, reserved_ports: reserved_ports.to_vec(), ..samples::node(1) }
}

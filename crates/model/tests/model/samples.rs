//! Small valid objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{
    AllocId, AllocatedPort, Allocation, ClientStatus, DesiredStatus, DesiredTransition, EvalId,
    Job, JobKey, JobKind, JobStatus, Node, NodeId, NodeStatus, Resources, Timestamp,
};

pub(crate) fn job() -> Job {
    Job {
        key: JobKey::new("default", "web"),
        name: "web".to_owned(),
        parent_id: String::new(),
        region: "global".to_owned(),
        kind: JobKind::Service,
        priority: 50,
        all_at_once: false,
        datacenters: vec!["*".to_owned()],
        node_pool: "default".to_owned(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        groups: Vec::new(),
        update: None,
        periodic: None,
        meta: BTreeMap::new(),
        extras: BTreeMap::new(),
        stop: false,
        version: 0,
        stable: false,
        status: JobStatus::Pending,
        submit_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
        job_modify_index: 0,
    }
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
        id: AllocId::from_bits(number),
        eval_id: EvalId::from_bits(1),
        node_id: NodeId::from_bits(1),
        node_name: Arc::from("box"),
        job: Arc::new(job()),
        group: Arc::from("app"),
        index: 0,
        resources,
        tasks: BTreeMap::new(),
        ports: ports.iter().map(port).collect(),
        desired: DesiredStatus::Run,
        desired_description: String::new(),
        transition: DesiredTransition::default(),
        client_status: ClientStatus::Pending,
        client_description: String::new(),
        task_states: BTreeMap::new(),
        deployment_id: None,
        health: None,
        canary: false,
        previous: None,
        next: None,
        reschedules: Vec::new(),
        followup_eval: None,
        metric: Arc::default(),
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
        alloc_modify_index: 0,
    }
}

pub(crate) fn node(capacity: Resources, reserved_ports: &[u16]) -> Node {
    Node {
        id: NodeId::from_bits(1),
        secret: NodeId::from_bits(2),
        name: "box".to_owned(),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: String::new(),
        http_address: "10.0.0.1:4646".to_owned(),
        address: "10.0.0.1".to_owned(),
        capacity,
        reserved: Resources::default(),
        cores: 1,
        min_dynamic_port: 20000,
        max_dynamic_port: 32000,
        reserved_ports: reserved_ports.to_vec(),
        attributes: BTreeMap::new(),
        meta: BTreeMap::new(),
        drivers: BTreeMap::new(),
        host_volumes: BTreeMap::new(),
        status: NodeStatus::Ready,
        eligible: true,
        drain: None,
        status_updated_at: Timestamp::NEVER,
        events: Vec::new(),
        create_index: 0,
        modify_index: 0,
    }
}

//! What the tests of several modules share: small allocations, nodes and handles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::TaskHandle;
use cos_drivers::driver::{ProcessId, Reference, ShimReference};
use cos_model::{
    AllocId, AllocMetric, AllocatedTask, Allocation, ClientStatus, DesiredStatus,
    DesiredTransition, EvalId, Job, JobKey, JobKind, JobStatus, Logs, Node, NodeId, NodeStatus,
    Resources, Restart, RestartMode, Task, TaskGroup, Timestamp,
};

/// The node of all tests.
pub(crate) const NODE: NodeId = NodeId::from_bits(1);

pub(crate) fn task(name: &str) -> Task {
    Task {
        name: name.to_owned(),
        driver: "mock".to_owned(),
        user: String::new(),
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        meta: BTreeMap::new(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        services: Vec::new(),
        resources: Resources { cpu_mhz: 100, memory_mib: 64, disk_mib: 0 },
        memory_max_mib: 0,
        cores: 0,
        networks: Vec::new(),
        restart: restart(),
        kill_timeout: Duration::from_secs(5),
        kill_signal: String::new(),
        shutdown_delay: Duration::ZERO,
        leader: false,
        lifecycle: None,
        artifacts: Vec::new(),
        templates: Vec::new(),
        logs: Logs::default(),
        volume_mounts: Vec::new(),
        dispatch_payload_file: String::new(),
        extras: BTreeMap::new(),
    }
}

pub(crate) fn restart() -> Restart {
    Restart {
        attempts: 2,
        interval: Duration::from_mins(10),
        delay: Duration::from_secs(15),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

pub(crate) fn group(tasks: Vec<Task>) -> TaskGroup {
    TaskGroup {
        name: "group".to_owned(),
        count: 1,
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        tasks,
        networks: Vec::new(),
        services: Vec::new(),
        ephemeral_disk_mib: 300,
        sticky_disk: false,
        migrate_disk: false,
        update: None,
        reschedule: None,
        migrate: None,
        disconnect: None,
        restart: restart(),
        volumes: BTreeMap::new(),
        meta: BTreeMap::new(),
        shutdown_delay: Duration::ZERO,
        scaling: None,
        extras: BTreeMap::new(),
    }
}

pub(crate) fn job(kind: JobKind, group: TaskGroup) -> Job {
    Job {
        key: JobKey::new("default", "job"),
        name: "job".to_owned(),
        parent_id: String::new(),
        region: "global".to_owned(),
        kind,
        priority: 50,
        all_at_once: false,
        datacenters: vec!["dc1".to_owned()],
        node_pool: "default".to_owned(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        groups: vec![group],
        update: None,
        periodic: None,
        meta: BTreeMap::new(),
        extras: BTreeMap::new(),
        stop: false,
        version: 0,
        stable: false,
        status: JobStatus::Running,
        submit_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        job_modify_index: 1,
    }
}

pub(crate) fn alloc_of(number: u128, job: Job) -> Allocation {
    let tasks = job.groups[0]
        .tasks
        .iter()
        .map(|task| {
            let taken = AllocatedTask { resources: task.resources, memory_max_mib: 0 };
            (task.name.clone(), taken)
        })
        .collect();
    let group: Arc<str> = Arc::from(job.groups[0].name.as_str());
    Allocation {
        id: AllocId::from_bits(number),
        eval_id: EvalId::from_bits(1),
        node_id: NODE,
        node_name: Arc::from("node"),
        group,
        job: Arc::new(job),
        index: 0,
        resources: Resources::default(),
        tasks,
        ports: Vec::new(),
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
        metric: Arc::new(AllocMetric::default()),
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        alloc_modify_index: 1,
    }
}

/// An allocation of a service with one task, `web`.
pub(crate) fn alloc(number: u128) -> Arc<Allocation> {
    Arc::new(alloc_of(number, job(JobKind::Service, group(vec![task("web")]))))
}

pub(crate) fn node() -> Node {
    Node {
        id: NODE,
        secret: NodeId::from_bits(2),
        name: "node".to_owned(),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: "big".to_owned(),
        http_address: "127.0.0.1:4646".to_owned(),
        address: "127.0.0.1".to_owned(),
        capacity: Resources::default(),
        reserved: Resources::default(),
        cores: 2,
        min_dynamic_port: 20_000,
        max_dynamic_port: 32_000,
        reserved_ports: Vec::new(),
        attributes: BTreeMap::from([("kernel.name".to_owned(), "linux".to_owned())]),
        meta: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
        drivers: BTreeMap::new(),
        host_volumes: BTreeMap::new(),
        status: NodeStatus::Ready,
        eligible: true,
        drain: None,
        status_updated_at: Timestamp(1),
        events: Vec::new(),
        create_index: 1,
        modify_index: 1,
    }
}

pub(crate) fn handle(task: &str, pid: i32) -> TaskHandle {
    TaskHandle {
        version: 1,
        driver: "mock".to_owned(),
        task_id: task.to_owned(),
        pid,
        reference: Reference::Shim(ShimReference {
            state: std::path::PathBuf::new(),
            boot: String::new(),
            shim: ProcessId::default(),
            task: ProcessId { pid, start_time: 1 },
        }),
    }
}

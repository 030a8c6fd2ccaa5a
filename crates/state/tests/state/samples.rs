//! Small valid objects, to be changed with struct update syntax.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::node::{DrainSpec, DrainState};
use cos_model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus,
    DesiredStatus, DesiredTransition, EvalId, EvalStatus, Evaluation, Job, JobKey, JobKind,
    JobStatus, Logs, Node, NodeId, NodeStatus, Plan, Resources, Restart, RestartMode, Task,
    TaskGroup, Timestamp, Trigger, Update,
};

/// The name of the one group that sample jobs have.
pub(crate) const GROUP: &str = "app";

/// How long sample deployments may go without progress.
pub(crate) const PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

pub(crate) fn resources(cpu_mhz: u64, memory_mib: u64) -> Resources {
    Resources { cpu_mhz, memory_mib, disk_mib: 10 }
}

pub(crate) fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_bits(number),
        secret: NodeId::from_bits(number + 1000),
        name: format!("node{number}"),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: String::new(),
        http_address: format!("10.0.0.{number}:4646"),
        address: format!("10.0.0.{number}"),
        capacity: Resources { disk_mib: 1000, ..resources(1000, 1000) },
        reserved: Resources::default(),
        cores: 1,
        min_dynamic_port: 20000,
        max_dynamic_port: 32000,
        reserved_ports: vec![22],
        attributes: BTreeMap::from([("kernel.name".to_owned(), "linux".to_owned())]),
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

pub(crate) fn drain(ignore_system_jobs: bool) -> DrainState {
    DrainState {
        spec: DrainSpec { deadline: Some(Duration::from_mins(1)), ignore_system_jobs },
        started_at: Timestamp(5),
        force_at: Timestamp(65),
    }
}

pub(crate) fn job_key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

pub(crate) fn job(id: &str) -> Job {
    Job {
        key: job_key(id),
        name: id.to_owned(),
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
        groups: vec![group()],
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

pub(crate) fn group() -> TaskGroup {
    TaskGroup {
        name: GROUP.to_owned(),
        count: 1,
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        tasks: vec![task()],
        networks: Vec::new(),
        services: Vec::new(),
        ephemeral_disk_mib: 10,
        sticky_disk: false,
        migrate_disk: false,
        update: Some(Update::default()),
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

pub(crate) fn task() -> Task {
    Task {
        name: "main".to_owned(),
        driver: "raw_exec".to_owned(),
        user: String::new(),
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        meta: BTreeMap::new(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        services: Vec::new(),
        resources: resources(100, 100),
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

fn restart() -> Restart {
    Restart {
        attempts: 2,
        interval: Duration::from_mins(30),
        delay: Duration::from_secs(15),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

pub(crate) fn eval(number: u128, job: &str) -> Evaluation {
    Evaluation {
        id: EvalId::from_bits(number),
        job: job_key(job),
        kind: JobKind::Service,
        priority: 50,
        trigger: Trigger::JobRegister,
        job_modify_index: 0,
        node_id: None,
        deployment_id: None,
        status: EvalStatus::Pending,
        status_description: String::new(),
        wait_until: Timestamp::NEVER,
        next: None,
        previous: None,
        blocked: None,
        failed_groups: BTreeMap::new(),
        queued: BTreeMap::new(),
        snapshot_index: 0,
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
    }
}

pub(crate) fn alloc(number: u128, node: u128, job: &Arc<Job>) -> Allocation {
    Allocation {
        id: AllocId::from_bits(number),
        eval_id: EvalId::from_bits(0),
        node_id: NodeId::from_bits(node),
        node_name: Arc::from(format!("node{node}")),
        job: Arc::clone(job),
        group: Arc::from(GROUP),
        index: 0,
        resources: resources(100, 100),
        tasks: BTreeMap::new(),
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
        metric: Arc::default(),
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
        alloc_modify_index: 0,
    }
}

pub(crate) fn deployment(number: u128, job: &Job) -> Deployment {
    let group = DeploymentGroup {
        progress_deadline: PROGRESS_DEADLINE,
        desired_total: 2,
        ..DeploymentGroup::default()
    };
    Deployment {
        id: DeploymentId::from_bits(number),
        job: job.key.clone(),
        job_version: job.version,
        job_modify_index: job.modify_index,
        job_spec_modify_index: job.job_modify_index,
        job_create_index: job.create_index,
        groups: BTreeMap::from([(GROUP.to_owned(), group)]),
        status: DeploymentStatus::Running,
        status_description: "Deployment is running".to_owned(),
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
    }
}

/// A plan that does nothing but complete its evaluation.
pub(crate) fn plan(eval: Evaluation) -> Plan {
    Plan {
        eval_id: eval.id,
        based_on: 0,
        all_at_once: false,
        placements: Vec::new(),
        stops: Vec::new(),
        followups: BTreeMap::new(),
        deployment: None,
        deployment_updates: Vec::new(),
        new_evals: Vec::new(),
        eval: Evaluation { status: EvalStatus::Complete, ..eval },
        at: Timestamp::NEVER,
    }
}

//! Small valid objects for tests, to be changed with struct update syntax:
//! `Task { driver: "mock".to_owned(), ..samples::task("web") }`.
//!
//! Compiled only under the feature `samples`, which nothing but development dependencies asks for,
//! so no released program holds it.
//!
//! # Invariants
//!
//! - **Valid together.** An allocation's group is in its job and its size is that group's, a
//!   deployment names the job's groups, and an address belongs to one node.
//! - **Settled values.** Golden files of `cos-state` hold many of them; what a test depends on, it
//!   says itself.
//!
//! # Deliberately absent
//!
//! - What only one crate's tests need, and every shorter language for it: those stand beside the
//!   tests and build on these.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::allocation::{Allocation, ClientStatus, DesiredStatus, DesiredTransition};
use crate::deployment::{Deployment, DeploymentGroup, DeploymentStatus};
use crate::evaluation::{EvalStatus, Evaluation, Trigger};
use crate::id::{AllocId, DeploymentId, EvalId, JobKey, NodeId};
use crate::job::{Job, JobKind, JobStatus, TaskGroup};
use crate::node::{Node, NodeStatus};
use crate::plan::Plan;
use crate::policy::{Restart, RestartMode};
use crate::resources::Resources;
use crate::task::{Logs, Task};
use crate::time::Timestamp;

/// Two restarts in half an hour, then failure.
pub fn restart() -> Restart {
    Restart {
        attempts: 2,
        interval: Duration::from_mins(30),
        delay: Duration::from_secs(15),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

/// A task of 100 MHz and 100 MiB that runs a program without options.
pub fn task(name: &str) -> Task {
    Task {
        name: name.to_owned(),
        driver: "raw_exec".to_owned(),
        user: String::new(),
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        meta: BTreeMap::new(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        services: Vec::new(),
        resources: Resources { cpu_mhz: 100, memory_mib: 100, disk_mib: 0 },
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

/// A group of one instance with a little disk, changed all at once and never rescheduled.
pub fn group(name: &str, tasks: Vec<Task>) -> TaskGroup {
    TaskGroup {
        name: name.to_owned(),
        count: 1,
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        tasks,
        networks: Vec::new(),
        services: Vec::new(),
        ephemeral_disk_mib: 10,
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

/// A job that may run anywhere, as a user gives it: no server has stored it yet.
pub fn job(id: &str, kind: JobKind, groups: Vec<TaskGroup>) -> Job {
    Job {
        key: JobKey::new("default", id),
        name: id.to_owned(),
        parent_id: String::new(),
        region: "global".to_owned(),
        kind,
        priority: 50,
        all_at_once: false,
        datacenters: vec!["*".to_owned()],
        node_pool: "default".to_owned(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        groups,
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

/// A ready node with room for ten sample tasks, and nothing known of it besides.
pub fn node(number: u128) -> Node {
    let [.., high, middle, low] = number.to_be_bytes();
    let address = format!("10.{high}.{middle}.{low}");
    Node {
        id: NodeId::from_bits(number),
        secret: NodeId::from_bits(number + 1000),
        name: format!("node{number}"),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: String::new(),
        http_address: format!("{address}:4646"),
        address,
        capacity: Resources { cpu_mhz: 1000, memory_mib: 1000, disk_mib: 1000 },
        reserved: Resources::default(),
        cores: 4,
        min_dynamic_port: 20_000,
        max_dynamic_port: 32_000,
        reserved_ports: Vec::new(),
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

/// A pending allocation of the job's first group on [`node`] `node`, without the shares of its
/// tasks.
pub fn alloc(number: u128, node: u128, job: &Arc<Job>) -> Allocation {
    let group = &job.groups[0];
    Allocation {
        id: AllocId::from_bits(number),
        eval_id: EvalId::from_bits(0),
        node_id: NodeId::from_bits(node),
        node_name: Arc::from(format!("node{node}")),
        job: Arc::clone(job),
        group: Arc::from(group.name.as_str()),
        index: 0,
        resources: group.total_resources(),
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
        states: Vec::new(),
        metric: Arc::default(),
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
        alloc_modify_index: 0,
    }
}

/// A pending evaluation of a service that was registered.
pub fn eval(number: u128, job: JobKey) -> Evaluation {
    Evaluation {
        id: EvalId::from_bits(number),
        job,
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

/// A running deployment of this version of the job that wants nothing of any group.
pub fn deployment(number: u128, job: &Job) -> Deployment {
    let groups = job.groups.iter().map(|group| (group.name.clone(), DeploymentGroup::default()));
    Deployment {
        id: DeploymentId::from_bits(number),
        job: job.key.clone(),
        job_version: job.version,
        job_modify_index: job.modify_index,
        job_spec_modify_index: job.job_modify_index,
        job_create_index: job.create_index,
        groups: groups.collect(),
        status: DeploymentStatus::Running,
        status_description: "Deployment is running".to_owned(),
        create_time: Timestamp::NEVER,
        modify_time: Timestamp::NEVER,
        create_index: 0,
        modify_index: 0,
    }
}

/// A plan that records its evaluation as it is and changes nothing else.
pub fn plan(eval: Evaluation) -> Plan {
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
        eval,
        at: Timestamp::NEVER,
    }
}

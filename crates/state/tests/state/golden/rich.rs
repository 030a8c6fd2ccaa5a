//! One command of each kind, with every part of the model filled in somewhere.
//!
//! The samples are a chain: the match in [`after`] has no default, so that a new command does not
//! compile until it has a sample.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::{
    CatalogChange, CatalogCheck, CatalogNode, CheckDefinition, Health, Probe, ServiceInstance,
};
use cos_model::kv::KvOp;
use cos_model::link::AllocUpdate;
use cos_model::metric::NodeScore;
use cos_model::node::HostVolume;
use cos_model::plan::{DeploymentUpdate, Plan, PlannedStop};
use cos_model::session::{Behavior, LockDelay, ServiceCheck, Session, SessionOp};
use cos_model::trust::{JoinToken, TokenUse, TrustChange};
use cos_model::{
    AllocId, AllocMetric, AllocatedPort, AllocatedTask, Allocation, ClientStatus, DeploymentId,
    DeploymentStatus, DesiredStatus, DesiredTransition, DriverState, EvalId, EvalStatus,
    Evaluation, Job, Node, NodeId, NodeStatus, RescheduleEvent, RestoreId, SessionId, TaskEvent,
    TaskPhase, TaskState, Timestamp,
};
use cos_state::{AutopilotConfig, Command, RestorePart, SchedulerConfig};

use self::job::job;
use crate::samples;

mod job;

/// The first command.
pub(super) fn first() -> Command {
    Command::RegisterNode { node: Box::new(node()), evals: vec![eval(1)] }
}

/// The command after another.
pub(super) fn after(command: &Command) -> Option<Command> {
    Some(match command {
        Command::RegisterNode { .. } => Command::SetNodeStatus {
            id: NodeId::from_bits(1),
            status: NodeStatus::Ready,
            message: "Node ready".to_owned(),
            evals: Vec::new(),
        },
        Command::SetNodeStatus { .. } => register_job(),
        Command::RegisterJob { .. } => Command::ApplyPlan { plan: Box::new(plan()) },
        Command::ApplyPlan { .. } => {
            Command::UpdateAllocs { updates: vec![update()], evals: vec![eval(3)] }
        }
        Command::UpdateAllocs { .. } => Command::SetTransitions {
            transitions: BTreeMap::from([(AllocId::from_bits(1), transition())]),
            evals: Vec::new(),
        },
        Command::SetTransitions { .. } => Command::SetAllocHealth {
            id: DeploymentId::from_bits(1),
            healthy: vec![AllocId::from_bits(1)],
            unhealthy: vec![AllocId::from_bits(2)],
            eval: None,
        },
        Command::SetAllocHealth { .. } => Command::PromoteDeployment {
            id: DeploymentId::from_bits(1),
            groups: Some(vec![samples::GROUP.to_owned()]),
            eval: Some(eval(4)),
        },
        Command::PromoteDeployment { .. } => Command::SetDeploymentStatus {
            update: deployment_update(),
            revert: Some(Box::new(samples::job("web"))),
            eval: None,
        },
        Command::SetDeploymentStatus { .. } => {
            Command::SetJobStability { key: samples::job_key("web"), version: 0, stable: true }
        }
        Command::SetJobStability { .. } => {
            Command::StopJob { key: samples::job_key("web"), purge: false, eval: Some(eval(5)) }
        }
        Command::StopJob { .. } => Command::PutEvals { evals: vec![eval(6)] },
        Command::PutEvals { .. } => Command::SetNodeEligibility {
            id: NodeId::from_bits(1),
            eligible: false,
            evals: Vec::new(),
        },
        Command::SetNodeEligibility { .. } => Command::SetNodeDrain {
            id: NodeId::from_bits(1),
            drain: Some(samples::drain(true)),
            mark_eligible: false,
            evals: Vec::new(),
        },
        Command::SetNodeDrain { .. } => Command::Catalog { changes: catalog_changes() },
        Command::Catalog { .. } => Command::Kv { ops: kv_ops() },
        Command::Kv { .. } => Command::SetSchedulerConfig(SchedulerConfig {
            spread: true,
            memory_oversubscription: true,
            reject_job_registration: true,
            create_index: 0,
            modify_index: 0,
        }),
        Command::SetSchedulerConfig(_) => Command::SetAutopilotConfig(autopilot_config()),
        Command::SetAutopilotConfig(_) => Command::Restore(restore_part()),
        Command::Restore(_) => Command::Trust(TrustChange::CreateToken(token())),
        Command::Trust(_) => Command::Session(SessionOp::Create(Box::new(session()))),
        Command::Session(_) => collect(),
        Command::Collect { .. } => return None,
    })
}

fn autopilot_config() -> AutopilotConfig {
    AutopilotConfig {
        cleanup_dead_servers: false,
        last_contact_threshold: Duration::from_millis(300),
        max_trailing_logs: 99,
        min_quorum: 3,
        server_stabilization_time: Duration::from_secs(7),
        enable_redundancy_zones: true,
        create_index: 0,
        modify_index: 0,
    }
}

/// Not the last one, so that the state stays what the other commands made it.
fn restore_part() -> RestorePart {
    RestorePart { id: RestoreId::from_bits(5), number: 0, is_last: false, bytes: vec![1, 2, 3] }
}

fn register_job() -> Command {
    Command::RegisterJob { job: Box::new(job()), expected_index: Some(0), eval: Some(eval(2)) }
}

fn token() -> JoinToken {
    JoinToken {
        id: 7,
        role: "client".to_owned(),
        secret_hash: vec![1, 2, 3],
        created_at: Timestamp(1),
        expires_at: Timestamp(2_000_000_000_000_000_000),
        used: Some(TokenUse { at: Timestamp(2), by: "web-1".to_owned(), key: vec![4, 5] }),
    }
}

fn collect() -> Command {
    Command::Collect {
        evals: vec![EvalId::from_bits(9)],
        allocs: vec![AllocId::from_bits(9)],
        deployments: vec![DeploymentId::from_bits(9)],
        jobs: vec![samples::job_key("gone")],
        nodes: vec![NodeId::from_bits(9)],
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn pair(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(text(key), text(value))])
}

fn node() -> Node {
    Node {
        node_class: text("large"),
        meta: pair("rack", "r1"),
        drivers: BTreeMap::from([(
            text("docker"),
            DriverState {
                detected: true,
                healthy: true,
                description: text("Healthy"),
                attributes: pair("driver.docker.version", "27"),
            },
        )]),
        host_volumes: BTreeMap::from([(
            text("certs"),
            HostVolume { path: text("/etc/ssl"), read_only: true },
        )]),
        status: NodeStatus::Initializing,
        ..samples::node(1)
    }
}

fn eval(number: u128) -> Evaluation {
    Evaluation {
        node_id: Some(NodeId::from_bits(1)),
        deployment_id: Some(DeploymentId::from_bits(1)),
        status_description: text("words"),
        wait_until: Timestamp(5),
        next: Some(EvalId::from_bits(7)),
        previous: Some(EvalId::from_bits(8)),
        blocked: Some(EvalId::from_bits(9)),
        failed_groups: BTreeMap::from([(text("app"), metric())]),
        queued: BTreeMap::from([(text("app"), 3)]),
        snapshot_index: 4,
        ..samples::eval(number, "web")
    }
}

fn metric() -> AllocMetric {
    let count = |name: &str| BTreeMap::from([(text(name), 1)]);
    AllocMetric {
        nodes_evaluated: 3,
        nodes_filtered: 1,
        nodes_in_pool: 3,
        node_pool: text("default"),
        nodes_available: count("dc1"),
        class_filtered: count("small"),
        constraint_filtered: count("${attr.kernel.name} = linux"),
        nodes_exhausted: 1,
        class_exhausted: count("large"),
        dimension_exhausted: count("memory"),
        scores: vec![NodeScore {
            node_id: NodeId::from_bits(1),
            scores: BTreeMap::from([(text("binpack"), 0.5)]),
            normalized: 0.25,
        }],
        allocation_time: Duration::from_micros(12),
        coalesced_failures: 2,
    }
}

fn plan() -> Plan {
    let job = Arc::new(job());
    let mut deployment = samples::deployment(1, &job);
    for group in deployment.groups.values_mut() {
        group.auto_revert = true;
        group.desired_canaries = 1;
    }
    Plan {
        based_on: 3,
        all_at_once: true,
        placements: vec![placement(1, &job), placement(2, &job)],
        stops: vec![PlannedStop {
            id: AllocId::from_bits(3),
            desired: DesiredStatus::Evict,
            description: text("preempted"),
            client_status: Some(ClientStatus::Lost),
        }],
        followups: BTreeMap::from([(AllocId::from_bits(3), EvalId::from_bits(4))]),
        deployment: Some(deployment),
        deployment_updates: vec![deployment_update()],
        new_evals: vec![Evaluation { status: EvalStatus::Blocked, ..eval(10) }],
        at: Timestamp(7),
        ..samples::plan(Evaluation { status: EvalStatus::Pending, ..eval(2) })
    }
}

fn placement(number: u128, job: &Arc<Job>) -> Allocation {
    Allocation {
        tasks: BTreeMap::from([(
            text("main"),
            AllocatedTask { resources: samples::resources(100, 100), memory_max_mib: 200 },
        )]),
        ports: vec![AllocatedPort {
            label: text("http"),
            task: Some(text("main")),
            host_port: 8000 + u16::try_from(number).unwrap(),
            to: 80,
            host_ip: text("10.0.0.1"),
        }],
        desired_description: text("words"),
        transition: transition(),
        task_states: BTreeMap::from([(text("main"), task_state())]),
        deployment_id: Some(DeploymentId::from_bits(1)),
        canary: true,
        previous: Some(AllocId::from_bits(3)),
        reschedules: vec![RescheduleEvent {
            at: Timestamp(3),
            previous: AllocId::from_bits(3),
            previous_node: NodeId::from_bits(1),
            delay: Duration::from_secs(5),
        }],
        followup_eval: Some(EvalId::from_bits(4)),
        metric: Arc::new(metric()),
        ..samples::alloc(number, 1, job)
    }
}

fn update() -> AllocUpdate {
    AllocUpdate {
        id: AllocId::from_bits(1),
        client_status: ClientStatus::Running,
        client_description: text("words"),
        task_states: BTreeMap::from([(text("main"), task_state())]),
        health: Some((DeploymentId::from_bits(1), true)),
    }
}

fn task_state() -> TaskState {
    TaskState {
        phase: TaskPhase::Running,
        failed: true,
        restarts: 2,
        last_restart: Timestamp(5),
        started_at: Timestamp(4),
        finished_at: Timestamp(6),
        events: vec![TaskEvent {
            at: Timestamp(4),
            kind: text("Started"),
            message: text("Task started by client"),
            details: pair("exit_code", "0"),
        }],
    }
}

fn transition() -> DesiredTransition {
    DesiredTransition { migrate: true, force_reschedule: true, no_shutdown_delay: true }
}

fn deployment_update() -> DeploymentUpdate {
    DeploymentUpdate {
        id: DeploymentId::from_bits(2),
        status: DeploymentStatus::Failed,
        description: text("Failed due to progress deadline"),
    }
}

fn kv_ops() -> Vec<KvOp> {
    let (key, value, flags) = (text("a/b"), vec![0, 255], 7);
    vec![
        KvOp::Set { key: key.clone(), value: value.clone(), flags },
        KvOp::SetIfUnchanged { key, value, flags, expected: 16 },
        KvOp::DeleteIfUnchanged { key: text("b"), expected: 3 },
        KvOp::Delete { key: text("c") },
        KvOp::DeleteTree { prefix: text("d/") },
    ]
}

/// Further forms of commands that have a sample already, by the name of their file.
pub(super) fn more() -> Vec<(&'static str, Command)> {
    let (id, lasts) = (SessionId::from_bits(1), Duration::from_secs(15));
    let delays = [LockDelay { since: 3, lasts }].into();
    let (key, value, flags) = (text("a/b"), vec![0, 255], 7);
    let locks = vec![
        KvOp::Acquire { key: key.clone(), value: value.clone(), flags, session: id },
        KvOp::Release { key, value, flags, session: id },
    ];
    let session = |op| Command::Session(op);
    vec![
        ("KvLocks", Command::Kv { ops: locks }),
        ("SessionDestroy", session(SessionOp::Destroy { id })),
        ("SessionRenew", session(SessionOp::Renew { id })),
        ("SessionExpire", session(SessionOp::Expire { sessions: [(id, 4)].into() })),
        ("SessionEndLockDelays", session(SessionOp::EndLockDelays { delays })),
    ]
}

fn session() -> Session {
    Session {
        id: SessionId::from_bits(1),
        name: text("a lock"),
        node: Arc::from("box"),
        node_checks: vec![text("serfHealth")],
        service_checks: vec![ServiceCheck {
            id: text("service:ping-1"),
            namespace: text("default"),
        }],
        lock_delay: Duration::from_secs(15),
        behavior: Behavior::Delete,
        ttl: Duration::from_secs(30),
        create_index: 0,
        modify_index: 0,
        renew_index: 0,
    }
}

fn catalog_changes() -> Vec<CatalogChange> {
    let (node, id): (Arc<str>, Arc<str>) = (Arc::from("box"), Arc::from("ping-1"));
    let probes = [
        Probe::Ttl(Duration::from_secs(30)),
        Probe::Http {
            url: text("http://10.0.0.1:8000/health"),
            method: text("GET"),
            header: BTreeMap::from([(text("X-A"), vec![text("b")])]),
            body: text("body"),
            tls_skip_verify: true,
        },
        Probe::Tcp(text("10.0.0.1:8000")),
        Probe::Script { args: vec![text("true")], target: text("alloc/main") },
    ];
    let mut changes = vec![
        CatalogChange::PutNode(CatalogNode {
            name: Arc::clone(&node),
            id: text("00000000-0000-0000-0000-000000000001"),
            address: text("10.0.0.1"),
            tagged_addresses: pair("lan", "10.0.0.1"),
            meta: pair("a", "b"),
            create_index: 0,
            modify_index: 0,
        }),
        CatalogChange::PutService(ServiceInstance {
            node: Arc::clone(&node),
            id: Arc::clone(&id),
            name: Arc::from("ping-service"),
            tags: vec![text("urlprefix-/ping")],
            address: text("10.0.0.1"),
            port: 8000,
            meta: pair("a", "b"),
            tagged_addresses: BTreeMap::from([(text("lan"), (text("10.0.0.1"), 8000))]),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: true,
            create_index: 0,
            modify_index: 0,
        }),
    ];
    for (number, probe) in probes.into_iter().enumerate() {
        changes.push(CatalogChange::PutCheck(CatalogCheck {
            node: Arc::clone(&node),
            id: Arc::from(format!("check{number}")),
            name: text("alive"),
            status: Health::Passing,
            notes: text("notes"),
            output: text("output"),
            service_id: Arc::clone(&id),
            service_name: Arc::from("ping-service"),
            definition: Some(CheckDefinition {
                probe,
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(2),
                deregister_after: Duration::from_mins(1),
                success_before_passing: 1,
                failures_before_critical: 2,
            }),
            create_index: 0,
            modify_index: 0,
        }));
    }
    let check = Arc::from("check0");
    let (status, output) = (Health::Warning, text("so so"));
    changes.extend([
        CatalogChange::SetCheck { node: Arc::clone(&node), id: check, status, output },
        CatalogChange::RemoveCheck { node: Arc::clone(&node), id: Arc::from("check1") },
        CatalogChange::RemoveService { node, id: Arc::from("none") },
        CatalogChange::RemoveNode { node: Arc::from("none") },
    ]);
    changes
}

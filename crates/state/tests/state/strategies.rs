//! Random commands over few names, so that they meet: three nodes, two jobs, ten allocations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::{CatalogChange, CatalogCheck, CatalogNode, Health, ServiceInstance};
use cos_model::kv::KvOp;
use cos_model::link::AllocUpdate;
use cos_model::plan::{DeploymentUpdate, Plan, PlannedStop};
use cos_model::session::{Behavior, LockDelay, Session, SessionOp};
use cos_model::trust::{JoinToken, SealedAuthority, TrustChange};
use cos_model::{
    AllocId, AllocMetric, AllocatedPort, Allocation, ClientStatus, DeploymentId, DeploymentStatus,
    DesiredStatus, DesiredTransition, EvalId, EvalStatus, Evaluation, Job, JobKey, JobKind, Node,
    NodeId, NodeStatus, Resources, SessionId, TaskState, Timestamp,
};
use cos_state::{Command, Request, SchedulerConfig};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::samples::{self, GROUP};

/// A log: requests in the order in which they are applied. It begins with nodes, as little happens
/// without.
pub(crate) fn log() -> impl Strategy<Value = Vec<Request>> {
    vec(request(), 1..40).prop_map(|requests| {
        let nodes = (1..4).map(|number| {
            let mut node = samples::node(number);
            node.capacity.cpu_mhz = 300;
            let command = Command::RegisterNode { node: Box::new(node), evals: Vec::new() };
            Request::new(Timestamp(1), command)
        });
        nodes.chain(requests).collect()
    })
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    (1_i64..1_000_000, command()).prop_map(|(at, command)| Request::new(Timestamp(at), command))
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => about_nodes(),
        4 => about_jobs(),
        8 => plan().prop_map(|plan| Command::ApplyPlan { plan: Box::new(plan) }),
        4 => about_allocs(),
        2 => about_deployments(),
        2 => vec(eval(), 0..3).prop_map(|evals| Command::PutEvals { evals }),
        1 => collect(),
        2 => vec(catalog_change(), 0..4).prop_map(|changes| Command::Catalog { changes }),
        2 => vec(kv_op(), 0..4).prop_map(|ops| Command::Kv { ops }),
        2 => session_op().prop_map(Command::Session),
        1 => any::<(bool, bool)>().prop_map(|(spread, memory_oversubscription)| {
            let rest = SchedulerConfig::default();
            Command::SetSchedulerConfig(SchedulerConfig { spread, memory_oversubscription, ..rest })
        }),
        1 => trust_change().prop_map(Command::Trust),
    ]
}

fn trust_change() -> impl Strategy<Value = TrustChange> {
    let bytes = || vec(0..3_u8, 0..2);
    prop_oneof![
        (0..3_u64, 0..3_u64, bytes()).prop_map(|(version, expected, sealed)| {
            let authority = SealedAuthority { version, roots: Vec::new(), sealed };
            TrustChange::SetAuthority { authority, expected }
        }),
        (0..3_u128, bytes(), 0..2_000_000_i64).prop_map(|(id, secret_hash, ends)| {
            TrustChange::CreateToken(JoinToken {
                id,
                role: "client".to_owned(),
                secret_hash,
                created_at: Timestamp(0),
                expires_at: Timestamp(ends),
                used: None,
            })
        }),
        (0..3_u128).prop_map(|id| TrustChange::RevokeToken { id }),
        (0..3_u128, bytes(), bytes(), any::<bool>()).prop_map(|(id, secret_hash, key, server)| {
            let role = if server { "server" } else { "client" }.to_owned();
            TrustChange::UseToken { id, secret_hash, role, by: "a".to_owned(), key }
        }),
    ]
}

fn about_nodes() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (node(), evals()).prop_map(|(node, evals)| {
            Command::RegisterNode { node: Box::new(node), evals }
        }),
        2 => (node_id(), node_status(), evals()).prop_map(|(id, status, evals)| {
            Command::SetNodeStatus { id, status, message: "Node ready".to_owned(), evals }
        }),
        1 => (node_id(), any::<bool>(), evals()).prop_map(|(id, eligible, evals)| {
            Command::SetNodeEligibility { id, eligible, evals }
        }),
        1 => (node_id(), option::of(any::<bool>()), any::<bool>(), evals()).prop_map(
            |(id, drain, mark_eligible, evals)| {
                let drain = drain.map(samples::drain);
                Command::SetNodeDrain { id, drain, mark_eligible, evals }
            }
        ),
    ]
}

fn about_jobs() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (job(), option::weighted(0.1, 0_u64..4), option::of(eval())).prop_map(
            |(job, expected_index, eval)| {
                Command::RegisterJob { job: Box::new(job), expected_index, eval }
            }
        ),
        1 => (job_key(), any::<bool>(), option::of(eval()))
            .prop_map(|(key, purge, eval)| Command::StopJob { key, purge, eval }),
        1 => (job_key(), 0_u64..3, any::<bool>())
            .prop_map(|(key, version, stable)| Command::SetJobStability { key, version, stable }),
    ]
}

fn about_allocs() -> impl Strategy<Value = Command> {
    let transition = any::<(bool, bool, bool)>().prop_map(|(migrate, force_reschedule, quick)| {
        DesiredTransition { migrate, force_reschedule, no_shutdown_delay: quick }
    });
    prop_oneof![
        4 => (vec(update(), 0..4), evals())
            .prop_map(|(updates, evals)| Command::UpdateAllocs { updates, evals }),
        1 => (proptest::collection::btree_map(alloc_id(), transition, 0..3), evals())
            .prop_map(|(transitions, evals)| Command::SetTransitions { transitions, evals }),
    ]
}

fn about_deployments() -> impl Strategy<Value = Command> {
    prop_oneof![
        (deployment_update(), option::of(job()), option::of(eval())).prop_map(
            |(update, revert, eval)| {
                Command::SetDeploymentStatus { update, revert: revert.map(Box::new), eval }
            }
        ),
        (deployment_id(), any::<bool>(), option::of(eval())).prop_map(|(id, all, eval)| {
            let groups = (!all).then(|| vec![GROUP.to_owned()]);
            Command::PromoteDeployment { id, groups, eval }
        }),
        (deployment_id(), vec(alloc_id(), 0..3), vec(alloc_id(), 0..2), option::of(eval()))
            .prop_map(|(id, healthy, unhealthy, eval)| {
                Command::SetAllocHealth { id, healthy, unhealthy, eval }
            }),
    ]
}

fn collect() -> impl Strategy<Value = Command> {
    (
        vec(eval_id(), 0..4),
        vec(alloc_id(), 0..5),
        vec(deployment_id(), 0..2),
        vec(job_key(), 0..2),
        vec(node_id(), 0..2),
    )
        .prop_map(|(evals, allocs, deployments, jobs, nodes)| Command::Collect {
            evals,
            allocs,
            deployments,
            jobs,
            nodes,
        })
}

fn node() -> impl Strategy<Value = Node> {
    (1_u128..4, node_status(), select(vec![0, 150, 300, 1000]), any::<bool>(), 0_u8..8).prop_map(
        |(number, status, cpu_mhz, eligible, odd)| {
            let mut node = Node { status, eligible, ..samples::node(number) };
            node.capacity.cpu_mhz = cpu_mhz;
            if odd == 0 {
                "node1".clone_into(&mut node.name);
            }
            node
        },
    )
}

fn job() -> impl Strategy<Value = Job> {
    let kind = select(vec![JobKind::Service, JobKind::Service, JobKind::Batch, JobKind::System]);
    (job_key(), kind, 0_u8..3, 0_u64..3).prop_map(|(key, kind, meta, version)| {
        let meta = BTreeMap::from([("v".to_owned(), meta.to_string())]);
        Job { key, kind, meta, version, ..samples::job("a") }
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let deployment = option::weighted(0.3, (1_u128..4, job(), 0_u32..2));
    // Evaluations of plans are seldom met again: a plan whose evaluation is over is refused.
    let eval = (eval(), 1_u128..40)
        .prop_map(|(eval, number)| Evaluation { id: EvalId::from_bits(number), ..eval });
    (
        eval,
        prop::bool::weighted(0.2),
        vec(placement(), 0..5),
        vec(stop(), 0..3),
        proptest::collection::btree_map(alloc_id(), eval_id(), 0..2),
        deployment,
        vec(deployment_update(), 0..2),
        evals(),
    )
        .prop_map(
            |(eval, all_at_once, placements, stops, followups, new, updates, new_evals)| {
                let deployment = new.map(|(number, job, canaries)| {
                    let mut deployment = samples::deployment(number, &job);
                    for group in deployment.groups.values_mut() {
                        group.desired_canaries = canaries;
                    }
                    deployment
                });
                Plan {
                    all_at_once,
                    placements,
                    stops,
                    followups,
                    deployment,
                    deployment_updates: updates,
                    new_evals,
                    ..samples::plan(eval)
                }
            },
        )
}

fn placement() -> impl Strategy<Value = Allocation> {
    let ports = vec((select(vec!["", "10.0.0.1"]), select(vec![22_u16, 80, 81])), 0..2);
    let links = (option::of(deployment_id()), any::<bool>(), option::of(alloc_id()));
    (1_u128..11, 1_u128..4, job(), 0_u64..200, ports, links).prop_map(
        |(number, node, job, cpu_mhz, ports, (deployment_id, canary, previous))| Allocation {
            resources: Resources { cpu_mhz, memory_mib: 10, disk_mib: 10 },
            ports: ports.into_iter().map(|(host_ip, port)| allocated_port(host_ip, port)).collect(),
            deployment_id,
            canary,
            previous,
            ..samples::alloc(number, node, &Arc::new(job))
        },
    )
}

fn allocated_port(host_ip: &str, host_port: u16) -> AllocatedPort {
    let (label, host_ip) = ("http".to_owned(), host_ip.to_owned());
    AllocatedPort { label, task: None, host_port, to: 0, host_ip }
}

fn stop() -> impl Strategy<Value = PlannedStop> {
    (alloc_id(), any::<bool>(), option::weighted(0.3, client_status())).prop_map(
        |(id, evict, client_status)| PlannedStop {
            id,
            desired: if evict { DesiredStatus::Evict } else { DesiredStatus::Stop },
            description: "alloc not needed".to_owned(),
            client_status,
        },
    )
}

fn update() -> impl Strategy<Value = AllocUpdate> {
    (alloc_id(), client_status(), 0_u64..3, option::of((deployment_id(), any::<bool>()))).prop_map(
        |(id, client_status, restarts, health)| AllocUpdate {
            id,
            client_status,
            client_description: String::new(),
            task_states: BTreeMap::from([(
                "main".to_owned(),
                TaskState { restarts, ..TaskState::default() },
            )]),
            health,
        },
    )
}

fn deployment_update() -> impl Strategy<Value = DeploymentUpdate> {
    use DeploymentStatus::{Cancelled, Failed, Paused, Running, Successful};
    let status = select(vec![Running, Paused, Failed, Successful, Cancelled]);
    (deployment_id(), status).prop_map(|(id, status)| DeploymentUpdate {
        id,
        status,
        description: "words".to_owned(),
    })
}

fn evals() -> impl Strategy<Value = Vec<Evaluation>> {
    vec(eval(), 0..2)
}

fn eval() -> impl Strategy<Value = Evaluation> {
    use EvalStatus::{Blocked, Cancelled, Complete, Failed, Pending};
    let status = select(vec![Pending, Blocked, Blocked, Complete, Failed, Cancelled]);
    (1_u128..8, job_key(), status, any::<bool>()).prop_map(|(number, job, status, unplaced)| {
        let mut eval = Evaluation { job, status, ..samples::eval(number, "a") };
        if unplaced {
            eval.failed_groups.insert(GROUP.to_owned(), AllocMetric::default());
        }
        eval
    })
}

fn catalog_change() -> impl Strategy<Value = CatalogChange> {
    let names = || select(vec!["node1", "node2", "box"]).prop_map(Arc::from);
    let ids = || select(vec!["one", "two", "serfHealth"]).prop_map(Arc::from);
    let health = || select(vec![Health::Passing, Health::Warning, Health::Critical]);
    prop_oneof![
        (names(), 0_u8..2)
            .prop_map(|(name, address)| { CatalogChange::PutNode(catalog_node(name, address)) }),
        names().prop_map(|node| CatalogChange::RemoveNode { node }),
        (names(), ids(), select(vec!["web", "api"]), 0_u16..2).prop_map(
            |(node, id, name, port)| { CatalogChange::PutService(service(node, id, name, port)) }
        ),
        (names(), ids()).prop_map(|(node, id)| CatalogChange::RemoveService { node, id }),
        (names(), ids(), option::of(ids()), health()).prop_map(|(node, id, service, status)| {
            CatalogChange::PutCheck(check(node, id, service, status))
        }),
        (names(), ids()).prop_map(|(node, id)| CatalogChange::RemoveCheck { node, id }),
        (names(), ids(), health()).prop_map(|(node, id, status)| CatalogChange::SetCheck {
            node,
            id,
            status,
            output: String::new(),
        }),
    ]
}

fn catalog_node(name: Arc<str>, address: u8) -> CatalogNode {
    CatalogNode {
        name,
        id: String::new(),
        address: format!("10.0.1.{address}"),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    }
}

fn service(node: Arc<str>, id: Arc<str>, name: &str, port: u16) -> ServiceInstance {
    ServiceInstance {
        node,
        id,
        name: Arc::from(name),
        tags: Vec::new(),
        address: String::new(),
        port,
        meta: BTreeMap::new(),
        tagged_addresses: BTreeMap::new(),
        weight_passing: 1,
        weight_warning: 1,
        enable_tag_override: false,
        create_index: 0,
        modify_index: 0,
    }
}

fn check(node: Arc<str>, id: Arc<str>, service: Option<Arc<str>>, status: Health) -> CatalogCheck {
    CatalogCheck {
        node,
        id,
        name: "check".to_owned(),
        status,
        notes: String::new(),
        output: String::new(),
        service_id: service.unwrap_or_else(|| Arc::from("")),
        service_name: Arc::from(""),
        definition: None,
        create_index: 0,
        modify_index: 0,
    }
}

fn kv_op() -> impl Strategy<Value = KvOp> {
    let keys = || select(vec!["a", "a/b", "a/b/c", "a/c", "b", "b/"]).prop_map(str::to_owned);
    let values = || vec(0_u8..2, 0..2);
    prop_oneof![
        3 => (keys(), values(), 0_u64..2)
            .prop_map(|(key, value, flags)| KvOp::Set { key, value, flags }),
        1 => (keys(), values(), 0_u64..20).prop_map(|(key, value, expected)| {
            KvOp::SetIfUnchanged { key, value, flags: 0, expected }
        }),
        2 => (keys(), values(), session_id())
            .prop_map(|(key, value, session)| KvOp::Acquire { key, value, flags: 0, session }),
        1 => (keys(), values(), session_id())
            .prop_map(|(key, value, session)| KvOp::Release { key, value, flags: 0, session }),
        1 => keys().prop_map(|key| KvOp::Delete { key }),
        1 => (keys(), 0_u64..20)
            .prop_map(|(key, expected)| KvOp::DeleteIfUnchanged { key, expected }),
        1 => select(vec!["a/", "a", "", "b/"])
            .prop_map(|prefix| KvOp::DeleteTree { prefix: prefix.to_owned() }),
    ]
}

fn session_op() -> impl Strategy<Value = SessionOp> {
    prop_oneof![
        4 => session().prop_map(|session| SessionOp::Create(Box::new(session))),
        1 => session_id().prop_map(|id| SessionOp::Destroy { id }),
        1 => session_id().prop_map(|id| SessionOp::Renew { id }),
        1 => (session_id(), 0_u64..40)
            .prop_map(|(id, seen)| SessionOp::Expire { sessions: [(id, seen)].into() }),
        1 => (0_u64..40, 0_u64..3).prop_map(|(since, seconds)| {
            let lasts = Duration::from_secs(seconds);
            SessionOp::EndLockDelays { delays: [LockDelay { since, lasts }].into() }
        }),
    ]
}

fn session() -> impl Strategy<Value = Session> {
    let nodes = select(vec!["node1", "node2", "box"]);
    let checks = vec(select(vec!["serfHealth", "nothing"]).prop_map(str::to_owned), 0..2);
    (session_id(), nodes, checks, 0_u64..3, any::<bool>()).prop_map(
        |(id, node, node_checks, seconds, deletes)| Session {
            id,
            name: String::new(),
            node: Arc::from(node),
            node_checks,
            service_checks: Vec::new(),
            lock_delay: Duration::from_secs(seconds),
            behavior: if deletes { Behavior::Delete } else { Behavior::Release },
            ttl: Duration::ZERO,
            create_index: 0,
            modify_index: 0,
            renew_index: 0,
        },
    )
}

fn session_id() -> impl Strategy<Value = SessionId> {
    (1_u128..4).prop_map(SessionId::from_bits)
}

fn job_key() -> impl Strategy<Value = JobKey> {
    select(vec!["a", "b"]).prop_map(samples::job_key)
}

fn node_id() -> impl Strategy<Value = NodeId> {
    (1_u128..4).prop_map(NodeId::from_bits)
}

fn alloc_id() -> impl Strategy<Value = AllocId> {
    (1_u128..11).prop_map(AllocId::from_bits)
}

fn eval_id() -> impl Strategy<Value = EvalId> {
    (1_u128..8).prop_map(EvalId::from_bits)
}

fn deployment_id() -> impl Strategy<Value = DeploymentId> {
    (1_u128..4).prop_map(DeploymentId::from_bits)
}

fn node_status() -> impl Strategy<Value = NodeStatus> {
    use NodeStatus::{Down, Initializing, Ready};
    select(vec![Initializing, Ready, Ready, Ready, Down])
}

fn client_status() -> impl Strategy<Value = ClientStatus> {
    use ClientStatus::{Complete, Failed, Lost, Pending, Running, Unknown};
    select(vec![Pending, Running, Complete, Failed, Lost, Unknown])
}

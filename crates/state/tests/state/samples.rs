//! Small valid objects, to be changed with struct update syntax; golden files hold some of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::node::{DrainSpec, DrainState};
use cos_model::{
    Allocation, Deployment, DeploymentGroup, EvalStatus, Evaluation, Job, JobKey, JobKind, Node,
    Plan, Resources, Task, TaskGroup, Timestamp, Update, samples,
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
        cores: 1,
        reserved_ports: vec![22],
        attributes: BTreeMap::from([("kernel.name".to_owned(), "linux".to_owned())]),
        ..samples::node(number)
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
    samples::job(id, JobKind::Service, vec![group()])
}

pub(crate) fn group() -> TaskGroup {
    TaskGroup { update: Some(Update::default()), ..samples::group(GROUP, vec![task()]) }
}

pub(crate) fn task() -> Task {
    Task { resources: resources(100, 100), ..samples::task("main") }
}

pub(crate) fn eval(number: u128, job: &str) -> Evaluation {
    samples::eval(number, job_key(job))
}

pub(crate) fn alloc(number: u128, node: u128, job: &Arc<Job>) -> Allocation {
    samples::alloc(number, node, job)
}

pub(crate) fn deployment(number: u128, job: &Job) -> Deployment {
    let group = DeploymentGroup {
        progress_deadline: PROGRESS_DEADLINE,
        desired_total: 2,
        ..DeploymentGroup::default()
    };
    Deployment {
        groups: BTreeMap::from([(GROUP.to_owned(), group)]),
        ..samples::deployment(number, job)
    }
}

/// A plan that does nothing but complete its evaluation.
pub(crate) fn plan(eval: Evaluation) -> Plan {
    samples::plan(Evaluation { status: EvalStatus::Complete, ..eval })
}

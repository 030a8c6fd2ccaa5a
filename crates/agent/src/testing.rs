//! What the tests of several modules share: small allocations, nodes and handles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::TaskHandle;
use cos_drivers::driver::{ProcessId, Reference, ShimReference};
use cos_model::{
    AllocatedTask, Allocation, Job, JobKind, Node, NodeId, Resources, Restart, Task, TaskGroup,
    samples,
};

/// The node of all tests.
pub(crate) const NODE: NodeId = NodeId::from_bits(1);

pub(crate) fn task(name: &str) -> Task {
    Task {
        driver: "mock".to_owned(),
        resources: Resources { cpu_mhz: 100, memory_mib: 64, disk_mib: 0 },
        restart: restart(),
        ..samples::task(name)
    }
}

pub(crate) fn restart() -> Restart {
    Restart { interval: Duration::from_mins(10), ..samples::restart() }
}

pub(crate) fn group(tasks: Vec<Task>) -> TaskGroup {
    samples::group("group", tasks)
}

pub(crate) fn job(kind: JobKind, group: TaskGroup) -> Job {
    samples::job("job", kind, vec![group])
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
    Allocation { tasks, ..samples::alloc(number, NODE.bits(), &Arc::new(job)) }
}

/// An allocation of a service with one task, `web`.
pub(crate) fn alloc(number: u128) -> Arc<Allocation> {
    Arc::new(alloc_of(number, job(JobKind::Service, group(vec![task("web")]))))
}

pub(crate) fn node() -> Node {
    Node {
        name: "node".to_owned(),
        node_class: "big".to_owned(),
        attributes: BTreeMap::from([("kernel.name".to_owned(), "linux".to_owned())]),
        meta: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
        ..samples::node(NODE.bits())
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

//! What an allocation takes: the present form and the one of old clients.

use std::collections::BTreeMap;

use cos_model::task::Hook;
use cos_model::{AllocatedTask, Allocation, Lifecycle, Resources};
use serde::Serialize;

use super::network::{NetworkResource, PortMapping, granted, shared_ports};

/// What an allocation takes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocatedResources {
    tasks: BTreeMap<String, TaskResources>,
    task_lifecycles: BTreeMap<String, Option<TaskLifecycle>>,
    shared: SharedResources,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskResources {
    cpu: Cpu,
    memory: Memory,
    networks: Option<Vec<NetworkResource>>,
    devices: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cpu {
    cpu_shares: u64,
    reserved_cores: Option<Vec<u16>>,
}

#[derive(Clone, Debug, Serialize)]
struct Memory {
    #[serde(rename = "MemoryMB")]
    memory: u64,
    #[serde(rename = "MemoryMaxMB")]
    memory_max: u64,
}

#[derive(Clone, Debug, Serialize)]
struct SharedResources {
    #[serde(rename = "Networks")]
    networks: Option<Vec<NetworkResource>>,
    #[serde(rename = "DiskMB")]
    disk: u64,
    #[serde(rename = "Ports")]
    ports: Option<Vec<PortMapping>>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskLifecycle {
    hook: &'static str,
    sidecar: bool,
}

impl From<Lifecycle> for TaskLifecycle {
    fn from(lifecycle: Lifecycle) -> Self {
        let hook = match lifecycle.hook {
            Hook::Prestart => "prestart",
            Hook::Poststart => "poststart",
            Hook::Poststop => "poststop",
        };
        Self { hook, sidecar: lifecycle.sidecar }
    }
}

impl From<&Allocation> for AllocatedResources {
    fn from(alloc: &Allocation) -> Self {
        let lifecycle = |task: &str| {
            alloc.task_group().and_then(|group| group.task(task)).and_then(|task| task.lifecycle)
        };
        Self {
            tasks: alloc
                .tasks
                .iter()
                .map(|(name, taken)| (name.clone(), task_resources(alloc, name, taken)))
                .collect(),
            task_lifecycles: alloc
                .tasks
                .keys()
                .map(|name| (name.clone(), lifecycle(name).map(TaskLifecycle::from)))
                .collect(),
            shared: SharedResources {
                networks: filled(granted(alloc, None)),
                disk: alloc.resources.disk_mib,
                ports: shared_ports(alloc),
            },
        }
    }
}

fn task_resources(alloc: &Allocation, name: &str, taken: &AllocatedTask) -> TaskResources {
    TaskResources {
        cpu: Cpu { cpu_shares: taken.resources.cpu_mhz, reserved_cores: None },
        memory: Memory { memory: taken.resources.memory_mib, memory_max: taken.memory_max_mib },
        networks: filled(granted(alloc, Some(name))),
        devices: None,
    }
}

fn filled<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

/// What an allocation or task takes, in the words of old clients.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LegacyResources {
    #[serde(rename = "CPU")]
    cpu: u64,
    #[serde(rename = "Cores")]
    cores: u32,
    #[serde(rename = "MemoryMB")]
    memory: u64,
    #[serde(rename = "MemoryMaxMB")]
    memory_max: u64,
    #[serde(rename = "DiskMB")]
    disk: u64,
    #[serde(rename = "IOPS")]
    iops: u32,
    #[serde(rename = "Networks")]
    networks: Option<Vec<NetworkResource>>,
    #[serde(rename = "Devices")]
    devices: Option<Vec<String>>,
}

impl LegacyResources {
    fn new(amount: &Resources, memory_max: u64, networks: Vec<NetworkResource>) -> Self {
        Self {
            cpu: amount.cpu_mhz,
            cores: 0,
            memory: amount.memory_mib,
            memory_max,
            disk: amount.disk_mib,
            iops: 0,
            networks: filled(networks),
            devices: None,
        }
    }

    /// All tasks together.
    pub(crate) fn of_alloc(alloc: &Allocation) -> Self {
        Self::new(&alloc.resources, 0, granted(alloc, None))
    }

    /// What the tasks share.
    pub(crate) fn shared(alloc: &Allocation) -> Self {
        let disk = Resources { disk_mib: alloc.resources.disk_mib, ..Resources::default() };
        Self::new(&disk, 0, granted(alloc, None))
    }

    /// Each task alone.
    pub(crate) fn by_task(alloc: &Allocation) -> BTreeMap<String, Self> {
        let one = |name: &String, taken: &AllocatedTask| {
            let networks = granted(alloc, Some(name));
            (name.clone(), Self::new(&taken.resources, taken.memory_max_mib, networks))
        };
        alloc.tasks.iter().map(|(name, taken)| one(name, taken)).collect()
    }
}

//! Nodes, jobs and allocations from a line of text, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::job::VolumeRequest;
use cos_model::node::HostVolume;
use cos_model::{
    Affinity, Allocation, ClientStatus, Constraint, DelayFunction, Disconnect, DriverState, Job,
    JobKind, Network, Node, NodeId, Operator, Port, Reschedule, Resources, Spread, SpreadTarget,
    Task, TaskGroup, Timestamp, Update, samples,
};

mod disconnects;
mod properties;
mod scenarios;
mod script;
mod system_scenarios;
pub(crate) mod world;

/// Parses `key=value` words: `id name dc class pool cpu mem disk cores driver volume attr.… meta.…`.
pub(crate) fn node(text: &str) -> Node {
    let mut node = Node {
        name: "n1".to_owned(),
        max_dynamic_port: 20_099,
        drivers: BTreeMap::from([("raw_exec".to_owned(), working_driver())]),
        ..samples::node(1)
    };
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "id" => node.id = NodeId::from_bits(value.parse().unwrap()),
            "name" => node.name = value.to_owned(),
            "dc" => node.datacenter = value.to_owned(),
            "class" => node.node_class = value.to_owned(),
            "pool" => node.node_pool = value.to_owned(),
            "cpu" => node.capacity.cpu_mhz = value.parse().unwrap(),
            "mem" => node.capacity.memory_mib = value.parse().unwrap(),
            "disk" => node.capacity.disk_mib = value.parse().unwrap(),
            "cores" => node.cores = value.parse().unwrap(),
            "ports" => {
                let (first, last) = value.split_once('-').unwrap();
                node.min_dynamic_port = first.parse().unwrap();
                node.max_dynamic_port = last.parse().unwrap();
            }
            "driver" => drop(node.drivers.insert(value.to_owned(), working_driver())),
            "volume" => drop(node.host_volumes.insert(value.to_owned(), HostVolume::default())),
            _ => {
                let (facts, key) = match key.split_once('.').unwrap() {
                    ("meta", key) => (&mut node.meta, key),
                    (_, key) => (&mut node.attributes, key),
                };
                facts.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    node
}

fn working_driver() -> DriverState {
    DriverState { detected: true, healthy: true, ..DriverState::default() }
}

/// Parses `label`, `label=static`, and either with `:to`.
pub(crate) fn port(text: &str) -> Port {
    let (text, to) = text.split_once(':').unwrap_or((text, "0"));
    let (label, fixed) = text.split_once('=').unwrap_or((text, "0"));
    Port {
        label: label.to_owned(),
        host_port: fixed.parse().unwrap(),
        to: to.parse().unwrap(),
        ..Port::default()
    }
}

/// Parses a job of one group and one task, all of one name, which is the first word.
pub(crate) fn job(text: &str) -> Arc<Job> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap();
    let mut job = bare_job(name);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        set_job_word(&mut job, key, value);
    }
    if matches!(job.kind, JobKind::Batch | JobKind::SysBatch) {
        job.groups[0].update = None;
    }
    Arc::new(job)
}

fn set_job_word(job: &mut Job, key: &str, value: &str) {
    let number = || value.parse::<u32>().unwrap();
    let seconds = || Duration::from_secs(value.parse().unwrap());
    let (rules, group) = (&mut job.constraints, &mut job.groups[0]);
    let update = group.update.get_or_insert_with(no_update);
    let task = &mut group.tasks[0];
    match key {
        "kind" => {
            job.kind = match value {
                "batch" => JobKind::Batch,
                "system" => JobKind::System,
                "sysbatch" => JobKind::SysBatch,
                _ => JobKind::Service,
            }
        }
        "dc" => job.datacenters = value.split(',').map(str::to_owned).collect(),
        "pool" => job.node_pool = value.to_owned(),
        "count" => group.count = number(),
        "cpu" => task.resources.cpu_mhz = value.parse().unwrap(),
        "mem" => task.resources.memory_mib = value.parse().unwrap(),
        "cores" => task.cores = number(),
        "disk" => group.ephemeral_disk_mib = value.parse().unwrap(),
        "driver" => task.driver = value.to_owned(),
        "rev" => drop(task.env.insert("REV".to_owned(), value.to_owned())),
        "port" => {
            let network = Network { ports: vec![port(value)], ..Network::default() };
            group.networks.push(network);
        }
        "volume" => {
            let source = VolumeRequest {
                kind: "host".to_owned(),
                source: value.to_owned(),
                ..VolumeRequest::default()
            };
            group.volumes.insert(value.to_owned(), source);
        }
        "sticky" => group.sticky_disk = true,
        "max_parallel" => update.max_parallel = number(),
        "canary" => update.canary = number(),
        "stagger" => update.stagger = seconds(),
        "auto_promote" => update.auto_promote = true,
        "progress" => update.progress_deadline = seconds(),
        "reschedule" => group.reschedule = reschedule(&value.replace(',', " ")),
        "rule" => {
            let (attribute, value) = value.split_once('=').unwrap();
            rules.push(constraint(attribute, Operator::Equal, value));
        }
        "distinct_hosts" => group.constraints.push(constraint("", Operator::DistinctHosts, "")),
        "distinct" => {
            let (attribute, limit) = value.split_once(':').unwrap_or((value, ""));
            group.constraints.push(constraint(attribute, Operator::DistinctProperty, limit));
        }
        "affinity" => {
            let (attribute, value) = value.split_once('=').unwrap();
            group.affinities.push(Affinity {
                attribute: format!("${{{attribute}}}"),
                operator: Operator::Equal,
                value: value.to_owned(),
                weight: 100,
            });
        }
        "spread" => group.spreads.push(spread(value)),
        _ => set_disconnect_word(group.disconnect.get_or_insert_default(), key, value),
    }
}

fn set_disconnect_word(disconnect: &mut Disconnect, key: &str, value: &str) {
    let seconds = || Some(Duration::from_secs(value.parse().unwrap()));
    match key {
        "lost_after" => disconnect.lost_after = seconds(),
        "stop_after" => disconnect.stop_on_client_after = seconds(),
        "stay" => disconnect.replace = false,
        "reconcile" => value.clone_into(&mut disconnect.reconcile),
        _ => panic!("unknown word {key}"),
    }
}

fn constraint(attribute: &str, operator: Operator, value: &str) -> Constraint {
    let attribute = if attribute.is_empty() { String::new() } else { format!("${{{attribute}}}") };
    Constraint { attribute, operator, value: value.to_owned() }
}

/// Parses `meta.rack` or `meta.rack:r1/70,r2/30`.
fn spread(text: &str) -> Spread {
    let (attribute, targets) = text.split_once(':').unwrap_or((text, ""));
    let targets = targets.split(',').filter(|target| !target.is_empty()).map(|target| {
        let (value, percent) = target.split_once('/').unwrap();
        SpreadTarget { value: value.to_owned(), percent: percent.parse().unwrap() }
    });
    Spread { attribute: format!("${{{attribute}}}"), weight: 100, targets: targets.collect() }
}

fn no_update() -> Update {
    Update { max_parallel: 0, ..Update::default() }
}

fn bare_job(name: &str) -> Job {
    Job {
        meta: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
        create_index: 1,
        modify_index: 1,
        job_modify_index: 1,
        ..samples::job(name, JobKind::Service, vec![bare_group(name)])
    }
}

fn bare_group(name: &str) -> TaskGroup {
    TaskGroup { ephemeral_disk_mib: 0, ..samples::group(name, vec![bare_task(name)]) }
}

fn bare_task(name: &str) -> Task {
    Task {
        meta: BTreeMap::from([("owner".to_owned(), "me".to_owned())]),
        resources: Resources { cpu_mhz: 100, memory_mib: 10, disk_mib: 0 },
        ..samples::task(name)
    }
}

/// Parses a reschedule policy; `none` is none.
pub(crate) fn reschedule(text: &str) -> Option<Reschedule> {
    let mut policy = Reschedule {
        attempts: 0,
        interval: Duration::ZERO,
        delay: Duration::from_secs(5),
        delay_function: DelayFunction::Constant,
        max_delay: Duration::ZERO,
        unlimited: false,
    };
    for word in text.split_whitespace() {
        let (key, value) =
            word.split_once('=').or_else(|| word.split_once(':')).unwrap_or((word, "0"));
        let seconds = || Duration::from_secs(value.parse().unwrap());
        match key {
            "none" => return None,
            "unlimited" => policy.unlimited = true,
            "attempts" => policy.attempts = value.parse().unwrap(),
            "interval" => policy.interval = seconds(),
            "delay" => policy.delay = seconds(),
            "max_delay" => policy.max_delay = seconds(),
            "function" => {
                policy.delay_function = match value {
                    "exponential" => DelayFunction::Exponential,
                    "fibonacci" => DelayFunction::Fibonacci,
                    _ => DelayFunction::Constant,
                }
            }
            _ => panic!("unknown word {key}"),
        }
    }
    Some(policy)
}

/// An instance of a job with this reschedule policy, which failed.
pub(crate) fn failed_alloc(policy: &str) -> Allocation {
    let mut job = (*job("web")).clone();
    job.groups[0].reschedule = reschedule(policy);
    Allocation { client_status: ClientStatus::Failed, ..alloc(&Arc::new(job), 1, 1, 0) }
}

/// A pending instance of a job.
pub(crate) fn alloc(job: &Arc<Job>, id: u128, node: u128, index: u32) -> Allocation {
    Allocation {
        index,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        alloc_modify_index: 1,
        ..samples::alloc(id, node, job)
    }
}

//! Whether a new version of a group can be given to running instances, or needs new ones.
//!
//! # Invariants
//!
//! - What is compared is what a task can only get at its start: what it runs, with what, and what
//!   of the node it holds. Everything else (services, checks, restart policy, count, …) is handed to
//!   the running instance.

use std::collections::BTreeMap;

use cos_model::{Affinity, Job, Service, Spread, Task, TaskGroup, Value};

/// Blocks of a task that can change while it runs.
const HARMLESS_TASK_EXTRAS: [&str; 4] = ["Actions", "Kind", "ScalingPolicies", "Schedule"];
/// The block of a group that can only change with a new instance.
const CONSUL: &str = "Consul";
/// The block of a service that can only change with a new instance.
const CONNECT: &str = "Connect";

/// Whether instances of `group` under `old` must be replaced to be instances under `new`.
pub(crate) fn is_destructive(old: &Job, new: &Job, group: &str) -> bool {
    let (Some(before), Some(after)) = (old.group(group), new.group(group)) else { return true };
    placement_differs(old, new, before, after)
        || before.tasks.len() != after.tasks.len()
        || after.tasks.iter().any(|task| {
            before.task(&task.name).is_none_or(|known| {
                task_differs(known, task)
                    || merged_meta(old, before, known) != merged_meta(new, after, task)
            })
        })
}

fn placement_differs(old: &Job, new: &Job, before: &TaskGroup, after: &TaskGroup) -> bool {
    let disk =
        |group: &TaskGroup| (group.ephemeral_disk_mib, group.sticky_disk, group.migrate_disk);
    disk(before) != disk(after)
        || before.volumes != after.volumes
        || before.networks != after.networks
        || affinities(old, before) != affinities(new, after)
        || spreads(old, before) != spreads(new, after)
        || before.extras.get(CONSUL) != after.extras.get(CONSUL)
        || connects(&before.services) != connects(&after.services)
}

fn task_differs(before: &Task, after: &Task) -> bool {
    before.driver != after.driver
        || before.user != after.user
        || before.config != after.config
        || before.env != after.env
        || before.artifacts != after.artifacts
        || before.templates != after.templates
        || before.volume_mounts != after.volume_mounts
        || before.logs.disabled != after.logs.disabled
        || before.resources != after.resources
        || before.cores != after.cores
        || before.memory_max_mib != after.memory_max_mib
        || before.dispatch_payload_file != after.dispatch_payload_file
        || before.networks != after.networks
        || connects(&before.services) != connects(&after.services)
        || extras(before) != extras(after)
}

fn affinities<'a>(job: &'a Job, group: &'a TaskGroup) -> Vec<&'a Affinity> {
    let tasks = group.tasks.iter().flat_map(|task| &task.affinities);
    job.affinities.iter().chain(&group.affinities).chain(tasks).collect()
}

fn spreads<'a>(job: &'a Job, group: &'a TaskGroup) -> Vec<&'a Spread> {
    job.spreads.iter().chain(&group.spreads).collect()
}

fn connects(services: &[Service]) -> BTreeMap<&str, &Value> {
    services
        .iter()
        .filter_map(|service| Some((service.name.as_str(), service.extras.get(CONNECT)?)))
        .collect()
}

fn extras(task: &Task) -> Vec<(&str, &Value)> {
    task.extras
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !HARMLESS_TASK_EXTRAS.contains(name))
        .collect()
}

/// Facts as the task sees them: its own win over the group's, and those over the job's.
fn merged_meta<'a>(
    job: &'a Job,
    group: &'a TaskGroup,
    task: &'a Task,
) -> BTreeMap<&'a String, &'a String> {
    job.meta.iter().chain(&group.meta).chain(&task.meta).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cos_model::{Network, Service};

    use super::*;
    use crate::testing;

    #[track_caller]
    fn check(expected: bool, change: impl FnOnce(&mut Job)) {
        let old = testing::job("web count=2 cpu=100 port=http");
        let mut new = (*old).clone();
        change(&mut new);
        assert_eq!(is_destructive(&old, &new, "web"), expected);
    }

    #[test]
    fn what_a_task_gets_at_its_start_needs_a_new_instance() {
        check(true, |job| job.groups[0].tasks[0].driver = "exec".to_owned());
        check(true, |job| job.groups[0].tasks[0].user = "nobody".to_owned());
        check(true, |job| job.groups[0].tasks[0].resources.memory_mib += 1);
        check(true, |job| {
            drop(job.groups[0].tasks[0].config.insert("image".to_owned(), Value::Null));
        });
        check(true, |job| {
            drop(job.groups[0].tasks[0].env.insert("A".to_owned(), String::new()));
        });
        check(true, |job| job.groups[0].tasks[0].logs.disabled = true);
        check(true, |job| drop(job.groups[0].tasks[0].extras.insert("Vault".into(), Value::Null)));
        check(true, |job| drop(job.meta.insert("a".to_owned(), "b".to_owned())));
        check(true, |job| job.groups[0].networks.push(Network::default()));
        check(true, |job| job.groups[0].networks[0].ports[0].to = 8080);
        check(true, |job| job.groups[0].ephemeral_disk_mib += 1);
        check(true, |job| {
            let extra = Task { name: "side".to_owned(), ..job.groups[0].tasks[0].clone() };
            job.groups[0].tasks.push(extra);
        });
    }

    #[test]
    fn everything_else_is_handed_to_the_running_instance() {
        check(false, |_| {});
        check(false, |job| job.groups[0].count += 1);
        check(false, |job| job.priority = 99);
        check(false, |job| job.groups[0].services.push(Service::default()));
        check(false, |job| job.groups[0].tasks[0].kill_timeout = Duration::from_secs(9));
        check(false, |job| job.groups[0].tasks[0].logs.max_files = 3);
        check(false, |job| job.groups[0].tasks[0].restart.attempts = 9);
        check(false, |job| job.groups[0].update = None);
        check(false, |job| drop(job.groups[0].tasks[0].extras.insert("Kind".into(), Value::Null)));
    }

    #[test]
    fn facts_are_compared_as_the_task_sees_them() {
        check(false, |job| job.groups[0].tasks[0].meta.clear());
        check(false, |job| job.meta.clear());
        check(true, |job| drop(job.groups[0].meta.insert("a".to_owned(), "b".to_owned())));
    }
}

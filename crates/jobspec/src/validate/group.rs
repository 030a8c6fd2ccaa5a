//! Rules of groups: counts, policies, ports, volumes.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{DelayFunction, Job, JobKind, Network, Restart, RestartMode, TaskGroup};

use super::{Findings, Rules, check_rules, service, task};

/// The shortest wait before an instance is replaced.
const MIN_RESCHEDULE_DELAY: Duration = Duration::from_secs(5);

/// The shortest window in which replacements are counted.
const MIN_RESCHEDULE_INTERVAL: Duration = Duration::from_secs(15);

/// The shortest window in which restarts are counted.
const MIN_RESTART_INTERVAL: Duration = Duration::from_secs(5);

/// The smallest ephemeral disk.
const MIN_DISK_MIB: u64 = 10;

pub(super) fn check(job: &Job, group: &TaskGroup, path: &str, findings: &mut Findings) {
    findings.require(!group.name.is_empty(), path, "the group has no name");
    findings.require(!group.tasks.is_empty(), format!("{path}.Tasks"), "the group has no tasks");
    if job.is_system() && group.count > 1 {
        let summary = format!("a {} job runs once on each node: count is 0 or 1", job.kind.name());
        findings.error(format!("{path}.Count"), summary);
    }
    let rules = Rules {
        constraints: &group.constraints,
        affinities: &group.affinities,
        spreads: &group.spreads,
    };
    check_rules(&rules, job.kind, path, findings);
    check_tasks(group, path, findings);
    check_update(job, group, path, findings);
    check_restart(&group.restart, &format!("{path}.RestartPolicy"), findings);
    check_reschedule(job, group, path, findings);
    if group.migrate.is_some() && job.kind != JobKind::Service {
        let summary = format!("a {} job cannot have a migrate block", job.kind.name());
        findings.error(format!("{path}.Migrate"), summary);
    }
    if let Some(disconnect) = &group.disconnect {
        let both = disconnect.lost_after.is_some() && disconnect.stop_on_client_after.is_some();
        let summary = "lost_after and stop_on_client_after exclude each other";
        findings.require(!both, format!("{path}.Disconnect"), summary);
        let stops = disconnect.stop_on_client_after.is_some() && job.is_system();
        let summary = "stop_on_client_after is for service and batch jobs";
        findings.require(!stops, format!("{path}.Disconnect.StopOnClientAfter"), summary);
    }
    findings.require(
        group.ephemeral_disk_mib >= MIN_DISK_MIB,
        format!("{path}.EphemeralDisk.SizeMB"),
        format!("the ephemeral disk is smaller than {MIN_DISK_MIB} MiB"),
    );
    check_scaling(job, group, path, findings);
    check_networks(group, path, findings);
    for (name, volume) in &group.volumes {
        let path = format!("{path}.Volumes.{name}");
        let known = ["host", "csi"].contains(&volume.kind.as_str());
        findings.require(known, &path, format!("`{}` is not a type of volume", volume.kind));
        findings.require(!volume.source.is_empty(), &path, "the volume has no source");
    }
    for (index, item) in group.services.iter().enumerate() {
        service::check(group, None, item, &format!("{path}.Services[{index}]"), findings);
    }
    for (index, item) in group.tasks.iter().enumerate() {
        task::check(job, group, item, &format!("{path}.Tasks[{index}]"), findings);
    }
}

fn check_tasks(group: &TaskGroup, path: &str, findings: &mut Findings) {
    let path = format!("{path}.Tasks");
    findings.unique(&path, "task", group.tasks.iter().map(|task| task.name.as_str()));
    let leaders = group.tasks.iter().filter(|task| task.leader).count();
    findings.require(leaders <= 1, &path, "only one task of a group can be its leader");
    let has_main = group.tasks.iter().any(|task| task.lifecycle.is_none());
    findings.require(
        has_main || group.tasks.is_empty(),
        &path,
        "every task has a lifecycle block; one must be the main task",
    );
}

fn check_update(job: &Job, group: &TaskGroup, path: &str, findings: &mut Findings) {
    let Some(update) = &group.update else { return };
    let path = format!("{path}.Update");
    if matches!(job.kind, JobKind::Batch | JobKind::SysBatch) {
        let summary = format!("a {} job cannot have an update block", job.kind.name());
        findings.error(path, summary);
        return;
    }
    findings.require(
        !update.auto_promote || update.canary > 0,
        &path,
        "auto_promote needs canaries",
    );
    if update.max_parallel == 0 {
        return;
    }
    findings.require(
        update.min_healthy_time < update.healthy_deadline,
        &path,
        "min_healthy_time must be less than healthy_deadline",
    );
    findings.require(
        update.progress_deadline.is_zero() || update.healthy_deadline < update.progress_deadline,
        &path,
        "healthy_deadline must be less than progress_deadline",
    );
    if job.kind == JobKind::Service && update.canary > group.count.max(1) {
        let summary = format!("{} canaries for a count of {}", update.canary, group.count);
        findings.warn(path, summary);
    }
}

pub(super) fn check_restart(restart: &Restart, path: &str, findings: &mut Findings) {
    if restart.attempts == 0 {
        findings.require(
            restart.mode == RestartMode::Fail,
            path,
            "the restart mode `delay` with 0 attempts would never restart",
        );
        return;
    }
    findings.require(
        restart.interval >= MIN_RESTART_INTERVAL,
        path,
        "the restart interval is shorter than 5s",
    );
    findings.require(
        restart.delay.saturating_mul(restart.attempts) <= restart.interval,
        path,
        format!(
            "{} restarts with a delay of {:?} do not fit into the interval of {:?}",
            restart.attempts, restart.delay, restart.interval
        ),
    );
}

fn check_reschedule(job: &Job, group: &TaskGroup, path: &str, findings: &mut Findings) {
    let Some(reschedule) = &group.reschedule else { return };
    let path = format!("{path}.ReschedulePolicy");
    if job.is_system() {
        let summary = format!("a {} job cannot have a reschedule block", job.kind.name());
        findings.error(path, summary);
        return;
    }
    if reschedule.attempts == 0 && !reschedule.unlimited {
        return;
    }
    findings.require(
        reschedule.delay >= MIN_RESCHEDULE_DELAY,
        &path,
        "the reschedule delay is shorter than 5s",
    );
    if reschedule.delay_function != DelayFunction::Constant {
        findings.require(
            reschedule.max_delay >= reschedule.delay,
            &path,
            "the reschedule max_delay is shorter than the delay",
        );
    }
    if !reschedule.unlimited {
        findings.require(
            reschedule.interval >= MIN_RESCHEDULE_INTERVAL,
            &path,
            "the reschedule interval is shorter than 15s",
        );
    }
}

fn check_scaling(job: &Job, group: &TaskGroup, path: &str, findings: &mut Findings) {
    let Some(scaling) = &group.scaling else { return };
    let path = format!("{path}.Scaling");
    if job.is_system() {
        let summary = format!("a {} job cannot have a scaling block", job.kind.name());
        findings.error(path, summary);
        return;
    }
    findings.require(scaling.min <= scaling.max, &path, "the smallest count is above the largest");
    let within = (scaling.min..=scaling.max).contains(&group.count);
    let summary =
        format!("the count {} is not from {} to {}", group.count, scaling.min, scaling.max);
    findings.require(within || scaling.min > scaling.max, path, summary);
}

fn check_networks(group: &TaskGroup, path: &str, findings: &mut Findings) {
    let one = group.networks.len() <= 1;
    findings.require(one, format!("{path}.Networks"), "a group has one network at most");
    let mut fixed: BTreeMap<u16, &str> = BTreeMap::new();
    let own = group.networks.iter().enumerate();
    let own = own.map(|(index, network)| (format!("{path}.Networks[{index}]"), network));
    let legacy = group.tasks.iter().enumerate().flat_map(|(at, task)| {
        let path = format!("{path}.Tasks[{at}].Resources.Networks");
        task.networks.iter().enumerate().map(move |(i, n)| (format!("{path}[{i}]"), n))
    });
    for (path, network) in own.chain(legacy) {
        check_ports(network, &path, &mut fixed, findings);
    }
}

fn check_ports<'n>(
    network: &'n Network,
    path: &str,
    fixed: &mut BTreeMap<u16, &'n str>,
    findings: &mut Findings,
) {
    let known = matches!(network.mode.as_str(), "" | "none" | "host" | "bridge")
        || network.mode.starts_with("cni/");
    let summary = format!("`{}` is not a network mode", network.mode);
    findings.require(known, format!("{path}.Mode"), summary);
    let mut labels = std::collections::BTreeSet::new();
    let (mut at_fixed, mut at_dynamic) = (0, 0);
    for port in &network.ports {
        let (list, at) = if port.host_port > 0 {
            ("ReservedPorts", &mut at_fixed)
        } else {
            ("DynamicPorts", &mut at_dynamic)
        };
        let path = format!("{path}.{list}[{at}]");
        *at += 1;
        if !labels.insert(port.label.as_str()) {
            findings.error(&path, format!("the port `{}` is there twice", port.label));
        }
        if !port.label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let summary = format!("the label `{}` is changed in names of variables", port.label);
            findings.warn(&path, summary);
        }
        if port.host_port > 0
            && let Some(other) = fixed.insert(port.host_port, &port.label)
        {
            let summary = format!("the host port {} belongs to `{other}`", port.host_port);
            findings.error(path, summary);
        }
    }
}

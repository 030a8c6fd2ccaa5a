//! Rules of tasks: driver, resources, files.

use std::path::{Component, Path};

use cos_model::{ChangeMode, Job, Task, TaskGroup, Template, Value};

use super::{Findings, Rules, check_rules, group, service};

/// The least memory a task can live in.
const MIN_MEMORY_MIB: u64 = 10;

pub(super) fn check(
    job: &Job,
    group: &TaskGroup,
    task: &Task,
    path: &str,
    findings: &mut Findings,
) {
    findings.require(!task.name.is_empty(), path, "the task has no name");
    let plain = !task.name.contains(['/', '\\', '\0']);
    findings.require(plain, format!("{path}.Name"), "a task's name cannot hold slashes");
    let driver = format!("{path}.Driver");
    findings.require(!task.driver.is_empty(), driver, "the task has no driver");
    let rules =
        Rules { constraints: &task.constraints, affinities: &task.affinities, spreads: &[] };
    check_rules(&rules, job.kind, path, findings);
    check_resources(task, path, findings);
    group::check_restart(&task.restart, &format!("{path}.RestartPolicy"), findings);
    check_logs(group, task, path, findings);
    check_ports_option(group, task, path, findings);
    for (index, item) in task.services.iter().enumerate() {
        let path = format!("{path}.Services[{index}]");
        service::check(group, Some(task), item, &path, findings);
    }
    for (index, artifact) in task.artifacts.iter().enumerate() {
        let path = format!("{path}.Artifacts[{index}]");
        findings.require(!artifact.source.is_empty(), &path, "the artifact has no source");
        let known = ["any", "file", "dir"].contains(&artifact.mode.as_str());
        findings.require(known, &path, format!("`{}` is not an artifact mode", artifact.mode));
        check_inside(&artifact.destination, &path, findings);
    }
    for (index, template) in task.templates.iter().enumerate() {
        check_template(template, &format!("{path}.Templates[{index}]"), findings);
    }
    for (index, mount) in task.volume_mounts.iter().enumerate() {
        let path = format!("{path}.VolumeMounts[{index}]");
        let known = group.volumes.contains_key(&mount.volume);
        findings.require(known, &path, format!("the group has no volume `{}`", mount.volume));
        findings.require(!mount.destination.is_empty(), &path, "the mount has no destination");
        let modes = ["private", "host-to-task", "bidirectional"];
        let known = modes.contains(&mount.propagation_mode.as_str());
        let summary = format!("`{}` is not a propagation mode", mount.propagation_mode);
        findings.require(known, path, summary);
    }
    if !task.dispatch_payload_file.is_empty() {
        check_inside(&task.dispatch_payload_file, &format!("{path}.DispatchPayload"), findings);
    }
}

fn check_resources(task: &Task, path: &str, findings: &mut Findings) {
    let path = format!("{path}.Resources");
    let resources = &task.resources;
    findings.require(
        resources.cpu_mhz >= 1 || task.cores > 0,
        format!("{path}.CPU"),
        "the task asks for less than 1 MHz",
    );
    findings.require(
        resources.memory_mib >= MIN_MEMORY_MIB,
        format!("{path}.MemoryMB"),
        format!("the task asks for less than {MIN_MEMORY_MIB} MiB of memory"),
    );
    findings.require(
        task.memory_max_mib == 0 || task.memory_max_mib >= resources.memory_mib,
        format!("{path}.MemoryMaxMB"),
        "memory_max is less than memory",
    );
    let one = task.networks.len() <= 1;
    findings.require(one, format!("{path}.Networks"), "a task has one network at most");
}

fn check_logs(group: &TaskGroup, task: &Task, path: &str, findings: &mut Findings) {
    let path = format!("{path}.LogConfig");
    let logs = &task.logs;
    if logs.disabled {
        return;
    }
    findings.require(logs.max_files >= 1, &path, "the task keeps no log file");
    findings.require(logs.max_file_size_mib >= 1, &path, "the task's log files have no size");
    let total = u64::from(logs.max_files).saturating_mul(u64::from(logs.max_file_size_mib));
    findings.require(
        total < group.ephemeral_disk_mib || group.ephemeral_disk_mib == 0,
        path,
        format!(
            "the logs may take {total} MiB, and the ephemeral disk has {} MiB",
            group.ephemeral_disk_mib
        ),
    );
}

/// The option `ports` of the docker driver names ports of the group.
fn check_ports_option(group: &TaskGroup, task: &Task, path: &str, findings: &mut Findings) {
    if task.driver != "docker" {
        return;
    }
    let Some(Value::List(ports)) = task.config.get("ports") else { return };
    for port in ports.iter().filter_map(Value::as_str) {
        if !has_port(group, Some(task), port) {
            let summary = format!("`ports` names `{port}`, which no network block declares");
            findings.error(format!("{path}.Config"), summary);
        }
    }
}

/// Whether a port label is declared where a task or group can use it. A reference that is resolved
/// on the node may be anything, and a number needs no declaration.
pub(super) fn has_port(group: &TaskGroup, task: Option<&Task>, label: &str) -> bool {
    let declared = group
        .all_networks()
        .filter(|(owner, _)| owner.is_none() || task.is_none_or(|task| *owner == Some(&task.name)))
        .any(|(_, network)| network.ports.iter().any(|port| port.label == label));
    declared || label.contains("${") || label.parse::<u16>().is_ok()
}

fn check_template(template: &Template, path: &str, findings: &mut Findings) {
    findings.require(
        template.source.is_empty() != template.data.is_empty(),
        path,
        "a template has either `data` or `source`",
    );
    let has_destination = !template.destination.is_empty();
    findings.require(has_destination, path, "the template has no destination");
    check_inside(&template.destination, path, findings);
    let restarts = matches!(template.change_mode, ChangeMode::Restart | ChangeMode::Noop);
    findings.require(
        !template.env || restarts,
        path,
        "a template of environment can only restart the task or do nothing",
    );
    if let ChangeMode::Script { command, .. } = &template.change_mode {
        findings.require(!command.is_empty(), path, "the change script has no command");
    }
    let good = u32::from_str_radix(&template.perms, 8).is_ok_and(|mode| mode <= 0o7777);
    findings.require(good, path, format!("`{}` is not an octal file mode", template.perms));
}

/// A path relative to the task's directory must not leave it.
fn check_inside(path_in_task: &str, path: &str, findings: &mut Findings) {
    let mut depth = 0_i32;
    for component in Path::new(path_in_task).components() {
        match component {
            // The task's directory may have its own `..` to the shared one, one level up.
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
        if depth < -1 {
            findings.error(path, format!("`{path_in_task}` leads out of the task's directory"));
            return;
        }
    }
}

//! What this release does not execute, by name.
//!
//! An error means that running without it would be wrong: a task without its volume, its secrets or
//! its mesh is another task. A warning means that the job runs as asked, with less comfort.

use cos_model::{CheckKind, Extras, Job, Network, Service, Task, TaskGroup, Value};

use super::Findings;
use crate::diagnostic::Diagnostic;

/// Drivers that this release has.
const DRIVERS: [&str; 3] = ["docker", "exec", "raw_exec"];

/// Blocks of jobs, by JSON name: whether running without it would be wrong, and what to say.
const JOB: [(&str, bool, &str); 6] = [
    ("Multiregion", true, "`multiregion` is not supported"),
    ("ParameterizedJob", true, "`parameterized` jobs are not supported yet"),
    ("Payload", true, "dispatched payloads are not supported yet"),
    ("ConsulNamespace", false, "Consul namespaces have no effect"),
    ("VaultNamespace", false, "Vault namespaces have no effect"),
    ("UI", false, "`ui` is kept and not shown yet"),
];

/// Blocks of groups.
const GROUP: [(&str, bool, &str); 3] = [
    ("MaxRunDuration", true, "`max_run_duration` is not supported yet"),
    ("Vault", true, "`vault` is not supported yet"),
    ("Consul", false, "`consul` has no effect"),
];

/// Blocks of tasks.
const TASK: [(&str, bool, &str); 8] = [
    ("Vault", true, "`vault` is not supported yet"),
    ("Secrets", true, "`secret` is not supported yet"),
    ("CSIPluginConfig", true, "CSI plugins are not supported yet"),
    ("Schedule", true, "`schedule` is not supported"),
    ("Consul", false, "`consul` has no effect"),
    ("Actions", false, "`action` is kept and cannot be run yet"),
    ("ScalingPolicies", false, "task `scaling` has no effect"),
    ("Kind", false, "`kind` has no effect"),
];

/// Names what the job asks for and this release does not do.
pub fn unsupported(job: &Job) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    check_extras(&job.extras, &JOB, "Job", &mut findings);
    if job.periodic.is_some() {
        findings.error("Job.Periodic", "`periodic` jobs are not supported yet");
    }
    for (index, group) in job.groups.iter().enumerate() {
        check_group(group, &format!("Job.TaskGroups[{index}]"), &mut findings);
    }
    findings.found
}

fn check_extras(
    extras: &Extras,
    table: &[(&str, bool, &str)],
    path: &str,
    findings: &mut Findings,
) {
    for (name, wrong_without, summary) in table {
        if extras.contains_key(*name) {
            let path = format!("{path}.{name}");
            if *wrong_without {
                findings.error(path, *summary);
            } else {
                findings.warn(path, *summary);
            }
        }
    }
}

fn check_group(group: &TaskGroup, path: &str, findings: &mut Findings) {
    check_extras(&group.extras, &GROUP, path, findings);
    for (index, network) in group.networks.iter().enumerate() {
        check_network(network, &format!("{path}.Networks[{index}]"), findings);
    }
    for (name, volume) in &group.volumes {
        if volume.kind == "csi" {
            findings.error(format!("{path}.Volumes.{name}"), "CSI volumes are not supported yet");
        }
    }
    if group.scaling.as_ref().is_some_and(|scaling| !scaling.policy.is_empty()) {
        let path = format!("{path}.Scaling.Policy");
        findings.warn(path, "the scaling policy is kept and not acted upon yet");
    }
    if group.migrate_disk {
        let summary = "the ephemeral disk is not migrated to other nodes yet";
        findings.warn(format!("{path}.EphemeralDisk.Migrate"), summary);
    }
    for (index, service) in group.services.iter().enumerate() {
        check_service(service, &format!("{path}.Services[{index}]"), findings);
    }
    for (index, task) in group.tasks.iter().enumerate() {
        check_task(task, &format!("{path}.Tasks[{index}]"), findings);
    }
}

fn check_network(network: &Network, path: &str, findings: &mut Findings) {
    let mode = network.mode.as_str();
    if mode == "bridge" || mode == "none" || mode.starts_with("cni/") {
        let summary = format!("the network mode `{mode}` is not supported yet");
        findings.error(format!("{path}.Mode"), summary);
    }
    if !network.hostname.is_empty() {
        findings.warn(format!("{path}.Hostname"), "`hostname` of networks has no effect");
    }
    for port in &network.ports {
        if port.ignore_collision {
            let summary = format!("`ignore_collision` of port `{}` has no effect", port.label);
            findings.warn(path, summary);
        }
        if !port.host_network.is_empty() && port.host_network != "default" {
            let network = &port.host_network;
            findings.error(path, format!("the host network `{network}` is not supported yet"));
        }
    }
}

fn check_task(task: &Task, path: &str, findings: &mut Findings) {
    check_extras(&task.extras, &TASK, path, findings);
    if !task.driver.is_empty() && !DRIVERS.contains(&task.driver.as_str()) {
        let summary = format!("the driver `{}` is not supported yet", task.driver);
        findings.error(format!("{path}.Driver"), summary);
    }
    check_identities(task, path, findings);
    if let Some(Value::Map(kept)) = task.extras.get("Resources") {
        let path = format!("{path}.Resources");
        if kept.contains_key("Devices") {
            findings.error(format!("{path}.Devices"), "`device` is not supported yet");
        }
        if kept.contains_key("NUMA") {
            findings.warn(format!("{path}.NUMA"), "`numa` has no effect");
        }
        if kept.contains_key("SecretsMB") {
            findings.warn(format!("{path}.SecretsMB"), "`secrets` has no effect");
        }
    }
    for (index, network) in task.networks.iter().enumerate() {
        check_network(network, &format!("{path}.Resources.Networks[{index}]"), findings);
    }
    for (index, template) in task.templates.iter().enumerate() {
        let path = format!("{path}.Templates[{index}]");
        if template.extras.contains_key("Wait") {
            findings.warn(format!("{path}.Wait"), "`wait` of templates has no effect yet");
        }
        if template.extras.contains_key("ChangeScript") {
            findings
                .warn(format!("{path}.ChangeScript"), "`run_on_first_render` has no effect yet");
        }
    }
    for (index, service) in task.services.iter().enumerate() {
        check_service(service, &format!("{path}.Services[{index}]"), findings);
    }
}

/// A task that is to find its identity in a file or variable would not.
fn check_identities(task: &Task, path: &str, findings: &mut Findings) {
    let one = task.extras.get("Identity").into_iter();
    let others = task.extras.get("Identities").and_then(Value::as_list).unwrap_or_default();
    for identity in one.chain(others).filter_map(Value::as_map) {
        let asks = |name: &str| identity.get(name).and_then(Value::to_bool).unwrap_or(false);
        let path = format!("{path}.Identity");
        if asks("Env") || asks("File") {
            findings.error(path, "`identity` with `env` or `file` is not supported yet");
        } else {
            findings.warn(path, "`identity` has no effect yet");
        }
    }
}

fn check_service(service: &Service, path: &str, findings: &mut Findings) {
    if service.extras.contains_key("Connect") {
        findings
            .error(format!("{path}.Connect"), "the service mesh (`connect`) is not supported yet");
    }
    for name in ["Identity", "Cluster", "Kind"] {
        if service.extras.contains_key(name) {
            let summary = format!("`{}` of services has no effect", name.to_lowercase());
            findings.warn(format!("{path}.{name}"), summary);
        }
    }
    for (index, check) in service.checks.iter().enumerate() {
        let path = format!("{path}.Checks[{index}]");
        if matches!(check.kind, CheckKind::Grpc { .. }) {
            findings.error(&path, "gRPC checks are not supported yet");
        }
        if check.extras.contains_key("Expose") {
            findings.error(format!("{path}.Expose"), "`expose` of checks is not supported yet");
        }
        for name in ["TLSServerName", "Advertise", "FailuresBeforeWarning"] {
            if check.extras.contains_key(name) {
                let summary = format!("`{name}` of checks has no effect");
                findings.warn(format!("{path}.{name}"), summary);
            }
        }
    }
}

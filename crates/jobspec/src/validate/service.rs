//! Rules of services and checks.

use std::time::Duration;

use cos_model::{Check, CheckKind, Service, Task, TaskGroup};

use super::Findings;
use super::task::has_port;

/// The longest label of a domain name.
const MAX_NAME_BYTES: usize = 63;

/// The shortest interval and timeout of a check.
const MIN_CHECK_TIME: Duration = Duration::from_secs(1);

pub(super) fn check(
    group: &TaskGroup,
    task: Option<&Task>,
    service: &Service,
    path: &str,
    findings: &mut Findings,
) {
    check_name(&service.name, path, findings);
    one_of(&service.provider, &["consul", "nomad"], &format!("{path}.Provider"), findings);
    let modes = ["auto", "alloc", "alloc_ipv6", "driver", "host"];
    one_of(&service.address_mode, &modes, &format!("{path}.AddressMode"), findings);
    let updates = ["require_healthy", "ignore_warnings", "ignore"];
    one_of(&service.on_update, &updates, &format!("{path}.OnUpdate"), findings);
    let owner = task.or_else(|| group.task(&service.task));
    if !service.task.is_empty() && owner.is_none() {
        let summary = format!("the group has no task `{}`", service.task);
        findings.error(format!("{path}.TaskName"), summary);
    }
    // In driver mode a port is the container's own, which nobody declares.
    let free = service.address_mode == "driver" || service.port.is_empty();
    if !free && !has_port(group, owner, &service.port) {
        findings.error(format!("{path}.PortLabel"), undeclared(&service.port));
    }
    findings.unique(
        &format!("{path}.Checks"),
        "check",
        service.checks.iter().map(|check| check.name.as_str()),
    );
    for (index, item) in service.checks.iter().enumerate() {
        let path = format!("{path}.Checks[{index}]");
        check_check(group, owner, service, item, &path, findings);
    }
}

fn undeclared(label: &str) -> String {
    format!("the port `{label}` is not declared in a network block")
}

fn one_of(value: &str, known: &[&str], path: &str, findings: &mut Findings) {
    let summary = format!("`{value}` is not one of {}", known.join(", "));
    findings.require(known.contains(&value), path, summary);
}

fn check_name(name: &str, path: &str, findings: &mut Findings) {
    let path = format!("{path}.Name");
    if name.contains("${") {
        return;
    }
    findings.require(
        name.len() <= MAX_NAME_BYTES,
        &path,
        "a service's name has at most 63 characters",
    );
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    findings.require(
        !name.is_empty() && name.chars().all(known),
        &path,
        format!("`{name}` is not a name of letters, digits and dashes"),
    );
    if name.contains(['_', '.']) {
        findings.warn(path, format!("the name `{name}` cannot be asked for by every DNS client"));
    }
}

fn check_check(
    group: &TaskGroup,
    owner: Option<&Task>,
    service: &Service,
    check: &Check,
    path: &str,
    findings: &mut Findings,
) {
    let long_enough = |time: Duration| time >= MIN_CHECK_TIME;
    findings.require(
        long_enough(check.interval),
        format!("{path}.Interval"),
        "the check's interval is missing or shorter than 1s",
    );
    findings.require(
        long_enough(check.timeout),
        format!("{path}.Timeout"),
        "the check's timeout is missing or shorter than 1s",
    );
    let statuses = ["", "passing", "warning", "critical"];
    one_of(&check.initial_status, &statuses, &format!("{path}.InitialStatus"), findings);
    let needs_port = match &check.kind {
        CheckKind::Http { path: asked, protocol, .. } => {
            findings.require(
                !asked.is_empty(),
                format!("{path}.Path"),
                "the http check has no path",
            );
            one_of(protocol, &["http", "https"], &format!("{path}.Protocol"), findings);
            true
        }
        CheckKind::Tcp | CheckKind::Grpc { .. } => true,
        CheckKind::Script { command, task, .. } => {
            findings.require(
                !command.is_empty(),
                format!("{path}.Command"),
                "the script check has no command",
            );
            let known = group.task(task).is_some();
            let summary = "a script check of a group needs the name of its task";
            findings.require(known, format!("{path}.TaskName"), summary);
            false
        }
    };
    let nomad = service.provider == "nomad";
    if nomad && !matches!(check.kind, CheckKind::Http { .. } | CheckKind::Tcp) {
        findings.error(path, "the provider `nomad` has only http and tcp checks");
    }
    let free = check.address_mode == "driver"
        || (check.address_mode.is_empty() && service.address_mode == "driver");
    if !check.port.is_empty() && !free && !has_port(group, owner, &check.port) {
        findings.error(format!("{path}.PortLabel"), undeclared(&check.port));
    }
    if needs_port && check.port.is_empty() && service.port.is_empty() {
        findings.error(path, "neither the check nor its service has a port");
    }
}

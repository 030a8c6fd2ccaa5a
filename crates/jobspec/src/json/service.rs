//! Services and their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{Check, CheckKind, CheckRestart, Extras, Service, Value};

use super::reader::{Reader, overlay};

/// Fields of services that are kept but not executed.
const EXTRAS: [&str; 3] = ["Connect", "Identity", "Kind"];

/// Fields of checks that are kept but not executed.
const CHECK_EXTRAS: [&str; 5] =
    ["Notes", "TLSServerName", "Expose", "Advertise", "FailuresBeforeWarning"];

/// The names that a service's default name is made of.
pub(super) struct Names<'a> {
    pub(super) job: &'a str,
    pub(super) group: &'a str,
    pub(super) task: Option<&'a str>,
}

impl Names<'_> {
    fn base(&self) -> String {
        match self.task {
            Some(task) => format!("{}-{}-{task}", self.job, self.group),
            None => format!("{}-{}", self.job, self.group),
        }
    }

    /// Fills in the four references that a service's name may hold already at registration.
    fn expand(&self, name: &str) -> String {
        name.replace("${JOB}", self.job)
            .replace("${TASKGROUP}", self.group)
            .replace("${TASK}", self.task.unwrap_or("group"))
            .replace("${BASE}", &self.base())
    }
}

/// Reads a service.
pub(super) fn decode(mut reader: Reader<'_>, names: &Names<'_>) -> Service {
    let name = names.expand(&reader.text_or("Name", &names.base()));
    let task = reader.text("TaskName");
    let on_update = reader.text_or("OnUpdate", "require_healthy");
    let restart = reader.map("CheckRestart");
    let owner = if task.is_empty() { names.task.unwrap_or("") } else { &task };
    let surroundings = Surroundings { service: &name, task: owner, on_update: &on_update, restart };
    let checks = reader
        .objects("Checks")
        .into_iter()
        .filter_map(|check| read_check(check, &surroundings))
        .collect();
    let mut extras = Extras::new();
    reader.keep(&mut extras, &EXTRAS);
    let cluster = reader.text_or("Cluster", "default");
    if cluster != "default" {
        extras.insert("Cluster".to_owned(), Value::String(cluster));
    }
    let (weight_passing, weight_warning) = match reader.object("Weights") {
        Some(mut weights) => {
            let found = (weights.u32("Passing").unwrap_or(1), weights.u32("Warning").unwrap_or(1));
            weights.finish();
            found
        }
        None => (1, 1),
    };
    let service = Service {
        tags: reader.texts("Tags"),
        canary_tags: reader.texts("CanaryTags"),
        port: reader.text("PortLabel"),
        address_mode: reader.text_or("AddressMode", "auto"),
        address: reader.text("Address"),
        provider: reader.text_or("Provider", "consul"),
        meta: reader.text_map("Meta"),
        canary_meta: reader.text_map("CanaryMeta"),
        tagged_addresses: reader.text_map("TaggedAddresses"),
        enable_tag_override: reader.flag("EnableTagOverride"),
        weight_passing,
        weight_warning,
        checks,
        extras,
        name,
        task,
        on_update,
    };
    reader.ignore(&["Id", "ID", "Namespace"]);
    reader.finish();
    service
}

/// What a check takes from its service.
struct Surroundings<'a> {
    service: &'a str,
    task: &'a str,
    on_update: &'a str,
    restart: Option<&'a BTreeMap<String, Value>>,
}

/// Reads a check. Returns nothing if its type is not known.
fn read_check(mut reader: Reader<'_>, around: &Surroundings<'_>) -> Option<Check> {
    let kind = read_kind(&mut reader, around)?;
    let name = format!("service: \"{}\" check", around.service);
    let restart = overlay(around.restart, reader.map("CheckRestart"));
    let path = reader.path_of("CheckRestart");
    let log = reader.log();
    let mut extras = Extras::new();
    reader.keep(&mut extras, &CHECK_EXTRAS);
    let check = Check {
        name: reader.text_or("Name", &name),
        kind,
        port: reader.text("PortLabel"),
        address_mode: reader.text("AddressMode"),
        interval: reader.duration("Interval").unwrap_or_default(),
        timeout: reader.duration("Timeout").unwrap_or_default(),
        initial_status: reader.text("InitialStatus"),
        restart: restart.map(|fields| read_restart(Reader::new(&fields, path, log))),
        on_update: reader.text_or("OnUpdate", around.on_update),
        success_before_passing: reader.u32("SuccessBeforePassing").unwrap_or(0),
        failures_before_critical: reader.u32("FailuresBeforeCritical").unwrap_or(0),
        extras,
    };
    reader.ignore(&["Id", "ID"]);
    reader.finish();
    Some(check)
}

fn read_restart(mut reader: Reader<'_>) -> CheckRestart {
    let restart = CheckRestart {
        limit: reader.u32("Limit").unwrap_or(0),
        grace: reader.duration("Grace").unwrap_or(Duration::from_secs(1)),
        ignore_warnings: reader.flag("IgnoreWarnings"),
    };
    reader.finish();
    restart
}

fn read_kind(reader: &mut Reader<'_>, around: &Surroundings<'_>) -> Option<CheckKind> {
    // All are read for every type, because clients write them all.
    let protocol = reader.text_or("Protocol", "http");
    let method = reader.text_or("Method", "GET");
    let path = reader.text("Path");
    let body = reader.text("Body");
    let tls_skip_verify = reader.flag("TLSSkipVerify");
    let header = read_header(reader);
    let command = reader.text("Command");
    let args = reader.texts("Args");
    let task = reader.text_or("TaskName", around.task);
    let service = reader.text("GRPCService");
    let tls = reader.flag("GRPCUseTLS");
    match reader.text("Type").to_lowercase().as_str() {
        "http" => Some(CheckKind::Http { protocol, method, path, header, body, tls_skip_verify }),
        "tcp" => Some(CheckKind::Tcp),
        "script" => Some(CheckKind::Script { command, args, task }),
        "grpc" => Some(CheckKind::Grpc { service, tls }),
        other => {
            let summary = if other.is_empty() {
                "the check has no type".to_owned()
            } else {
                format!("`{other}` is not a type of check")
            };
            reader.error("Type", summary, "http, tcp, script or grpc");
            None
        }
    }
}

fn read_header(reader: &mut Reader<'_>) -> BTreeMap<String, Vec<String>> {
    let Some(map) = reader.map("Header") else { return BTreeMap::new() };
    let path = reader.path_of("Header");
    let mut inner = Reader::new(map, path, reader.log());
    map.keys()
        .map(|key| {
            let values = match map.get(key) {
                Some(Value::String(text)) => vec![text.clone()],
                _ => inner.texts(key),
            };
            (key.clone(), values)
        })
        .collect()
}

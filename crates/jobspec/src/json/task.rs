//! Tasks: resources, artifacts, templates, logs, mounts.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::task::{Hook, VolumeMount};
use cos_model::{
    Artifact, ChangeMode, Extras, JobKind, Lifecycle, Logs, Resources, Task, Template, Value,
};

use super::reader::{Reader, overlay};
use super::{group, job, policy, service};

/// Fields that are kept but not executed.
const EXTRAS: [&str; 10] = [
    "Vault",
    "Secrets",
    "Consul",
    "CSIPluginConfig",
    "Identity",
    "Identities",
    "Actions",
    "Schedule",
    "ScalingPolicies",
    "Kind",
];

/// Parts of `Resources` that are kept but not executed.
const RESOURCE_EXTRAS: [&str; 3] = ["Devices", "NUMA", "SecretsMB"];

/// Blocks of driver configurations of which there is one. Job files hold them as lists of one map,
/// or of several that are to be merged; drivers find a map.
const SINGLE_BLOCKS: [&str; 14] = [
    "auth",
    "bind_options",
    "cgroup_v1_override",
    "config",
    "driver_config",
    "healthchecks",
    "labels",
    "logging",
    "options",
    "port_map",
    "storage_opt",
    "sysctl",
    "tmpfs_options",
    "ulimit",
];

/// What a task takes from its group and job.
pub(super) struct Surroundings<'a> {
    pub(super) job_name: &'a str,
    pub(super) group_name: &'a str,
    pub(super) kind: JobKind,
    pub(super) restart: Option<&'a BTreeMap<String, Value>>,
}

/// Reads a task. Returns nothing if it has no name.
pub(super) fn decode(mut reader: Reader<'_>, around: &Surroundings<'_>) -> Option<Task> {
    let name = reader.text("Name");
    if name.is_empty() {
        reader.error("Name", "the task has no name", "a name");
        return None;
    }
    let names =
        service::Names { job: around.job_name, group: around.group_name, task: Some(&name) };
    let services =
        reader.objects("Services").into_iter().map(|s| service::decode(s, &names)).collect();
    let restart = overlay(around.restart, reader.map("RestartPolicy"));
    let restart = policy::restart(
        restart.as_ref(),
        around.kind,
        &reader.path_of("RestartPolicy"),
        reader.log(),
    );
    let mut extras = Extras::new();
    reader.keep(&mut extras, &EXTRAS);
    let taken = read_resources(&mut reader, &mut extras);
    let lifecycle = reader.object("Lifecycle").and_then(read_lifecycle);
    let dispatch = reader.object("DispatchPayload").map(|mut payload| payload.text("File"));
    let task = Task {
        driver: reader.text("Driver"),
        user: reader.text("User"),
        config: tidy(reader.value_map("Config")),
        env: reader.text_map("Env"),
        meta: reader.text_map("Meta"),
        constraints: job::constraints(&mut reader),
        affinities: job::affinities(&mut reader),
        services,
        resources: taken.resources,
        memory_max_mib: taken.memory_max_mib,
        cores: taken.cores,
        networks: taken.networks,
        restart,
        kill_timeout: reader.duration("KillTimeout").unwrap_or(Duration::from_secs(5)),
        kill_signal: reader.text("KillSignal"),
        shutdown_delay: reader.duration("ShutdownDelay").unwrap_or_default(),
        leader: reader.flag("Leader"),
        lifecycle,
        artifacts: reader.objects("Artifacts").into_iter().map(read_artifact).collect(),
        templates: reader.objects("Templates").into_iter().map(read_template).collect(),
        logs: reader.object("LogConfig").map(read_logs).unwrap_or_default(),
        volume_mounts: reader.objects("VolumeMounts").into_iter().map(read_mount).collect(),
        dispatch_payload_file: dispatch.unwrap_or_default(),
        extras,
        name,
    };
    reader.finish();
    Some(task)
}

/// Turns single blocks of a driver's configuration into maps, at every level.
fn tidy(config: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    config.into_iter().map(|(key, value)| (key.clone(), tidy_value(&key, value))).collect()
}

fn tidy_value(key: &str, value: Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(tidy(map)),
        Value::List(items) => {
            let only_maps = !items.is_empty() && items.iter().all(|item| item.as_map().is_some());
            if only_maps && SINGLE_BLOCKS.contains(&key) {
                let maps = items.into_iter().filter_map(|item| match item {
                    Value::Map(map) => Some(map),
                    _ => None,
                });
                return Value::Map(tidy(maps.flatten().collect()));
            }
            Value::List(items.into_iter().map(|item| tidy_value("", item)).collect())
        }
        scalar => scalar,
    }
}

struct Taken {
    resources: Resources,
    memory_max_mib: u64,
    cores: u32,
    networks: Vec<cos_model::Network>,
}

fn read_resources(reader: &mut Reader<'_>, extras: &mut Extras) -> Taken {
    let default = Resources { cpu_mhz: 100, memory_mib: 300, disk_mib: 0 };
    let Some(mut reader) = reader.object("Resources") else {
        return Taken { resources: default, memory_max_mib: 0, cores: 0, networks: Vec::new() };
    };
    let cores = reader.u32("Cores").unwrap_or(0);
    let cpu = reader.u64("CPU");
    let mut kept = Extras::new();
    reader.keep(&mut kept, &RESOURCE_EXTRAS);
    if !kept.is_empty() {
        extras.insert("Resources".to_owned(), Value::Map(kept));
    }
    let taken = Taken {
        resources: Resources {
            cpu_mhz: if cores > 0 { 0 } else { cpu.unwrap_or(default.cpu_mhz) },
            memory_mib: reader.u64("MemoryMB").unwrap_or(default.memory_mib),
            disk_mib: reader.u64("DiskMB").unwrap_or(0),
        },
        // -1 means "no limit", which is more than any node has.
        memory_max_mib: reader
            .integer("MemoryMaxMB", -1, i64::MAX)
            .map_or(0, |limit| u64::try_from(limit).unwrap_or_else(|_| u64::from(u32::MAX))),
        cores,
        networks: reader.objects("Networks").into_iter().map(group::network).collect(),
    };
    reader.ignore(&["IOPS"]);
    reader.finish();
    taken
}

fn read_lifecycle(mut reader: Reader<'_>) -> Option<Lifecycle> {
    let hook = match reader.text("Hook").as_str() {
        "prestart" => Hook::Prestart,
        "poststart" => Hook::Poststart,
        "poststop" => Hook::Poststop,
        other => {
            let summary = format!("`{other}` is not a moment of a task's life");
            reader.error("Hook", summary, "prestart, poststart or poststop");
            return None;
        }
    };
    let sidecar = reader.flag("Sidecar");
    reader.finish();
    Some(Lifecycle { hook, sidecar })
}

fn read_artifact(mut reader: Reader<'_>) -> Artifact {
    let source = reader.text("GetterSource");
    if source.is_empty() {
        reader.error("GetterSource", "the artifact has no source", "a URL");
    }
    let mode = reader.text_or("GetterMode", "any");
    let file_name = source.split(['?', '#']).next().unwrap_or("").rsplit('/').next().unwrap_or("");
    let default = if mode == "file" { format!("local/{file_name}") } else { "local/".to_owned() };
    let artifact = Artifact {
        destination: reader.text_or("RelativeDest", &default),
        options: reader.text_map("GetterOptions"),
        headers: reader.text_map("GetterHeaders"),
        insecure: reader.flag("GetterInsecure"),
        chown: reader.flag("Chown"),
        source,
        mode,
    };
    reader.finish();
    artifact
}

fn read_template(mut reader: Reader<'_>) -> Template {
    let mut extras = Extras::new();
    let change_mode = read_change_mode(&mut reader, &mut extras);
    reader.keep(&mut extras, &["Wait"]);
    let id = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let template = Template {
        source: reader.text("SourcePath"),
        data: reader.text("EmbeddedTmpl"),
        destination: reader.text("DestPath"),
        change_mode,
        perms: reader.text_or("Perms", "0644"),
        splay: reader.duration("Splay").unwrap_or(Duration::from_secs(5)),
        env: reader.flag("Envvars"),
        left_delimiter: reader.text_or("LeftDelim", "{{"),
        right_delimiter: reader.text_or("RightDelim", "}}"),
        error_on_missing_key: reader.flag("ErrMissingKey"),
        // -1 stands for "whoever the agent is".
        uid: id(reader.integer("Uid", -1, i64::from(u32::MAX))),
        gid: id(reader.integer("Gid", -1, i64::from(u32::MAX))),
        once: reader.flag("Once"),
        extras,
    };
    reader.ignore(&["VaultGrace"]);
    reader.finish();
    template
}

fn read_change_mode(reader: &mut Reader<'_>, extras: &mut Extras) -> ChangeMode {
    let signal = reader.text_or("ChangeSignal", "SIGHUP");
    let script = reader.object("ChangeScript");
    match reader.text_or("ChangeMode", "restart").as_str() {
        "noop" => ChangeMode::Noop,
        "restart" => ChangeMode::Restart,
        "signal" => ChangeMode::Signal(signal),
        "script" => {
            let Some(mut script) = script else {
                reader.error(
                    "ChangeScript",
                    "the change mode `script` needs a script",
                    "`change_script { … }`",
                );
                return ChangeMode::Noop;
            };
            let mut kept = Extras::new();
            script.keep(&mut kept, &["RunOnFirstRender"]);
            if !kept.is_empty() {
                extras.insert("ChangeScript".to_owned(), Value::Map(kept));
            }
            let mode = ChangeMode::Script {
                command: script.text("Command"),
                args: script.texts("Args"),
                timeout: script.duration("Timeout").unwrap_or(Duration::from_secs(5)),
                fail_on_error: script.flag("FailOnError"),
            };
            script.finish();
            mode
        }
        other => {
            let summary = format!("`{other}` is not a change mode");
            reader.error("ChangeMode", summary, "noop, restart, signal or script");
            ChangeMode::Restart
        }
    }
}

fn read_logs(mut reader: Reader<'_>) -> Logs {
    let default = Logs::default();
    // `Enabled` is the older word for the opposite.
    let enabled = reader.boolean("Enabled");
    let logs = Logs {
        max_files: reader.u32("MaxFiles").unwrap_or(default.max_files),
        max_file_size_mib: reader.u32("MaxFileSizeMB").unwrap_or(default.max_file_size_mib),
        disabled: reader.flag("Disabled") || enabled == Some(false),
    };
    reader.finish();
    logs
}

fn read_mount(mut reader: Reader<'_>) -> VolumeMount {
    if reader.get("SELinuxLabel").is_some_and(|value| !super::reader::is_empty(value)) {
        let path = reader.path_of("SELinuxLabel");
        reader.log().warn(&path, "SELinux labels of mounts have no effect yet");
    }
    let mount = VolumeMount {
        volume: reader.text("Volume"),
        destination: reader.text("Destination"),
        read_only: reader.flag("ReadOnly"),
        propagation_mode: reader.text_or("PropagationMode", "private"),
    };
    reader.finish();
    mount
}

//! From a task to what the engine is asked to create. Pure: no engine is needed to see the result.
//!
//! # Invariants
//!
//! - Memory limits are exact MiB and leave no swap.
//! - A path of the host outside the allocation is mounted only if the operator allows it.
//! - Ports are published on the address that the scheduler chose, for TCP and UDP alike.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountTmpfsOptions, MountType,
    MountVolumeOptions, PortBinding, PortMap, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::options::{Logging, TaskMount, TaskOptions};
use super::plugin::PluginOptions;
use crate::capability;
use crate::driver::{StartError, TaskConfig};
use crate::options::matches_pattern;

/// The label by which tools find the containers of an orchestrator.
pub(super) const ALLOC_LABEL: &str = "com.hashicorp.nomad.alloc_id";

/// What other facts about the allocation are labelled with.
const LABEL_PREFIX: &str = "com.hashicorp.nomad.";

/// The engine's network for containers that ask for none.
const DEFAULT_NETWORK: &str = "bridge";

/// Returns the container's name.
pub(super) fn container_name(task: &TaskConfig) -> String {
    format!("{}-{}", task.task, task.alloc_id)
}

/// Returns what the engine is to create.
pub(super) fn body(
    task: &TaskConfig,
    options: &TaskOptions,
    plugin: &PluginOptions,
    image_id: &str,
) -> Result<ContainerCreateBody, StartError> {
    let network_mode = network_mode(task, options)?;
    let has_own_network =
        network_mode != "host" && network_mode != "none" && !network_mode.starts_with("container:");
    let ports = published_ports(task, options)?;
    let (exposed, bindings) =
        if has_own_network { (Some(exposed(&ports)), Some(bindings(ports))) } else { (None, None) };
    let mut command = Vec::new();
    if !options.command.is_empty() {
        command.push(options.command.clone());
    }
    command.extend(options.args.iter().cloned());
    Ok(ContainerCreateBody {
        image: Some(image_id.to_owned()),
        hostname: text(&options.hostname),
        user: text(&task.user),
        env: Some(task.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        cmd: list(command),
        entrypoint: list(options.entrypoint.clone()),
        working_dir: text(&options.work_dir),
        tty: Some(options.tty),
        open_stdin: Some(options.interactive),
        labels: Some(labels(task, options, plugin).into_iter().collect()),
        exposed_ports: exposed,
        host_config: Some(HostConfig {
            port_bindings: bindings,
            network_mode: Some(network_mode),
            ..host_config(task, options, plugin)?
        }),
        ..ContainerCreateBody::default()
    })
}

fn host_config(
    task: &TaskConfig,
    options: &TaskOptions,
    plugin: &PluginOptions,
) -> Result<HostConfig, StartError> {
    let memory = memory(task, options);
    let logging = options.logging.as_ref().or(plugin.logging.as_ref());
    let capabilities = capability::resolve(plugin.allow_caps, &options.cap_add, &options.cap_drop)
        .map_err(StartError::Refused)?;
    let dns = task.dns.clone().unwrap_or_default();
    let or = |own: &[String], group: Vec<String>| if own.is_empty() { group } else { own.to_vec() };
    let pids_limit = options.pids_limit.unwrap_or(plugin.pids_limit);
    let ulimits = options.ulimit.iter().map(|limit| ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    Ok(HostConfig {
        memory: memory.hard,
        memory_swap: memory.hard,
        memory_reservation: memory.reserved,
        cpu_shares: i64::try_from(task.limits.cpu_mhz).ok().filter(|shares| *shares >= 2),
        cpuset_cpus: text(&options.cpuset_cpus),
        binds: Some(binds(task, options, plugin)?),
        mounts: list(mounts(task, options, plugin)?),
        log_config: Some(log_config(logging)),
        // A container that comes back by itself would escape the restart policy.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities.names()),
        privileged: Some(options.privileged),
        dns: list(or(&options.dns_servers, dns.servers)),
        dns_search: list(or(&options.dns_search_domains, dns.searches)),
        dns_options: list(or(&options.dns_options, dns.options)),
        extra_hosts: list(options.extra_hosts.clone()),
        group_add: list(options.group_add.clone()),
        init: Some(options.init),
        ipc_mode: text(&options.ipc_mode),
        pid_mode: text(&options.pid_mode),
        userns_mode: text(&options.userns_mode),
        uts_mode: text(&options.uts_mode),
        oom_score_adj: options.oom_score_adj,
        pids_limit: (pids_limit > 0).then_some(pids_limit),
        readonly_rootfs: Some(options.readonly_rootfs),
        security_opt: list(options.security_opt.clone()),
        shm_size: options.shm_size,
        storage_opt: Some(options.storage_opt.clone().into_iter().collect()),
        sysctls: Some(options.sysctl.clone().into_iter().collect()),
        ulimits: list(ulimits.collect()),
        volume_driver: text(&options.volume_driver),
        ..HostConfig::default()
    })
}

struct Memory {
    hard: Option<i64>,
    reserved: Option<i64>,
}

/// The task's own hard limit, if there is one, makes the scheduled amount a reservation.
fn memory(task: &TaskConfig, options: &TaskOptions) -> Memory {
    let bytes = |value: Option<u64>| value.and_then(|bytes| i64::try_from(bytes).ok());
    let scheduled = bytes(task.limits.memory_bytes_max());
    match options.memory_hard_limit_bytes {
        Some(hard) => Memory { hard: Some(hard), reserved: scheduled.filter(|r| *r < hard) },
        None => Memory { hard: scheduled, reserved: bytes(task.limits.memory_bytes_reserved()) },
    }
}

fn network_mode(task: &TaskConfig, options: &TaskOptions) -> Result<String, StartError> {
    if !options.network_mode.is_empty() {
        return Ok(options.network_mode.clone());
    }
    match task.network_mode.as_str() {
        "" | "host" => Ok(DEFAULT_NETWORK.to_owned()),
        "none" => Ok("none".to_owned()),
        other => Err(StartError::Refused(format!(
            "driver docker: group networks of mode `{other}` are not supported"
        ))),
    }
}

/// One published port.
struct Published {
    container_port: u16,
    host_ip: String,
    host_port: u16,
}

/// Which ports are published: those named in `ports` and `port_map`, and all of an old
/// `resources { network {} }` block.
fn published_ports(task: &TaskConfig, options: &TaskOptions) -> Result<Vec<Published>, StartError> {
    let mut labels: Vec<&str> = options.ports.iter().map(String::as_str).collect();
    labels.extend(options.port_map.keys().map(String::as_str));
    labels.extend(
        task.ports
            .iter()
            .filter(|port| port.task.as_deref() == Some(task.task.as_str()))
            .map(|port| port.label.as_str()),
    );
    labels.sort_unstable();
    labels.dedup();
    let published = labels.into_iter().map(|label| {
        let port = task.port(label).ok_or_else(|| {
            StartError::Refused(format!("port `{label}` not found, check the network block"))
        })?;
        let to = if port.to == 0 { port.host_port } else { port.to };
        let container_port = match options.port_map.get(label) {
            Some(0) => {
                let text = format!("port_map: `{label}` has an unresolved reference");
                return Err(StartError::Refused(text));
            }
            Some(mapped) => *mapped,
            None => to,
        };
        let (host_ip, host_port) = (port.host_ip.clone(), port.host_port);
        Ok(Published { container_port, host_ip, host_port })
    });
    published.collect()
}

fn exposed(ports: &[Published]) -> Vec<String> {
    let numbers = ports.iter().map(|port| port.container_port);
    numbers.flat_map(|port| [format!("{port}/tcp"), format!("{port}/udp")]).collect()
}

fn bindings(ports: Vec<Published>) -> PortMap {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for port in ports {
        for protocol in ["tcp", "udp"] {
            let key = format!("{}/{protocol}", port.container_port);
            bindings.entry(key).or_default().push(PortBinding {
                host_ip: text(&port.host_ip),
                host_port: Some(port.host_port.to_string()),
            });
        }
    }
    bindings.into_iter().map(|(port, bindings)| (port, Some(bindings))).collect()
}

fn binds(
    task: &TaskConfig,
    options: &TaskOptions,
    plugin: &PluginOptions,
) -> Result<Vec<String>, StartError> {
    let dirs = &task.dirs;
    let mut binds: Vec<String> =
        [(&dirs.alloc, "/alloc"), (&dirs.local, "/local"), (&dirs.secrets, "/secrets")]
            .into_iter()
            .map(|(source, target)| format!("{}:{target}", source.display()))
            .collect();
    for mount in &task.mounts {
        let mode = if mount.read_only { ":ro" } else { "" };
        let (source, target) = (mount.source.display(), mount.destination.display());
        binds.push(format!("{source}:{target}{mode}"));
    }
    for volume in &options.volumes {
        let (source, rest) = volume.split_once(':').unwrap_or((volume, ""));
        // With a volume driver the source is the name of a volume, not a path.
        let source = if options.volume_driver.is_empty() {
            host_path(task, plugin, source)?.display().to_string()
        } else {
            source.to_owned()
        };
        binds.push(format!("{source}:{rest}"));
    }
    Ok(binds)
}

/// Returns the host path that a task means. Relative paths are below the task's directory and may
/// reach what its allocation shares; everything else needs the operator's consent.
fn host_path(
    task: &TaskConfig,
    plugin: &PluginOptions,
    source: &str,
) -> Result<PathBuf, StartError> {
    let path = normalise(&task.dirs.task.join(source));
    let alloc = task.dirs.task.parent().unwrap_or(&task.dirs.task);
    if plugin.volumes || path.starts_with(alloc) {
        return Ok(path);
    }
    Err(StartError::Refused(format!(
        "volumes are not enabled on this node; cannot mount host path `{source}` (plugin option \
         `volumes`)"
    )))
}

/// Resolves `.` and `..` by their letters.
fn normalise(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut done, component| {
        match component {
            Component::ParentDir => drop(done.pop()),
            Component::CurDir => {}
            other => done.push(other),
        }
        done
    })
}

fn mounts(
    task: &TaskConfig,
    options: &TaskOptions,
    plugin: &PluginOptions,
) -> Result<Vec<Mount>, StartError> {
    options.mounts.iter().map(|mount| engine_mount(task, plugin, mount)).collect()
}

fn engine_mount(
    task: &TaskConfig,
    plugin: &PluginOptions,
    mount: &TaskMount,
) -> Result<Mount, StartError> {
    let common = Mount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    };
    Ok(match mount.kind.as_str() {
        "bind" => Mount {
            typ: Some(MountType::BIND),
            source: Some(host_path(task, plugin, &mount.source)?.display().to_string()),
            ..common
        },
        "tmpfs" => Mount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: mount.size,
                mode: mount.mode,
                ..MountTmpfsOptions::default()
            }),
            ..common
        },
        _ => Mount {
            typ: Some(MountType::VOLUME),
            source: text(&mount.source),
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(mount.no_copy),
                labels: Some(mount.labels.clone().into_iter().collect()),
                ..MountVolumeOptions::default()
            }),
            ..common
        },
    })
}

fn labels(
    task: &TaskConfig,
    options: &TaskOptions,
    plugin: &PluginOptions,
) -> BTreeMap<String, String> {
    let mut labels = options.labels.clone();
    labels.insert(ALLOC_LABEL.to_owned(), task.alloc_id.to_string());
    for (name, value) in &task.labels {
        if plugin.extra_labels.iter().any(|pattern| matches_pattern(pattern, name)) {
            labels.insert(format!("{LABEL_PREFIX}{name}"), value.clone());
        }
    }
    labels
}

/// Without a word from anybody the engine keeps little, because the agent keeps its own copy.
fn log_config(logging: Option<&Logging>) -> HostConfigLogConfig {
    let default = Logging {
        driver: "json-file".to_owned(),
        config: [("max-file", "2"), ("max-size", "2m")]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    let logging = logging.unwrap_or(&default);
    HostConfigLogConfig {
        typ: Some(logging.driver.clone()),
        config: Some(logging.config.clone().into_iter().collect()),
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn list<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

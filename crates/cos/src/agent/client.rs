//! The client part of an agent, from its settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cos_agent::{AgentHandle, Config};
use cos_drivers::{Drivers, Environment, PluginConfigs};
use cos_model::Resources;
use cos_model::node::HostVolume;

use super::security::Secured;
use super::{Parts, with_port};

/// The default port of the cluster's own protocol, for servers without one.
pub(super) const RPC_PORT: u16 = 4647;

/// Starts the client if the agent is one.
pub(super) async fn start(
    parts: &Parts<'_>,
    secured: &Secured,
) -> anyhow::Result<Option<AgentHandle>> {
    let settings = parts.settings;
    if !settings.is_client() {
        return Ok(None);
    }
    let drivers = drivers(parts)?;
    let defaults = Config::default();
    let client = &settings.client;
    let mut servers: Vec<String> =
        settings.client_servers().iter().map(|server| with_port(server, RPC_PORT)).collect();
    if settings.is_server() {
        servers.insert(0, parts.endpoints.rpc.advertise.to_string());
    }
    let config = Config {
        data_dir: settings.data_dir.clone().unwrap_or_default(),
        node_name: parts.name.to_owned(),
        datacenter: settings.datacenter(),
        region: settings.region(),
        node_class: client.node_class.clone().unwrap_or_default(),
        node_pool: client.node_pool.clone().unwrap_or(defaults.node_pool),
        servers,
        meta: client.meta.clone(),
        options: client.options.clone(),
        reserved: Resources {
            cpu_mhz: client.reserved_cpu.unwrap_or(0),
            memory_mib: client.reserved_memory.unwrap_or(0),
            disk_mib: client.reserved_disk.unwrap_or(0),
        },
        reserved_ports: reserved_ports(parts)?,
        host_volumes: client
            .host_volumes
            .iter()
            .map(|(name, (path, read_only))| {
                let path = path.display().to_string();
                (name.clone(), HostVolume { path, read_only: *read_only })
            })
            .collect(),
        network_interface: client.network_interface.clone().unwrap_or_default(),
        address: parts.endpoints.http.advertise.ip().to_string(),
        min_dynamic_port: client.min_dynamic_port.unwrap_or(defaults.min_dynamic_port),
        max_dynamic_port: client.max_dynamic_port.unwrap_or(defaults.max_dynamic_port),
        http_address: parts.endpoints.http.advertise.to_string(),
        cpu_total_compute: client.cpu_total_compute.unwrap_or(0),
        memory_total_mib: client.memory_total_mb.unwrap_or(0),
        disk_total_mib: client.disk_total_mb.unwrap_or(0),
        gc_max_allocs: client
            .gc_max_allocs
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(defaults.gc_max_allocs),
        fingerprint_every: defaults.fingerprint_every,
        max_kill_timeout: client.max_kill_timeout.unwrap_or(defaults.max_kill_timeout),
        environment: std::env::vars().collect(),
    };
    let handle = cos_agent::start(
        config,
        drivers,
        Arc::clone(parts.clock),
        secured.link.clone(),
        parts.tasks,
    )
    .await?;
    Ok(Some(handle))
}

type DriverMap = BTreeMap<String, Arc<dyn cos_drivers::Driver>>;

fn drivers(parts: &Parts<'_>) -> anyhow::Result<DriverMap> {
    let settings = parts.settings;
    let mut plugins = settings.plugins.clone();
    let known = ["docker", "exec", "raw_exec"];
    plugins.retain(|name, _| {
        let is_known = known.contains(&name.as_str());
        if !is_known {
            tracing::warn!(
                plugin = name,
                "there is no such driver; its plugin block has no effect"
            );
        }
        is_known
    });
    if settings.dev {
        // A development agent runs what its user could run anyway.
        let raw_exec = plugins.entry("raw_exec".to_owned()).or_default();
        raw_exec.entry("enabled".to_owned()).or_insert(cos_model::Value::Bool(true));
    }
    let configs = PluginConfigs { plugins, options: settings.client.options.clone() };
    let environment = Environment {
        executable: executable(),
        open_files: Some(parts.open_files),
        chroot_env: settings
            .client
            .chroot_env
            .iter()
            .map(|(outside, inside)| (PathBuf::from(outside), PathBuf::from(inside)))
            .collect(),
        tasks: parts.tasks.clone(),
    };
    let drivers = Drivers::new(&configs, &environment)?;
    Ok(drivers.iter().map(|(name, driver)| (name.to_owned(), Arc::clone(driver))).collect())
}

/// The program that is started again as shim. The link is resolved now, because an upgrade that
/// replaces the file would leave `/proc/self/exe` pointing at nothing.
fn executable() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_gone| PathBuf::from("/proc/self/exe"))
}

/// Ports that no task may get: those the operator names, and those this agent itself holds.
fn reserved_ports(parts: &Parts<'_>) -> anyhow::Result<Vec<u16>> {
    let mut ports = Vec::new();
    let given = parts.settings.client.reserved_ports.as_deref().unwrap_or("");
    for part in given.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || anyhow::anyhow!("reserved_ports: `{part}` is no port and no range of ports");
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.trim().parse().ok().ok_or_else(wrong)?;
        let last: u16 = last.trim().parse().ok().ok_or_else(wrong)?;
        if first > last {
            return Err(wrong());
        }
        ports.extend(first..=last);
    }
    let endpoints = parts.endpoints;
    let own = [Some(endpoints.http), endpoints.consul_http, endpoints.dns, endpoints.ingress]
        .into_iter()
        .chain([endpoints.ingress_ui])
        .chain(parts.settings.is_server().then_some(Some(endpoints.rpc)))
        .chain(parts.settings.is_server().then_some(Some(endpoints.serf)));
    ports.extend(own.flatten().map(|endpoint| endpoint.bind.port()));
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

//! What this machine is and has: the node as it registers.
//!
//! Reading happens in small functions that each know one file or call; making a node of what they
//! found is pure.
//!
//! # Invariants
//!
//! - Attributes bear Nomad's names, so constraints of existing job files match.
//! - What cannot be read is left out or replaced by a modest default; fingerprinting never fails.
//!
//! # Deliberately absent
//!
//! - Clouds' metadata services, NUMA, devices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cos_drivers::Driver;
use cos_model::{DriverState, Node, NodeStatus, Resources, Timestamp, version};

use crate::config::Config;
use crate::store::Identity;

/// The clock assumed for a core that does not tell its own.
const DEFAULT_MHZ: u64 = 2_000;

const MIB: u64 = 1024 * 1024;

/// What was found on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processor cores.
    pub cores: u32,
    /// The clock of one core.
    pub mhz: u64,
    /// The processor's name.
    pub cpu_model: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the data directory's file system in bytes.
    pub disk_bytes_total: u64,
    /// What is free of it.
    pub disk_bytes_free: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution's id and version.
    pub os: (String, String),
    /// The host's name.
    pub hostname: String,
    /// Which cgroups are there: `1`, `2`, or empty.
    pub cgroups: String,
    /// The address of the configured interface, or why there is none.
    pub interface: Option<Result<IpAddr, String>>,
}

impl Machine {
    /// Looks at the machine. Blocks for a moment.
    pub fn look(config: &Config) -> Self {
        let cpu = read("/proc/cpuinfo");
        let uname = rustix::system::uname();
        let release = read("/etc/os-release");
        let (disk_bytes_total, disk_bytes_free) = disk_of(&config.data_dir);
        let interface = &config.network_interface;
        Self {
            cores: cores_of(&cpu),
            mhz: mhz_of(&cpu),
            cpu_model: field_of(&cpu, "model name").unwrap_or_default().to_owned(),
            memory_bytes: memory_of(&read("/proc/meminfo")),
            disk_bytes_total,
            disk_bytes_free,
            kernel: uname.release().to_string_lossy().into_owned(),
            os: (os_field(&release, "ID"), os_field(&release, "VERSION_ID")),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            cgroups: cgroups_of(Path::new("/sys/fs/cgroup")),
            interface: (!interface.is_empty()).then(|| address_of(interface)),
        }
    }

    /// The address at which tasks are reached.
    pub fn address(&self, config: &Config) -> String {
        match &self.interface {
            Some(Ok(address)) => address.to_string(),
            _ => config.address.clone(),
        }
    }
}

/// Makes the node out of what was found and what the operator says.
pub fn node(
    config: &Config,
    identity: Identity,
    machine: &Machine,
    drivers: &BTreeMap<String, DriverState>,
) -> Node {
    let or_found = |given: u64, found: u64| if given > 0 { given } else { found };
    let total = Resources {
        cpu_mhz: or_found(config.cpu_total_compute, u64::from(machine.cores) * machine.mhz),
        memory_mib: or_found(config.memory_total_mib, machine.memory_bytes / MIB),
        disk_mib: or_found(config.disk_total_mib, machine.disk_bytes_free / MIB),
    };
    let address = machine.address(config);
    let mut attributes = attributes(config, machine, &total, &address);
    for state in drivers.values().filter(|state| state.detected && state.healthy) {
        attributes.extend(state.attributes.clone());
    }
    for (name, state) in drivers {
        if state.detected && state.healthy {
            attributes.entry(format!("driver.{name}")).or_insert_with(|| "1".to_owned());
        }
    }
    Node {
        id: identity.node,
        secret: identity.secret,
        name: config.node_name.clone(),
        datacenter: config.datacenter.clone(),
        node_pool: config.node_pool.clone(),
        node_class: config.node_class.clone(),
        http_address: config.http_address.clone(),
        address,
        capacity: total.saturating_sub(&config.reserved),
        reserved: config.reserved,
        cores: machine.cores,
        min_dynamic_port: config.min_dynamic_port,
        max_dynamic_port: config.max_dynamic_port,
        reserved_ports: config.reserved_ports.clone(),
        attributes,
        meta: config.meta.clone(),
        drivers: drivers.clone(),
        host_volumes: config.host_volumes.clone(),
        status: NodeStatus::Initializing,
        eligible: true,
        drain: None,
        status_updated_at: Timestamp::NEVER,
        events: Vec::new(),
        create_index: 0,
        modify_index: 0,
    }
}

/// Asks every driver that is not denied how it is.
pub async fn drivers(
    drivers: &BTreeMap<String, Arc<dyn Driver>>,
    options: &BTreeMap<String, String>,
) -> BTreeMap<String, DriverState> {
    let list = |names: [&str; 2]| {
        let given = names.iter().find_map(|name| options.get(*name))?;
        Some(given.split(',').map(|name| name.trim().to_owned()).collect::<Vec<String>>())
    };
    let allowed = list(["driver.allowlist", "driver.whitelist"]);
    let denied = list(["driver.denylist", "driver.blacklist"]).unwrap_or_default();
    let wanted = drivers.iter().filter(|(name, _)| {
        allowed.as_ref().is_none_or(|allowed| allowed.contains(name)) && !denied.contains(name)
    });
    let asked =
        wanted.map(|(name, driver)| async move { (name.clone(), driver.fingerprint().await) });
    futures_util::future::join_all(asked).await.into_iter().collect()
}

fn attributes(
    config: &Config,
    machine: &Machine,
    total: &Resources,
    address: &str,
) -> BTreeMap<String, String> {
    let usable = total.saturating_sub(&config.reserved);
    let facts = [
        ("cpu.arch", go_arch().to_owned()),
        ("cpu.modelname", machine.cpu_model.clone()),
        ("cpu.numcores", machine.cores.to_string()),
        ("cpu.frequency", machine.mhz.to_string()),
        ("cpu.totalcompute", total.cpu_mhz.to_string()),
        ("cpu.usablecompute", usable.cpu_mhz.to_string()),
        ("memory.totalbytes", machine.memory_bytes.to_string()),
        ("kernel.name", "linux".to_owned()),
        ("kernel.arch", std::env::consts::ARCH.to_owned()),
        ("kernel.version", machine.kernel.clone()),
        ("os.name", machine.os.0.clone()),
        ("os.version", machine.os.1.clone()),
        ("os.cgroups.version", machine.cgroups.clone()),
        ("os.signals", "SIGHUP,SIGINT,SIGQUIT,SIGKILL,SIGUSR1,SIGUSR2,SIGTERM".to_owned()),
        ("nomad.version", version::NOMAD.to_owned()),
        ("nomad.service_discovery", "true".to_owned()),
        ("cos.version", version::COS.to_owned()),
        ("consul.version", version::CONSUL.to_owned()),
        ("consul.datacenter", config.region.clone()),
        ("unique.consul.name", config.node_name.clone()),
        ("unique.hostname", machine.hostname.clone()),
        ("unique.network.ip-address", address.to_owned()),
        ("unique.advertise.address", config.http_address.clone()),
        ("unique.storage.volume", config.data_dir.display().to_string()),
        ("unique.storage.bytestotal", machine.disk_bytes_total.to_string()),
        ("unique.storage.bytesfree", machine.disk_bytes_free.to_string()),
    ];
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// Counts what this process may use; the list of the machine's processors may be longer.
fn cores_of(cpuinfo: &str) -> u32 {
    let listed = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(1);
    let usable = std::thread::available_parallelism().map_or(listed, std::num::NonZero::get);
    u32::try_from(usable).unwrap_or(u32::MAX)
}

/// Takes the highest clock that any core tells: cores that idle tell less than they can.
fn mhz_of(cpuinfo: &str) -> u64 {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "cpu MHz")
        .filter_map(|(_, value)| value.trim().split('.').next()?.parse::<u64>().ok())
        .max()
        .filter(|mhz| *mhz > 0)
        .unwrap_or(DEFAULT_MHZ)
}

fn memory_of(meminfo: &str) -> u64 {
    field_of(meminfo, "MemTotal")
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

fn os_field(release: &str, name: &str) -> String {
    release
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .unwrap_or_default()
}

/// Returns total and free bytes of the file system that holds a directory or its nearest ancestor.
pub(crate) fn disk_of(path: &Path) -> (u64, u64) {
    path.ancestors()
        .find_map(|path| rustix::fs::statvfs(path).ok())
        .map_or((0, 0), |stat| (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

fn cgroups_of(root: &Path) -> String {
    if root.join("cgroup.controllers").exists() {
        "2".to_owned()
    } else if root.join("memory").exists() || root.join("unified").exists() {
        "1".to_owned()
    } else {
        String::new()
    }
}

/// Finds the first IPv4 address of an interface, or else its first address.
pub fn address_of(interface: &str) -> Result<IpAddr, String> {
    let networks =
        sysinfo::Networks::new_with_refreshed_list().map_err(|error| error.to_string())?;
    let data = networks
        .get(std::ffi::OsStr::new(interface))
        .ok_or_else(|| format!("there is no network interface `{interface}`"))?;
    let addresses: Vec<IpAddr> = data.ip_networks().iter().map(|network| network.addr).collect();
    addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| addresses.first())
        .copied()
        .ok_or_else(|| format!("network interface `{interface}` has no address"))
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Some CPU @ 2.4GHz\ncpu MHz\t\t: 1199.998\n\
        \nprocessor\t: 1\nmodel name\t: Some CPU @ 2.4GHz\ncpu MHz\t\t: 2400.004\n";

    #[test]
    fn the_fastest_core_tells_the_clock() {
        assert_eq!(mhz_of(CPUINFO), 2400);
        assert_eq!(mhz_of("processor : 0\n"), DEFAULT_MHZ);
    }

    #[test]
    fn facts_are_read_from_the_kernels_files() {
        assert_eq!(field_of(CPUINFO, "model name"), Some("Some CPU @ 2.4GHz"));
        assert_eq!(memory_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16384 * 1024);
        assert_eq!(os_field("NAME=x\nID=debian\nVERSION_ID=\"12\"\n", "VERSION_ID"), "12");
    }

    #[test]
    fn capacity_is_what_is_left_beside_the_reserved() {
        let config = Config {
            reserved: Resources { cpu_mhz: 500, memory_mib: 100, disk_mib: 0 },
            ..Config::default()
        };
        let machine =
            Machine { cores: 2, mhz: 1000, memory_bytes: 1024 * MIB, ..Machine::default() };
        let identity = Identity {
            node: cos_model::NodeId::from_bits(1),
            secret: cos_model::NodeId::from_bits(2),
        };
        let docker = DriverState { detected: true, healthy: true, ..DriverState::default() };
        let broken = DriverState { detected: true, healthy: false, ..DriverState::default() };
        let drivers = BTreeMap::from([("docker".to_owned(), docker), ("exec".to_owned(), broken)]);
        let node = node(&config, identity, &machine, &drivers);
        assert_eq!(node.capacity, Resources { cpu_mhz: 1500, memory_mib: 924, disk_mib: 0 });
        assert_eq!(node.attributes.get("driver.docker").map(String::as_str), Some("1"));
        assert_eq!(node.attributes.get("driver.exec"), None);
        assert_eq!(node.attributes["unique.network.ip-address"], "127.0.0.1");
    }

    #[test]
    fn the_loopback_interface_has_its_address() {
        assert_eq!(address_of("lo").map(|address| address.to_string()), Ok("127.0.0.1".to_owned()));
        assert!(address_of("no-such-interface").is_err());
    }
}

//! The configuration of an agent's client part: parsed once by the program, then only read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cos_model::Resources;
use cos_model::node::HostVolume;

/// How this machine takes part in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where everything is kept: `client/state.db` and `alloc/<id>` below it.
    pub data_dir: PathBuf,
    /// The node's name, also in the catalog.
    pub node_name: String,
    /// The datacenter it is in.
    pub datacenter: String,
    /// The cluster's region.
    pub region: String,
    /// A free class name.
    pub node_class: String,
    /// Its pool.
    pub node_pool: String,
    /// `host:port` of servers' RPC to begin with; the servers tell the rest.
    pub servers: Vec<String>,
    /// Facts given by the operator, visible as `${meta.…}`.
    pub meta: BTreeMap<String, String>,
    /// `client { options { … } }`: old switches, such as `driver.allowlist` and `driver.denylist`.
    pub options: BTreeMap<String, String>,
    /// What is set aside for everything that is not a task.
    pub reserved: Resources,
    /// Ports no task may get.
    pub reserved_ports: Vec<u16>,
    /// Directories offered to tasks, by name.
    pub host_volumes: BTreeMap<String, HostVolume>,
    /// The interface on whose IPv4 address tasks are reached; empty takes `address`.
    pub network_interface: String,
    /// The address at which tasks are reached if no interface is named.
    pub address: String,
    /// First port of the dynamic range.
    pub min_dynamic_port: u16,
    /// Last port of the dynamic range.
    pub max_dynamic_port: u16,
    /// `host:port` at which other agents reach this one's HTTP API.
    pub http_address: String,
    /// Total compute in MHz instead of what was found; zero is what was found.
    pub cpu_total_compute: u64,
    /// Total memory in MiB instead of what was found; zero is what was found.
    pub memory_total_mib: u64,
    /// Total disk in MiB instead of what was found; zero is what was found.
    pub disk_total_mib: u64,
    /// How many ended allocations are kept for their files before the oldest are removed.
    pub gc_max_allocs: usize,
    /// How often facts of the machine and its drivers are looked at again.
    pub fingerprint_every: Duration,
    /// The longest kill timeout that a job may ask for.
    pub max_kill_timeout: Duration,
    /// The agent's own environment, handed down to tasks that see the machine's files.
    pub environment: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            node_name: "localhost".to_owned(),
            datacenter: "dc1".to_owned(),
            region: "global".to_owned(),
            node_class: String::new(),
            node_pool: "default".to_owned(),
            servers: Vec::new(),
            meta: BTreeMap::new(),
            options: BTreeMap::new(),
            reserved: Resources::default(),
            reserved_ports: Vec::new(),
            host_volumes: BTreeMap::new(),
            network_interface: String::new(),
            address: "127.0.0.1".to_owned(),
            min_dynamic_port: 20_000,
            max_dynamic_port: 32_000,
            http_address: String::new(),
            cpu_total_compute: 0,
            memory_total_mib: 0,
            disk_total_mib: 0,
            gc_max_allocs: 50,
            fingerprint_every: Duration::from_secs(15),
            max_kill_timeout: Duration::from_secs(30),
            environment: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Where the directories of allocations are.
    pub fn alloc_root(&self) -> PathBuf {
        self.data_dir.join("alloc")
    }

    /// Where the agent keeps its copy of the catalog.
    pub fn catalog_file(&self) -> PathBuf {
        self.data_dir.join("client").join("catalog")
    }

    /// Where the agent keeps what it knows.
    pub fn state_file(&self) -> PathBuf {
        self.data_dir.join("client").join("state.db")
    }
}

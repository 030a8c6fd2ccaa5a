//! The agent's configuration: files and flags, parsed once into an immutable value.
//!
//! Files are Nomad's agent files, HCL or JSON whatever their ending. Later files override earlier
//! ones, flags override files, and what nobody says has a default. A key that Nomad does not know
//! is an error with its position; a key that Nomad knows and cos does not act on yet is accepted
//! with a warning, or refused where ignoring it would be unsafe.
//!
//! # Invariants
//!
//! - Parsing touches nothing but the files it is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cos_jobspec::Diagnostics;
use cos_jobspec::hcl;
use cos_model::Value;

mod addresses;
mod autopilot;
mod client;
mod flags;
mod limits;
mod read;
mod security;
mod server;

pub(crate) use addresses::{Endpoint, Endpoints};
pub(crate) use flags::Flags;
pub(crate) use security::Mode;

/// Everything an agent was told, before defaults of the machine are filled in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) dev: bool,
    pub(crate) name: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) bind_addr: Option<String>,
    pub(crate) addresses: BTreeMap<String, String>,
    pub(crate) advertise: BTreeMap<String, String>,
    pub(crate) ports: BTreeMap<String, i32>,
    pub(crate) log_level: Option<String>,
    pub(crate) server: ServerSettings,
    pub(crate) autopilot: cos_state::AutopilotConfig,
    pub(crate) client: ClientSettings,
    pub(crate) cluster: security::ClusterSettings,
    pub(crate) tls: security::TlsSettings,
    /// `plugin "<name>" { config {} }`, merged over all files.
    pub(crate) plugins: BTreeMap<String, BTreeMap<String, Value>>,
    pub(crate) limits: LimitSettings,
    /// Whether callers of the Consul dialect may register checks that run programs.
    pub(crate) enable_script_checks: bool,
    /// What was accepted and has no effect, to be told at the start.
    pub(crate) warnings: Vec<String>,
}

/// `server { … }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerSettings {
    pub(crate) enabled: Option<bool>,
    pub(crate) bootstrap_expect: Option<u32>,
    pub(crate) retry_join: Vec<String>,
    pub(crate) retry_interval: Option<Duration>,
    /// The key of gossip, by which agents may also join.
    pub(crate) encrypt: Option<String>,
    pub(crate) num_schedulers: Option<usize>,
    pub(crate) heartbeat_grace: Option<Duration>,
    pub(crate) min_heartbeat_ttl: Option<Duration>,
    pub(crate) max_heartbeats_per_second: Option<f64>,
    pub(crate) failover_heartbeat_ttl: Option<Duration>,
    pub(crate) closed_heartbeat_grace: Option<Duration>,
    pub(crate) goodbye_heartbeat_grace: Option<Duration>,
    pub(crate) thresholds: BTreeMap<&'static str, Duration>,
    pub(crate) zone: Option<String>,
    pub(crate) never_votes: Option<bool>,
}

/// `limits { … }`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LimitSettings {
    pub(crate) http_max_conns_per_client: Option<usize>,
    pub(crate) http_max_conns: Option<usize>,
    pub(crate) http_max_blocking_per_client: Option<usize>,
    pub(crate) http_max_blocking: Option<usize>,
    pub(crate) https_handshake_timeout: Option<Duration>,
}

/// `client { … }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSettings {
    pub(crate) enabled: Option<bool>,
    pub(crate) servers: Vec<String>,
    pub(crate) retry_join: Vec<String>,
    pub(crate) node_class: Option<String>,
    pub(crate) node_pool: Option<String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) chroot_env: BTreeMap<String, String>,
    pub(crate) network_interface: Option<String>,
    pub(crate) reserved_cpu: Option<u64>,
    pub(crate) reserved_memory: Option<u64>,
    pub(crate) reserved_disk: Option<u64>,
    pub(crate) reserved_ports: Option<String>,
    pub(crate) host_volumes: BTreeMap<String, (PathBuf, bool)>,
    pub(crate) min_dynamic_port: Option<u16>,
    pub(crate) max_dynamic_port: Option<u16>,
    pub(crate) cpu_total_compute: Option<u64>,
    pub(crate) memory_total_mb: Option<u64>,
    pub(crate) disk_total_mb: Option<u64>,
    pub(crate) gc_max_allocs: Option<u32>,
    pub(crate) max_kill_timeout: Option<Duration>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is wrong; the text names each place.
    #[error("{0}")]
    Wrong(Diagnostics),
    /// A value cannot be used.
    #[error("{0}")]
    Invalid(String),
}

impl Settings {
    /// Reads everything that the flags name, in order, and then the flags themselves.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for path in &flags.configs {
            for file in files_of(path)? {
                settings.read_file(&file)?;
            }
        }
        settings.apply_flags(flags)?;
        settings.check()?;
        Ok(settings)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        self.read_text(&text, &path.display().to_string())
    }

    /// Reads one file's text on top of what is there.
    pub(crate) fn read_text(&mut self, text: &str, file_name: &str) -> Result<(), ConfigError> {
        let body = hcl::parse(text, file_name).map_err(ConfigError::Wrong)?;
        let problems = read::settings(self, &body);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(Diagnostics(problems))) }
    }

    /// Whether this agent is a server.
    pub(crate) fn is_server(&self) -> bool {
        self.server.enabled.unwrap_or(self.dev)
    }

    /// Whether this agent runs tasks.
    pub(crate) fn is_client(&self) -> bool {
        self.client.enabled.unwrap_or(self.dev)
    }

    /// Looks for what cannot work together.
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
        if !self.is_server() && !self.is_client() {
            return invalid(
                "Must specify either server, client or dev mode for the agent.\n\
                 Write `server { enabled = true }` or `client { enabled = true }`, or start with -dev",
            );
        }
        if self.data_dir.is_none() && !self.dev {
            return invalid("Must specify \"data_dir\" config option or \"-data-dir\" CLI flag");
        }
        if let Some(dir) = &self.data_dir
            && !dir.is_absolute()
        {
            return invalid("\"data_dir\" must be given as an absolute path");
        }
        if self.server.bootstrap_expect.is_some_and(|count| count > 0) && !self.is_server() {
            return invalid("Bootstrap requires server mode to be enabled");
        }
        if self.is_client() && !self.is_server() && self.client_servers().is_empty() {
            return invalid(
                "a client needs to know a server: set client { servers = [\"HOST:4647\"] } or \
                 client { server_join { retry_join = [\"HOST\"] } }",
            );
        }
        let ports = (self.client.min_dynamic_port, self.client.max_dynamic_port);
        if let (Some(min), Some(max)) = ports
            && min > max
        {
            return invalid("client: min_dynamic_port must not be above max_dynamic_port");
        }
        Ok(())
    }

    /// The servers a client asks, from both ways to name them.
    pub(crate) fn client_servers(&self) -> Vec<String> {
        self.client.servers.iter().chain(&self.client.retry_join).cloned().collect()
    }

    /// The directory for state. In dev mode without one, a fresh temporary directory.
    pub(crate) fn region(&self) -> String {
        self.region.clone().unwrap_or_else(|| "global".to_owned())
    }

    /// The datacenter.
    pub(crate) fn datacenter(&self) -> String {
        self.datacenter.clone().unwrap_or_else(|| "dc1".to_owned())
    }

    /// Where everything listens and how it is reached.
    pub(crate) fn endpoints(&self, machine: Option<IpAddr>) -> Result<Endpoints, ConfigError> {
        addresses::endpoints(self, machine)
    }
}

/// A file is itself; a directory is its `.hcl` and `.json` files in order of name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        let wanted = file.extension().is_some_and(|ending| ending == "hcl" || ending == "json");
        if wanted && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;

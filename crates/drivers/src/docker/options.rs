//! A task's options of the `docker` driver.
//!
//! # Invariants
//!
//! - Everything that weakens the machine's protection (privileges, host paths, host namespaces,
//!   further capabilities) needs the operator's consent and is refused by name without it.
//! - Options that are known and not carried out are in [`REFUSED`], each with a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::Value;

use super::plugin::PluginOptions;
use super::{MIB, NAME};
use crate::capability;
use crate::driver::ConfigError;
use crate::options::{Options, duration};

/// Options of a task.
const KNOWN: [&str; 45] = [
    "args",
    "auth",
    "auth_soft_fail",
    "cap_add",
    "cap_drop",
    "command",
    "container_exists_attempts",
    "cpuset_cpus",
    "dns_options",
    "dns_search_domains",
    "dns_servers",
    "entrypoint",
    "extra_hosts",
    "force_pull",
    "group_add",
    "hostname",
    "image",
    "image_pull_timeout",
    "init",
    "interactive",
    "ipc_mode",
    "labels",
    "logging",
    "memory_hard_limit",
    "mount",
    "mounts",
    "network_mode",
    "oom_score_adj",
    "pid_mode",
    "pids_limit",
    "port_map",
    "ports",
    "privileged",
    "readonly_rootfs",
    "security_opt",
    "shm_size",
    "storage_opt",
    "sysctl",
    "tty",
    "ulimit",
    "userns_mode",
    "uts_mode",
    "volume_driver",
    "volumes",
    "work_dir",
];

/// Options of a task that are refused.
const REFUSED: [(&str, &str); 14] = [
    ("advertise_ipv6_address", "services advertise host addresses only"),
    ("cgroupns", "the engine's default is used"),
    ("cpu_cfs_period", "CPU is shared by weight"),
    ("cpu_hard_limit", "CPU is shared by weight"),
    ("devices", "use `privileged` where the operator allows it"),
    ("healthchecks", "the image's own health check is ignored; use the service's checks"),
    ("ipv4_address", "fixed container addresses are not given"),
    ("ipv6_address", "fixed container addresses are not given"),
    ("isolation", "it is an option of Windows"),
    ("load", "load the image into the engine beforehand"),
    ("mac_address", "fixed container addresses are not given"),
    ("network_aliases", "containers are found through service discovery"),
    ("runtime", "the engine's default runtime is used"),
    ("cpuset_mems", "memory nodes are not assigned"),
];

/// How the engine keeps a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logging {
    /// The engine's logging driver.
    pub(super) driver: String,
    /// Its options.
    pub(super) config: BTreeMap<String, String>,
}

/// Credentials for a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    /// User.
    pub(super) username: String,
    /// Password, or an identity token if the user is `<token>`.
    pub(super) password: String,
    /// For registries that ask.
    pub(super) email: String,
    /// The registry, if it is not the image's.
    pub(super) server_address: String,
}

/// What a task set.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskOptions {
    pub(super) image: String,
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) auth: Option<Credentials>,
    pub(super) auth_soft_fail: bool,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) cpuset_cpus: String,
    pub(super) dns_options: Vec<String>,
    pub(super) dns_search_domains: Vec<String>,
    pub(super) dns_servers: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) force_pull: bool,
    pub(super) group_add: Vec<String>,
    pub(super) hostname: String,
    pub(super) pull_time_max: Option<Duration>,
    pub(super) init: bool,
    pub(super) interactive: bool,
    pub(super) ipc_mode: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) logging: Option<Logging>,
    pub(super) memory_hard_limit_bytes: Option<i64>,
    pub(super) mounts: Vec<TaskMount>,
    pub(super) network_mode: String,
    pub(super) oom_score_adj: Option<i64>,
    pub(super) pid_mode: String,
    pub(super) pids_limit: Option<i64>,
    pub(super) port_map: BTreeMap<String, u16>,
    pub(super) ports: Vec<String>,
    pub(super) privileged: bool,
    pub(super) readonly_rootfs: bool,
    pub(super) security_opt: Vec<String>,
    pub(super) shm_size: Option<i64>,
    pub(super) storage_opt: BTreeMap<String, String>,
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) tty: bool,
    pub(super) ulimit: Vec<Ulimit>,
    pub(super) userns_mode: String,
    pub(super) uts_mode: String,
    pub(super) volume_driver: String,
    pub(super) volumes: Vec<String>,
    pub(super) work_dir: String,
}

/// A limit of the container's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ulimit {
    pub(super) name: String,
    pub(super) soft: i64,
    pub(super) hard: i64,
}

/// A `mount` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskMount {
    /// `bind`, `volume` or `tmpfs`.
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    /// Of `tmpfs`, in bytes.
    pub(super) size: Option<i64>,
    /// Of `tmpfs`.
    pub(super) mode: Option<i64>,
    /// Of `volume`.
    pub(super) no_copy: bool,
    /// Of `volume`.
    pub(super) labels: BTreeMap<String, String>,
}

impl TaskOptions {
    /// Reads a task's options and checks them against what the operator allows.
    pub(super) fn read(
        config: &BTreeMap<String, Value>,
        plugin: &PluginOptions,
    ) -> Result<Self, ConfigError> {
        let options = Options::new(NAME, config, &KNOWN, &REFUSED)?;
        let read = Self {
            image: options.required_text("image")?,
            command: options.text("command")?,
            args: options.texts("args")?,
            entrypoint: options.texts("entrypoint")?,
            auth: read_auth(&options)?,
            auth_soft_fail: options.truth("auth_soft_fail")?.unwrap_or(false),
            cap_add: options.texts("cap_add")?,
            cap_drop: options.texts("cap_drop")?,
            cpuset_cpus: options.text("cpuset_cpus")?,
            dns_options: options.texts("dns_options")?,
            dns_search_domains: options.texts("dns_search_domains")?,
            dns_servers: options.texts("dns_servers")?,
            extra_hosts: options.texts("extra_hosts")?,
            force_pull: options.truth("force_pull")?.unwrap_or(false),
            group_add: options.texts("group_add")?,
            hostname: options.text("hostname")?,
            pull_time_max: time(
                &options,
                "image_pull_timeout",
                &options.text("image_pull_timeout")?,
            )?,
            init: options.truth("init")?.unwrap_or(false),
            interactive: options.truth("interactive")?.unwrap_or(false),
            ipc_mode: options.text("ipc_mode")?,
            labels: options.text_map("labels")?,
            logging: read_logging(&options)?,
            memory_hard_limit_bytes: options
                .number("memory_hard_limit")?
                .filter(|mib| *mib > 0)
                .map(|mib| mib.saturating_mul(MIB)),
            mounts: read_mounts(&options)?,
            network_mode: options.text("network_mode")?,
            oom_score_adj: options.number("oom_score_adj")?,
            pid_mode: options.text("pid_mode")?,
            pids_limit: options.number("pids_limit")?,
            port_map: read_port_map(&options)?,
            ports: options.texts("ports")?,
            privileged: options.truth("privileged")?.unwrap_or(false),
            readonly_rootfs: options.truth("readonly_rootfs")?.unwrap_or(false),
            security_opt: options.texts("security_opt")?,
            shm_size: options.number("shm_size")?,
            storage_opt: options.text_map("storage_opt")?,
            sysctl: options.text_map("sysctl")?,
            tty: options.truth("tty")?.unwrap_or(false),
            ulimit: read_ulimits(&options)?,
            userns_mode: options.text("userns_mode")?,
            uts_mode: options.text("uts_mode")?,
            volume_driver: options.text("volume_driver")?,
            volumes: options.texts("volumes")?,
            work_dir: options.text("work_dir")?,
        };
        read.check_consent(&options, plugin)?;
        Ok(read)
    }

    /// Refuses what the operator did not allow.
    fn check_consent(
        &self,
        options: &Options<'_>,
        plugin: &PluginOptions,
    ) -> Result<(), ConfigError> {
        if !plugin.allow_privileged {
            if self.privileged {
                return Err(options.invalid(
                    "privileged",
                    "docker privileged mode is disabled on this node (plugin option \
                     `allow_privileged`)",
                ));
            }
            let modes = [
                ("ipc_mode", &self.ipc_mode),
                ("pid_mode", &self.pid_mode),
                ("userns_mode", &self.userns_mode),
                ("uts_mode", &self.uts_mode),
            ];
            if let Some((key, _)) = modes.iter().find(|(_, mode)| mode.as_str() == "host") {
                let why = "`host` needs the plugin option `allow_privileged` on this node";
                return Err(options.invalid(key, why));
            }
        }
        capability::resolve(plugin.allow_caps, &self.cap_add, &self.cap_drop)
            .map_err(|why| options.invalid("cap_add", why))?;
        for volume in &self.volumes {
            if !volume.contains(':') {
                let why = format!("`{volume}` is not of the form `source:target`");
                return Err(options.invalid("volumes", why));
            }
        }
        Ok(())
    }
}

/// Reads a duration; `None` if the text is empty.
pub(super) fn time(
    options: &Options<'_>,
    key: &str,
    text: &str,
) -> Result<Option<Duration>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    duration(text)
        .map(Some)
        .ok_or_else(|| options.invalid(key, format!("`{text}` is not a duration such as `5m`")))
}

/// Reads a `logging` block.
pub(super) fn read_logging(options: &Options<'_>) -> Result<Option<Logging>, ConfigError> {
    let Some(block) = options.block("logging")? else { return Ok(None) };
    let block = Options::new(NAME, block, &["type", "driver", "config"], &[])?;
    let (kind, driver) = (block.text("type")?, block.text("driver")?);
    if !kind.is_empty() && !driver.is_empty() && kind != driver {
        return Err(options.invalid("logging", "`type` and `driver` contradict each other"));
    }
    let driver = if kind.is_empty() { driver } else { kind };
    let driver = if driver.is_empty() { "json-file".to_owned() } else { driver };
    Ok(Some(Logging { driver, config: block.text_map("config")? }))
}

fn read_auth(options: &Options<'_>) -> Result<Option<Credentials>, ConfigError> {
    let Some(block) = options.block("auth")? else { return Ok(None) };
    let known = ["username", "password", "email", "server_address"];
    let block = Options::new(NAME, block, &known, &[])?;
    let read = Credentials {
        username: block.text("username")?,
        password: block.text("password")?,
        email: block.text("email")?,
        server_address: block.text("server_address")?,
    };
    // Templates that leave everything empty mean no login.
    Ok((read != Credentials::default()).then_some(read))
}

fn read_port_map(options: &Options<'_>) -> Result<BTreeMap<String, u16>, ConfigError> {
    let read = options.text_map("port_map")?.into_iter().map(|(label, port)| {
        // An unresolved reference is an error only when the task starts.
        let number = if port.contains("${") { Ok(0) } else { port.parse() };
        number.map(|number| (label, number)).map_err(|_not_a_port| {
            options.invalid("port_map", format!("`{port}` is not a port number"))
        })
    });
    read.collect()
}

fn read_ulimits(options: &Options<'_>) -> Result<Vec<Ulimit>, ConfigError> {
    let read = options.text_map("ulimit")?.into_iter().map(|(name, text)| {
        let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
        let limits = soft.trim().parse().ok().zip(hard.trim().parse().ok());
        let why = format!("`{name} = {text}` is not like `soft:hard`");
        limits
            .map(|(soft, hard)| Ulimit { name, soft, hard })
            .ok_or_else(|| options.invalid("ulimit", why))
    });
    read.collect()
}

fn read_mounts(options: &Options<'_>) -> Result<Vec<TaskMount>, ConfigError> {
    let mut blocks = options.blocks("mount")?;
    blocks.extend(options.blocks("mounts")?);
    blocks.into_iter().map(|block| read_mount(options, block)).collect()
}

fn read_mount(
    options: &Options<'_>,
    block: &BTreeMap<String, Value>,
) -> Result<TaskMount, ConfigError> {
    let known =
        ["type", "source", "target", "readonly", "tmpfs_options", "volume_options", "bind_options"];
    let mount = Options::new(NAME, block, &known, &[])?;
    let empty = BTreeMap::new();
    let inner = |key: &str, known: &[&str], refused: &[(&str, &str)]| {
        Options::new(NAME, mount.block(key)?.unwrap_or(&empty), known, refused)
    };
    let tmpfs = inner("tmpfs_options", &["size", "mode"], &[])?;
    let no_driver = [("driver_config", "make the volume in the engine beforehand")];
    let volume = inner("volume_options", &["no_copy", "labels"], &no_driver)?;
    let no_propagation = [("propagation", "mounts are private")];
    inner("bind_options", &[], &no_propagation)?;
    let kind = mount.text("type")?;
    let kind = if kind.is_empty() { "volume".to_owned() } else { kind };
    if !["bind", "volume", "tmpfs"].contains(&kind.as_str()) {
        return Err(options.invalid("mount", format!("`{kind}` is not bind, volume or tmpfs")));
    }
    let target = mount.text("target")?;
    if target.is_empty() {
        return Err(options.invalid("mount", "`target` is required"));
    }
    Ok(TaskMount {
        kind,
        source: mount.text("source")?,
        target,
        read_only: mount.truth("readonly")?.unwrap_or(false),
        size: tmpfs.number("size")?,
        mode: tmpfs.number("mode")?,
        no_copy: volume.truth("no_copy")?.unwrap_or(false),
        labels: volume.text_map("labels")?,
    })
}

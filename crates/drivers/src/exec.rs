//! The `exec` driver: a program in a root of its own, with limits, without rights.
//!
//! The task directory becomes the root; the system's directories are shown in it read-only. The
//! task has its own mounts, processes, queues and host name, runs as `nobody` unless the job says
//! otherwise, and cannot get new privileges. It shares the host's network.
//!
//! # Invariants
//!
//! - Without root, or without control groups, the driver is not detected and says why; it never
//!   runs a task with less isolation than promised.
//! - The plan of what is shown inside is made here, and carried out by the shim.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cos_model::network::Dns;
use cos_model::{DriverState, Value};

use crate::capability::{self, Capabilities};
use crate::cgroup::Cgroups;
use crate::driver::{
    ConfigError, Driver, ExecRequest, ExitResult, Isolation, StartError, TaskConfig, TaskError,
    TaskHandle, TaskStats,
};
use crate::exec_session::ExecSession;
use crate::options::Options;
use crate::registry::Environment;
use crate::shim::spec::{Bind, IsolationSpec, Spec, VERSION};
use crate::shim_tasks::{ShimTasks, group_name, log_spec};
use crate::user::{self, Denied, Identity};

/// The driver's name.
pub(crate) const NAME: &str = "exec";

/// What is shown of the host if the operator says nothing.
const CHROOT_ENV: [&str; 9] = [
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/sbin",
    "/usr",
];

/// Whom tasks run as if the job says nothing.
const DEFAULT_USER: &str = "nobody";

/// Processes and threads of one task; more is a runaway that would take the machine with it.
const PIDS_MAX: u64 = 32_768;

/// Options of a task.
const KNOWN: [&str; 7] =
    ["command", "args", "work_dir", "pid_mode", "ipc_mode", "cap_add", "cap_drop"];

/// Options of the plugin.
const PLUGIN_KNOWN: [&str; 6] = [
    "no_pivot_root",
    "default_pid_mode",
    "default_ipc_mode",
    "allow_caps",
    "denied_host_uids",
    "denied_host_gids",
];

/// The bit of `CAP_SYS_ADMIN`, without which there are no mounts.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The driver.
#[derive(Debug)]
pub struct Exec {
    pivot: bool,
    private_pids: bool,
    private_ipc: bool,
    allowed: Capabilities,
    denied: Denied,
    chroot_env: BTreeMap<PathBuf, PathBuf>,
    tasks: ShimTasks,
    cgroups: Result<Cgroups, String>,
}

/// A task's options.
struct TaskOptions {
    command: String,
    args: Vec<String>,
    work_dir: PathBuf,
    private_pids: bool,
    private_ipc: bool,
    bounding: Capabilities,
    added: Capabilities,
}

impl Exec {
    /// Makes the driver from its plugin block.
    pub(crate) fn new(
        plugin: &BTreeMap<String, Value>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let options = Options::new(NAME, plugin, &PLUGIN_KNOWN, &[])?;
        let allow_caps = options.texts("allow_caps")?;
        let allowed = if allow_caps.is_empty() {
            Capabilities::default_allowed()
        } else {
            Capabilities::parse(&allow_caps).map_err(|why| options.invalid("allow_caps", why))?
        };
        let own = |path: &str| (PathBuf::from(path), PathBuf::from(path));
        let chroot_env = if environment.chroot_env.is_empty() {
            CHROOT_ENV.into_iter().map(own).collect()
        } else {
            environment.chroot_env.clone()
        };
        Ok(Self {
            pivot: !options.truth("no_pivot_root")?.unwrap_or(false),
            private_pids: is_private(&options, "default_pid_mode", true)?,
            private_ipc: is_private(&options, "default_ipc_mode", true)?,
            allowed,
            denied: Denied::from_options(&options)?,
            chroot_env,
            tasks: ShimTasks::new(NAME, environment),
            cgroups: Cgroups::detect().and_then(|cgroups| cgroups.probe().map(|()| cgroups)),
        })
    }

    fn options(&self, config: &BTreeMap<String, Value>) -> Result<TaskOptions, ConfigError> {
        let options = Options::new(NAME, config, &KNOWN, &[])?;
        let work_dir = options.text("work_dir")?;
        if !work_dir.is_empty() && !work_dir.starts_with('/') {
            return Err(options.invalid("work_dir", "must be an absolute path inside the task"));
        }
        let (add, drop) = (options.texts("cap_add")?, options.texts("cap_drop")?);
        let bounding = capability::resolve(self.allowed, &add, &drop)
            .map_err(|why| options.invalid("cap_add", why))?;
        let added = Capabilities::parse(&add).map_err(|why| options.invalid("cap_add", why))?;
        Ok(TaskOptions {
            command: options.required_text("command")?,
            args: options.texts("args")?,
            work_dir: PathBuf::from(if work_dir.is_empty() { "/" } else { &work_dir }),
            private_pids: is_private(&options, "pid_mode", self.private_pids)?,
            private_ipc: is_private(&options, "ipc_mode", self.private_ipc)?,
            bounding,
            added: Capabilities(added.0 & bounding.0),
        })
    }

    /// Says why tasks cannot be isolated here.
    fn obstacle(&self) -> Option<String> {
        if !user::is_root() {
            return Some("the agent must run as root".to_owned());
        }
        if !has_sys_admin() {
            return Some("the agent lacks CAP_SYS_ADMIN and cannot mount".to_owned());
        }
        if !Path::new("/proc/self/ns/pid").exists() {
            return Some("the kernel has no pid namespaces".to_owned());
        }
        self.cgroups.as_ref().err().map(|why| format!("control groups cannot be used: {why}"))
    }

    /// Everything that is shown inside, in order.
    fn binds(&self, task: &TaskConfig) -> Result<Vec<Bind>, StartError> {
        let mut binds = Vec::new();
        let mut show = |source: &Path, destination: &Path, read_only| {
            let (source, destination) = (source.to_owned(), destination.to_owned());
            binds.push(Bind { source, destination, read_only });
        };
        for (source, destination) in &self.chroot_env {
            show(source, destination, true);
        }
        if let Some(hosts) = find_host_file("/etc/hosts") {
            let own = write_hosts(&task.dirs.state, &hosts)?;
            show(&own, &hosts, true);
        }
        if let Some(resolv) = find_host_file("/etc/resolv.conf") {
            let source = match &task.dns {
                Some(dns) => write_resolv(&task.dirs.state, dns)?,
                None => resolv.clone(),
            };
            show(&source, &resolv, true);
        }
        show(&task.dirs.alloc, Path::new("/alloc"), false);
        for (path, name) in [(&task.dirs.local, "local"), (&task.dirs.secrets, "secrets")] {
            // Below the root they are visible already, unless they are elsewhere.
            if *path != task.dirs.task.join(name) {
                show(path, &Path::new("/").join(name), false);
            }
        }
        for mount in &task.mounts {
            show(&mount.source, &mount.destination, mount.read_only);
        }
        Ok(binds)
    }

    fn identity(&self, user: &str) -> Result<Identity, StartError> {
        let user = if user.is_empty() { DEFAULT_USER } else { user };
        let identity = user::lookup(user).map_err(StartError::Refused)?;
        self.denied.check(Some(&identity)).map_err(StartError::Refused)?;
        Ok(identity)
    }
}

#[async_trait]
impl Driver for Exec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolation(&self) -> Isolation {
        Isolation::Chroot
    }

    async fn fingerprint(&self) -> DriverState {
        match self.obstacle() {
            Some(description) => DriverState { description, ..DriverState::default() },
            None => DriverState {
                detected: true,
                healthy: true,
                description: "Healthy".to_owned(),
                attributes: BTreeMap::from([("driver.exec".to_owned(), "1".to_owned())]),
            },
        }
    }

    fn validate(&self, config: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
        self.options(config).map(drop)
    }

    async fn start(&self, task: &TaskConfig) -> Result<TaskHandle, StartError> {
        if let Some(why) = self.obstacle() {
            return Err(StartError::Refused(format!("driver exec cannot run here: {why}")));
        }
        let options = self.options(&task.config)?;
        let identity = self.identity(&task.user)?;
        self.tasks.prepare_state(&task.dirs.state).await?;
        let binds = self.binds(task)?;
        let cgroups = self.cgroups.as_ref().map_err(|why| StartError::Refused(why.clone()))?;
        let group = cgroups
            .create(&group_name(task), &task.limits, Some(PIDS_MAX))
            .map_err(|error| StartError::Failed(error.to_string()))?;
        let is_root = identity.uid == 0;
        let spec = Spec {
            version: VERSION,
            task: task.task.clone(),
            command: options.command,
            args: options.args,
            env: task.env.clone(),
            work_dir: options.work_dir,
            search: vec![PathBuf::from("/local"), PathBuf::from("/")],
            logs: log_spec(task),
            identity: Some(identity),
            group: Some(group),
            oom_score_adj: None,
            open_files: None,
            isolation: Some(IsolationSpec {
                root: task.dirs.task.clone(),
                binds,
                private_pids: options.private_pids,
                private_ipc: options.private_ipc,
                pivot: self.pivot,
                bounding: options.bounding.0,
                ambient: if is_root { 0 } else { options.added.0 },
            }),
        };
        self.tasks.launch(task, &spec).await
    }

    async fn recover(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        self.tasks.recover(handle)
    }

    async fn wait(&self, handle: &TaskHandle) -> Result<ExitResult, TaskError> {
        self.tasks.wait(handle).await
    }

    async fn signal(&self, handle: &TaskHandle, signal: &str) -> Result<(), TaskError> {
        self.tasks.signal(handle, signal).await
    }

    async fn stop(
        &self,
        handle: &TaskHandle,
        signal: &str,
        timeout: Duration,
    ) -> Result<(), TaskError> {
        self.tasks.stop(handle, signal, timeout).await
    }

    async fn destroy(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        self.tasks.destroy(handle).await
    }

    async fn stats(&self, handle: &TaskHandle) -> Result<TaskStats, TaskError> {
        self.tasks.stats(handle)
    }

    async fn exec(
        &self,
        handle: &TaskHandle,
        request: &ExecRequest,
    ) -> Result<ExecSession, TaskError> {
        self.tasks.exec(handle, request)
    }
}

fn is_private(options: &Options<'_>, key: &str, default: bool) -> Result<bool, ConfigError> {
    match options.text(key)?.as_str() {
        "" => Ok(default),
        "private" => Ok(true),
        "host" => Ok(false),
        other => Err(options.invalid(key, format!("`{other}` is neither `private` nor `host`"))),
    }
}

fn has_sys_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & CAP_SYS_ADMIN != 0)
}

/// Returns where a file of the host really is; `None` if it is nowhere.
fn find_host_file(path: &str) -> Option<PathBuf> {
    fs::canonicalize(path).ok().filter(|path| path.is_file())
}

/// Writes the host's own table of names with `localhost` in it.
fn write_hosts(state: &Path, host: &Path) -> Result<PathBuf, StartError> {
    let text = fs::read_to_string(host).unwrap_or_default();
    write_file(state, "hosts", &complete_hosts(&text))
}

/// Adds `localhost` to a table of names that lacks it.
fn complete_hosts(text: &str) -> String {
    let knows_localhost = text.lines().any(|line| {
        let line = line.split('#').next().unwrap_or("");
        line.split_ascii_whitespace().skip(1).any(|name| name == "localhost")
    });
    if knows_localhost {
        return text.to_owned();
    }
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{text}")
}

fn write_resolv(state: &Path, dns: &Dns) -> Result<PathBuf, StartError> {
    let mut text: String =
        dns.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (word, values) in [("search", &dns.searches), ("options", &dns.options)] {
        if !values.is_empty() {
            text = format!("{text}{word} {}\n", values.join(" "));
        }
    }
    write_file(state, "resolv.conf", &text)
}

/// Every user of the task reads such files, so the mode does not follow the agent's mask.
fn write_file(state: &Path, name: &str, text: &str) -> Result<PathBuf, StartError> {
    let path = state.join(name);
    let write = || {
        fs::write(&path, text)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
    };
    write().map_err(|error: std::io::Error| {
        StartError::Failed(format!("failed to write {}: {error}", path.display()))
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_added_where_it_is_missing() {
        let added = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        for (text, want) in [
            ("127.0.0.1\tlocalhost\n", "127.0.0.1\tlocalhost\n".to_owned()),
            ("10.0.0.1 web\n", format!("{added}10.0.0.1 web\n")),
            ("# localhost\n", format!("{added}# localhost\n")),
            ("", added.to_owned()),
        ] {
            assert_eq!(complete_hosts(text), want, "{text}");
        }
    }
}

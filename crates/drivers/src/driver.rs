//! The contract of a driver: what it is asked, and in which words it answers.
//!
//! A driver turns one [`TaskConfig`] into something that runs, and a [`TaskHandle`] back into it
//! after the agent was restarted. The agent stores the handle and knows nothing of what is in it.
//!
//! # Invariants
//!
//! - **A task outlives its driver object.** Dropping a driver, or the whole agent, ends no task;
//!   [`Driver::recover`] of the stored handle finds it again.
//! - **One answer about the end.** [`Driver::wait`] may be called any number of times, by any
//!   number of callers, before and after the end; all get the same [`ExitResult`].
//! - **Stopping is the driver's duty.** When [`Driver::stop`] returns, nothing of the task runs.
//! - **Cleaning up is explicit.** Only [`Driver::destroy`] removes what a task leaves behind, so
//!   that exits can be read after they happened.
//!
//! # Deliberately absent
//!
//! - Restart policy, templates, checks. They are the agent's.
//! - Interpolation. Every `${…}` that could be resolved was resolved before it gets here.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cos_model::network::Dns;
use cos_model::{AllocId, AllocatedPort, DriverState, Logs, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::exec_session::ExecSession;

/// One way to run tasks.
#[async_trait]
pub trait Driver: Debug + Send + Sync + 'static {
    /// The name by which job files choose it.
    fn name(&self) -> &'static str;

    /// How much of the machine its tasks see, and so under which paths they find their directories.
    fn isolation(&self) -> Isolation;

    /// Returns the ports inside the task that its options assign to port labels, for
    /// `NOMAD_PORT_<label>`. None for drivers whose tasks use the host's network.
    fn port_map(&self, config: &BTreeMap<String, Value>) -> BTreeMap<String, u16> {
        let _ = config;
        BTreeMap::new()
    }

    /// Finds out whether it could run a task now, and says why not.
    async fn fingerprint(&self) -> DriverState;

    /// Checks a task's `config` block without starting anything. Every mistake is named.
    fn validate(&self, config: &BTreeMap<String, Value>) -> Result<(), ConfigError>;

    /// Starts a task. The handle must be stored before anything else is done with it.
    async fn start(&self, task: &TaskConfig) -> Result<TaskHandle, StartError>;

    /// Takes up a task that an earlier agent started. It succeeds if the task runs or if its exit
    /// can be told; then the other verbs work as if this driver had started it.
    async fn recover(&self, handle: &TaskHandle) -> Result<(), TaskError>;

    /// Waits for the end and tells how it was. Dropping the future changes nothing.
    async fn wait(&self, handle: &TaskHandle) -> Result<ExitResult, TaskError>;

    /// Sends a signal, by name (`SIGHUP`, `HUP`) or number, to the task's main process.
    async fn signal(&self, handle: &TaskHandle, signal: &str) -> Result<(), TaskError>;

    /// Sends `signal` (empty: the driver's default), kills everything that is left after `timeout`,
    /// and returns when the task has ended. A task that has ended already is no error.
    async fn stop(
        &self,
        handle: &TaskHandle,
        signal: &str,
        timeout: Duration,
    ) -> Result<(), TaskError>;

    /// Kills what still runs and removes everything the task left outside its directories. May be
    /// repeated.
    async fn destroy(&self, handle: &TaskHandle) -> Result<(), TaskError>;

    /// Tells what the task uses now.
    async fn stats(&self, handle: &TaskHandle) -> Result<TaskStats, TaskError>;

    /// Runs another command where the task runs, with its environment and rights.
    async fn exec(
        &self,
        handle: &TaskHandle,
        request: &ExecRequest,
    ) -> Result<ExecSession, TaskError>;
}

/// How much of the machine a driver's tasks see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything; directories have their host paths.
    None,
    /// A root directory of their own, made from the task directory.
    Chroot,
    /// The file system of an image.
    Image,
}

/// One task, ready to start.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// The allocation.
    pub alloc_id: AllocId,
    /// The task's name in its group.
    pub task: String,
    /// The task's `config` block, interpolated.
    pub config: BTreeMap<String, Value>,
    /// The complete environment.
    pub env: BTreeMap<String, String>,
    /// Where things are on the host. All of them exist, except `state`, which the driver makes.
    pub dirs: TaskDirs,
    /// What it may use.
    pub limits: Limits,
    /// The host ports of the allocation that this task sees.
    pub ports: Vec<AllocatedPort>,
    /// User to run as; empty leaves it to the driver.
    pub user: String,
    /// Log rotation.
    pub logs: Logs,
    /// Host directories to be shown inside, from the group's volumes.
    pub mounts: Vec<Mount>,
    /// The group network's mode: empty, `host`, `bridge`, `none` or `cni/…`.
    pub network_mode: String,
    /// The group network's name resolution.
    pub dns: Option<Dns>,
    /// Facts about the allocation for drivers that label what they make, such as `job_name`.
    pub labels: BTreeMap<String, String>,
}

/// The directories of a task on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDirs {
    /// `<alloc>/<task>`, the task's own directory and, where there is one, its root.
    pub task: PathBuf,
    /// `<alloc>/<task>/local`.
    pub local: PathBuf,
    /// `<alloc>/<task>/secrets`.
    pub secrets: PathBuf,
    /// `<alloc>/alloc`, shared by the tasks of the allocation.
    pub alloc: PathBuf,
    /// `<alloc>/alloc/logs`.
    pub logs: PathBuf,
    /// The driver's own files for this run of the task, out of the task's sight, such as
    /// `<alloc>/.shim/<task>`. It may be used again for the next run after [`Driver::destroy`].
    pub state: PathBuf,
}

/// A task's directories as the task sees them; these go into `NOMAD_ALLOC_DIR` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleDirs {
    /// `NOMAD_ALLOC_DIR`.
    pub alloc: PathBuf,
    /// `NOMAD_TASK_DIR`.
    pub local: PathBuf,
    /// `NOMAD_SECRETS_DIR`.
    pub secrets: PathBuf,
}

/// What a task may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU in MHz, which is its weight against other tasks.
    pub cpu_mhz: u64,
    /// Memory in MiB, exactly; zero is no limit.
    pub memory_mib: u64,
    /// Memory in MiB that it may take where there is room; zero is none beyond `memory_mib`.
    pub memory_max_mib: u64,
}

/// A host directory shown inside a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside the task.
    pub destination: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// Everything a driver needs to find a task again. Stored by the agent, opaque to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHandle {
    /// Version of the form of `reference`.
    pub version: u32,
    /// The driver's name.
    pub driver: String,
    /// `<allocation id>/<task>`, for messages.
    pub task_id: String,
    /// The main process on the host; 0 where it is not known.
    pub pid: i32,
    /// What the driver knows the task by.
    pub reference: Reference,
}

/// What a driver knows a task by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// A process with a shim.
    Shim(ShimReference),
    /// A container of a Docker engine.
    Container(ContainerReference),
}

/// A process with a shim. Process numbers come around again, so each goes with its start time, and
/// both are void after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimReference {
    /// Where the shim keeps its socket, its specification and the exit.
    pub state: PathBuf,
    /// The kernel's id of this boot.
    pub boot: String,
    /// The shim.
    pub shim: ProcessId,
    /// The task's main process.
    pub task: ProcessId,
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number on the host.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from boot to its start.
    pub start_time: u64,
}

/// A container of a Docker engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReference {
    /// The engine's id for it.
    pub container: String,
    /// The engine's id of its image.
    pub image_id: String,
    /// Whether cos pulled that image, and so may remove it.
    pub image_was_pulled: bool,
    /// The image as the job names it.
    pub image: String,
    /// Where the position in the logs is kept.
    pub state: PathBuf,
    /// Where the rotated logs go.
    pub logs_dir: PathBuf,
    /// Their rotation.
    pub logs: Logs,
    /// The task's name, which the log files bear.
    pub task: String,
}

/// How a task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitResult {
    /// Its exit code; 128 + signal if a signal ended it; -1 if the end could not be observed.
    pub exit_code: i32,
    /// The signal that ended it; 0 is none.
    pub signal: i32,
    /// Whether the kernel killed it because its memory limit was reached.
    pub oom_killed: bool,
    /// What went wrong around the task, if anything did.
    pub error: Option<String>,
    /// When, if that was noted; an agent that was away learns of it later.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}

/// What a task uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStats {
    /// Processor time of all its processes since the start.
    pub cpu_time: Duration,
    /// Resident memory in bytes, without the page cache.
    pub memory_rss: u64,
    /// Memory charged to its limit in bytes, with the page cache.
    pub memory_usage: u64,
    /// Its highest memory use in bytes; 0 where it is not known.
    pub memory_max_usage: u64,
    /// Its processes or threads, as the source counts them.
    pub pids: u64,
}

/// A command to run beside the task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// A task's `config` block is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No driver has such an option.
    #[error("driver {driver}: unknown option `{key}`")]
    Unknown {
        /// The driver.
        driver: &'static str,
        /// The option.
        key: String,
    },
    /// The option is known and not carried out.
    #[error("driver {driver}: option `{key}` is not supported: {why}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// The option.
        key: String,
        /// Why not, or what to do instead.
        why: String,
    },
    /// The option must be there.
    #[error("driver {driver}: option `{key}` is required")]
    Missing {
        /// The driver.
        driver: &'static str,
        /// The option.
        key: &'static str,
    },
    /// The option has a value that it cannot have.
    #[error("driver {driver}: option `{key}`: {why}")]
    Invalid {
        /// The driver.
        driver: &'static str,
        /// The option.
        key: String,
        /// What was expected.
        why: String,
    },
}

/// A task could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its options are wrong. Trying again cannot help.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it needs is not on this machine, or is forbidden here. Trying again cannot help.
    #[error("{0}")]
    Refused(String),
    /// Something failed that may work later.
    #[error("{0}")]
    Failed(String),
    /// The image could not be fetched.
    #[error("failed to pull `{image}`: {why}")]
    Pull {
        /// The image.
        image: String,
        /// What the engine said.
        why: String,
    },
}

impl StartError {
    /// Whether trying again may help.
    pub fn is_recoverable(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Pull { .. })
    }
}

/// A verb on a started task failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The handle was made by another driver or by a newer version.
    #[error("the handle of {task_id} is not one of driver {driver}")]
    ForeignHandle {
        /// The task.
        task_id: String,
        /// The driver that was asked.
        driver: &'static str,
    },
    /// Nothing is known of it any more.
    #[error("task not found: {0}")]
    NotFound(String),
    /// It has ended.
    #[error("the task is not running")]
    NotRunning,
    /// No such signal.
    #[error("invalid signal: {0}")]
    UnknownSignal(String),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

impl TaskDirs {
    /// Returns the paths under which a task of such a driver finds its directories.
    pub fn visible(&self, isolation: Isolation) -> VisibleDirs {
        match isolation {
            Isolation::None => VisibleDirs {
                alloc: self.alloc.clone(),
                local: self.local.clone(),
                secrets: self.secrets.clone(),
            },
            Isolation::Chroot | Isolation::Image => VisibleDirs {
                alloc: Path::new("/alloc").to_owned(),
                local: Path::new("/local").to_owned(),
                secrets: Path::new("/secrets").to_owned(),
            },
        }
    }
}

impl Limits {
    /// Returns the memory in bytes that the task is never to exceed; `None` is no limit.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        let limit = self.memory_mib.max(self.memory_max_mib);
        (limit > 0).then(|| limit.saturating_mul(MIB))
    }

    /// Returns the memory in bytes that the task is promised if that is less than its maximum.
    pub fn memory_bytes_reserved(&self) -> Option<u64> {
        (self.memory_max_mib > self.memory_mib && self.memory_mib > 0)
            .then(|| self.memory_mib.saturating_mul(MIB))
    }
}

impl ExitResult {
    /// Whether the task ended well.
    pub fn is_success(&self) -> bool {
        self.exit_code == 0 && self.signal == 0 && self.error.is_none()
    }
}

impl TaskConfig {
    /// Returns `<allocation id>/<task>`.
    pub fn task_id(&self) -> String {
        format!("{}/{}", self.alloc_id, self.task)
    }

    /// Returns the port with this label.
    pub fn port(&self, label: &str) -> Option<&AllocatedPort> {
        self.ports.iter().find(|port| port.label == label)
    }
}

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

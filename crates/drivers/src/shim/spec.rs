//! What the agent writes down for the shim, and what the shim writes down for the agent.
//!
//! The files are read by a newer or older binary after an upgrade, so each carries its version and
//! new fields have defaults.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::driver::{ExitResult, ProcessId};
use crate::user::Identity;

/// Version of all files and messages between agent and shim.
pub(crate) const VERSION: u32 = 1;

/// The specification, written by the agent.
pub(crate) const SPEC_FILE: &str = "shim.json";

/// Which processes run, written by the shim.
pub(crate) const RUNNING_FILE: &str = "running.json";

/// How the task ended, written by the shim.
pub(crate) const EXIT_FILE: &str = "exit.json";

/// The shim's socket.
pub(crate) const SOCKET_FILE: &str = "shim.sock";

/// What to run and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The task's name, which the log files bear.
    pub(crate) task: String,
    /// The program: a path, or a name that is searched for.
    pub(crate) command: String,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Its whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Its working directory, as it sees it.
    pub(crate) work_dir: PathBuf,
    /// Directories, as it sees them, that are searched before `PATH`; a program found there is made
    /// executable.
    pub(crate) search: Vec<PathBuf>,
    /// Where its output goes; nowhere if absent.
    pub(crate) logs: Option<LogSpec>,
    /// Whom it runs as; the agent's user if absent.
    pub(crate) identity: Option<Identity>,
    /// Its control group.
    pub(crate) group: Option<Group>,
    /// How willingly the kernel kills it.
    pub(crate) oom_score_adj: Option<i32>,
    /// How it is kept apart; not at all if absent.
    pub(crate) isolation: Option<IsolationSpec>,
    /// How many files it may open before it asks for more; as many as the agent if absent.
    #[serde(default)]
    pub(crate) open_files: Option<u64>,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogSpec {
    /// Directory of the files.
    pub(crate) dir: PathBuf,
    /// Files kept per stream.
    pub(crate) files_max: u64,
    /// Size of a file.
    pub(crate) bytes_max: u64,
}

/// How a task is kept apart from the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IsolationSpec {
    /// The directory that becomes its root.
    pub(crate) root: PathBuf,
    /// What is shown inside, in order.
    pub(crate) binds: Vec<Bind>,
    /// Whether it sees only its own processes.
    pub(crate) private_pids: bool,
    /// Whether it has its own shared memory and queues.
    pub(crate) private_ipc: bool,
    /// Whether the root is changed by `pivot_root` rather than `chroot`.
    pub(crate) pivot: bool,
    /// Capabilities that it, or a program it runs, may ever have, as bits.
    pub(crate) bounding: u64,
    /// Capabilities that it has although it is not root, as bits.
    pub(crate) ambient: u64,
}

/// A host path shown inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// Path on the host.
    pub(crate) source: PathBuf,
    /// Path inside.
    pub(crate) destination: PathBuf,
    /// Whether writing is refused.
    pub(crate) read_only: bool,
}

/// Which processes run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The kernel's id of this boot.
    pub(crate) boot: String,
    /// The shim.
    pub(crate) shim: ProcessId,
    /// The task.
    pub(crate) task: ProcessId,
}

/// How the task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exited {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The result.
    pub(crate) result: ExitResult,
    /// When, in nanoseconds since the epoch.
    pub(crate) at: i64,
}

/// Writes a file so that a reader finds the old one or the new one, never a part.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let partial = path.with_extension("partial");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(&bytes)?;
    drop(file);
    fs::rename(&partial, path)
}

/// Reads such a file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path)?;
    Ok(serde_json::from_slice(&bytes)?)
}

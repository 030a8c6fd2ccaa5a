//! One thing to run: a container, a program, a script.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::constraint::{Affinity, Constraint};
use crate::job::Extras;
use crate::network::Network;
use crate::policy::Restart;
use crate::resources::Resources;
use crate::service::Service;
use crate::value::Value;

/// One task of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique within the group.
    pub name: String,
    /// `raw_exec`, `exec`, `docker`, ….
    pub driver: String,
    /// User to run as; empty leaves it to the driver.
    pub user: String,
    /// The driver's own options.
    pub config: BTreeMap<String, Value>,
    /// Environment, with `${…}` to be resolved on the node.
    pub env: BTreeMap<String, String>,
    /// Free facts, visible to the task as `NOMAD_META_…`.
    pub meta: BTreeMap<String, String>,
    /// Rules for the node, besides those of job and group.
    pub constraints: Vec<Constraint>,
    /// Preferences for the node.
    pub affinities: Vec<Affinity>,
    /// Services of this task.
    pub services: Vec<Service>,
    /// CPU, memory and (for old files) disk.
    pub resources: Resources,
    /// Memory the task may take where there is room, in MiB; zero is none beyond `resources`.
    pub memory_max_mib: u64,
    /// Whole cores reserved instead of MHz; zero is none.
    pub cores: u32,
    /// `resources { network {} }` of old files.
    pub networks: Vec<Network>,
    /// Restart policy, complete.
    pub restart: Restart,
    /// Time between the kill signal and SIGKILL.
    pub kill_timeout: Duration,
    /// The kill signal; empty leaves it to the driver.
    pub kill_signal: String,
    /// Time between leaving discovery and the kill signal.
    pub shutdown_delay: Duration,
    /// Whether the end of this task ends its siblings.
    pub leader: bool,
    /// When it runs relative to the main tasks.
    pub lifecycle: Option<Lifecycle>,
    /// Files fetched before the start.
    pub artifacts: Vec<Artifact>,
    /// Files rendered before the start and kept up to date.
    pub templates: Vec<Template>,
    /// Log rotation.
    pub logs: Logs,
    /// Volumes of the group that the task sees.
    pub volume_mounts: Vec<VolumeMount>,
    /// Where a dispatched payload is written; empty is nowhere.
    pub dispatch_payload_file: String,
    /// Blocks that are kept but not executed, such as `vault`, by their JSON name.
    #[serde(default)]
    pub extras: Extras,
}

/// When a task runs relative to the main tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The moment.
    pub hook: Hook,
    /// Whether it goes on running beside the main tasks.
    pub sidecar: bool,
}

/// The moment at which a lifecycle task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    /// Before the main tasks, which wait for it.
    Prestart,
    /// After the main tasks run.
    Poststart,
    /// After the main tasks ended.
    Poststop,
}

/// A file or archive fetched before the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it comes from, in go-getter's notation.
    pub source: String,
    /// Where it goes, relative to the task directory; `local/` by default.
    pub destination: String,
    /// `any`, `file` or `dir`.
    pub mode: String,
    /// Options such as `checksum` and `archive`.
    pub options: BTreeMap<String, String>,
    /// Request headers.
    pub headers: BTreeMap<String, String>,
    /// Whether a wrong certificate is accepted.
    pub insecure: bool,
    /// Whether the task's user owns the result.
    pub chown: bool,
}

/// A file rendered from a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// A template file; empty if the text is in `data`.
    pub source: String,
    /// The template's text.
    pub data: String,
    /// Where the result goes, relative to the task directory.
    pub destination: String,
    /// What happens when the result changes.
    pub change_mode: ChangeMode,
    /// Octal file mode, such as `0644`.
    pub perms: String,
    /// The longest random wait before the change is acted on.
    pub splay: Duration,
    /// Whether lines `KEY=value` of the result become environment.
    pub env: bool,
    /// Opening delimiter, `{{` by default.
    pub left_delimiter: String,
    /// Closing delimiter, `}}` by default.
    pub right_delimiter: String,
    /// Whether a missing key is an error.
    pub error_on_missing_key: bool,
    /// Owner of the file.
    pub uid: Option<u32>,
    /// Group of the file.
    pub gid: Option<u32>,
    /// Whether it is rendered only once.
    pub once: bool,
    /// Attributes that are kept but not executed, such as `wait`.
    #[serde(default)]
    pub extras: Extras,
}

/// What happens when a rendered template changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeMode {
    /// Nothing.
    Noop,
    /// The task is restarted.
    #[default]
    Restart,
    /// The task gets this signal.
    Signal(String),
    /// A command runs in the task.
    Script {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// When it is given up.
        timeout: Duration,
        /// Whether a failure kills the task.
        fail_on_error: bool,
    },
}

/// Log rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Files kept per stream.
    pub max_files: u32,
    /// Size of one file in MiB.
    pub max_file_size_mib: u32,
    /// Whether output is dropped.
    pub disabled: bool,
}

/// A group volume as one task sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The group volume's label.
    pub volume: String,
    /// Path inside the task.
    pub destination: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// `private`, `host-to-task` or `bidirectional`.
    pub propagation_mode: String,
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_files: 10, max_file_size_mib: 10, disabled: false }
    }
}

//! What only the agent of a machine can answer: files, logs, commands and figures of the
//! allocations that it runs.
//!
//! The trait stands here so that the dialects need not know the agent; the program implements it.
//!
//! # Invariants
//!
//! - Dropping a stream ends what feeds it; dropping the output of a command kills the command.
//! - Paths are inside the allocation's directory; an implementation refuses those that lead out.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::{AllocId, ClientStatus, NodeId, Resources, Timestamp};
use futures_util::stream::BoxStream;

/// A stream of raw bytes.
pub type ByteStream = BoxStream<'static, Result<Bytes, LocalError>>;

/// A stream of pieces of files.
pub type FrameStream = BoxStream<'static, Result<Frame, LocalError>>;

/// What a user sends to a running command.
pub type ExecInputs = BoxStream<'static, ExecInput>;

/// What a running command sends to its user.
pub type ExecOutputs = BoxStream<'static, Result<ExecOutput, LocalError>>;

/// Why a machine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// The allocation is not on this machine.
    #[error("Unknown allocation {:?}", .0.to_string())]
    UnknownAlloc(AllocId),
    /// There is no such file, task or the like; the words name it.
    #[error("{0}")]
    NotFound(String),
    /// The request is wrong; the words say how.
    #[error("{0}")]
    Invalid(String),
    /// The task's driver cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// One machine that runs tasks.
#[async_trait]
pub trait LocalNode: Send + Sync + 'static {
    /// Which node this is.
    fn node_id(&self) -> NodeId;

    /// Whether an allocation is, or was until it is collected, on this machine.
    fn has_alloc(&self, alloc: AllocId) -> bool;

    /// What the machine has and gives, for metrics.
    fn figures(&self) -> NodeFigures;

    /// Lists a directory.
    async fn list(&self, alloc: AllocId, path: &str) -> Result<Vec<FileInfo>, LocalError>;

    /// Describes a file or directory.
    async fn stat(&self, alloc: AllocId, path: &str) -> Result<FileInfo, LocalError>;

    /// Reads a file from an offset, at most `limit` bytes if there is a limit.
    async fn read(
        &self,
        alloc: AllocId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<ByteStream, LocalError>;

    /// Reads a file in pieces and, if asked, goes on as it grows.
    async fn stream(&self, alloc: AllocId, request: StreamFile) -> Result<FrameStream, LocalError>;

    /// Reads the output of a task over all rotated files and, if asked, goes on as it grows.
    async fn logs(&self, alloc: AllocId, request: StreamLogs) -> Result<FrameStream, LocalError>;

    /// Runs a command in a task.
    async fn exec(
        &self,
        alloc: AllocId,
        request: ExecRequest,
        inputs: ExecInputs,
    ) -> Result<ExecOutputs, LocalError>;

    /// Restarts one task, all running tasks, or with `all` also those that ended.
    async fn restart(
        &self,
        alloc: AllocId,
        task: Option<&str>,
        all: bool,
    ) -> Result<(), LocalError>;

    /// Sends a signal to one task, or to all.
    async fn signal(
        &self,
        alloc: AllocId,
        task: Option<&str>,
        signal: &str,
    ) -> Result<(), LocalError>;

    /// Measures one task of an allocation, or all.
    async fn alloc_stats(
        &self,
        alloc: AllocId,
        task: Option<&str>,
    ) -> Result<AllocUsage, LocalError>;

    /// Measures the machine.
    async fn host_stats(&self) -> Result<HostUsage, LocalError>;

    /// Removes what ended allocations left behind: of one, or of all.
    async fn collect(&self, alloc: Option<AllocId>) -> Result<(), LocalError>;
}

/// A file or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name without the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its mode as `ls` writes it, such as `-rw-r--r--`.
    pub mode: String,
    /// When it was last written.
    pub modified: Timestamp,
    /// What it seems to hold, such as `text/plain; charset=utf-8`; empty for directories.
    pub content_type: String,
}

/// From which end of a file an offset counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// From the beginning.
    #[default]
    Start,
    /// Back from the end.
    End,
}

/// A request for a file that may grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFile {
    /// Path inside the allocation's directory.
    pub path: String,
    /// Where to begin.
    pub offset: u64,
    /// From where `offset` counts.
    pub origin: Origin,
    /// Whether to go on at the end of the file.
    pub follow: bool,
}

/// One of the two outputs of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    /// Its standard output.
    #[default]
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A request for a task's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLogs {
    /// The task.
    pub task: String,
    /// Which output.
    pub stream: LogStream,
    /// Where to begin.
    pub offset: u64,
    /// From where `offset` counts.
    pub origin: Origin,
    /// Whether to go on until the task ends.
    pub follow: bool,
}

/// A piece of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Path of the file inside the allocation's directory.
    pub file: String,
    /// Where the piece ends in the file.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// What happened to the file instead.
    pub event: Option<FileEvent>,
}

/// Something that happened to a file that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// It became shorter.
    Truncated,
    /// It was removed.
    Deleted,
}

impl FileEvent {
    /// The words that clients know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "file truncated",
            Self::Deleted => "file deleted",
        }
    }
}

/// A command to run in a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The task.
    pub task: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// From the user to a running command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for its standard input.
    Stdin(Bytes),
    /// Its standard input ends.
    StdinClosed,
    /// The terminal has a new size.
    Resize {
        /// Lines.
        height: u16,
        /// Columns.
        width: u16,
    },
}

/// From a running command to its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Its standard output ended.
    StdoutClosed,
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// Its standard error ended.
    StderrClosed,
    /// It ended with this code; nothing follows.
    Exited(i32),
}

/// What a task, or an allocation, uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory in bytes.
    pub memory_rss: u64,
    /// Memory of cached files in bytes.
    pub memory_cache: u64,
    /// Swapped memory in bytes.
    pub memory_swap: u64,
    /// The most memory it ever used, in bytes.
    pub memory_max: u64,
    /// Processor use in percent of one core.
    pub cpu_percent: f64,
    /// Processor use in MHz.
    pub cpu_mhz: f64,
    /// Share of `cpu_percent` spent in the kernel.
    pub cpu_system_percent: f64,
    /// Share of `cpu_percent` spent in the program.
    pub cpu_user_percent: f64,
    /// How often it was held back.
    pub throttled_periods: u64,
    /// For how long it was held back, in nanoseconds.
    pub throttled_nanos: u64,
}

/// What an allocation uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllocUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// By task; their sum is the allocation's.
    pub tasks: BTreeMap<String, TaskUsage>,
}

/// What a task uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskUsage {
    /// All its processes together.
    pub total: Usage,
    /// By process, where the driver knows it.
    pub processes: BTreeMap<u32, Usage>,
}

/// What a machine uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostUsage {
    /// When it was measured.
    pub at: Timestamp,
    /// Seconds since the machine started.
    pub uptime_seconds: u64,
    /// Memory.
    pub memory: HostMemory,
    /// By core.
    pub cpus: Vec<CpuUsage>,
    /// MHz in use.
    pub cpu_mhz_used: f64,
    /// By mounted disk.
    pub disks: Vec<DiskUsage>,
    /// The disk that holds the allocations.
    pub alloc_disk: DiskUsage,
}

/// Memory of a machine in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// All there is.
    pub total: u64,
    /// What programs can still get.
    pub available: u64,
    /// What is in use.
    pub used: u64,
    /// What nothing uses, not even caches.
    pub free: u64,
}

/// Use of one core, in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuUsage {
    /// Its name, such as `cpu0`.
    pub name: String,
    /// Programs.
    pub user: f64,
    /// The kernel.
    pub system: f64,
    /// Nothing.
    pub idle: f64,
    /// All but `idle`.
    pub total: f64,
}

/// Use of one disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskUsage {
    /// The device.
    pub device: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// All there is.
    pub size: u64,
    /// What is in use.
    pub used: u64,
    /// What can still be written.
    pub available: u64,
}

/// What a machine has and gives, as metrics show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFigures {
    /// The machine's datacenter.
    pub datacenter: String,
    /// What tasks may take in all.
    pub capacity: Resources,
    /// What they took.
    pub allocated: Resources,
    /// Allocations by state.
    pub allocations: BTreeMap<ClientStatus, u64>,
    /// Allocations that wait for the one they replace.
    pub allocations_blocked: u64,
    /// Memory of the machine.
    pub memory: HostMemory,
    /// Checks that this agent registered and runs.
    pub check_registrations: u64,
}

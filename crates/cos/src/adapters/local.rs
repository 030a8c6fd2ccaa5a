//! The machine of a client agent, as the API asks for it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_agent::{AgentHandle, AllocError, AllocFiles, Span};
use cos_drivers::{ExecRequest as DriverRequest, TaskStats};
use cos_http::LocalNode;
use cos_http::local::{
    AllocUsage, ByteStream, CpuUsage, DiskUsage, ExecInputs, ExecOutputs, ExecRequest, FileInfo,
    FrameStream, HostMemory, HostUsage, LocalError, LogStream, NodeFigures, Origin, StreamFile,
    StreamLogs, TaskUsage, Usage,
};
use cos_model::{AllocId, NodeId, Resources, Timestamp};
use cos_platform::{Clock, SystemClock, Tasks};
use futures_util::StreamExt;

use super::streams;

/// Time between the two looks whose difference is how busy a task is.
const USAGE_WINDOW: Duration = Duration::from_millis(100);
/// Bytes that are looked at to tell text from anything else.
const SNIFF_BYTES: u64 = 512;

/// A client agent.
pub(crate) struct LocalAgent {
    agent: AgentHandle,
    clock: SystemClock,
    tasks: Tasks,
}

impl LocalAgent {
    pub(crate) fn new(agent: AgentHandle) -> Self {
        Self { agent, clock: SystemClock::new(), tasks: Tasks::new() }
    }

    fn files(&self, alloc: AllocId) -> Result<AllocFiles, LocalError> {
        self.agent.files(alloc).map_err(problem)
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T, LocalError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(LocalError::Failed(error.to_string())))
}

fn problem(error: AllocError) -> LocalError {
    match error {
        AllocError::Unknown(id) => LocalError::UnknownAlloc(id),
        AllocError::Refused(text) if text.contains("unknown task") => LocalError::NotFound(text),
        AllocError::Refused(text) => LocalError::Failed(text),
    }
}

fn info(file: cos_agent::FileInfo) -> FileInfo {
    FileInfo {
        name: file.name,
        is_dir: file.is_dir,
        size: file.size,
        mode: streams::mode_text(file.mode),
        modified: file.modified,
        content_type: String::new(),
    }
}

fn span(origin: Origin, offset: u64, follow: bool) -> Span {
    let origin = match origin {
        Origin::Start => cos_agent::Origin::Start,
        Origin::End => cos_agent::Origin::End,
    };
    Span { origin, offset, follow }
}

#[async_trait]
impl LocalNode for LocalAgent {
    fn node_id(&self) -> NodeId {
        self.agent.node_id()
    }

    fn has_alloc(&self, alloc: AllocId) -> bool {
        self.agent.alloc(alloc).is_ok()
    }

    fn figures(&self) -> NodeFigures {
        let node = self.agent.node();
        let mut figures = NodeFigures {
            datacenter: node.datacenter.clone(),
            capacity: node.capacity,
            memory: memory(),
            ..NodeFigures::default()
        };
        for view in self.agent.allocs() {
            *figures.allocations.entry(view.status).or_default() += 1;
            if !view.status.is_terminal() {
                figures.allocated =
                    Resources::saturating_add(&figures.allocated, &view.alloc.resources);
            }
        }
        let catalog = self.agent.catalog().borrow().clone();
        let checks = catalog.checks_on(&node.name).filter(|check| !check.service_id.is_empty());
        figures.check_registrations = checks.count() as u64;
        figures
    }

    async fn list(&self, alloc: AllocId, path: &str) -> Result<Vec<FileInfo>, LocalError> {
        let (files, path) = (self.files(alloc)?, path.to_owned());
        blocking(move || {
            let found = files.list(&path).map_err(streams::file_error)?;
            Ok(found.into_iter().map(info).collect())
        })
        .await
    }

    async fn stat(&self, alloc: AllocId, path: &str) -> Result<FileInfo, LocalError> {
        let (files, path) = (self.files(alloc)?, path.to_owned());
        blocking(move || {
            let mut found = info(files.stat(&path).map_err(streams::file_error)?);
            if !found.is_dir {
                let beginning = files.read(&path, 0, SNIFF_BYTES).map_err(streams::file_error)?;
                found.content_type = streams::content_type(&Bytes::from(beginning));
            }
            Ok(found)
        })
        .await
    }

    async fn read(
        &self,
        alloc: AllocId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<ByteStream, LocalError> {
        let (files, path) = (self.files(alloc)?, path.to_owned());
        if let Some(limit) = limit {
            let bytes =
                blocking(move || files.read(&path, offset, limit).map_err(streams::file_error))
                    .await?;
            return Ok(futures_util::stream::iter([Ok(Bytes::from(bytes))]).boxed());
        }
        let chunks =
            files.stream(&path, span(Origin::Start, offset, false)).map_err(streams::file_error)?;
        Ok(streams::frames(chunks).map(|frame| frame.map(|frame| frame.data)).boxed())
    }

    async fn stream(&self, alloc: AllocId, request: StreamFile) -> Result<FrameStream, LocalError> {
        let span = span(request.origin, request.offset, request.follow);
        let chunks = self.files(alloc)?.stream(&request.path, span).map_err(streams::file_error)?;
        Ok(streams::frames(chunks))
    }

    async fn logs(&self, alloc: AllocId, request: StreamLogs) -> Result<FrameStream, LocalError> {
        let view = self.agent.alloc(alloc).map_err(problem)?;
        if !view.task_states.contains_key(&request.task) {
            return Err(LocalError::NotFound(format!("unknown task name {:?}", request.task)));
        }
        let stream = match request.stream {
            LogStream::Stdout => cos_agent::LogStream::Stdout,
            LogStream::Stderr => cos_agent::LogStream::Stderr,
        };
        let span = span(request.origin, request.offset, request.follow);
        let chunks =
            self.files(alloc)?.logs(&request.task, stream, span).map_err(streams::file_error)?;
        Ok(streams::frames(chunks))
    }

    async fn exec(
        &self,
        alloc: AllocId,
        request: ExecRequest,
        inputs: ExecInputs,
    ) -> Result<ExecOutputs, LocalError> {
        let wanted = DriverRequest { command: request.command, tty: request.tty };
        let session = self.agent.exec(alloc, &request.task, &wanted).await.map_err(problem)?;
        Ok(streams::exec(session, inputs, &self.tasks))
    }

    async fn restart(
        &self,
        alloc: AllocId,
        task: Option<&str>,
        all: bool,
    ) -> Result<(), LocalError> {
        if all {
            return Err(LocalError::Unsupported(
                "restarting tasks that have ended is not supported; leave AllTasks out".to_owned(),
            ));
        }
        self.agent.restart(alloc, task).await.map_err(problem)
    }

    async fn signal(
        &self,
        alloc: AllocId,
        task: Option<&str>,
        signal: &str,
    ) -> Result<(), LocalError> {
        self.agent.signal(alloc, task, signal).await.map_err(problem)
    }

    async fn alloc_stats(
        &self,
        alloc: AllocId,
        task: Option<&str>,
    ) -> Result<AllocUsage, LocalError> {
        let before = self.agent.alloc_stats(alloc).await.map_err(problem)?;
        let start = self.clock.monotonic();
        tokio::time::sleep(USAGE_WINDOW).await;
        let after = self.agent.alloc_stats(alloc).await.map_err(problem)?;
        let window = self.clock.monotonic().saturating_sub(start);
        let node = self.agent.node();
        let core_mhz = per_core(node.capacity.cpu_mhz + node.reserved.cpu_mhz, node.cores);
        let tasks: BTreeMap<String, TaskUsage> = after
            .into_iter()
            .filter(|(name, _)| task.is_none_or(|task| task == name))
            .map(|(name, now)| {
                let then = before.get(&name);
                let total = usage(then, &now, window, core_mhz);
                (name, TaskUsage { total, processes: BTreeMap::new() })
            })
            .collect();
        if let Some(task) = task
            && tasks.is_empty()
        {
            return Err(LocalError::NotFound(format!("unknown task name {task:?}")));
        }
        Ok(AllocUsage { at: Timestamp(self.clock.unix_nanos()), tasks })
    }

    async fn host_stats(&self) -> Result<HostUsage, LocalError> {
        let stats = self.agent.host_stats().await.map_err(problem)?;
        let cpus: Vec<CpuUsage> = stats
            .cpus
            .iter()
            .map(|(name, busy)| {
                let total = f64::from(*busy);
                // The source tells only how busy a core is, not with what.
                CpuUsage {
                    name: name.clone(),
                    user: total,
                    idle: 100.0 - total,
                    total,
                    system: 0.0,
                }
            })
            .collect();
        let node = self.agent.node();
        let core_mhz = per_core(node.capacity.cpu_mhz + node.reserved.cpu_mhz, node.cores);
        let used = cpus.iter().map(|cpu| cpu.total / 100.0 * core_mhz).sum();
        let disk = DiskUsage {
            device: String::new(),
            mountpoint: stats.alloc_dir,
            size: stats.disk_total,
            used: stats.disk_total.saturating_sub(stats.disk_available),
            available: stats.disk_available,
        };
        Ok(HostUsage {
            at: stats.at,
            uptime_seconds: stats.uptime_seconds,
            memory: HostMemory {
                total: stats.memory_total,
                available: stats.memory_available,
                used: stats.memory_used,
                free: stats.memory_free,
            },
            cpus,
            cpu_mhz_used: used,
            disks: vec![disk.clone()],
            alloc_disk: disk,
        })
    }

    async fn collect(&self, alloc: Option<AllocId>) -> Result<(), LocalError> {
        self.agent.collect_garbage(alloc).await.map_err(problem)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a display value")]
fn per_core(total_mhz: u64, cores: u32) -> f64 {
    total_mhz as f64 / f64::from(cores.max(1))
}

fn usage(before: Option<&TaskStats>, now: &TaskStats, window: Duration, core_mhz: f64) -> Usage {
    let spent = before.map_or(Duration::ZERO, |then| now.cpu_time.saturating_sub(then.cpu_time));
    let cores = spent.as_secs_f64() / window.as_secs_f64().max(0.001);
    Usage {
        memory_rss: now.memory_rss,
        memory_cache: now.memory_usage.saturating_sub(now.memory_rss),
        memory_max: now.memory_max_usage,
        cpu_percent: cores * 100.0,
        cpu_mhz: cores * core_mhz,
        cpu_user_percent: cores * 100.0,
        ..Usage::default()
    }
}

/// The machine's memory, as the kernel counts it.
fn memory() -> HostMemory {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    HostMemory { total, available, used: total.saturating_sub(available), free: bytes("MemFree") }
}

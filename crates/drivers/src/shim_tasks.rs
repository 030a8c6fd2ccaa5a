//! The verbs that drivers with a shim have in common: all but `start`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::Group;
use crate::driver::{
    ExecRequest, ExitResult, Reference, ShimReference, StartError, TaskConfig, TaskError,
    TaskHandle, TaskStats,
};
use crate::exec_session::ExecSession;
use crate::process;
use crate::registry::Environment;
use crate::shim::client;
use crate::shim::protocol::{Reply, Verb};
use crate::shim::spec::{LogSpec, SPEC_FILE, Spec, read_json};
use crate::{local_exec, signal};

/// Version of the handles made here.
const HANDLE_VERSION: u32 = 1;

/// The signal that asks a process to end if the job names none.
const DEFAULT_STOP_SIGNAL: i32 = libc::SIGINT;

/// How long a task may take to be gone after it was killed. Only the kernel can hold it up.
const DEATH_TIME: Duration = Duration::from_secs(10);

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

/// The tasks of one driver, each with its shim.
#[derive(Clone, Debug)]
pub(crate) struct ShimTasks {
    driver: &'static str,
    executable: PathBuf,
    open_files: Option<u64>,
}

impl ShimTasks {
    /// Makes the verbs of a driver.
    pub(crate) fn new(driver: &'static str, environment: &Environment) -> Self {
        Self {
            driver,
            executable: environment.executable.clone(),
            open_files: environment.open_files,
        }
    }

    /// Makes an empty state directory. Whatever ran in it before is killed, so that an agent that
    /// died before it had stored a handle leaves nothing running unseen.
    pub(crate) async fn prepare_state(&self, state: &Path) -> Result<(), StartError> {
        if let Some(earlier) = client::find(state) {
            self.clear(&earlier).await.map_err(|error| StartError::Failed(error.to_string()))?;
        }
        let make = || {
            fs::create_dir_all(state)?;
            fs::set_permissions(state, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        };
        make().map_err(|error: std::io::Error| {
            StartError::Failed(format!("failed to make {}: {error}", state.display()))
        })
    }

    /// Starts the shim. The group, if any, is removed again if that fails.
    pub(crate) async fn launch(
        &self,
        task: &TaskConfig,
        spec: &Spec,
    ) -> Result<TaskHandle, StartError> {
        let spec = &Spec { open_files: self.open_files, ..spec.clone() };
        let started = client::start(&self.executable, &task.dirs.state, spec).await;
        let reference = started.map_err(|error| {
            if let Some(group) = &spec.group {
                // The start's own error is the one to be told.
                drop(group.remove());
            }
            StartError::Failed(error)
        })?;
        Ok(TaskHandle {
            version: HANDLE_VERSION,
            driver: self.driver.to_owned(),
            task_id: task.task_id(),
            pid: reference.task.pid,
            reference: Reference::Shim(reference),
        })
    }

    /// See [`crate::Driver::recover`].
    pub(crate) fn recover(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        let reference = self.reference(handle)?;
        if client::is_alive(reference) || client::read_exit(reference).is_some() {
            return Ok(());
        }
        client::kill_orphan(reference);
        Err(TaskError::NotFound(handle.task_id.clone()))
    }

    /// See [`crate::Driver::wait`].
    pub(crate) async fn wait(&self, handle: &TaskHandle) -> Result<ExitResult, TaskError> {
        Ok(client::wait(self.reference(handle)?).await)
    }

    /// See [`crate::Driver::signal`].
    pub(crate) async fn signal(&self, handle: &TaskHandle, name: &str) -> Result<(), TaskError> {
        let number =
            signal::number(name).ok_or_else(|| TaskError::UnknownSignal(name.to_owned()))?;
        match self.request(handle, Verb::Signal(number)).await? {
            Reply::Running => Ok(()),
            Reply::Exited(_) => Err(TaskError::NotRunning),
            Reply::Failed(error) => Err(TaskError::Failed(error)),
        }
    }

    /// See [`crate::Driver::stop`].
    pub(crate) async fn stop(
        &self,
        handle: &TaskHandle,
        name: &str,
        timeout: Duration,
    ) -> Result<(), TaskError> {
        let number = if name.is_empty() {
            DEFAULT_STOP_SIGNAL
        } else {
            signal::number(name).ok_or_else(|| TaskError::UnknownSignal(name.to_owned()))?
        };
        self.stop_shim(self.reference(handle)?, number, timeout).await
    }

    /// See [`crate::Driver::destroy`].
    pub(crate) async fn destroy(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        self.clear(self.reference(handle)?).await
    }

    /// See [`crate::Driver::stats`].
    pub(crate) fn stats(&self, handle: &TaskHandle) -> Result<TaskStats, TaskError> {
        let reference = self.reference(handle)?;
        if !client::is_task_running(reference) {
            return Err(TaskError::NotRunning);
        }
        let spec: Spec = read_json(&reference.state.join(SPEC_FILE))
            .map_err(|error| TaskError::Failed(error.to_string()))?;
        let pid = reference.task.pid;
        Ok(spec.group.map_or_else(|| process::group_stats(pid), |group| group.stats()))
    }

    /// See [`crate::Driver::exec`].
    pub(crate) fn exec(
        &self,
        handle: &TaskHandle,
        request: &ExecRequest,
    ) -> Result<ExecSession, TaskError> {
        let reference = self.reference(handle)?;
        if request.command.is_empty() {
            return Err(TaskError::Failed("no command given".to_owned()));
        }
        if !client::is_task_running(reference) {
            return Err(TaskError::NotRunning);
        }
        local_exec::start(&self.executable, &reference.state, request)
            .map_err(|error| TaskError::Failed(format!("failed to run the command: {error}")))
    }

    fn reference<'a>(&self, handle: &'a TaskHandle) -> Result<&'a ShimReference, TaskError> {
        match &handle.reference {
            Reference::Shim(reference)
                if handle.driver == self.driver && handle.version == HANDLE_VERSION =>
            {
                Ok(reference)
            }
            _ => Err(TaskError::ForeignHandle {
                task_id: handle.task_id.clone(),
                driver: self.driver,
            }),
        }
    }

    async fn request(&self, handle: &TaskHandle, verb: Verb) -> Result<Reply, TaskError> {
        client::request(self.reference(handle)?, verb).await.map_err(TaskError::Failed)
    }

    async fn stop_shim(
        &self,
        reference: &ShimReference,
        signal: i32,
        timeout: Duration,
    ) -> Result<(), TaskError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let verb = Verb::Stop { signal, timeout_ms };
        match client::request(reference, verb).await.map_err(TaskError::Failed)? {
            Reply::Exited(_) => {
                client::kill_orphan(reference);
                Ok(())
            }
            Reply::Failed(error) => Err(TaskError::Failed(error)),
            Reply::Running => {
                let patience = timeout.saturating_add(DEATH_TIME);
                let ended = tokio::time::timeout(patience, client::wait(reference)).await;
                ended.map(drop).map_err(|_elapsed| {
                    TaskError::Failed(format!("process {} does not die", reference.task.pid))
                })
            }
        }
    }

    /// Kills what runs and removes what is left.
    async fn clear(&self, reference: &ShimReference) -> Result<(), TaskError> {
        if client::is_alive(reference) {
            self.stop_shim(reference, libc::SIGKILL, Duration::ZERO).await?;
        }
        client::kill_orphan(reference);
        let group =
            read_json(&reference.state.join(SPEC_FILE)).ok().and_then(|spec: Spec| spec.group);
        let state = reference.state.clone();
        let removed = tokio::task::spawn_blocking(move || remove(group.as_ref(), &state)).await;
        removed
            .map_err(|error| error.to_string())
            .and_then(|removed| removed.map_err(|error| error.to_string()))
            .map_err(TaskError::Failed)
    }
}

fn remove(group: Option<&Group>, state: &Path) -> std::io::Result<()> {
    if let Some(group) = group {
        group.kill_all()?;
        group.remove()?;
    }
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns where the output of a task goes.
pub(crate) fn log_spec(task: &TaskConfig) -> Option<LogSpec> {
    (!task.logs.disabled).then(|| LogSpec {
        dir: task.dirs.logs.clone(),
        files_max: u64::from(task.logs.max_files),
        bytes_max: u64::from(task.logs.max_file_size_mib) * MIB,
    })
}

/// Returns the name of a task's control group.
pub(crate) fn group_name(task: &TaskConfig) -> String {
    format!("{}.{}", task.alloc_id, task.task)
}

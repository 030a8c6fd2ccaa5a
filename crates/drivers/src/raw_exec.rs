//! The `raw_exec` driver: a program or script with the agent's own view of the machine.
//!
//! It isolates nothing and is therefore off unless the operator switches it on. Where control
//! groups can be made, the task gets one, so that nothing of it escapes being killed; its memory
//! and CPU are not limited, as tasks of this driver never were.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use cos_model::{DriverState, Value};

use crate::cgroup::Cgroups;
use crate::driver::{
    ConfigError, Driver, ExecRequest, ExitResult, Isolation, Limits, StartError, TaskConfig,
    TaskError, TaskHandle, TaskStats,
};
use crate::exec_session::ExecSession;
use crate::options::{Options, matches_pattern};
use crate::registry::Environment;
use crate::shim::spec::{Spec, VERSION};
use crate::shim_tasks::{ShimTasks, group_name, log_spec};
use crate::user::{self, Denied};

/// The driver's name.
pub(crate) const NAME: &str = "raw_exec";

/// Options of a task.
const KNOWN: [&str; 5] = ["command", "args", "work_dir", "oom_score_adj", "denied_envvars"];

/// Options of a task that are refused.
const REFUSED: [(&str, &str); 2] = [
    ("cgroup_v2_override", "tasks always get a control group of their own"),
    ("cgroup_v1_override", "tasks always get a control group of their own"),
];

/// Options of the plugin.
const PLUGIN_KNOWN: [&str; 4] =
    ["enabled", "denied_host_uids", "denied_host_gids", "denied_envvars"];

/// The driver.
#[derive(Debug)]
pub struct RawExec {
    enabled: bool,
    denied: Denied,
    denied_envvars: Vec<String>,
    tasks: ShimTasks,
    cgroups: Result<Cgroups, String>,
}

/// A task's options.
struct TaskOptions {
    command: String,
    args: Vec<String>,
    work_dir: Option<PathBuf>,
    oom_score_adj: Option<i32>,
    denied_envvars: Vec<String>,
}

impl RawExec {
    /// Makes the driver from its plugin block and the older client options.
    pub(crate) fn new(
        plugin: &BTreeMap<String, Value>,
        legacy: &BTreeMap<String, String>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let options = Options::new(NAME, plugin, &PLUGIN_KNOWN, &[])?;
        let legacy = legacy.get("driver.raw_exec.enable").map(|text| text == "1" || text == "true");
        let cgroups = Cgroups::detect().and_then(|cgroups| cgroups.probe().map(|()| cgroups));
        Ok(Self {
            enabled: options.truth("enabled")?.or(legacy).unwrap_or(false),
            denied: Denied::from_options(&options)?,
            denied_envvars: options.texts("denied_envvars")?,
            tasks: ShimTasks::new(NAME, environment),
            cgroups,
        })
    }

    fn options(config: &BTreeMap<String, Value>) -> Result<TaskOptions, ConfigError> {
        let options = Options::new(NAME, config, &KNOWN, &REFUSED)?;
        let work_dir = options.text("work_dir")?;
        if !work_dir.is_empty() && !work_dir.starts_with('/') {
            return Err(options.invalid("work_dir", "must be an absolute path"));
        }
        let adjustment = options.number("oom_score_adj")?;
        if adjustment.is_some_and(|value| !(-1000..=1000).contains(&value)) {
            return Err(options.invalid("oom_score_adj", "must be between -1000 and 1000"));
        }
        Ok(TaskOptions {
            command: options.required_text("command")?,
            args: options.texts("args")?,
            work_dir: (!work_dir.is_empty()).then(|| PathBuf::from(work_dir)),
            oom_score_adj: adjustment.and_then(|value| i32::try_from(value).ok()),
            denied_envvars: options.texts("denied_envvars")?,
        })
    }
}

#[async_trait]
impl Driver for RawExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    async fn fingerprint(&self) -> DriverState {
        if !self.enabled {
            return DriverState {
                description: "disabled; the operator can enable it".to_owned(),
                ..DriverState::default()
            };
        }
        let description = match &self.cgroups {
            Ok(_) => "Healthy".to_owned(),
            Err(why) => format!("Healthy, without control groups: {why}"),
        };
        let attributes = BTreeMap::from([("driver.raw_exec".to_owned(), "1".to_owned())]);
        DriverState { detected: true, healthy: true, description, attributes }
    }

    fn validate(&self, config: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
        Self::options(config).map(drop)
    }

    async fn start(&self, task: &TaskConfig) -> Result<TaskHandle, StartError> {
        if !self.enabled {
            return Err(StartError::Refused("driver raw_exec is disabled on this node".to_owned()));
        }
        let options = Self::options(&task.config)?;
        let identity = if task.user.is_empty() {
            None
        } else {
            Some(user::lookup(&task.user).map_err(StartError::Refused)?)
        };
        self.denied.check(identity.as_ref()).map_err(StartError::Refused)?;
        self.tasks.prepare_state(&task.dirs.state).await?;
        let group = match &self.cgroups {
            Ok(cgroups) => Some(
                cgroups
                    .create(&group_name(task), &Limits::default(), None)
                    .map_err(|error| StartError::Failed(error.to_string()))?,
            ),
            Err(_) => None,
        };
        let mut env = task.env.clone();
        for denied in self.denied_envvars.iter().chain(&options.denied_envvars) {
            env.retain(|name, _| !matches_pattern(denied, name));
        }
        let spec = Spec {
            version: VERSION,
            task: task.task.clone(),
            command: options.command,
            args: options.args,
            env,
            work_dir: options.work_dir.unwrap_or_else(|| task.dirs.task.clone()),
            search: vec![task.dirs.local.clone(), task.dirs.task.clone()],
            logs: log_spec(task),
            identity,
            group,
            oom_score_adj: options.oom_score_adj,
            open_files: None,
            isolation: None,
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

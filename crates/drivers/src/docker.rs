//! The `docker` driver: containers of a Docker engine, through its unix socket.
//!
//! The engine keeps containers, their exits and their output, so no shim is needed: an agent that
//! comes back asks the engine.
//!
//! # Invariants
//!
//! - The engine is asked for the version of its interface; nothing newer is used.
//! - A container bears `<task>-<allocation id>` as its name and the allocation id as a label. One
//!   that is there before the start is left over from an agent that died, and is removed.
//! - The engine never restarts a container by itself.
//!
//! # Deliberately absent
//!
//! - Engines behind TCP or TLS, and group networks that containers share; both are refused by name.

mod auth;
mod create;
mod engine;
mod follower;
mod images;
mod options;
mod plugin;
mod session;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use async_trait::async_trait;
use bollard::ClientVersion;
use bollard::errors::Error as EngineError;
use bollard::query_parameters::{CreateContainerOptions, StatsOptions, WaitContainerOptions};
use cos_model::{DriverState, Value};
use cos_platform::Tasks;
use futures_util::StreamExt;
use tokio::sync::Mutex;

use self::engine::{
    ignore_not_found, is_not_found, kill_container, remove_container, start_failed, state_of,
    status_of, stop_signal, task_failed,
};
use self::follower::Followers;
use self::images::Images;
use self::options::TaskOptions;
use self::plugin::PluginOptions;
use crate::driver::{
    ConfigError, ContainerReference, Driver, ExecRequest, ExitResult, Isolation, Reference,
    StartError, TaskConfig, TaskError, TaskHandle, TaskStats,
};
use crate::exec_session::ExecSession;
use crate::registry::Environment;
use crate::signal;

/// The driver's name.
pub(crate) const NAME: &str = "docker";

/// What a fingerprint says if no engine answers.
const NO_ENGINE: &str = "Failed to connect to docker daemon";

/// The newest interface that is spoken; an engine that knows only an older one is spoken to in that.
const API_VERSION_MAX: ClientVersion = ClientVersion { major_version: 1, minor_version: 47 };

/// Version of the handles made here.
const HANDLE_VERSION: u32 = 1;

/// How long the engine may take to answer. A busy one takes its time to create a container.
const ENGINE_SECONDS_MAX: u64 = 300;

/// How long a fingerprint waits for the engine.
const FINGERPRINT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a killed container may take to be gone.
const DEATH_TIME: Duration = Duration::from_secs(30);

/// The time until an engine that does not answer is asked again for an exit.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// Bytes in a MiB.
const MIB: i64 = 1024 * 1024;

/// The driver.
#[derive(Debug)]
pub struct Docker {
    options: PluginOptions,
    engine: Mutex<Option<bollard::Docker>>,
    images: Images,
    followers: Followers,
    tasks: Tasks,
}

impl Docker {
    /// Makes the driver from its plugin block and the older client options. No engine is asked yet.
    pub(crate) fn new(
        plugin: &BTreeMap<String, Value>,
        legacy: &BTreeMap<String, String>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            options: PluginOptions::read(plugin, legacy)?,
            engine: Mutex::new(None),
            images: Images::default(),
            followers: Followers::default(),
            tasks: environment.tasks.clone(),
        })
    }

    /// Returns a connection to the engine.
    async fn engine(&self) -> Result<bollard::Docker, EngineError> {
        let mut kept = self.engine.lock().await;
        if let Some(engine) = &*kept {
            return Ok(engine.clone());
        }
        let engine = bollard::Docker::connect_with_unix(
            &self.options.socket,
            ENGINE_SECONDS_MAX,
            &API_VERSION_MAX,
        )?;
        let engine = engine.negotiate_version().await?;
        *kept = Some(engine.clone());
        Ok(engine)
    }

    async fn inspect_engine(&self) -> Result<BTreeMap<String, String>, EngineError> {
        let engine = self.engine().await?;
        let version = engine.version().await?;
        let yes = |on: bool| if on { "true" } else { "false" }.to_owned();
        let mut attributes = BTreeMap::from([
            ("driver.docker".to_owned(), "1".to_owned()),
            ("driver.docker.volumes.enabled".to_owned(), yes(self.options.volumes)),
            ("driver.docker.privileged.enabled".to_owned(), yes(self.options.allow_privileged)),
        ]);
        let mut fact = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                attributes.insert(format!("driver.docker.{key}"), value);
            }
        };
        fact("version", version.version);
        fact("os_type", version.os);
        // An engine without a bridge is an engine all the same.
        let bridge = engine.inspect_network("bridge", None).await.ok();
        let bridge = bridge.and_then(|network| network.ipam?.config?.into_iter().next()?.gateway);
        fact("bridge_ip", bridge);
        Ok(attributes)
    }

    async fn create(
        &self,
        engine: &bollard::Docker,
        task: &TaskConfig,
        options: &TaskOptions,
        image_id: &str,
    ) -> Result<String, StartError> {
        let name = create::container_name(task);
        let body = create::body(task, options, &self.options, image_id)?;
        let ask = || CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        let created = match engine.create_container(Some(ask()), body.clone()).await {
            Err(error) if status_of(&error) == Some(409) => {
                remove_container(engine, &name).await.map_err(|error| start_failed(&error))?;
                engine.create_container(Some(ask()), body).await
            }
            other => other,
        };
        created.map(|created| created.id).map_err(|error| start_failed(&error))
    }

    async fn run(
        &self,
        engine: &bollard::Docker,
        task: &TaskConfig,
        options: &TaskOptions,
        image_id: &str,
    ) -> Result<TaskHandle, StartError> {
        let container = self.create(engine, task, options, image_id).await?;
        if let Err(error) = engine.start_container(&container, None).await {
            // The start's own error is the one to be told.
            drop(remove_container(engine, &container).await);
            return Err(start_failed(&error));
        }
        let pid = state_of(engine, &container).await.ok().and_then(|state| state.pid);
        let reference = ContainerReference {
            container,
            image_id: image_id.to_owned(),
            image_was_pulled: self.images.was_pulled(image_id),
            image: options.image.clone(),
            state: task.dirs.state.clone(),
            logs_dir: task.dirs.logs.clone(),
            logs: task.logs.clone(),
            task: task.task.clone(),
        };
        self.followers.follow(engine, &reference, &self.tasks);
        Ok(TaskHandle {
            version: HANDLE_VERSION,
            driver: NAME.to_owned(),
            task_id: task.task_id(),
            pid: pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
            reference: Reference::Container(reference),
        })
    }

    /// Waits until the container does not run.
    async fn wait_for_end(&self, container: &str) -> Result<(), TaskError> {
        loop {
            let answer = match self.engine().await {
                Ok(engine) => {
                    let options = WaitContainerOptions { condition: "not-running".to_owned() };
                    Box::pin(engine.wait_container(container, Some(options))).next().await
                }
                Err(error) => Some(Err(error)),
            };
            match answer {
                Some(Ok(_) | Err(EngineError::DockerContainerWaitError { .. })) => return Ok(()),
                Some(Err(error)) if is_not_found(&error) => {
                    return Err(TaskError::NotFound(container.to_owned()));
                }
                // The engine is being restarted; the container may live on or not.
                Some(Err(_)) | None => tokio::time::sleep(RETRY_TIME).await,
            }
        }
    }

    /// Sends the first signal and, after `timeout`, the last one.
    async fn end(
        &self,
        engine: &bollard::Docker,
        container: &str,
        signal: &str,
        timeout: Duration,
    ) -> Result<(), TaskError> {
        if timeout > Duration::ZERO {
            if !kill_container(engine, container, signal).await? {
                return Ok(());
            }
            if let Ok(ended) = tokio::time::timeout(timeout, self.wait_for_end(container)).await {
                return ended.or_else(ignore_not_found);
            }
        }
        if !kill_container(engine, container, "SIGKILL").await? {
            return Ok(());
        }
        match tokio::time::timeout(DEATH_TIME, self.wait_for_end(container)).await {
            Ok(ended) => ended.or_else(ignore_not_found),
            Err(_elapsed) => Err(TaskError::Failed(format!("container {container} does not die"))),
        }
    }

    async fn connected(&self) -> Result<bollard::Docker, TaskError> {
        self.engine().await.map_err(|error| TaskError::Failed(format!("{NO_ENGINE}: {error}")))
    }
}

#[async_trait]
impl Driver for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn isolation(&self) -> Isolation {
        Isolation::Image
    }

    fn port_map(&self, config: &BTreeMap<String, Value>) -> BTreeMap<String, u16> {
        let read = TaskOptions::read(config, &self.options);
        read.map(|options| options.port_map).unwrap_or_default()
    }

    async fn fingerprint(&self) -> DriverState {
        let found = tokio::time::timeout(FINGERPRINT_TIME_MAX, self.inspect_engine()).await;
        let description = match found {
            Ok(Ok(attributes)) => {
                let description = "Healthy".to_owned();
                return DriverState { detected: true, healthy: true, description, attributes };
            }
            Ok(Err(EngineError::SocketNotFoundError(_))) => NO_ENGINE.to_owned(),
            Ok(Err(error)) => format!("{NO_ENGINE}: {error}"),
            Err(_elapsed) => format!("{NO_ENGINE}: no answer in time"),
        };
        *self.engine.lock().await = None;
        DriverState { description, ..DriverState::default() }
    }

    fn validate(&self, config: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
        TaskOptions::read(config, &self.options).map(drop)
    }

    async fn start(&self, task: &TaskConfig) -> Result<TaskHandle, StartError> {
        let options = TaskOptions::read(&task.config, &self.options)?;
        let engine = self
            .engine()
            .await
            .map_err(|error| StartError::Failed(format!("{NO_ENGINE}: {error}")))?;
        // The position in the logs of an earlier container means nothing to this one.
        drop(fs::remove_dir_all(&task.dirs.state));
        fs::create_dir_all(&task.dirs.state).map_err(|error| {
            StartError::Failed(format!("failed to make {}: {error}", task.dirs.state.display()))
        })?;
        let pull_failed = |why| StartError::Pull { image: options.image.clone(), why };
        let credentials = match auth::find(&self.options, &options).await {
            Err(why) if !options.auth_soft_fail => return Err(pull_failed(why)),
            found => found.ok().flatten(),
        };
        let time_max = options.pull_time_max.unwrap_or(self.options.pull_time_max);
        let image_id = self
            .images
            .ensure(&engine, &options.image, options.force_pull, credentials, time_max)
            .await
            .map_err(pull_failed)?;
        self.images.use_by_task(&image_id, false);
        let started = self.run(&engine, task, &options, &image_id).await;
        if started.is_err() {
            self.images.release(&engine, &image_id, self.options.image_delay(), &self.tasks);
        }
        started
    }

    async fn recover(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        let reference = reference(handle)?;
        let engine = self.connected().await?;
        state_of(&engine, &reference.container).await.map_err(|error| task_failed(&error))?;
        self.images.use_by_task(&reference.image_id, reference.image_was_pulled);
        self.followers.follow(&engine, reference, &self.tasks);
        Ok(())
    }

    async fn wait(&self, handle: &TaskHandle) -> Result<ExitResult, TaskError> {
        let reference = reference(handle)?;
        self.wait_for_end(&reference.container).await?;
        let engine = self.connected().await?;
        let state =
            state_of(&engine, &reference.container).await.map_err(|error| task_failed(&error))?;
        self.followers.drain(&reference.container).await;
        let exit_code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        Ok(ExitResult {
            exit_code,
            signal: 0,
            oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.filter(|error| !error.is_empty()),
            ended_at: None,
        })
    }

    async fn signal(&self, handle: &TaskHandle, name: &str) -> Result<(), TaskError> {
        let number = signal::number(name).and_then(signal::name_of);
        let signal = number.ok_or_else(|| TaskError::UnknownSignal(name.to_owned()))?;
        let engine = self.connected().await?;
        let was_running = kill_container(&engine, &reference(handle)?.container, signal).await?;
        if was_running { Ok(()) } else { Err(TaskError::NotRunning) }
    }

    async fn stop(
        &self,
        handle: &TaskHandle,
        name: &str,
        timeout: Duration,
    ) -> Result<(), TaskError> {
        let container = &reference(handle)?.container;
        let engine = self.connected().await?;
        let signal = if name.is_empty() {
            stop_signal(&engine, container).await
        } else {
            let known = signal::number(name).and_then(signal::name_of);
            known.ok_or_else(|| TaskError::UnknownSignal(name.to_owned()))?.to_owned()
        };
        self.end(&engine, container, &signal, timeout).await
    }

    async fn destroy(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        let reference = reference(handle)?;
        let engine = self.connected().await?;
        if self.options.gc_container {
            remove_container(&engine, &reference.container)
                .await
                .map_err(|error| task_failed(&error))?;
        } else {
            self.end(&engine, &reference.container, "SIGKILL", Duration::ZERO).await?;
        }
        self.followers.forget(&reference.container);
        let removed = fs::remove_dir_all(&reference.state);
        if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // Destroyed before; the image was released then.
            return Ok(());
        }
        self.images.release(&engine, &reference.image_id, self.options.image_delay(), &self.tasks);
        removed.map_err(|error| TaskError::Failed(error.to_string()))
    }

    async fn stats(&self, handle: &TaskHandle) -> Result<TaskStats, TaskError> {
        let engine = self.connected().await?;
        let options = StatsOptions { stream: false, one_shot: true };
        let container = &reference(handle)?.container;
        let answer = Box::pin(engine.stats(container, Some(options))).next().await;
        let stats = answer.ok_or(TaskError::NotRunning)?.map_err(|error| task_failed(&error))?;
        let memory = stats.memory_stats.unwrap_or_default();
        let details = memory.stats.unwrap_or_default();
        // The first name is that of control groups version 1, the second that of version 2.
        let detail = |one: &str, two: &str| {
            details.get(one).or_else(|| details.get(two)).copied().unwrap_or(0)
        };
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage).unwrap_or(0);
        Ok(TaskStats {
            cpu_time: Duration::from_nanos(cpu),
            memory_rss: detail("total_rss", "anon") + detail("total_mapped_file", "file_mapped"),
            memory_usage: memory.usage.unwrap_or(0),
            memory_max_usage: memory.max_usage.unwrap_or(0),
            pids: stats.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
        })
    }

    async fn exec(
        &self,
        handle: &TaskHandle,
        request: &ExecRequest,
    ) -> Result<ExecSession, TaskError> {
        let engine = self.connected().await?;
        session::start(&engine, &reference(handle)?.container, request)
            .await
            .map_err(|error| task_failed(&error))
    }
}

fn reference(handle: &TaskHandle) -> Result<&ContainerReference, TaskError> {
    match &handle.reference {
        Reference::Container(reference)
            if handle.driver == NAME && handle.version == HANDLE_VERSION =>
        {
            Ok(reference)
        }
        _ => Err(TaskError::ForeignHandle { task_id: handle.task_id.clone(), driver: NAME }),
    }
}

//! Carrying out what the machine decides: each effect becomes work beside the runner's loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::{Driver, ExitResult, Isolation, Limits, Mount, TaskConfig, TaskHandle};
use cos_model::{Task, TaskEvent, Timestamp};
use cos_platform::Fate;

use super::{Message, Runner};
use crate::agent::Recovery;
use crate::alloc_machine::Advertised;
use crate::environment::{Directories, Environment, Origin};
use crate::store::{KeptHandle, Write};
use crate::task_machine::{Effect, Input, Stage};
use crate::words;

/// The wait before stopping a task is tried again.
const STOP_RETRY: Duration = Duration::from_secs(1);

/// The wait before cleaning up is tried again, and how often that is done.
const CLEAN_RETRY: Duration = Duration::from_secs(1);
const CLEAN_ATTEMPTS_MAX: u32 = 5;

impl Runner {
    pub(super) fn perform(&mut self, task: &str, effect: Effect) {
        match effect {
            Effect::Prepare => self.prepare(task),
            Effect::CancelPreparation => self.end_preparation(task),
            Effect::Launch if self.cleaning.contains(task) => {
                self.launch_after.insert(task.to_owned());
            }
            Effect::Launch => self.launch(task),
            Effect::Stop { signal, timeout } => self.stop(task, signal, timeout),
            Effect::Signal(signal) => self.signal(task, signal),
        }
    }

    /// Begins work that is given up when the agent stops: the next agent finds the task as it is.
    pub(super) fn spawn_until_stop(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.host.tasks.stopping();
        self.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Begins work that must not be left half done.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.host.tasks.spawn(name, Fate::Ends, work);
    }

    fn driver(&self, task: &str) -> Result<Arc<dyn Driver>, String> {
        let group = self.machine.alloc().task_group();
        let name = group.and_then(|group| group.task(task)).map(|task| task.driver.as_str());
        let name = name.unwrap_or_default();
        let found = self.host.drivers.get(name).map(Arc::clone);
        found.ok_or_else(|| format!("driver {name:?} is not available on this node"))
    }

    pub(super) fn launch(&mut self, task: &str) {
        let messages = self.messages.clone();
        let name = task.to_owned();
        let failed = |message: String, recoverable: bool| {
            Message::Task(name.clone(), Input::StartFailed { message, recoverable })
        };
        let prepared = self.driver(task).and_then(|driver| Ok((driver, self.task_config(task)?)));
        let (driver, config) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => {
                let message = failed(why, false);
                self.spawn_until_stop("refused start", async move {
                    drop(messages.send(message).await);
                });
                return;
            }
        };
        let restarts = self.machine.task(task).map_or(0, |machine| machine.state().restarts);
        let (store, alloc) = (self.host.store.clone(), self.id());
        let name = task.to_owned();
        self.spawn("task start", async move {
            let input = match driver.start(&config).await {
                Ok(handle) => {
                    let kept = KeptHandle { restarts, handle: handle.clone() };
                    let write = Write::Handle { alloc, task: name.clone(), handle: kept };
                    match store.write_durably(vec![write]).await {
                        Ok(()) => Message::Launched(name, handle),
                        Err(error) => {
                            // A task that could not be found again must not go on.
                            drop(driver.destroy(&handle).await);
                            let message = error.to_string();
                            Message::Task(name, Input::StartFailed { message, recoverable: true })
                        }
                    }
                }
                Err(error) => {
                    let recoverable = error.is_recoverable();
                    let message = error.to_string();
                    Message::Task(name, Input::StartFailed { message, recoverable })
                }
            };
            // The runner may have gone; the handle is kept for the next agent.
            drop(messages.send(input).await);
        });
    }

    pub(super) fn await_exit(&self, task: &str, handle: &TaskHandle) {
        let Ok(driver) = self.driver(task) else { return };
        let (task, handle, messages) = (task.to_owned(), handle.clone(), self.messages.clone());
        self.spawn_until_stop("task exit", async move {
            let exit = driver.wait(&handle).await.unwrap_or_else(|error| ExitResult {
                exit_code: -1,
                error: Some(error.to_string()),
                ..ExitResult::default()
            });
            drop(messages.send(Message::Task(task, Input::Exited(exit))).await);
        });
    }

    /// Looks for what an earlier agent started.
    pub(super) fn recover(&mut self, recovery: Option<&Arc<Recovery>>) {
        let waiting: Vec<String> = self
            .machine
            .tasks()
            .filter(|(_, machine)| *machine.stage() == Stage::Recovering)
            .map(|(name, _)| name.to_owned())
            .collect();
        for task in waiting {
            let (driver, handle) = (self.driver(&task), self.handles.get(&task).cloned());
            let messages = self.messages.clone();
            let recovery = recovery.cloned();
            self.spawn_until_stop("task recovery", async move {
                let found = match (driver, handle) {
                    (Ok(driver), Some(handle)) => {
                        driver.recover(&handle).await.map_err(|error| error.to_string())
                    }
                    (Err(why), _) => Err(why),
                    (_, None) => Err("no handle was kept".to_owned()),
                };
                let input = match found {
                    Ok(()) => Input::Recovered,
                    Err(why) => Input::Lost(why),
                };
                drop(messages.send(Message::Task(task, input)).await);
                drop(recovery);
            });
        }
        if !self.handles.is_empty() {
            let tasks = self.environments.keys().cloned().collect();
            self.registered = self.registrations(&Advertised { group: true, tasks });
            self.host.registry.adopt(self.id(), self.registered.clone());
        }
    }

    /// Takes up the watch over a task that was found again.
    pub(super) fn recovered(&mut self, task: &str) {
        let started = self.machine.task(task).map(|machine| {
            let state = machine.state();
            state.started_at.max(state.last_restart)
        });
        self.running_since.insert(task.to_owned(), started.unwrap_or(Timestamp::NEVER));
        if let Some(handle) = self.handles.get(task).cloned() {
            self.await_exit(task, &handle);
        }
        self.watch_templates(task);
    }

    fn stop(&self, task: &str, signal: String, timeout: Duration) {
        let timeout = timeout.min(self.host.config.max_kill_timeout);
        let (Ok(driver), Some(handle)) = (self.driver(task), self.handles.get(task).cloned())
        else {
            return;
        };
        let (task, messages) = (task.to_owned(), self.messages.clone());
        self.spawn_until_stop("task stop", async move {
            if let Err(error) = driver.stop(&handle, &signal, timeout).await {
                tokio::time::sleep(STOP_RETRY).await;
                let input = Input::StopFailed(error.to_string());
                drop(messages.send(Message::Task(task, input)).await);
            }
        });
    }

    fn signal(&self, task: &str, signal: String) {
        let (Ok(driver), Some(handle)) = (self.driver(task), self.handles.get(task).cloned())
        else {
            return;
        };
        let (task, messages, now) = (task.to_owned(), self.messages.clone(), self.now());
        self.spawn_until_stop("task signal", async move {
            if let Err(error) = driver.signal(&handle, &signal).await {
                let event: TaskEvent = words::hook_failed(now, &error.to_string());
                drop(messages.send(Message::Task(task, Input::Note(event))).await);
            }
        });
    }

    /// Removes what a run of a task left outside of its directories.
    pub(super) fn clean(&mut self, task: &str, handle: TaskHandle) {
        let Some(driver) = self.host.drivers.get(&handle.driver).map(Arc::clone) else { return };
        self.cleaning.insert(task.to_owned());
        let (task, alloc) = (task.to_owned(), self.id());
        let (messages, store) = (self.messages.clone(), self.host.store.clone());
        self.spawn("task cleanup", async move {
            for _ in 0..CLEAN_ATTEMPTS_MAX {
                match driver.destroy(&handle).await {
                    Ok(()) => {
                        store.write(vec![Write::NoHandle { alloc, task: task.clone() }]);
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(%alloc, %task, %error, "task not cleaned up");
                        tokio::time::sleep(CLEAN_RETRY).await;
                    }
                }
            }
            drop(messages.send(Message::Cleaned(task)).await);
        });
    }

    fn task_of(&self, name: &str) -> Option<&Task> {
        self.machine.alloc().task_group()?.task(name)
    }

    /// Makes every task's environment anew, as after templates or the allocation changed.
    pub(super) fn rebuild_environments(&mut self) {
        let alloc = Arc::clone(self.machine.alloc());
        let Some(group) = alloc.task_group() else { return };
        let node = Arc::clone(&self.host.node.borrow());
        for task in &group.tasks {
            let isolation =
                self.driver(&task.name).map_or(Isolation::None, |driver| driver.isolation());
            let visible = self.directory.of_task(&task.name).visible(isolation);
            let directories = Directories {
                alloc: visible.alloc.display().to_string(),
                local: visible.local.display().to_string(),
                secrets: visible.secrets.display().to_string(),
            };
            let nothing = BTreeMap::new();
            let inherited = match isolation {
                Isolation::Image => &nothing,
                Isolation::None | Isolation::Chroot => &self.host.config.environment,
            };
            let mut environment = Environment::of(&Origin {
                alloc: &alloc,
                task,
                node: &node,
                region: &self.host.config.region,
                directories: &directories,
                inherited,
            });
            environment.add(self.variables.get(&task.name).cloned().unwrap_or_default());
            self.environments.insert(task.name.clone(), environment);
        }
    }

    fn task_config(&self, name: &str) -> Result<TaskConfig, String> {
        let alloc = self.machine.alloc();
        let group = alloc.task_group().ok_or("the job has no such group")?;
        let task = self.task_of(name).ok_or("the group has no such task")?;
        let environment = self.environments.get(name).cloned().unwrap_or_default();
        let granted = alloc.tasks.get(name);
        let resources = granted.map_or(task.resources, |granted| granted.resources);
        let network = group.networks.first();
        let of_task =
            alloc.ports.iter().filter(|port| port.task.as_deref().is_none_or(|t| t == name));
        Ok(TaskConfig {
            alloc_id: alloc.id,
            task: name.to_owned(),
            config: environment.interpolate_map(&task.config),
            env: environment.variables().clone(),
            dirs: self.directory.of_task(name),
            limits: Limits {
                cpu_mhz: resources.cpu_mhz,
                memory_mib: resources.memory_mib,
                memory_max_mib: granted.map_or(task.memory_max_mib, |g| g.memory_max_mib),
            },
            ports: of_task.cloned().collect(),
            user: environment.interpolate(&task.user),
            logs: task.logs.clone(),
            mounts: self.mounts(task, &environment)?,
            network_mode: network.map(|network| network.mode.clone()).unwrap_or_default(),
            dns: network.and_then(|network| network.dns.clone()),
            labels: self.labels(name),
        })
    }

    fn mounts(&self, task: &Task, environment: &Environment) -> Result<Vec<Mount>, String> {
        let alloc = self.machine.alloc();
        let volumes = alloc.task_group().map(|group| &group.volumes);
        let node = self.host.node.borrow();
        task.volume_mounts
            .iter()
            .map(|mount| {
                let request = volumes
                    .and_then(|volumes| volumes.get(&mount.volume))
                    .ok_or_else(|| format!("the group has no volume {:?}", mount.volume))?;
                if request.kind != "host" {
                    return Err(format!("volumes of type {:?} are not supported", request.kind));
                }
                let source = environment.interpolate(&request.source);
                let source =
                    if request.per_alloc { format!("{source}[{}]", alloc.index) } else { source };
                let volume = node
                    .host_volumes
                    .get(&source)
                    .ok_or_else(|| format!("this node has no host volume {source:?}"))?;
                Ok(Mount {
                    source: volume.path.clone().into(),
                    destination: environment.interpolate(&mount.destination).into(),
                    read_only: mount.read_only || request.read_only || volume.read_only,
                })
            })
            .collect()
    }

    fn labels(&self, task: &str) -> BTreeMap<String, String> {
        let alloc = self.machine.alloc();
        let node = self.host.node.borrow();
        let labels = [
            ("alloc_id", alloc.id.to_string()),
            ("short_alloc_id", alloc.id.short()),
            ("job_id", alloc.job.key.id.to_string()),
            ("job_name", alloc.job.name.clone()),
            ("namespace", alloc.job.key.namespace.to_string()),
            ("task_group_name", alloc.group.to_string()),
            ("task_name", task.to_owned()),
            ("node_name", node.name.clone()),
            ("node_id", node.id.to_string()),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

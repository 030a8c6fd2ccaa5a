//! A driver whose tasks are entries in a table: they outlive the agent as processes do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cos_drivers::driver::{ProcessId, Reference, ShimReference};
use cos_drivers::{
    ConfigError, Driver, ExecRequest, ExecSession, ExitResult, Isolation, StartError, TaskConfig,
    TaskError, TaskHandle, TaskStats,
};
use cos_model::catalog::Catalog;
use cos_model::{DriverState, Value};
use tokio::sync::watch;

/// The driver. Clones share the tasks.
#[derive(Clone, Debug)]
pub(crate) struct MockDriver {
    world: Arc<Mutex<World>>,
    catalog: Arc<Mutex<Catalog>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct World {
    runs: BTreeMap<i32, Run>,
    starts: BTreeMap<String, usize>,
    exit_at_once: BTreeMap<String, i32>,
    signals: Vec<String>,
    services_when_stopped: Option<usize>,
}

#[derive(Debug)]
struct Run {
    task: String,
    end: watch::Sender<Option<ExitResult>>,
}

impl MockDriver {
    pub(crate) fn new(catalog: Arc<Mutex<Catalog>>, changed: watch::Sender<u64>) -> Self {
        Self { world: Arc::default(), catalog, changed }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The names of tasks that run.
    pub(crate) fn running(&self) -> Vec<String> {
        let world = self.world();
        let runs = world.runs.values().filter(|run| run.end.borrow().is_none());
        let mut names: Vec<String> = runs.map(|run| run.task.clone()).collect();
        names.sort();
        names
    }

    /// How often a task was started.
    pub(crate) fn starts(&self, task: &str) -> usize {
        self.world().starts.get(task).copied().unwrap_or_default()
    }

    /// Lets every run of a task end as soon as it begins.
    pub(crate) fn exit_at_once(&self, task: &str, exit_code: i32) {
        self.world().exit_at_once.insert(task.to_owned(), exit_code);
    }

    /// Ends a task that runs.
    pub(crate) fn end(&self, task: &str, exit_code: i32) {
        for run in self.world().runs.values().filter(|run| run.task == task) {
            finish(run, exit_code);
        }
        self.tell();
    }

    /// The signals that were sent.
    pub(crate) fn signals(&self) -> Vec<String> {
        self.world().signals.clone()
    }

    /// How many services were in the catalog when a task was last told to stop.
    pub(crate) fn services_when_stopped(&self) -> Option<usize> {
        self.world().services_when_stopped
    }
}

fn finish(run: &Run, exit_code: i32) {
    run.end.send_if_modified(|end| {
        let news = end.is_none();
        if news {
            *end = Some(ExitResult { exit_code, ..ExitResult::default() });
        }
        news
    });
}

#[async_trait]
impl Driver for MockDriver {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    async fn fingerprint(&self) -> DriverState {
        DriverState { detected: true, healthy: true, ..DriverState::default() }
    }

    fn validate(&self, _: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn start(&self, task: &TaskConfig) -> Result<TaskHandle, StartError> {
        let pid = {
            let mut world = self.world();
            let pid = i32::try_from(world.runs.len()).unwrap() + 1;
            let run = Run { task: task.task.clone(), end: watch::Sender::new(None) };
            if let Some(exit_code) = world.exit_at_once.get(&task.task) {
                finish(&run, *exit_code);
            }
            *world.starts.entry(task.task.clone()).or_default() += 1;
            world.runs.insert(pid, run);
            pid
        };
        self.tell();
        Ok(TaskHandle {
            version: 1,
            driver: "mock".to_owned(),
            task_id: task.task_id(),
            pid,
            reference: Reference::Shim(ShimReference {
                state: PathBuf::new(),
                boot: String::new(),
                shim: ProcessId::default(),
                task: ProcessId { pid, start_time: 0 },
            }),
        })
    }

    async fn recover(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        let known = self.world().runs.contains_key(&handle.pid);
        known.then_some(()).ok_or_else(|| TaskError::NotFound(handle.task_id.clone()))
    }

    async fn wait(&self, handle: &TaskHandle) -> Result<ExitResult, TaskError> {
        let mut end = match self.world().runs.get(&handle.pid) {
            Some(run) => run.end.subscribe(),
            None => return Err(TaskError::NotFound(handle.task_id.clone())),
        };
        let ended = end.wait_for(Option::is_some).await.unwrap();
        Ok(ended.clone().unwrap())
    }

    async fn signal(&self, handle: &TaskHandle, signal: &str) -> Result<(), TaskError> {
        let mut world = self.world();
        let task = world.runs[&handle.pid].task.clone();
        world.signals.push(format!("{task} {signal}"));
        Ok(())
    }

    async fn stop(&self, handle: &TaskHandle, _: &str, _: Duration) -> Result<(), TaskError> {
        let services = self.catalog.lock().unwrap().services().count();
        let mut world = self.world();
        world.services_when_stopped = Some(services);
        finish(&world.runs[&handle.pid], 130);
        Ok(())
    }

    async fn destroy(&self, handle: &TaskHandle) -> Result<(), TaskError> {
        if let Some(run) = self.world().runs.get(&handle.pid) {
            finish(run, 137);
        }
        Ok(())
    }

    async fn stats(&self, _: &TaskHandle) -> Result<TaskStats, TaskError> {
        Ok(TaskStats::default())
    }

    async fn exec(&self, _: &TaskHandle, _: &ExecRequest) -> Result<ExecSession, TaskError> {
        Err(TaskError::Failed("no process to run beside".to_owned()))
    }
}

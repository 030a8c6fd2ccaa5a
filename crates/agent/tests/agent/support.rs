//! A machine to run agents on, and small jobs to run there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cos_agent::{AgentHandle, Config};
use cos_drivers::Driver;
use cos_model::{
    AllocId, AllocatedTask, Allocation, Check, CheckKind, Job, JobKind, NodeId, Resources, Restart,
    Task, TaskGroup, samples,
};
use cos_platform::rpc::Security;
use cos_platform::{SystemClock, Tasks};

use crate::driver::MockDriver;
use crate::server::Server;

/// A machine on which one agent after the other runs.
pub(crate) struct Machine {
    pub(crate) driver: MockDriver,
    folder: tempfile::TempDir,
    tasks: Mutex<Option<Tasks>>,
}

impl Machine {
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            driver: MockDriver::new(Arc::clone(&server.catalog), server.changed.clone()),
            folder: tempfile::tempdir().unwrap(),
            tasks: Mutex::new(None),
        }
    }

    /// Starts an agent. The one before may still be closing its state.
    pub(crate) async fn start(&self, server: &Server) -> AgentHandle {
        let driver: Arc<dyn Driver> = Arc::new(self.driver.clone());
        let config = Config {
            data_dir: self.folder.path().to_owned(),
            node_name: "node".to_owned(),
            servers: vec![server.address.clone()],
            ..Config::default()
        };
        loop {
            let tasks = Tasks::new();
            let drivers = BTreeMap::from([("mock".to_owned(), Arc::clone(&driver))]);
            let clock = Arc::new(SystemClock::new());
            match cos_agent::start(config.clone(), drivers, clock, Security::Plain, &tasks).await {
                Ok(agent) => {
                    *self.tasks.lock().unwrap() = Some(tasks);
                    return agent;
                }
                Err(error) if error.to_string().contains("open") => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Stops the agent; its tasks go on.
    pub(crate) async fn stop(&self) {
        let tasks = self.tasks.lock().unwrap().take();
        if let Some(tasks) = tasks {
            tasks.stop();
            tasks.ended().await;
        }
    }

    pub(crate) fn alloc_dir(&self, number: u128) -> PathBuf {
        self.folder.path().join("alloc").join(AllocId::from_bits(number).to_string())
    }
}

pub(crate) fn tcp_check() -> Check {
    Check {
        name: String::new(),
        kind: CheckKind::Tcp,
        port: String::new(),
        address_mode: String::new(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        initial_status: String::new(),
        restart: None,
        on_update: String::new(),
        success_before_passing: 0,
        failures_before_critical: 0,
        extras: BTreeMap::new(),
    }
}

fn restart() -> Restart {
    Restart {
        interval: Duration::from_mins(10),
        delay: Duration::from_millis(10),
        ..samples::restart()
    }
}

pub(crate) fn task(name: &str) -> Task {
    Task {
        driver: "mock".to_owned(),
        resources: Resources { cpu_mhz: 100, memory_mib: 64, disk_mib: 0 },
        restart: restart(),
        ..samples::task(name)
    }
}

pub(crate) fn group_of(tasks: Vec<Task>) -> TaskGroup {
    samples::group("group", tasks)
}

pub(crate) fn job_of(kind: JobKind, group: TaskGroup) -> Job {
    samples::job("job", kind, vec![group])
}

pub(crate) fn alloc(number: u128, node_id: NodeId, job: Job) -> Arc<Allocation> {
    let granted = |task: &Task| AllocatedTask { resources: task.resources, memory_max_mib: 0 };
    let tasks = job.groups[0].tasks.iter().map(|t| (t.name.clone(), granted(t))).collect();
    let job = Arc::new(job);
    Arc::new(Allocation { tasks, ..samples::alloc(number, node_id.bits(), &job) })
}

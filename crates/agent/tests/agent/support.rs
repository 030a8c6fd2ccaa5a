//! A machine to run agents on, and small jobs to run there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cos_agent::{AgentHandle, Config};
use cos_drivers::Driver;
use cos_model::{
    AllocId, AllocMetric, AllocatedTask, Allocation, Check, CheckKind, ClientStatus, DesiredStatus,
    DesiredTransition, EvalId, Job, JobKey, JobKind, JobStatus, Logs, NodeId, Resources, Restart,
    RestartMode, Task, TaskGroup, Timestamp,
};
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
            match cos_agent::start(config.clone(), drivers, clock, &tasks).await {
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
        attempts: 2,
        interval: Duration::from_mins(10),
        delay: Duration::from_millis(10),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

pub(crate) fn task(name: &str) -> Task {
    Task {
        name: name.to_owned(),
        driver: "mock".to_owned(),
        user: String::new(),
        config: BTreeMap::new(),
        env: BTreeMap::new(),
        meta: BTreeMap::new(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        services: Vec::new(),
        resources: Resources { cpu_mhz: 100, memory_mib: 64, disk_mib: 0 },
        memory_max_mib: 0,
        cores: 0,
        networks: Vec::new(),
        restart: restart(),
        kill_timeout: Duration::from_secs(5),
        kill_signal: String::new(),
        shutdown_delay: Duration::ZERO,
        leader: false,
        lifecycle: None,
        artifacts: Vec::new(),
        templates: Vec::new(),
        logs: Logs::default(),
        volume_mounts: Vec::new(),
        dispatch_payload_file: String::new(),
        extras: BTreeMap::new(),
    }
}

pub(crate) fn group_of(tasks: Vec<Task>) -> TaskGroup {
    TaskGroup {
        name: "group".to_owned(),
        count: 1,
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        tasks,
        networks: Vec::new(),
        services: Vec::new(),
        ephemeral_disk_mib: 10,
        sticky_disk: false,
        migrate_disk: false,
        update: None,
        reschedule: None,
        migrate: None,
        disconnect: None,
        restart: restart(),
        volumes: BTreeMap::new(),
        meta: BTreeMap::new(),
        shutdown_delay: Duration::ZERO,
        scaling: None,
        extras: BTreeMap::new(),
    }
}

pub(crate) fn job_of(kind: JobKind, group: TaskGroup) -> Job {
    Job {
        key: JobKey::new("default", "job"),
        name: "job".to_owned(),
        parent_id: String::new(),
        region: "global".to_owned(),
        kind,
        priority: 50,
        all_at_once: false,
        datacenters: vec!["dc1".to_owned()],
        node_pool: "default".to_owned(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        groups: vec![group],
        update: None,
        periodic: None,
        meta: BTreeMap::new(),
        extras: BTreeMap::new(),
        stop: false,
        version: 0,
        stable: false,
        status: JobStatus::Running,
        submit_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        job_modify_index: 1,
    }
}

pub(crate) fn alloc(number: u128, node_id: NodeId, job: Job) -> Arc<Allocation> {
    let granted = |task: &Task| AllocatedTask { resources: task.resources, memory_max_mib: 0 };
    let tasks = job.groups[0].tasks.iter().map(|t| (t.name.clone(), granted(t))).collect();
    let group: Arc<str> = Arc::from(job.groups[0].name.as_str());
    Arc::new(Allocation {
        id: AllocId::from_bits(number),
        eval_id: EvalId::from_bits(1),
        node_id,
        node_name: Arc::from("node"),
        job: Arc::new(job),
        group,
        index: 0,
        resources: Resources::default(),
        tasks,
        ports: Vec::new(),
        desired: DesiredStatus::Run,
        desired_description: String::new(),
        transition: DesiredTransition::default(),
        client_status: ClientStatus::Pending,
        client_description: String::new(),
        task_states: BTreeMap::new(),
        deployment_id: None,
        health: None,
        canary: false,
        previous: None,
        next: None,
        reschedules: Vec::new(),
        followup_eval: None,
        metric: Arc::new(AllocMetric::default()),
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        alloc_modify_index: 1,
    })
}

//! Things that tests need everywhere: jobs, nodes and states from a few words.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::link::AllocUpdate;
use cos_model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus,
    DesiredStatus, DesiredTransition, EvalId, EvalStatus, Evaluation, Job, JobKey, JobKind,
    JobStatus, Node, NodeId, NodeStatus, Plan, Resources, Restart, RestartMode, TaskGroup,
    Timestamp, Trigger,
};
use cos_state::{Applied, Command, Reply, Request, State};

/// A job's name.
pub(crate) fn key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

/// A pending evaluation.
pub(crate) fn eval(job: &str) -> Evaluation {
    Evaluation {
        id: EvalId::from_bits(1),
        job: key(job),
        kind: JobKind::Service,
        priority: 50,
        trigger: Trigger::JobRegister,
        job_modify_index: 0,
        node_id: None,
        deployment_id: None,
        status: EvalStatus::Pending,
        status_description: String::new(),
        wait_until: Timestamp::NEVER,
        next: None,
        previous: None,
        blocked: None,
        failed_groups: BTreeMap::new(),
        queued: BTreeMap::new(),
        snapshot_index: 0,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 0,
        modify_index: 0,
    }
}

/// A job with one group `web`.
pub(crate) fn job(id: &str, kind: JobKind, count: u32) -> Job {
    Job {
        key: key(id),
        name: id.to_owned(),
        parent_id: String::new(),
        region: "global".to_owned(),
        kind,
        priority: 50,
        all_at_once: false,
        datacenters: vec!["*".to_owned()],
        node_pool: "default".to_owned(),
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        groups: vec![group("web", count)],
        update: None,
        periodic: None,
        meta: BTreeMap::new(),
        extras: BTreeMap::new(),
        stop: false,
        version: 0,
        stable: false,
        status: JobStatus::Pending,
        submit_time: Timestamp(1),
        create_index: 0,
        modify_index: 0,
        job_modify_index: 0,
    }
}

fn group(name: &str, count: u32) -> TaskGroup {
    TaskGroup {
        name: name.to_owned(),
        count,
        constraints: Vec::new(),
        affinities: Vec::new(),
        spreads: Vec::new(),
        tasks: Vec::new(),
        networks: Vec::new(),
        services: Vec::new(),
        ephemeral_disk_mib: 10,
        sticky_disk: false,
        migrate_disk: false,
        update: None,
        reschedule: None,
        migrate: None,
        disconnect: None,
        restart: Restart {
            attempts: 2,
            interval: std::time::Duration::from_mins(30),
            delay: std::time::Duration::from_secs(15),
            mode: RestartMode::Fail,
            render_templates: false,
        },
        volumes: BTreeMap::new(),
        meta: BTreeMap::new(),
        shutdown_delay: std::time::Duration::ZERO,
        scaling: None,
        extras: BTreeMap::new(),
    }
}

/// A ready node.
pub(crate) fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_bits(number),
        secret: NodeId::from_bits(number + 1_000_000),
        name: format!("node{number}"),
        datacenter: "dc1".to_owned(),
        node_pool: "default".to_owned(),
        node_class: String::new(),
        http_address: "127.0.0.1:4646".to_owned(),
        address: "127.0.0.1".to_owned(),
        capacity: Resources { cpu_mhz: 4000, memory_mib: 4000, disk_mib: 40_000 },
        reserved: Resources::default(),
        cores: 4,
        min_dynamic_port: 20_000,
        max_dynamic_port: 32_000,
        reserved_ports: Vec::new(),
        attributes: BTreeMap::new(),
        meta: BTreeMap::new(),
        drivers: BTreeMap::new(),
        host_volumes: BTreeMap::new(),
        status: NodeStatus::Ready,
        eligible: true,
        drain: None,
        status_updated_at: Timestamp(1),
        events: Vec::new(),
        create_index: 0,
        modify_index: 0,
    }
}

/// A state and the commands that made it.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
    drawn: u128,
}

impl World {
    /// An empty state at second one.
    pub(crate) fn new() -> Self {
        Self { now: Timestamp(1_000_000_000), ..Self::default() }
    }

    /// Applies a command that must not be refused.
    #[track_caller]
    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        let index = self.state.index() + 1;
        let Applied { reply, .. } = self.state.apply(index, &Request { at: self.now, command });
        reply.unwrap()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: std::time::Duration) {
        self.now = self.now + time;
    }

    /// Calls a pure function with a source of ids.
    pub(crate) fn draw<T>(
        &mut self,
        call: impl FnOnce(&State, Timestamp, &mut dyn FnMut() -> u128) -> T,
    ) -> T {
        let drawn = &mut self.drawn;
        call(&self.state, self.now, &mut || {
            *drawn += 1;
            *drawn + 0xf000
        })
    }

    /// Registers a job without an evaluation.
    #[track_caller]
    pub(crate) fn register(&mut self, job: &Job) {
        let job = Box::new(job.clone());
        self.apply(Command::RegisterJob { job, expected_index: None, eval: None });
    }

    /// Adds a node.
    #[track_caller]
    pub(crate) fn add_node(&mut self, node: Node) {
        self.apply(Command::RegisterNode { node: Box::new(node), evals: Vec::new() });
    }

    /// Places instances of a job's first group on nodes, in a deployment if one is given.
    #[track_caller]
    pub(crate) fn place(
        &mut self,
        id: &str,
        allocs: &[(u128, u128)],
        deployment: Option<Deployment>,
    ) {
        let job = self.job(id);
        let placements = allocs
            .iter()
            .map(|(number, node)| Allocation {
                deployment_id: deployment.as_ref().map(|deployment| deployment.id),
                canary: deployment.as_ref().is_some_and(Deployment::requires_promotion),
                ..self.alloc(*number, *node, &job)
            })
            .collect();
        let eval = Evaluation {
            id: EvalId::from_bits(u128::from(self.state.index()) + 0xe000),
            kind: job.kind,
            status: EvalStatus::Complete,
            ..eval(id)
        };
        self.apply(Command::ApplyPlan {
            plan: Box::new(Plan {
                eval_id: eval.id,
                based_on: self.state.index(),
                all_at_once: false,
                placements,
                stops: Vec::new(),
                followups: BTreeMap::new(),
                deployment,
                deployment_updates: Vec::new(),
                new_evals: Vec::new(),
                eval,
                at: self.now,
            }),
        });
    }

    fn alloc(&self, number: u128, node: u128, job: &Arc<Job>) -> Allocation {
        Allocation {
            id: AllocId::from_bits(number),
            eval_id: EvalId::from_bits(u128::from(self.state.index()) + 0xe000),
            node_id: NodeId::from_bits(node),
            node_name: Arc::from("node"),
            job: Arc::clone(job),
            group: Arc::from(job.groups[0].name.as_str()),
            index: u32::try_from(number).unwrap(),
            resources: Resources { cpu_mhz: 1, memory_mib: 1, disk_mib: 1 },
            tasks: BTreeMap::new(),
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
            metric: Arc::default(),
            create_time: self.now,
            modify_time: self.now,
            create_index: 0,
            modify_index: 0,
            alloc_modify_index: 0,
        }
    }

    /// Makes the record of a rollout of a job's first group.
    pub(crate) fn deployment(&self, id: &str, group: DeploymentGroup) -> Deployment {
        let job = self.job(id);
        Deployment {
            id: DeploymentId::from_bits(u128::from(job.version) + 0xd000),
            job: job.key.clone(),
            job_version: job.version,
            job_modify_index: job.modify_index,
            job_spec_modify_index: job.job_modify_index,
            job_create_index: job.create_index,
            groups: BTreeMap::from([(job.groups[0].name.clone(), group)]),
            status: DeploymentStatus::Running,
            status_description: "Deployment is running".to_owned(),
            create_time: self.now,
            modify_time: self.now,
            create_index: 0,
            modify_index: 0,
        }
    }

    /// Lets agents report.
    #[track_caller]
    pub(crate) fn report(&mut self, number: u128, status: ClientStatus, healthy: Option<bool>) {
        let update = self.update(number, status, healthy);
        self.apply(Command::UpdateAllocs { updates: vec![update], evals: Vec::new() });
    }

    /// Makes what an agent reports.
    #[track_caller]
    pub(crate) fn update(
        &self,
        number: u128,
        status: ClientStatus,
        healthy: Option<bool>,
    ) -> AllocUpdate {
        let alloc = self.state.alloc(AllocId::from_bits(number)).unwrap();
        AllocUpdate {
            id: alloc.id,
            client_status: status,
            client_description: String::new(),
            task_states: BTreeMap::new(),
            health: alloc.deployment_id.zip(healthy),
        }
    }

    /// The job as registered.
    #[track_caller]
    pub(crate) fn job(&self, id: &str) -> Arc<Job> {
        Arc::clone(self.state.job(&key(id)).unwrap())
    }
}

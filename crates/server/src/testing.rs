//! Things that tests need everywhere: jobs, nodes and states from a few words.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::link::AllocUpdate;
use cos_model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, EvalId, EvalStatus, Evaluation,
    Job, JobKey, JobKind, Node, Plan, Resources, TaskGroup, Timestamp, samples,
};
use cos_state::{Applied, Command, Reply, Request, State};

mod garbage;

/// A job's name.
pub(crate) fn key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

/// A pending evaluation.
pub(crate) fn eval(job: &str) -> Evaluation {
    let now = Timestamp(1);
    Evaluation { create_time: now, modify_time: now, ..samples::eval(1, key(job)) }
}

/// A job with one group `web`.
pub(crate) fn job(id: &str, kind: JobKind, count: u32) -> Job {
    let group = TaskGroup { count, ..samples::group("web", Vec::new()) };
    Job { submit_time: Timestamp(1), ..samples::job(id, kind, vec![group]) }
}

/// A ready node.
pub(crate) fn node(number: u128) -> Node {
    Node {
        capacity: Resources { cpu_mhz: 4000, memory_mib: 4000, disk_mib: 40_000 },
        status_updated_at: Timestamp(1),
        ..samples::node(number)
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
        let Applied { reply, .. } = self.state.apply(index, &Request::new(self.now, command));
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
                based_on: self.state.index(),
                placements,
                deployment,
                at: self.now,
                ..samples::plan(eval)
            }),
        });
    }

    fn alloc(&self, number: u128, node: u128, job: &Arc<Job>) -> Allocation {
        Allocation {
            eval_id: EvalId::from_bits(u128::from(self.state.index()) + 0xe000),
            index: u32::try_from(number).unwrap(),
            resources: Resources { cpu_mhz: 1, memory_mib: 1, disk_mib: 1 },
            create_time: self.now,
            modify_time: self.now,
            ..samples::alloc(number, node, job)
        }
    }

    /// Makes the record of a rollout of a job's first group.
    pub(crate) fn deployment(&self, id: &str, group: DeploymentGroup) -> Deployment {
        let job = self.job(id);
        Deployment {
            groups: BTreeMap::from([(job.groups[0].name.clone(), group)]),
            create_time: self.now,
            modify_time: self.now,
            ..samples::deployment(u128::from(job.version) + 0xd000, &job)
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

/// The job whose evaluations panic, as if the scheduler had a bug that only this job meets.
pub(crate) const POISON: &str = "poison";

/// Panics if a test asked for it.
pub(crate) fn panic_if_planted(eval: &Evaluation) {
    assert!(*eval.job.id != *POISON, "a planted panic");
}

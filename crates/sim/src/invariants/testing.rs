//! Histories for the tests of invariants: a state, and the last thing that happened to it.

use std::sync::Arc;

use cos_model::link::AllocUpdate;
use cos_model::policy::{HealthCheckKind, Update};
use cos_model::{
    AllocId, Allocation, EvalId, Job, JobKind, NodeId, Plan, Resources, Task, TaskGroup, samples,
};
use cos_state::{Applied, Command, Event, Reply, Request, State};

use super::{AppliedFact, Fact, Invariant};
use crate::machine::{Machine, Process};

/// Shows facts to an invariant and says whether it must fire at the last one, and not before.
#[track_caller]
pub(super) fn check(mut invariant: impl Invariant, facts: &[Fact<'_>], fires: bool) {
    let last = facts.len() - 1;
    for (place, fact) in facts.iter().enumerate() {
        let seen = invariant.observe(fact);
        let expected = fires && place == last;
        assert_eq!(seen.is_err(), expected, "fact {place}: {seen:?}");
    }
}

/// A state and the last thing that happened to it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) state: State,
    pub(super) request: Request,
    pub(super) applied: Applied,
    machines: Arc<[Machine]>,
}

impl Default for History {
    fn default() -> Self {
        let command = Command::PutEvals { evals: Vec::new() };
        Self {
            state: State::default(),
            request: Request::new(cos_model::Timestamp(1), command),
            applied: Applied { index: 0, reply: Ok(Reply::Done), events: Vec::new() },
            machines: Arc::from([]),
        }
    }
}

impl History {
    /// A history in which node 1 and job `web` were registered.
    pub(super) fn with_node() -> Self {
        let mut history = Self::default();
        let node = Box::new(samples::node(1));
        history.apply(Command::RegisterNode { node, evals: Vec::new() });
        history.register(job(1));
        history
    }

    /// The last thing that happened.
    pub(super) fn last(&self) -> Fact<'_> {
        let fact = AppliedFact {
            server: 0,
            index: self.state.index(),
            is_first: true,
            request: &self.request,
            applied: &self.applied,
            state: &self.state,
            machines: &self.machines,
        };
        // Tests are few and short, so that this little may be lost.
        Fact::Applied(Box::leak(Box::new(fact)))
    }

    #[track_caller]
    pub(super) fn apply(&mut self, command: Command) {
        self.request.command = command;
        self.applied = self.state.apply(self.state.index() + 1, &self.request);
        assert!(self.applied.reply.is_ok(), "{:?}", self.applied.reply);
    }

    fn register(&mut self, job: Job) {
        let job = Box::new(job);
        self.apply(Command::RegisterJob { job, expected_index: None, eval: None });
    }

    /// Registers the job with so many instances and a rolling update.
    pub(super) fn roll(&mut self, count: u32, max_parallel: u32) {
        let mut job = job(count);
        job.groups[0].update = Some(Update {
            stagger: std::time::Duration::ZERO,
            max_parallel,
            health_check: HealthCheckKind::TaskStates,
            min_healthy_time: std::time::Duration::ZERO,
            healthy_deadline: std::time::Duration::ZERO,
            progress_deadline: std::time::Duration::ZERO,
            canary: 0,
            auto_revert: false,
            auto_promote: false,
        });
        self.register(job);
    }

    fn alloc(&self, number: u128) -> Allocation {
        let key = cos_model::JobKey::new("default", "web");
        samples::alloc(number, 1, self.state.job(&key).expect("it was registered"))
    }

    /// Places an instance.
    pub(super) fn place(&mut self, number: u128, change: impl FnOnce(&mut Allocation)) {
        let mut alloc = self.alloc(number);
        change(&mut alloc);
        self.submit(alloc);
    }

    fn submit(&mut self, alloc: Allocation) {
        let mut eval = samples::eval(number_of(&self.state), alloc.job.key.clone());
        eval.status = cos_model::EvalStatus::Complete;
        let plan = Plan { placements: vec![alloc], ..samples::plan(eval) };
        self.apply(Command::ApplyPlan { plan: Box::new(plan) });
    }

    /// Places an instance on a large node, which then turns out to be small.
    pub(super) fn place_unchecked(&mut self, number: u128) {
        self.resize(100_000);
        self.place(number, |alloc| alloc.index = u32::try_from(number).expect("small"));
        let applied = self.applied.clone();
        self.resize(1000);
        self.applied = applied;
    }

    fn resize(&mut self, size: u64) {
        let capacity = Resources { cpu_mhz: size, memory_mib: size, disk_mib: size };
        let node = Box::new(cos_model::Node { capacity, ..samples::node(1) });
        self.apply(Command::RegisterNode { node, evals: Vec::new() });
    }

    /// Makes the node ineligible as if that had been so before the last thing happened.
    pub(super) fn make_ineligible_silently(&mut self) {
        let (applied, request) = (self.applied.clone(), self.request.clone());
        let id = NodeId::from_bits(1);
        self.apply(Command::SetNodeEligibility { id, eligible: false, evals: Vec::new() });
        // The placement happens at the index that the state has now.
        let index = self.state.index();
        let events = applied.events.iter().map(|event| match event {
            Event::AllocPlanned(alloc) => Event::AllocPlanned(Arc::new(Allocation {
                create_index: index,
                ..Allocation::clone(alloc)
            })),
            other => other.clone(),
        });
        (self.applied, self.request) =
            (Applied { index, reply: Ok(Reply::Done), events: events.collect() }, request);
    }

    /// Shows an allocation changed, and lets the state know it where a report can do that.
    pub(super) fn show(&mut self, number: u128, change: impl FnOnce(&mut Allocation)) {
        let id = AllocId::from_bits(number);
        let mut alloc = Allocation::clone(self.state.alloc(id).expect("it was placed"));
        change(&mut alloc);
        let update = AllocUpdate {
            id,
            client_status: alloc.client_status,
            client_description: String::new(),
            task_states: alloc.task_states.clone(),
            health: None,
        };
        self.apply(Command::UpdateAllocs { updates: vec![update], evals: Vec::new() });
        self.applied.events = vec![Event::AllocReported(Arc::new(alloc))];
    }

    /// Starts a process of an allocation.
    pub(super) fn start_process(&mut self, number: u128) {
        let mut machine = Machine::default();
        machine.start(Process {
            alloc: AllocId::from_bits(number),
            name: String::new(),
            task: "web".to_owned(),
            is_stubborn: false,
            is_stopping: false,
            since: 0,
        });
        self.machines = Arc::from([machine]);
    }
}

fn number_of(state: &State) -> u128 {
    EvalId::from_bits(u128::from(state.index()) + 1000).bits()
}

fn job(count: u32) -> Job {
    let task: Task = samples::task("web");
    let group = TaskGroup { count, ..samples::group("web", vec![task]) };
    samples::job("web", JobKind::Service, vec![group])
}

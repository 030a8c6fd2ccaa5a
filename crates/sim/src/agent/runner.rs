//! The runner of one allocation: feeds the shipped machines and waits in simulated time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_agent::alloc_machine::{Advertised, AllocMachine, TaskEffect};
use cos_agent::health::{HealthPolicy, HealthTracker, Sight, tasks_sight};
use cos_agent::services::{Registration, Site, difference};
use cos_agent::store::{Kept, Write};
use cos_agent::task_machine::{Input, Moment, Record, Stage};
use cos_model::link::AllocUpdate;
use cos_model::{AllocId, Allocation, DeploymentId};

use super::{Agent, Asker};
use crate::context::{AgentTimer, AllocTimer, Context};

/// The longest wait for an allocation's leave from discovery.
const LEAVE_WAIT: u64 = 1_000_000;

/// The wait between a task's leave from discovery and its signal.
const SPREAD_TIME: u64 = 150_000;

/// The runner of one allocation.
#[derive(Debug)]
pub(super) struct Runner {
    /// Tells runners of the same allocation apart, one after another.
    pub(super) number: u64,
    pub(super) machine: AllocMachine,
    pub(super) pids: BTreeMap<String, i32>,
    pub(super) cleaning: BTreeSet<String>,
    pub(super) launch_after: BTreeSet<String>,
    pub(super) registered: Vec<Registration>,
    /// The number of the change that the catalog is being told.
    telling: Option<u64>,
    somebody_leaves: bool,
    health: Option<(DeploymentId, HealthTracker)>,
    verdict: Option<(DeploymentId, bool)>,
    saved: BTreeMap<String, Record>,
    reported: Option<AllocUpdate>,
    is_destroyed: bool,
    due_at: u64,
}

impl Runner {
    fn new(number: u64, machine: AllocMachine) -> Self {
        Self {
            number,
            machine,
            pids: BTreeMap::new(),
            cleaning: BTreeSet::new(),
            launch_after: BTreeSet::new(),
            registered: Vec::new(),
            telling: None,
            somebody_leaves: false,
            health: None,
            verdict: None,
            saved: BTreeMap::new(),
            reported: None,
            is_destroyed: false,
            due_at: 0,
        }
    }
}

impl Agent {
    pub(super) fn start(&mut self, alloc: Arc<Allocation>, context: &mut Context) {
        let id = alloc.id;
        self.write(vec![Write::Alloc(Arc::clone(&alloc))], context);
        context.trace.note(context.now, &[30, self.number as u64, word(id)], || {
            format!("agent {} starts {} {}", self.number, alloc.name(), id.short())
        });
        let machine = AllocMachine::new(alloc, context.date(self.clock));
        let runner = Runner::new(context.number(), machine);
        self.runners.insert(id, runner);
        self.begin(id, context);
    }

    pub(super) fn restore(&mut self, kept: Kept, context: &mut Context) {
        let id = kept.alloc.id;
        let now = context.date(self.clock);
        let (live, stale): (BTreeMap<_, _>, BTreeMap<_, _>) =
            kept.handles.into_iter().partition(|(task, handle)| {
                kept.records.get(task).is_none_or(|record| handle.is_live(record))
            });
        let names: BTreeSet<String> = live.keys().cloned().collect();
        let machine = AllocMachine::restore(kept.alloc, &kept.records, &names, now);
        let mut runner = Runner::new(context.number(), machine);
        runner.pids = live.into_iter().map(|(task, kept)| (task, kept.handle.pid)).collect();
        self.runners.insert(id, runner);
        for (task, kept) in stale {
            self.clean(id, &task, kept.handle.pid, context);
        }
        self.begin(id, context);
    }

    fn begin(&mut self, id: AllocId, context: &mut Context) {
        self.follow_deployment(id, context);
        self.recover(id, context);
        self.drive(id, context, AllocMachine::begin);
    }

    pub(super) fn update(&mut self, alloc: &Arc<Allocation>, context: &mut Context) {
        let id = alloc.id;
        context.trace.note(context.now, &[31, self.number as u64, word(id)], || {
            let desired = alloc.desired.name();
            format!("agent {} is told {} {} to {desired}", self.number, alloc.name(), id.short())
        });
        if !self.runners.contains_key(&id) {
            return;
        }
        self.write(vec![Write::Alloc(Arc::clone(alloc))], context);
        self.drive(id, context, |machine, moment| machine.update(Arc::clone(alloc), moment));
        self.follow_deployment(id, context);
        self.publish(id, context);
    }

    pub(super) fn destroy(&mut self, id: AllocId, context: &mut Context) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.is_destroyed = true;
            self.drive(id, context, AllocMachine::stop_here);
        }
    }

    pub(super) fn step(&mut self, id: AllocId, task: &str, input: Input, context: &mut Context) {
        self.drive(id, context, |machine, moment| machine.step(task, input, moment));
    }

    /// Calls the machine, carries out what it says, and shows what changed.
    fn drive(
        &mut self,
        id: AllocId,
        context: &mut Context,
        call: impl FnOnce(&mut AllocMachine, Moment) -> Vec<TaskEffect>,
    ) {
        let moment = self.moment(context);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let effects = call(&mut runner.machine, moment);
        self.carry_out(id, effects, context);
        self.publish(id, context);
    }

    fn moment(&self, context: &mut Context) -> Moment {
        Moment { now: context.date(self.clock), entropy: context.random.word() }
    }

    fn carry_out(&mut self, id: AllocId, effects: Vec<TaskEffect>, context: &mut Context) {
        for TaskEffect { task, effect } in effects {
            self.perform(id, &task, &effect, context);
        }
        self.tell_catalog(id, context);
    }

    pub(super) fn wait_for(
        &self,
        id: AllocId,
        wait: u64,
        timer: AllocTimer,
        context: &mut Context,
    ) {
        if let Some(runner) = self.runners.get(&id) {
            self.wait(wait, AgentTimer::Alloc(id, runner.number, timer), context);
        }
    }

    /// Brings the catalog in step with what runs, one request at a time.
    fn tell_catalog(&mut self, id: AllocId, context: &mut Context) {
        let moment = self.moment(context);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let is_recovering =
            runner.machine.tasks().any(|(_, task)| *task.stage() == Stage::Recovering);
        if runner.telling.is_some() || is_recovering {
            return;
        }
        let advertised = runner.machine.advertised();
        let wanted = registrations(&runner.machine, &self.node, &advertised);
        if wanted == runner.registered {
            let mut effects = Vec::new();
            for task in runner.machine.leaving() {
                effects.extend(runner.machine.step(&task, Input::Left, moment));
            }
            for TaskEffect { task, effect } in effects {
                self.perform(id, &task, &effect, context);
            }
            return;
        }
        let telling = context.number();
        runner.registered.clone_from(&wanted);
        runner.telling = Some(telling);
        runner.somebody_leaves = !runner.machine.leaving().is_empty();
        let old = if wanted.is_empty() {
            self.wanted.remove(&id)
        } else {
            self.wanted.insert(id, wanted.clone())
        };
        self.wait_for(id, LEAVE_WAIT, AllocTimer::Told(telling), context);
        let changes = difference(&old.unwrap_or_default(), &wanted);
        self.change(changes, Asker::Alloc(id, telling), context);
    }

    /// The catalog was told, or cannot be.
    pub(super) fn runner_told(&mut self, id: AllocId, telling: u64, context: &mut Context) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        if runner.telling != Some(telling) {
            return;
        }
        if runner.somebody_leaves {
            runner.somebody_leaves = false;
            return self.wait_for(id, SPREAD_TIME, AllocTimer::Told(telling), context);
        }
        runner.telling = None;
        self.tell_catalog(id, context);
        self.publish(id, context);
    }

    pub(super) fn adopt(&mut self, id: AllocId) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let tasks = runner.machine.tasks().map(|(name, _)| name.to_owned()).collect();
        let all = Advertised { group: true, tasks };
        runner.registered = registrations(&runner.machine, &self.node, &all);
        if !runner.registered.is_empty() {
            self.wanted.insert(id, runner.registered.clone());
        }
    }

    fn follow_deployment(&mut self, id: AllocId, context: &mut Context) {
        let now = context.date(self.clock);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let alloc = runner.machine.alloc();
        let update = alloc.task_group().and_then(|group| group.update.clone());
        let (Some(deployment), Some(update)) = (alloc.deployment_id, update) else { return };
        let is_known = runner.health.as_ref().is_some_and(|(known, _)| *known == deployment);
        if alloc.health.is_some() || is_known {
            return;
        }
        let policy = HealthPolicy {
            kind: update.health_check,
            min_healthy_time: update.min_healthy_time,
            healthy_deadline: update.healthy_deadline,
        };
        runner.health = Some((deployment, HealthTracker::new(policy, now)));
        runner.verdict = None;
    }

    fn judge(&mut self, id: AllocId, context: &Context) {
        let now = context.date(self.clock);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let states = runner.machine.task_states();
        let Some(group) = runner.machine.alloc().task_group() else { return };
        // The workload's services have no checks.
        let sight = Sight { tasks: tasks_sight(group, &states), checks_pass: true };
        if runner.machine.is_stopping() || runner.verdict.is_some() {
            return;
        }
        if let Some((deployment, tracker)) = &mut runner.health
            && let Some(healthy) = tracker.observe(sight, now)
        {
            runner.verdict = Some((*deployment, healthy));
        }
    }

    /// Keeps and reports what changed, and sees to it that it is looked again in time.
    pub(super) fn publish(&mut self, id: AllocId, context: &mut Context) {
        self.judge(id, context);
        let now = context.date(self.clock);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let mut writes = Vec::new();
        for (task, machine) in runner.machine.tasks() {
            if runner.saved.get(task) != Some(machine.record()) {
                let record = machine.record().clone();
                runner.saved.insert(task.to_owned(), record.clone());
                writes.push(Write::Record { alloc: id, task: task.to_owned(), record });
            }
        }
        let update = AllocUpdate {
            id,
            client_status: runner.machine.status(),
            client_description: runner.machine.description().to_owned(),
            task_states: runner.machine.task_states(),
            health: runner.verdict,
        };
        let is_news = runner.reported.as_ref() != Some(&update);
        if is_news {
            runner.reported = Some(update.clone());
        }
        let is_over = runner.machine.is_over() && runner.cleaning.is_empty();
        let is_gone = runner.is_destroyed && is_over && runner.telling.is_none();
        let is_judged = runner.machine.is_stopping() || runner.verdict.is_some();
        let health = runner.health.as_ref().filter(|_| !is_judged).and_then(|(_, t)| t.due());
        let due = [runner.machine.due(), health].into_iter().flatten().min();
        let is_destroyed = runner.is_destroyed;
        if let Some(due) = due {
            let wait = u64::try_from(due.since(now).as_micros()).unwrap_or(u64::MAX / 4) + 1;
            let at = context.now + wait;
            if runner.due_at <= context.now || at < runner.due_at {
                runner.due_at = at;
                self.wait_for(id, wait, AllocTimer::Due, context);
            }
        }
        self.write(writes, context);
        if is_news && !is_destroyed {
            if update.client_status.is_terminal() {
                // What was reported as over must be known to be over also after a crash.
                self.flush();
            }
            self.report(update, context);
        }
        if is_gone {
            self.write(vec![Write::Forget(id)], context);
            self.runners.remove(&id);
        }
    }

    pub(super) fn wake_runner(
        &mut self,
        id: AllocId,
        number: u64,
        timer: AllocTimer,
        context: &mut Context,
    ) {
        if self.runners.get(&id).is_none_or(|runner| runner.number != number) {
            return;
        }
        match timer {
            AllocTimer::Due => {
                if let Some(runner) = self.runners.get_mut(&id) {
                    runner.due_at = 0;
                }
                self.drive(id, context, AllocMachine::tick);
            }
            AllocTimer::Told(telling) => {
                // Whether by the wait for others or by the limit: it has waited long enough.
                if let Some(runner) = self.runners.get_mut(&id)
                    && runner.telling == Some(telling)
                {
                    runner.somebody_leaves = false;
                    self.runner_told(id, telling, context);
                }
            }
            other => self.driver_done(id, other, context),
        }
    }
}

/// A word that tells allocations apart, for the trace.
pub(super) fn word(id: AllocId) -> u64 {
    u64::try_from(id.bits() >> 64).unwrap_or(0)
}

fn registrations(
    machine: &AllocMachine,
    node: &cos_model::Node,
    advertised: &Advertised,
) -> Vec<Registration> {
    let environments = BTreeMap::new();
    let site = Site {
        alloc: machine.alloc(),
        node: &node.name,
        address: &node.address,
        environments: &environments,
    };
    site.registrations(advertised)
}

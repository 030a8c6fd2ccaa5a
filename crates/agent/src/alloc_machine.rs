//! The life of one allocation: in which order its tasks begin and end, and what is reported.
//!
//! It holds one [`TaskMachine`] per task. After every input it looks at all of them anew
//! (`advance`) and moves whoever may move, until nobody can; nothing is remembered that could be
//! derived.
//!
//! # Invariants
//!
//! - **Pure**, as the task machines.
//! - **Forward only.** The reported status never returns to an earlier one, and a final status is
//!   reported only when every task is dead, so that nothing of the allocation takes resources.
//! - **Gates.** Main tasks wait for prestart tasks, poststart tasks for main tasks, poststop tasks
//!   for the end of all others.
//!
//! # Deliberately absent
//!
//! - Health within a deployment; see `health`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::task::Hook;
use cos_model::{Allocation, ClientStatus, Lifecycle, Task, TaskEvent, TaskState, Timestamp};

use crate::task_machine::{Effect, Input, Moment, Policy, Record, Stage, TaskMachine};
use crate::words;

#[cfg(test)]
mod tests;

/// The machine.
#[derive(Clone, Debug)]
pub struct AllocMachine {
    alloc: Arc<Allocation>,
    tasks: BTreeMap<String, TaskMachine>,
    /// Whether the agent itself wants it to end, whatever the servers say.
    stopped_here: bool,
    /// The highest status that was reported.
    reported: ClientStatus,
}

/// An effect and the task that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEffect {
    /// The task.
    pub task: String,
    /// What has to be done.
    pub effect: Effect,
}

/// What is to be found in discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Whether the group's services are.
    pub group: bool,
    /// The tasks whose services are.
    pub tasks: BTreeSet<String>,
}

/// A task's part in the allocation's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Prestart,
    PrestartSidecar,
    Main,
    Poststart,
    PoststartSidecar,
    Poststop,
}

impl Part {
    fn is_sidecar(self) -> bool {
        matches!(self, Self::PrestartSidecar | Self::PoststartSidecar)
    }
}

impl AllocMachine {
    /// Makes the machine of an allocation that has just reached this node.
    pub fn new(alloc: Arc<Allocation>, now: Timestamp) -> Self {
        let tasks = tasks_of(&alloc)
            .map(|task| (task.name.clone(), TaskMachine::new(Policy::of(&alloc.job, task), now)))
            .collect();
        Self { alloc, tasks, stopped_here: false, reported: ClientStatus::Pending }
    }

    /// Makes the machine of an allocation that an earlier agent knew. `handles` names the tasks
    /// for which a driver's handle was kept.
    pub fn restore(
        alloc: Arc<Allocation>,
        records: &BTreeMap<String, Record>,
        handles: &BTreeSet<String>,
        now: Timestamp,
    ) -> Self {
        let tasks = tasks_of(&alloc)
            .map(|task| {
                let policy = Policy::of(&alloc.job, task);
                let machine = match records.get(&task.name) {
                    Some(record) => {
                        let has_handle = handles.contains(&task.name);
                        TaskMachine::restore(policy, record.clone(), has_handle)
                    }
                    None => TaskMachine::new(policy, now),
                };
                (task.name.clone(), machine)
            })
            .collect();
        let mut machine =
            Self { alloc, tasks, stopped_here: false, reported: ClientStatus::Pending };
        machine.reported = machine.observed();
        machine
    }

    /// The allocation as the servers last described it.
    pub fn alloc(&self) -> &Arc<Allocation> {
        &self.alloc
    }

    /// One task's machine.
    pub fn task(&self, name: &str) -> Option<&TaskMachine> {
        self.tasks.get(name)
    }

    /// All tasks' machines.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, &TaskMachine)> {
        self.tasks.iter().map(|(name, machine)| (name.as_str(), machine))
    }

    /// What is reported of each task.
    pub fn task_states(&self) -> BTreeMap<String, TaskState> {
        self.tasks.iter().map(|(name, task)| (name.clone(), task.state().clone())).collect()
    }

    /// Whether nothing of it will ever run again.
    pub fn is_over(&self) -> bool {
        self.tasks.values().all(TaskMachine::is_dead)
    }

    /// What is reported of the whole.
    pub fn status(&self) -> ClientStatus {
        self.reported
    }

    /// Why, in words.
    pub fn description(&self) -> &'static str {
        match self.reported {
            ClientStatus::Pending => "No tasks have started",
            ClientStatus::Running => "Tasks are running",
            ClientStatus::Complete => "All tasks have completed",
            ClientStatus::Failed => "Failed tasks",
            ClientStatus::Lost | ClientStatus::Unknown => "",
        }
    }

    /// What is to be found in discovery now.
    pub fn advertised(&self) -> Advertised {
        let tasks: BTreeSet<String> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.is_advertised())
            .map(|(name, _)| name.clone())
            .collect();
        let group = !self.is_stopping()
            && self.named(|part| part == Part::Main).any(|(name, _)| tasks.contains(name));
        Advertised { group, tasks }
    }

    /// The tasks that wait until they have left discovery.
    pub fn leaving(&self) -> Vec<String> {
        self.tasks
            .iter()
            .filter(|(_, task)| task.is_leaving())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// When [`AllocMachine::tick`] is due.
    pub fn due(&self) -> Option<Timestamp> {
        self.tasks.values().filter_map(TaskMachine::due).min()
    }

    /// Moves everything that may move without news, as right after the machine was made.
    pub fn begin(&mut self, moment: Moment) -> Vec<TaskEffect> {
        self.advance(moment)
    }

    /// Takes an input for one task.
    pub fn step(&mut self, task: &str, input: Input, moment: Moment) -> Vec<TaskEffect> {
        let mut effects = self.give(task, input, moment);
        effects.extend(self.advance(moment));
        effects
    }

    /// Takes a new description by the servers.
    pub fn update(&mut self, alloc: Arc<Allocation>, moment: Moment) -> Vec<TaskEffect> {
        for task in tasks_of(&alloc) {
            if let Some(machine) = self.tasks.get_mut(&task.name) {
                machine.set_policy(Policy::of(&alloc.job, task));
            }
        }
        self.alloc = alloc;
        self.advance(moment)
    }

    /// Ends it because this agent wants so.
    pub fn stop_here(&mut self, moment: Moment) -> Vec<TaskEffect> {
        self.stopped_here = true;
        self.advance(moment)
    }

    /// Takes the passing of time.
    pub fn tick(&mut self, moment: Moment) -> Vec<TaskEffect> {
        let names: Vec<String> = self.tasks.keys().cloned().collect();
        let mut effects = Vec::new();
        for name in names {
            effects.extend(self.give(&name, Input::Tick, moment));
        }
        effects.extend(self.advance(moment));
        effects
    }

    /// Whether it shall end.
    pub fn is_stopping(&self) -> bool {
        self.stopped_here || self.alloc.is_desired_terminal()
    }

    fn give(&mut self, task: &str, input: Input, moment: Moment) -> Vec<TaskEffect> {
        let Some(machine) = self.tasks.get_mut(task) else { return Vec::new() };
        machine
            .step(input, moment)
            .into_iter()
            .map(|effect| TaskEffect { task: task.to_owned(), effect })
            .collect()
    }

    /// Moves tasks until none can move. Each round moves at least one task forward, and a task has
    /// only so many stages, so it ends.
    fn advance(&mut self, moment: Moment) -> Vec<TaskEffect> {
        let mut effects = Vec::new();
        loop {
            let moves = self.moves(moment.now);
            if moves.is_empty() {
                break;
            }
            for (task, input) in moves {
                effects.extend(self.give(&task, input, moment));
            }
        }
        self.reported = self.reported.max(self.observed());
        effects
    }

    fn moves(&self, now: Timestamp) -> Vec<(String, Input)> {
        let ends = self.endings(now);
        if !ends.is_empty() {
            return ends;
        }
        self.tasks
            .iter()
            .filter(|(name, task)| *task.stage() == Stage::Idle && self.may_begin(name))
            .map(|(name, _)| (name.clone(), Input::Begin))
            .collect()
    }

    /// Lists the tasks that have to be stopped and are not yet on their way.
    fn endings(&self, now: Timestamp) -> Vec<(String, Input)> {
        let (victims, event): (Vec<&str>, Option<TaskEvent>) = if self.is_stopping() {
            (self.stop_first(), None)
        } else if let Some(failed) = self.failed_task() {
            let event = words::sibling_failed(now, failed);
            (self.alive(|part| part != Part::Poststop), Some(event))
        } else if self.leader().is_some_and(|name| self.is_task_dead(name)) {
            (self.alive(|part| part != Part::Poststop), Some(words::leader_dead(now)))
        } else if self.main_is_over() {
            (self.alive(Part::is_sidecar), Some(words::main_dead(now)))
        } else {
            (Vec::new(), None)
        };
        let at_once = self.alloc.transition.no_shutdown_delay;
        let group_delay = if self.is_stopping() { self.group_delay() } else { Duration::ZERO };
        victims
            .into_iter()
            .filter(|name| self.can_be_stopped(name))
            .map(|name| {
                (name.to_owned(), Input::Stop { event: event.clone(), at_once, group_delay })
            })
            .collect()
    }

    /// Whether a stop would move the task forward.
    fn can_be_stopped(&self, name: &str) -> bool {
        self.tasks.get(name).is_some_and(|task| {
            !task.is_dead() && !task.is_ending() && *task.stage() != Stage::Recovering
        })
    }

    /// The leader ends before the others; poststop tasks go on, unless they never got to begin.
    fn stop_first(&self) -> Vec<&str> {
        if let Some(leader) = self.leader()
            && !self.is_task_dead(leader)
        {
            return vec![leader];
        }
        let mut victims = self.alive(|part| part != Part::Poststop);
        if victims.is_empty() && !self.has_main_started() {
            victims = self.alive(|part| part == Part::Poststop);
        }
        victims
    }

    fn may_begin(&self, name: &str) -> bool {
        let part = self.part(name);
        let main_starts = |task: &TaskMachine| !task.state().started_at.is_never();
        match part {
            Part::Poststop => self.named(|part| part != Part::Poststop).all(|(_, t)| t.is_dead()),
            _ if self.is_stopping() => false,
            Part::Prestart | Part::PrestartSidecar => true,
            Part::Main => {
                let done = self
                    .named(|part| part == Part::Prestart)
                    .all(|(_, task)| task.is_dead() && !task.state().failed);
                done && self
                    .named(|part| part == Part::PrestartSidecar)
                    .all(|(_, t)| main_starts(t))
            }
            Part::Poststart | Part::PoststartSidecar => {
                self.named(|part| part == Part::Main).all(|(_, task)| main_starts(task))
            }
        }
    }

    /// Derives the status from the tasks alone.
    fn observed(&self) -> ClientStatus {
        let mut states = self.tasks.values().map(TaskMachine::state);
        if self.is_over() {
            let failed = states.any(|state| state.failed) || self.tasks.is_empty();
            return if failed { ClientStatus::Failed } else { ClientStatus::Complete };
        }
        if states.any(|state| !state.started_at.is_never()) {
            ClientStatus::Running
        } else {
            ClientStatus::Pending
        }
    }

    fn part(&self, name: &str) -> Part {
        part_of(self.alloc.task_group().and_then(|group| group.task(name)))
    }

    fn named(&self, wanted: impl Fn(Part) -> bool) -> impl Iterator<Item = (&str, &TaskMachine)> {
        self.tasks().filter(move |(name, _)| wanted(self.part(name)))
    }

    fn alive(&self, wanted: impl Fn(Part) -> bool) -> Vec<&str> {
        self.named(wanted).filter(|(_, task)| !task.is_dead()).map(|(name, _)| name).collect()
    }

    fn leader(&self) -> Option<&str> {
        let group = self.alloc.task_group()?;
        group.tasks.iter().find(|task| task.leader).map(|task| task.name.as_str())
    }

    fn is_task_dead(&self, name: &str) -> bool {
        self.tasks.get(name).is_none_or(TaskMachine::is_dead)
    }

    fn failed_task(&self) -> Option<&str> {
        self.named(|part| part != Part::Poststop)
            .find(|(_, task)| task.state().failed)
            .map(|(name, _)| name)
    }

    /// Whether everything ended that keeps sidecars alive.
    fn main_is_over(&self) -> bool {
        let mut main = self.named(|part| matches!(part, Part::Main | Part::Poststart)).peekable();
        main.peek().is_some() && main.all(|(_, task)| task.is_dead())
    }

    fn has_main_started(&self) -> bool {
        self.named(|part| part == Part::Main).any(|(_, task)| !task.state().started_at.is_never())
    }

    fn group_delay(&self) -> Duration {
        self.alloc.task_group().map_or(Duration::ZERO, |group| group.shutdown_delay)
    }
}

fn tasks_of(alloc: &Allocation) -> impl Iterator<Item = &Task> {
    alloc.task_group().map(|group| group.tasks.as_slice()).unwrap_or_default().iter()
}

fn part_of(task: Option<&Task>) -> Part {
    match task.and_then(|task| task.lifecycle) {
        None => Part::Main,
        Some(Lifecycle { hook: Hook::Prestart, sidecar: false }) => Part::Prestart,
        Some(Lifecycle { hook: Hook::Prestart, sidecar: true }) => Part::PrestartSidecar,
        Some(Lifecycle { hook: Hook::Poststart, sidecar: false }) => Part::Poststart,
        Some(Lifecycle { hook: Hook::Poststart, sidecar: true }) => Part::PoststartSidecar,
        Some(Lifecycle { hook: Hook::Poststop, .. }) => Part::Poststop,
    }
}

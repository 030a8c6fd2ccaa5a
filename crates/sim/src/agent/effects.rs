//! What the machines want done, by a driver that does as the script says: it starts late, fails to
//! start, loses tasks, and holds on to some that were asked to end.

use std::path::PathBuf;

use cos_agent::store::{KeptHandle, Write};
use cos_agent::task_machine::{Effect, Input, Stage};
use cos_agent::words;
use cos_drivers::driver::{ProcessId, Reference, ShimReference};
use cos_drivers::{ExitResult, TaskHandle};
use cos_model::{AllocId, JobKind};

use super::Agent;
use super::runner::word;
use crate::context::{AllocTimer, Context, Event};
use crate::invariants::Fact;
use crate::machine::Process;

/// The time that a driver takes.
const DRIVER: (u64, u64) = (1_000, 60_000);

/// How long a batch task works.
const BATCH: (u64, u64) = (500_000, 4_000_000);

impl Agent {
    pub(super) fn perform(
        &mut self,
        id: AllocId,
        task: &str,
        effect: &Effect,
        context: &mut Context,
    ) {
        let task = task.to_owned();
        let wait = context.random.between(DRIVER.0, DRIVER.1);
        match effect {
            Effect::Prepare => {
                let is_done = !is_unlucky(context, 20);
                self.wait_for(id, wait, AllocTimer::Prepared(task, is_done), context);
            }
            Effect::CancelPreparation | Effect::Signal(_) => {}
            Effect::Launch => {
                let Some(runner) = self.runners.get_mut(&id) else { return };
                if runner.cleaning.contains(&task) {
                    runner.launch_after.insert(task);
                } else {
                    self.wait_for(id, wait, AllocTimer::Launch(task), context);
                }
            }
            Effect::Stop { timeout, .. } => {
                let timeout = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX / 4);
                let pid = self.runners.get(&id).and_then(|runner| runner.pids.get(&task)).copied();
                let Some(pid) = pid else { return };
                let Some(process) = context.machines[self.number].process(pid) else { return };
                process.is_stopping = true;
                let (wait, code) = if process.is_stubborn { (timeout, 137) } else { (wait, 0) };
                context.after(wait, Event::Exit(self.number, pid, code));
            }
        }
    }

    /// Looks for what an earlier agent started.
    pub(super) fn recover(&mut self, id: AllocId, context: &mut Context) {
        let Some(runner) = self.runners.get(&id) else { return };
        let waiting: Vec<String> = runner
            .machine
            .tasks()
            .filter(|(_, machine)| *machine.stage() == Stage::Recovering)
            .map(|(name, _)| name.to_owned())
            .collect();
        let has_handles = !runner.pids.is_empty();
        for task in waiting {
            let pid = self.runners.get(&id).and_then(|runner| runner.pids.get(&task)).copied();
            let is_found = pid.is_some_and(|pid| context.machines[self.number].knows(pid));
            let wait = context.random.between(DRIVER.0, DRIVER.1);
            self.wait_for(id, wait, AllocTimer::Recovered(task, is_found), context);
        }
        if has_handles {
            self.adopt(id);
        }
    }

    pub(super) fn clean(&mut self, id: AllocId, task: &str, pid: i32, context: &mut Context) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.cleaning.insert(task.to_owned());
        }
        self.kill(pid, context);
        let wait = context.random.between(DRIVER.0, DRIVER.1);
        self.wait_for(id, wait, AllocTimer::Cleaned(task.to_owned()), context);
    }

    fn kill(&self, pid: i32, context: &mut Context) {
        context.machines[self.number].end(pid, 137);
    }

    /// The driver has done something.
    pub(super) fn driver_done(&mut self, id: AllocId, timer: AllocTimer, context: &mut Context) {
        match timer {
            AllocTimer::Prepared(task, true) => self.step(id, &task, Input::Prepared, context),
            AllocTimer::Prepared(task, false) => {
                let event = words::setup_failure(context.date(self.clock), "no such artifact");
                let input = Input::PreparationFailed { event, recoverable: true };
                self.step(id, &task, input, context);
            }
            AllocTimer::Launch(task) => self.launch(id, task, context),
            AllocTimer::Launched(task, pid) => {
                if let Some(runner) = self.runners.get_mut(&id) {
                    runner.pids.insert(task.clone(), pid);
                }
                self.flush();
                self.step(id, &task, Input::Started, context);
                self.await_exit(id, &task, pid, context);
            }
            AllocTimer::Recovered(task, true) => {
                self.step(id, &task, Input::Recovered, context);
                let pid = self.runners.get(&id).and_then(|runner| runner.pids.get(&task)).copied();
                if let Some(pid) = pid {
                    self.own.insert(pid);
                    self.await_exit(id, &task, pid, context);
                }
            }
            AllocTimer::Recovered(task, false) => {
                let pid = self.runners.get_mut(&id).and_then(|runner| runner.pids.remove(&task));
                if let Some(pid) = pid {
                    self.clean(id, &task, pid, context);
                }
                self.step(id, &task, Input::Lost("gone".to_owned()), context);
            }
            AllocTimer::Cleaned(task) => {
                self.write(vec![Write::NoHandle { alloc: id, task: task.clone() }], context);
                let Some(runner) = self.runners.get_mut(&id) else { return };
                runner.cleaning.remove(&task);
                if runner.launch_after.remove(&task) {
                    let wait = context.random.between(DRIVER.0, DRIVER.1);
                    self.wait_for(id, wait, AllocTimer::Launch(task), context);
                }
                self.publish(id, context);
            }
            AllocTimer::Told(_) | AllocTimer::Due => {}
        }
    }

    fn launch(&mut self, id: AllocId, task: String, context: &mut Context) {
        if is_unlucky(context, 40) {
            let message = "no such program".to_owned();
            let input = Input::StartFailed { message, recoverable: true };
            return self.step(id, &task, input, context);
        }
        let Some(runner) = self.runners.get(&id) else { return };
        let alloc = runner.machine.alloc();
        let (name, kind) = (alloc.name(), alloc.job.kind);
        let restarts = runner.machine.task(&task).map_or(0, |machine| machine.state().restarts);
        let process = Process {
            alloc: id,
            name,
            task: task.clone(),
            is_stubborn: is_unlucky(context, 50),
            is_stopping: false,
            since: context.now,
        };
        let (pid, killed) = context.machines[self.number].start(process);
        context.trace.note(context.now, &[32, self.number as u64, word(id)], || {
            format!("agent {} launches {} as {pid}", self.number, id.short())
        });
        context.tell(&Fact::Launched {
            agent: self.number,
            alloc: id,
            // One that this very agent watches over must not be started over.
            is_double: killed.iter().any(|killed| self.own.contains(killed)),
        });
        self.own.insert(pid);
        self.let_end(pid, kind, context);
        let reference = Reference::Shim(ShimReference {
            state: PathBuf::new(),
            boot: String::new(),
            shim: ProcessId::default(),
            task: ProcessId::default(),
        });
        let (driver, task_id) = ("mock".to_owned(), format!("{id}/{task}"));
        let handle = TaskHandle { version: 1, driver, task_id, pid, reference };
        let handle = KeptHandle { restarts, handle };
        self.write(vec![Write::Handle { alloc: id, task: task.clone(), handle }], context);
        // The handle is on disk before anybody hears that the task runs. What an agent leaves behind
        // that dies between the two is a known gap, and not modelled.
        self.flush();
        let wait = context.random.between(100, 5_000);
        self.wait_for(id, wait, AllocTimer::Launched(task, pid), context);
    }

    /// Lets a process end by itself, if it is one of those.
    fn let_end(&self, pid: i32, kind: JobKind, context: &mut Context) {
        let is_batch = matches!(kind, JobKind::Batch | JobKind::SysBatch);
        if is_unlucky(context, 80) {
            let wait = context.random.between(10_000, 8_000_000);
            context.after(wait, Event::Exit(self.number, pid, 1));
        } else if is_batch {
            let wait = context.random.between(BATCH.0, BATCH.1);
            context.after(wait, Event::Exit(self.number, pid, 0));
        }
    }

    /// One that ended before anybody watched has ended all the same.
    fn await_exit(&mut self, id: AllocId, task: &str, pid: i32, context: &mut Context) {
        if let Some(code) = context.machines[self.number].ended(pid) {
            self.exited(id, task, pid, code, context);
        }
    }

    /// A process of this machine ended.
    pub fn ended(&mut self, pid: i32, code: i32, context: &mut Context) {
        if !self.is_up {
            return;
        }
        let found = self.runners.iter().find_map(|(id, runner)| {
            let (task, _) = runner.pids.iter().find(|(_, known)| **known == pid)?;
            let is_watched = runner
                .machine
                .task(task)
                .is_some_and(|machine| *machine.stage() != Stage::Recovering);
            is_watched.then(|| (*id, task.clone()))
        });
        if let Some((id, task)) = found {
            self.exited(id, &task, pid, code, context);
        }
    }

    fn exited(&mut self, id: AllocId, task: &str, pid: i32, code: i32, context: &mut Context) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        if runner.pids.get(task) != Some(&pid) {
            return;
        }
        runner.pids.remove(task);
        self.clean(id, task, pid, context);
        let exit = ExitResult { exit_code: code, ..ExitResult::default() };
        self.step(id, task, Input::Exited(exit), context);
    }
}

/// Whether something goes wrong that goes wrong in so many of a thousand cases.
fn is_unlucky(context: &mut Context, per_mille: u64) -> bool {
    let is_due = context.random.chance(per_mille);
    is_due && context.is_stormy && !context.options.is_calm
}

//! The life of one task: prepared, started, running, waiting to be restarted, dead.
//!
//! The machine decides; the allocation's runner does. An input comes with the moment at which it
//! happened, and the answer is a list of effects for the runner to carry out. Their results come
//! back as further inputs.
//!
//! # Invariants
//!
//! - **Pure.** Neither clock nor entropy are read here.
//! - **Dead is the end.** No input leads out of [`Stage::Dead`], and `failed` never changes there.
//! - **Nothing is signalled while it can still be found.** A task leaves discovery, which is
//!   acknowledged by [`Input::Left`] or timed out by the runner, before [`Effect::Stop`].
//! - **At most one process.** [`Effect::Launch`] comes only when no process of the task can exist.
//!
//! # Deliberately absent
//!
//! - Siblings: who starts before whom is the business of `alloc_machine`.
//! - The wait between the kill signal and SIGKILL, which is the driver's duty.

use std::time::Duration;

use cos_drivers::ExitResult;
use cos_model::{
    Job, JobKind, Lifecycle, Restart, Task, TaskEvent, TaskPhase, TaskState, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::words;

mod exchange;
pub mod restart;
#[cfg(test)]
mod tests;

pub use exchange::{Effect, Input, Moment};
use restart::{Attempts, Ending, Verdict};

/// What the job says about a task's life. It may change while the task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it is restarted.
    pub restart: Restart,
    /// Whether a good end is followed by a restart.
    pub restart_on_success: bool,
    /// The kill signal; empty leaves it to the driver.
    pub kill_signal: String,
    /// Time between the kill signal and SIGKILL.
    pub kill_timeout: Duration,
    /// Time between leaving discovery and the kill signal.
    pub shutdown_delay: Duration,
}

/// What is kept of a task when the agent stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What is reported.
    pub state: TaskState,
    /// How many restarts were counted.
    pub attempts: Attempts,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct TaskMachine {
    policy: Policy,
    record: Record,
    stage: Stage,
    /// Whether the preparation succeeded once, so that a restart need not repeat it.
    prepared: bool,
}

/// Where the task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It may not begin yet.
    Idle,
    /// The runner looks for what an earlier agent started.
    Recovering,
    /// Artifacts, templates and directories are being made.
    Preparing,
    /// The driver is starting it; with an intention, it is to be stopped as soon as it runs.
    Starting(Option<Then>),
    /// It runs.
    Running,
    /// It runs and is leaving discovery. The moment of the signal is known once it has left.
    Leaving(Then, Option<Timestamp>),
    /// It got its signal; the driver will say when it has ended.
    Stopping(Then),
    /// It ended and is started again then.
    Waiting(Timestamp),
    /// It ended for good.
    Dead,
}

/// What follows when a task that is being stopped has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Die,
    /// It is started again at once, uncounted.
    StartAgain,
    /// The restart policy decides, as after a failure.
    AskPolicy,
}

impl Policy {
    /// Reads a task's policy from its job.
    pub fn of(job: &Job, task: &Task) -> Self {
        let long_lived = matches!(job.kind, JobKind::Service | JobKind::System);
        let restart_on_success = match task.lifecycle {
            Some(Lifecycle { sidecar, .. }) => sidecar,
            None => long_lived,
        };
        Self {
            restart: task.restart.clone(),
            restart_on_success,
            kill_signal: task.kill_signal.clone(),
            kill_timeout: task.kill_timeout,
            shutdown_delay: task.shutdown_delay,
        }
    }
}

impl TaskMachine {
    /// Makes the machine of a task that has just reached this node.
    pub fn new(policy: Policy, now: Timestamp) -> Self {
        let mut record = Record::default();
        record.state.push_event(words::received(now));
        Self { policy, record, stage: Stage::Idle, prepared: false }
    }

    /// Makes the machine of a task that an earlier agent knew. With a handle there is something to
    /// be recovered.
    pub fn restore(policy: Policy, record: Record, has_handle: bool) -> Self {
        let stage = match record.state.phase {
            TaskPhase::Dead => Stage::Dead,
            TaskPhase::Running | TaskPhase::Pending if has_handle => Stage::Recovering,
            TaskPhase::Running | TaskPhase::Pending => Stage::Idle,
        };
        Self { policy, record, stage, prepared: false }
    }

    /// Replaces the policy, as after an update in place.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What is reported.
    pub fn state(&self) -> &TaskState {
        &self.record.state
    }

    /// What is kept.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where the task stands.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether it ended for good.
    pub fn is_dead(&self) -> bool {
        self.stage == Stage::Dead
    }

    /// Whether it is to be found in discovery.
    pub fn is_advertised(&self) -> bool {
        self.stage == Stage::Running
    }

    /// Whether it waits for [`Input::Left`].
    pub fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_, None))
    }

    /// Whether it is on its way to its end.
    pub fn is_ending(&self) -> bool {
        matches!(
            self.stage,
            Stage::Leaving(Then::Die, _)
                | Stage::Stopping(Then::Die)
                | Stage::Starting(Some(Then::Die))
        )
    }

    /// When the next [`Input::Tick`] is due.
    pub fn due(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Leaving(_, until) => until,
            Stage::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input, moment: Moment) -> Vec<Effect> {
        let now = moment.now;
        match input {
            Input::Begin if self.stage == Stage::Idle => self.prepare(now),
            Input::Note(event) => self.note(event),
            Input::Prepared if self.stage == Stage::Preparing => self.launch(),
            Input::PreparationFailed { event, recoverable } if self.stage == Stage::Preparing => {
                self.record.state.push_event(event);
                self.decide(ending_of(recoverable), moment)
            }
            Input::Started => self.started(now),
            Input::Recovered if self.stage == Stage::Recovering => self.recovered(),
            Input::Lost(why) if self.stage == Stage::Recovering => self.lost(&why, now),
            Input::StartFailed { message, recoverable } => {
                self.start_failed(&message, recoverable, moment)
            }
            Input::Exited(exit) => self.exited(&exit, moment),
            Input::Left => self.left(now),
            Input::StopFailed(why) => self.stop_failed(&why, now),
            Input::Tick => self.tick(now),
            Input::Stop { event, at_once, group_delay } => {
                self.stop(event, at_once, group_delay, now)
            }
            Input::Restart(reason) => self.restart(&reason, Then::StartAgain, now),
            Input::CheckFailed(reason) => self.restart(&reason, Then::AskPolicy, now),
            Input::Signal { signal, reason } if self.stage == Stage::Running => {
                self.record.state.push_event(words::signaling(now, &signal, &reason));
                vec![Effect::Signal(signal)]
            }
            // What comes too late or too early changes nothing.
            _ => Vec::new(),
        }
    }

    fn note(&mut self, event: TaskEvent) -> Vec<Effect> {
        if !self.is_dead() {
            self.record.state.push_event(event);
        }
        Vec::new()
    }

    fn prepare(&mut self, now: Timestamp) -> Vec<Effect> {
        self.record.state.push_event(words::task_setup(now));
        self.stage = Stage::Preparing;
        vec![Effect::Prepare]
    }

    fn launch(&mut self) -> Vec<Effect> {
        self.prepared = true;
        self.stage = Stage::Starting(None);
        vec![Effect::Launch]
    }

    fn started(&mut self, now: Timestamp) -> Vec<Effect> {
        let Stage::Starting(then) = self.stage else { return Vec::new() };
        let state = &mut self.record.state;
        state.phase = TaskPhase::Running;
        if state.started_at.is_never() {
            state.started_at = now;
        }
        state.push_event(words::started(now));
        self.stage = Stage::Running;
        // It never got into discovery, so there is nothing to leave.
        match then {
            Some(then) => self.interrupt(then, now),
            None => Vec::new(),
        }
    }

    fn recovered(&mut self) -> Vec<Effect> {
        self.record.state.phase = TaskPhase::Running;
        self.prepared = true;
        self.stage = Stage::Running;
        Vec::new()
    }

    fn lost(&mut self, why: &str, now: Timestamp) -> Vec<Effect> {
        self.record.state.push_event(words::hook_message(
            now,
            &format!("the task was gone when the agent came back and is started anew: {why}"),
        ));
        self.record.state.phase = TaskPhase::Pending;
        self.prepare(now)
    }

    fn start_failed(&mut self, message: &str, recoverable: bool, moment: Moment) -> Vec<Effect> {
        let Stage::Starting(then) = self.stage else { return Vec::new() };
        self.record.state.push_event(words::driver_failure(moment.now, message));
        match then {
            Some(Then::Die) => self.die(false, moment.now),
            _ => self.decide(ending_of(recoverable), moment),
        }
    }

    fn exited(&mut self, exit: &ExitResult, moment: Moment) -> Vec<Effect> {
        // It may have ended while the agent was away. What a clock that was set says is not believed.
        let state = &self.record.state;
        let began = state.started_at.max(state.last_restart);
        let now = exit.ended_at.map_or(moment.now, |at| at.max(began).min(moment.now));
        let moment = Moment { now, ..moment };
        let then = match self.stage {
            Stage::Running | Stage::Recovering => None,
            Stage::Leaving(then, _) | Stage::Stopping(then) => Some(then),
            _ => return Vec::new(),
        };
        self.record.state.push_event(words::terminated(now, exit));
        match then {
            Some(Then::Die) => {
                self.record.state.push_event(words::killed(now));
                self.die(false, now)
            }
            Some(Then::StartAgain) => self.again(Duration::ZERO, "", now),
            Some(Then::AskPolicy) => self.decide(Ending::Failure, moment),
            None if exit.is_success() => self.decide(Ending::Success, moment),
            None => self.decide(Ending::Failure, moment),
        }
    }

    fn decide(&mut self, ending: Ending, moment: Moment) -> Vec<Effect> {
        let Moment { now, entropy } = moment;
        let policy = &self.policy;
        let attempts = &mut self.record.attempts;
        match attempts.decide(&policy.restart, policy.restart_on_success, ending, now, entropy) {
            Verdict::Done => self.die(false, now),
            Verdict::Again { delay, reason } => self.again(delay, &reason, now),
            Verdict::Fail { reason } => {
                self.record.state.push_event(words::not_restarting(now, &reason));
                self.die(true, now)
            }
        }
    }

    fn again(&mut self, delay: Duration, reason: &str, now: Timestamp) -> Vec<Effect> {
        let state = &mut self.record.state;
        state.push_event(words::restarting(now, reason, delay));
        state.restarts += 1;
        state.last_restart = now;
        state.phase = TaskPhase::Pending;
        self.stage = Stage::Waiting(now + delay);
        if delay.is_zero() { self.tick(now) } else { Vec::new() }
    }

    fn die(&mut self, failed: bool, now: Timestamp) -> Vec<Effect> {
        let state = &mut self.record.state;
        state.phase = TaskPhase::Dead;
        state.failed = failed;
        state.finished_at = now;
        self.stage = Stage::Dead;
        Vec::new()
    }

    fn left(&mut self, now: Timestamp) -> Vec<Effect> {
        let Stage::Leaving(then, None) = self.stage else { return Vec::new() };
        let delay = self.policy.shutdown_delay;
        if delay.is_zero() {
            return self.interrupt(then, now);
        }
        self.record.state.push_event(words::shutdown_delay(now, delay));
        self.stage = Stage::Leaving(then, Some(now + delay));
        Vec::new()
    }

    fn stop_failed(&mut self, why: &str, now: Timestamp) -> Vec<Effect> {
        let Stage::Stopping(_) = self.stage else { return Vec::new() };
        self.record.state.push_event(words::kill_failed(now, why));
        vec![self.stop_effect()]
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        match self.stage {
            Stage::Leaving(then, Some(until)) if now >= until => self.interrupt(then, now),
            Stage::Waiting(until) if now >= until => {
                if self.prepared && !self.policy.restart.render_templates {
                    self.launch()
                } else {
                    self.stage = Stage::Preparing;
                    vec![Effect::Prepare]
                }
            }
            _ => Vec::new(),
        }
    }

    fn stop(
        &mut self,
        event: Option<TaskEvent>,
        at_once: bool,
        group_delay: Duration,
        now: Timestamp,
    ) -> Vec<Effect> {
        // What is being recovered is asked again once it is known whether it is there.
        if self.is_dead() || self.is_ending() || self.stage == Stage::Recovering {
            return Vec::new();
        }
        if let Some(event) = event {
            self.record.state.push_event(event);
        }
        self.policy.shutdown_delay = if at_once {
            Duration::ZERO
        } else {
            self.policy.shutdown_delay.saturating_add(group_delay)
        };
        match self.stage {
            Stage::Idle | Stage::Waiting(_) | Stage::Recovering | Stage::Dead => {
                self.die(false, now)
            }
            Stage::Preparing => {
                let mut effects = self.die(false, now);
                effects.push(Effect::CancelPreparation);
                effects
            }
            Stage::Starting(_) => {
                self.stage = Stage::Starting(Some(Then::Die));
                Vec::new()
            }
            Stage::Running => self.leave(Then::Die, None),
            Stage::Leaving(_, until) => self.leave(Then::Die, until),
            Stage::Stopping(_) => {
                self.stage = Stage::Stopping(Then::Die);
                Vec::new()
            }
        }
    }

    fn restart(&mut self, reason: &str, then: Then, now: Timestamp) -> Vec<Effect> {
        if self.stage != Stage::Running {
            return Vec::new();
        }
        self.record.state.push_event(words::restart_signaled(now, reason));
        self.leave(then, None)
    }

    fn leave(&mut self, then: Then, until: Option<Timestamp>) -> Vec<Effect> {
        self.stage = Stage::Leaving(then, until);
        Vec::new()
    }

    fn interrupt(&mut self, then: Then, now: Timestamp) -> Vec<Effect> {
        if then == Then::Die {
            self.record.state.push_event(words::killing(now, self.policy.kill_timeout));
        }
        self.stage = Stage::Stopping(then);
        vec![self.stop_effect()]
    }

    fn stop_effect(&self) -> Effect {
        Effect::Stop { signal: self.policy.kill_signal.clone(), timeout: self.policy.kill_timeout }
    }
}

fn ending_of(recoverable: bool) -> Ending {
    if recoverable { Ending::Failure } else { Ending::Unrecoverable }
}

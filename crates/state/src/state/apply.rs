//! Applying commands: the only way the tables change.
//!
//! This file takes a command to the part that knows its noun, and settles afterwards what follows
//! from what that part wrote: the status of jobs, and one event for each deployment that changed.
//!
//! # Invariants
//!
//! - Each part first decides whether the command can be done and then writes, without a way back:
//!   what is refused has written nothing.
//! - Time is the proposer's. An entry that was applied before is not applied again, nor is a
//!   request that was done before.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::{DeploymentId, Evaluation, Job, JobKey, JobStatus, Timestamp};

use super::proposers::{Answer, Known};
use super::tally::Tally;
use super::{State, hash};
use crate::command::{Command, Refused, Reply, Request};
use crate::event::Event;

mod allocs;
mod catalog;
mod collect;
mod deployments;
mod evals;
mod jobs;
mod kv;
mod nodes;
mod plan;
mod restore;
mod sessions;
mod trust;

pub(super) use restore::Restoring;
pub use restore::{RESTORE_BYTES_MAX, RESTORE_GAP};

/// What applying one entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The index at which it was done, which is an earlier one for a request that came again.
    pub index: u64,
    /// What the command answers.
    pub reply: Result<Reply, Refused>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl State {
    /// Applies one entry of the log. Its place there, `log_index`, must be later than that of
    /// every entry before. What it changes bears the index of [`State::index`], which is ahead of
    /// the log's once a state was restored.
    pub fn apply(&mut self, log_index: u64, request: &Request) -> Applied {
        let index = log_index + self.base;
        if index <= self.index {
            let message = format!("entry {index} is not after entry {}", self.index);
            return Applied { index, reply: Err(Refused::Invalid(message)), events: Vec::new() };
        }
        self.index = index;
        let applied = self.repeated(request).unwrap_or_else(|| self.perform(request));
        self.hash = hash::roll(self, request.at, &applied);
        applied
    }

    /// What a request that came before was answered then.
    fn repeated(&self, request: &Request) -> Option<Applied> {
        let events = Vec::new();
        match self.proposers.look(request.origin.as_ref()?) {
            Known::New => None,
            Known::Answered(answer) => {
                Some(Applied { index: answer.index, reply: answer.reply.clone(), events })
            }
            Known::Settled => {
                let message = "a copy of a request whose proposer has gone on".to_owned();
                Some(Applied { index: self.index, reply: Err(Refused::Invalid(message)), events })
            }
        }
    }

    fn perform(&mut self, request: &Request) -> Applied {
        let mut step = Step::new(self, self.index, request.at);
        let reply = step.run(&request.command);
        step.settle();
        let events = step.events;
        let index = self.index;
        if let Some(origin) = &request.origin {
            self.proposers.note(origin, Answer { index, reply: reply.clone() });
        }
        Applied { index, reply, events }
    }
}

/// One command being applied.
struct Step<'a> {
    state: &'a mut State,
    index: u64,
    at: Timestamp,
    events: Vec<Event>,
    /// Jobs whose status may have to change.
    jobs: BTreeSet<JobKey>,
    /// Deployments that changed.
    deployments: BTreeSet<DeploymentId>,
    /// Whether history is being removed: a job without any left had some before.
    collecting: bool,
}

impl<'a> Step<'a> {
    fn new(state: &'a mut State, index: u64, at: Timestamp) -> Self {
        Self {
            state,
            index,
            at,
            events: Vec::new(),
            jobs: BTreeSet::new(),
            deployments: BTreeSet::new(),
            collecting: false,
        }
    }

    fn run(&mut self, command: &Command) -> Result<Reply, Refused> {
        match command {
            Command::RegisterNode { node, evals } => self.register_node(node, evals),
            Command::SetNodeStatus { id, status, message, evals } => {
                self.set_node_status(*id, *status, message, evals)
            }
            Command::SetNodeEligibility { id, eligible, evals } => {
                self.set_node_eligibility(*id, *eligible, evals)
            }
            Command::SetNodeDrain { id, drain, mark_eligible, evals } => {
                self.set_node_drain(*id, drain.as_ref(), *mark_eligible, evals)
            }
            Command::RegisterJob { job, expected_index, eval } => {
                self.register_job(job, *expected_index, eval.as_ref())
            }
            Command::StopJob { key, purge, eval } => self.stop_job(key, *purge, eval.as_ref()),
            Command::SetJobStability { key, version, stable } => {
                self.set_job_stability(key, *version, *stable)
            }
            Command::PutEvals { evals } => Ok(self.put_evals(evals)),
            Command::ApplyPlan { plan } => self.apply_plan(plan),
            Command::UpdateAllocs { updates, evals } => Ok(self.update_allocs(updates, evals)),
            Command::SetTransitions { transitions, evals } => {
                self.set_transitions(transitions, evals)
            }
            Command::SetDeploymentStatus { update, revert, eval } => {
                self.set_deployment_status(update, revert.as_deref(), eval.as_ref())
            }
            Command::PromoteDeployment { id, groups, eval } => {
                self.promote_deployment(*id, groups.as_deref(), eval.as_ref())
            }
            Command::SetAllocHealth { id, healthy, unhealthy, eval } => {
                self.set_alloc_health(*id, healthy, unhealthy, eval.as_ref())
            }
            Command::Collect { evals, allocs, deployments, jobs, nodes } => {
                Ok(self.collect(&collect::Targets { evals, allocs, deployments, jobs, nodes }))
            }
            Command::Catalog { changes } => Ok(self.change_catalog(changes)),
            Command::Kv { ops } => self.change_kv(ops),
            Command::Session(op) => self.change_sessions(op),
            Command::SetSchedulerConfig(config) => Ok(self.set_scheduler_config(config)),
            Command::SetAutopilotConfig(config) => Ok(self.set_autopilot_config(config)),
            Command::Restore(part) => self.restore(part),
            Command::Trust(change) => self.change_trust(change),
        }
    }

    /// Does what follows from everything that was written.
    fn settle(&mut self) {
        for key in std::mem::take(&mut self.jobs) {
            self.settle_job(&key);
        }
        for id in std::mem::take(&mut self.deployments) {
            if let Some(deployment) = self.state.deployments.get(&id) {
                self.events.push(Event::DeploymentChanged(Arc::clone(deployment)));
            }
        }
    }

    fn settle_job(&mut self, key: &JobKey) {
        let Some(job) = self.state.jobs.get(key) else { return };
        let status = status_of(job, &self.state.tally(key), self.collecting);
        if status == job.status {
            return;
        }
        let job = Job { status, modify_index: self.index, ..Job::clone(job) };
        self.state.jobs.insert(key.clone(), Arc::new(job));
        self.state.tables.jobs = self.index;
        let changed = Event::JobChanged(key.clone());
        if !self.events.contains(&changed) {
            self.events.push(changed);
        }
    }

    /// Notes that a job's status may have to change.
    fn touch(&mut self, key: &JobKey) {
        if !self.jobs.contains(key) {
            self.jobs.insert(key.clone());
        }
    }

    /// Records an evaluation that goes with a change of its job, which it then knows.
    fn put_eval_of_job(&mut self, eval: Option<&Evaluation>, job_modify_index: u64) {
        if let Some(eval) = eval {
            self.put_eval(Evaluation { job_modify_index, ..eval.clone() });
        }
    }
}

/// Where a job stands, from what there is of it.
fn status_of(job: &Job, tally: &Tally, collecting: bool) -> JobStatus {
    // These wait for nodes to come or times to pass, so having nothing now says nothing.
    if job.kind == cos_model::JobKind::System || job.is_template() {
        return if job.stop { JobStatus::Dead } else { JobStatus::Running };
    }
    if tally.live > 0 {
        JobStatus::Running
    } else if tally.open > 0 {
        JobStatus::Pending
    } else if job.stop || collecting || !tally.is_empty() {
        JobStatus::Dead
    } else {
        JobStatus::Pending
    }
}

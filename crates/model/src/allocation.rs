//! The allocation: one instance of a task group on one node. It never moves and is never reused;
//! its observed state only goes forward.
//!
//! Desired state has one writer, the scheduler; observed state has one writer, the agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AllocId, DeploymentId, EvalId, JobKey, NodeId};
use crate::job::{Job, TaskGroup};
use crate::metric::AllocMetric;
use crate::resources::Resources;
use crate::time::Timestamp;

/// One instance of a task group on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// Which allocation this is.
    pub id: AllocId,
    /// The evaluation that placed or last changed it.
    pub eval_id: EvalId,
    /// The node it is on.
    pub node_id: NodeId,
    /// That node's name, for display.
    pub node_name: Arc<str>,
    /// The job version it runs.
    pub job: Arc<Job>,
    /// The group's name.
    pub group: Arc<str>,
    /// Its number within the group, from 0.
    pub index: u32,
    /// What it takes of its node, all tasks together.
    pub resources: Resources,
    /// What each task takes.
    pub tasks: BTreeMap<String, AllocatedTask>,
    /// Host ports that it holds.
    pub ports: Vec<AllocatedPort>,
    /// What should happen with it. Written by the scheduler.
    pub desired: DesiredStatus,
    /// Why, in words.
    pub desired_description: String,
    /// Hints to the scheduler about what should happen next.
    pub transition: DesiredTransition,
    /// What happens with it. Written by the agent, and by the cluster when the node is lost.
    pub client_status: ClientStatus,
    /// Why, in words.
    pub client_description: String,
    /// What happens with each task.
    pub task_states: BTreeMap<String, TaskState>,
    /// The rollout it belongs to.
    pub deployment_id: Option<DeploymentId>,
    /// Its health within that rollout.
    pub health: Option<AllocHealth>,
    /// Whether it runs beside old instances until promotion.
    pub canary: bool,
    /// What it replaces.
    pub previous: Option<AllocId>,
    /// What replaced it.
    pub next: Option<AllocId>,
    /// Earlier replacements in this line.
    pub reschedules: Vec<RescheduleEvent>,
    /// The evaluation that will replace it later.
    pub followup_eval: Option<EvalId>,
    /// When the cluster said that it is unknown or lost, and when its agent said otherwise again;
    /// newest last, [`ALLOC_STATES_MAX`] at most.
    #[serde(default)]
    pub states: Vec<AllocState>,
    /// How the node was chosen.
    pub metric: Arc<AllocMetric>,
    /// When it was placed.
    pub create_time: Timestamp,
    /// When it last changed.
    pub modify_time: Timestamp,
    /// Index of the placement.
    pub create_index: u64,
    /// Index of the last change of anything.
    pub modify_index: u64,
    /// Index of the last change by the scheduler.
    pub alloc_modify_index: u64,
}

/// What one task of an allocation takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatedTask {
    /// CPU and memory; disk belongs to the allocation.
    pub resources: Resources,
    /// Memory limit if it is above the reservation, in MiB.
    pub memory_max_mib: u64,
}

/// A host port held by an allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AllocatedPort {
    /// The label in the job.
    pub label: String,
    /// The task whose `resources.network` asked for it; absent for the group's network.
    pub task: Option<String>,
    /// The host port.
    pub host_port: u16,
    /// The port inside the task's network namespace; 0 means the host port.
    pub to: u16,
    /// The address on which it is bound.
    pub host_ip: String,
}

/// What should happen with an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DesiredStatus {
    /// It should run.
    #[default]
    Run,
    /// It should stop.
    Stop,
    /// It was preempted.
    Evict,
}

/// What happens with an allocation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum ClientStatus {
    /// Placed; the agent has not started it.
    #[default]
    Pending,
    /// At least one task runs and none failed.
    Running,
    /// All tasks ended well.
    Complete,
    /// A task failed for good.
    Failed,
    /// The node is gone.
    Lost,
    /// The node cannot be reached and the job allows waiting.
    Unknown,
}

/// Hints to the scheduler, set by drains and by users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredTransition {
    /// It should move to another node.
    pub migrate: bool,
    /// It should be replaced although its policy says no.
    pub force_reschedule: bool,
    /// It should stop without `shutdown_delay`.
    pub no_shutdown_delay: bool,
}

/// A client status that began while the node was away, or when it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocState {
    /// The status.
    pub status: ClientStatus,
    /// Since when.
    pub at: Timestamp,
}

/// How many changes of its node's reachability an allocation keeps.
pub const ALLOC_STATES_MAX: usize = 10;

/// Health within a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocHealth {
    /// Whether it is healthy.
    pub healthy: bool,
    /// Since when.
    pub at: Timestamp,
}

/// One replacement in an allocation's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescheduleEvent {
    /// When it happened.
    pub at: Timestamp,
    /// What was replaced.
    pub previous: AllocId,
    /// Where that was.
    pub previous_node: NodeId,
    /// How long the replacement waited.
    pub delay: Duration,
}

/// What happens with one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskState {
    /// Pending, running or dead.
    pub phase: TaskPhase,
    /// Whether it ended badly for good.
    pub failed: bool,
    /// How often it was restarted.
    pub restarts: u64,
    /// When it was last restarted.
    pub last_restart: Timestamp,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended for good.
    pub finished_at: Timestamp,
    /// What happened, newest last, ten at most.
    pub events: Vec<TaskEvent>,
}

/// Where a task stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum TaskPhase {
    /// Not started, or between two starts.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Ended for good.
    Dead,
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// When.
    pub at: Timestamp,
    /// What, in the words that clients know: `Received`, `Started`, `Terminated`, `Restarting`, ….
    pub kind: String,
    /// The sentence that is shown.
    pub message: String,
    /// Facts by name, such as `exit_code` and `signal`.
    pub details: BTreeMap<String, String>,
}

/// How many events a task keeps.
pub const TASK_EVENTS_MAX: usize = 10;

impl Allocation {
    /// Returns the job's namespace and id.
    pub fn job_key(&self) -> &JobKey {
        &self.job.key
    }

    /// Returns the shown name, `job.group[index]`.
    pub fn name(&self) -> String {
        format!("{}.{}[{}]", self.job.key.id, self.group, self.index)
    }

    /// Returns its group in its job version.
    pub fn task_group(&self) -> Option<&TaskGroup> {
        self.job.group(&self.group)
    }

    /// Whether its processes ended for good, or are gone with their node.
    pub fn is_client_terminal(&self) -> bool {
        self.client_status.is_terminal()
    }

    /// Whether the scheduler wants it ended.
    pub fn is_desired_terminal(&self) -> bool {
        self.desired != DesiredStatus::Run
    }

    /// Whether it is over, or will be: nothing is to be expected of it any more.
    pub fn is_terminal(&self) -> bool {
        self.is_desired_terminal() || self.is_client_terminal()
    }

    /// Whether it takes resources of its node. An allocation that should stop does so until the
    /// agent says that it has stopped.
    pub fn occupies_node(&self) -> bool {
        !self.is_client_terminal()
    }

    /// Since when its node has been out of reach, if that is so.
    pub fn unknown_since(&self) -> Option<Timestamp> {
        let is_unknown = self.client_status == ClientStatus::Unknown;
        is_unknown.then(|| self.state_since(ClientStatus::Unknown).unwrap_or(self.modify_time))
    }

    /// Whether its node was ever out of reach while it ran.
    pub fn was_unknown(&self) -> bool {
        self.states.iter().any(|state| state.status == ClientStatus::Unknown)
    }

    /// When a status began for the last time, if that was noted.
    pub fn state_since(&self, status: ClientStatus) -> Option<Timestamp> {
        self.states.iter().rev().find(|state| state.status == status).map(|state| state.at)
    }

    /// Notes that a status begins, and drops the oldest note beyond [`ALLOC_STATES_MAX`].
    pub fn push_state(&mut self, status: ClientStatus, at: Timestamp) {
        self.states.push(AllocState { status, at });
        let surplus = self.states.len().saturating_sub(ALLOC_STATES_MAX);
        self.states.drain(..surplus);
    }

    /// Whether it was found healthy in its rollout.
    pub fn is_healthy(&self) -> bool {
        self.health.is_some_and(|health| health.healthy)
    }

    /// Whether it was found unhealthy in its rollout.
    pub fn is_unhealthy(&self) -> bool {
        self.health.is_some_and(|health| !health.healthy)
    }
}

impl ClientStatus {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Lost)
    }

    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}

impl DesiredStatus {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Evict => "evict",
        }
    }
}

impl TaskPhase {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

impl TaskState {
    /// Appends an event and drops the oldest beyond [`TASK_EVENTS_MAX`].
    pub fn push_event(&mut self, event: TaskEvent) {
        self.events.push(event);
        let surplus = self.events.len().saturating_sub(TASK_EVENTS_MAX);
        self.events.drain(..surplus);
    }
}

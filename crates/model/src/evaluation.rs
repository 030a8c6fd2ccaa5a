//! The evaluation: one unit of scheduling work, "look at this job again, because …".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{DeploymentId, EvalId, JobKey, NodeId};
use crate::job::JobKind;
use crate::metric::AllocMetric;
use crate::time::Timestamp;

/// One unit of scheduling work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Which evaluation this is.
    pub id: EvalId,
    /// The job to look at.
    pub job: JobKey,
    /// The job's kind, which chooses the scheduler; stays when the job is purged.
    pub kind: JobKind,
    /// The job's priority.
    pub priority: u8,
    /// What caused it.
    pub trigger: Trigger,
    /// The job's `job_modify_index` when it was caused.
    pub job_modify_index: u64,
    /// The node that caused it.
    pub node_id: Option<NodeId>,
    /// The deployment that caused it.
    pub deployment_id: Option<DeploymentId>,
    /// Where it stands.
    pub status: EvalStatus,
    /// Why, in words.
    pub status_description: String,
    /// Not before this time; never means now.
    pub wait_until: Timestamp,
    /// The evaluation that follows it.
    pub next: Option<EvalId>,
    /// The evaluation it follows.
    pub previous: Option<EvalId>,
    /// The blocked evaluation made for what it could not place.
    pub blocked: Option<EvalId>,
    /// What it could not place, and why, by group.
    pub failed_groups: BTreeMap<String, AllocMetric>,
    /// Instances that wait for room, by group.
    pub queued: BTreeMap<String, u32>,
    /// The state index it was last worked on with.
    pub snapshot_index: u64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it last changed.
    pub modify_time: Timestamp,
    /// Index of its first record.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// Where an evaluation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EvalStatus {
    /// To be worked on.
    Pending,
    /// Waits for room.
    Blocked,
    /// Done.
    Complete,
    /// Given up.
    Failed,
    /// Overtaken by another.
    Cancelled,
}

/// What caused an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// The job was registered or changed.
    JobRegister,
    /// The job was stopped.
    JobDeregister,
    /// The job's count was changed.
    JobScaling,
    /// A user asked.
    JobEvaluate,
    /// A node came, changed or went.
    NodeUpdate,
    /// A node is being emptied.
    NodeDrain,
    /// A user stopped an allocation.
    AllocStop,
    /// Allocations failed.
    AllocFailure,
    /// A delayed replacement is due.
    AllocReschedule,
    /// A deployment made progress, was promoted or failed.
    DeploymentWatcher,
    /// Room may have appeared for what was queued.
    QueuedAllocs,
    /// Too many plans were refused.
    MaxPlanAttempts,
    /// The evaluation before it failed.
    FailedFollowUp,
    /// A system job's batch is due.
    RollingUpdate,
    /// A periodic launch.
    PeriodicJob,
    /// Allocations have been unknown for as long as their job allows.
    MaxDisconnectTimeout,
    /// Allocations that were unknown run.
    Reconnect,
}

impl Evaluation {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status, EvalStatus::Complete | EvalStatus::Failed | EvalStatus::Cancelled)
    }
}

impl EvalStatus {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Blocked => "blocked",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "canceled",
        }
    }
}

impl Trigger {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::JobRegister => "job-register",
            Self::JobDeregister => "job-deregister",
            Self::JobScaling => "job-scaling",
            Self::JobEvaluate => "job-eval",
            Self::NodeUpdate => "node-update",
            Self::NodeDrain => "node-drain",
            Self::AllocStop => "alloc-stop",
            Self::AllocFailure => "alloc-failure",
            Self::AllocReschedule => "alloc-reschedule",
            Self::DeploymentWatcher => "deployment-watcher",
            Self::QueuedAllocs => "queued-allocs",
            Self::MaxPlanAttempts => "max-plan-attempts",
            Self::FailedFollowUp => "failed-follow-up",
            Self::RollingUpdate => "rolling-update",
            Self::PeriodicJob => "periodic-job",
            Self::MaxDisconnectTimeout => "max-disconnect-timeout",
            Self::Reconnect => "reconnect",
        }
    }
}
